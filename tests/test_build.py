"""What is compiled at installation, and what happens without a compiler."""

from __future__ import annotations

import ctypes
import importlib.util
import os
import shutil
import sys
import types
from pathlib import Path

import pytest

from lazygraph.native.source_hash import library_name, source_hash

ROOT = Path(__file__).parents[1]


@pytest.fixture
def hook(tmp_path, monkeypatch):
    """A hook for a copy of the sources, as hatchling makes it, and what it warns of."""
    if not (ROOT / "hatch_build.py").is_file():
        pytest.skip("the package is installed, and not built here")
    names = "hatchling hatchling.builders hatchling.builders.hooks hatchling.builders.hooks.plugin".split()
    for name in (*names, "hatchling.builders.hooks.plugin.interface"):
        monkeypatch.setitem(sys.modules, name, types.ModuleType(name))

    class Interface:
        def __init__(self, root):
            self.root, self.warned = os.fspath(root), []
            self.app = types.SimpleNamespace(display_warning=self.warned.append)

    sys.modules["hatchling.builders.hooks.plugin.interface"].BuildHookInterface = Interface
    spec = importlib.util.spec_from_file_location("hatch_build_of_test", ROOT / "hatch_build.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    folder = tmp_path / "lazygraph" / "native"
    shutil.copytree(ROOT / "lazygraph" / "native", folder, ignore=shutil.ignore_patterns("kernels.*", "__pycache__"))
    for name in ("CC", "LAZYGRAPH_WHEEL", "LAZYGRAPH_WITH"):
        monkeypatch.delenv(name, raising=False)
    return module.CompileKernels(tmp_path)


def built(hook):
    data = {"force_include": {}}
    hook.initialize("standard", data)
    return data


def compiler():
    found = shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")
    if found is None or sys.platform == "win32":
        pytest.skip("there is no compiler")
    return found


def test_the_library_is_compiled_and_knows_its_sources(hook, monkeypatch):
    monkeypatch.setenv("CC", f"{compiler()} -O0")
    data = built(hook)
    ((path, place),) = data["force_include"].items()
    assert place == f"lazygraph/native/{library_name(sys.platform)}"
    assert (data["pure_python"], data["infer_tag"], hook.warned) == (False, True, [])
    library = ctypes.CDLL(path)
    library.lg_sources.restype = ctypes.c_char_p
    assert library.lg_sources().decode() == source_hash(Path(path).parent)


@pytest.mark.parametrize("command", ["", "no-such-compiler", "false"])
def test_without_a_working_compiler_a_warning_is_given_and_no_old_library_stays(hook, monkeypatch, command):
    monkeypatch.setenv("CC", command)
    monkeypatch.setenv("PATH", "/nowhere" if command != "false" else os.environ["PATH"])
    old = Path(hook.root, "lazygraph", "native", library_name(sys.platform))
    old.touch()
    assert built(hook) == {"force_include": {}}
    assert not old.exists()
    (told,) = hook.warned
    assert "slower plain code will make and read graphs" in told
    assert ("there is no C compiler" if not command else f"{command} failed") in told


@pytest.mark.parametrize("command", ["", "no-such-compiler", "false"])
def test_a_wheel_for_a_platform_is_never_made_without_compiled_code(hook, monkeypatch, command):
    monkeypatch.setenv("CC", command)
    monkeypatch.setenv("PATH", "/nowhere" if command != "false" else os.environ["PATH"])
    monkeypatch.setenv("LAZYGRAPH_WHEEL", "manylinux_2_17_x86_64")
    with pytest.raises(SystemExit, match="a wheel for manylinux_2_17_x86_64 needs compiled code, but"):
        built(hook)


@pytest.mark.parametrize(
    ("platform", "name"),
    [("manylinux_2_17_x86_64", "kernels.so"), ("macosx_11_0_arm64", "kernels.dylib"), ("win_amd64", "kernels.dll")],
)
def test_a_wheel_has_the_library_and_the_tag_of_its_platform(hook, monkeypatch, tmp_path, platform, name):
    """The compiler is a script that notes how it is called."""
    called = tmp_path / "called"
    script = tmp_path / "compiler"
    script.write_text(
        f'#!/bin/sh\necho "$@" > {called}\nfor word; do last=$before; before=$word; done\ntouch "$last"\n'
    )
    script.chmod(0o755)
    more = tmp_path / "with"
    more.mkdir()
    for file in ("zstd.c", "exports.def", "zstd.txt"):
        (more / file).touch()
    monkeypatch.setenv("CC", f"{script} -target x")
    monkeypatch.setenv("LAZYGRAPH_WHEEL", platform)
    monkeypatch.setenv("LAZYGRAPH_WITH", os.fspath(more))
    data = built(hook)
    assert data["tag"] == f"py3-none-{platform}"
    assert data["pure_python"] is False
    assert set(data["force_include"].values()) == {f"lazygraph/native/{name}", "lazygraph/native/licences/zstd.txt"}
    words = called.read_text().split()
    assert words[:2] == ["-target", "x"]
    assert {os.fspath(more / "zstd.c"), os.fspath(more / "exports.def")} <= set(words)
    assert ("-fPIC" in words) == (platform != "win_amd64")
    assert not list(Path(hook.root, "lazygraph", "native").glob("kernels.*"))  # beside the sources is that of here
    made = Path(data["lazygraph_made"])
    hook.finalize("standard", data, "x.whl")
    assert not made.exists()
