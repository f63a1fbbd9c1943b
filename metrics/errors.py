"""What can go wrong in a way that a person should read one line about."""


class InputError(ValueError):
    """Images, a flag or a file that cannot be used as given; the message is one line."""

    def __init__(self, message: str) -> None:
        """Keep the message on one line, whatever text of another library went into it."""
        super().__init__(" ".join(message.split()))


class Unavailable(Exception):  # noqa: N818 -- no error: the metric is left out, and the reason told
    """A metric that cannot be computed here and now; the message is the reason.

    No references, no prompts, weights that are neither on this machine nor within reach: the other metrics go on.
    """

    def __init__(self, message: str) -> None:
        """Keep the reason on one line."""
        super().__init__(" ".join(message.split()))
