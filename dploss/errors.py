"""Errors whose message is one line for a person to read."""

from collections.abc import Callable


def one_line(text: str) -> str:
    """Text on one line, safe for a terminal: whitespace becomes single blanks, other control characters U+FFFD."""
    return "".join(char if char.isprintable() else "\N{REPLACEMENT CHARACTER}" for char in " ".join(text.split()))


class InputError(ValueError):
    """A flag, file or checkpoint that cannot be used as given.

    The message is one line: what is wrong, where (file, row, column) and what to do. Scripts print it and exit
    with code 2; in a library call it is an ordinary ValueError.
    """

    def __init__(self, message: str) -> None:
        """Bring the message to one line: it may contain another library's text."""
        super().__init__(one_line(message))


class _Names(dict):
    """The values of a template; what is none of them is a setting, shown under the name that `name` gives it."""

    def __init__(self, values: dict[str, object], name: Callable[[str], str]) -> None:
        super().__init__(values)
        self.name = name

    def __missing__(self, setting: str) -> str:
        return self.name(setting)


class _TemplateError(Exception):
    """An error that names settings: `str` as in Python (latent_dim), a script as its flags (--latent-dim).

    Args:
        template: a format string, in which {latent_dim} stands for the name of that setting.
        values: what else stands in braces.
    """

    def __init__(self, template: str, **values: object) -> None:
        self.template, self.values = template, values
        super().__init__(self.named(str))

    def named(self, name: Callable[[str], str]) -> str:
        """The message with every setting under the name that `name` gives it."""
        return one_line(self.template.format_map(_Names(self.values, name)))


class SettingError(_TemplateError, InputError):
    """A setting of the wrong type, outside its range, or that does not fit the data or another setting."""


class TrackerConflictError(RuntimeError):
    """Another tracker writes in the same folder; the message says which folder, and what to do."""


class TrainingError(_TemplateError, RuntimeError):
    """The loss or the weights are NaN or infinite; the message says where and what to try."""
