"""The function ``pull``, which copies a dataset from any storage to a folder of this machine and checks every byte."""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from lazygraph.errors import CorruptDataset, DatasetReplaced, LazyGraphError, OutputExists, UnsupportedFormat
from lazygraph.format.manifest import MANIFEST, Manifest
from lazygraph.format.store import Store
from lazygraph.reading.verify import verify
from lazygraph.sharing.progress import Transfer, transfer
from lazygraph.storage.base import Storage, open_storage
from lazygraph.storage.files import FileRef, write_checked
from lazygraph.storage.local import LocalStorage
from lazygraph.writing.copy import subset
from lazygraph.writing.layout import Layout
from lazygraph.writing.lock import exclusive
from lazygraph.writing.owned import is_dataset, partial_files, remove_file
from lazygraph.writing.publish import publish

__all__ = ["PullReport", "copy_whole", "pull"]


@dataclass(frozen=True, slots=True)
class PullReport:
    """What a pull did.

    Attributes:
        path: the dataset directory.
        graphs: number of its graphs.
        content_id: the identity of its graphs.
        copied: bytes that were copied.
        kept: bytes of files that were there before, from a pull that was stopped or an earlier state of the dataset.
        notes: one sentence for each kind of data that a part of a dataset leaves out.
    """

    path: Path
    graphs: int
    content_id: str
    copied: int
    kept: int
    notes: tuple[str, ...] = ()


def pull(
    source: str | os.PathLike[str] | Storage,
    out: str | os.PathLike[str],
    *,
    where: str | None = None,
    ids: Sequence[str] | None = None,
    split: str | None = None,
    content_id: str | None = None,
    overwrite: bool = False,
    progress: bool = True,
) -> PullReport:
    """Copy a dataset, or a part of it, from a server or another folder into a folder of this machine.

    The size and the sha256 of each file are compared while it is copied. The dataset appears when all of its files are
    on the disk, with the same bytes as in the source. If a pull is stopped or killed, the same call continues: files
    that were copied completely are checked and kept. At most 8 MiB are in memory.

    Nothing is copied if ``out`` holds this dataset already. Then only the sizes of its files are compared; a file that
    is missing or has another size is copied again. :func:`lazygraph.reading.verify.verify` checks every byte.

    Args:
        source: the dataset: a directory, a URL as ``LazyGraphDataset`` takes it, or a storage.
        out: the dataset directory to write.
        where: copy the graphs that meet this condition on columns, as ``LazyGraphDataset.where`` takes it. With
            ``where``, ``ids`` or ``split``, the result equals the result of :func:`lazygraph.subset`. From a server,
            the columns are fetched first, and then the needed records, or a whole shard if an eighth of it is needed.
            If such a pull is stopped, the next pull begins again, with the shards in the cache.
        ids: copy the graphs with these ids, in this order.
        split: copy the graphs of this split.
        content_id: the identity that the graphs of the source must have, as ``lazygraph info`` prints it. Every graph
            is then compared with this identity before the dataset appears. If you copy a part, only the digests of the
            graphs are compared.
        overwrite: replace an existing dataset. Files that both datasets share are kept.
        progress: show the progress on stderr, except for a part of a dataset.

    Returns:
        What was copied.

    Raises:
        DatasetNotFound: there is no dataset at the source.
        ContentMismatch: the source has another content id than ``content_id``.
        TransferError: the server cannot be reached, or refuses.
        CorruptDataset: a file of the source is missing or damaged; the message names it.
        DatasetReplaced: the source was changed while it was copied, and a file is gone.
        UnsupportedFormat: a newer release wrote the source.
        OutputExists: ``out`` holds another dataset, other labels or splits, something else, or the source itself.
        WriterBusy: another process is writing ``out``.
        StorageError: ``out`` cannot be written, for example because the disk is full.

    Example:
        >>> import tempfile, lazygraph as lg
        >>> folder = tempfile.TemporaryDirectory()
        >>> _ = lg.write("prototypes:30?seed=0", folder.name + "/p.lg", workers=1)
        >>> pull(folder.name + "/p.lg", folder.name + "/copy.lg").graphs
        30
        >>> pull(folder.name + "/p.lg", folder.name + "/copy.lg").copied
        0
        >>> folder.cleanup()
    """
    if where is not None or ids is not None or split is not None:
        return _part(source, out, where=where, ids=ids, split=split, content_id=content_id, overwrite=overwrite)
    return copy_whole(source, out, content_id=content_id, replace=lambda _: overwrite, progress=progress)


def copy_whole(
    source: str | os.PathLike[str] | Storage,
    out: str | os.PathLike[str],
    *,
    content_id: str | None = None,
    replace: Callable[[Path], bool],
    progress: bool,
) -> PullReport:
    """Copy a whole dataset, as ``pull`` does.

    Args:
        source: the dataset.
        out: the dataset directory to write.
        content_id: the identity that the graphs must have.
        replace: called with the directory of another dataset that is there, while no other process writes it. It
            returns whether that is replaced, and may raise an error that says why not.
        progress: show the progress on stderr.
    """
    storage, layout = open_storage(source), Layout.of(out)
    store = Store(storage)
    manifest = store.manifest
    manifest.check_writable(storage.name)
    if content_id is not None:
        store.check_content(content_id)
    _check_apart(storage, layout)
    files = dict.fromkeys(manifest.files())  # columns of equal values may share a file
    size = sum(file.size for file in files)
    # Without the lock: jobs that begin together may all ask for a dataset that has long been there.
    if _missing(layout, manifest) == []:
        if content_id is not None:
            _check_graphs(LocalStorage(layout.final), content_id)
        return PullReport(layout.final, manifest.graphs, manifest.content_id, 0, size)
    copied = 0
    with exclusive(layout) as hold:
        missing = _missing(layout, manifest)  # another pull may have finished meanwhile
        if missing is None:
            _check_output(layout, manifest, replace)
            missing = list(files)
        _remove_others(layout, {file.name for file in files})
        with closing(transfer(size, "pulling", show=progress)) as shown:
            for file in missing:
                copied += _bring(storage, manifest, file, layout, shown)
        if content_id is not None:
            _check_graphs(_Copied((layout.pull, layout.final), manifest.to_bytes()), content_id)
        if missing:
            publish(hold, layout.pull, manifest)
    return PullReport(layout.final, manifest.graphs, manifest.content_id, copied, size - copied)


def _check_graphs(storage: Storage, content_id: str) -> None:
    """Compare every graph with the digests that its content id is made of, which no server can imitate."""
    problems = list(verify(storage).problems)
    if not problems and (found := Manifest.load(storage).content_id) != content_id:
        problems = [f"it has the content id {found}"]
    if problems:
        msg = f"{storage.name} does not hold the graphs of the content id {content_id}. {problems[0]}"
        raise CorruptDataset(msg)


@dataclass(frozen=True, slots=True)
class _Copied:
    """The files of a pull that is not published yet: those that were copied, and those of the dataset that is there."""

    folders: tuple[Path, Path]
    content: bytes

    @property
    def name(self) -> str:
        return f"the copy in {self.folders[0]}"

    def manifest(self) -> bytes:
        return self.content

    def is_at_hand(self, file: FileRef) -> bool:  # noqa: ARG002  # whatever the file
        return True

    def descriptor(self, file: FileRef) -> int:
        return self._of(file).descriptor(file)

    def read(self, file: FileRef, ranges: Sequence[tuple[int, int]]) -> list[bytes]:
        return self._of(file).read(file, ranges)

    def stream(self, file: FileRef) -> Iterator[bytes]:
        return self._of(file).stream(file)

    def renew(self, file: FileRef) -> bool:  # noqa: ARG002  # there is no other copy
        return False

    def state(self) -> int:
        return 0

    def _of(self, file: FileRef) -> LocalStorage:
        copied, there = self.folders
        return LocalStorage(copied if (copied / file.name).exists() else there)


def _part(
    source: str | os.PathLike[str] | Storage,
    out: str | os.PathLike[str],
    *,
    where: str | None,
    ids: Sequence[str] | None,
    split: str | None,
    content_id: str | None,
    overwrite: bool,
) -> PullReport:
    store, notes = Store(open_storage(source)), list[str]()
    if content_id is not None:
        store.check_content(content_id)
        notes = ["the digests of the graphs have the content id; the graphs of a part are not compared one by one"]
    report = subset(store, out, where=where, ids=ids, split=split, overwrite=overwrite)
    manifest = Manifest.load(report.path)
    size = sum(file.size for file in manifest.files())
    return PullReport(report.path, report.graphs, manifest.content_id, size, 0, (*notes, *report.notes))


def _missing(layout: Layout, manifest: Manifest) -> list[FileRef] | None:
    """The files that the output lacks of this very dataset, by name and size; None where it is not this dataset."""
    try:
        if not (layout.final / MANIFEST).is_file() or Manifest.load(layout.final) != manifest:
            return None
    except (CorruptDataset, UnsupportedFormat):
        return None
    return [file for file in dict.fromkeys(manifest.files()) if not _has_size(layout.final, file)]


def _has_size(folder: Path, file: FileRef) -> bool:
    try:
        file.check_size(folder)
    except (FileNotFoundError, CorruptDataset):
        return False
    return True


def _check_apart(storage: Storage, layout: Layout) -> None:
    if isinstance(storage, LocalStorage) and storage.directory.resolve() == layout.final.resolve():
        msg = f"{layout.final} is the dataset that is read; choose another name"
        raise OutputExists(msg)


def _check_output(layout: Layout, manifest: Manifest, replace: Callable[[Path], bool]) -> None:
    """Refuse to write over what is there, unless it is a dataset and may be replaced."""
    final = layout.final
    if final.exists() and not is_dataset(final):
        msg = f"{final} exists and is not a lazygraph dataset; choose another name"
        raise OutputExists(msg)
    if layout.plan.exists():
        msg = f"{layout.partial} holds an unfinished dataset; finish it, or delete that folder"
        raise OutputExists(msg)
    if final.exists() and not replace(final):
        msg = f"{final} holds {_other(final, manifest)}; choose another name, or replace it with --overwrite "
        raise OutputExists(msg + "(overwrite=True)")


def _other(final: Path, manifest: Manifest) -> str:
    """What a dataset is that is not the source."""
    try:
        found = Manifest.load(final)
    except (CorruptDataset, UnsupportedFormat):
        return "a dataset that cannot be read"
    if found.content_id == manifest.content_id:
        return f"the same graphs (content id {found.content_id}) with other labels, splits, description or compression"
    return f"another dataset (content id {found.content_id}; the source has {manifest.content_id})"


def _bring(storage: Storage, manifest: Manifest, file: FileRef, layout: Layout, shown: Transfer) -> int:
    """Have a file in the folder of the pull, or in the dataset that is there, whole and checked.

    Returns:
        The bytes that were copied.
    """
    for folder in (layout.pull, layout.final):
        try:
            file.check(folder)
        except (FileNotFoundError, NotADirectoryError, CorruptDataset):
            continue
        shown.add(file.size)
        return 0
    source = f"{storage.name}/{file.name}"
    try:
        try:
            write_checked(layout.pull, file, _pieces(storage, file, shown), source)
        except CorruptDataset:
            if not storage.renew(file):  # a copy in the cache was damaged
                raise
            write_checked(layout.pull, file, _pieces(storage, file, shown), source)
    except CorruptDataset as error:
        if Manifest.load(storage) != manifest:
            msg = f"{storage.name} was changed while it was copied: {file.name} is no longer the same; pull it again"
            raise DatasetReplaced(msg) from error
        raise
    return file.size


def _pieces(storage: Storage, file: FileRef, shown: Transfer) -> Iterator[bytes]:
    """A file of the storage from its beginning to its end, or to where it was cut off."""
    name = f"{storage.name}/{file.name}"
    pieces = storage.stream(file)
    while True:
        try:
            piece = next(pieces, None)
        except FileNotFoundError as error:
            msg = f"{name} is missing, and the manifest names it"
            raise CorruptDataset(msg) from error
        except OSError as error:
            if isinstance(error, LazyGraphError) or error.errno is None:
                raise
            raise OSError(error.errno, f"{name}: {error.strerror}") from error
        if piece is None:
            return
        yield piece
        shown.add(len(piece))


def _remove_others(layout: Layout, names: Collection[str]) -> None:
    """Remove what pulls that were killed, or of another dataset, left in the folder."""
    for path in partial_files(layout.partial, layout.pull.name):
        if path.relative_to(layout.pull).as_posix() not in names:
            remove_file(path)
