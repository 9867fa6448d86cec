"""Search for the elements of a JSON array or object without parsing them."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple, NoReturn

from lazygraph.errors import UnreadableInput
from lazygraph.sources.jsonevents import CLOSING, COMMA, Events
from lazygraph.sources.unpack import Held

__all__ = ["Element", "Prefix", "elements", "first_value"]

_KINDS = {ord("["): "an array", ord("{"): "an object"}
_NO_LIMIT = 1 << 30
_DEEP = 400  # brackets within one another


class Element(NamedTuple):
    """One element of an array (``value``) or member of an object (``"key": value``), with the blanks around it."""

    start: int
    """The offset in the bytes of all pieces."""
    text: bytes
    key: str | None
    """The key of its container; ``None`` for an element of the document itself."""
    opened: int = 0
    """The opening bracket of its container."""


class Prefix(NamedTuple):
    """The first value of a JSON text, as far as the beginning of the text shows it."""

    value: Any
    """The array or object, closed after its last whole part; ``None`` if the text is not JSON."""
    end: int
    """The end of the part that was parsed."""
    whole: bool
    """Whether the value ends there."""


def elements(
    chunks: Iterable[bytes], level: int, top: bytes, *, inside: bool = False, key: str | None = None
) -> Iterator[Element]:
    """Yield the elements that stand ``level`` brackets deep, in order; memory holds one piece and one element.

    An element that is too long is cut, as :class:`~lazygraph.sources.unpack.Held` says.

    Args:
        chunks: the pieces of one JSON document.
        level: 1 for the elements of the document itself, 2 for elements of the containers in it. With 2, other
            parts of the document come as elements without a key.
        top: ``b"["`` or ``b"{"``, the bracket that the document begins with; with ``inside`` all brackets around the
            element, from the outermost on.
        inside: whether the pieces begin at the start of an element instead of the start of the document.
        key: the key of the container of this element.

    Raises:
        UnreadableInput: the brackets do not match, an element is empty, something follows the document, or it breaks
            off. Errors inside one element are left to its parser.

    Example:
        >>> [e.text for e in elements([b'[{"a": "}', b',"}, 2]'], 1, b"[")]
        [b'{"a": "},"}', b' 2']
    """
    events = Events(level, depth=level if inside else 0)
    walk = _Walk(level, top, inside=inside)
    walk.key = key
    held = Held()
    offset = 0  # of the present piece
    for chunk in chunks:
        begin = 0
        for position, kind in events.of(chunk):
            text, size = held.end(chunk[begin:position])
            begin = position + 1
            start = offset + position - size
            if walk.step(kind, text, start):
                yield Element(start, text, walk.key, walk.opened)
        held.add(chunk[begin:])
        offset += len(chunk)
    walk.end(held.end(b"")[0], offset, in_string=events.in_string)


def first_value(head: bytes) -> Prefix:
    """Return the first JSON array or object of a text, as far as ``head`` shows it and it is not broken.

    Example:
        >>> first_value(b'{"ids": [1, 2, 3')
        Prefix(value={'ids': [1, 2]}, end=13, whole=False)
    """
    nothing = Prefix(None, 0, whole=False)
    if head.lstrip()[:1] not in (b"[", b"{"):
        return nothing
    found = _closed(head)
    if found is None:
        return nothing
    text, end, whole = found
    try:
        return Prefix(_loads(text), end, whole=whole)
    except json.JSONDecodeError as error:
        # One broken element must not hide the layout. The text before it is JSON.
        before = text[: error.pos].encode(errors="surrogateescape")
        return first_value(before) if len(before) < len(head) else nothing


def _closed(head: bytes) -> tuple[str, int, bool] | None:
    """Close the first array or object after its last whole part. Return text, end, and whether the value is whole.

    Parts that are too deep for Python's parser become a zero, because they do not matter for the layout. None if the
    brackets do not match.
    """
    open_brackets = bytearray()
    text, begin, end = b"", 0, 0
    for position, kind in Events(_NO_LIMIT, depth=0).of(head):
        end = position if kind == COMMA else position + 1
        if kind in CLOSING:
            if len(open_brackets) == _DEEP:
                text += head[begin:position] + b"0"
            open_brackets.append(CLOSING[kind])
        elif kind != COMMA:
            if open_brackets.pop() != kind:
                return None
            if len(open_brackets) == _DEEP:
                begin = position + 1
            if not open_brackets:
                break
    if len(open_brackets) <= _DEEP:
        text += head[begin:end]
    text += bytes(reversed(open_brackets[:_DEEP]))
    return text.decode(errors="surrogateescape"), end, not open_brackets


def _loads(text: str) -> Any:
    try:
        return json.loads(text)
    except json.JSONDecodeError:
        raise
    except ValueError:  # a number of thousands of digits, of which Python makes no int
        return json.loads(text, parse_int=float)


class _Walk:
    """The open brackets while the events of a document pass by."""

    __slots__ = ("_after_comma", "_closed", "_level", "_stack", "_top", "key", "opened")

    def __init__(self, level: int, top: bytes, *, inside: bool) -> None:
        self._level = level
        self._top = top[0]
        self._stack = list(top) if inside else []
        self.opened = 0
        self._closed = False  # the document has ended
        self._after_comma = False
        self.key: str | None = None

    def step(self, kind: int, text: bytes, start: int) -> bool:
        """Tell whether ``text``, between this event and the event before, is an element."""
        blank = not text or text.isspace()
        if kind in CLOSING:
            if self._stack:
                self.key = _key(text, start) if self._stack[-1] == ord("{") else None
            elif self._closed or not blank or kind != self._top:
                self._refuse(text + bytes((kind,)), start)
            self._stack.append(kind)
            self._after_comma = False
            return False
        if not self._stack or (kind != COMMA and kind != CLOSING[self._stack[-1]]):
            msg = f"broken JSON: the {chr(kind)!r} at byte {start + len(text)} matches no bracket before it"
            raise UnreadableInput(msg)
        if blank and len(self._stack) == self._level and (kind == COMMA or self._after_comma):
            msg = f"broken JSON: an element without a value before byte {start + len(text)}"
            raise UnreadableInput(msg)
        self.opened = self._stack[-1]
        if len(self._stack) == 1:
            self.key = None
        self._after_comma = kind == COMMA
        if kind != COMMA:
            self._stack.pop()
            self._closed = not self._stack
        return not blank

    def end(self, text: bytes, offset: int, *, in_string: bool) -> None:
        """Refuse a document that has not ended at the end of its bytes."""
        if self._stack or in_string:
            msg = f"broken JSON: {_KINDS[self._top]} breaks off at byte {offset}; copy or download the file again"
            raise UnreadableInput(msg)
        if not self._closed or text.strip():
            self._refuse(text, offset - len(text))

    def _refuse(self, text: bytes, start: int) -> NoReturn:
        rest = text.lstrip()
        found = f"found {rest[:20]!r} at byte {start + len(text) - len(rest)}" if rest else "the text is empty"
        where = (
            ", after the end of the document" if self._closed else f"; required: {_KINDS[self._top]} ({chr(self._top)})"
        )
        msg = f"broken or other JSON: {found}{where}"
        raise UnreadableInput(msg)


def _key(text: bytes, start: int) -> str:
    """``"data" :`` -> ``data``."""
    name, colon, rest = text.rpartition(b":")
    try:
        key = json.loads(name)
    except ValueError:
        key = None
    if not isinstance(key, str) or not colon or rest.strip():
        msg = f"broken JSON: found {text[:60]!r} at byte {start}; required: a key in quotes and a colon"
        raise UnreadableInput(msg)
    return key
