"""What can go wrong in a way that a person should read one line about."""


class InputError(ValueError):
    """A flag, file or checkpoint that cannot be used as given.

    The message is one line: what is wrong, where (file, row, column) and what to do. Scripts print it and exit
    with code 2; in a library call it is an ordinary ValueError.
    """

    def __init__(self, message: str) -> None:
        """Keep the message on one line, whatever text of another library went into it."""
        super().__init__(" ".join(message.split()))


class TrainingError(RuntimeError):
    """The loss is no longer finite; the message says where and what to try."""
