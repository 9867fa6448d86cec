"""Calls of Windows for which Python has no function. The module is empty on other systems.

Locks of files, the end of another process, the memory of the machine, Ctrl-C in processes that start, and the handle of
a file for compiled code. Each function names the call of ``kernel32`` that it makes.
"""

from __future__ import annotations

import sys

__all__: list[str] = []

if sys.platform == "win32":
    import ctypes
    import errno
    import msvcrt
    from ctypes import wintypes

    __all__ += ["file_handle", "ignore_ctrl_c", "lock", "physical_memory", "unlock", "wait_for_end"]

    _kernel32 = ctypes.WinDLL("kernel32", use_last_error=True)

    _FAIL_IMMEDIATELY, _EXCLUSIVE = 1, 2  # LOCKFILE_...
    _INVALID_FUNCTION, _LOCK_VIOLATION, _NOT_SUPPORTED = 1, 33, 50  # ERROR_...
    _INVALID_PARAMETER, _NOT_LOCKED = 87, 158
    _SYNCHRONIZE, _FOR_EVER = 0x00100000, 0xFFFFFFFF
    # Windows keeps other programs from the bytes that are locked, also from reading them. So a byte is locked that no
    # file has.
    _LOCKED_BYTE = 2**62

    class _Overlapped(ctypes.Structure):
        """OVERLAPPED: here the place of a byte."""

        _fields_ = (
            ("internal", ctypes.c_size_t),
            ("internal_high", ctypes.c_size_t),
            ("offset", wintypes.DWORD),
            ("offset_high", wintypes.DWORD),
            ("event", wintypes.HANDLE),
        )

    class _MemoryStatus(ctypes.Structure):
        """MEMORYSTATUSEX."""

        _fields_ = (
            ("length", wintypes.DWORD),
            ("load", wintypes.DWORD),
            ("total_physical", ctypes.c_uint64),
            ("available_physical", ctypes.c_uint64),
            ("total_page_file", ctypes.c_uint64),
            ("available_page_file", ctypes.c_uint64),
            ("total_virtual", ctypes.c_uint64),
            ("available_virtual", ctypes.c_uint64),
            ("available_extended_virtual", ctypes.c_uint64),
        )

    _DWORD, _HANDLE, _PLACE = wintypes.DWORD, wintypes.HANDLE, ctypes.POINTER(_Overlapped)
    for _name, _result, _arguments in (
        ("LockFileEx", wintypes.BOOL, (_HANDLE, _DWORD, _DWORD, _DWORD, _DWORD, _PLACE)),
        ("UnlockFileEx", wintypes.BOOL, (_HANDLE, _DWORD, _DWORD, _DWORD, _PLACE)),
        ("OpenProcess", _HANDLE, (_DWORD, wintypes.BOOL, _DWORD)),
        ("WaitForSingleObject", _DWORD, (_HANDLE, _DWORD)),
        ("CloseHandle", wintypes.BOOL, (_HANDLE,)),
        ("GlobalMemoryStatusEx", wintypes.BOOL, (ctypes.POINTER(_MemoryStatus),)),
        ("SetConsoleCtrlHandler", wintypes.BOOL, (ctypes.c_void_p, wintypes.BOOL)),
    ):
        _function = getattr(_kernel32, _name)
        _function.restype, _function.argtypes = _result, _arguments

    def file_handle(descriptor: int) -> int:
        """Return the handle of an open file. It stays the descriptor's, and fits into 32 bits."""
        return msvcrt.get_osfhandle(descriptor)

    def lock(descriptor: int, *, shared: bool, wait: bool) -> None:
        """Lock an open file (LockFileEx). The lock ends when the file is closed.

        Args:
            descriptor: the open file.
            shared: allow other shared locks.
            wait: until no other lock excludes this one.

        Raises:
            BlockingIOError: another lock excludes this one.
            OSError: with ``errno.ENOLCK`` where the file system has no locks.
        """
        flags = (0 if shared else _EXCLUSIVE) | (0 if wait else _FAIL_IMMEDIATELY)
        if _kernel32.LockFileEx(file_handle(descriptor), flags, 0, 1, 0, _place()):
            return
        number = ctypes.get_last_error()
        if number == _LOCK_VIOLATION:
            raise BlockingIOError(errno.EAGAIN, ctypes.FormatError(number))
        if number in (_INVALID_FUNCTION, _NOT_SUPPORTED):
            raise OSError(errno.ENOLCK, ctypes.FormatError(number))
        raise ctypes.WinError(number)

    def unlock(descriptor: int) -> None:
        """End the lock of an open file (UnlockFileEx), if there is one.

        Raises:
            OSError: the system refuses it.
        """
        if not _kernel32.UnlockFileEx(file_handle(descriptor), 0, 1, 0, _place()):
            number = ctypes.get_last_error()
            if number not in (_NOT_LOCKED, _INVALID_FUNCTION, _NOT_SUPPORTED):
                raise ctypes.WinError(number)

    def _place() -> _Overlapped:
        return _Overlapped(offset=_LOCKED_BYTE & 0xFFFFFFFF, offset_high=_LOCKED_BYTE >> 32)

    def wait_for_end(process: int) -> bool:
        """Wait until a process ends (OpenProcess, WaitForSingleObject).

        Returns:
            Whether it has ended, now or before; False if this process may not wait for it.
        """
        handle = _kernel32.OpenProcess(_SYNCHRONIZE, False, process)
        if not handle:
            return ctypes.get_last_error() == _INVALID_PARAMETER  # there is no such process
        ended = bool(_kernel32.WaitForSingleObject(handle, _FOR_EVER) == 0)
        _kernel32.CloseHandle(handle)
        return ended

    def physical_memory() -> int | None:
        """Return the bytes of memory of the machine (GlobalMemoryStatusEx); None if Windows does not tell."""
        state = _MemoryStatus(length=ctypes.sizeof(_MemoryStatus))
        return int(state.total_physical) if _kernel32.GlobalMemoryStatusEx(state) else None

    def ignore_ctrl_c(*, ignored: bool) -> None:
        """Let this process, and processes that it starts, ignore Ctrl-C (SetConsoleCtrlHandler)."""
        _kernel32.SetConsoleCtrlHandler(None, ignored)
