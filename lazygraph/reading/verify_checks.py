"""The checks that ``verify`` is made of: of one file, one page tree, one column, the index, or a range of rows."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Iterator
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray

from lazygraph.errors import CorruptDataset, RecipeError, StorageError
from lazygraph.format.columns import Repeats, bounded, invalid_inputs, invalid_values
from lazygraph.format.digests import BLOCK, blocks_of_graphs, content_id, graph_digest
from lazygraph.format.manifest import Manifest, row_starts
from lazygraph.format.pages import locate
from lazygraph.format.record import unpack
from lazygraph.format.store import Store
from lazygraph.graphs.crystal_records import broken_promises, check_crystals
from lazygraph.graphs.sizes import derived_names
from lazygraph.graphs.spec import GraphSpec
from lazygraph.reading.verify_batches import can_check_together, pieces, records_are_sound
from lazygraph.storage.descriptors import opening
from lazygraph.storage.files import FileRef
from lazygraph.storage.local import LocalStorage

__all__ = [
    "check_column",
    "check_file",
    "check_identity",
    "check_index",
    "check_rows",
    "check_tree",
    "row_columns",
    "sampled_rows",
]


def check_file(store: Store, file: FileRef, *, content: bool = True) -> Iterator[str]:
    """Compare the size of a file with the manifest, and with ``content`` its sha256."""
    try:
        for _ in range(2):
            with os.fdopen(store.storage.descriptor(file), "rb") as opened:
                found = hashlib.file_digest(opened, "sha256").hexdigest() if content else file.sha256
            if found == file.sha256:
                return
            if not store.storage.renew(file):  # a copy in the cache was damaged, and the file is fetched again
                break
        yield f"{store.name}/{file.name} has the sha256 {found}; required: {file.sha256}, as the manifest says"
    except (CorruptDataset, OSError) as error:
        yield _said(error)


def check_rows(store: Store, rows: NDArray[np.int64], *, blocks: bool = True) -> Iterator[str]:
    """Check the records of rows: checksum, form, indices, and what their recipe promises.

    Args:
        store: the dataset.
        rows: in increasing order; with ``blocks`` one range that begins and ends with blocks of 4,096 rows.
        blocks: compare the digests of all graphs of a block with the file of digests too.
    """
    spec = _recipe(store.manifest)
    together = can_check_together(store, spec)
    last_said = ""
    digests: list[bytes] = []  # of the graphs of one block
    for piece in pieces(store, rows):
        sound = together and records_are_sound(store, piece, spec)
        for row in piece.tolist():
            try:
                raw = store.raw(row)
                digests.append(graph_digest(store.checked_column("id").row(row), raw))
                for problem in () if sound else _record(store, row, raw, spec):
                    last_said = store.where(row) + problem
                    yield last_said
            except (CorruptDataset, OSError) as error:
                # What cannot be read for any row, such as the dictionary, is said once.
                if (said := _said(error)) != last_said:
                    last_said = said
                    yield said
            if blocks and ((row + 1) % BLOCK == 0 or row + 1 == len(store)):
                yield from _block(store, row, digests)
                digests = []


def sampled_rows(store: Store, sample: float, seed: int, shard: int) -> NDArray[np.int64]:
    """Some rows of a shard, chosen at random, at least one.

    Args:
        store: the dataset.
        sample: the fraction of the rows.
        seed: of the choice, which depends on nothing else but the number of the shard.
        shard: its number.
    """
    start, end = row_starts(store.manifest.shards)[shard : shard + 2].tolist()
    count = min(end - start, max(1, round(sample * (end - start))))
    chosen = np.random.default_rng([seed, shard]).choice(end - start, count, replace=False)
    rows: NDArray[np.int64] = np.sort(chosen).astype(np.int64) + start
    return rows


def row_columns(store: Store) -> list[str]:
    """Return problems of the columns without which no row can be read."""
    for name in ("record", "id", *(f"n_{axis}" for axis in store.manifest.schema.axes)):
        try:
            store.checked_column(name)
        except (CorruptDataset, OSError) as error:
            return [_said(error)]
    return []


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


def check_identity(store: Store) -> Iterator[str]:
    """Compare the content id with the digests of the blocks."""
    manifest = store.manifest
    if (found := content_id(manifest.recipe, manifest.schema, store.digests()[0])) != manifest.content_id:
        yield f"{store.name}: the content id of the graphs is {found}; the manifest says {manifest.content_id}"


def _said(error: CorruptDataset | OSError) -> str:
    """Return the problems of the dataset. If the process can open no more files, raise this error at once."""
    if isinstance(error, StorageError):
        raise error
    return str(error)


def check_tree(store: Store, number: int) -> Iterator[str]:
    """Yield the problems of a shard's page tree, and of the positions in the column ``record``."""
    shard = store.manifest.shards[number]
    name = f"{store.name}/{shard.file.name}"
    try:
        # Of a directory also a shard of another size: its tree may tell what is wrong.
        file = _opened(store, shard.file)
        if file is None:
            return
        with file:
            found = locate(file.fileno(), os.fstat(file.fileno()).st_size, shard.records)
    except (CorruptDataset, OSError) as error:
        yield f"{name}: {_said(error)}"
        return
    try:
        start = int(row_starts(store.manifest.shards)[number])
        rows = store.checked_column("record").rows(np.arange(start, start + shard.rows))
    except (CorruptDataset, OSError) as error:
        _said(error)  # by those who ask for it themselves
        return
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


def _opened(store: Store, file: FileRef) -> BinaryIO | None:
    """The file of a shard; of a directory also one of another size, whose tree may tell what is wrong."""
    if not isinstance(store.storage, LocalStorage):
        return os.fdopen(store.storage.descriptor(file), "rb")
    path = store.path / file.name
    # Opening a pipe would wait for ever.
    return opening(path, lambda: path.open("rb")) if path.is_file() else None


def check_column(store: Store, name: str) -> Iterator[str]:
    """Yield what is wrong with a column in an intact file: header, blocks, values."""
    column = store.manifest.columns[name]
    try:
        wrong = list(store.checked_column(name).problems())
        yield from wrong
        if not wrong and (problem := invalid_values(column, store.column(name))):
            yield f"{store.name}: the column {name!r} {problem}"
    except (CorruptDataset, OSError) as error:
        yield _said(error)


def check_index(store: Store) -> Iterator[str]:
    """Yield contradictions between columns."""
    if "input" in store.manifest.columns and (said := invalid_inputs(store.column("input"), store.manifest.inputs)):
        yield f"{store.name}: the column 'input' {said}"
    ids, order = store.column("id"), store.column("id_order")
    if not _is_permutation(bounded([order]), len(store)):
        yield f"{store.name}: id_order is not a permutation"
        return
    before = b""  # which no id is
    for rows in bounded([order]):
        ordered = ids[rows]
        if ordered[0] <= before or not (ordered[1:] > ordered[:-1]).all():
            yield f"{store.name}: ids are not unique, or id_order does not sort them"
            return
        before = ordered[-1]


def _is_permutation(pieces: Iterable[NDArray[np.unsignedinteger]], n: int) -> bool:
    """Whether n numbers are 0 to n - 1, with one bit of memory for each."""
    seen = Repeats(n)
    return all(int(piece.max()) < n and seen.first(piece) is None for piece in pieces)


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
        said = {axis: int(store.checked_column(f"n_{axis}").row(row)) for axis in record.schema.axes}
        problems = [
            f"{count} rows along {axis!r}; the column n_{axis} says {said[axis]}"
            for axis, count in zip(record.schema.axes, record.counts, strict=True)
            if count != said[axis]
        ]
        arrays = record.arrays()
        problems += record.invalid_indices(arrays)
        if not problems and spec is not None:
            names = (name for name in derived_names(spec) if name in store.manifest.columns)
            derived = {name: int(store.checked_column(name).row(row)) for name in names}
            problems += broken_promises(spec, record.counts, arrays, derived)
        return problems
    except CorruptDataset as error:
        return [str(error)]
