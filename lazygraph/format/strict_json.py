"""Strict parsing of JSON from untrusted files: each check returns its argument, or raises CorruptDataset."""

from __future__ import annotations

import json
import math
import re
from collections import Counter
from collections.abc import Callable
from typing import Any

from lazygraph.errors import CorruptDataset

__all__ = ["canonical_json", "count", "loads", "mapping", "optional", "sequence", "sha256_hex", "text", "texts"]


def loads(data: bytes) -> Any:
    """The value of a UTF-8 JSON text; CorruptDataset for a key that appears twice, NaN and infinities.

    Raises:
        ValueError, RecursionError: it is not JSON, not UTF-8, holds half of a surrogate pair, or is nested too deeply.
    """
    # As text: of bytes, json would take UTF-16 too.
    value = json.loads(data.decode(), object_pairs_hook=_unique, parse_constant=_finite, parse_float=_finite)
    if re.search(rb"\\u[dD][89a-fA-F]", data):
        json.dumps(value, ensure_ascii=False).encode()  # fails where a text is not Unicode
    return value


def canonical_json(value: Any) -> bytes:
    """JSON with sorted keys, no spaces, UTF-8, and no NaN: equal values give equal bytes."""
    written = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
    return written.encode()


def count(value: Any) -> int:
    """An integer from 0 on; true is none."""
    if type(value) is not int or value < 0:
        msg = f"{value!r} where a count is required"
        raise CorruptDataset(msg)
    return value


def mapping(value: Any) -> dict[str, Any]:
    """A JSON object."""
    if not isinstance(value, dict):
        msg = f"{value!r} where an object is required"
        raise CorruptDataset(msg)
    return value


def sequence(value: Any) -> list[Any]:
    """A JSON array."""
    if not isinstance(value, list):
        msg = f"{value!r} where a list is required"
        raise CorruptDataset(msg)
    return value


def text(value: Any) -> str:
    """A string."""
    if not isinstance(value, str):
        msg = f"{value!r} where a text is required"
        raise CorruptDataset(msg)
    return value


def texts(value: Any) -> tuple[str, ...]:
    """A list of strings."""
    return tuple(text(item) for item in sequence(value))


def sha256_hex(value: Any) -> str:
    """A sha256 in lower-case hex."""
    if not re.fullmatch("[0-9a-f]{64}", text(value)):
        msg = f"{value!r} where a sha256 is required"
        raise CorruptDataset(msg)
    return str(value)


def optional(read: Callable[[Any], Any], value: Any) -> Any:
    """Null, or what ``read`` makes of the value."""
    return None if value is None else read(value)


def _finite(number: str) -> float:
    value = float(number)
    if not math.isfinite(value):
        msg = f"the number {number} is not finite; only finite numbers are allowed"
        raise CorruptDataset(msg)
    return value


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    out = dict(pairs)
    if len(out) < len(pairs):
        twice, _ = Counter(name for name, _ in pairs).most_common(1)[0]
        msg = f"the key {twice!r} appears twice"
        raise CorruptDataset(msg)
    return out
