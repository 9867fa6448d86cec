"""Tell lazygraph's own files from the user's: only regular files whose whole name lazygraph gives are ever deleted.

A dataset directory may hold anything else beside them: README.md, .git, notebooks, another dataset. So may the folder
of an unfinished one. Folders are looked into by name and links are not followed, so nothing outside is reached.
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
    """The data files of a dataset directory, of this state and of earlier ones: name as in a manifest, and path."""
    for name, path in _regular(directory, ("", *_DATA_FOLDERS)):
        if FILE_NAME.fullmatch(name):
            yield name, path


def is_dataset(directory: Path) -> bool:
    """Whether a directory is a dataset of lazygraph's, whole or damaged: other programs have a manifest.json too."""
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
    """The files that writers make in ``NAME.lg.partial``, or in its folder ``below``; those of killed ones too."""
    folders = [name for name in ("", *_WORK_FOLDERS) if not below or name == below or name.startswith(below + "/")]
    for name, path in _regular(partial, folders):
        folder, _, last = name.rpartition("/")
        if found := _TEMPORARY.fullmatch(last):
            last = found[1]
        if _OWN_WORK.fullmatch(f"{folder}/{last}" if folder else last):
            yield path


def remove_file(path: Path) -> int:
    """Delete a file, which may be gone already; the bytes that it had."""
    try:
        size = path.lstat().st_size
        path.unlink()
    except FileNotFoundError:
        return 0
    return size


def remove_empty(partial: Path, below: str = "") -> None:
    """Remove the folders that writers make in ``NAME.lg.partial``, where nothing is left in them."""
    for name in _WORK_FOLDERS:
        if (not below or name == below or name.startswith(below + "/")) and (partial / name).is_dir():
            with suppress(OSError):  # it holds files of the user's, or of a process that still writes
                (partial / name).rmdir()


def _regular(root: Path, folders: Iterable[str]) -> Iterator[tuple[str, Path]]:
    """Name relative to ``root`` and path of every regular file in these folders of it, in order."""
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
    """``a``, ``a/b`` for ``a/b``: none of them may be a link."""
    parts = folder.split("/") if folder else []
    return ("/".join(parts[: n + 1]) for n in range(len(parts)))
