"""Facts of this machine that several parts of the package need, asked in one place."""

from __future__ import annotations

import ctypes
import math
import os
import signal
import sys
import threading
import time
from contextlib import suppress
from functools import lru_cache
from pathlib import Path

from lazygraph import windows
from lazygraph.errors import InputError

__all__ = [
    "FORKS",
    "cgroup_limits",
    "descriptor_limit",
    "die_with",
    "memory_limit",
    "physical_memory",
    "usable_cpus",
]

FORKS = hasattr(os, "fork") and sys.platform != "darwin"
"""Whether a process may continue in a fork of itself. Windows has no forks. A fork on macOS may not use Accelerate,
which numpy and torch call there: it hangs or is ended."""

UNLIMITED = 2**60  # bytes; cgroups of version 1 state "no limit" as a number near 2^63
PR_SET_PDEATHSIG = 1  # of linux/prctl.h
LOKY = "LOKY_MAX_CPU_COUNT"
LOOK = 1.0  # s, between two looks at the parent where the system does not tell of its end


def usable_cpus(root: str | os.PathLike[str] = "/") -> int:
    """Return the number of CPUs that can work for this process at once, at least 1.

    The least of: the CPUs of the machine, the affinity of the process, the quota of the container and of every control
    group around the process (rounded up), and the environment variable ``LOKY_MAX_CPU_COUNT``. Reads a few small files,
    about 0.1 ms.

    Args:
        root: where ``proc`` and ``sys`` lie.

    Raises:
        InputError: ``LOKY_MAX_CPU_COUNT`` is not a whole number.

    Example:
        >>> usable_cpus() >= 1
        True
    """
    from loky import cpu_count

    limit = os.environ.get(LOKY)
    try:
        if limit is not None:
            int(limit)
    except ValueError:
        msg = f"the environment variable {LOKY} is {limit!r}; set it to a whole number, or unset it"
        raise InputError(msg) from None
    # loky reads the quota at the root of the cgroup file system, where a container has its own. Outside containers,
    # such as under systemd's CPUQuota, the quota stands in a group further down.
    quota, _ = cgroup_limits(root)
    usable = int(cpu_count())
    return usable if quota is None else max(1, min(usable, math.ceil(quota)))


def descriptor_limit() -> tuple[int | None, int | None]:
    """How many files the process may have open now, and how many it may allow itself.

    2^31 where there is no limit, None where the system does not tell.
    """
    limits: tuple[int | None, int | None] = None, None
    if sys.platform != "win32":
        import resource

        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        limits = (2**31 if soft < 0 else soft), (2**31 if hard < 0 else hard)
    return limits


def die_with(parent: int) -> None:
    """End this process when its parent ends: at once on Linux and Windows, within a second elsewhere.

    Args:
        parent: the number of the process that started this one.
    """
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent:  # it died before the line above
            os._exit(1)
    else:
        threading.Thread(target=_end_after, args=(parent,), daemon=True, name="lazygraph-parent").start()


def _end_after(parent: int) -> None:
    if sys.platform == "win32":
        if not windows.wait_for_end(parent):
            return
    else:
        while os.getppid() == parent:
            time.sleep(LOOK)
    os._exit(1)


@lru_cache(maxsize=1)
def memory_limit() -> int:
    """The most bytes that the process can ever use: of the machine, its control groups and its own limit, the least."""
    limits = [2**62, physical_memory(), cgroup_limits()[1]]
    if sys.platform != "win32":
        import resource

        limits += [size for size in resource.getrlimit(resource.RLIMIT_AS) if size >= 0]
    return min(size for size in limits if size is not None)


def physical_memory() -> int | None:
    """Return the bytes of memory that the machine has; None where it does not tell."""
    size: int | None = None
    if sys.platform == "win32":
        size = windows.physical_memory()
    else:
        with suppress(AttributeError, OSError, ValueError):
            size = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return size


def cgroup_limits(root: str | os.PathLike[str] = "/") -> tuple[float | None, int | None]:
    """Return the CPUs and the bytes of memory that the control groups (versions 1 and 2) allow this process.

    Args:
        root: where ``proc`` and ``sys`` lie.

    Returns:
        The least of all groups that hold the process; None where there is no limit.
    """
    base = Path(root)
    cpus: list[float] = []
    sizes: list[int] = []
    for line in (_text(base / "proc/self/cgroup") or "").split("\n"):
        _, _, rest = line.partition(":")
        controllers, _, group = rest.partition(":")
        for mount in ("", *controllers.split(",")):
            top = base / "sys/fs/cgroup" / mount
            # A container sees its own group at the root, whatever /proc says.
            for part in (Path(), *(Path(group.lstrip("/")), *Path(group.lstrip("/")).parents)):
                folder = top / part
                _add_cpus(folder, cpus)
                for name in ("memory.max", "memory.limit_in_bytes"):
                    size = (_text(folder / name) or "").strip()
                    if size.isdecimal() and int(size) < UNLIMITED:
                        sizes.append(int(size))
    return min(cpus, default=None), min(sizes, default=None)


def _add_cpus(folder: Path, cpus: list[float]) -> None:
    quota = (_text(folder / "cpu.max") or "").split()
    if not quota:
        quota = [(_text(folder / f"cpu.cfs_{name}_us") or "").strip() for name in ("quota", "period")]
    if len(quota) == 2 and all(number.isdecimal() for number in quota) and int(quota[1]):
        cpus.append(int(quota[0]) / int(quota[1]))


def _text(path: Path) -> str | None:
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None
