"""Loops compiled from C, where the machine that installed lazygraph has a compiler.

Everything works without them, through the plain Python functions that they are the twins of. The sources name these
functions: ``batch.c``, ``edges.c`` and ``angles.c`` read graphs, ``search.c`` and ``lattice.c`` make them, and
``encode.c`` packs them. Without the loops, reading whole batches and making graphs takes several times as long.
``LAZYGRAPH_NATIVE=0`` switches them off. Loading them takes 1 ms and hardly any memory, and a call lets other threads
run.

Constants and structures that both sides use are stated in Python, and ``constants.h`` is made of them
(``tools/native_constants.py``).
"""

from __future__ import annotations

import ctypes
import os
import sys
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from lazygraph.native.source_hash import library_name, source_hash

__all__ = ["address", "kernels"]

LIBRARY = Path(__file__).with_name(library_name(sys.platform))

_POINTER, _INT64, _INT32, _DOUBLE = ctypes.c_void_p, ctypes.c_int64, ctypes.c_int32, ctypes.c_double
_BYTE: Callable[[Any], ctypes.c_char] = ctypes.c_char.from_buffer
# Each is told its arguments, so that none is cut to 32 bits on the way.
_PAIRS = (_POINTER, *[_INT64] * 2, *[_POINTER] * 2, *[_INT32] * 2, *[_POINTER] * 3)
_SIGNATURES = {
    "lg_sources": (ctypes.c_char_p, ()),
    "lg_batch_new": (_POINTER, (*[_INT64] * 2, *[_POINTER] * 3)),
    "lg_batch_free": (None, (_POINTER,)),
    "lg_batch_read": (_INT64, (*[_POINTER] * 6, *[_INT64] * 2, _POINTER)),
    "lg_batch_places": (_INT64, (*[_POINTER] * 4,)),
    "lg_batch_lengths": (None, (_POINTER, _INT64, _POINTER)),
    "lg_batch_decode": (_INT64, (*[_POINTER] * 2,)),
    "lg_pairs_find": (
        _INT64,
        (_POINTER, *[_INT64] * 2, *[_POINTER] * 2, *[_INT32] * 2, *[_POINTER] * 3, _INT64, _POINTER),
    ),
    "lg_pairs_write": (_INT64, (*_PAIRS, _INT64, _INT32, _POINTER)),
    "lg_pairs_of_edges": (None, (*_PAIRS, _POINTER)),
    "lg_pairs_bonds": (_INT64, (*_PAIRS, _INT64, _POINTER)),
    "lg_pairs_cosines": (_INT64, (*_PAIRS, *[_POINTER] * 2, _INT64, _INT32, _POINTER)),
    "lg_builder_new": (_POINTER, ()),
    "lg_builder_free": (None, (_POINTER,)),
    "lg_build": (_INT64, (*[_POINTER] * 6, *[_INT64] * 3, *[_POINTER] * 3)),
    "lg_builder_write": (None, (*[_POINTER] * 3, _INT64, _POINTER)),
    "lg_lattice": (_INT32, (*[_POINTER] * 2, _INT64, _POINTER)),
    "lg_encode": (_INT64, (_POINTER, *[_INT64] * 2, *[_POINTER] * 2, _INT64, _POINTER, _INT64)),
    "lg_ends": (_INT64, (*[_POINTER] * 3, _INT64)),
    "lg_positions": (_INT32, (_POINTER, _INT64, *[_POINTER] * 2, _INT64, _INT32, _POINTER)),
    "lg_edge_values": (
        _INT32,
        (_POINTER, _INT64, *[_POINTER] * 3, *[_INT64] * 2, *[_POINTER] * 3, _INT64, *[_INT32] * 2, _POINTER),
    ),
    "lg_edge_order": (_INT32, (_POINTER, *[_INT64] * 2, _POINTER, _INT64, *[_POINTER] * 3)),
    "lg_unpaired": (_INT64, (_POINTER, _INT64, _POINTER, _INT64)),
    "lg_within": (_INT32, (_POINTER, _INT64, *[_POINTER] * 3, _INT64, _DOUBLE, _INT32, _POINTER)),
}


@lru_cache(maxsize=1)
def kernels() -> ctypes.CDLL | None:
    """The compiled loops; None where there are none, or where they were compiled of other sources than these."""
    known = sys.byteorder == "little" and ctypes.sizeof(_POINTER) == 8
    if not known or os.environ.get("LAZYGRAPH_NATIVE") == "0" or not LIBRARY.is_file():
        return None
    try:
        library = ctypes.CDLL(os.fspath(LIBRARY), use_errno=True)
        for name, (result, arguments) in _SIGNATURES.items():
            function = getattr(library, name)
            function.restype, function.argtypes = result, arguments
    except (OSError, AttributeError):  # built for another machine, or before a function was added
        return None
    return library if library.lg_sources() == source_hash(LIBRARY.parent).encode() else None


def address(array: NDArray[Any]) -> int:
    """Where a C-contiguous array begins; its holder keeps it during the call."""
    try:
        return ctypes.addressof(_BYTE(array))  # a fifth of the time of the next line
    except (TypeError, ValueError):  # read-only or empty
        return int(array.__array_interface__["data"][0])
