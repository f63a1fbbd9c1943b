"""Columns of Arrow tables whatever they are wrapped in: fields of structs, extension types, dictionaries, views."""

from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc

from dploss.errors import InputError
from dploss.files.untrusted import check_claim

_BATCH_ROWS, _BATCH_BYTES = 8192, 2**20
# By which the size of a row is estimated.
SIZED_ROWS = 64


def is_list(kind: pa.DataType) -> bool:
    """Whether a column of this type holds lists."""
    kinds = (
        pa.types.is_list,
        pa.types.is_large_list,
        pa.types.is_fixed_size_list,
        pa.types.is_list_view,
        pa.types.is_large_list_view,
    )
    return any(test(kind) for test in kinds)


def is_text(kind: pa.DataType) -> bool:
    """Whether a column of this type holds text, encoded in whatever way."""
    kind = _stored(kind)
    return pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind)


def columns_of(schema: pa.Schema) -> dict[str, bool]:
    """Every column, of a struct its fields as struct.field, and whether it holds lists."""
    return {name: is_list(_stored(_type_at(schema, path))) for name, path in _paths(schema).items()}


def text_columns_of(schema: pa.Schema) -> dict[str, bool]:
    """As `columns_of`, but whether it holds text."""
    return {name: is_text(_type_at(schema, path)) for name, path in _paths(schema).items()}


def top_level(schema: pa.Schema, name: str) -> str:
    """The column that a name of `columns_of` is, or is in."""
    return _paths(schema)[name][0]


def pick(batch: pa.RecordBatch | pa.Table, name: str) -> pa.Array | pa.ChunkedArray:
    """The values of a column, or of a struct's field."""
    first, *inner = _paths(batch.schema)[name]
    return pc.struct_field(batch.column(first), inner) if inner else batch.column(first)


def without(batch: pa.RecordBatch, name: str) -> pa.Table:
    """All columns but one, which may be a field of a struct."""
    table, path = pa.table(batch), _paths(batch.schema)[name]
    if len(path) == 1:
        return table.drop_columns(name)
    left = _without_field(batch.column(path[0]), path[1:])
    place = table.schema.names.index(path[0])
    return table.remove_column(place) if left is None else table.set_column(place, path[0], left)


def _without_field(values: pa.StructArray, path: list[str]) -> pa.Array | None:
    """A struct without one of its fields; None where nothing is left of it."""
    kept = {field.name: pc.struct_field(values, [field.name]) for field in values.type}
    inner = kept.pop(path[0])
    left = _without_field(inner, path[1:]) if path[1:] else None
    if left is not None:
        kept[path[0]] = left
    return pa.StructArray.from_arrays(kept.values(), kept, mask=values.is_null()) if kept else None


def _paths(schema: pa.Schema) -> dict[str, list[str]]:
    """The path to every column and field that is no struct, by name; of equal names the shortest, a column's own."""
    paths: dict[str, list[str]] = {}
    for path in sorted((path for field in schema for path in _fields(field)), key=len):
        paths.setdefault(".".join(path), path)
    return paths


def _fields(field: pa.Field) -> list[list[str]]:
    if not pa.types.is_struct(field.type):
        return [[field.name]]
    return [[field.name, *path] for inner in field.type for path in _fields(inner)]


def _type_at(schema: pa.Schema, path: list[str]) -> pa.DataType:
    kind = schema.types[schema.names.index(path[0])]
    for name in path[1:]:
        kind = kind.field(name).type
    return kind


def _stored(kind: pa.DataType) -> pa.DataType:
    """The type of the values themselves."""
    while isinstance(kind, pa.BaseExtensionType) or pa.types.is_dictionary(kind):
        kind = kind.storage_type if isinstance(kind, pa.BaseExtensionType) else kind.value_type
    return kind


def unwrapped(source: str, values: pa.Array, first_row: int) -> pa.Array:
    """Lists, or text, without what they are wrapped in; anything else as it is.

    Args:
        source: the file, for messages.
        values: one entry a row.
        first_row: the index of the first entry, for messages.

    Raises:
        InputError: a row that is a matrix of several vectors.
    """
    while isinstance(values, pa.ExtensionArray | pa.DictionaryArray):
        if isinstance(values, pa.DictionaryArray):
            values = values.dictionary_decode()
            continue
        shape = getattr(values.type, "shape", ())
        if sum(extent > 1 for extent in shape) > 1:
            raise InputError(f"{source}: the column holds tensors of shape {tuple(shape)}, not vectors")
        values = values.storage
    kind = values.type
    if any(test(kind) for test in (pa.types.is_binary, pa.types.is_large_binary, pa.types.is_binary_view)):
        try:
            return values.cast(pa.large_string())
        except pa.ArrowInvalid as error:
            raise InputError(f"{source}: the column holds bytes, not JSON text or lists of numbers") from error
    if pa.types.is_string_view(kind):
        return values.cast(pa.large_string())
    if is_list(kind) and is_list(kind.value_type):
        return _only_lists(source, values, first_row)
    return values


def _only_lists(source: str, values: pa.Array, first_row: int) -> pa.Array:
    """Lists of one list each, as Hugging Face's Array2D of shape (1, D) is stored, without the outer ones."""
    several = pc.not_equal(pc.list_value_length(values), 1)
    wrong = pc.index(several, True).as_py()
    if wrong >= 0:
        count = len(values[wrong].as_py())
        raise InputError(f"{source}: row {first_row + wrong} holds {count} lists, not one vector")
    return pc.list_element(values, 0)


def rows_at_a_time(path: Path, first: pa.RecordBatch | None, column: str, n_rows: int) -> int:
    """Rows so that a batch of moderate size has that many of a column.

    Args:
        path: of the file.
        first: its first rows, up to SIZED_ROWS; None where it has none.
        column: of the vectors, or of the texts.
        n_rows: how many are wanted in all.

    Raises:
        InputError: n_rows rows like the first are more than a file of its size holds.
    """
    size = 1
    if first:
        values = unwrapped(str(path), pick(first, column), 0)
        # The first one may be null.
        size = max(1, values[:1].nbytes, values.nbytes // len(values))
    check_claim(path, size * n_rows)
    return max(1, min(_BATCH_ROWS, _BATCH_BYTES // size))
