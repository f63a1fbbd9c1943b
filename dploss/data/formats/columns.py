"""Which column, key or array of a file holds the vectors, and which their texts."""

from collections.abc import Mapping, Sequence

from dploss.errors import InputError, SettingError

CONVENTIONAL = ("embedding", "embeddings", "emb", "vector", "vectors", "embedding_json")
TEXTS = ("text", "sentence", "title", "content", "document", "passage", "caption", "prompt")


def choose_column(source: str, columns: Mapping[str, bool], wanted: str | None) -> str:
    """Pick the column of the vectors.

    Args:
        source: the file, for messages.
        columns: every column's name, and whether it holds lists (or is a matrix).
        wanted: the name a person gave, or None: then a conventional name, else the only column of lists.

    Raises:
        InputError: the wanted column is not there, or none or several could be meant.
    """
    if wanted is not None:
        return _existing(source, columns, wanted)
    candidates = [name for name in CONVENTIONAL if name in columns] or [
        name for name, lists in columns.items() if lists
    ]
    if not candidates:
        raise InputError(f"{source}: no column of vectors among {_names(columns)}")
    if len(candidates) > 1:
        template = "{source}: several columns could be the vectors: {names}; choose with {column}"
        raise SettingError(template, source=source, names=_names(candidates))
    return candidates[0]


def choose_text_column(source: str, columns: Mapping[str, bool], wanted: str | None) -> str:
    """Pick the column of the texts that the vectors were made from.

    Args:
        source: the file, for messages.
        columns: every column's name, and whether it holds text.
        wanted: the name a person gave, or None: then a usual name, else the only column of text.

    Raises:
        InputError: the wanted column is not there, or none or several could be meant.
    """
    if wanted is not None:
        return _existing(source, columns, wanted)
    texts = [name for name, is_text in columns.items() if is_text and name not in CONVENTIONAL]
    usual = [name for name in TEXTS if name in texts]
    if not usual and len(texts) != 1:
        found = f"several columns of text: {_names(texts)}" if texts else f"no column of text among {_names(columns)}"
        raise SettingError("{source}: {found}; choose with {text_column}", source=source, found=found)
    return (usual or texts)[0]


def _existing(source: str, columns: Mapping[str, bool], wanted: str) -> str:
    if wanted not in columns:
        raise InputError(f"{source}: no column {wanted!r}; there are {_names(columns)}")
    return wanted


def _names(columns: Mapping[str, bool] | Sequence[str]) -> str:
    names = list(columns)
    return ", ".join(names[:20]) + (", ..." if len(names) > 20 else "") if names else "none at all"
