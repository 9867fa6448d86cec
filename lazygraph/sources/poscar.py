"""Parser of POSCAR text (VASP 4, 5 and 6), after the page "POSCAR" of the VASP wiki. Takes 20 us for five atoms."""

from __future__ import annotations

import re
from decimal import Decimal, localcontext

import numpy as np
from numpy.typing import NDArray

from lazygraph.coordinates import determinant
from lazygraph.crystal import ATOMIC_NUMBERS, MIN_CELL_VOLUME, Crystal, symbols_to_numbers
from lazygraph.errors import StructureError, UnreadableInput

__all__ = ["CONFIGURATION", "counts_of", "parse_poscar", "sniff"]

COMMENT = re.compile(r"[#!].*")
CONFIGURATION = re.compile(r"\s*direct\s+configuration", re.IGNORECASE)
"""The line before each frame of an XDATCAR."""
FORTRAN = re.compile(r"[+-]?(?:\d+(?:\.\d*)?|\.\d+)[dD][+-]?\d+")
FLAGS = frozenset({"T", "F", ".TRUE.", ".FALSE.", ".T.", ".F.", "TRUE", "FALSE"})


def sniff(head: bytes) -> bool:
    """Whether the first lines of a file look like POSCAR: comment, scale, three vectors, then symbols or counts."""
    # Only line feeds, as in parse_poscar. splitlines() would also break at U+2028 in a comment.
    lines = head.decode("utf-8", "replace").replace("\r\n", "\n").removesuffix("\n").split("\n")
    if len(lines) < 7 or not lines[5].split():
        return False
    try:
        _lattice([COMMENT.sub("", line) for line in lines[:5]])
    except ValueError:
        return False
    return True


def parse_poscar(text: str) -> Crystal:
    r"""Return the crystal of a POSCAR or CONTCAR. Velocities and everything after them are ignored.

    Direct coordinates are ``float(text)`` of the file, not wrapped. One negative scale is the volume of the cell in
    A^3; three scales, all positive, multiply the Cartesian components. Numbers may have Fortran's exponents (1.5D+00).
    Elements come from line 6 (``Mg_pv/f474ac0d`` is Mg). A VASP 4 file has no such line: its elements come from the end
    of each position line, else from a comment with one element per count. Flags (``T F T``) do not need a line
    "Selective dynamics", and are not read as elements.

    Raises:
        StructureError: the elements are unknown or contradict one another, or the structure is not a crystal.
        UnreadableInput: the text does not have the lines of a POSCAR.

    Example:
        >>> text = "rock salt\n2.0\n0 1.4 1.4\n1.4 0 1.4\n1.4 1.4 0\nNa Cl\n1 1\nDirect\n0 0 0\n.5 .5 .5\n"
        >>> parse_poscar(text).formula
        'ClNa'
    """
    lines = text.split("\n")
    if "#" in text or "!" in text:
        lines[1:] = [COMMENT.sub("", line) for line in lines[1:]]
    try:
        lattice, scale = _lattice(lines)
        symbols, counts, at = _species(lines)
        selective = lines[at].lstrip()[:1] in {"s", "S"}
        at += selective
        mode = lines[at].lstrip()[:1]
        rows = [line.split() for line in lines[at + 1 : at + 1 + sum(counts)]]
        coords = [[_real(x), _real(y), _real(z)] for x, y, z, *_ in rows]
    except (ValueError, IndexError) as error:
        msg = f"not a POSCAR ({error}); required: comment, scale, three vectors, symbols, counts, mode, positions"
        raise UnreadableInput(msg) from error
    if CONFIGURATION.match(lines[at]):
        msg = "the file is an XDATCAR, which holds the frames of a run; give it by itself, and all of them are read"
        raise UnreadableInput(msg)
    if not mode.isalpha():
        msg = f"found {lines[at][:40]!r} before the positions; required: a line that says Direct or Cartesian"
        raise UnreadableInput(msg)
    if len(coords) != sum(counts):
        msg = f"found {len(coords)} positions for the counts {counts}; required: one line per atom"
        raise UnreadableInput(msg)
    marks = [_mark(row, selective) for row in rows]
    if symbols:
        elements = [s for s, n in zip(symbols, counts, strict=True) for _ in range(n)]
        if any(mark in ATOMIC_NUMBERS and mark != s for mark, s in zip(marks, elements, strict=True)) and all(
            mark in ATOMIC_NUMBERS for mark in marks
        ):
            atom = next(i for i, (mark, s) in enumerate(zip(marks, elements, strict=True)) if mark != s)
            msg = (
                f"atom {atom} is {elements[atom]} by the line of symbols, but {marks[atom]} by the end of its own "
                "line; they must agree"
            )
            raise StructureError(msg)
    else:
        elements = _elements_of_vasp4(lines[0], counts, marks)
    numbers = symbols_to_numbers(elements)
    if mode in "cCkK":
        with np.errstate(over="ignore"):  # the crystal refuses infinity
            places = np.array(coords).reshape(-1, 3) * scale
        return Crystal.from_cartesian(lattice, places, numbers)
    return Crystal(lattice, coords, numbers)


def counts_of(lines: list[str]) -> list[int]:
    """Return the number of atoms of each kind, from the lines before the positions.

    Raises:
        ValueError, IndexError: they are not comment, scale, three vectors, symbols and counts.
    """
    _lattice(lines)
    symbols, counts, _ = _species(lines)
    if not symbols:
        msg = "there is no line of element symbols, as VASP 4 wrote it"
        raise ValueError(msg)
    return counts


def _lattice(lines: list[str]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return (3, 3) lattice vectors, A, and the one or three factors that also apply to Cartesian coordinates."""
    scale = np.array([_real(token) for token in lines[1].split()])
    vectors = [[_real(token) for token in line.split()] for line in lines[2:5]]
    if [*map(len, vectors)] != [3, 3, 3] or len(scale) not in {1, 3}:
        msg = f"lines 2 to 5 are {lines[1:5]}"
        raise ValueError(msg)
    if len(scale) == 3 and not (scale > 0).all():
        msg = f"the three scales are {lines[1].strip()}, and VASP takes only positive ones"
        raise ValueError(msg)
    # vectors in a plane stay as they are, and the crystal refuses them
    if len(scale) == 1 and scale[0] < 0 and (volume := abs(determinant(np.array(vectors)))) > MIN_CELL_VOLUME:
        scale = np.array([_cube_root(-float(scale[0]) / volume)])
    with np.errstate(over="ignore"):  # the crystal refuses infinity
        return np.array(vectors) * scale, scale


def _cube_root(x: float) -> float:
    """Return the nearest double: the powers of numpy and of C libraries differ in the last bit between machines."""
    with localcontext(prec=50):
        return float(Decimal(x) ** (Decimal(1) / 3))


def _species(lines: list[str]) -> tuple[list[str], list[int], int]:
    """Return symbols (none in VASP 4), counts, and the number of the line after them. VASP wraps long lists of both."""
    symbols: list[str] = []
    counts: list[int] = []
    at = 5
    while (tokens := lines[at].split()) and not tokens[0].isdigit():
        symbols += [token.split("/", 1)[0].split("_", 1)[0] for token in tokens]
        at += 1
    while not counts or len(counts) < len(symbols):
        counts += [int(token) for token in lines[at].split()]
        at += 1
    if (symbols and len(symbols) != len(counts)) or min(counts) < 0:
        msg = f"the symbols are {symbols} and the counts {counts}"
        raise ValueError(msg)
    return symbols, counts, at


def _real(token: str) -> float:
    """Return the number of a token; Fortran writes exponents with a D too."""
    try:
        return float(token)
    except ValueError:
        if FORTRAN.fullmatch(token) is None:
            raise
        return float(token.replace("D", "E").replace("d", "e"))


def _mark(row: list[str], selective: bool) -> str:
    """Return the text after the position and the flags of an atom, or an empty text."""
    flags = selective or (len(row) >= 6 and all(token.upper() in FLAGS for token in row[3:6]))
    return next(iter(row[6 if flags else 3 :]), "")


def _elements_of_vasp4(comment: str, counts: list[int], marks: list[str]) -> list[str]:
    """One symbol per atom, from the ends of the position lines or from the comment line."""
    if all(mark in ATOMIC_NUMBERS for mark in marks):
        return marks
    symbols = comment.split()
    if len(symbols) == len(counts) and all(symbol in ATOMIC_NUMBERS for symbol in symbols):
        return [symbol for symbol, count in zip(symbols, counts, strict=True) for _ in range(count)]
    msg = (
        f"no element symbols: the comment is {comment[:60]!r} and the counts are {counts}; add a line of symbols "
        "before the counts"
    )
    raise StructureError(msg)
