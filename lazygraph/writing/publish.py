"""The last step of every change: move new files into the dataset directory, and then the manifest, atomically.

A change is prepared in a folder below ``NAME.lg.partial``. Its manifest is written there last. From then on the change
is decided: if its process is killed, the next process finishes it (``roll_forward``).
"""

from __future__ import annotations

import time
from collections.abc import Collection, Iterable
from contextlib import suppress
from pathlib import Path

from lazygraph.errors import CorruptDataset, StorageError, UnsupportedFormat
from lazygraph.format.manifest import MANIFEST, Manifest
from lazygraph.storage.files import FileRef, fsync_directory, move_file
from lazygraph.storage.locks import OPEN_FILES_MOVE
from lazygraph.writing.hold import Hold
from lazygraph.writing.layout import Layout
from lazygraph.writing.owned import data_files, partial_files, remove_empty, remove_file

__all__ = ["GRACE", "garbage", "publish", "resumable", "roll_forward", "sweep"]

GRACE = 3600.0  # seconds for which the files of the state before stay for its readers


def publish(hold: Hold, folder: Path, manifest: Manifest) -> None:
    """Publish this manifest and the files in a folder (``layout.dataset``, ``edit`` or ``pull``) as the dataset.

    A new dataset appears by one rename. An existing dataset gets the new files first and the manifest last. The files
    of the state before stay. Files of older states are deleted if the state before is more than an hour old.

    Raises:
        StorageError: the folder was deleted or replaced meanwhile. Nothing is published.
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
    """Finish changes that were decided, and return whether one of them was a write. Every step can be repeated."""
    written = False
    for folder in (layout.edit, layout.dataset, layout.pull):
        if not (folder / MANIFEST).exists():
            continue
        if _missing(folder, layout.final, Manifest.load(folder)):
            # A change to a dataset that was deleted or replaced since.
            _remove(partial_files(layout.partial, folder.name))
            continue
        if folder == layout.dataset:
            # The plan is finished. A later run must not take it for unfinished work.
            written = True
            layout.plan.unlink(missing_ok=True)
            fsync_directory(layout.partial)
            _remove(partial_files(layout.partial, layout.pull.name))  # files of an abandoned pull
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
    """Remove the files of writers in the partial folder, except for the lock. Files of a dying worker may stay."""
    for path in partial_files(layout.partial):
        if path != layout.lock and path not in keep:
            with suppress(OSError):  # the next writer tries again
                remove_file(path)
    remove_empty(layout.partial)


def garbage(directory: Path, manifests: Iterable[Manifest]) -> list[tuple[str, Path]]:
    """List the files of earlier states of a dataset: data files that none of these manifests names.

    Returns:
        The name within the dataset, and the path, of each file.
    """
    # Some file systems do not tell "Energy-*.npy" from "energy-*.npy", which then is one file.
    named = {file.name.lower() for manifest in manifests for file in manifest.files()}
    return [(name, path) for name, path in data_files(directory) if name.lower() not in named]


def _missing(folder: Path, final: Path, manifest: Manifest) -> FileRef | None:
    """Return the first file of a manifest that is neither among the new files nor in the dataset."""
    files = manifest.files()
    return next((f for f in files if not ((folder / f.name).exists() or (final / f.name).exists())), None)


def _strays(folder: Path, layout: Layout, manifest: Manifest) -> list[Path]:
    """Return the files of killed processes in a prepared folder, which its manifest does not name."""
    named = {name.lower() for name in (MANIFEST, *(file.name for file in manifest.files()))}
    files = partial_files(layout.partial, folder.name)
    return [path for path in files if path.relative_to(folder).as_posix().lower() not in named]


def _make_final(folder: Path, layout: Layout) -> None:
    """Make a prepared folder the dataset, by one rename unless the folder holds files of the user or is in use."""
    # After a power failure, a renamed file can exist under both names.
    _remove(_strays(folder, layout, Manifest.load(folder)))
    own = {*partial_files(layout.partial, folder.name), folder / "shards", folder / "columns"}
    if own.issuperset(folder.rglob("*")):
        try:
            folder.rename(layout.final)
        except PermissionError:  # Windows, where a program looks at one of the files
            if OPEN_FILES_MOVE:
                raise
        else:
            return
    layout.final.mkdir()
    _move_into(folder, layout.final)


def _move_into(folder: Path, final: Path) -> None:
    """Move the new files, then the manifest, from a folder into a dataset directory."""
    new = Manifest.load(folder)
    if (final / MANIFEST).exists() and time.time() - (final / MANIFEST).stat().st_mtime > GRACE:
        # A dataset that cannot be read may be overwritten. ``lazygraph gc`` deletes its files later.
        with suppress(CorruptDataset, UnsupportedFormat):
            _remove(path for _, path in garbage(final, [Manifest.load(final), new]))
    for file in new.files():
        if (folder / file.name).exists():
            (final / file.name).parent.mkdir(exist_ok=True)
            move_file(folder / file.name, final / file.name)
    for path in {(final / file.name).parent for file in new.files()}:
        fsync_directory(path)
    move_file(folder / MANIFEST, final / MANIFEST)
    fsync_directory(final)


def _remove(paths: Iterable[Path]) -> None:
    for path in paths:
        remove_file(path)
