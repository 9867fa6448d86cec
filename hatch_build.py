"""Compiles lazygraph/native/*.c at installation, where there is a C compiler; without one all works, slower.

Variables of the environment:

- ``CC``: the compiler, with options.
- ``LAZYGRAPH_WHEEL``: the tag of a platform, such as ``manylinux_2_17_x86_64``. Then a wheel for this platform is made,
  by a compiler that may be one for another platform, and it is an error if it fails. ``tools/wheels`` sets it.
- ``LAZYGRAPH_WITH``: a folder. Its C sources are compiled too, ``exports.def`` in it names what the library exports,
  and its licences (``*.txt``) go into the wheel.
"""

from __future__ import annotations

import os
import runpy
import shlex
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

FOLDER = Path("lazygraph", "native")
# No contraction of floating-point operations: the loops give the bits of the plain functions that they stand for.
# Nothing reads errno or the flags of exceptions, and without them more loops are vectorized.
FLAGS = ("-O3", "-std=c11", "-shared", "-ffp-contract=off", "-fno-math-errno", "-fno-trapping-math")
SMALL = ("-s", "-ffunction-sections", "-fdata-sections", "-Wl,--gc-sections")
"""Without names that nothing needs, and functions that nothing calls."""


class CompileKernels(BuildHookInterface):  # type: ignore[misc]  # hatchling is not installed where types are checked
    """Puts the compiled loops beside their sources, and into the wheel."""

    PLUGIN_NAME = "custom"

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:  # noqa: ARG002  # hatchling's signature
        """Compile; a wheel with the result is one for this platform."""
        platform = os.environ.get("LAZYGRAPH_WHEEL")
        if platform:
            self._for_platform(platform, build_data)
            return
        name = _library_name(self.root, sys.platform)
        target = Path(self.root, FOLDER, name)
        why = self._compile(target, _flags(sys.platform))
        if why is not None:
            target.unlink(missing_ok=True)
            self.app.display_warning(f"lazygraph: {why}; slower plain code will make and read graphs")
            return
        build_data["force_include"][os.fspath(target)] = (FOLDER / name).as_posix()
        build_data["pure_python"] = False
        build_data["infer_tag"] = True

    def finalize(self, version: str, build_data: dict[str, Any], artifact_path: str) -> None:  # noqa: ARG002  # as above
        """Remove what was compiled for another platform."""
        if made := build_data.get("lazygraph_made"):
            shutil.rmtree(made)

    def _for_platform(self, platform: str, build_data: dict[str, Any]) -> None:
        """Compile for a platform that may be another one, outside the sources.

        Raises:
            SystemExit: there is no compiler, or it fails.
        """
        system = "win32" if platform.startswith("win") else "darwin" if platform.startswith("macosx") else "linux"
        name = _library_name(self.root, system)
        made = build_data["lazygraph_made"] = tempfile.mkdtemp(prefix="lazygraph-wheel-")
        target = Path(made, name)
        # On macOS a library knows its own name; else it would be where it was compiled.
        more = (f"-Wl,-install_name,@rpath/{name}",) if system == "darwin" else SMALL
        if why := self._compile(target, (*_flags(system), *more)):
            shutil.rmtree(made)
            sys.exit(f"lazygraph: a wheel for {platform} needs compiled code, but {why}")
        build_data["force_include"][os.fspath(target)] = (FOLDER / name).as_posix()
        for licence in _more("*.txt"):
            build_data["force_include"][os.fspath(licence)] = (FOLDER / "licences" / licence.name).as_posix()
        build_data["pure_python"] = False
        build_data["tag"] = f"py3-none-{platform}"

    def _compile(self, target: Path, flags: tuple[str, ...]) -> str | None:
        """Compile; what is wrong if it is not possible."""
        compiler = os.environ.get("CC") or shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")
        if compiler is None:
            return "there is no C compiler (cc, gcc or clang)"
        partial = target.with_suffix(".partial")
        folder = Path(self.root, FOLDER)
        sources = map(os.fspath, [*sorted(folder.glob("*.c")), *_more("*.c"), *_more("exports.def")])
        command = [*_words(compiler), *flags, _defined(folder), *sources, "-o", os.fspath(partial), "-lm"]
        try:
            subprocess.run(command, check=True, capture_output=True, text=True)  # noqa: S603  # the user's compiler
        except (OSError, subprocess.CalledProcessError) as error:
            return f"{command[0]} failed: {getattr(error, 'stderr', '') or error}"
        partial.replace(target)  # never under the feet of a process that has it loaded
        return None


def _flags(system: str) -> tuple[str, ...]:
    """The options of the compiler; code of Windows is at no fixed place anyway."""
    return FLAGS if system == "win32" else (*FLAGS, "-fPIC")


def _words(command: str) -> list[str]:
    """The words of a command; backslashes are part of the paths of Windows."""
    return shlex.split(command, posix=os.name != "nt")


def _more(pattern: str) -> list[Path]:
    folder = os.environ.get("LAZYGRAPH_WITH")
    return sorted(Path(folder).glob(pattern)) if folder else []


def _library_name(root: str, system: str) -> str:
    """The name of the compiled library, as lazygraph looks for it."""
    return str(_shared(Path(root, FOLDER))["library_name"](system))


def _defined(folder: Path) -> str:
    """The hash of the sources, as a definition for the compiler."""
    return f'-DLG_SOURCES="{_shared(folder)["source_hash"](folder)}"'


def _shared(folder: Path) -> dict[str, Any]:
    """What the package and its installation both need."""
    return runpy.run_path(os.fspath(folder / "source_hash.py"))
