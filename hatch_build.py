"""Compiles lazygraph/native/*.c at installation, where there is a C compiler; without one all works, slower."""

from __future__ import annotations

import os
import runpy
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

LIBRARY = Path("lazygraph", "native", "kernels.so")
# No contraction of floating-point operations: the loops give the bits of the plain functions that they stand for.
# Nothing reads errno or the flags of exceptions, and without them more loops are vectorized.
FLAGS = ("-O3", "-std=c11", "-fPIC", "-shared", "-ffp-contract=off", "-fno-math-errno", "-fno-trapping-math")


class CompileKernels(BuildHookInterface):  # type: ignore[misc]  # hatchling is not installed where types are checked
    """Puts kernels.so beside its sources, and into the wheel."""

    PLUGIN_NAME = "custom"

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:  # noqa: ARG002  # hatchling's signature
        """Compile; a wheel with the result is one for this platform."""
        target = Path(self.root, LIBRARY)
        if not self._compile(target):
            target.unlink(missing_ok=True)
            return
        build_data["force_include"][os.fspath(target)] = LIBRARY.as_posix()
        build_data["pure_python"] = False
        build_data["infer_tag"] = True

    def _compile(self, target: Path) -> bool:
        compiler = os.environ.get("CC") or shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")
        if compiler is None or sys.platform == "win32":
            self.app.display_warning("lazygraph: no C compiler found; slower plain code will make and read graphs")
            return False
        partial = target.with_suffix(".partial")
        sources = map(os.fspath, sorted(target.parent.glob("*.c")))
        command = [*compiler.split(), *FLAGS, _defined(target.parent), *sources, "-o", os.fspath(partial), "-lm"]
        try:
            subprocess.run(command, check=True, capture_output=True, text=True)  # noqa: S603  # the user's compiler
        except (OSError, subprocess.CalledProcessError) as error:
            why = getattr(error, "stderr", "") or error
            self.app.display_warning(f"lazygraph: {command[0]} failed, so slower plain code will be used: {why}")
            return False
        partial.replace(target)  # never under the feet of a process that has it loaded
        return True


def _defined(folder: Path) -> str:
    """The hash of the sources, as a definition for the compiler."""
    found = runpy.run_path(os.fspath(folder / "source_hash.py"))["source_hash"](folder)
    return f'-DLG_SOURCES="{found}"'
