"""Systems without the names of Linux: a small dataset is written, read, loaded, changed and verified there too.

lazygraph sees a Windows, or a macOS, in these processes and in all that they start (``site/sitecustomize.py``).
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from lazygraph.storage.names import problem_on_windows, safe_stem
from tests.elsewhere.names import absent, write

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
SYSTEMS = ("win32", "darwin")
pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="Linux pretends to be another system")


@pytest.fixture
def pretended(tmp_path):
    """Run a command in a Python that looks like one of another system."""

    def run(system, *arguments, seconds=560):
        write(tmp_path / f"{system}.json", system)
        paths = [os.fspath(HERE / "site"), os.fspath(ROOT), os.environ.get("PYTHONPATH", "")]
        variables = {
            "PRETENDED_SYSTEM": system, "PRETENDED_NAMES": os.fspath(tmp_path / f"{system}.json"),
            "PRETENDED_LOG": os.fspath(tmp_path / "refused.log"), "PYTHONPATH": os.pathsep.join(filter(None, paths)),
            "OMP_NUM_THREADS": "1", "PYTHONWARNDEFAULTENCODING": "1",
        }  # fmt: skip
        return subprocess.run(
            [sys.executable, *map(os.fspath, arguments)], capture_output=True, text=True, check=False, timeout=seconds,
            env=os.environ | variables, start_new_session=True, cwd=ROOT,
        )  # fmt: skip

    return run


def test_names_that_only_some_systems_have_are_missing():
    windows = absent("win32")
    named = "fork pread pwrite memfd_create sched_getaffinity register_at_fork posix_fadvise sysconf statvfs O_CLOEXEC"
    assert set(named.split()) <= set(windows["os"])
    assert windows["fcntl"] is windows["resource"] is None
    assert {"SIGKILL", "setitimer", "pthread_sigmask"} <= set(windows["signal"])
    assert {"memfd_create", "sched_getaffinity", "posix_fadvise"} <= set(absent("darwin")["os"])


@pytest.mark.slow
@pytest.mark.parametrize("system", SYSTEMS)
def test_a_dataset_is_written_read_loaded_and_changed(pretended, system, tmp_path):
    done = pretended(system, HERE / "scenario.py", tmp_path / "data", tmp_path / "found.json")
    assert done.returncode == 0, done.stderr[-3000:]
    assert not re.search(r"lazygraph/\S+: EncodingWarning", done.stderr)
    found = json.loads((tmp_path / "found.json").read_text())
    windows = system == "win32"
    assert found["write"] == [60, True, ["a.lg", "b.lg"]]
    assert found["read"][::2] == [True, []]
    assert found["load"] == [True, True, True]
    assert found["locks"] == [True, False, True, False]
    assert found["commands"] == [0] * 5
    added, same, removed, left, told, problems = found["edit"]
    assert (added, same, problems) == (10, True, [])
    assert removed > 0
    assert left > 0
    assert [bool(re.match("[0-9]+ files stay, because programs have them open", one)) for one in told] == [
        True
    ] * windows
    forbidden = ["'nul.lg' names the device NUL", "'a:b.lg' has the character ':'", "'what?.lg' has the character '?'"]
    assert found["names"][:2] == [forbidden if windows else ["written"] * 3, True]
    assert "_aux.energy" in found["names"][2]
    assert found["machine"] == [True, True]


MODULES = "tests/format/test_shard.py tests/golden tests/writing/test_deaths.py tests/writing/test_lock.py".split()
# The check whether a file is open, and its removal, are one step on Windows, and two here.
LEFT_OUT = {"win32": "not take_turns", "darwin": "test"}


@pytest.mark.slow
@pytest.mark.timeout(1500)
@pytest.mark.parametrize("system", SYSTEMS)
def test_the_suite_passes_there(pretended, system):
    options = ("-q", "-n0", "-p", "no:cacheprovider", "-k", LEFT_OUT[system])
    done = pretended(system, "-m", "pytest", *options, *MODULES, seconds=1400)
    assert done.returncode == 0, done.stdout[-4000:]


@pytest.mark.parametrize(
    ("path", "problem"),
    [
        ("mp.lg", None),
        ("C:\\data\\mp.lg", None),
        ("C:mp.lg", None),
        ("..\\mp.lg", None),
        ("\\\\server\\share\\mp.lg", None),
        ("con", "'con' names the device CON"),
        ("D:/x/COM1.lg", "'COM1.lg' names the device COM1"),
        ("aux.lg", "'aux.lg' names the device AUX"),
        ("console.lg", None),
        ("x/lpt9 .lg", "'lpt9 .lg' names the device LPT9"),
        ("mp<2>.lg", "'mp<2>.lg' has the character '<'"),
        ("mp.lg.", "'mp.lg.' ends with '.'"),
        ("mp ", "'mp ' ends with ' '"),
        ("ab:c.lg", "'ab:c.lg' has the character ':'"),
    ],
)
def test_names_that_windows_forbids_are_known(path, problem):
    assert problem_on_windows(path) == problem


@pytest.mark.parametrize("name", ["nul", "Aux.energy", "CON", "com1.x", "a:b", "é", "x" * 300, "energy per atom"])
def test_a_column_of_any_name_has_a_file_that_windows_can_have(name):
    assert problem_on_windows(f"{safe_stem(name)}-0123456789abcdef.npy") is None
