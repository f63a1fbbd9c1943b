"""What the messages of an Arrow IPC file declare: rows, and bytes that compressed buffers unpack to.

Read from their FlatBuffers (arrow.apache.org/docs/format/Columnar.html), for pyarrow shows neither before it has
unpacked a message.
"""

import struct
from collections.abc import Iterator

import pyarrow as pa

MAGIC = b"ARROW1"
_RECORD_BATCH, _DICTIONARY = "record batch", "dictionary"
# Fields of the tables Message, RecordBatch, DictionaryBatch and Footer, by their place in the schema.
_HEADER, _LENGTH, _BUFFERS, _COMPRESSION, _DICTIONARY_DATA, _FOOTER_DICTIONARIES, _FOOTER_BATCHES = 2, 0, 2, 3, 1, 2, 3
_BUFFER_BYTES, _BLOCK_BYTES = 16, 24


class Declared:
    """What an IPC file declares.

    Args:
        data: the whole file, or the whole stream.

    Attributes:
        rows: of each record batch.
        unpacked: bytes that the largest message has when it is decompressed.
        compressed: whether any is compressed.

    Raises:
        pa.ArrowInvalid, struct.error, ValueError: it is no IPC file.
    """

    def __init__(self, data: pa.Buffer) -> None:
        self.rows: list[int] = []
        self.unpacked, self.compressed = 0, False
        for message in _file_messages(data) if is_file(data) else _stream_messages(data):
            if message.type in (_RECORD_BATCH, _DICTIONARY):
                self._add(message)

    def _add(self, message: pa.ipc.Message) -> None:
        metadata = message.metadata.to_pybytes()
        batch = _child(metadata, _root(metadata), _HEADER)
        if message.type == _DICTIONARY:
            batch = _child(metadata, batch, _DICTIONARY_DATA)
        else:
            self.rows.append(_number(metadata, batch, _LENGTH))
        size = len(message.body)
        if _field(metadata, batch, _COMPRESSION):
            self.compressed = True
            for place, length in _pairs(metadata, batch):
                # -1 says of a buffer that it is not compressed after all.
                size += max(0, struct.unpack_from("<q", message.body, place)[0]) if length else 0
        self.unpacked = max(self.unpacked, size)


def is_file(data: pa.Buffer) -> bool:
    """Whether these are bytes of the file format, which can be read from anywhere, not of the stream format."""
    return data.slice(0, len(MAGIC)).to_pybytes() == MAGIC if len(data) > len(MAGIC) else False


def _stream_messages(data: pa.Buffer) -> Iterator[pa.ipc.Message]:
    yield from pa.ipc.MessageReader.open_stream(pa.BufferReader(data))


def _file_messages(data: pa.Buffer) -> Iterator[pa.ipc.Message]:
    """The messages that the footer, at the end, names."""
    end = len(data) - len(MAGIC) - 4
    (size,) = struct.unpack_from("<i", data, end)
    if not 0 < size <= end:
        raise ValueError("its footer is not in the file")
    footer = data.slice(end - size, size).to_pybytes()
    for field in (_FOOTER_DICTIONARIES, _FOOTER_BATCHES):
        for place in _elements(footer, _root(footer), field, _BLOCK_BYTES):
            (offset,) = struct.unpack_from("<q", footer, place)
            if not 0 <= offset < end:
                raise ValueError("its footer names a place outside of the file")
            yield pa.ipc.read_message(data.slice(offset))


def _pairs(metadata: bytes, batch: int) -> Iterator[tuple[int, int]]:
    """Place and length of each buffer of a record batch."""
    for place in _elements(metadata, batch, _BUFFERS, _BUFFER_BYTES):
        yield struct.unpack_from("<qq", metadata, place)


def _root(data: bytes) -> int:
    return struct.unpack_from("<I", data)[0]


def _field(data: bytes, table: int, index: int) -> int:
    """Where a field of a table is; 0 where it is left out."""
    vtable = table - struct.unpack_from("<i", data, table)[0]
    (size,) = struct.unpack_from("<H", data, vtable)
    if 4 + 2 * index >= size:
        return 0
    (offset,) = struct.unpack_from("<H", data, vtable + 4 + 2 * index)
    return table + offset if offset else 0


def _child(data: bytes, table: int, index: int) -> int:
    """The table, or the vector, that a field refers to."""
    place = _field(data, table, index)
    if not place:
        raise ValueError("a message lacks its header")
    return place + struct.unpack_from("<I", data, place)[0]


def _number(data: bytes, table: int, index: int) -> int:
    place = _field(data, table, index)
    return struct.unpack_from("<q", data, place)[0] if place else 0


def _elements(data: bytes, table: int, index: int, size: int) -> range:
    """Where the elements of a vector of structs are."""
    if not _field(data, table, index):
        return range(0)
    vector = _child(data, table, index)
    (count,) = struct.unpack_from("<I", data, vector)
    return range(vector + 4, min(vector + 4 + count * size, len(data)), size)
