"""Recognise lazygraph's own files. lazygraph deletes only regular files with a name that lazygraph gives.

A dataset directory may hold other files: README.md, .git, notebooks, another dataset. The folder of an unfinished
dataset may hold them too. Only folders with known names are listed, and links are not followed, so lazygraph never
leaves the directory.
"""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path

from lazygraph.errors import CorruptDataset, UnsupportedFormat
from lazygraph.format.manifest import MANIFEST, Manifest
from lazygraph.storage.files import FILE_NAME
from lazygraph.storage.locks import OPEN_FILES_MOVE

__all__ = ["data_files", "is_dataset", "partial_files", "remove_empty", "remove_file"]

_DATA = f"{re.escape(MANIFEST)}|{FILE_NAME.pattern}"
_DATA_FOLDERS = ("shards", "columns")
_WORK = (
    r"lock|plan|planning|at/[0-9]{5,}-[0-9a-f]{12}(\.json)?|done/[0-9]{5,}\.msgpack"
    r"|spool(\.new)?/[0-9]{5,}(\.(columns|facts\.json|frames))?"
    rf"|(dataset|edit|pull)/({_DATA}|shards/[0-9]{{5,}}\.lmdb)"
)
_WORK_FOLDERS = (
    *(f"{folder}/{inner}" for folder in ("dataset", "edit", "pull") for inner in _DATA_FOLDERS),
    *("at", "done", "spool", "spool.new", "dataset", "edit", "pull"),
)
_OWN_WORK = re.compile(_WORK)
_TEMPORARY = re.compile(r"\.(.+)\.[0-9a-f]{16}\.tmp")  # as format.files.temporary_beside names them


def data_files(directory: Path) -> Iterator[tuple[str, Path]]:
    """Return the data files of a dataset directory, also of earlier states: name as in a manifest, and path."""
    for name, path in _regular(directory, ("", *_DATA_FOLDERS)):
        if FILE_NAME.fullmatch(name):
            yield name, path


def is_dataset(directory: Path) -> bool:
    """Whether a directory is a lazygraph dataset, even a damaged one. Other programs have a manifest.json too."""
    if not (directory / MANIFEST).is_file():
        return False
    if any(True for _ in data_files(directory)):
        return True
    try:
        Manifest.load(directory)
    except CorruptDataset:
        return False
    except UnsupportedFormat:
        pass
    return True


def partial_files(partial: Path, below: str = "") -> Iterator[Path]:
    """Yield the files that writers, also killed ones, made in ``NAME.lg.partial`` or in its folder ``below``."""
    folders = [name for name in ("", *_WORK_FOLDERS) if not below or name == below or name.startswith(below + "/")]
    for name, path in _regular(partial, folders):
        folder, _, last = name.rpartition("/")
        if found := _TEMPORARY.fullmatch(last):
            last = found[1]
        if _OWN_WORK.fullmatch(f"{folder}/{last}" if folder else last):
            yield path


def remove_file(path: Path) -> int | None:
    """Delete a file if it exists, and return its size in bytes; None if it stays.

    On Windows a file stays that a process has open, such as a reader of an earlier state of a dataset. Later changes of
    the dataset and ``lazygraph gc`` try again.
    """
    try:
        size = path.lstat().st_size
        path.unlink()
    except FileNotFoundError:
        return 0
    except PermissionError:
        if OPEN_FILES_MOVE:
            raise
        return None
    return size


def remove_empty(partial: Path, below: str = "") -> None:
    """Remove the empty folders that writers made in ``NAME.lg.partial``."""
    for name in _WORK_FOLDERS:
        if (not below or name == below or name.startswith(below + "/")) and (partial / name).is_dir():
            with suppress(OSError):  # it holds files of the user, or of a process that still writes
                (partial / name).rmdir()


def _regular(root: Path, folders: Iterable[str]) -> Iterator[tuple[str, Path]]:
    """Yield the name relative to ``root`` and the path of every regular file in these folders, sorted."""
    for folder in folders:
        place = root / folder
        try:
            if not all(stat.S_ISDIR((root / part).lstat().st_mode) for part in _steps(folder)):
                continue
            names = sorted(entry.name for entry in os.scandir(place) if entry.is_file(follow_symlinks=False))
        except (FileNotFoundError, NotADirectoryError):
            continue
        for name in names:
            yield f"{folder}/{name}" if folder else name, place / name


def _steps(folder: str) -> Iterator[str]:
    """Return ``a`` and ``a/b`` for ``a/b``, none of which may be a link."""
    parts = folder.split("/") if folder else []
    return ("/".join(parts[: n + 1]) for n in range(len(parts)))
