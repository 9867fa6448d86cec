"""Shards whose page tree was crafted, in datasets whose every hash is right: what liblmdb would follow, and we do not.

Layouts as in LMDB's mdb.c; the writing is done by ``struct`` here, so that the code under test is not its own judge.
"""

from __future__ import annotations

import hashlib
import struct
from dataclasses import replace

import numpy as np

import lazygraph as lg
from lazygraph.format.manifest import Manifest
from lazygraph.storage.files import FileRef
from lazygraph.writing import graph_writer

PAGE, NONE = 4096, 2**64 - 1
GRAPHS = 700
# Byte offsets within a meta page.
MAGIC, VERSION, ADDRESS, MAP_SIZE, PAGE_SIZE, FILE_FLAGS = 16, 20, 24, 32, 40, 44
FREE_DEPTH, FREE_ROOT = 46, 80
FLAGS, DEPTH, BRANCHES, LEAVES, OVERFLOWS, ENTRIES, ROOT, LAST, TRANSACTION = 92, 94, 96, 104, 112, 120, 128, 136, 144
# Byte offsets within any page, and within a node.
NUMBER, PAGE_FLAGS, LOWER, UPPER, POINTERS = 0, 10, 12, 14, 16
NODE_FLAGS, KEY_SIZE, KEY = 4, 6, 8


def make(path):
    """A dataset of one shard whose tree has three levels, and values on overflow pages."""
    random = np.random.default_rng(0)
    graph_writer.SHARD, before = GRAPHS, graph_writer.SHARD
    try:
        with lg.GraphWriter(path) as writer:
            for number in range(GRAPHS):
                n = 1500 if number % 50 == 7 else 420
                writer.add({"x": random.normal(size=n).astype("f4"), "y": number}, id=f"g{number:04d}")
    finally:
        graph_writer.SHARD = before


def forge(path, change):
    """Change the bytes of the only shard, and give the dataset the hashes of what it is now."""
    manifest = Manifest.load(path)
    shard = manifest.shards[0]
    tree = Tree(bytearray((path / shard.file.name).read_bytes()))
    change(tree)
    digest = hashlib.sha256(tree.data).hexdigest()
    file = FileRef(f"shards/00000-{digest[:16]}.lmdb", len(tree.data), digest)
    (path / shard.file.name).unlink()
    (path / file.name).write_bytes(tree.data)
    replace(manifest, shards=(replace(shard, file=file),)).publish(path)
    return path / file.name


class Tree:
    """The bytes of an LMDB file, and where things are in them."""

    def __init__(self, data):
        self.data = data
        self.root = self.get("<Q", PAGE + ROOT)

    def get(self, kind, at):
        return struct.unpack_from(kind, self.data, at)[0]

    def put(self, kind, at, value):
        struct.pack_into(kind, self.data, at, value)

    def meta(self, kind, offset, value, page=1):
        self.put(kind, page * PAGE + offset, value)

    def nodes(self, page):
        """Where the nodes of a page begin."""
        count = (self.get("<H", page * PAGE + LOWER) - 16) // 2
        return [page * PAGE + self.get("<H", page * PAGE + POINTERS + 2 * n) for n in range(count)]

    def children(self, page):
        return [self.get("<I", node) for node in self.nodes(page)]

    def lead(self, page, number, child):
        """Let a node of a branch lead to another page."""
        node = self.nodes(page)[number]
        self.put("<I", node, child & 0xFFFFFFFF)
        self.put("<H", node + NODE_FLAGS, child >> 32)

    @property
    def branch(self):
        return self.children(self.root)[1]

    @property
    def leaf(self):
        return self.children(self.branch)[1]

    @property
    def big(self):
        """A node whose value has overflow pages, and the first of these."""
        nodes = [n for b in self.children(self.root) for leaf in self.children(b) for n in self.nodes(leaf)]
        node = next(n for n in nodes if self.get("<H", n + NODE_FLAGS) == 1)
        return node, self.get("<Q", node + 12)


def meta(kind, offset, value, page=1):
    return lambda tree: tree.meta(kind, offset, value, page)


def head(which, kind, offset, value):
    return lambda tree: tree.put(kind, getattr(tree, which) * PAGE + offset, value)


def node(which, number, kind, offset, value):
    return lambda tree: tree.put(kind, tree.nodes(getattr(tree, which))[number] + offset, value)


def lead(which, number, child):
    return lambda tree: tree.lead(getattr(tree, which), number, child(tree) if callable(child) else child)


def big(kind, offset, value):
    """Of the node that leads to overflow pages."""
    return lambda tree: tree.put(kind, tree.big[0] + offset, value(tree) if callable(value) else value)


def flow(kind, offset, value):
    """Of the first overflow page."""
    return lambda tree: tree.put(kind, tree.big[1] * PAGE + offset, value)


def both(*changes):
    return lambda tree: [change(tree) for change in changes]


def every_meta(kind, offset, value):
    return both(meta(kind, offset, value, 0), meta(kind, offset, value, 1))


def one_level_more(tree):
    """A tower of branches, each of which leads to the next one twice: 2^30 ways down."""
    first = len(tree.data) // PAGE
    for level in range(28):
        page = bytearray(tree.data[tree.root * PAGE : (tree.root + 1) * PAGE])
        struct.pack_into("<Q", page, NUMBER, first + level)
        struct.pack_into("<H", page, LOWER, 20)
        below = first + level + 1 if level < 27 else tree.root
        for pointer in struct.unpack_from("<HH", page, POINTERS):
            struct.pack_into("<IH", page, pointer, below, 0)
        tree.data += page
    tree.meta("<Q", ROOT, first)
    tree.meta("<H", DEPTH, 31)
    tree.meta("<Q", BRANCHES, tree.get("<Q", PAGE + BRANCHES) + 28)
    tree.meta("<Q", LAST, len(tree.data) // PAGE - 1)


def swap_keys(tree):
    first, second = tree.nodes(tree.leaf)[:2]
    one, two = (tree.get("<I", n + KEY) for n in (first, second))
    tree.put("<I", first + KEY, two)
    tree.put("<I", second + KEY, one)


def swap_leaves(tree):
    one, two = tree.children(tree.branch)[1:3]
    tree.lead(tree.branch, 1, two)
    tree.lead(tree.branch, 2, one)


def cut(to):
    def change(tree):
        del tree.data[to:]

    return change


def longer(tree):
    tree.data += bytes(PAGE)


# What was done -> the change, and what verify must say of it.
ATTACKS = {
    "root points to itself": (lead("root", 1, lambda t: t.root), r"page \d+ has the (flags 1|least key)"),
    "branch points to root": (lead("branch", 1, lambda t: t.root), r"page \d+ has the flags 1; required: 2, a leaf"),
    "two pointers to one leaf": (lead("branch", 1, lambda t: t.children(t.branch)[0]), "two nodes that lead to page"),
    "leaf instead of a branch": (lead("root", 1, lambda t: t.leaf), r"page \d+ has the flags 2; required: 1, a branch"),
    "branch points to a meta page": (lead("branch", 1, 0), "has a pointer to page 0; required: 2 to"),
    "branch points beyond the file": (lead("branch", 1, 10**6), "has a pointer to page 1000000; required: 2 to"),
    "branch points to page 2^47": (lead("branch", 1, 2**47), f"has a pointer to page {2**47}; required: 2 to"),
    "two leaves exchanged": (swap_leaves, "first key|least key|a key"),
    "31 levels of branches": (one_level_more, r"two nodes that lead to page|the least key"),
    "branch with one child": (head("branch", "<H", LOWER, 18), "a node count of 1; required: at least 2"),
    "branch without children": (head("root", "<H", LOWER, 16), "a node count of 0; required: at least 2"),
    "branch with a wrong key": (node("branch", 1, ">I", KEY, 3), "the (least|first) key"),
    "branch key of 65535 bytes": (node("branch", 1, "<H", KEY_SIZE, 65535), "a key of size 65535; required: 4"),
    "leaf without nodes": (head("leaf", "<H", LOWER, 16), "a node count of 0; required: at least 1"),
    "pointer array ends before it begins": (head("leaf", "<H", LOWER, 0), "pointers that end at byte 0"),
    "pointer array ends at an odd byte": (head("leaf", "<H", LOWER, 19), "pointers that end at byte 19"),
    "pointer array overlaps the nodes": (head("leaf", "<H", LOWER, PAGE - 2), f"pointers that end at byte {PAGE - 2}"),
    "nodes begin beyond the page": (head("leaf", "<H", UPPER, 65534), "pointers that end at byte"),
    "pointer beyond the page": (head("leaf", "<H", POINTERS, 65534), "a pointer to byte 65534"),
    "pointer to the last bytes of a page": (head("leaf", "<H", POINTERS, PAGE - 4), f"a pointer to byte {PAGE - 4}"),
    "pointer into the page header": (head("leaf", "<H", POINTERS, 0), "a pointer to byte 0"),
    "pointer to an odd byte": (head("leaf", "<H", POINTERS, PAGE - 101), f"a pointer to byte {PAGE - 101}"),
    "page with a wrong number": (head("leaf", "<Q", NUMBER, 3), "has the number 3; required: its place"),
    "page marked as values of one size": (head("leaf", "<H", PAGE_FLAGS, 0x22), "has the flags 34; required: 2"),
    "page marked as a sub-page": (head("leaf", "<H", PAGE_FLAGS, 0x42), "has the flags 66; required: 2"),
    "value of 4 GB": (node("leaf", 0, "<I", 0, 2**32 - 1), f"a value across its end, of length {2**32 - 1}"),
    "empty key": (node("leaf", 0, "<H", KEY_SIZE, 0), "a key of size 0; required: 4"),
    "key of 65535 bytes": (node("leaf", 0, "<H", KEY_SIZE, 65535), "a key of size 65535; required: 4"),
    "two keys exchanged": (swap_keys, "has a key"),
    "key twice": (lambda t: t.put(">I", t.nodes(t.leaf)[1] + KEY, t.get(">I", t.nodes(t.leaf)[0] + KEY)), "has a key"),
    "value marked as a tree": (node("leaf", 0, "<H", NODE_FLAGS, 2), "a node with the flags 2; required: 0 or 1"),
    "value marked as a list": (node("leaf", 0, "<H", NODE_FLAGS, 4), "a node with the flags 4; required: 0 or 1"),
    "value without overflow pages": (node("leaf", 0, "<H", NODE_FLAGS, 1), "a pointer to page|overflow"),
    "overflow pages beyond the file": (big("<Q", 12, 2**60), f"a pointer to page {2**60}"),
    "overflow page is the meta page": (big("<Q", 12, 1), "a pointer to page 1; required"),
    "overflow page is a leaf": (big("<Q", 12, lambda t: t.leaf), "has the flags 2; required: 4, an overflow page"),
    "overflow value of 4 GB": (big("<I", 0, 2**32 - 1), "an overflow page count of 1048577; required: no page after"),
    "overflow of 2^32 pages": (flow("<I", LOWER, 2**32 - 1), f"an overflow page count of {2**32 - 1}"),
    "overflow of 0 pages": (flow("<I", LOWER, 0), "an overflow page count of 0"),
    "overflow page with a wrong number": (flow("<Q", NUMBER, NONE), f"has the number {NONE}; required: its place"),
    "overflow page marked as a leaf": (flow("<H", PAGE_FLAGS, 6), "has the flags 6; required: 4"),
    "page size of 0 bytes": (every_meta("<I", PAGE_SIZE, 0), "pages have 0 bytes; required: a power of two"),
    "page size of 2^31 bytes": (every_meta("<I", PAGE_SIZE, 2**31), f"pages have {2**31} bytes"),
    "page size of 4095 bytes": (every_meta("<I", PAGE_SIZE, 4095), "pages have 4095 bytes"),
    "page size of 8192 bytes": (every_meta("<I", PAGE_SIZE, 8192), "page 1, a meta page, has the number"),
    "meta pages with different page sizes": (meta("<I", PAGE_SIZE, 512), "page 1, a meta page, has the page size 512"),
    "newer meta page without a tree": (meta("<Q", TRANSACTION, 2, 0), "the tree|the last of|has 0 records"),
    "meta pages with equal transactions": (meta("<Q", TRANSACTION, 1, 0), "page 0, a meta page, has the transaction 1"),
    "meta page without its magic number": (meta("<I", MAGIC, 0, 0), "page 0, a meta page, has the magic 0"),
    "meta page with the version number 2": (every_meta("<I", VERSION, 2), "page 0, a meta page, has the version 2"),
    "meta page marked as a leaf": (meta("<H", PAGE_FLAGS, 2), "page 1, a meta page, has the flags 2"),
    "map address given": (every_meta("<Q", ADDRESS, 4096), "has the address 4096; required: 0"),
    "fixed map address given": (every_meta("<H", FILE_FLAGS, 9), "has the file flags 9; required: 8"),
    "map size of 2^63 bytes": (every_meta("<Q", MAP_SIZE, 2**63), f"asks for {2**63} bytes to be mapped"),
    "map size of 0 bytes": (every_meta("<Q", MAP_SIZE, 0), "asks for 0 bytes to be mapped"),
    "several values per key allowed": (meta("<H", FLAGS, 4), "has the flags of the records 4; required: 0"),
    "tree depth of 65535": (meta("<H", DEPTH, 65535), "page 1 says that the main tree .* depth 65535"),
    "tree depth of 32": (meta("<H", DEPTH, 32), "has the flags 2; required: 1, a branch"),
    "tree depth of 1": (meta("<H", DEPTH, 1), "has the flags 1; required: 2, a leaf"),
    "tree depth of 0": (meta("<H", DEPTH, 0), "page 1 says that the main tree .* depth 0"),
    "root beyond the file": (meta("<Q", ROOT, 2**60), f"the main tree has its root in page {2**60}"),
    "no root": (meta("<Q", ROOT, NONE), "the main tree has its root in page"),
    "root is a meta page": (meta("<Q", ROOT, 0), "the main tree has its root in page 0"),
    "last page number of 2^62": (meta("<Q", LAST, 2**62), f"page {2**62} of 4096 bytes is the last"),
    "record count of 2^60": (meta("<Q", ENTRIES, 2**60), f"the page tree has {2**60} records; required: {GRAPHS}"),
    "record count too small by one": (meta("<Q", ENTRIES, GRAPHS - 1), f"has {GRAPHS - 1} records; required: {GRAPHS}"),
    "leaf count too small": (meta("<Q", LEAVES, 1), "leads to more pages than the 1 leaves"),
    "overflow page count too large": (lambda t: t.meta("<Q", OVERFLOWS, 3), "branches, leaves and overflow pages"),
    "free list points to the records": (
        both(lambda t: t.meta("<Q", FREE_ROOT, t.root), meta("<H", FREE_DEPTH, 3)),
        "a list of free pages|the free tree",
    ),
    "file cut after the meta pages": (cut(2 * PAGE), "is the last of 8192 bytes"),
    "file cut in a meta page": (cut(PAGE + 20), "page 1 is cut off after 20 bytes"),
    "one page too many": (longer, "is the last of"),
}  # fmt: skip
