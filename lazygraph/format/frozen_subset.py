"""A subset of a dataset in a file: the ids, the rule by which they were chosen, and digests of what they name."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lazygraph.errors import CorruptDataset, UnsupportedFormat
from lazygraph.format.digests import graph_digest
from lazygraph.format.store import Store
from lazygraph.format.strict_json import canonical_json, count, loads, mapping, optional, sha256_hex, text, texts
from lazygraph.storage.files import is_whole_manifest, write_atomic

__all__ = ["FrozenSubset", "digest_of_graphs"]

FORMAT = "lazygraph subset"
VERSION = 1


def digest_of_graphs(store: Store, rows: NDArray[np.int64]) -> str:
    """Return the sha256 over the digests of the graphs in these rows, in their order; reads their records.

    The digest of a graph is that of the content id: over its id and its decompressed record.
    """
    total = hashlib.sha256()
    for row in rows.tolist():
        total.update(graph_digest(store.graph_id(row).encode(), store.raw(row)))
    return total.hexdigest()


@dataclass(frozen=True, slots=True)
class FrozenSubset:
    """A subset as it is written down.

    Attributes:
        content_id: of the whole dataset from which the subset was chosen.
        digest: of the graphs of the subset (:func:`digest_of_graphs`).
        ids: the ids of the graphs, in order.
        rule: how they were chosen, where lazygraph chose them.
    """

    content_id: str
    digest: str
    ids: tuple[str, ...]
    rule: Mapping[str, Any] | None = None

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the subset to a file, which ends in its own checksum. A file of this name is replaced."""
        body = {
            "format": FORMAT,
            "version": VERSION,
            "content_id": self.content_id,
            "graphs": len(self.ids),
            "digest": self.digest,
            "rule": None if self.rule is None else dict(self.rule),
            "ids": list(self.ids),
        }
        prefix = canonical_json(body)[:-1]
        write_atomic(Path(path), prefix + b',"sha256":"' + hashlib.sha256(prefix).hexdigest().encode() + b'"}\n')

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> FrozenSubset:
        """Read a file that ``save`` wrote.

        Raises:
            FileNotFoundError: there is no such file.
            CorruptDataset: the file is not one, or was changed.
            UnsupportedFormat: another version of lazygraph wrote it.
        """
        return cls.from_bytes(Path(path).read_bytes(), os.fspath(path))

    @classmethod
    def from_bytes(cls, data: bytes, name: str) -> FrozenSubset:
        """Read the content of a file that ``save`` wrote; ``name`` is for errors. Raises as ``load`` does."""
        try:
            if not is_whole_manifest(data):
                msg = "the checksum at the end is missing or wrong: it is not a subset, or was changed"
                raise CorruptDataset(msg)  # noqa: TRY301  # with the path, as every damage below
            return cls._parsed(mapping(loads(data.rpartition(b',"sha256":"')[0] + b"}")))
        except (CorruptDataset, UnsupportedFormat) as error:
            msg = f"{name}: {error}"
            raise type(error)(msg) from error
        except (KeyError, ValueError, RecursionError) as error:
            msg = f"{name} cannot be read as a subset: {type(error).__name__}: {error}"
            raise CorruptDataset(msg) from error

    @classmethod
    def _parsed(cls, raw: dict[str, Any]) -> FrozenSubset:
        if raw["format"] != FORMAT:
            msg = f"the key 'format' is {raw['format']!r}; required: {FORMAT!r}"
            raise CorruptDataset(msg)
        if count(raw["version"]) != VERSION:
            msg = f"version {raw['version']} of a subset; this release reads {VERSION}: install a newer lazygraph"
            raise UnsupportedFormat(msg)
        ids = texts(raw["ids"])
        if count(raw["graphs"]) != len(ids):
            msg = f"it has {len(ids)} ids; required: {raw['graphs']}"
            raise CorruptDataset(msg)
        return cls(text(sha256_hex(raw["content_id"])), sha256_hex(raw["digest"]), ids, optional(mapping, raw["rule"]))
