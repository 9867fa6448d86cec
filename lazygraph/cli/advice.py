"""Advice about the settings of a machine, from facts that ``surroundings`` gathers."""

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
SMALL_SHM = 2**30  # bytes; containers are given 64 MiB unless asked for more
OWN_DESCRIPTORS = 256  # of Python, torch, its workers and their pipes, and a quarter for shards


@dataclass(frozen=True, slots=True)
class FolderFacts:
    """A folder: path, type of its file system, and free bytes. A value is None if the system does not tell it."""

    path: str
    file_system: str | None
    free: int | None


@dataclass(frozen=True, slots=True)
class DatasetFacts:
    """The facts of a dataset that advice depends on.

    Args:
        problem: why it cannot be opened or read; None where it can.
        graphs: how many there are.
        shards: files of records.
        columns: files of columns, each of which is mapped into memory.
        column_bytes: their bytes.
        microseconds: what reading a graph took, in a batch of random ones, when they had been read before.
    """

    problem: str | None
    graphs: int = 0
    shards: int = 0
    columns: int = 0
    column_bytes: int = 0
    microseconds: float | None = None


@dataclass(frozen=True, slots=True)
class MachineFacts:
    """The facts of a machine. A value is None if the system does not tell it.

    Args:
        system: its operating system.
        versions: package -> version, None where it is not installed.
        native: why there are no compiled loops; None where there are.
        has_zstd: whether zstd and XXH3 were found for them.
        start_method: how this Python starts processes.
        cpus: CPUs of the machine.
        usable_cpus: how many can work for this process at once: affinity, container and LOKY_MAX_CPU_COUNT counted.
        cpu_limit: how many the container may use at once.
        memory: bytes of the machine.
        memory_limit: bytes that the container may use.
        descriptors: how many files a process may have open now.
        descriptors_hard: how many it may allow itself.
        threads: the variable OMP_NUM_THREADS.
        shm: /dev/shm.
        memfd: whether memory can be shared without /dev/shm.
        temporary: the folder for temporary files.
        place: the folder that was asked about, if any.
        dataset: the dataset in it, if there is one.
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
    """One piece of advice: something to ``set`` or to ``know``, and the reason."""

    kind: Literal["set", "know"]
    what: str
    why: str


def advise(facts: MachineFacts) -> list[Advice]:
    """Return what to set and what to know, for the facts of any machine."""
    parts = (_dataset, _loops, _file_system, _descriptors, _processes, _cpus, _shared_memory, _memory, _versions)
    return [advice for part in parts for advice in part(facts)]


def _dataset(facts: MachineFacts) -> Iterator[Advice]:
    if facts.dataset is not None and facts.dataset.problem is not None:
        yield Advice("set", "run lazygraph verify, then write or copy the dataset again", facts.dataset.problem)


def _loops(facts: MachineFacts) -> Iterator[Advice]:
    if facts.native is not None:
        what = "install lazygraph again where there is a C compiler (gcc or clang)"
        if "LAZYGRAPH_NATIVE" in facts.native:
            what = "unset LAZYGRAPH_NATIVE"
        yield Advice("set", what, f"{facts.native}; batches are read by plain Python, several times slower")
    elif not facts.has_zstd:
        why = "zstd or XXH3 was not found in them; batches are read by plain Python, several times slower"
        yield Advice("set", "install zstandard and xxhash from PyPI's wheels", why)


def _file_system(facts: MachineFacts) -> Iterator[Advice]:
    place = facts.place
    if place is None:
        return
    if place.file_system in NETWORK:
        what = "copy the dataset to a local disk before training, or shuffle with lg.loader(..., window=4096)"
        why = (
            f"{place.path} is on {place.file_system}: every random read asks the server. Network file systems are "
            "unproven: the writer's lock needs flock, and old files must not be deleted (gc) while others read"
        )
        yield Advice("set", what, why)
    elif place.file_system in ("tmpfs", "ramfs"):
        why = f"{place.path} is on {place.file_system}: it counts as memory, and is gone when the machine restarts"
        yield Advice("know", "keep a copy on a disk", why)
    elif place.file_system is None:
        yield Advice("know", "if it is a network file system, copy the dataset to a local disk", "its type is not told")


def _descriptors(facts: MachineFacts) -> Iterator[Advice]:
    if facts.descriptors is None:
        return
    if facts.descriptors < OWN_DESCRIPTORS:
        what = "ulimit -n 4096"
        if facts.descriptors_hard is not None and facts.descriptors_hard < OWN_DESCRIPTORS:
            what += f" (an administrator must allow it: the hard limit is {facts.descriptors_hard})"
        why = f"a process may have {facts.descriptors} files open; {OWN_DESCRIPTORS} are wanted"
        yield Advice("set", what, why)
    most = budget(facts.descriptors)
    if facts.dataset is not None and facts.dataset.shards > most:
        why = (
            f"it has {facts.dataset.shards} shards, of which {most} are open at once where a process may have "
            f"{facts.descriptors} files open (ulimit -n); others are opened each time"
        )
        yield Advice("know", "shuffle with lg.loader(..., window=4096), or write the dataset with larger shards", why)


def _processes(facts: MachineFacts) -> Iterator[Advice]:
    if facts.start_method == "fork":
        what = "lg.loader(..., multiprocessing_context='forkserver') where workers are used beside threads or CUDA"
        why = (
            "this Python forks by default: lazygraph is safe under fork, but locks that other threads of the process "
            "hold at that moment stay locked in the child, and CUDA cannot be used in it"
        )
        yield Advice("know", what, why)


def _cpus(facts: MachineFacts) -> Iterator[Advice]:
    usable = facts.usable_cpus
    if usable is None:
        return
    if usable > 1:
        why = f"{usable} CPUs may be used; the loader reads in a thread of its own where that is fast enough"
        yield Advice("know", f"num_workers up to {_workers(usable)} where a transform is slow, else none", why)
    if facts.threads is None and (facts.cpus or 0) > usable:
        why = f"torch and numpy start a thread for each of {facts.cpus} CPUs; {usable} can work"
        yield Advice("set", f"export OMP_NUM_THREADS={usable}", why)


def _workers(usable: int) -> int:
    return min(max(usable - 1, 0), MOST_WORKERS)


def _shared_memory(facts: MachineFacts) -> Iterator[Advice]:
    if facts.shm is None or facts.shm.free is None or facts.shm.free >= SMALL_SHM:
        return
    free = f"{facts.shm.path} has {facts.shm.free >> 20} MiB free"
    if facts.memfd:
        why = f"{free}: lazygraph's loader needs none of it, a transform and torch's DataLoader with workers do"
        yield Advice("know", "a larger /dev/shm (docker run --shm-size=8g) for other loaders", why)
    else:
        why = f"{free}, through which workers send batches here"
        yield Advice("set", "a larger /dev/shm, or lg.loader(..., num_workers=0)", why)


def _memory(facts: MachineFacts) -> Iterator[Advice]:
    limits = [size for size in (facts.memory, facts.memory_limit) if size is not None]
    if facts.dataset is None or not limits or facts.dataset.column_bytes < min(limits) // 2:
        return
    why = f"the columns take {facts.dataset.column_bytes >> 20} MiB of the {min(limits) >> 20} MiB that may be used"
    yield Advice(
        "set", "more memory, or a dataset with fewer labels", f"{why}: they are read from the disk again and again"
    )


def _versions(facts: MachineFacts) -> Iterator[Advice]:
    for name in ("torch", "numpy", "lmdb", "zstandard"):
        if facts.versions.get(name, "") is None:
            yield Advice("set", f"pip install {name}", f"{name} is not installed, and lazygraph needs it")
    if facts.versions.get("lightning", "") is None:
        yield Advice("know", "pip install 'lazygraph[train]' for lazygraph train", "lightning is not installed")
    if facts.system != "Linux":
        yield Advice("know", "try it with lazygraph verify first", f"{facts.system} is unproven")
