"""Names of the standard library that other systems do not have, as typeshed says."""

from __future__ import annotations

import ast
import json
import sys
from pathlib import Path
from types import SimpleNamespace

import mypy

STUBS = Path(mypy.__file__).parent / "typeshed" / "stdlib"
MODULES = ("errno", "faulthandler", "mmap", "multiprocessing.reduction", "os", "select", "signal", "socket", "time")
OF_UNIX = ("fcntl", "grp", "pwd", "resource", "syslog", "termios")


def names(module, system):
    """The names that a module has on a system, with this version of Python."""
    place = STUBS.joinpath(*module.split("."))
    path = place / "__init__.pyi" if place.is_dir() else place.with_suffix(".pyi")
    known = {"sys": SimpleNamespace(platform=system, version_info=sys.version_info)}
    found = set()

    def take(nodes):
        for node in nodes:
            if isinstance(node, ast.If):
                try:
                    chosen = eval(compile(ast.Expression(node.test), path.name, "eval"), known)  # noqa: S307
                except NameError:
                    chosen = True
                take(node.body if chosen else node.orelse)
            elif isinstance(node, ast.FunctionDef | ast.ClassDef):
                found.add(node.name)
                if isinstance(node, ast.ClassDef) and node.bases and ast.unparse(node.bases[0]).endswith("IntEnum"):
                    take(node.body)
            elif isinstance(node, ast.AnnAssign | ast.Assign):
                targets = [node.target] if isinstance(node, ast.AnnAssign) else node.targets
                found.update(target.id for target in targets if isinstance(target, ast.Name))
            elif isinstance(node, ast.ImportFrom):
                found.update(alias.asname or alias.name for alias in node.names)

    take(ast.parse(path.read_text(encoding="utf-8")).body)
    return found


def absent(system):
    """Module -> the names that Linux has and a system has not; None for a module that it does not have."""
    out = dict.fromkeys(OF_UNIX) if system == "win32" else {}
    for module in MODULES:
        there, here = ({name for name in names(module, one) if name[0] != "_"} for one in (system, "linux"))
        out[module] = sorted(here - there)
    return out


def write(path, system):
    path.write_text(json.dumps(absent(system)), encoding="utf-8")
