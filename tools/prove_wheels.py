"""Proofs that the wheels in dist/ work where they are installed; see ``tools/wheels --prove``.

Each needs lazygraph's own environment (.venv, as ./tools/test makes it) beside that of ``tools/wheels``.
"""

from __future__ import annotations

import ast
import importlib.util
import os
import re
import shutil
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
GOLDEN = ROOT / "tests" / "golden"
PROOFS_FOLDER = ROOT / "tools" / "proofs"
# Of a checkout, and not of an installed package.
TESTS_OF_CHECKOUT = ("interop", "test_house.py", "test_release.py", "test_site.py")
FILES_OF_TESTS = ("README.md", "CONTRIBUTING.md", "CHANGELOG.md", "CITATION.cff", "constraints.txt", "pyproject.toml")
COMPILER = re.compile(r"(.*-)?(cc|c89|c99|gcc|g\+\+|c\+\+|cpp|clang|clang\+\+|tcc)(-[\d.]+)?")
# What is tested without torch.
TESTS_ELSEWHERE = ("format", "graphs")
# What lazygraph needs to read, build and pack graphs, and what the tests of that need.
PACKAGES = (
    "array-api-compat ase cloudpickle gemmi hypothesis joblib lmdb loky monty msgpack networkx numpy orjson palettable "
    "pandas platformdirs pytest pytest-timeout requests ruamel.yaml scipy spglib sympy tabulate tqdm uncertainties "
    "xxhash zstandard"
).split()
ALONE = ("pymatgen", "pymatgen-core")  # without what they need, of which one has no wheel
STARTS = re.compile(r"subprocess\.|multiprocessing\.")
NEEDS_TORCH = re.compile(r"^ *(import|from) (torch|lazygraph\.(testing|loading))", re.MULTILINE)
PYTHONS = ("3.11", "3.12", "3.13", "3.14")
RESOLVED = ("x86_64-manylinux_2_28", "aarch64-manylinux_2_28", "aarch64-apple-darwin", "windows")
"""Platforms for which all packages have wheels, as uv names them. Of macOS on Intel, torch and spglib have none."""
PURE = ("bibtexparser",)  # has no wheel, and no compiled code
# An arm64 Python, of Debian's packages.
DEBIAN = (
    "libc6 libgcc-s1 libstdc++6 zlib1g libexpat1 libssl3 libffi8 libbz2-1.0 liblzma5 libsqlite3-0 libuuid1 libdb5.3 "
    "libtinfo6 libncursesw6 libreadline8 libcrypt1 libtirpc3 libnsl2 libgomp1 python3.11 python3.11-minimal "
    "libpython3.11-minimal libpython3.11-stdlib"
).split()


def run(*command, **options):
    print("+", *(os.fspath(word) for word in command), flush=True)
    return subprocess.run([os.fspath(word) for word in command], check=True, **options)


def wheel(folder, platform):
    found = list(folder.glob(f"lazygraph-*-{platform}.whl"))
    if len(found) != 1:
        sys.exit(f"{folder} has {len(found)} wheels for {platform}; build one: ./tools/wheels {platform}")
    return found[0]


def constraint(name):
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    return next((line for line in lines if line.lower().startswith(f"{name.lower()}==")), name)


def copied_tests(folder, parts):
    """The tests, outside the checkout, so that they find the installed package alone."""
    shutil.copytree(ROOT / "tests", folder / "tests", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copytree(ROOT / "tools", folder / "tools", ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("docs", "examples"):
        shutil.copytree(ROOT / name, folder / name)
    for name in FILES_OF_TESTS:
        shutil.copy(ROOT / name, folder)
    (folder / "pytest.ini").write_text(
        "[pytest]\naddopts = -q --import-mode=importlib\npythonpath = .\nmarkers = slow\n"
    )
    return [os.fspath(folder / "tests" / part) for part in parts]


def without_torch(folders):
    """The modules of tests that need no torch."""
    modules = [path for folder in folders for path in sorted(Path(folder).glob("test_*.py"))]
    return [path for path in modules if not NEEDS_TORCH.search(path.read_text(encoding="utf-8"))]


def starting_processes(paths):
    """The names of the tests that start processes, which qemu does not start, and of modules whose helpers do."""
    texts = {path: path.read_text(encoding="utf-8") for path in paths}
    functions = [
        (path, node) for path in paths for node in ast.parse(texts[path]).body if isinstance(node, ast.FunctionDef)
    ]
    return [
        node.name if node.name.startswith("test_") else path.stem
        for path, node in functions
        if STARTS.search(ast.get_source_segment(texts[path], node))
    ]


# ---- the wheel of Linux, installed ----


def programs(folder):
    """A folder with all programs on the PATH but Pythons and compilers."""
    folder.mkdir()
    for path in filter(os.path.isdir, os.get_exec_path()):
        for program in Path(path).iterdir():
            left_out = COMPILER.fullmatch(program.name) or program.name.startswith(("python", "pip"))
            if not left_out and not os.path.lexists(folder / program.name):
                (folder / program.name).symlink_to(program)
    return folder


def installed(dist, version):
    """Run the tests in a new environment with no compiler on its PATH."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        run(sys.executable, "-m", "venv", folder / "env")
        python = folder / "env" / "bin" / "python"
        left_out = ("PYTHON", "VIRTUAL", "CC")
        variables = {name: value for name, value in os.environ.items() if not name.startswith(left_out)}
        paths = folder / "env" / "bin", programs(folder / "programs")
        variables |= {"PATH": os.pathsep.join(map(os.fspath, paths)), "OMP_NUM_THREADS": "1"}
        assert not any(shutil.which(name, path=variables["PATH"]) for name in ("cc", "gcc", "clang"))
        run(
            python, "-m", "pip", "install", "-qq", "--disable-pip-version-check", "-c", ROOT / "constraints.txt",
            f"{wheel(dist, 'manylinux_2_17_x86_64')}[test]", env=variables,
        )  # fmt: skip
        code = (
            "import lazygraph as lg; from lazygraph.native import kernels; from lazygraph.format.native_reader import "
            f"functions; assert lg.__version__ == {version!r} and kernels() and functions(); print(lg.__file__)"
        )
        run(python, "-c", code, cwd=folder, env=variables)
        run(folder / "env" / "bin" / "lazygraph", "doctor", cwd=folder, env=variables)
        (tests,) = copied_tests(folder, [""])
        ignored = [f"--ignore={tests}/{name}" for name in TESTS_OF_CHECKOUT]
        run(
            python, "-m", "pytest", "-p", "no:cacheprovider", "-n", "logical", "-m", "not slow", *ignored, tests,
            cwd=folder, env=variables,
        )  # fmt: skip
    print("the x86_64 wheel works where there is no compiler")


# ---- the wheel of Linux, in other versions of Python ----


def pythons(dist, version):
    """Run tests without torch in every Python that is there; torch for each of them is gigabytes."""
    found = [path for python in PYTHONS if (path := shutil.which(f"python{python}"))]
    if not found:
        sys.exit(f"found none of {', '.join(f'python{python}' for python in PYTHONS)} on the PATH; install one")
    for path in found:
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            run(path, "-m", "venv", folder / "env")
            python, pip = folder / "env" / "bin" / "python", ("-m", "pip", "install", "-qq")
            run(python, *pip, *map(constraint, (*PACKAGES, "psutil", "vesin")))
            run(python, *pip, "--no-deps", *map(constraint, ALONE), wheel(dist, "manylinux_2_17_x86_64"))
            variables = os.environ | {"OMP_NUM_THREADS": "1"}
            code = (
                "import sys, lazygraph as lg; from lazygraph.native import kernels; "
                f"assert lg.__version__ == {version!r} and kernels(); print('Python', sys.version)"
            )
            run(python, "-c", code, cwd=folder, env=variables)
            parts = without_torch(copied_tests(folder, TESTS_ELSEWHERE))
            golden = folder / "tools" / "proofs" / "golden.py", folder / "tests" / "golden"
            run(python, *golden, cwd=folder, env=variables)
            run(python, "-m", "pytest", "-p", "no:cacheprovider", "-m", "not slow", *parts, cwd=folder, env=variables)
    print(f"the x86_64 wheel works with {', '.join(Path(path).name for path in found)}")


# ---- the library of Windows, under wine ----


def wine(dist, version):  # noqa: ARG001  # as the others
    """Read every golden dataset by the DLL of the wheel, and compare with what Linux reads."""
    program = shutil.which("wine") or sys.exit(
        "there is no wine (Debian: apt-get install --no-install-recommends wine wine64)"
    )
    zig = Path(importlib.util.find_spec("ziglang").origin).with_name("zig")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        with zipfile.ZipFile(wheel(dist, "win_amd64")) as archive:
            archive.extract("lazygraph/native/kernels.dll", folder)
        include = ROOT / "lazygraph" / "native"
        run(
            zig, "cc", "-target", "x86_64-windows-gnu", "-O1", "-std=c11", "-fno-sanitize=all", "-I", include,
            PROOFS_FOLDER / "windows.c", "-o", folder / "windows.exe",
        )  # fmt: skip
        variables = os.environ | {"WINEDEBUG": "-all", "WINEPREFIX": os.fspath(folder / "prefix"), "DISPLAY": ""}
        own = ROOT / ".venv" / "bin" / "python"
        for dataset in sorted(GOLDEN.glob("*.lg")):
            job, out = folder / f"{dataset.stem}.job", folder / f"{dataset.stem}.out"
            run(own, PROOFS_FOLDER / "windows_job.py", "write", dataset, job)
            dll = folder / "lazygraph" / "native" / "kernels.dll"
            run(program, folder / "windows.exe", f"Z:{dll}", f"Z:{job}", f"Z:{out}", env=variables)
            run(own, PROOFS_FOLDER / "windows_job.py", "compare", dataset, out)
        server = shutil.which("wineserver") or "/usr/lib/wine/wineserver64"
        subprocess.run([server, "-k"], env=variables, check=False)
    print("the Windows library reads the golden datasets to the same bytes, under wine")


# ---- the wheel of aarch64, under qemu ----


def aarch64(dist, version):  # noqa: ARG001  # as the others
    """Run tests in an arm64 Python made of Debian's packages and wheels of PyPI."""
    qemu = shutil.which("qemu-aarch64-static") or sys.exit(
        "there is no qemu (Debian: apt-get install qemu-user-static)"
    )
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        root, site, debs = folder / "root", folder / "site", folder / "debs"
        debs.mkdir()
        foreign = subprocess.run(["dpkg", "--print-foreign-architectures"], capture_output=True, text=True, check=True)
        if "arm64" not in foreign.stdout.split():
            sys.exit("Debian's packages of arm64 are not listed: dpkg --add-architecture arm64 && apt-get update")
        run("apt-get", "download", "-qq", *(f"{package}:arm64" for package in DEBIAN), cwd=debs)
        for deb in debs.glob("*.deb"):
            run("dpkg", "-x", deb, root)
        platforms = [f"--platform=manylinux_2_{minor}_aarch64" for minor in (17, 27, 28, 34)] + [
            "--platform=manylinux2014_aarch64"
        ]
        run(
            sys.executable, "-m", "pip", "install", "-qq", "--disable-pip-version-check", "--target", site,
            "--only-binary=:all:", "--python-version=3.11", *platforms, *map(constraint, PACKAGES),
        )  # fmt: skip
        run(
            sys.executable, "-m", "pip", "install", "-qq", "--no-deps", "--target", site, "--only-binary=:all:",
            "--python-version=3.11", *platforms, *map(constraint, ALONE), wheel(dist, "manylinux_2_17_aarch64"),
        )  # fmt: skip
        variables = {
            "PYTHONPATH": os.fspath(site), "PATH": "/nowhere", "HOME": os.fspath(folder), "OMP_NUM_THREADS": "1",
            "QEMU_LD_PREFIX": os.fspath(root), "PYTHONHOME": os.fspath(root / "usr"), "LANG": "C.UTF-8",
        }  # fmt: skip
        python = (qemu, root / "usr" / "bin" / "python3.11")
        run(*python, "-c", "import platform; print(platform.machine(), platform.python_version())", env=variables)
        parts = without_torch(copied_tests(folder, TESTS_ELSEWHERE))
        chosen = f"not ({' or '.join(starting_processes(parts))})"
        run(*python, folder / "tools" / "proofs" / "golden.py", folder / "tests" / "golden", cwd=folder, env=variables)
        run(
            *python, "-m", "pytest", "-p", "no:cacheprovider", "-m", "not slow", "-k", chosen, *parts, cwd=folder,
            env=variables,
        )  # fmt: skip
    print("the aarch64 wheel works under qemu")


# ---- the packages that lazygraph needs, elsewhere ----


def resolved(dist, version):  # noqa: ARG001  # as the others
    """Find wheels of all packages that lazygraph needs, for every platform and every version of Python."""
    from packaging.requirements import Requirement

    problems = []
    for python in PYTHONS:
        for platform in RESOLVED:
            done = subprocess.run(
                [
                    shutil.which("uv", path=os.path.dirname(sys.executable)), "pip", "compile", ROOT / "pyproject.toml",
                    "--python-version", python, "--python-platform", platform, "--only-binary", ":all:",
                    *(word for name in PURE for word in ("--no-binary", name)), "--no-header", "--no-annotate", "-q",
                ],
                capture_output=True, text=True, check=False,
            )  # fmt: skip
            found = [Requirement(line) for line in done.stdout.splitlines() if "==" in line]
            torch = [str(one.specifier) for one in found if one.name == "torch"]
            if done.returncode or not torch:
                problems.append(f"{python} {platform}: {' '.join(done.stderr.split())[:300]}")
            else:
                print(f"Python {python}, {platform}: {len(found)} packages, torch{torch[0]}")
    if problems:
        sys.exit("\n".join(problems))


PROOFS = {"installed": installed, "pythons": pythons, "wine": wine, "aarch64": aarch64, "resolved": resolved}
