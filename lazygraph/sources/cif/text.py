"""Data blocks of CIF text: their positions in a file, and a parser that reports which lines it left out."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

import gemmi

from lazygraph.errors import UnreadableInput
from lazygraph.sources.rowscan import rows

__all__ = ["Block", "Parsed", "data_blocks", "parse", "sniff"]

# White space and comments, then the heading of a data block.
BLOCK = re.compile(rb"(?:\s|#[^\n]*\n)*+data_", re.IGNORECASE)
HEADING = re.compile(rb"[ \t]*data_(\S*)", re.IGNORECASE)
SITES = re.compile(rb"[ \t]*(?:loop_\s+)?_atom_site[_.](?:label|type_symbol|fract_x)\b", re.IGNORECASE)
# Tags on which the crystal depends. A line with broken syntax is left out only if it has another tag.
STRUCTURAL = re.compile(r"_(?:cell|symmetry|space_group|atom_site|atom_type|chemical_formula_sum)", re.IGNORECASE)
BEGIN = re.compile(r"\s*data_", re.IGNORECASE)
PLACE = re.compile(r"string:(\d+):")
PAIR = re.compile(r"\s*(_\S+)[ \t]+\S")
MOST = 20  # greatest number of lines that are left out of one text
EMPTY = frozenset({"?", ".", "''", '""'})


class Block(NamedTuple):
    """A data block of a file."""

    name: str
    begin: int
    """Position of its first byte in the file."""
    end: int
    """Position after its last byte."""


class Parsed(NamedTuple):
    """The data blocks of a text, and the lines that were left out of it."""

    blocks: gemmi.cif.Document
    left_out: tuple[str, ...]
    """The tags of lines that were left out because their syntax is broken. If text before the first data block was left
    out, the first entry says so."""


def sniff(head: bytes) -> bool:
    """Tell whether a file begins with a CIF data block, after any white space and comments.

    Args:
        head: the first bytes of the file.
    """
    return BLOCK.match(head) is not None


def data_blocks(chunks: Iterable[bytes]) -> tuple[list[Block], list[Block]]:
    r"""Return the data blocks of a file that list atoms, and the data blocks without atoms, both in order.

    A heading inside a text field (between two lines that begin with a semicolon) does not count. Only one chunk is in
    memory at a time.

    Args:
        chunks: the bytes of the file, in pieces of any size.

    Example:
        >>> data_blocks([b"data_global\n_a 1\ndata_NaCl\nloop_\n_atom_site_label\nNa1\n"])
        ([Block(name='NaCl', begin=17, end=54)], [Block(name='global', begin=0, end=17)])
    """
    size = 0

    def counted() -> Iterator[bytes]:
        nonlocal size
        for chunk in chunks:
            size += len(chunk)
            yield chunk

    headings: list[tuple[str, int]] = []
    with_atoms: set[int] = set()
    inside = False
    for at, line in rows(counted(), quoted=False):
        if line.startswith(b";"):
            inside = not inside
        elif inside:
            continue
        elif (match := HEADING.match(line)) is not None:
            headings.append((match[1].decode("utf-8", "replace"), at))
        elif SITES.match(line):
            with_atoms.add(len(headings) - 1)
    ends = [*(begin for _, begin in headings[1:]), size]
    blocks = [Block(name, begin, end) for (name, begin), end in zip(headings, ends, strict=False)]
    found = [block for number, block in enumerate(blocks) if number in with_atoms]
    return found, [block for number, block in enumerate(blocks) if number not in with_atoms]


def parse(text: str) -> Parsed:
    """Return the data blocks of a text.

    If the syntax of the text is broken, the function leaves out lines that do not describe the structure: a line with a
    tag and a value (for example a value without a closing quote), and words before the first data block (jarvis writes
    a comment there without "#"). A tag may appear twice if its values are equal.

    Args:
        text: the CIF.

    Raises:
        UnreadableInput: the text is not CIF, or a tag of the structure appears twice with different values.
    """
    try:
        return Parsed(gemmi.cif.read_string(text), ())
    except (ValueError, RuntimeError) as error:  # gemmi raises both for broken syntax
        reason = str(error)
    left_out: list[str] = []
    lines = text.split("\n")
    begin = next((i for i, line in enumerate(lines) if BEGIN.match(line)), 0)
    if begin and not any(STRUCTURAL.match(line.lstrip()) for line in lines[:begin]):
        left_out.append(f"what stands before {lines[begin].strip()}")
        lines[:begin] = [""] * begin
    # gemmi reports only the first line that it cannot read. Blank this line and parse again, as long as it is a pair of
    # tag and value that does not describe the structure. Blank lines keep the numbers of all other lines.
    while len(left_out) < MOST:
        try:
            blocks = gemmi.cif.read_string("\n".join(lines), 0)
        except (ValueError, RuntimeError) as error:
            reason = str(error)
            number = int(found[1]) - 1 if (found := PLACE.match(reason)) else -1
            pair = PAIR.match(lines[number]) if 0 <= number < len(lines) else None
            if pair is None or STRUCTURAL.match(pair[1]):
                break
            left_out.append(pair[1])
            lines[number] = ""
            continue
        for block in blocks:
            _drop_repetitions(block)
        return Parsed(blocks, tuple(left_out))
    msg = f"not a CIF that can be read: {reason.removeprefix('string:')}; the numbers are line, column and byte"
    raise UnreadableInput(msg)


def with_underscores(block: gemmi.cif.Block) -> gemmi.cif.Block:
    """Return the block with underscores instead of dots in all tags.

    Newer CIF dictionaries write ``_cell.length_a``, and older ones ``_cell_length_a``.
    """
    plain = gemmi.cif.Block(block.name)
    for item in block:
        pair, loop = _content(item)
        if pair:
            plain.set_pair(pair[0].replace(".", "_"), pair[1])
        elif loop:
            width = loop.width()
            values = loop.values
            copy = plain.init_loop("", [tag.replace(".", "_") for tag in loop.tags])
            for row in range(loop.length()):
                copy.add_row(values[row * width : (row + 1) * width])
    return plain


def _drop_repetitions(block: gemmi.cif.Block) -> None:
    """Keep one of several pairs with the same tag.

    Raises:
        UnreadableInput: a tag of the structure appears twice with different values, or in a loop and elsewhere.
    """
    places: dict[str, list[tuple[gemmi.cif.Item, str | None]]] = {}
    for item in block:
        pair, loop = _content(item)
        for tag in [pair[0]] if pair else loop.tags if loop else []:
            places.setdefault(tag.lower(), []).append((item, pair[1] if pair else None))
    for tag, found in places.items():
        values = {value for _, value in found}
        if len(found) == 1:
            continue
        if STRUCTURAL.match(tag) and (None in values or len(values - EMPTY) > 1):
            msg = f"{tag} appears more than once in the data block {block.name!r}; required: one value or one loop"
            raise UnreadableInput(msg)
        if None not in values:
            kept = next((item for item, value in found if value not in EMPTY), found[0][0])
            for item, _ in found:
                if item is not kept:
                    item.erase()


def _content(item: gemmi.cif.Item) -> tuple[Any, Any]:
    """Return the pair of tag and value of an item, and its loop. At least one of the two is None."""
    return item.pair, item.loop
