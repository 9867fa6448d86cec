"""Builds and checks the wheels; see ``tools/wheels``, which runs it."""

from __future__ import annotations

import argparse
import importlib.util
import os
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
import tomllib
import zipfile
from email.parser import BytesParser
from pathlib import Path, PurePosixPath

ROOT = Path(__file__).resolve().parents[1]
DIST = ROOT / "dist"
NATIVE = "lazygraph/native"
TARGETS = {
    "manylinux_2_17_x86_64": "x86_64-linux-gnu.2.17",
    "manylinux_2_17_aarch64": "aarch64-linux-gnu.2.17",
    "macosx_11_0_arm64": "aarch64-macos.11.0",
    "macosx_11_0_x86_64": "x86_64-macos.11.0",
    "win_amd64": "x86_64-windows-gnu",
}
"""Platform of a wheel -> target of the compiler."""
# Extension modules of Windows do not show the functions of these packages, so the library brings its own.
BUNDLED = {"zstandard": "zstd/zstd.c zstd/zstd.h zstd/zstd_errors.h zstd/zdict.h", "xxhash": "deps/xxhash/xxhash.[ch]"}
ZSTD = (
    "XXH3_64bits ZSTD_getFrameContentSize ZSTD_findFrameCompressedSize ZSTD_decompress_usingDDict ZSTD_createDCtx "
    "ZSTD_freeDCtx ZSTD_createDDict ZSTD_freeDDict"
).split()
WHEEL_LIMIT, SDIST_LIMIT = 2 << 20, 12 << 20  # bytes
NEEDED = {  # libraries that every system has
    "manylinux": r"lib(c|m|pthread|dl|rt)\.so\.[0-9]+|ld-linux-(x86-64|aarch64)\.so\.[0-9]+",
    "macosx": r"/usr/lib/libSystem\.B\.dylib",
    "win": r"(?i)api-ms-win-crt-[a-z0-9-]+\.dll|kernel32\.dll",
}


def run(*command, **options):
    """Run a command, whose error ends the program."""
    return subprocess.run([*map(str, command)], check=True, **options)


def pinned(name):
    return next(line for line in (ROOT / "constraints.txt").read_text().splitlines() if line.startswith(f"{name}=="))


# ---- build ----


def build(platforms):
    """Build the source distribution, and from it the wheels."""
    DIST.mkdir(exist_ok=True)
    for old in DIST.glob("lazygraph-*"):
        old.unlink()
    run(sys.executable, "-m", "build", "--sdist", "--no-isolation", "--outdir", DIST, ROOT, stdout=subprocess.DEVNULL)
    with tempfile.TemporaryDirectory() as folder:
        (sdist,) = DIST.glob("*.tar.gz")
        with tarfile.open(sdist) as archive:
            archive.extractall(folder, filter="data")
        (source,) = Path(folder).iterdir()
        extra = with_zstd(Path(folder, "zstd")) if any(name.startswith("win") for name in platforms) else None
        for platform in platforms:
            build_wheel(source, platform, extra)


def build_wheel(source, platform, extra):
    # The program itself: under a build, its Python package is not found.
    zig = Path(importlib.util.find_spec("ziglang").origin).with_name("zig")
    compiler = f"{zig} cc -target {TARGETS[platform]} -fno-sanitize=all"
    variables = {"CC": compiler, "LAZYGRAPH_WHEEL": platform}
    if platform.startswith("win"):
        variables["LAZYGRAPH_WITH"] = os.fspath(extra)
    run(
        sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", DIST, source,
        env=os.environ | variables, stdout=subprocess.DEVNULL,
    )  # fmt: skip


def with_zstd(folder):
    """A folder with the C sources of zstd and XXH3, of the packages that lazygraph needs, and what is exported."""
    folder.mkdir()
    with tempfile.TemporaryDirectory() as downloads:
        for name, patterns in BUNDLED.items():
            run(
                sys.executable, "-m", "pip", "download", "-qq", "--no-deps", "--no-binary", name, "-d", downloads,
                pinned(name),
            )  # fmt: skip
            (archive,) = Path(downloads).glob(f"{name}-*.tar.gz")
            with tarfile.open(archive) as opened:
                opened.extractall(downloads, filter="data")
            source = Path(downloads, archive.name.removesuffix(".tar.gz"))
            for pattern in patterns.split():
                for file in source.glob(pattern):
                    shutil.copy(file, folder)
            licence = next(source.glob(f"{PurePosixPath(patterns.split()[0]).parent}/LICENSE"))
            shutil.copy(licence, folder / f"{name}.txt")
    (folder / "exports.def").write_text("\n".join(["EXPORTS", *exported(), "lg_read_at", *ZSTD, ""]))
    return folder


def exported():
    """The functions of the compiled loops that Python calls."""
    return re.findall(r'^    "(lg_\w+)": \(', (ROOT / NATIVE / "__init__.py").read_text(), re.MULTILINE)


# ---- checks ----


def check(platforms):
    """Check all that is in dist/; exit with the problems."""
    problems = check_sdist()
    wheels = {wheel.name.split("-")[-1].removesuffix(".whl"): wheel for wheel in DIST.glob("*.whl")}
    problems += [f"there is no wheel for {platform}" for platform in platforms if platform not in wheels]
    for platform, wheel in sorted(wheels.items()):
        found = check_wheel(wheel, platform)
        print(f"{wheel.name}: {wheel.stat().st_size >> 10} KiB, {'; '.join(found) or 'as it must be'}")
        problems += found
    done = subprocess.run(
        [sys.executable, "-m", "twine", "check", "--strict", *DIST.glob("lazygraph-*")], capture_output=True, text=True,
        check=False,
    )  # fmt: skip
    print(f"twine check --strict: {'passed' if done.returncode == 0 else done.stdout}")
    problems += ["twine refuses the metadata"] * (done.returncode != 0)
    if problems:
        sys.exit(f"tools/wheels: {len(problems)} problems, the first: {problems[0]}")


def check_sdist():
    found = []
    for sdist in DIST.glob("*.tar.gz"):
        with tarfile.open(sdist) as archive:
            names = [
                PurePosixPath(name).relative_to(PurePosixPath(name).parts[0]).as_posix() for name in archive.getnames()
            ]
        wanted = (
            "pyproject.toml",
            "hatch_build.py",
            "LICENSE",
            "README.md",
            f"{NATIVE}/batch.c",
            "tests/golden/1.0.json",
        )
        found += [f"{sdist.name} lacks {name}" for name in wanted if name not in names]
        found += [f"{sdist.name} has {name}" for name in names if name.startswith("tools/fuzz/corpus")][:1]
        found += [f"{sdist.name} has {name}" for name in names if re.search(r"kernels\.(so|dylib|dll)|\.pyc$", name)][
            :1
        ]
        if sdist.stat().st_size > SDIST_LIMIT:
            found.append(f"{sdist.name} has {sdist.stat().st_size} bytes")
        print(
            f"{sdist.name}: {sdist.stat().st_size >> 10} KiB, {len(names)} files, {'; '.join(found) or 'as it must be'}"
        )
    return found or [] if list(DIST.glob("*.tar.gz")) else ["there is no source distribution"]


def check_wheel(wheel, platform):
    """What is wrong with a wheel."""
    import lief

    lief.logging.disable()
    found = []
    with zipfile.ZipFile(wheel) as archive, tempfile.TemporaryDirectory() as folder:
        archive.extractall(folder)
        root = Path(folder)
        found += check_metadata(root, platform)
        system = next(name for name in NEEDED if platform.startswith(name))
        suffix = {"manylinux": "so", "macosx": "dylib", "win": "dll"}[system]
        libraries = [path.name for path in (root / NATIVE).glob("kernels.*")]
        if libraries != [f"kernels.{suffix}"]:
            return [*found, f"{wheel.name} has the libraries {libraries}; required: kernels.{suffix}"]
        library = root / NATIVE / libraries[0]
        sources = load(root / NATIVE / "source_hash.py").source_hash(root / NATIVE)
        if sources.encode() not in library.read_bytes():
            found.append("the library was compiled of other sources than those in the wheel")
        binary = lief.parse(os.fspath(library))
        checks = {"manylinux": check_elf, "macosx": check_macho, "win": check_pe}
        names, needed, more = checks[system](binary, platform)
        found += more
        wanted = {*exported(), *(ZSTD if system == "win" else ())}
        found += [f"the library does not export {name}" for name in sorted(wanted - names)][:1]
        found += [f"the library needs {name}" for name in needed if not re.fullmatch(NEEDED[system], name)]
        if wheel.stat().st_size > WHEEL_LIMIT:
            found.append(f"it has {wheel.stat().st_size} bytes")
    if system == "manylinux":
        found += audit(wheel, platform)
    return found


def check_metadata(root, platform):
    """What the metadata of an unpacked wheel lack."""
    (info,) = root.glob("*.dist-info")
    told = BytesParser().parsebytes((info / "METADATA").read_bytes())
    tags = BytesParser().parsebytes((info / "WHEEL").read_bytes())
    found = [f"its tag is {tags['Tag']}"] * (tags["Tag"] != f"py3-none-{platform}")
    found += [f"the metadata lack {name}" for name in (
        "Name", "Version", "Summary", "License-Expression", "License-File", "Requires-Python", "Project-URL", "Author",
        "Keywords", "Description-Content-Type",
    ) if not told[name]]  # fmt: skip
    versions = {f"Programming Language :: Python :: 3.{minor}" for minor in range(11, 15)}
    systems = {f"Operating System :: {name}" for name in ("POSIX :: Linux", "MacOS", "Microsoft :: Windows")}
    found += [
        f"there is no classifier {name}" for name in sorted((versions | systems) - set(told.get_all("Classifier")))
    ]
    licences = [info / "licenses" / name for name in told.get_all("License-File", ())]
    if platform.startswith("win"):
        licences += [root / NATIVE / "licences" / f"{name}.txt" for name in BUNDLED]
    found += [f"there is no {path.name}" for path in licences if not path.is_file()]
    found += [
        f"there is no {name}" for name in ("py.typed", "native/batch.c") if not (root / "lazygraph" / name).is_file()
    ]
    return found


def check_elf(binary, platform):
    machine = {"x86_64": "X86_64", "aarch64": "AARCH64"}[platform.removeprefix("manylinux_2_17_")]
    found = [f"it is for {binary.header.machine_type}"] * (binary.header.machine_type.name != machine)
    return {symbol.name for symbol in binary.exported_symbols}, list(binary.libraries), found


def check_macho(fat, platform):
    (binary,) = fat if hasattr(fat, "__len__") else (fat,)
    kind = {"arm64": "ARM64", "x86_64": "X86_64"}[platform.removeprefix("macosx_11_0_")]
    found = [f"it is for {binary.header.cpu_type}"] * (binary.header.cpu_type.name != kind)
    least = list(binary.build_version.minos[:2])
    found += [f"it needs macOS {least}; required: 11.0"] * (least != [11, 0])
    found += ["it is not signed, which Apple silicon requires"] * (kind == "ARM64" and not binary.has_code_signature)
    names = {symbol.name.removeprefix("_") for symbol in binary.exported_symbols}
    return names, [one.name for one in binary.libraries if one.command.name != "ID_DYLIB"], found


def check_pe(binary, platform):  # noqa: ARG001  # as the others
    found = [f"it is for {binary.header.machine}"] * (binary.header.machine.name != "AMD64")
    return {entry.name for entry in binary.get_export().entries}, [one.name for one in binary.imports], found


def audit(wheel, platform):
    """What auditwheel says against the tag of a wheel."""
    done = subprocess.run(
        [sys.executable, "-m", "auditwheel", "show", wheel], capture_output=True, text=True, check=False
    )
    told = " ".join(done.stdout.split())
    least = re.search(r'platform tag: "manylinux_2_([0-9]+)_(\w+)"', told)
    if least is None or int(least[1]) > 17 or not platform.endswith(least[2]):
        return [f"auditwheel says: {told[-300:] or done.stderr[-300:]}"]
    return []


def load(path):
    spec = importlib.util.spec_from_file_location(path.stem, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def main():
    parser = argparse.ArgumentParser(prog="tools/wheels", description=__doc__)
    parser.add_argument("platforms", nargs="*", choices=[*TARGETS, []], metavar="PLATFORM", help=", ".join(TARGETS))
    parser.add_argument("--check", action="store_true", help="build nothing")
    proofs = ["installed", "pythons", "wine", "aarch64", "resolved"]
    parser.add_argument("--prove", choices=proofs, help="run one of the proofs")
    arguments = parser.parse_args()
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    if arguments.prove:
        load(ROOT / "tools" / "prove_wheels.py").PROOFS[arguments.prove](DIST, version)
        return
    platforms = arguments.platforms or list(TARGETS)
    if not arguments.check:
        build(platforms)
    check(platforms)


if __name__ == "__main__":
    main()
