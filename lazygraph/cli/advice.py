"""Advice about the settings of a machine, from the facts that ``surroundings`` gathers."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from lazygraph.loading.settings import MOST_WORKERS
from lazygraph.storage.descriptors import budget

__all__ = ["Advice", "DatasetFacts", "FolderFacts", "MachineFacts", "advise"]

NETWORK = frozenset(
    "nfs nfs4 cifs smb3 smbfs lustre gpfs beegfs ceph glusterfs 9p afs pvfs2 wekafs fuse.sshfs fuse.glusterfs "
    "fuse.ceph fuse.s3fs fuse.gcsfuse fuse.juicefs".split()
)
SMALL_SHM = 2**30  # bytes; a container has 64 MiB by default
# Processor time with LAZYGRAPH_NATIVE=0 and without, for 1,000 generated crystals (comformer, cgcnn) and 1,000 frames
# of MPtrj (comformer, mace).
COST = (
    "without compiled code, batches take 5 to 7 times as long to read, single graphs twice as long, and writing a "
    "dataset takes 2 to 3 times as long. The results are the same"
)
OWN_DESCRIPTORS = 256  # for Python, torch, workers and their pipes, and a quarter of them for shards


@dataclass(frozen=True, slots=True)
class FolderFacts:
    """A folder: path, type of its file system, and free bytes. A value is None if the system does not give it."""

    path: str
    file_system: str | None
    free: int | None


@dataclass(frozen=True, slots=True)
class DatasetFacts:
    """The facts of a dataset that advice depends on.

    Args:
        problem: the reason why it cannot be opened or read, or None.
        graphs: number of graphs.
        shards: number of files with records.
        columns: number of files with columns; each file is memory-mapped.
        column_bytes: size of all columns, bytes.
        microseconds: time to read a graph in a batch of random graphs that are in the page cache, us.
    """

    problem: str | None
    graphs: int = 0
    shards: int = 0
    columns: int = 0
    column_bytes: int = 0
    microseconds: float | None = None


@dataclass(frozen=True, slots=True)
class MachineFacts:
    """The facts of a machine. A value is None if the system does not give it.

    Args:
        system: the operating system.
        versions: package -> version, or None if it is not installed.
        native: the reason why compiled code is not used, or None if it is used.
        has_zstd: whether compiled code found zstd and XXH3.
        start_method: how this Python starts processes.
        cpus: number of CPUs of the machine.
        usable_cpus: number of CPUs that this process can use, by affinity, container and LOKY_MAX_CPU_COUNT.
        cpu_limit: number of CPUs that the container may use.
        memory: memory of the machine, bytes.
        memory_limit: memory that the container may use, bytes.
        descriptors: soft limit of open files.
        descriptors_hard: hard limit of open files.
        threads: the variable OMP_NUM_THREADS.
        shm: the folder /dev/shm.
        memfd: whether memory can be shared without /dev/shm.
        temporary: the folder for temporary files.
        place: the folder that the user named, if any.
        dataset: the dataset in this folder, if there is one.
    """

    system: str
    versions: dict[str, str | None]
    native: str | None
    has_zstd: bool
    start_method: str | None
    cpus: int | None
    usable_cpus: int | None
    cpu_limit: float | None
    memory: int | None
    memory_limit: int | None
    descriptors: int | None
    descriptors_hard: int | None
    threads: str | None
    shm: FolderFacts | None
    memfd: bool
    temporary: FolderFacts
    place: FolderFacts | None = None
    dataset: DatasetFacts | None = None


@dataclass(frozen=True, slots=True)
class Advice:
    """One piece of advice: a setting to ``change`` or a ``note``, and the reason."""

    kind: Literal["change", "note"]
    what: str
    why: str


def advise(facts: MachineFacts) -> list[Advice]:
    """Return the settings to change, and notes, for the facts of a machine."""
    parts = (_dataset, _loops, _file_system, _descriptors, _processes, _cpus, _shared_memory, _memory, _versions)
    return [advice for part in parts for advice in part(facts)]


def _dataset(facts: MachineFacts) -> Iterator[Advice]:
    if facts.dataset is not None and facts.dataset.problem is not None:
        yield Advice("change", "run lazygraph verify, and write or copy the dataset again", facts.dataset.problem)


def _loops(facts: MachineFacts) -> Iterator[Advice]:
    if facts.native is not None:
        what = "install a C compiler (gcc or clang), then install lazygraph again"
        if "LAZYGRAPH_NATIVE" in facts.native:
            what = "unset LAZYGRAPH_NATIVE"
        yield Advice("change", what, f"{facts.native}; {COST}")
    elif not facts.has_zstd:
        why = "compiled code found no zstd or XXH3; without them, reading batches takes several times as long"
        yield Advice("change", "install the wheels of zstandard and xxhash from PyPI", why)


def _file_system(facts: MachineFacts) -> Iterator[Advice]:
    place = facts.place
    if place is None:
        return
    if place.file_system in NETWORK:
        what = "copy the dataset to a local disk before training, or shuffle with lg.loader(..., window=4096)"
        why = (
            f"{place.path} is on {place.file_system}, where each random read is a request to the server. Network file "
            "systems are untested: writing needs flock, and you must not run lazygraph gc while others read"
        )
        yield Advice("change", what, why)
    elif place.file_system in ("tmpfs", "ramfs"):
        why = f"{place.path} is on {place.file_system}, which uses memory and is lost when the machine restarts"
        yield Advice("note", "keep a copy of the dataset on a disk", why)
    elif place.file_system is None:
        what = "if the dataset is on a network file system, copy it to a local disk"
        yield Advice("note", what, "the system does not give the type of the file system")


def _descriptors(facts: MachineFacts) -> Iterator[Advice]:
    if facts.descriptors is None:
        return
    if facts.descriptors < OWN_DESCRIPTORS:
        what = "run ulimit -n 4096"
        if facts.descriptors_hard is not None and facts.descriptors_hard < OWN_DESCRIPTORS:
            what += f" (an administrator must allow it: the hard limit is {facts.descriptors_hard})"
        why = f"a process may have {facts.descriptors} files open, and lazygraph needs about {OWN_DESCRIPTORS}"
        yield Advice("change", what, why)
    most = budget(facts.descriptors)
    if facts.dataset is not None and facts.dataset.shards > most:
        why = (
            f"the dataset has {facts.dataset.shards} shards, and lazygraph keeps at most {most} open if a process may "
            f"have {facts.descriptors} files open (ulimit -n), so shards are opened again and again"
        )
        yield Advice("note", "shuffle with lg.loader(..., window=4096), or write the dataset with larger shards", why)


def _processes(facts: MachineFacts) -> Iterator[Advice]:
    if facts.start_method == "fork":
        what = (
            "if you use workers together with threads or CUDA, use lg.loader(..., multiprocessing_context='forkserver')"
        )
        why = (
            "this Python forks by default. lazygraph is safe after a fork, but a lock that another thread holds during "
            "the fork stays locked in the child, and the child cannot use CUDA"
        )
        yield Advice("note", what, why)


def _cpus(facts: MachineFacts) -> Iterator[Advice]:
    usable = facts.usable_cpus
    if usable is None:
        return
    if usable > 1:
        what = f"if a transform is slow, use num_workers up to {_workers(usable)}; otherwise use no workers"
        yield Advice("note", what, f"{usable} CPUs may be used, and without a slow transform one thread is fast enough")
    if facts.threads is None and (facts.cpus or 0) > usable:
        why = f"torch and numpy start a thread for each of {facts.cpus} CPUs, but only {usable} may be used"
        yield Advice("change", f"run export OMP_NUM_THREADS={usable}", why)


def _workers(usable: int) -> int:
    return min(max(usable - 1, 0), MOST_WORKERS)


def _shared_memory(facts: MachineFacts) -> Iterator[Advice]:
    if facts.shm is None or facts.shm.free is None or facts.shm.free >= SMALL_SHM:
        return
    free = f"{facts.shm.path} has {facts.shm.free >> 20} MiB free"
    if facts.memfd:
        what = (
            "if you use torch's DataLoader with workers, or lg.loader with workers and a transform, enlarge /dev/shm "
            "(docker run --shm-size=8g)"
        )
        why = f"{free}, and both send batches through it. Without a transform, lazygraph's loader needs no /dev/shm"
        yield Advice("note", what, why)
    else:
        why = f"{free}, and on this system workers send batches through it"
        yield Advice("change", "enlarge /dev/shm, or use lg.loader(..., num_workers=0)", why)


def _memory(facts: MachineFacts) -> Iterator[Advice]:
    limits = [size for size in (facts.memory, facts.memory_limit) if size is not None]
    if facts.dataset is None or not limits or facts.dataset.column_bytes < min(limits) // 2:
        return
    why = f"the columns take {facts.dataset.column_bytes >> 20} MiB of the {min(limits) >> 20} MiB that may be used"
    yield Advice(
        "change",
        "use a machine with more memory, or a dataset with fewer labels",
        f"{why}, so they are read from the disk again and again",
    )


def _versions(facts: MachineFacts) -> Iterator[Advice]:
    for name in ("torch", "numpy", "lmdb", "zstandard"):
        if facts.versions.get(name, "") is None:
            yield Advice("change", f"run pip install {name}", f"lazygraph needs {name}, which is not installed")
    if facts.versions.get("lightning", "") is None:
        yield Advice("note", "for lazygraph train, run pip install 'lazygraph[train]'", "lightning is not installed")
    if facts.system != "Linux":
        yield Advice("note", "check a dataset with lazygraph verify first", f"lazygraph is untested on {facts.system}")
