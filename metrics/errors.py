"""Errors that are shown to the user as one line."""


class InputError(ValueError):
    """Images, a flag or a file that cannot be used as given; the message is one line."""

    def __init__(self, message: str) -> None:
        """Keep the message on one line, whatever text of another library is in it."""
        super().__init__(" ".join(message.split()))


class Unavailable(Exception):  # noqa: N818 -- not an error: the metric is left out, and the reason reported
    """A metric that cannot be computed here and now; the message is the reason.

    No references, no prompts, weights that are neither on this machine nor within reach: the other metrics continue.
    """

    def __init__(self, message: str) -> None:
        """Keep the reason on one line."""
        super().__init__(" ".join(message.split()))
