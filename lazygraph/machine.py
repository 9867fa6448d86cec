"""What this machine lets the process use: memory and open files."""

from __future__ import annotations

import os
from functools import lru_cache
from pathlib import Path

__all__ = ["cgroup_limits", "descriptor_limit", "memory_limit", "physical_memory"]

UNLIMITED = 2**60  # bytes; cgroups of version 1 tell "no limit" by a number near 2^63


def descriptor_limit() -> tuple[int | None, int | None]:
    """How many files the process may have open now, and how many it may allow itself.

    2^31 where there is no limit, None where the system does not tell.
    """
    try:
        import resource
    except ImportError:
        return None, None
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    return (2**31 if soft < 0 else soft), (2**31 if hard < 0 else hard)


@lru_cache(maxsize=1)
def memory_limit() -> int:
    """The most bytes that the process can ever use: of the machine, its control groups and its own limit, the least."""
    limits = [2**62, physical_memory(), cgroup_limits(Path("/"))[1]]
    try:
        import resource

        limits += [size for size in resource.getrlimit(resource.RLIMIT_AS) if size >= 0]
    except ImportError:
        pass
    return min(size for size in limits if size is not None)


def physical_memory() -> int | None:
    """The bytes of memory that the machine has; None where it does not tell."""
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, OSError, ValueError):
        return None


def cgroup_limits(root: Path) -> tuple[float | None, int | None]:
    """CPUs and bytes that this process's control groups allow, the least of all that hold it; versions 1 and 2.

    Args:
        root: where ``proc`` and ``sys`` lie.
    """
    cpus: list[float] = []
    sizes: list[int] = []
    for line in _text(root / "proc/self/cgroup").splitlines():
        _, _, rest = line.partition(":")
        controllers, _, group = rest.partition(":")
        for mount in ("", *controllers.split(",")):
            base = root / "sys/fs/cgroup" / mount
            # A container sees its own group at the root, whatever /proc says.
            for part in (Path(), *(Path(group.lstrip("/")), *Path(group.lstrip("/")).parents)):
                folder = base / part
                _add_cpus(folder, cpus)
                for name in ("memory.max", "memory.limit_in_bytes"):
                    size = _text(folder / name).strip()
                    if size.isdecimal() and int(size) < UNLIMITED:
                        sizes.append(int(size))
    return min(cpus, default=None), min(sizes, default=None)


def _add_cpus(folder: Path, cpus: list[float]) -> None:
    quota = _text(folder / "cpu.max").split()
    if not quota:
        quota = [_text(folder / f"cpu.cfs_{name}_us").strip() for name in ("quota", "period")]
    if len(quota) == 2 and all(number.isdecimal() for number in quota) and int(quota[1]):
        cpus.append(int(quota[0]) / int(quota[1]))


def _text(path: Path) -> str:
    try:
        return path.read_text(errors="replace")
    except OSError:
        return ""
