"""The last step of every change: new files into the dataset directory, then the manifest, atomically.

A change is prepared in a folder below ``NAME.lg.partial``. Its manifest is written there last; from then on the
change is decided, and whoever comes next finishes it (``roll_forward``) if its own process was killed.
"""

from __future__ import annotations

import time
from collections.abc import Collection, Iterable
from contextlib import suppress
from pathlib import Path

from lazygraph.errors import CorruptDataset, StorageError, UnsupportedFormat
from lazygraph.format.manifest import MANIFEST, Manifest
from lazygraph.storage.files import FileRef, fsync_directory
from lazygraph.writing.hold import Hold
from lazygraph.writing.layout import Layout
from lazygraph.writing.owned import data_files, partial_files, remove_empty, remove_file

__all__ = ["GRACE", "garbage", "publish", "resumable", "roll_forward", "sweep"]

GRACE = 3600.0  # seconds for which readers of the state before find their files


def publish(hold: Hold, folder: Path, manifest: Manifest) -> None:
    """Make the files in a folder (``layout.dataset``, ``edit`` or ``pull``) and this manifest what the dataset is.

    A new dataset appears by one rename. An existing one gets its new files first and its manifest last; files of the
    state before stay, files of states before that go once the state before is an hour old.

    Raises:
        StorageError: somebody deleted or replaced the folder meanwhile; then nothing is published.
    """
    layout = hold.layout
    hold.check()
    manifest.check()  # before the change is decided
    folder.mkdir(parents=True, exist_ok=True)
    _remove(_strays(folder, layout, manifest))
    if missing := _missing(folder, layout.final, manifest):
        msg = f"{folder / missing.name} is gone, so nothing was published; run the same command again"
        raise StorageError(msg)
    for path in {(folder / file.name).parent for file in manifest.files()}:
        if path.is_dir():
            fsync_directory(path)
    hold.check()
    manifest.publish(folder)
    roll_forward(layout)


def roll_forward(layout: Layout) -> bool:
    """Finish changes that were decided; whether there was a write among them. Every step may be repeated."""
    written = False
    for folder in (layout.edit, layout.dataset, layout.pull):
        if not (folder / MANIFEST).exists():
            continue
        if _missing(folder, layout.final, Manifest.load(folder)):
            # A change of a dataset that was deleted since, or replaced by another one.
            _remove(partial_files(layout.partial, folder.name))
            continue
        if folder == layout.dataset:
            # The plan is carried out: a later run must not take it for unfinished work.
            written = True
            layout.plan.unlink(missing_ok=True)
            fsync_directory(layout.partial)
            _remove(partial_files(layout.partial, layout.pull.name))  # of a pull that was given up for this
        if layout.final.exists():
            _move_into(folder, layout.final)
        else:
            _make_final(folder, layout)
        fsync_directory(layout.final.parent)
    if not resumable(layout):
        sweep(layout, keep=(layout.planning,))
    return written


def resumable(layout: Layout) -> bool:
    """Whether the partial folder holds work for a later run: a plan, a change that was decided, or files of a pull."""
    decided = any((folder / MANIFEST).exists() for folder in (layout.edit, layout.dataset))
    return layout.plan.exists() or decided or any(True for _ in partial_files(layout.partial, layout.pull.name))


def sweep(layout: Layout, keep: Collection[Path] = ()) -> None:
    """Remove all that writers left in the partial folder, but the lock; what a dying worker still writes may stay."""
    for path in partial_files(layout.partial):
        if path != layout.lock and path not in keep:
            with suppress(OSError):  # the next writer tries again
                remove_file(path)
    remove_empty(layout.partial)


def garbage(directory: Path, manifests: Iterable[Manifest]) -> list[tuple[str, Path]]:
    """The files of earlier states of a dataset: data files that none of these manifests names.

    Returns:
        Name within the dataset, and path, of each.
    """
    named = {file.name for manifest in manifests for file in manifest.files()}
    return [(name, path) for name, path in data_files(directory) if name not in named]


def _missing(folder: Path, final: Path, manifest: Manifest) -> FileRef | None:
    """The first file of a manifest that is neither among the new ones nor in the dataset."""
    files = manifest.files()
    return next((f for f in files if not ((folder / f.name).exists() or (final / f.name).exists())), None)


def _strays(folder: Path, layout: Layout, manifest: Manifest) -> list[Path]:
    """The files of killed processes in a prepared folder, which its manifest does not name."""
    named = {folder / MANIFEST, *(folder / file.name for file in manifest.files())}
    return [path for path in partial_files(layout.partial, folder.name) if path not in named]


def _make_final(folder: Path, layout: Layout) -> None:
    """Make a prepared folder the dataset: by one rename, unless it holds files that the user put there."""
    # Where the power failed, a file that was renamed can be there under both names.
    _remove(_strays(folder, layout, Manifest.load(folder)))
    own = {*partial_files(layout.partial, folder.name), folder / "shards", folder / "columns"}
    if own.issuperset(folder.rglob("*")):
        folder.rename(layout.final)
    else:
        layout.final.mkdir()
        _move_into(folder, layout.final)


def _move_into(folder: Path, final: Path) -> None:
    """New files, then the manifest, from a folder into a dataset directory."""
    new = Manifest.load(folder)
    if (final / MANIFEST).exists() and time.time() - (final / MANIFEST).stat().st_mtime > GRACE:
        # A dataset that is too broken to be read may be overwritten; its files are then left to gc.
        with suppress(CorruptDataset, UnsupportedFormat):
            _remove(path for _, path in garbage(final, [Manifest.load(final), new]))
    for file in new.files():
        if (folder / file.name).exists():
            (final / file.name).parent.mkdir(exist_ok=True)
            (folder / file.name).replace(final / file.name)
    for path in {(final / file.name).parent for file in new.files()}:
        fsync_directory(path)
    (folder / MANIFEST).replace(final / MANIFEST)
    fsync_directory(final)


def _remove(paths: Iterable[Path]) -> None:
    for path in paths:
        remove_file(path)
