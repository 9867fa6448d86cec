"""The manifest: what a dataset is, in one canonical JSON file that is published last and ends in its own checksum."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from lazygraph.errors import CorruptDataset, DatasetNotFound, UnsupportedFormat
from lazygraph.format.columns import Column
from lazygraph.format.files import FileRef, write_atomic
from lazygraph.format.schema import Schema

__all__ = [
    "MANIFEST",
    "VERSION",
    "Manifest",
    "Provenance",
    "Quarantine",
    "Shard",
    "canonical_json",
    "content_id",
    "graph_digest",
    "row_starts",
]

MANIFEST = "manifest.json"
VERSION = (1, 0)
MAX_BYTES = 2**28

# Every name that a manifest may use; nothing else is ever opened.
_NAMES = re.compile(
    r"shards/[0-9]{5,}-[0-9a-f]{16}\.lmdb|columns/[A-Za-z0-9_.-]{0,100}-[0-9a-f]{16}\.npy"
    r"|dictionary-[0-9a-f]{16}\.zstd|quarantine-[0-9a-f]{16}\.jsonl"
)


@dataclass(frozen=True, slots=True)
class Shard:
    """One shard file: ``records`` it holds, ``rows`` of the dataset that point into it."""

    file: FileRef
    records: int
    rows: int


@dataclass(frozen=True, slots=True)
class Quarantine:
    """The file that lists the inputs that could not become graphs, and how many they are."""

    file: FileRef
    count: int


@dataclass(frozen=True, slots=True)
class Provenance:
    """What the dataset was made of: nothing that differs between two runs over the same input."""

    inputs: tuple[dict[str, Any], ...] = ()
    versions: dict[str, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Manifest:
    """A dataset's whole description; ``docs/format.md`` states every key."""

    graphs: int
    inputs: int
    recipe: dict[str, Any] | None
    schema: Schema
    level: int
    dictionary: FileRef | None
    shards: tuple[Shard, ...]
    columns: dict[str, Column]
    quarantine: Quarantine | None
    provenance: Provenance
    content_id: str
    version: tuple[int, int] = VERSION
    user: dict[str, Any] = field(default_factory=dict)

    def files(self) -> list[FileRef]:
        """Every file that the dataset consists of, the manifest itself left out."""
        out = [shard.file for shard in self.shards] + [column.file for column in self.columns.values()]
        if self.dictionary is not None:
            out.append(self.dictionary)
        if self.quarantine is not None:
            out.append(self.quarantine.file)
        return out

    def labels(self) -> dict[str, Column]:
        """The label columns by name."""
        return {name: column for name, column in self.columns.items() if column.role == "label"}

    def with_columns(self, columns: Mapping[str, Column]) -> Manifest:
        """The same dataset with columns added or replaced."""
        return replace(self, columns={**self.columns, **columns})

    def to_bytes(self) -> bytes:
        """The manifest file."""
        body = {
            "format": "lazygraph",
            "version": list(self.version),
            "graphs": self.graphs,
            "inputs": self.inputs,
            "recipe": self.recipe,
            "schema": self.schema.to_json(),
            "codec": {
                "name": "zstd",
                "level": self.level,
                "dictionary": None if self.dictionary is None else self.dictionary.to_json(),
            },
            "shards": [asdict(s) | {"file": s.file.to_json()} for s in self.shards],
            "columns": {n: asdict(c) | {"file": c.file.to_json()} for n, c in self.columns.items()},
            "quarantine": None
            if self.quarantine is None
            else {"file": self.quarantine.file.to_json(), "count": self.quarantine.count},
            "provenance": asdict(self.provenance),
            "content_id": self.content_id,
            "user": self.user,
        }
        prefix = canonical_json(body)[:-1]
        return prefix + b',"sha256":"' + hashlib.sha256(prefix).hexdigest().encode() + b'"}\n'

    def publish(self, directory: Path) -> None:
        """Write the manifest, atomically: from here on this is what the dataset is."""
        write_atomic(directory / MANIFEST, self.to_bytes())

    @classmethod
    def load(cls, directory: Path) -> Manifest:
        """Read and check the manifest of a dataset directory.

        Raises:
            DatasetNotFound: there is none.
            UnsupportedFormat: it is of another major version.
            CorruptDataset: it is not a manifest, or not the one that was written.
        """
        path = directory / MANIFEST
        try:
            with path.open("rb") as file:
                data = file.read(MAX_BYTES + 1)
        except (FileNotFoundError, NotADirectoryError):
            raise DatasetNotFound(_not_found(directory)) from None
        try:
            return _parse(data)
        except (CorruptDataset, UnsupportedFormat) as error:
            msg = f"{path}: {error}"
            raise type(error)(msg) from error


def canonical_json(value: Any) -> bytes:
    """JSON with sorted keys, no spaces, UTF-8, and no NaN: equal values give equal bytes."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
    return text.encode()


def content_id(recipe: dict[str, Any] | None, schema: Schema, digests: Iterable[bytes]) -> str:
    """The identity of a dataset's graphs: over recipe, schema, and one digest a graph in order (see graph_digest)."""
    total = hashlib.sha256(canonical_json({"recipe": recipe, "schema": schema.to_json()}))
    for digest in digests:
        total.update(digest)
    return total.hexdigest()


def graph_digest(graph_id: bytes, record: bytes) -> bytes:
    """What one graph adds to the content id: 32 bytes over its id and its decompressed record."""
    return hashlib.sha256(len(graph_id).to_bytes(4, "little") + graph_id + record).digest()


def _not_found(directory: Path) -> str:
    partial = directory.with_name(directory.name + ".partial")
    if partial.is_dir():
        return (
            f"{directory} is not finished; run the same lazygraph-write command again and it goes on in {partial.name}"
        )
    if directory.is_dir():
        return f"{directory} holds no {MANIFEST}; required: a dataset directory that lazygraph-write made"
    return f"there is no dataset at {directory}"


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    out = dict(pairs)
    if len(out) < len(pairs):
        names = [name for name, _ in pairs]
        msg = f"the key {next(n for n in names if names.count(n) > 1)!r} stands twice"
        raise CorruptDataset(msg)
    return out


def _parse(data: bytes) -> Manifest:
    if len(data) > MAX_BYTES:
        msg = f"more than {MAX_BYTES} bytes; required: at most that"
        raise CorruptDataset(msg)
    prefix, separator, rest = data.rpartition(b',"sha256":"')
    if not separator or rest != hashlib.sha256(prefix).hexdigest().encode() + b'"}\n':
        msg = "the checksum at the end is missing or wrong: the file was changed or cut off after it was written"
        raise CorruptDataset(msg)
    try:
        raw = json.loads(prefix + b"}", object_pairs_hook=_unique, parse_constant=_no_constant)
        if raw.pop("format") != "lazygraph":
            msg = "the key 'format' is not 'lazygraph'"
            raise CorruptDataset(msg)
        major, minor = raw.pop("version")
        if major != VERSION[0]:
            msg = f"format version {major}.{minor}; this release reads {VERSION[0]}.x: install a newer lazygraph"
            raise UnsupportedFormat(msg)
        return _build(raw, (int(major), int(minor)))
    except (KeyError, TypeError, ValueError, AttributeError, RecursionError) as error:
        if isinstance(error, (CorruptDataset, UnsupportedFormat)):
            raise
        msg = f"a key is missing or has another form than docs/format.md states: {type(error).__name__}: {error}"
        raise CorruptDataset(msg) from error


def _build(raw: dict[str, Any], version: tuple[int, int]) -> Manifest:
    codec = raw.pop("codec")
    if set(codec) != {"name", "level", "dictionary"} or codec["name"] != "zstd":
        msg = f"the codec {codec!r}; required: zstd with level and dictionary"
        raise CorruptDataset(msg)
    quarantine = raw.pop("quarantine")
    manifest = Manifest(
        graphs=_count(raw.pop("graphs")),
        inputs=_count(raw.pop("inputs")),
        recipe=_optional(_object, raw.pop("recipe")),
        schema=Schema.from_json(raw.pop("schema")),
        level=int(codec["level"]),
        dictionary=_optional(_file, codec["dictionary"]),
        shards=tuple(
            Shard(file=_file(s.pop("file")), records=_count(s.pop("records")), rows=_count(s.pop("rows")), **s)
            for s in raw.pop("shards")
        ),
        columns={name: _column(c) for name, c in raw.pop("columns").items()},
        quarantine=None if quarantine is None else Quarantine(_file(quarantine["file"]), _count(quarantine["count"])),
        provenance=_provenance(raw.pop("provenance")),
        content_id=str(raw.pop("content_id")),
        version=version,
        user=_object(raw.pop("user")),
    )
    # A newer minor version may add keys; this one does not know any.
    if raw and version <= VERSION:
        msg = f"the unknown keys {sorted(raw)}"
        raise CorruptDataset(msg)
    _check(manifest)
    return manifest


def _check(manifest: Manifest) -> None:
    """What must agree between the parts of a manifest."""
    for shard in manifest.shards:
        if not shard.rows <= shard.records < 2**32:
            msg = f"the shard {shard.file.name} has {shard.rows} rows and {shard.records} records"
            raise CorruptDataset(msg)
    if sum(shard.rows for shard in manifest.shards) != manifest.graphs:
        msg = f"the shards have {sum(s.rows for s in manifest.shards)} rows; required: {manifest.graphs}"
        raise CorruptDataset(msg)
    needed = {"record", "id", "id_order", *(f"n_{axis}" for axis in manifest.schema.axes)}
    if not needed <= set(manifest.columns):
        msg = f"the columns {sorted(needed - set(manifest.columns))} are missing"
        raise CorruptDataset(msg)
    for name, column in manifest.columns.items():
        if not column.shape or column.shape[0] != manifest.graphs:
            msg = f"the column {name!r} has the shape {column.shape}; required: {manifest.graphs} rows"
            raise CorruptDataset(msg)


def _file(raw: dict[str, Any]) -> FileRef:
    file = FileRef(**raw)
    if not isinstance(file.name, str) or not _NAMES.fullmatch(file.name):
        msg = f"the file name {file.name!r}; required: a name of the forms in docs/format.md"
        raise CorruptDataset(msg)
    if _count(file.size) >= 2**63 or not re.fullmatch("[0-9a-f]{64}", file.sha256) or file.sha256[:16] not in file.name:
        msg = f"the file {file.name!r} has the size {file.size} and the sha256 {file.sha256!r}"
        raise CorruptDataset(msg)
    return file


def _column(raw: dict[str, Any]) -> Column:
    categories = raw.pop("categories")
    return Column(
        file=_file(raw.pop("file")),
        shape=tuple(_count(n) for n in raw.pop("shape")),
        categories=None if categories is None else tuple(map(str, categories)),
        **raw,
    )


def _provenance(raw: dict[str, Any]) -> Provenance:
    raw = _object(raw)
    return Provenance(tuple(raw.pop("inputs")), raw.pop("versions"), tuple(raw.pop("notes")), **raw)


def _count(value: Any) -> int:
    if type(value) is not int or value < 0:
        msg = f"{value!r} where a count is required"
        raise CorruptDataset(msg)
    return value


def _object(value: Any) -> dict[str, Any]:
    if not isinstance(value, dict):
        msg = f"{value!r} where an object is required"
        raise CorruptDataset(msg)
    return value


def _optional(read: Callable[[Any], Any], value: Any) -> Any:
    return None if value is None else read(value)


def _no_constant(name: str) -> Any:
    msg = f"the number {name}"
    raise CorruptDataset(msg)


def row_starts(shards: Iterable[Shard]) -> np.ndarray[Any, np.dtype[np.int64]]:
    """The first row of each shard, and the number of rows at the end."""
    return np.cumsum([0, *(shard.rows for shard in shards)], dtype=np.int64)
