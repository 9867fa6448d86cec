"""Facts of a machine, gathered without special rights and without changes. An unknown value is None."""

from __future__ import annotations

import importlib.metadata
import multiprocessing
import os
import platform
import re
import shutil
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from lazygraph import native
from lazygraph.cli.advice import DatasetFacts, FolderFacts, MachineFacts
from lazygraph.errors import LazyGraphError
from lazygraph.format.manifest import MANIFEST
from lazygraph.format.store import Store
from lazygraph.machine import cgroup_limits, descriptor_limit, physical_memory, usable_cpus
from lazygraph.native.zstd_symbols import functions

__all__ = ["dataset_facts", "file_system_of", "look"]

PACKAGES = ("lazygraph", "torch", "torch-geometric", "numpy", "lmdb", "zstandard", "xxhash", "msgpack", "lightning")
SAMPLE = 256  # graphs that are read to see how fast that is


def look(path: str | os.PathLike[str] | None = None, root: str | os.PathLike[str] = "/") -> MachineFacts:
    """Gather the facts of this machine, and of a folder or dataset.

    Args:
        path: the folder or dataset, if one is asked about.
        root: where ``proc`` and ``sys`` lie.
    """
    base = Path(root)
    soft, hard = descriptor_limit()
    cpu_limit, memory_limit = cgroup_limits(base)
    versions: dict[str, str | None] = {"python": platform.python_version()}
    is_dataset = path is not None and (Path(path) / MANIFEST).exists()
    return MachineFacts(
        system=platform.system(),
        versions=versions | {name: _version(name) for name in PACKAGES},
        native=_why_no_loops(),
        has_zstd=functions() is not None,
        start_method=multiprocessing.get_start_method(allow_none=True) or multiprocessing.get_all_start_methods()[0],
        cpus=os.cpu_count(),
        usable_cpus=usable_cpus(base),
        cpu_limit=cpu_limit,
        memory=physical_memory(),
        memory_limit=memory_limit,
        descriptors=soft,
        descriptors_hard=hard,
        threads=os.environ.get("OMP_NUM_THREADS"),
        shm=_place(Path("/dev/shm"), base) if Path("/dev/shm").is_dir() else None,  # noqa: S108 - looked at only
        memfd=hasattr(os, "memfd_create"),
        temporary=_place(Path(tempfile.gettempdir()), base),
        place=None if path is None else _place(Path(path), base),
        dataset=dataset_facts(Path(path)) if path is not None and is_dataset else None,
    )


def dataset_facts(path: Path) -> DatasetFacts:
    """Open a dataset and read some of its graphs. An error becomes a fact."""
    try:
        store = Store(path)
        manifest = store.manifest
        rows = np.unique(np.linspace(0, max(len(store) - 1, 0), min(SAMPLE, len(store))).astype(np.int64))
        microseconds = None
        if len(rows):
            store.read_batch(rows)
            begin = time.perf_counter()
            store.read_batch(rows)
            microseconds = 1e6 * (time.perf_counter() - begin) / len(rows)
    except (LazyGraphError, OSError) as error:
        return DatasetFacts(str(error))
    columns = manifest.columns.values()
    size = sum(column.file.size for column in columns)
    return DatasetFacts(None, manifest.graphs, len(manifest.shards), len(columns), size, microseconds)


def file_system_of(path: Path, mounts: str) -> str | None:
    """Find the type of the file system of a path in the text of /proc/self/mountinfo; the last mount wins."""
    best, found = -1, None
    for line in mounts.split("\n"):  # the name of a folder may hold U+2028, at which splitlines() breaks
        before, separator, after = line.partition(" - ")
        fields = before.split(" ")
        if not separator or len(fields) < 5 or not after:
            continue
        point = Path(re.sub(r"\\([0-7]{3})", lambda octal: chr(int(octal[1], 8)), fields[4]))
        if path.is_relative_to(point) and len(point.parts) >= best:
            best, found = len(point.parts), after.split()[0]
    return found


def _place(path: Path, root: Path) -> FolderFacts:
    there = path.resolve()
    try:
        free: int | None = shutil.disk_usage(there).free
    except OSError:
        free = None
    mounts = _text(root / "proc/self/mountinfo")
    return FolderFacts(os.fspath(path), None if mounts is None else file_system_of(there, mounts), free)


def _why_no_loops() -> str | None:
    if native.kernels() is not None:
        return None
    if os.environ.get("LAZYGRAPH_NATIVE") == "0":
        return "LAZYGRAPH_NATIVE=0 turns compiled code off"
    if sys.byteorder != "little":
        return "compiled code works only on little-endian machines"
    if not native.LIBRARY.is_file():
        return f"there is no {native.LIBRARY.name}: no compiler was found when lazygraph was installed"
    return f"{native.LIBRARY} was compiled from other sources than the installed ones, or for another machine"


def _version(name: str) -> str | None:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None


def _text(path: Path) -> str | None:
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None
