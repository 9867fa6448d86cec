"""Search for the rows of a text: lines of JSONL, and rows of CSV with line breaks inside quotes."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np

from lazygraph.errors import UnreadableInput
from lazygraph.sources.unpack import Held

__all__ = ["rows"]


def rows(chunks: Iterable[bytes], *, quoted: bool) -> Iterator[tuple[int, bytes]]:
    r"""Yield (offset, text) of every row that is not blank, without its line feed. Memory holds one piece and one row.

    A row that is too long is cut, as :class:`~lazygraph.sources.unpack.Held` says.

    Args:
        chunks: the pieces, beginning at the start of a row.
        quoted: whether a line feed between two quotes belongs to a cell (RFC 4180: after an odd number of quotes; a
            doubled quote inside a cell counts twice). ``False`` for JSONL, where every line feed ends a row.

    Raises:
        UnreadableInput: the text ends between two quotes.

    Example:
        >>> list(rows([b'id,cif\n1,"da', b'ta_\nloop_"\n\n2,x'], quoted=True))
        [(0, b'id,cif'), (7, b'1,"data_\nloop_"'), (24, b'2,x')]
    """
    held = Held()
    offset = start = 0
    odd = False
    for chunk in chunks:
        data = np.frombuffer(chunk, np.uint8)
        ends = np.flatnonzero(data == ord("\n"))
        if quoted:
            quotes = np.flatnonzero(data == ord('"'))
            ends = ends[(np.searchsorted(quotes, ends) + odd) % 2 == 0]
            odd ^= bool(len(quotes) % 2)
        begin = 0
        for end in ends.tolist():
            text, _ = held.end(chunk[begin:end])
            begin = end + 1
            if text and not text.isspace():
                yield start, text
            start = offset + begin
        held.add(chunk[begin:])
        offset += len(chunk)
    rest, _ = held.end(b"")
    if odd:
        msg = f"broken CSV: the text ends inside a quoted cell of the row at byte {start}; required: quotes in pairs"
        raise UnreadableInput(msg)
    if rest and not rest.isspace():
        yield start, rest
