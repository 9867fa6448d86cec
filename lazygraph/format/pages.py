"""The page tree of a shard, walked without liblmdb: every pointer is checked before it is followed.

The layouts are those of MDB_page, MDB_node, MDB_db and MDB_meta in LMDB 0.9's ``mdb.c``, 64 bits, little-endian. This
module requires what liblmdb assumes without a check, and what can kill a process if it does not hold: pages at the
position of their number, pointers within pages, branches with at least two children, and no page in two places.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from lazygraph.errors import CorruptDataset
from lazygraph.storage.positioned import read_at

__all__ = ["MAX_PAGE", "claims", "end_of_pages", "locate"]

_PAGE = np.dtype([("number", "<u8"), ("pad", "<u2"), ("flags", "<u2"), ("lower", "<u2"), ("upper", "<u2")])
_NODE = np.dtype([("low", "<u2"), ("high", "<u2"), ("flags", "<u2"), ("key_size", "<u2"), ("key", ">u4")])
_TREE = np.dtype(
    {
        "names": ["page_size", "flags", "depth", "branches", "leaves", "overflows", "entries", "root"],
        "formats": ["<u4", "<u2", "<u2", *["<u8"] * 5],
    }
)
_META = np.dtype(
    {
        "names": ["page", "magic", "version", "address", "map_size", "free", "main", "last", "transaction"],
        "formats": [_PAGE, "<u4", "<u4", "<u8", "<u8", _TREE, _TREE, "<u8", "<u8"],
    }
)
_BRANCH, _LEAF, _OVERFLOW, _META_PAGE = 0x01, 0x02, 0x04, 0x08
_BIG_DATA = 0x01
_MAGIC, _VERSION = 0xBEEFC0DE, 1
_INTEGER_KEY, _NO_SUBDIR = 0x08, 0x4000  # flags of a file: what its tree of free pages has, and what we open it with
_NO_PAGE = 2**64 - 1
_HEAD, _INLINE, _BIG = 16, 12, 20  # bytes of a page's header; of a node with its key, and with the number of a page
MAX_DEPTH = 32  # CURSOR_STACK
MIN_PAGE, MAX_PAGE = 512, 32768  # bytes of a page, a power of two
USUAL_PAGES = (4096, 8192, 16384, 32768)  # that operating systems have
MAX_MAP = 2**47  # bytes of a process's addresses
PAGES = 256  # read at once


class _Tree(NamedTuple):
    """What the current meta page says of the tree of records."""

    page_size: int
    last: int
    depth: int
    branches: int
    leaves: int
    overflows: int
    entries: int
    root: int


def locate(descriptor: int, size: int, records: int) -> NDArray[np.int64]:
    """Where each value of a shard lies, after its whole page tree was checked.

    Time and memory are proportional to the number of used pages, whatever the bytes are. All reads are positioned.

    Args:
        descriptor: the open shard file.
        size: its size.
        records: how many values it must hold, with the keys 0, 1, ...

    Returns:
        (records, 2) offset and length.

    Raises:
        CorruptDataset: with the page, where it is not as LMDB writes it.
        OSError: the read itself failed.
    """
    tree = _tree(descriptor, size)
    if tree.entries != records:
        msg = f"the page tree has {tree.entries} records; required: {records}"
        raise CorruptDataset(msg)
    walk = _Walk(descriptor, tree)
    # A level is a list of distinct pages, and there are no more levels than LMDB can stand on: no cycle is endless.
    pages, firsts = np.array([tree.root][: tree.depth], np.int64), np.zeros(1, np.int64)
    for _ in range(tree.depth - 1):
        pages, firsts = walk.branches(pages, firsts)
    found = walk.leaves(pages, firsts)
    walk.account()
    if len(found) != records:
        msg = f"the leaves of the page tree hold {len(found)} records; required: {records}"
        raise CorruptDataset(msg)
    return found


def end_of_pages(descriptor: int) -> int:
    """Return the size that a shard file needs: the end of its last page.

    Raises:
        CorruptDataset: its meta pages are damaged.
    """
    first = _meta(descriptor, 0, 0)
    page_size = _page_size(first)
    return (max(int(first["last"]), int(_meta(descriptor, 1, page_size)["last"])) + 1) * page_size


def claims(descriptor: int, size: int) -> dict[int, set[tuple[int, int]]]:
    """Return the positions of the values of a damaged shard, from its undamaged leaf pages.

    A shard has the page size of the machine that wrote it. If its meta pages are damaged, every usual size is tried: a
    page states its number, which fits its position with the right size only.

    Args:
        descriptor: the open shard file.
        size: its size.

    Returns:
        Key -> (offset, length) of each value that a page states for this key; none of them is proven.

    Raises:
        OSError: the read itself failed.
    """
    found: dict[int, set[tuple[int, int]]] = {}
    for page_size in _page_sizes(descriptor):
        _add_claims(descriptor, size, page_size, found)
    return found


def _page_sizes(descriptor: int) -> tuple[int, ...]:
    """The page size that a meta page states; all usual ones where none is undamaged."""
    for start in (0, *USUAL_PAGES):
        try:
            meta = _meta(descriptor, 0, start)
            page_size = _page_size(meta)
        except CorruptDataset:
            continue
        if meta["magic"] == _MAGIC and meta["page"]["flags"] == _META_PAGE and start in (0, page_size):
            return (page_size,)
    return USUAL_PAGES


def _add_claims(descriptor: int, size: int, page_size: int, found: dict[int, set[tuple[int, int]]]) -> None:
    """Add key -> (offset, length) for each value of a leaf page with this size."""
    for number in range(size // page_size):
        page = read_at(descriptor, page_size, number * page_size)
        if len(page) < page_size:
            break
        head = np.frombuffer(page, _PAGE, 1)[0]
        lower = int(head["lower"])
        if head["number"] != number or head["flags"] != _LEAF or not _HEAD <= lower <= page_size:
            continue
        for at in np.frombuffer(page, "<u2", (lower - _HEAD) // 2, _HEAD).tolist():
            if at + _BIG > page_size:
                continue
            node = np.frombuffer(page, _NODE, 1, at)[0]
            length = int(node["low"]) | int(node["high"]) << 16
            offset = number * page_size + at + _INLINE
            if node["flags"] == _BIG_DATA:
                offset = int.from_bytes(page[at + _INLINE : at + _BIG], "little") * page_size + _HEAD
            found.setdefault(int(node["key"]), set()).add((offset, length))


def _tree(descriptor: int, size: int) -> _Tree:
    """The tree of records, from the meta page of the last transaction."""
    first = _meta(descriptor, 0, 0)
    page_size = _page_size(first)
    metas = (first, _meta(descriptor, 1, page_size))
    for number, meta in enumerate(metas):
        _check_meta(number, meta, page_size, size)
    meta = max(metas, key=lambda one: int(one["transaction"]))
    number = int(meta is metas[1])
    for name in ("free", "main"):
        _check_root(number, name, meta[name], int(meta["last"]))
    if int(meta["free"]["depth"]):
        msg = f"page {number} has a list of free pages, which a shard never has, because one transaction writes it"
        raise CorruptDataset(msg)
    if (int(meta["last"]) + 1) * page_size != size:
        msg = f"page {number} says that page {meta['last']} of {page_size} bytes is the last of {size} bytes"
        raise CorruptDataset(msg)
    names = ("depth", "branches", "leaves", "overflows", "entries", "root")
    return _Tree(page_size, int(meta["last"]), *(int(meta["main"][name]) for name in names))


def _meta(descriptor: int, number: int, start: int) -> Any:
    content = read_at(descriptor, _META.itemsize, start)
    if len(content) < _META.itemsize:
        msg = f"page {number} is cut off after {len(content)} bytes; required: a meta page of {_META.itemsize} bytes"
        raise CorruptDataset(msg)
    return np.frombuffer(content, _META)[0]


def _page_size(meta: Any) -> int:
    page_size = int(meta["free"]["page_size"])
    if not MIN_PAGE <= page_size <= MAX_PAGE or page_size & (page_size - 1):
        msg = f"page 0 says that pages have {page_size} bytes; required: a power of two, {MIN_PAGE} to {MAX_PAGE}"
        raise CorruptDataset(msg)
    return page_size


def _check_meta(number: int, meta: Any, page_size: int, size: int) -> None:
    wrong = {
        "number": (int(meta["page"]["number"]), number),
        "flags": (int(meta["page"]["flags"]), _META_PAGE),
        "magic": (int(meta["magic"]), _MAGIC),
        "version": (int(meta["version"]), _VERSION),
        "address": (int(meta["address"]), 0),
        "page size": (int(meta["free"]["page_size"]), page_size),
        "file flags": (int(meta["free"]["flags"]) & ~_NO_SUBDIR, _INTEGER_KEY),
        "flags of the records": (int(meta["main"]["flags"]), 0),
    }
    for name, (found, required) in wrong.items():
        if found != required:
            msg = f"page {number}, a meta page, has the {name} {found}; required: {required}"
            raise CorruptDataset(msg)
    transaction = int(meta["transaction"])
    if transaction != 0 and transaction % 2 != number:
        msg = f"page {number}, a meta page, has the transaction {transaction}; each one is written to the other page"
        raise CorruptDataset(msg)
    if not size <= int(meta["map_size"]) < MAX_MAP:
        msg = f"page {number} asks for {meta['map_size']} bytes to be mapped; required: {size} to {MAX_MAP}"
        raise CorruptDataset(msg)


def _check_root(number: int, name: str, tree: Any, last: int) -> None:
    depth, root = int(tree["depth"]), int(tree["root"])
    counts = [int(tree[part]) for part in ("branches", "leaves", "overflows", "entries")]
    if depth == 0:
        good = root == _NO_PAGE and not any(counts)
    else:
        good = depth <= MAX_DEPTH and 2 <= root <= last and sum(counts[:3]) <= last - 1
    if not good:
        msg = (
            f"page {number} says that the {name} tree has its root in page {root}, depth {depth}, and {counts} "
            f"branches, leaves, overflow pages and entries; that cannot be in a file whose last page is {last}"
        )
        raise CorruptDataset(msg)


class _Some(NamedTuple):
    """Some pages of a level, and their nodes: of which page each is, and where it begins in the bytes of them all."""

    pages: NDArray[np.int64]
    first: int
    nodes: NDArray[Any]
    owner: NDArray[np.int64]
    at: NDArray[np.int64]
    begins: NDArray[np.int64]
    """The first node of each page."""


class _Walk:
    """A walk through the tree that records which pages it used."""

    def __init__(self, descriptor: int, tree: _Tree) -> None:
        self._descriptor, self._tree = descriptor, tree
        self._counts = {_BRANCH: 0, _LEAF: 0, _OVERFLOW: 0}
        self._used = [np.array([[0, 2]])]  # first page and number of pages

    def branches(self, pages: NDArray[np.int64], firsts: NDArray[np.int64]) -> tuple[NDArray[Any], NDArray[Any]]:
        """The pages below these, and the first key that each must have."""
        self._use(_BRANCH, pages, np.ones_like(pages))
        tree, below, keys, found = self._tree, [], [], 0
        for some in self._chunks(pages, _BRANCH):
            nodes, of = some.nodes, some.pages[some.owner]
            children = nodes["low"].astype(np.int64) | nodes["high"].astype(np.int64) << 16
            children |= nodes["flags"].astype(np.int64) << 32
            leading = np.zeros(len(nodes), bool)
            leading[some.begins] = True  # whose key nobody looks at
            whole = some.at + _NODE.itemsize <= (some.owner + 1) * tree.page_size
            _require(of, leading | (whole & (nodes["key_size"] == 4)), nodes["key_size"], "a key of size", "4")
            inside = (children >= 2) & (children <= tree.last)
            _require(of, inside, children, "a pointer to page", f"2 to {tree.last}")
            found += len(children)
            if self._counts[_BRANCH] + found > tree.branches + tree.leaves:
                msg = f"page {some.pages[-1]} leads to more pages than the {tree.leaves} leaves that there are"
                raise CorruptDataset(msg)
            below.append(children)
            keys.append(np.where(leading, firsts[some.first + some.owner], nodes["key"]))
        children, least = np.concatenate(below), np.concatenate(keys)
        _require(children[1:], least[1:] > least[:-1], least[1:], "the least key", "more than the page before it has")
        order = np.sort(children)
        _require(order[1:], order[1:] != order[:-1], order[1:], "two nodes that lead to page", "one")
        return children, least

    def leaves(self, pages: NDArray[np.int64], firsts: NDArray[np.int64]) -> NDArray[np.int64]:
        """(n, 2) offset and length of the values in these pages, which must have the keys 0 to n - 1."""
        self._use(_LEAF, pages, np.ones_like(pages))
        size, parts, done = self._tree.page_size, [np.empty((0, 2), np.int64)], 0
        for some in self._chunks(pages, _LEAF):
            nodes, of = some.nodes, some.pages[some.owner]
            keys = np.arange(done, done + len(nodes))
            done += len(nodes)
            _require(of, nodes["key_size"] == 4, nodes["key_size"], "a key of size", "4")
            _require(of, nodes["key"] == keys, nodes["key"], "a key", "the numbers from 0 on")
            least = keys[some.begins]
            above = firsts[some.first : some.first + len(some.pages)]
            _require(some.pages, least == above, least, "the first key", "the key that the page above states")
            length = nodes["low"].astype(np.int64) | nodes["high"].astype(np.int64) << 16
            big = nodes["flags"] == _BIG_DATA
            _require(of, big | (nodes["flags"] == 0), nodes["flags"], "a node with the flags", "0 or 1")
            end = some.at + np.where(big, _BIG, _INLINE + length)
            _require(of, end <= (some.owner + 1) * size, length, "a value across its end, of length", "one within it")
            offset = some.at + (of - some.owner) * size + _INLINE
            if big.any():
                offset[big] = self._overflow(of[big], offset[big], length[big])
            parts.append(np.column_stack([offset, length]))
        return np.concatenate(parts)

    def account(self) -> None:
        """No page was used twice, and there are as many of each kind as the meta page says."""
        used = np.concatenate(self._used)
        used = used[np.argsort(used[:, 0], kind="stable")]
        starts, ends = used[1:, 0], used[:-1].sum(axis=1)
        _require(starts, starts >= ends, starts, "two uses, the second as page", "one use")
        found = tuple(self._counts.values())
        said = (self._tree.branches, self._tree.leaves, self._tree.overflows)
        if found != said:
            msg = f"the tree has {found} branches, leaves and overflow pages; its meta page says {said}"
            raise CorruptDataset(msg)

    def _use(self, kind: int, firsts: NDArray[np.int64], counts: NDArray[np.int64]) -> None:
        self._counts[kind] += int(counts.sum())
        self._used.append(np.column_stack([firsts, counts]))

    def _overflow(
        self, pages: NDArray[np.int64], places: NDArray[np.int64], lengths: NDArray[np.int64]
    ) -> NDArray[np.int64]:
        """Where values lie that have pages of their own, whose numbers stand at these places of these pages."""
        size, last = self._tree.page_size, self._tree.last
        numbers = np.frombuffer(b"".join(read_at(self._descriptor, 8, at) for at in places.tolist()), "<u8")
        _require(pages, (numbers >= 2) & (numbers <= last), numbers, "a pointer to page", f"2 to {last}")
        firsts = numbers.astype(np.int64)
        count = (_HEAD - 1 + lengths) // size + 1
        _require(firsts, firsts + count - 1 <= last, count, "an overflow page count of", f"no page after {last}")
        heads = b"".join(read_at(self._descriptor, _HEAD, at) for at in (firsts * size).tolist())
        found = np.frombuffer(heads, _PAGE)
        pages_of = found["lower"].astype(np.int64) | found["upper"].astype(np.int64) << 16
        _require(firsts, found["number"] == numbers, found["number"], "the number", "its place in the file")
        _require(firsts, found["flags"] == _OVERFLOW, found["flags"], "the flags", f"{_OVERFLOW}, an overflow page")
        _require(firsts, pages_of == count, pages_of, "an overflow page count of", "as many as the value takes")
        self._use(_OVERFLOW, firsts, count)
        return firsts * size + _HEAD

    def _chunks(self, pages: NDArray[np.int64], kind: int) -> Iterator[_Some]:
        """The nodes of some pages at a time, after pages and pointers were checked."""
        size = self._tree.page_size
        for start in range(0, len(pages), PAGES):
            some = pages[start : start + PAGES]
            content = self._read(some)
            heads = content[:, :_HEAD].copy().view(_PAGE)[:, 0]
            _require(some, heads["number"] == some, heads["number"], "the number", "its place in the file")
            what = "a leaf" if kind == _LEAF else "a branch"
            _require(some, heads["flags"] == kind, heads["flags"], "the flags", f"{kind}, {what}")
            lower, upper = heads["lower"].astype(np.int64), heads["upper"].astype(np.int64)
            room = (lower >= _HEAD) & (lower % 2 == 0) & (lower <= upper) & (upper <= size)
            _require(some, room, lower, "pointers that end at byte", f"{_HEAD} to {size}, before its nodes")
            count = (lower - _HEAD) // 2
            least = 1 if kind == _LEAF else 2
            _require(some, count >= least, count, "a node count of", f"at least {least}")
            _require(some, count * _NODE_MIN[kind] <= size - upper, count, "a node count of", "no more than fit")
            words = content.view("<u2")[:, _HEAD // 2 :]
            pointers = words[np.arange(words.shape[1]) < count[:, None]].astype(np.int64)
            owner = np.repeat(np.arange(len(some)), count)
            good = (pointers % 2 == 0) & (pointers >= upper[owner]) & (pointers + _NODE_MIN[kind] <= size)
            _require(some[owner], good, pointers, "a pointer to byte", f"even, within its nodes, to {size}")
            at = owner * size + pointers
            # A branch's first node may end with its page and have no key.
            flat = np.append(content.reshape(-1), np.zeros(4, np.uint8))
            nodes = flat[at[:, None] + np.arange(_NODE.itemsize)].view(_NODE)[:, 0]
            yield _Some(some, start, nodes, owner, at, np.cumsum(count) - count)

    def _read(self, pages: NDArray[np.int64]) -> NDArray[np.uint8]:
        """(n, page size) bytes; pages that follow one another by one read."""
        size = self._tree.page_size
        content = b"".join(
            read_at(self._descriptor, len(run) * size, int(run[0]) * size)
            for run in np.split(pages, np.flatnonzero(np.diff(pages) != 1) + 1)
        )
        if len(content) != len(pages) * size:
            msg = f"the file was cut off while pages {pages.min()} to {pages.max()} were read"
            raise CorruptDataset(msg)
        return np.frombuffer(content, np.uint8).reshape(len(pages), size)


_NODE_MIN = {_BRANCH: 8, _LEAF: _INLINE}


def _require(pages: NDArray[Any], good: NDArray[Any], found: NDArray[Any], what: str, required: str) -> None:
    """Raise an error that names the first invalid page."""
    if not good.all():
        first = int(np.argmin(good))
        msg = f"page {pages[first]} has {what} {found[first]}; required: {required}"
        raise CorruptDataset(msg)
