"""zstd and XXH3 as C functions: those that the packages zstandard and xxhash bring with them.

Both are needed in Python anyway, and hold the C libraries in their extension modules, or are linked with those of the
system. What the compiled loops call is the stable interface of these libraries (zstd.h, xxhash.h), found by name.
Loading them takes 1 ms. On Windows, where extension modules show no such names, lazygraph's own library has them.
"""

from __future__ import annotations

import ctypes
from functools import lru_cache
from importlib.util import find_spec
from typing import NamedTuple

from lazygraph.native import kernels

__all__ = ["Functions", "functions"]

_ZSTD, _XXHASH = ("zstandard._cffi", "zstandard.backend_c"), ("xxhash._xxhash",)  # modules that may hold them
_POINTER, _SIZE = ctypes.c_void_p, ctypes.c_size_t


class Functions(NamedTuple):
    """What C calls, and what Python calls for it."""

    addresses: dict[str, int]
    """Of ``XXH3_64bits`` (hash), ``ZSTD_getFrameContentSize`` (content_size), ``ZSTD_findFrameCompressedSize``
    (frame_size) and ``ZSTD_decompress_usingDDict`` (decompress)."""
    zstd: ctypes.CDLL
    """``ZSTD_createDCtx``, ``ZSTD_createDDict``, and the functions that free what they made."""


@lru_cache(maxsize=1)
def functions() -> Functions | None:
    """What was found; None where one is missing, as where a package was built without names for others to find."""
    xxhash, zstd = _library(_XXHASH, "XXH3_64bits"), _library(_ZSTD, "ZSTD_decompress_usingDDict")
    if xxhash is None or zstd is None:
        return None
    try:
        called = {
            "hash": xxhash.XXH3_64bits,
            "content_size": zstd.ZSTD_getFrameContentSize,
            "frame_size": zstd.ZSTD_findFrameCompressedSize,
            "decompress": zstd.ZSTD_decompress_usingDDict,
        }
        for name, result, arguments in (
            ("ZSTD_createDCtx", _POINTER, ()),
            ("ZSTD_freeDCtx", _SIZE, (_POINTER,)),
            ("ZSTD_createDDict", _POINTER, (ctypes.c_char_p, _SIZE)),
            ("ZSTD_freeDDict", _SIZE, (_POINTER,)),
        ):
            function = getattr(zstd, name)
            function.restype, function.argtypes = result, arguments
    except AttributeError:
        return None
    return Functions({name: ctypes.cast(one, _POINTER).value or 0 for name, one in called.items()}, zstd)


def _library(modules: tuple[str, ...], name: str) -> ctypes.CDLL | None:
    """Return our own library, or the file of the first of these modules, if it has this function."""
    own = kernels()
    if own is not None and hasattr(own, name):
        return own
    for module in modules:
        try:
            spec = find_spec(module)
            library = None if spec is None or spec.origin is None else ctypes.CDLL(spec.origin)
        except (ImportError, OSError):
            continue
        if library is not None and hasattr(library, name):
            return library
    return None
