"""Hostile datasets, each read in a process with little memory and a deadline: an error of its own, or what it is."""

from __future__ import annotations

import contextlib
import io
import json
import os
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest

import lazygraph as lg
from lazygraph.cli.main import main
from lazygraph.format.store import Store
from lazygraph.reading.verify import verify
from lazygraph.writing.salvage import salvage
from tools.fuzz.hostile import Hostile
from tools.soak.apart import apart

from table import ATTACKS  # isort: skip

MEMORY = 512 << 20  # bytes that reading may take
SECONDS = 600  # against a hang, with sanitizers on a busy machine too
KNOWN = {"CorruptDataset", "UnsupportedFormat", "RecipeError", "OSError"}
COMMANDS = {
    name: name.split()
    for name in (
        "info", "info --json", "stats", "stats --json", "show --row 1", "show --row 1 --json", "verify",
        "report -o r.html --overwrite",
    )
}  # fmt: skip


@pytest.fixture(scope="module")
def bases(tmp_path_factory):
    """Good datasets, whose parts attacks are made of."""
    folder = tmp_path_factory.mktemp("good")
    crystals, ready = folder / "crystals.lg", folder / "ready.lg"
    lg.write("prototypes:12?seed=1", crystals, graph="comformer", workers=1, progress=False)
    assert main(["split", str(crystals), "0.5,0.3,0.2"]) == 0
    with lg.GraphWriter(ready) as writer:
        for n in range(2, 8):
            ring = np.stack([np.arange(n), (np.arange(n) + 1) % n])
            x = np.full((n, 1), n, dtype=np.float32)
            writer.add({"x": x, "edge_index": ring, "name": f"ring {n}"}, labels={"size": n})
    angles = folder / "angles.lg"
    lg.write("prototypes:12?seed=1", angles, graph="alignn", workers=1, progress=False)
    bases = {"crystals": crystals, "ready": ready, "angles": angles}
    for name, path in bases.items():
        all_of(path, name, commands=True)  # so that what is loaded for it is there before children are forked
    return {name: Hostile(path) for name, path in bases.items()}


@pytest.fixture(scope="module")
def hostile(bases, tmp_path_factory):
    """Attack -> its dataset, in a folder of its own where a file ``ran`` would show that code has run."""
    folder = tmp_path_factory.mktemp("hostile")
    made = {}
    for name, attack in ATTACKS.items():
        dataset = bases[attack.base].copy()
        attack.change(dataset)
        made[name] = dataset.write(folder / name / "d.lg")
        Path(folder / name / "evil.py").write_text("open('ran', 'w')\nPRESET = 1\n")
    return made


def everything(path, view="pyg"):
    """All that a program reads of a dataset."""
    ds = lg.LazyGraphDataset(path, view=view)
    for name in ds.columns:
        assert len(ds.columns[name]) == len(ds)
    split = ds.manifest.columns.get("split")
    for name in split.categories if split else ():
        ds.split(name)
    for row in range(len(ds)):
        untouched(ds[row])
    batch = ds.batch(range(len(ds)))
    untouched(batch)
    assert batch.num_graphs == len(batch.ptr) - 1 == len(ds)
    assert sum(part.num_graphs for part in lg.loader(ds, batch_size=5, num_workers=0)) == len(ds)
    for label in ds.manifest.labels():
        assert lg.LazyGraphDataset(path, target=label)[0].y.shape == (1, 1)
    for graph_id in ds.ids:
        ds[str(graph_id)]


def untouched(data):
    """Nothing that a dataset holds stands in the place of what PyG has."""
    assert callable(data.to)
    assert callable(data.keys)
    atoms = data.x if "x" in data else data.atom_features
    assert atoms.dim() == 2
    assert data.num_nodes == len(atoms)
    repr(data.to("cpu"))


def stored(path):
    """The same without what makes graphs of records."""
    store = Store(path)
    for name in store.manifest.columns:
        store.column(name)
    for row in range(len(store)):
        store.arrays(row)
    store.read_batch(np.arange(len(store)))


def problems(path):
    found = verify(path).problems
    if found:
        raise lg.CorruptDataset("\n".join(found))


def saved(path):
    """What ``salvage`` keeps is a whole dataset."""
    good = path.with_name("good.lg")
    try:
        salvage(path, good)
        found = verify(good).problems
    finally:
        shutil.rmtree(good, ignore_errors=True)
    assert found == (), found


def outcome(call, path):
    """Class and message of the error, or None."""
    try:
        call(path)
    except Exception as error:  # noqa: BLE001
        return type(error).__name__, str(error)
    return None


def run(command, path):
    """Exit code, output and errors of a command; the class of an error that it lets through."""
    name, *options = command
    options = [os.fspath(path.with_name("r.html")) if option == "r.html" else option for option in options]
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            code = main([name, os.fspath(path), *options])
        except Exception as error:  # noqa: BLE001
            code = f"{type(error).__name__}: {error}"
    return code, out.getvalue(), err.getvalue()


def all_of(path, base, *, commands):
    """What every way to read says."""
    view = "alignn" if base == "angles" else "pyg"
    ways = {"dataset": lambda path: everything(path, view), "store": stored, "problems": problems, "salvage": saved}
    said = {name: outcome(call, path) for name, call in ways.items()}
    return said | {name: run(command, path) for name, command in COMMANDS.items() if commands}


def in_turn(paths, log, *, commands):
    """Write what is said of each dataset into the file, a line each."""
    with open(log, "a") as file:
        for name, path in paths:
            os.chdir(path.parent)
            sys.path[0] = os.fspath(path.parent)
            said = all_of(path, ATTACKS[name].base if name in ATTACKS else name, commands=commands)
            ran = Path("ran").exists() or "evil" in sys.modules
            file.write(json.dumps([name, said | {"ran": ran}]) + "\n")
            file.flush()


def told(paths, log, *, compiled):
    """Attack -> what is said, or how the process ended that read it; then another one goes on with the next."""
    left, out = dict(paths), {}
    while left:
        log.write_text("")
        ended = apart(lambda: in_turn(left.items(), log, commands=compiled), seconds=SECONDS, memory=MEMORY,
                      compiled=compiled)  # fmt: skip
        for line in log.read_text().splitlines():
            name, said = json.loads(line)
            out[name] = said
            del left[name]
        if left:
            out[name := next(iter(left))] = ended
            del left[name]
    return out


def test_a_good_dataset_is_read(bases, tmp_path):
    """The limits are no hindrance, and what is made again is good."""
    good = {name: hostile.copy().write(tmp_path / name / "d.lg") for name, hostile in bases.items()}
    for said in told(good, tmp_path / "log", compiled=True).values():
        assert said["dataset"] is said["store"] is said["problems"] is said["salvage"] is None, said
        assert [said[command][0] for command in COMMANDS] == [0] * len(COMMANDS), said


@pytest.mark.slow
@pytest.mark.parametrize("compiled", [True, False], ids=["compiled", "plain"])
def test_attacks_are_refused_or_harmless(compiled, hostile, tmp_path):
    found = told(hostile, tmp_path / "log", compiled=compiled)
    assert found.keys() == ATTACKS.keys()
    wrong = {name: failed for name, said in found.items() if (failed := list(failures(ATTACKS[name], said)))}
    assert not wrong, "\n".join(f"{name}: {failed}" for name, failed in wrong.items())


def failures(attack, said):
    """What is not as it must be."""
    if not isinstance(said, dict):
        yield f"the process ended: {said}"
        return
    if said["ran"]:
        yield "code was run"
    yield from dataset_failures(attack, said)
    if others := [said[way] for way in ("store", "problems", "salvage") if said[way] and said[way][0] not in KNOWN]:
        yield f"other errors: {others}"
    for command in COMMANDS:
        if command in said:
            yield from command_failures(command, *said[command], clean=said["problems"] is None)


def dataset_failures(attack, said):
    kind, message = said["dataset"] or (None, "")
    wanted, part = attack.dataset or (None, "")
    if kind != wanted or part not in message:
        yield f"read: {kind}: {message[:500]}"
    found = said["problems"]
    if attack.verify is None and attack.dataset is None and found is not None:
        yield f"verify: {found[1][:500]}"
    if attack.verify is not None and attack.verify not in (found or ("", ""))[1]:
        yield f"verify does not say it: {found}"


def command_failures(command, code, out, err, *, clean):
    if not (out + err).replace("\n", "").isprintable():
        yield f"{command} steers the terminal: {(out + err)[:500]!r}"
    err = "".join(line for line in err.splitlines(keepends=True) if not line.startswith("note: "))
    good = code == 0 and (clean or command != "verify")
    if code not in (0, 2, 3) or good != (err == "" and (command != "verify" or clean)):
        yield f"{command} ended with {code}, {err[:500]}"
    if err.count("\n") != (err != "") or len(err) > 10_000 or "Traceback" in err:
        yield f"{command} says {err[:500]}"
