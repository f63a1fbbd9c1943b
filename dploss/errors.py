"""What can go wrong in a way that a person should read one line about."""


def one_line(text: str) -> str:
    """Text as a terminal may show it: line breaks become blanks, and what could steer the terminal a sign for it."""
    return "".join(sign if sign.isprintable() else "\N{REPLACEMENT CHARACTER}" for sign in " ".join(text.split()))


class InputError(ValueError):
    """A flag, file or checkpoint that cannot be used as given.

    The message is one line: what is wrong, where (file, row, column) and what to do. Scripts print it and exit
    with code 2; in a library call it is an ordinary ValueError.
    """

    def __init__(self, message: str) -> None:
        """Keep the message on one line, whatever text of another library went into it."""
        super().__init__(one_line(message))


class TrainingError(RuntimeError):
    """The loss is no longer finite; the message says where and what to try."""
