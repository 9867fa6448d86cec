"""The last step of every change: new files into the dataset directory, then the manifest, atomically.

A change is prepared in a folder below ``NAME.lg.partial``. Its manifest is written there last; from then on the
change is decided, and whoever comes next finishes it (``roll_forward``) if its own process was killed.
"""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Collection, Iterable
from contextlib import suppress
from pathlib import Path

from lazygraph.errors import CorruptDataset, UnsupportedFormat
from lazygraph.format.files import fsync_directory
from lazygraph.format.manifest import MANIFEST, Manifest
from lazygraph.writing.layout import Layout

__all__ = ["GRACE", "collect_garbage", "publish", "resumable", "roll_forward", "sweep"]

GRACE = 3600.0  # seconds for which readers of the state before find their files


def publish(layout: Layout, folder: Path, manifest: Manifest) -> None:
    """Make the files in ``folder`` (``layout.dataset`` or ``layout.edit``) and this manifest what the dataset is.

    A new dataset appears by one rename. An existing one gets its new files first and its manifest last; files of the
    state before stay, files of states before that go once the state before is an hour old.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for path in unreferenced(folder, [manifest]):
        _delete(path)  # left by killed workers
    for path in {(folder / file.name).parent for file in manifest.files()}:
        if path.is_dir():
            fsync_directory(path)
    manifest.publish(folder)
    roll_forward(layout)


def roll_forward(layout: Layout) -> bool:
    """Finish changes that were decided; whether there was a write among them. Every step may be repeated."""
    written = False
    for folder in (layout.edit, layout.dataset):
        if not (folder / MANIFEST).exists():
            continue
        if folder == layout.dataset:
            # The plan is carried out: a later run must not take it for unfinished work.
            written = True
            layout.plan.unlink(missing_ok=True)
            fsync_directory(layout.partial)
        if layout.final.exists():
            _move_into(folder, layout.final)
        elif all((folder / file.name).exists() for file in Manifest.load(folder).files()):
            folder.rename(layout.final)
        else:
            shutil.rmtree(folder)  # a change of a dataset that was deleted since
            continue
        fsync_directory(layout.final.parent)
    if not resumable(layout):
        sweep(layout, keep=(layout.planning,))
    return written


def resumable(layout: Layout) -> bool:
    """Whether the partial folder holds work that a later run can finish: a plan, or a change that was decided."""
    return layout.plan.exists() or any((folder / MANIFEST).exists() for folder in (layout.edit, layout.dataset))


def sweep(layout: Layout, keep: Collection[Path] = ()) -> None:
    """Remove everything from the partial folder but the lock; what a dying worker still writes may stay."""
    for path in layout.partial.glob("*"):
        if path.is_dir():
            shutil.rmtree(path, ignore_errors=True)
        elif path != layout.lock and path not in keep:
            path.unlink(missing_ok=True)


def collect_garbage(directory: Path, manifest: Manifest) -> tuple[int, int]:
    """Delete every file of a dataset directory that its manifest does not name.

    Returns:
        How many files went, and how many bytes.
    """
    sizes = [_delete(path) for path in unreferenced(directory, [manifest])]
    return len(sizes), sum(sizes)


def unreferenced(directory: Path, manifests: Iterable[Manifest]) -> list[Path]:
    """The files below a directory that none of these manifests names."""
    named = {MANIFEST, *(file.name for manifest in manifests for file in manifest.files())}
    found = (Path(root, name) for root, _, names in os.walk(directory) for name in names)
    return sorted(path for path in found if path.relative_to(directory).as_posix() not in named)


def _move_into(folder: Path, final: Path) -> None:
    """New files, then the manifest, from a folder into a dataset directory."""
    new = Manifest.load(folder)
    if (final / MANIFEST).exists() and time.time() - (final / MANIFEST).stat().st_mtime > GRACE:
        # A dataset that is too broken to be read may be overwritten; its files are then left to gc.
        with suppress(CorruptDataset, UnsupportedFormat):
            for path in unreferenced(final, [Manifest.load(final), new]):
                _delete(path)
    for file in new.files():
        if (folder / file.name).exists():
            (final / file.name).parent.mkdir(exist_ok=True)
            (folder / file.name).replace(final / file.name)
    for path in {(final / file.name).parent for file in new.files()}:
        fsync_directory(path)
    (folder / MANIFEST).replace(final / MANIFEST)
    fsync_directory(final)


def _delete(path: Path) -> int:
    size = path.stat().st_size
    path.unlink()
    return size
