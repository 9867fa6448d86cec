"""One input ends no write: whatever it does, however long it takes, its reason is on the list and the rest is written.

What goes wrong here is real: objects whose methods raise or do not return, files, and cells of all sizes. Only for
graphs that do not end a ``sitecustomize`` takes the place of the builder, in all child processes.
"""

from __future__ import annotations

import math
import os
import signal
import subprocess
import sys
import threading
import time

import numpy as np
import pytest

import lazygraph as lg
from lazygraph.cli.main import main_write
from lazygraph.errors import InputError, InputTimeout, RecipeError
from lazygraph.graphs.effort import MAX_IMAGES
from lazygraph.graphs.spec import GraphSpec
from lazygraph.sources.time_limit import one_input, time_limit
from lazygraph.writing.worker import make_shard
from lazygraph.writing.write import finish, plan

CHEAP = lg.graph("radius", cutoff=3.5)
POSCAR = "x\n{scale}\n5 0 0\n0 5 0\n0 0 5\nNa Cl\n1 1\nDirect\n0 0 0\n0.5 0.5 0.5\n"
FLAT = lg.Crystal([[3, 0, 0], [3, 1e-3, 0], [3, 0, 1e-3]], [[0, 0, 0], [0.3, 0.2, 0.1]], [26, 26])


class Atoms:
    """As ASE's, of one atom in a cube; what ``do`` does happens when the cell is asked for."""

    def __init__(self, do):
        self.get_cell = lambda: (do(), np.eye(3) * 4.0)[1]
        self.get_positions = lambda: np.zeros((1, 3))
        self.get_atomic_numbers = lambda: np.array([6])
        self.get_pbc = lambda: (True, True, True)


def throws(error):
    def do():
        raise error

    return do


def for_ever():
    while True:
        pass


def swallows():
    """Goes on whatever interrupts it, three times."""
    for _ in range(3):
        try:
            for_ever()
        except Exception:
            continue


# ---- whatever happens ----


@pytest.mark.parametrize(
    "error",
    [
        MemoryError("no room"), RecursionError("deep"), StopIteration(), OverflowError("great"), ZeroDivisionError(),
        KeyError("k"), ValueError("\udcc5 is no text"), OSError(5, "broken"), lg.LazyGraphError("ours"),
    ],
    ids=lambda error: type(error).__name__,
)  # fmt: skip
def test_any_error_of_one_input_is_its_reason(error, salt, tmp_path, write, quarantine):
    report = write([("a", salt(1)), ("bad", Atoms(throws(error))), ("b", salt(2))], tmp_path / "x.lg", graph=CHEAP)
    assert (report.written, report.quarantined) == (2, 1)
    (found,) = quarantine(tmp_path / "x.lg")
    assert found.id == "bad"
    said = [type(error).__name__, *[str(part).encode("utf-8", "backslashreplace").decode() for part in error.args]]
    assert all(part in f"{found.error}: {found.message}" for part in said), found


@pytest.mark.parametrize("error", [MemoryError("no room"), StopIteration(), TypeError("x" * 10**6)], ids=type)
def test_any_error_of_building_is_the_reason_of_its_input(error, salt, tmp_path, write, quarantine, monkeypatch):
    build = GraphSpec.build

    def broken(self, structure, **options):
        if len(structure) == 1:
            raise error
        return build(self, structure, **options)

    monkeypatch.setattr(GraphSpec, "build", broken)
    lonely = lg.Crystal(np.eye(3) * 3.0, [[0, 0, 0]], [6])
    report = write([("a", salt(1)), ("bad", lonely), ("b", salt(2))], tmp_path / "x.lg", graph=CHEAP)
    assert (report.written, report.quarantined) == (2, 1)
    (found,) = quarantine(tmp_path / "x.lg")
    assert (found.id, found.error) == ("bad", type(error).__name__)
    assert found.message
    assert len(found.message) < 3000


SCALES = ("1e15", "1e-30", "1e30", "1e110", "1e150", "1e300", "1e308", "1e-2", "1e-120", "1e-300", "-1e300", "-1e-300")


@pytest.mark.parametrize("preset", ["comformer", "matformer", "mace"])
def test_cells_of_all_sizes_among_good_ones(preset, tmp_path, quarantine, capsys):
    for number in range(3):
        (tmp_path / f"good-{number}.vasp").write_text(POSCAR.format(scale=1 + 0.01 * number))
    for scale in SCALES:
        (tmp_path / f"cell{scale}.vasp").write_text(POSCAR.format(scale=scale))
    source, path = str(tmp_path / "*.vasp"), tmp_path / "x.lg"
    assert main_write([source, "-o", str(path), "--graph", preset, "--workers", "1"]) == 0
    assert "RuntimeWarning" not in capsys.readouterr().err
    assert {one.id for one in quarantine(path)} == {f"cell{scale}" for scale in SCALES}
    assert {one.error for one in quarantine(path)} <= {"StructureError", "UnreadableInput"}


def test_names_of_files_that_are_not_utf8(tmp_path, quarantine, capsys):
    folder = os.fsencode(tmp_path) + b"/\xc5ngstrom"
    os.mkdir(folder)
    for name in (b"good.vasp", b"\xc5.vasp"):
        with open(folder + b"/" + name, "w") as file:
            file.write(POSCAR.format(scale=1))
    with open(folder + b"/\xff.json", "w") as file:
        crystal = {"lattice_mat": np.eye(3).tolist(), "coords": [[0, 0, 0]], "elements": ["Na"]}
        file.write(f'[{{"atoms": {crystal}, "\\udcc5": 1.0}}]'.replace("'", '"').replace("1.0, 0", "4.0, 0"))
    for source in (os.fsdecode(folder), os.fsdecode(folder + b"/*.vasp")):
        assert main_write([source, "-o", str(tmp_path / "x.lg"), "--graph", "mace", "--overwrite"]) == 0
        (found,) = quarantine(tmp_path / "x.lg")
        assert found.id == "\\udcc5"
        assert "not Unicode" in found.message
    paths = [os.fsdecode(folder + b"/\xff.json"), os.fsdecode(folder + b"/good.vasp")]
    assert main_write([*paths, "-o", os.fsdecode(folder + b"/\xfe.lg"), "--graph", "mace", "--workers", "1"]) == 0
    assert lg.LazyGraphDataset(os.fsdecode(folder + b"/\xfe.lg")).ids.tolist()[1] == "good"


@pytest.mark.parametrize(
    "uri", ["prototypes:999999999999", "prototypes:5?seed=1" + "0" * 5000, f"prototypes:{'9' * 6000}"]
)
def test_more_prototypes_than_there_can_be_are_one_clear_error(uri, tmp_path, capsys):
    assert main_write([uri, "-o", str(tmp_path / "x.lg")]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "required: at most 1,000,000,000 crystals, and a seed below" in line
    assert len(line) < 300


# ---- images ----


def test_a_flat_cell_is_quarantined_and_tried_again_with_another_limit(salt, tmp_path, write, retry, quarantine):
    needle = lg.Crystal(np.diag([0.4, 0.4, 40.0]), [[0, 0, 0]], [6])  # sound, and many images
    source, path = [("a", salt(1)), ("flat", FLAT), ("needle", needle)], tmp_path / "x.lg"
    write(source, path, graph="mace", max_images=3000)
    found = quarantine(path)
    assert [one.id for one in found] == ["flat", "needle"]
    assert all("looks at" in one.message and "at most 3,000 (max_images)" in one.message for one in found)
    report = retry(path, source)
    assert (report.written, report.quarantined) == (1, 1)
    (left,) = quarantine(path)
    assert f"at most {MAX_IMAGES:,}" in left.message
    assert lg.LazyGraphDataset(path).ids.tolist() == ["a", "needle"]


def test_the_number_of_images_belongs_to_a_plan_and_the_time_does_not(tmp_path):
    source, path = "prototypes:12?seed=0", tmp_path / "x.lg"
    first = plan(source, path, graph=CHEAP, shard_size=4, max_images=10_000, max_seconds=math.inf)
    assert (first.max_images, first.max_seconds) == (10_000, math.inf)
    with pytest.raises(lg.OutputExists, match="max_images: 10000 -> 20000"):
        plan(source, path, graph=CHEAP, shard_size=4, max_images=20_000)
    again = plan(source, path, graph=CHEAP, shard_size=4, max_images=10_000, max_seconds=7.5)
    assert again.max_seconds == 7.5
    for task in range(3):
        make_shard(path, task)
    assert finish(path).written == 12


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({"max_images": 0}, RecipeError),
        ({"max_images": 1e6}, RecipeError),
        ({"max_images": 10**10}, RecipeError),
        ({"max_seconds": 0}, InputError),
        ({"max_seconds": -1.0}, InputError),
        ({"max_seconds": math.nan}, InputError),
    ],
)
def test_impossible_limits_are_refused(options, error, tmp_path, write):
    with pytest.raises(error, match=r"max_.*required"):
        write("prototypes:3", tmp_path / "x.lg", **options)


# ---- time ----


@pytest.mark.parametrize("endless", [for_ever, swallows])
def test_an_input_that_cannot_be_read_to_its_end_is_quarantined(endless, salt, tmp_path, write, quarantine):
    inputs = [("a", salt(1)), ("endless", Atoms(endless)), ("b", salt(2))]
    report = write(inputs, tmp_path / "x.lg", graph=CHEAP, max_seconds=0.1)
    assert (report.written, report.quarantined) == (2, 1)
    (found,) = quarantine(tmp_path / "x.lg")
    assert (found.error, "0.1 s of processor time" in found.message) == ("InputTimeout", True)


def test_a_graph_that_does_not_end_is_quarantined(salt, tmp_path, write, quarantine, monkeypatch):
    build = GraphSpec.build

    def endless(self, structure, **options):
        return for_ever() if len(structure) == 1 else build(self, structure, **options)

    monkeypatch.setattr(GraphSpec, "build", endless)
    lonely = lg.Crystal(np.eye(3) * 3.0, [[0, 0, 0]], [6])
    report = write([("a", salt(1)), ("endless", lonely)], tmp_path / "x.lg", graph=CHEAP, max_seconds=0.1)
    assert (report.written, report.quarantined) == (1, 1)
    (found,) = quarantine(tmp_path / "x.lg")
    assert (found.id, found.error) == ("endless", "InputTimeout")


CODE = """
import sys, lazygraph as lg
def crystal(n, atoms):
    cell = [[4 + 0.01 * n, 0, 0], [0, 4, 0], [0, 0, 4.0]]
    return lg.Crystal(cell, [[k / atoms, 0.1, 0.2] for k in range(atoms)], [11] * atoms)
items = [(f"id-{n}", crystal(n, {10: 3, 11: 4}.get(n, 2))) for n in range(144)]
report = lg.write(items, sys.argv[1], graph="mace", workers=2, shard_size=8, progress=False, max_seconds=0.2)
print(report.written, report.quarantined)
"""
# Inputs 8 to 15 are the second shard: the plan's samples come from every other one.
SITE = """
from lazygraph.graphs.spec import GraphSpec
build = GraphSpec.build

def endless(self, structure, **options):
    if len(structure) == 3:
        sum(range(10**13))  # looks at no signal for hours
    while len(structure) == 4:
        pass
    return build(self, structure, **options)

GraphSpec.build = endless
"""


@pytest.mark.slow
def test_in_a_worker_process_code_is_interrupted_and_ends_the_process_where_it_answers_no_signal(
    tmp_path, environment, quarantine
):
    (tmp_path / "sitecustomize.py").write_text(SITE)
    paths = os.pathsep.join([str(tmp_path), environment["PYTHONPATH"]])
    done = subprocess.run(
        [sys.executable, "-c", CODE, str(tmp_path / "x.lg")], capture_output=True, text=True, cwd=tmp_path, check=False,
        env=environment | {"PYTHONPATH": paths}, timeout=240,
    )  # fmt: skip
    assert (done.stdout, done.returncode) == ("142 2\n", 0), done.stderr
    found = quarantine(tmp_path / "x.lg")
    assert [(one.id, one.error) for one in found] == [("id-10", "InputTimeout"), ("id-11", "InputTimeout")]
    assert ["answers no signal" in one.message for one in found] == [True, False]


def test_the_signal_and_the_timer_are_given_back():
    heard = []
    before = signal.signal(signal.SIGPROF, lambda *_: heard.append(1))
    mine = signal.getsignal(signal.SIGPROF)
    try:
        with pytest.raises(InputTimeout, match=r"more than 0.05 s"), time_limit(0.05), one_input():
            for_ever()
        assert signal.getsignal(signal.SIGPROF) is mine
        assert signal.getitimer(signal.ITIMER_PROF) == (0.0, 0.0)
        signal.setitimer(signal.ITIMER_PROF, 1000.0)  # a profiler of the user's
        with time_limit(0.05):
            assert signal.getsignal(signal.SIGPROF) is mine
        assert signal.getitimer(signal.ITIMER_PROF)[0] > 900
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0.0)
        signal.signal(signal.SIGPROF, before)
    assert not heard


def busy(seconds):
    begin = time.thread_time()
    while time.thread_time() - begin < seconds:
        pass


@pytest.mark.slow
def test_each_input_has_its_own_time_and_only_that():
    with time_limit(0.2):
        for _ in range(4):
            with one_input():
                busy(0.1)
        busy(0.5)  # between two inputs
        with pytest.raises(InputTimeout), one_input():
            busy(0.5)
        with pytest.raises(KeyboardInterrupt), one_input():
            raise KeyboardInterrupt
        with one_input():
            pass
    with one_input():
        busy(0.3)  # there is no limit outside


def test_in_another_thread_an_input_is_judged_when_it_is_done():
    found = []

    def work():
        try:
            with time_limit(0.05), one_input():
                busy(0.2)
        except InputTimeout as error:
            found.append(error)

    thread = threading.Thread(target=work)
    thread.start()
    with time_limit(10.0), one_input():  # of this thread, which does little
        thread.join()
    assert len(found) == 1
