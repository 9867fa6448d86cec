"""Reader of JSON files of records in several layouts. They are scanned without parsing, and read from any mark on."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from enum import Enum
from itertools import islice
from pathlib import Path
from typing import Any

import orjson

from lazygraph.errors import UnreadableInput
from lazygraph.sources.base import MAX_TEXT, Cut, Entry, ImpliedUnits, Scan, default_id, read_entry, require_length
from lazygraph.sources.facts import recall, remember
from lazygraph.sources.jsonscan import Element, elements
from lazygraph.sources.records import broken_entry
from lazygraph.sources.rowscan import rows
from lazygraph.sources.structure_keys import FirstTexts
from lazygraph.sources.unpack import Intake, bare_name, body, marked, naming, pieces, whole
from lazygraph.text import shortened

__all__ = ["SPLITS", "Layout", "Looked", "loads", "read_entries", "scan_entries", "split_member"]

SPLITS = frozenset({"train", "training", "val", "valid", "validation", "test", "testing"})
"""Names of groups that are splits."""
NAMED = 20  # parts of a document that a note names at most
LENGTH = 80  # characters of a name that a note repeats
_DECODER = json.JSONDecoder()


class Layout(Enum):
    """The layout of the records in a JSON text."""

    ARRAY = "[record, record, ...]"
    MAPPING = '{"id": record, "id": record, ...}'
    LINES = "one record a line (JSONL)"
    DOCUMENT = "one record, and nothing else"
    LISTS = '{"group": [record, record, ...], ...}'
    GROUPS = '{"group": {"id": record, ...}, ...}'

    @property
    def level(self) -> int:
        """The number of brackets around a record."""
        return 2 if self in (Layout.LISTS, Layout.GROUPS) else 1

    @property
    def within(self) -> bytes:
        """The brackets around a record, from the outermost on."""
        return {Layout.ARRAY: b"[", Layout.MAPPING: b"{", Layout.LISTS: b"{[", Layout.GROUPS: b"{{"}[self]

    @property
    def keyed(self) -> bool:
        """Whether a record stands behind a key."""
        return self in (Layout.MAPPING, Layout.GROUPS)


@dataclass(frozen=True, slots=True)
class Looked:
    """Facts from the first records of a source, for its reads and for the report."""

    facts: dict[str, Any] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    implied: ImpliedUnits | None = None


Keep = Callable[[bytes], bool]
"""Whether the text of an element is a record. Other elements are left out and counted."""
Make = Callable[[Any, str, "str | None"], Entry]
"""(record, default id, key) -> entry."""


def every_element(text: bytes) -> bool:  # noqa: ARG001
    """Each element is a record."""
    return True


def scan_entries(
    path: Path,
    spool: Path,
    every: int,
    layout: Layout,
    *,
    look: Callable[[list[Any]], Looked],
    keep: Keep = every_element,
) -> Scan:
    """Count, mark and hash without parsing. Only the first records are parsed.

    Args:
        path: the file.
        spool: the file for the unpacked bytes; the facts of the first records go beside it.
        every: number of entries from one mark to the next.
        layout: the layout of the records.
        look: a function of the first records that returns the facts for reading all of them.
        keep: whether an element is a record.

    Raises:
        UnreadableInput: the file as a whole is broken, or ``look`` refuses it.
    """
    intake = Intake(path, spool)
    walk = _Records(layout, keep)
    first = FirstTexts()
    groups: dict[int, str | None] = {}

    def offsets() -> Iterator[int]:
        for index, (offset, text, group) in enumerate(walk.of(intake)):
            first.see(text)
            if index % every == 0 and layout.level == 2:
                groups[offset] = group
            yield offset

    with naming(path):
        count, marks = marked(offsets(), every)
        found = look(list(_parsed(first.texts, layout)))
    remember(spool, {**found.facts, "layout": layout.name, "groups": groups})
    return Scan(count, marks, (intake.file,), (*found.notes, *walk.notes()), implied=found.implied)


def read_entries(
    path: Path, spool: Path, cut: Cut, make: Callable[[dict[str, Any]], Make], keep: Keep = every_element
) -> Iterator[Entry]:
    """Yield ``cut.count`` entries from ``cut.mark`` on. A record that is not JSON becomes a bad entry.

    Args:
        path: the file.
        spool: the file that the scan wrote.
        cut: the range.
        make: a function of the facts that returns a function from a record to its entry.
        keep: whether an element is a record, as in the scan.
    """
    name = bare_name(path)
    facts = recall(spool)
    make_entry = make(facts)
    layout = Layout[facts["layout"]]
    with body(path, spool).open("rb") as file:
        file.seek(cut.mark)
        found = _Records(layout, keep).of(pieces(file), inside=True, group=facts["groups"].get(str(cut.mark)))
        for position, (_, text, group) in enumerate(islice(found, cut.count), cut.start):
            default = default_id(name, position)
            yield read_entry(default, _entry, layout, text, group, make_entry, default)


def split_member(text: bytes) -> tuple[str, str]:
    """Split a member of an object, ``"key": value``, into its key and the text of its value.

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
    """Return the result of ``json.loads``, by a faster parser if the text is strict JSON (no NaN, no Infinity).

    Raises:
        UnreadableInput: it is not JSON, not UTF-8, or nested too deeply for Python.
    """
    try:
        parsed: object = orjson.loads(text)
        return parsed
    except orjson.JSONDecodeError:
        pass
    try:
        return json.loads(text.decode() if isinstance(text, bytes) else text)
    except (ValueError, RecursionError, MemoryError) as error:
        msg = f"not JSON: {error}"
        raise UnreadableInput(msg) from error


class _Records:
    """The texts of the records of a document, one after another, and notes about its other parts."""

    def __init__(self, layout: Layout, keep: Keep) -> None:
        self._layout, self._keep = layout, keep
        self._beside: dict[str, int] = {}

    def of(
        self, chunks: Iterable[bytes], *, inside: bool = False, group: str | None = None
    ) -> Iterator[tuple[int, bytes, str | None]]:
        """Yield (offset, text, group) of every record.

        Args:
            chunks: the pieces of the document.
            inside: whether the pieces begin at a record instead of the start of the document.
            group: the group of this record, if there are groups.
        """
        match self._layout:
            case Layout.LINES:
                found: Iterator[Element] = (Element(offset, text, None) for offset, text in rows(chunks, quoted=False))
            case Layout.DOCUMENT:
                found = iter([Element(0, whole(chunks), None)])
            case layout:
                found = elements(chunks, layout.level, layout.within, inside=inside, key=group)
        for element in found:
            if self._is_record(element):
                yield element.start, element.text, element.key
            else:
                self._leave_out(element)

    def notes(self) -> tuple[str, ...]:
        """Notes about the parts that were left out."""
        if not self._beside:
            return ()
        names = list(self._beside)[:NAMED]
        more = ", ..." if len(self._beside) > NAMED else ""
        count = sum(self._beside.values())
        return (f"{count} value{'s' * (count > 1)} beside the records are not read: {', '.join(names)}{more}",)

    def _is_record(self, element: Element) -> bool:
        if self._layout is Layout.LISTS:
            if element.opened != ord("[") or element.text.lstrip()[:1] != b"{":
                return False
        elif self._layout is Layout.GROUPS and (element.key is None or element.opened != ord("{")):
            return False
        return len(element.text) > MAX_TEXT or self._keep(element.text)  # nothing is known about a record that was cut

    def _leave_out(self, element: Element) -> None:
        name = element.key
        if name is None and self._layout in (Layout.MAPPING, Layout.LISTS, Layout.GROUPS):
            try:
                name = split_member(element.text)[0]
            except UnreadableInput:
                name = "?"
        shown = "others" if name is None else shortened(repr(name), LENGTH)
        if shown in self._beside or len(self._beside) <= NAMED:
            self._beside[shown] = self._beside.get(shown, 0) + 1
        else:
            self._beside["..."] = self._beside.get("...", 0) + 1


def _parsed(texts: Sequence[bytes], layout: Layout) -> Iterator[Any]:
    """Yield the parsed records. A whole document must be JSON, but one of many records may be broken.

    Raises:
        UnreadableInput: the only record is not JSON.
    """
    for text in texts:
        try:
            yield loads(split_member(text)[1] if layout.keyed else text)
        except UnreadableInput:
            if layout is Layout.DOCUMENT:
                raise


def _entry(layout: Layout, text: bytes, group: str | None, make: Make, default: str) -> Entry:
    key = None
    split = group if group is not None and group.lower() in SPLITS else None
    try:
        require_length(text)
        record: Any
        if layout.keyed:
            key, value = split_member(text)
            record = loads(value)
            if group is not None and split is None and not key.startswith(group):
                key = f"{group}-{key}"
        else:
            record = loads(text)
        entry = make(record, default, key)
    except UnreadableInput as error:
        entry = broken_entry(key or default, error)
    return entry if split is None else entry._replace(split=split)
