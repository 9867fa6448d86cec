"""JSON made of records, in the four layouts that occur: scanned without parsing, read from any mark on."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from enum import Enum
from itertools import islice
from pathlib import Path

from lazygraph.errors import UnreadableInput
from lazygraph.sources.base import Cut, Entry, Scan, default_id
from lazygraph.sources.jsonscan import elements
from lazygraph.sources.options import SourceOptions
from lazygraph.sources.records import broken_entry, entry_of, require_id_key
from lazygraph.sources.rowscan import rows
from lazygraph.sources.unpack import Intake, bare_name, body, marked, naming, pieces

__all__ = ["Layout", "loads", "read_entries", "scan_entries", "split_member"]

_DECODER = json.JSONDecoder()


class Layout(Enum):
    """How the records of a JSON text stand beside one another."""

    ARRAY = "[record, record, ...]"
    MAPPING = '{"id": record, "id": record, ...}'
    LINES = "one record a line (JSONL)"
    DOCUMENT = "one record, and nothing else"


def scan_entries(path: Path, spool: Path, every: int, layout: Layout, id_key: str | None) -> Scan:
    """Count, mark and hash without parsing; only the first record is looked at, for ``id_key``.

    Raises:
        UnreadableInput: the file as a whole is broken, or its first record has no ``id_key``.
    """
    intake = Intake(path, spool)

    def offsets() -> Iterator[int]:
        for index, (offset, text) in enumerate(_texts(intake, layout, inside=False)):
            if index == 0:
                _check_first(text, layout, id_key)
            yield offset

    with naming(path):
        count, marks = marked(offsets(), every)
    return Scan(count, marks, (intake.file,))


def read_entries(
    path: Path, spool: Path, cut: Cut, layout: Layout, id_key: str | None, *, options: SourceOptions
) -> Iterator[Entry]:
    """Yield the ``cut.count`` entries from ``cut.mark`` on; a record that is not JSON is an entry that says so."""
    name = bare_name(path)
    with body(path, spool).open("rb") as file:
        file.seek(cut.mark)
        texts = islice(_texts(pieces(file), layout, inside=True), cut.count)
        for position, (_, text) in enumerate(texts, cut.start):
            yield _entry(text, layout, id_key, default_id(name, position), options)


def split_member(text: bytes) -> tuple[str, str]:
    """One member of an object, ``"key": value``, as its key and the text of its value.

    Raises:
        UnreadableInput: it does not begin with a key and a colon, or is not UTF-8.
    """
    try:
        decoded = text.decode().strip()
        key, end = _DECODER.raw_decode(decoded)
    except ValueError as error:
        msg = f"not JSON: {error}"
        raise UnreadableInput(msg) from error
    rest = decoded[end:].lstrip()
    if not isinstance(key, str) or not rest.startswith(":"):
        msg = f"found {decoded[:40]!r}; required: a key in quotes, a colon and a value"
        raise UnreadableInput(msg)
    return key, rest[1:]


def loads(text: str | bytes) -> object:
    """``json.loads`` of UTF-8 text.

    Raises:
        UnreadableInput: it is not JSON, not UTF-8, or nested deeper than Python can go.
    """
    try:
        return json.loads(text.decode() if isinstance(text, bytes) else text)
    except (ValueError, RecursionError) as error:
        msg = f"not JSON: {error}"
        raise UnreadableInput(msg) from error


def _texts(chunks: Iterable[bytes], layout: Layout, *, inside: bool) -> Iterator[tuple[int, bytes]]:
    match layout:
        case Layout.LINES:
            yield from rows(chunks, quoted=False)
        case Layout.DOCUMENT:
            yield 0, b"".join(chunks)
        case _:
            top = b"[" if layout is Layout.ARRAY else b"{"
            for start, text, _ in elements(chunks, 1, top, inside=inside):
                yield start, text


def _entry(text: bytes, layout: Layout, id_key: str | None, default: str, options: SourceOptions) -> Entry:
    key = None
    try:
        if layout is Layout.MAPPING:
            key, value = split_member(text)
            return entry_of(loads(value), id_key, default, key, options)
        return entry_of(loads(text), id_key, default, options=options)
    except UnreadableInput as error:
        return broken_entry(key or default, error)


def _check_first(text: bytes, layout: Layout, id_key: str | None) -> None:
    """A whole document must be JSON; the first of many records may be broken, but not lack the id key."""
    try:
        record = loads(split_member(text)[1] if layout is Layout.MAPPING else text)
    except UnreadableInput:
        if layout is Layout.DOCUMENT:
            raise
        return
    if isinstance(record, dict):
        require_id_key(record, id_key)
