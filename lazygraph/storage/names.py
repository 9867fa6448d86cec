"""Names of files that every system can have."""

from __future__ import annotations

import os
import re
import sys
from pathlib import PureWindowsPath

from lazygraph.errors import InputError

__all__ = ["check_path", "problem_on_windows", "safe_stem"]

_DEVICES = re.compile(r"(CON|PRN|AUX|NUL|CONIN\$|CONOUT\$|(COM|LPT)[0-9¹²³])", re.IGNORECASE)
_FORBIDDEN = re.compile(r'[<>:"|?*\x00-\x1f]')
MOST = 100  # characters of a stem


def safe_stem(text: str) -> str:
    """Return a text as the beginning of a file name: letters, digits and ``_ . -``, and no device of Windows.

    Example:
        >>> safe_stem("formation energy"), safe_stem("aux.energy"), safe_stem("x" * 200) == "x" * 100
        ('formation_energy', '_aux.energy', True)
    """
    stem = re.sub(r"[^A-Za-z0-9_.-]+", "_", text)
    return f"{'_' if _DEVICES.fullmatch(stem.partition('.')[0]) else ''}{stem}"[:MOST]


def problem_on_windows(path: str | os.PathLike[str]) -> str | None:
    r"""Return why Windows cannot have a file with this path; None if it can.

    Example:
        >>> problem_on_windows("C:\\data\\nul.lg")
        "'nul.lg' names the device NUL"
        >>> problem_on_windows("D:\\data\\mp 2:1.lg"), problem_on_windows(r"\\server\data\mp.lg")
        ("'mp 2:1.lg' has the character ':'", None)
    """
    place = PureWindowsPath(os.fspath(path))
    for part in place.parts[1:] if place.anchor else place.parts:
        if part == "..":
            continue
        if found := _FORBIDDEN.search(part):
            return f"{part!r} has the character {found[0]!r}"
        if device := _DEVICES.fullmatch(part.partition(".")[0].rstrip(" ")):
            return f"{part!r} names the device {device[0].upper()}"
        if part[-1] in " .":
            return f"{part!r} ends with {part[-1]!r}"
    return None


def check_path(path: str | os.PathLike[str]) -> None:
    """Refuse the path of an output that the present system cannot have.

    Raises:
        InputError: this is Windows, and the path names a device or has a forbidden character.
    """
    if sys.platform == "win32" and (problem := problem_on_windows(path)):
        msg = f"the output {os.fspath(path)} is no name for a file of Windows: {problem}; choose another name"
        raise InputError(msg)
