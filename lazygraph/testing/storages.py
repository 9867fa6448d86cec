"""What every storage promises."""

from __future__ import annotations

import os
import pickle
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from lazygraph.errors import CorruptDataset, DatasetNotFound
from lazygraph.format.manifest import Manifest
from lazygraph.format.store import Store
from lazygraph.reading.verify import verify
from lazygraph.storage.base import Storage
from lazygraph.storage.files import FileRef
from lazygraph.testing.crystals import sample_crystals
from lazygraph.writing.write import write

__all__ = ["StorageContract"]


class StorageContract:
    """Tests of a storage. A subclass says how a dataset comes into it.

    Example:
        class TestZip(StorageContract):
            def put(self, dataset, folder):
                path = folder / "d.zip"
                ...  # every file of the dataset, by its name
                return f"zip://{path}"

            def empty(self, folder):
                return f"zip://{folder / 'nothing.zip'}"
    """

    def put(self, dataset: Path, folder: Path) -> str | Storage:
        """Put the files of a dataset directory into the storage; return the URL, or the storage."""
        raise NotImplementedError

    def empty(self, folder: Path) -> str | Storage:
        """Return the URL, or the storage, of a place where there is no dataset."""
        raise NotImplementedError

    @pytest.fixture
    def local(self, tmp_path: Path) -> Path:
        """A dataset directory of two shards."""
        rows = [(f"id-{n}", crystal, {"n": n}) for n, crystal in enumerate(sample_crystals())]
        write(rows, tmp_path / "d.lg", graph="cgcnn", workers=1, shard_size=4, progress=False)
        return tmp_path / "d.lg"

    @pytest.fixture
    def store(self, local: Path, tmp_path: Path) -> Store:
        """The same dataset in the storage."""
        return Store(self.put(local, tmp_path))

    def test_it_is_a_storage(self, store: Store) -> None:
        """It has all methods, and travels to other processes."""
        assert isinstance(store.storage, Storage)
        assert isinstance(store.storage.name, str)
        again = pickle.loads(pickle.dumps(store.storage))  # noqa: S301  # our own
        assert again.manifest() == store.storage.manifest()
        assert again.state() == store.storage.state()

    def test_every_graph_is_what_it_is_in_the_directory(self, local: Path, store: Store) -> None:
        """One by one and in batches, by row and by id."""
        known = Store(local)
        assert store.manifest == known.manifest
        rows = np.array([3, 0, 5, 5, 1], np.int64)
        for row in range(len(known)):
            assert store.raw(row) == known.raw(row)
            assert store.row_of(known.graph_id(row)) == row
        for name in known.manifest.columns:
            assert store.column(name).tobytes() == known.column(name).tobytes()
        mine, theirs = store.read_batch(rows), known.read_batch(rows)
        for name, values in theirs.fields.items():
            assert np.array_equal(mine.fields[name], values), name
        assert verify(store.storage).problems == ()

    def test_ranges_are_those_of_the_file(self, local: Path, store: Store) -> None:
        """Every range, also an empty one, and one that the file ends in."""
        for file in store.manifest.files():
            content = (local / file.name).read_bytes()
            ranges = [(0, file.size), (file.size // 3, 7), (file.size, 0), (0, 0), (file.size - 1, 1)]
            assert store.storage.read(file, ranges) == [content[a : a + n] for a, n in ranges]
            with os.fdopen(store.storage.descriptor(file), "rb") as opened:
                assert opened.read() == content

    def test_threads_share_it(self, store: Store) -> None:
        """Eight threads read all graphs."""
        expected = [store.raw(row) for row in range(len(store))]
        with ThreadPoolExecutor(8) as pool:
            found = list(pool.map(lambda n: store.raw(n % len(store)), range(200)))
        assert found == [expected[n % len(store)] for n in range(200)]

    def test_a_file_that_is_not_there_is_not_found(self, store: Store) -> None:
        """Both ways to ask for it say so."""
        digest = "0" * 64
        file = FileRef(f"dictionary-{digest[:16]}.zstd", 10, digest)
        with pytest.raises(FileNotFoundError):
            store.storage.descriptor(file)
        with pytest.raises(FileNotFoundError):
            store.storage.read(file, [(0, 10)])

    def test_a_file_of_another_size_is_damage(self, store: Store) -> None:
        """And is not taken for the file that the manifest names."""
        file = store.manifest.digests
        with pytest.raises(CorruptDataset):
            store.storage.descriptor(file._replace(size=file.size + 1))

    def test_where_nothing_is_there_is_no_dataset(self, tmp_path: Path) -> None:
        """One error for it, as for a path."""
        with pytest.raises(DatasetNotFound):
            Store(self.empty(tmp_path))

    def test_the_state_is_that_of_the_dataset(self, local: Path, store: Store) -> None:
        """It stays while nothing changes, and the manifest is the one that was put there."""
        before = store.storage.state()
        store.raw(0)
        assert store.storage.state() == before
        assert Manifest.load(store.storage) == Manifest.load(local)
