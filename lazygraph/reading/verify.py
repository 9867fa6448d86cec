"""Verification that a dataset is exactly what was written."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np

from lazygraph.errors import CorruptDataset, RecipeError, StorageError
from lazygraph.format.columns import invalid_inputs, invalid_values
from lazygraph.format.digests import BLOCK, blocks_of_graphs, content_id, graph_digest
from lazygraph.format.manifest import Manifest, row_starts
from lazygraph.format.pages import locate
from lazygraph.format.record import unpack
from lazygraph.format.store import Store
from lazygraph.graphs.crystal_records import broken_promises, check_crystals
from lazygraph.graphs.sizes import derived_names
from lazygraph.graphs.spec import GraphSpec
from lazygraph.storage.base import Storage
from lazygraph.storage.descriptors import opening
from lazygraph.storage.files import sha256_of

__all__ = ["Verification", "verify"]


@dataclass(frozen=True, slots=True)
class Verification:
    """The result of ``verify``: what was checked, and one sentence for every problem."""

    graphs: int
    files: int
    size: int
    problems: tuple[str, ...]


def verify(path: str | os.PathLike[str] | Storage, progress: Callable[[int], None] | None = None) -> Verification:
    """Verify a dataset: size and sha256 of every file, page trees, every record, every index, ids, and the content id.

    All files are hashed before anything else reads them. ``verify`` walks the page trees that LMDB would follow with
    its own bounded reads, also in a file with a wrong hash, to name the exact fault. It repairs nothing.

    Args:
        path: the dataset directory, the URL of a storage that is installed, or a storage.
        progress: called with the number of graphs checked since the last call.

    Returns:
        What was checked, and all problems.

    Raises:
        DatasetNotFound, CorruptDataset, UnsupportedFormat: the manifest cannot be read.
        StorageError: the process can open no more files, which says nothing about the dataset.
    """
    store = Store(path)
    manifest = store.manifest
    spec = _recipe(manifest)
    problems = list(_files(store))
    damaged = bool(problems)
    for number in range(len(manifest.shards)):
        problems += _tree(store, number)
    if not damaged:
        problems += _columns(store) or _index(store)
    digests: list[bytes] = []  # of the graphs of one block
    step = 1000
    for row in _rows(store, problems):
        try:
            raw = store.raw(row)
            digests.append(graph_digest(store.checked_column("id").row(row), raw))
            problems += [store.where(row) + problem for problem in _record(store, row, raw, spec)]
        except (CorruptDataset, OSError) as error:
            # What cannot be read for any row, such as the dictionary, is said once.
            if not problems or problems[-1] != _said(error):
                problems.append(_said(error))
        if (row + 1) % BLOCK == 0 or row + 1 == len(store):
            problems += _block(store, row, digests)
            digests = []
        if progress is not None and (row + 1) % step == 0:
            progress(step)
    if not problems:
        problems += _identity(store)
    files = manifest.files()
    return Verification(len(store), len(files) + 1, sum(file.size for file in files), tuple(problems))


def _block(store: Store, last: int, digests: list[bytes]) -> Iterator[str]:
    """Compare the graphs of the block that ends with row ``last`` with their digest, if all of them could be read."""
    first = last // BLOCK * BLOCK
    if len(digests) != last + 1 - first:
        return
    try:
        wanted = store.digests()[0][last // BLOCK].tobytes()
    except (CorruptDataset, OSError):
        return  # said of the file
    found = blocks_of_graphs(np.frombuffer(b"".join(digests), "V32"))[0].tobytes()
    if found != wanted:
        yield (
            f"{store.name}: the digest of the graphs of rows {first} to {last} is {found.hex()}; "
            f"required: {wanted.hex()}, as the file of digests says"
        )


def _identity(store: Store) -> Iterator[str]:
    manifest = store.manifest
    if (found := content_id(manifest.recipe, manifest.schema, store.digests()[0])) != manifest.content_id:
        yield f"{store.name}: the content id of the graphs is {found}; the manifest says {manifest.content_id}"


def _files(store: Store) -> Iterator[str]:
    for file in store.manifest.files():
        try:
            path = store.storage.path(file)
            if (found := sha256_of(path)) != file.sha256:
                yield f"{path} has the sha256 {found}; required: {file.sha256}, as the manifest says"
        except (CorruptDataset, OSError) as error:
            yield _said(error)


def _said(error: CorruptDataset | OSError) -> str:
    """Return the problems of the dataset. If the process can open no more files, raise this error at once."""
    if isinstance(error, StorageError):
        raise error
    return str(error)


def _tree(store: Store, number: int) -> Iterator[str]:
    """Yield the problems of a shard's page tree, and of the positions in the column ``record``."""
    shard = store.manifest.shards[number]
    name = f"{store.name}/{shard.file.name}"
    try:
        # Of a directory also a shard of another size: its tree may tell what is wrong.
        path = store.path / shard.file.name if store.storage.is_local else store.storage.path(shard.file)
        if not path.is_file():  # opening a pipe would wait for ever
            return
        with opening(path, lambda: path.open("rb")) as file:
            found = locate(file.fileno(), os.fstat(file.fileno()).st_size, shard.records)
    except (CorruptDataset, OSError) as error:
        yield f"{name}: {_said(error)}"
        return
    try:
        column = store.column("record")
    except (CorruptDataset, OSError) as error:
        _said(error)  # by those who ask for it themselves
        return
    start = int(row_starts(store.manifest.shards)[number])
    rows = column[start : start + shard.rows]
    claimed = np.column_stack([rows["offset"].astype(np.int64), rows["length"].astype(np.int64)])
    keys = shard.keys()
    wrong = (found[keys] != claimed).any(axis=1)
    if wrong.any():
        row = int(np.argmax(wrong))
        # Not from ``claimed``, where an offset may have become negative.
        (offset, length, _), (there, size) = rows[row].item(), found[keys[row]].tolist()
        yield (
            f"{name}, row {start + row}: the column record says {length} bytes at {offset}; "
            f"the page tree of the shard has its record, of key {keys[row]}, in {size} bytes at {there}"
        )


def _rows(store: Store, problems: list[str]) -> range:
    """Return the rows to check: none if a column is empty, whatever number of graphs the manifest gives."""
    try:
        for name in ("record", "id", *(f"n_{axis}" for axis in store.manifest.schema.axes)):
            store.column(name)
    except (CorruptDataset, OSError) as error:
        if _said(error) not in problems:
            problems.append(_said(error))
        return range(0)
    return range(len(store))


def _columns(store: Store) -> list[str]:
    """Return columns with an invalid header or invalid values in an intact file."""
    problems = []
    for name, column in store.manifest.columns.items():
        try:
            wrong = list(store.checked_column(name).problems())
            problems += wrong
            if not wrong and (problem := invalid_values(column, store.column(name))):
                problems.append(f"{store.name}: the column {name!r} {problem}")
        except (CorruptDataset, OSError) as error:
            problems.append(_said(error))
    return problems


def _index(store: Store) -> Iterator[str]:
    """Yield contradictions between columns."""
    ids, order = store.column("id"), store.column("id_order")
    n = len(store)
    if "input" in store.manifest.columns and (said := invalid_inputs(store.column("input"), store.manifest.inputs)):
        yield f"{store.name}: the column 'input' {said}"
    # The greatest first, for there is a count for every number up to it.
    if order.max(initial=0) >= max(n, 1) or (np.bincount(order.astype(np.int64), minlength=n) != 1).any():
        yield f"{store.name}: id_order is not a permutation"
    else:
        ordered = ids[order]
        if not (ordered[1:] > ordered[:-1]).all():
            yield f"{store.name}: ids are not unique, or id_order does not sort them"


def _recipe(manifest: Manifest) -> GraphSpec | None:
    """Return the recipe of crystals; None if there is no recipe that this version knows."""
    try:
        spec = None if manifest.recipe is None else GraphSpec.from_json(manifest.recipe)
        if spec is not None:
            check_crystals(manifest.schema, spec)
    except (RecipeError, CorruptDataset):  # who opens the dataset is told
        return None
    return spec


def _record(store: Store, row: int, raw: bytes, spec: GraphSpec | None) -> list[str]:
    """Return problems of a record with a right checksum: form, counts that differ from columns, invalid indices."""
    try:
        record = unpack(store.manifest.schema, raw)
        said = {axis: int(store.column(f"n_{axis}")[row]) for axis in record.schema.axes}
        problems = [
            f"{count} rows along {axis!r}; the column n_{axis} says {said[axis]}"
            for axis, count in zip(record.schema.axes, record.counts, strict=True)
            if count != said[axis]
        ]
        problems += record.invalid_indices()
        if not problems and spec is not None:
            names = (name for name in derived_names(spec) if name in store.manifest.columns)
            derived = {name: int(store.column(name)[row]) for name in names}
            problems += broken_promises(spec, record.counts, record.arrays(), derived)
        return problems
    except CorruptDataset as error:
        return [str(error)]
