"""The manifest: what a dataset is, in one canonical JSON file that is published last and ends in its own checksum."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass, field, replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lazygraph.errors import CorruptDataset, DatasetNotFound, UnsupportedFormat
from lazygraph.format.codec import CODECS
from lazygraph.format.columns import Column, missing_code
from lazygraph.format.digests import digests_size
from lazygraph.format.schema import MAX_NAME, Schema
from lazygraph.format.strict_json import (
    canonical_json,
    count,
    loads,
    mapping,
    optional,
    sequence,
    sha256_hex,
    text,
    texts,
)
from lazygraph.storage.base import Storage
from lazygraph.storage.files import FILE_NAME, FileRef, is_whole_manifest, write_atomic
from lazygraph.storage.local import MANIFEST, MAX_MANIFEST, LocalStorage

__all__ = [
    "MANIFEST",
    "VERSION",
    "Manifest",
    "Provenance",
    "Quarantine",
    "Removal",
    "Shard",
    "SourceFiles",
    "row_starts",
]

VERSION = (1, 0)
MAX_BYTES = MAX_MANIFEST
MAX_DIMENSIONS = 32  # of a column; numpy has had that limit
MAX_MESSAGE = 2000  # characters
MAX_DICTIONARIES = 4096
MAX_DICTIONARY = 2**20  # bytes: some of them are kept in memory
MAX_LINE = 10_000  # bytes of one text about a dataset or a label
PER = ("cell", "atom")  # what a label can be given per
ABOUT = ("title", "description", "license", "citation", "doi", "homepage", "level_of_theory")
RULED = ("train", "val", "test")  # the splits that a rule makes
MAX_FOLDS = 100
PROTOTYPE_RULE = {"symprec"}  # the keys of the rule of a column of prototypes


@dataclass(frozen=True, slots=True)
class Shard:
    """One shard file.

    Attributes:
        file: the LMDB file.
        records: how many records it holds, with the keys 0, 1, ...
        spare: the keys of records that no row points to, in order: of duplicates, and of graphs that were removed.
        codec: how its records are compressed (``format/codec.py``).
        dictionary: the number of the dictionary that they were compressed with, among the manifest's, if there is one.
    """

    file: FileRef
    records: int
    spare: tuple[int, ...] = ()
    codec: str = "zstd"
    dictionary: int | None = None

    @property
    def rows(self) -> int:
        """How many rows of the dataset point into it."""
        return self.records - len(self.spare)

    def keys(self) -> NDArray[np.int64]:
        """(rows,) the key of the record of each row."""
        return np.delete(np.arange(self.records), np.array(self.spare, np.int64))

    def to_json(self) -> dict[str, Any]:
        """The entry in the manifest."""
        return asdict(self) | {"file": self.file.to_json(), "spare": list(self.spare)}


@dataclass(frozen=True, slots=True)
class Quarantine:
    """The file that lists the inputs that could not become graphs, and how many they are."""

    file: FileRef
    count: int


@dataclass(frozen=True, slots=True)
class Removal:
    """Graphs that were removed from the dataset, and why."""

    removed: tuple[str, ...]
    reason: str


@dataclass(frozen=True, slots=True)
class SourceFiles:
    """One source that the dataset was made from: its name, its number of inputs, and its files (name, size, sha256)."""

    name: str
    inputs: int
    files: tuple[dict[str, Any], ...]

    def to_json(self) -> dict[str, Any]:
        """The entry in the manifest."""
        return {"name": self.name, "inputs": self.inputs, "files": list(self.files)}

    @classmethod
    def from_json(cls, raw: Any) -> SourceFiles:
        """Read the entry; CorruptDataset where it has another form."""
        raw = mapping(raw)
        files = tuple(_source_file(mapping(file)) for file in sequence(raw.pop("files")))
        return cls(text(raw.pop("name")), count(raw.pop("inputs")), files, **raw)


@dataclass(frozen=True, slots=True)
class Provenance:
    """What the dataset was made of: nothing that differs between two runs over the same input.

    Inputs are numbered over all ``sources`` in order. Where graphs are ready-made, there are no sources.
    """

    sources: tuple[SourceFiles, ...] = ()
    versions: dict[str, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Manifest:
    """A dataset's whole description; ``docs/format.md`` states every key."""

    graphs: int
    inputs: int
    recipe: dict[str, Any] | None
    schema: Schema
    dictionaries: tuple[FileRef, ...]
    shards: tuple[Shard, ...]
    columns: dict[str, Column]
    digests: FileRef
    quarantine: Quarantine | None
    provenance: Provenance
    content_id: str
    history: tuple[Removal, ...] = ()
    about: dict[str, str] = field(default_factory=dict)
    version: tuple[int, int] = VERSION
    user: dict[str, Any] = field(default_factory=dict)

    def files(self) -> list[FileRef]:
        """Every file that the dataset consists of, the manifest itself left out."""
        out = [shard.file for shard in self.shards] + [column.file for column in self.columns.values()]
        out += [self.digests, *self.dictionaries]
        if self.quarantine is not None:
            out.append(self.quarantine.file)
        return out

    def labels(self) -> dict[str, Column]:
        """The labels that are numbers, by name."""
        return {name: column for name, column in self.columns.items() if column.role == "label"}

    def texts(self) -> dict[str, Column]:
        """The labels that are texts, by name: categories and texts."""
        return {name: column for name, column in self.columns.items() if column.role in ("category", "text")}

    def splits(self) -> dict[str, Column]:
        """The columns of splits by name; ``split`` is the default one."""
        return {name: column for name, column in self.columns.items() if column.role == "split"}

    def all_labels(self) -> dict[str, Column]:
        """The labels by name, numbers first."""
        return {**self.labels(), **self.texts()}

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
            "dictionaries": [file.to_json() for file in self.dictionaries],
            "shards": [shard.to_json() for shard in self.shards],
            "columns": {n: asdict(c) | {"file": c.file.to_json()} for n, c in self.columns.items()},
            "digests": self.digests.to_json(),
            "quarantine": None
            if self.quarantine is None
            else {"file": self.quarantine.file.to_json(), "count": self.quarantine.count},
            "provenance": asdict(self.provenance) | {"sources": [s.to_json() for s in self.provenance.sources]},
            "content_id": self.content_id,
            "history": [{"removed": list(one.removed), "reason": one.reason} for one in self.history],
            "about": self.about,
            "user": self.user,
        }
        prefix = canonical_json(body)[:-1]
        return prefix + b',"sha256":"' + hashlib.sha256(prefix).hexdigest().encode() + b'"}\n'

    def check_writable(self, directory: str | Path) -> None:
        """Refuse to write a manifest of a newer minor version, whose additions would be lost.

        Raises:
            UnsupportedFormat: with both versions.
        """
        if self.version > VERSION:
            found, known = (".".join(map(str, version)) for version in (self.version, VERSION))
            msg = (
                f"{directory} has format version {found}; this release writes {known}: change it with a newer lazygraph"
            )
            raise UnsupportedFormat(msg)

    def check(self) -> None:
        """Refuse a manifest that no reader would take.

        Raises:
            CorruptDataset, UnsupportedFormat: with what is wrong.
        """
        _parse(self.to_bytes())

    def publish(self, directory: Path) -> None:
        """Write the manifest, atomically: from here on this is what the dataset is.

        Raises:
            UnsupportedFormat: it is of a newer minor version.
        """
        self.check_writable(directory)
        write_atomic(directory / MANIFEST, self.to_bytes())

    @classmethod
    def load(cls, directory: Path | Storage) -> Manifest:
        """Read and check the manifest of a dataset directory, or of any storage.

        Raises:
            DatasetNotFound: there is none.
            UnsupportedFormat: it is of another major version.
            CorruptDataset: it is not a manifest, or not the one that was written.
        OSError: the file system failed.
        """
        storage = LocalStorage(directory) if isinstance(directory, Path) else directory
        try:
            data = storage.manifest()
            if len(data) > MAX_BYTES:
                msg = f"it has {len(data)} bytes; required: at most {MAX_BYTES}"
                raise CorruptDataset(msg)  # noqa: TRY301  # with the path, as every damage below
            return _parse(data)
        except (FileNotFoundError, NotADirectoryError):
            if isinstance(storage, LocalStorage):
                raise DatasetNotFound(_not_found(storage.directory)) from None
            msg = f"there is no dataset at {storage.name}"
            raise DatasetNotFound(msg) from None
        except (CorruptDataset, UnsupportedFormat) as error:
            said = str(error)  # may quote what is found, which may be megabytes
            msg = f"{storage.name}/{MANIFEST}: {said if len(said) <= MAX_MESSAGE else said[:MAX_MESSAGE] + ' ...'}"
            raise type(error)(msg) from error


def _not_found(directory: Path) -> str:
    partial = directory.with_name(directory.name + ".partial")
    if partial.is_dir():
        command = "lazygraph pull" if (partial / "pull").is_dir() else "lazygraph-write"
        return f"{directory} is not finished; run the same {command} command again to continue in {partial.name}"
    if directory.is_dir():
        return f"{directory} holds no {MANIFEST}; give a dataset directory, such as lazygraph-write makes"
    return f"there is no dataset at {directory}"


def _parse(data: bytes) -> Manifest:
    if not is_whole_manifest(data):
        msg = "the checksum at the end is missing or wrong: the file was changed or cut off after it was written"
        raise CorruptDataset(msg)
    try:
        raw = loads(data.rpartition(b',"sha256":"')[0] + b"}")
        return _build(raw, _version(raw))
    except (CorruptDataset, UnsupportedFormat):
        raise
    except (KeyError, TypeError, ValueError, AttributeError, RecursionError) as error:
        msg = f"a key is missing or has another form than docs/format.md states: {type(error).__name__}: {error}"
        raise CorruptDataset(msg) from error


def _version(raw: dict[str, Any]) -> tuple[int, int]:
    if raw.pop("format") != "lazygraph":
        msg = "the key 'format' is not 'lazygraph'"
        raise CorruptDataset(msg)
    major, minor = map(count, sequence(raw.pop("version")))
    if major != VERSION[0]:
        msg = f"format version {major}.{minor}; this release reads {VERSION[0]}.x: install a newer lazygraph"
        raise UnsupportedFormat(msg)
    return major, minor


def _build(raw: dict[str, Any], version: tuple[int, int]) -> Manifest:
    manifest = Manifest(
        graphs=count(raw.pop("graphs")),
        inputs=count(raw.pop("inputs")),
        recipe=optional(mapping, raw.pop("recipe")),
        schema=Schema.from_json(raw.pop("schema")),
        dictionaries=tuple(map(_file, sequence(raw.pop("dictionaries")))),
        shards=tuple(map(_shard, sequence(raw.pop("shards")))),
        columns={name: _column(c) for name, c in raw.pop("columns").items()},
        digests=_file(raw.pop("digests")),
        quarantine=optional(_quarantine, raw.pop("quarantine")),
        provenance=_provenance(raw.pop("provenance")),
        content_id=sha256_hex(raw.pop("content_id")),
        history=tuple(map(_removal, sequence(raw.pop("history")))),
        about=_about(raw.pop("about")),
        version=version,
        user=mapping(raw.pop("user")),
    )
    # A newer minor version may add keys; this one does not know any.
    if raw and version <= VERSION:
        msg = f"the unknown keys {sorted(raw)}"
        raise CorruptDataset(msg)
    _check(manifest)
    return manifest


def _check(manifest: Manifest) -> None:
    """What must agree between the parts of a manifest."""
    _check_dictionaries(manifest.dictionaries)
    for shard in manifest.shards:
        _check_shard(shard, len(manifest.dictionaries))
    sources = manifest.provenance.sources
    if sources and sum(source.inputs for source in sources) != manifest.inputs:
        msg = f"the sources have {sum(source.inputs for source in sources)} inputs; required: {manifest.inputs}"
        raise CorruptDataset(msg)
    if sum(shard.rows for shard in manifest.shards) != manifest.graphs:
        msg = f"the shards have {sum(s.rows for s in manifest.shards)} rows; required: {manifest.graphs}"
        raise CorruptDataset(msg)
    needed = {"record", "id", "id_order", *(f"n_{axis}" for axis in manifest.schema.axes)}
    if not needed <= set(manifest.columns):
        msg = f"the columns {sorted(needed - set(manifest.columns))} are missing"
        raise CorruptDataset(msg)
    if manifest.digests.size != (size := digests_size(manifest.graphs, len(manifest.columns))):
        msg = f"the file of digests has {manifest.digests.size} bytes; required: {size}"
        raise CorruptDataset(msg)
    for name, column in manifest.columns.items():
        if not column.shape or column.shape[0] != manifest.graphs:
            msg = f"the column {name!r} has the shape {column.shape}; required: {manifest.graphs} rows"
            raise CorruptDataset(msg)
        if not name.isprintable() or not 0 < len(name.encode()) <= MAX_NAME:
            msg = f"the column name {name!r}; required: 1 to {MAX_NAME} printable bytes"
            raise CorruptDataset(msg)
        _check_column(name, column, axis=name.startswith("n_") and name[2:] in manifest.schema.axes)
        label = None if column.rule is None else column.rule.get("labelled")
        if label is not None and label not in manifest.all_labels():
            msg = f"the rule of the splits {name!r} is for the graphs with a value of {label!r}, which is not a label"
            raise CorruptDataset(msg)


# The types that columns may have: those of the index by their names, labels by their roles.
_UNSIGNED = ("|u1", "<u2", "<u4", "<u8")
_TEXT = tuple(f"|S{width}" for width in range(1, 256))
_LABELS: dict[str, tuple[Any, ...]] = {"label": ("<f8", "<i8", "|b1"), "category": ("|u1", "<u2"), "text": _TEXT}
_LABELS["split"] = ("|u1",)
_INDEX: dict[str, tuple[Any, ...]] = {
    "record": tuple(
        [["offset", offset], ["length", length], ["xxh3", "<u8"]]
        for offset in ("<u4", "<u8")
        for length in ("<u2", "<u4")
    ),
    "id": _TEXT,
    "id_order": ("<u4", "<u8"),
    "formula": _TEXT,
    "n_triplets": _UNSIGNED,
    "input": _UNSIGNED,
}


def _check_column(name: str, column: Column, *, axis: bool) -> None:
    """A column must be what its name says, so that no reader meets text or structures where it expects numbers."""
    allowed = _UNSIGNED if axis else _INDEX.get(name)
    if allowed is None:
        allowed = _LABELS.get(column.role, ())
        good = column.dtype in allowed and (column.role == "label" or len(column.shape) == 1)
        good = good and (column.unit is None or column.role == "label")
        good = good and (column.role == "split" or name != "split")
        good = good and column.per in (None, *PER) and (column.per is None or column.role == "label")
    else:
        good = column.role == "index" and column.dtype in allowed and len(column.shape) == 1
    coded = column.role in ("category", "split")
    if not good or (column.categories is not None) != coded or len(column.shape) > MAX_DIMENSIONS:
        msg = f"the column {name!r} has the type {column.dtype!r}, shape {column.shape} and role {column.role!r}"
        raise CorruptDataset(msg)
    if column.categories is not None:
        _check_categories(name, column.categories, missing_code(np.dtype(column.dtype)))
    _check_description(name, column)
    if column.rule is not None:
        _check_rule(name, column, column.rule)


def _check_rule(name: str, column: Column, rule: Mapping[str, Any]) -> None:
    """A rule must be of the kind of its column: one of splits, or the one of prototypes, which are texts."""
    of_prototypes = set(rule) == PROTOTYPE_RULE
    if of_prototypes != (column.role in ("category", "text")) or column.role in ("label", "index"):
        msg = f"the column {name!r} has the role {column.role!r} and the rule {rule!r}, which is of another role"
        raise CorruptDataset(msg)
    if column.role == "split" and column.categories != RULED:
        msg = f"the column {name!r} has a rule, and its splits are {column.categories}; required: {RULED}"
        raise CorruptDataset(msg)


def _check_description(name: str, column: Column) -> None:
    """Check that only labels are described, and that required labels have no missing values."""
    line, required = column.description, column.required
    if type(required) is not bool or (column.role in ("index", "split") and (required or line is not None)):
        msg = (
            f"the column {name!r} has the description {line!r} and required={required!r}; only labels have a "
            "description, and required is true or false"
        )
        raise CorruptDataset(msg)
    if line is not None and not (line.isprintable() and 0 < len(line.encode()) <= MAX_LINE):
        msg = f"the description of the column {name!r} is not one printable line of 1 to {MAX_LINE} bytes"
        raise CorruptDataset(msg)
    if required and (column.statistics or {}).get("missing") != 0:
        msg = f"the label {name!r} is required, but its statistics do not state missing=0: {column.statistics}"
        raise CorruptDataset(msg)


def _check_categories(name: str, categories: tuple[str, ...], most: int) -> None:
    """Every code must stand for one text, and no text for two codes."""
    if len(categories) > most or any(len(each.encode()) > MAX_NAME for each in categories):
        msg = f"the column {name!r} has {len(categories)} categories; required: at most {most}, of {MAX_NAME} bytes"
        raise CorruptDataset(msg)
    if len(set(categories)) < len(categories):
        msg = f"the column {name!r} names a category twice; categories must differ"
        raise CorruptDataset(msg)


def _file(raw: dict[str, Any]) -> FileRef:
    file = FileRef(**raw)
    if not isinstance(file.name, str) or not FILE_NAME.fullmatch(file.name):
        msg = f"the file name {file.name!r}; required: a name of the forms in docs/format.md"
        raise CorruptDataset(msg)
    if count(file.size) >= 2**63 or sha256_hex(file.sha256)[:16] not in file.name:
        msg = f"the file {file.name!r} has the size {file.size} and the sha256 {file.sha256!r}"
        raise CorruptDataset(msg)
    return file


def _shard(raw: dict[str, Any]) -> Shard:
    return Shard(
        file=_file(raw.pop("file")),
        records=count(raw.pop("records")),
        spare=tuple(map(count, sequence(raw.pop("spare")))),
        codec=text(raw.pop("codec")),
        dictionary=optional(count, raw.pop("dictionary")),
        **raw,
    )


def _check_dictionaries(dictionaries: tuple[FileRef, ...]) -> None:
    if len(dictionaries) > MAX_DICTIONARIES:
        msg = f"{len(dictionaries)} dictionaries; required: at most {MAX_DICTIONARIES}"
        raise CorruptDataset(msg)
    for file in dictionaries:
        if not 0 < file.size <= MAX_DICTIONARY:
            msg = f"the dictionary {file.name} has {file.size} bytes; required: 1 to {MAX_DICTIONARY}"
            raise CorruptDataset(msg)


def _check_shard(shard: Shard, dictionaries: int) -> None:
    name, spare = shard.file.name, shard.spare
    if shard.records >= 2**32:
        msg = f"the shard {name} has {shard.records} records; required: fewer than 2^32"
        raise CorruptDataset(msg)
    if any(low >= high for low, high in pairwise(spare)) or (spare and spare[-1] >= shard.records):
        msg = f"the shard {name} has {shard.records} records, and the spare ones {spare[:20]} are not some of them"
        raise CorruptDataset(msg)
    if shard.codec not in CODECS:
        msg = f"the shard {name} has the codec {shard.codec!r}; known: {', '.join(CODECS)}: install a newer one"
        raise UnsupportedFormat(msg)
    if shard.dictionary is not None and (shard.dictionary >= dictionaries or not CODECS[shard.codec].takes_dictionary):
        msg = f"the shard {name} of codec {shard.codec} has dictionary {shard.dictionary} of {dictionaries}"
        raise CorruptDataset(msg)


def _column(raw: dict[str, Any]) -> Column:
    return Column(
        file=_file(raw.pop("file")),
        shape=tuple(count(n) for n in sequence(raw.pop("shape"))),
        unit=optional(text, raw.pop("unit")),
        statistics=optional(_statistics, raw.pop("statistics")),
        categories=optional(texts, raw.pop("categories")),
        rule=optional(_rule, raw.pop("rule")),
        per=optional(text, raw.pop("per")),
        description=optional(text, raw.pop("description")),
        required=raw.pop("required"),
        **raw,
    )


def _about(raw: Any) -> dict[str, str]:
    about = {key: text(value) for key, value in mapping(raw).items()}
    if not set(about) <= set(ABOUT) or any(not 0 < len(value.encode()) <= MAX_LINE for value in about.values()):
        msg = f"about has the keys {sorted(about)}; required: some of {ABOUT}, with texts of 1 to {MAX_LINE} bytes"
        raise CorruptDataset(msg)
    return about


def _rule(raw: Any) -> dict[str, Any]:
    """A rule of one of the forms in docs/format.md."""
    rule = mapping(raw)
    checks = next((checks for checks in _RULES if set(checks) == set(rule) - {"stratify", "labelled"}), None)
    if checks is None or not all(check(rule[key]) for key, check in checks.items()):
        msg = f"the rule {rule!r}; required: one of the forms in docs/format.md"
        raise CorruptDataset(msg)
    if "fold" in rule and rule["fold"] >= rule["folds"]:
        msg = f"the rule {rule!r}; required: a fold below the number of folds"
        raise CorruptDataset(msg)
    if "stratify" in rule and not (rule.get("group", "") is None and _is_strata(rule["stratify"])):
        msg = f"the rule {rule!r}; required: strata of a label, and no group"
        raise CorruptDataset(msg)
    if "labelled" in rule and ("symprec" in rule or not isinstance(rule["labelled"], str)):
        msg = f"the rule {rule!r}; required: the name of a label, in a rule of splits"
        raise CorruptDataset(msg)
    return rule


def _is_fractions(value: Any) -> bool:
    return (
        isinstance(value, list)
        and len(value) == len(RULED)
        and all(_is_share(part) for part in value)
        and 0 < sum(value) <= 1 + 1e-9
    )


def _is_counts(value: Any) -> bool:
    return (
        isinstance(value, list)
        and len(value) == len(RULED)
        and all(type(part) is int and 0 <= part < 2**63 for part in value)
        and sum(value) > 0
    )


def _is_share(value: Any) -> bool:
    return type(value) is float and 0 <= value <= 1


def _is_group(value: Any) -> bool:
    return value is None or isinstance(value, str)


def _is_elements(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and all(isinstance(symbol, str) for symbol in value)


def _is_strata(value: Any) -> bool:
    if not isinstance(value, dict) or set(value) != {"label", "edges"} or not isinstance(value["label"], str):
        return False
    edges = value["edges"]
    return edges is None or (
        isinstance(edges, list)
        and all(type(edge) is float for edge in edges)
        and all(low < high for low, high in pairwise(edges))
    )


_SEED_AND_GROUP: dict[str, Callable[[Any], bool]] = {"seed": lambda seed: type(seed) is int, "group": _is_group}
_RULES: tuple[dict[str, Callable[[Any], bool]], ...] = (
    {"fractions": _is_fractions, **_SEED_AND_GROUP},
    {"counts": _is_counts, "seed": lambda seed: type(seed) is int},
    {
        "fold": lambda fold: type(fold) is int and fold >= 0,
        "folds": lambda folds: type(folds) is int and 2 <= folds <= MAX_FOLDS,
        "val": lambda val: _is_share(val) and val < 1,
        **_SEED_AND_GROUP,
        "seed": lambda seed: type(seed) is int and 0 <= seed < 2**32,
    },
    {
        "leave_out": _is_elements,
        "val": lambda val: _is_share(val) and val < 1,
        "seed": lambda seed: type(seed) is int,
    },
    {"symprec": lambda symprec: type(symprec) is float and symprec > 0},
)


def _statistics(raw: Any) -> dict[str, Any]:
    values = dict(mapping(raw))
    elements = values.pop("elements", {})
    numbers = (type(v) is float or (type(v) is int and -(2**63) <= v < 2**63) for v in values.values())
    known = all(type(energy) is float for energy in mapping(elements).values())
    if set(values) not in _STATISTICS or not all(numbers) or not known:
        msg = f"the statistics {raw!r}; required: numbers by the names in docs/format.md"
        raise CorruptDataset(msg)
    return dict(raw)


_STATISTICS = ({"count", "missing"}, {"count", "missing", "mean", "std", "min", "max"})


def _quarantine(raw: dict[str, Any]) -> Quarantine:
    return Quarantine(_file(raw.pop("file")), count(raw.pop("count")), **raw)


def _provenance(raw: dict[str, Any]) -> Provenance:
    raw = mapping(raw)
    sources = tuple(map(SourceFiles.from_json, sequence(raw.pop("sources"))))
    versions = {name: text(version) for name, version in mapping(raw.pop("versions")).items()}
    return Provenance(sources, versions, texts(raw.pop("notes")), **raw)


def _removal(raw: Any) -> Removal:
    raw = mapping(raw)
    return Removal(texts(raw.pop("removed")), text(raw.pop("reason")), **raw)


def _source_file(raw: dict[str, Any]) -> dict[str, Any]:
    read = {"name": text, "size": count, "sha256": text}
    if set(raw) != set(read):
        msg = f"a file with the keys {sorted(raw)}; required: {sorted(read)}"
        raise CorruptDataset(msg)
    return {name: read[name](value) for name, value in raw.items()}


def row_starts(shards: Iterable[Shard]) -> np.ndarray[Any, np.dtype[np.int64]]:
    """The first row of each shard, and the number of rows at the end."""
    return np.cumsum([0, *(shard.rows for shard in shards)], dtype=np.int64)
