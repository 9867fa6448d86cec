"""Keys and positions of values in an LMDB file, read without liblmdb.

liblmdb maps a file and trusts it. A file that was cut short ends the process with SIGBUS, and a crafted file may end it
with SIGSEGV. This module uses positioned reads, and checks every pointer before it follows it. The layouts are those of
MDB_page, MDB_node, MDB_db and MDB_meta in LMDB 0.9's ``mdb.c``, 64 bits, little-endian.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import NamedTuple

from lazygraph.errors import UnreadableInput
from lazygraph.storage.positioned import read_at

__all__ = ["Value", "is_lmdb", "values"]

_MAGIC = struct.pack("<I", 0xBEEFC0DE)
_PAGE = struct.Struct("<QHHHH")  # number, pad, flags, lower, upper
_META = struct.Struct("<IIQQ" + 2 * "IHHQQQQQ" + "QQ")
_NODE = struct.Struct("<HHHH")  # two halves of a size, flags, size of the key
_BRANCH, _LEAF, _OVERFLOW = 0x01, 0x02, 0x04
_BIG_DATA = 0x01
_HEAD = _PAGE.size
_NO_PAGE = 2**64 - 1
_MAX_DEPTH = 32  # CURSOR_STACK


class Value(NamedTuple):
    """One value: its key, and its position in the file."""

    key: bytes
    offset: int
    length: int


def is_lmdb(head: bytes) -> bool:
    """Tell whether the first bytes of a file are those of an LMDB file."""
    return head[_HEAD : _HEAD + 4] == _MAGIC


def values(descriptor: int, size: int) -> Iterator[Value]:
    """Yield every value of the unnamed database of an open file with this size, in the order of the keys.

    Memory: one page per level, and one number per visited page.

    Raises:
        UnreadableInput: the file is cut short, or a page differs from what LMDB writes.
    """
    metas = [_meta(descriptor, 0)]
    page_size = metas[0][0]
    if page_size < 512 or page_size > 65536 or page_size & (page_size - 1):
        msg = f"the pages of the LMDB file have {page_size} bytes; required: a power of two, 512 to 65536"
        raise UnreadableInput(msg)
    metas.append(_meta(descriptor, page_size))
    _, last, depth, flags, root, _ = max(metas, key=lambda meta: meta[5])
    if (last + 1) * page_size > size:
        msg = (
            f"the LMDB file is cut short: it has {size} bytes, and its last page ends at {(last + 1) * page_size}; "
            "copy or download it again"
        )
        raise UnreadableInput(msg)
    if flags:
        msg = (
            f"the database of the LMDB file has the flags {flags}; only databases without flags, with one value a "
            "key, are read"
        )
        raise UnreadableInput(msg)
    if root == _NO_PAGE or depth == 0:
        return
    if depth > _MAX_DEPTH:
        raise _broken(root, f"is the root of a tree of depth {depth}")
    yield from _Walk(descriptor, page_size, last).below(root, depth)


def _meta(descriptor: int, start: int) -> tuple[int, int, int, int, int, int]:
    """Return page size, last page, depth, flags and root of the database, and number of the transaction."""
    content = read_at(descriptor, _HEAD + _META.size, start)
    if len(content) < _HEAD + _META.size or not is_lmdb(content):
        msg = "the LMDB file has no complete meta page at its beginning; copy or download it again"
        raise UnreadableInput(msg)
    fields = _META.unpack_from(content, _HEAD)
    page_size = fields[4]
    _, flags, depth, *_, root = fields[12:20]
    last, transaction = fields[20], fields[21]
    return page_size, last, depth, flags, root, transaction


class _Walk:
    def __init__(self, descriptor: int, page_size: int, last: int) -> None:
        self._descriptor, self._size, self._last = descriptor, page_size, last
        self._seen: set[int] = set()

    def below(self, page: int, levels: int) -> Iterator[Value]:
        """Yield the values below a page with so many levels, including the page."""
        content = self._page(page)
        _, _, flags, lower, upper = _PAGE.unpack_from(content)
        if flags != (_LEAF if levels == 1 else _BRANCH):
            raise _broken(page, f"has the flags {flags}, {levels} levels above the values")
        if not (_HEAD <= lower <= upper <= self._size) or lower % 2:
            raise _broken(page, f"has its pointers to byte {lower} and its nodes from byte {upper}")
        for at in struct.unpack_from(f"<{(lower - _HEAD) // 2}H", content, _HEAD):
            if at < upper or at + _NODE.size > self._size:
                raise _broken(page, f"has a node at byte {at}")
            low, high, node_flags, key_size = _NODE.unpack_from(content, at)
            if levels > 1:
                yield from self.below(low | high << 16 | node_flags << 32, levels - 1)
                continue
            begin = at + _NODE.size + key_size
            length = low | high << 16
            if node_flags not in (0, _BIG_DATA):
                raise _broken(page, f"has a node with the flags {node_flags}")
            if begin + (8 if node_flags else length) > self._size:
                raise _broken(page, f"has a value of {length} bytes that leaves it")
            key = content[at + _NODE.size : begin]
            if node_flags:
                (first,) = struct.unpack_from("<Q", content, begin)
                yield Value(key, self._overflow(first, length), length)
            else:
                yield Value(key, page * self._size + begin, length)

    def _page(self, page: int) -> bytes:
        if not 2 <= page <= self._last or page in self._seen:
            raise _broken(page, "is pointed to twice, or not in the file")
        self._seen.add(page)
        content = read_at(self._descriptor, self._size, page * self._size)
        if len(content) < self._size or _PAGE.unpack_from(content)[0] != page:
            raise _broken(page, "is not where its number says")
        return content

    def _overflow(self, first: int, length: int) -> int:
        count = (_HEAD - 1 + length) // self._size + 1
        if not 2 <= first <= self._last or first + count - 1 > self._last:
            raise _broken(first, f"begins a value of {length} bytes, which leaves the file")
        head = read_at(self._descriptor, _HEAD, first * self._size)
        if len(head) < _HEAD or _PAGE.unpack(head)[:3:2] != (first, _OVERFLOW):
            raise _broken(first, "is no overflow page")
        return first * self._size + _HEAD


def _broken(page: int, what: str) -> UnreadableInput:
    return UnreadableInput(f"the LMDB file is damaged: page {page} {what}; copy or download it again")
