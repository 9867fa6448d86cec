"""Names of the package and of plug-ins: found, imported only when a user names them, refused in one form."""

from __future__ import annotations

import sys
import types

import pytest

import lazygraph as lg
from lazygraph.errors import InputError, LabelError, PluginError
from lazygraph.graphs import Preset
from lazygraph.registry import Registry, unknown_name

GROUP = "lazygraph.colours"


def install(folder, package, points, code="", group=GROUP):
    """A package as pip leaves it: a module, and metadata that declares these entry points."""
    module = package.replace("-", "_")
    (folder / f"{module}.py").write_text(code)
    info = folder / f"{module}-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {package}\nVersion: 1.0\n")
    lines = "\n".join(f"{name} = {value}" for name, value in points.items())
    (info / "entry_points.txt").write_text(f"[{group}]\n{lines}\n")


@pytest.fixture
def site(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(tmp_path)
    yield tmp_path
    for name in [name for name, module in sys.modules.items() if str(tmp_path) in str(getattr(module, "__file__", ""))]:
        del sys.modules[name]


def colours(own=None, **options):
    return Registry("colour", own or {"red": 1, "green": 2}, group=GROUP, **options)


def test_the_packages_own_names_are_found():
    registry = colours()
    assert (registry.get("red"), registry.known("green"), registry.names()) == (1, 2, ("red", "green"))
    assert "red" in registry
    assert list(registry) == ["red", "green"]
    assert (registry.used(), registry.plugins(), registry.origin("red")) == ((), (), None)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("gren", r"^unknown colour 'gren'; did you mean 'green'\? known: red, green$"),
        ("octarine", r"^unknown colour 'octarine'; known: red, green$"),
        (None, "^unknown colour None; known: red, green$"),
        (["red"], "^unknown colour .'red'.; known: red, green$"),
        ("os:getcwd", "^unknown colour 'os:getcwd'; known"),
    ],
)
def test_an_unknown_name_says_what_is_near(name, message):
    registry = colours(error=LabelError)
    assert registry.known(name) is None
    with pytest.raises(LabelError, match=message):
        registry.get(name)


def test_a_kind_without_names_says_so():
    assert unknown_name("label", "x", []) == "unknown label 'x'; known: none"


def test_a_plugin_is_imported_when_its_name_is_looked_up_and_never_before(site):
    install(site, "paint-box", {"blue": "paint_box:BLUE"}, "BLUE = 3")
    registry = colours()
    assert registry.names() == ("red", "green", "blue")
    assert registry.origin("blue") == "paint-box 1.0"
    assert registry.known("blue") is None
    assert "paint_box" not in sys.modules
    assert registry.get("blue") == registry.known("blue") == 3
    assert registry.used() == ("blue",)
    worker = colours()
    worker.use(registry.used())
    assert worker.known("blue") == 3


def test_a_plugin_cannot_replace_a_name_of_the_package(site):
    install(site, "paint-box", {"red": "paint_box:RED"}, "RED = 99")
    registry = colours()
    assert registry.get("red") == 1
    assert registry.plugins() == ()
    assert "paint_box" not in sys.modules


def test_a_name_that_two_packages_declare_is_refused(site):
    for package in ("paint-box", "paint-pot"):
        install(site, package, {"blue": f"{package.replace('-', '_')}:BLUE"}, "BLUE = 3")
    with pytest.raises(PluginError, match=r"colour 'blue' is declared by paint-box 1.0 and paint-pot 1.0; uninstall"):
        colours().get("blue")


@pytest.mark.parametrize(
    ("code", "message"),
    [
        ("import no_such_package", "'blue' of paint-box 1.0 .paint_box:BLUE. cannot be imported: ModuleNotFoundError"),
        ("1 / 0", "cannot be imported: ZeroDivisionError: division by zero. Repair or uninstall that package"),
        ("", "cannot be imported: AttributeError"),
        ("BLUE = 'text'", "'blue' of paint-box 1.0 .paint_box:BLUE. is 'text'; required: a builtins.int"),
        ("BLUE = str", "is <class 'str'>; required: a builtins.int"),
    ],
)
def test_a_plugin_that_is_broken_is_named_with_its_package(site, code, message):
    install(site, "paint-box", {"blue": "paint_box:BLUE"}, code)
    with pytest.raises(PluginError, match=message):
        colours(type_=int).get("blue")


def test_a_plugin_may_hold_a_subclass(site):
    install(site, "paint-box", {"blue": "paint_box:Blue"}, "class Blue(int): pass")
    assert colours(type_=int).get("blue").__name__ == "Blue"


def test_a_thing_of_any_module_is_named_module_and_attribute_where_the_kind_allows_it(site):
    (site / "my_colours.py").write_text("BLUE = 3\nTEXT = 'text'")
    registry = colours(type_=int, importable=True)
    assert registry.known("my_colours:BLUE") is None
    assert "my_colours" not in sys.modules
    assert registry.get("my_colours:BLUE") == registry.known("my_colours:BLUE") == 3
    assert registry.used() == ("my_colours:BLUE",)
    with pytest.raises(InputError, match="the colour 'my_colours:TEXT' is a str; required: a builtins.int"):
        registry.get("my_colours:TEXT")
    for name in ("my_colours:missing", "no.such.module:BLUE"):
        with pytest.raises(InputError, match=f"the colour '{name}' cannot be imported .*, or one of red, green"):
            registry.get(name)
    for name in ("a:b:c", ":BLUE", "my_colours:"):
        with pytest.raises(InputError, match="unknown colour .*known: red, green; or module:variable for a colour of"):
            registry.get(name)


def test_a_preset_that_workers_cannot_import_is_missed_only_where_it_is_needed(tmp_path, monkeypatch):
    module = types.ModuleType("made_in_this_process")
    module.CLOSE = Preset(rule="radius", parameters={"cutoff": 3.3})
    monkeypatch.setitem(sys.modules, "made_in_this_process", module)
    assert lg.graph("made_in_this_process:CLOSE").rule.cutoff == 3.3
    report = lg.write("prototypes:20?seed=0", tmp_path / "d.lg", workers=2, shard_size=10, progress=False)
    assert report.written == 20
