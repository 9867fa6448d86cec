"""Makes this Python, and those that it starts, look to lazygraph like a Python of another system.

``PRETENDED_SYSTEM`` is ``win32`` or ``darwin``. ``PRETENDED_NAMES`` is a JSON file: module -> names that the system
does not have, null for a module that it does not have. Other packages, and the tests, see the real system.

As on Windows, no open file is deleted or renamed, no directory is opened, a descriptor for reading cannot be flushed,
every ``os.open`` must ask for bytes, and names of devices and ``:`` are refused.
"""

import builtins
import errno
import fcntl
import json
import os
import re
import sys
import time
import types

SYSTEM, NAMES = os.environ.get("PRETENDED_SYSTEM"), os.environ.get("PRETENDED_NAMES")
O_BINARY = 1 << 30
FORBIDDEN = re.compile(r'[<>:"|?*\x00-\x1f]|^(CON|PRN|AUX|NUL|COM[0-9]|LPT[0-9])(\..*)?$|[. ]$', re.IGNORECASE)


class View(types.ModuleType):
    """A module without some names, and with others."""

    def __init__(self, real, absent, others):
        super().__init__(real.__name__)
        self.__dict__.update(_real=real, _absent=frozenset(absent), **others)

    def __getattr__(self, name):
        if name in self._absent:
            raise AttributeError(f"module {self.__name__!r} of {SYSTEM} has no attribute {name!r}")
        return getattr(self._real, name)

    def __setattr__(self, name, value):
        setattr(self._real, name, value)

    def __delattr__(self, name):
        delattr(self._real, name)


def of_lazygraph():
    """Whether lazygraph called, itself or through pathlib, shutil or tempfile."""
    frame = sys._getframe(1).f_back
    while frame is not None:
        name = frame.f_globals.get("__name__", "")
        if name.partition(".")[0] not in ("pathlib", "shutil", "tempfile", "os", "sitecustomize", "contextlib", "io"):
            return name.partition(".")[0] == "lazygraph"
        frame = frame.f_back
    return False


def is_open(path):
    """Whether a process of this session has a file, or a file of a folder, open or mapped."""
    real = os.path.realpath(path)
    wanted = (real.encode(), real.encode() + b"/")
    mine = os.getsid(0)
    for process in filter(str.isdecimal, os.listdir("/proc")):
        try:
            if os.getsid(int(process)) != mine:
                continue
            for descriptor in os.listdir(f"/proc/{process}/fd"):
                try:
                    found = os.readlink(f"/proc/{process}/fd/{descriptor}".encode())
                except OSError:
                    continue
                if found == wanted[0] or found.startswith(wanted[1]):
                    return f"process {process} has it open"
            with open(f"/proc/{process}/maps", "rb") as maps:
                content = maps.read()
            for line in content.splitlines():
                if (at := line.find(b"/")) > 0 and (line[at:] == wanted[0] or line[at:].startswith(wanted[1])):
                    return f"process {process} has it mapped"
        except (OSError, ValueError):
            continue
    return ""


def watch(event, arguments):
    """Refuse what Windows refuses."""
    if event in ("os.remove", "os.rename", "os.rmdir"):
        if not of_lazygraph():
            return
        for path in arguments[: 2 if event == "os.rename" else 1]:
            if path is not None and not isinstance(path, int) and os.path.lexists(path) and (why := is_open(path)):
                if os.environ.get("PRETENDED_LOG"):
                    import traceback

                    with open(os.environ["PRETENDED_LOG"], "a", encoding="utf-8") as log:
                        log.write(f"{event} {path}: {why}\n{''.join(traceback.format_stack(limit=12))}\n")
                raise PermissionError(errno.EACCES, f"The process cannot access the file ({why})", os.fspath(path))
    elif event in ("open", "os.mkdir"):
        path = arguments[0]
        if isinstance(path, (str, os.PathLike)) and of_lazygraph():
            if FORBIDDEN.search(os.path.basename(os.fspath(path))):
                raise OSError(errno.EINVAL, "Invalid argument", os.fspath(path))
            if event == "open" and os.path.isdir(path):
                raise PermissionError(errno.EACCES, "Permission denied", os.fspath(path))


def open_(path, flags, mode=0o777, *, dir_fd=None):
    if not flags & O_BINARY:
        raise AssertionError(f"{path} is opened as text")
    return os.open(path, flags & ~O_BINARY, mode, dir_fd=dir_fd)


def fsync(descriptor):
    if fcntl.fcntl(descriptor, fcntl.F_GETFL) & os.O_ACCMODE == os.O_RDONLY:
        raise OSError(errno.EBADF, "Bad file descriptor")
    os.fsync(descriptor)


def windows():
    """``lazygraph.windows`` with the calls of this system."""
    module = types.ModuleType("lazygraph.windows")

    def lock(descriptor, *, shared, wait):
        fcntl.flock(descriptor, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | (0 if wait else fcntl.LOCK_NB))

    def wait_for_end(process):
        while os.path.exists(f"/proc/{process}"):
            time.sleep(0.05)
        return True

    module.lock, module.wait_for_end = lock, wait_for_end
    module.unlock = lambda descriptor: fcntl.flock(descriptor, fcntl.LOCK_UN)
    module.file_handle = lambda descriptor: descriptor
    module.physical_memory = lambda: os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    module.ignore_ctrl_c = lambda *, ignored: None
    return module


def install():
    with open(NAMES, encoding="utf-8") as file:
        absent = json.load(file)
    others = {"sys": {"platform": SYSTEM}}
    if SYSTEM == "win32":
        others["os"] = {"O_BINARY": O_BINARY, "open": open_, "fsync": fsync}
        sys.modules["lazygraph.windows"] = windows()
        sys.addaudithook(watch)
    else:
        others["fcntl"] = {"F_FULLFSYNC": 51}
    views = {}
    real_import = builtins.__import__

    def view(name):
        if name not in views:
            views[name] = View(sys.modules[name], absent.get(name) or (), others.get(name, {}))
        return views[name]

    def import_(name, globals=None, locals=None, fromlist=(), level=0):  # noqa: A002  # as it is called
        if level or (globals or {}).get("__name__", "").partition(".")[0] != "lazygraph":
            return real_import(name, globals, locals, fromlist, level)
        if absent.get(name, ()) is None:
            raise ModuleNotFoundError(f"No module named {name!r} on {SYSTEM}", name=name)
        found = real_import(name, globals, locals, fromlist, level)
        changed = found.__name__ in absent or found.__name__ in others
        return view(found.__name__) if changed else found

    builtins.__import__ = import_
    import multiprocessing

    multiprocessing.set_start_method("spawn", force=True)


if SYSTEM:
    install()
