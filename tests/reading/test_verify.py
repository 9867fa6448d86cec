"""Verification by parts: workers, samples, and a state from which it goes on."""

from __future__ import annotations

import json
import re
from importlib.util import find_spec

import numpy as np
import pytest

import lazygraph as lg
from lazygraph import native
from lazygraph.cli.main import main
from lazygraph.errors import InputError
from lazygraph.format.columns import Repeats
from lazygraph.format.store import Store
from lazygraph.reading import verify as module
from lazygraph.reading.verify import verify
from lazygraph.reading.verify_checks import sampled_rows
from lazygraph.reading.verify_edges import ways_of_building


@pytest.fixture(scope="module")
def original(tmp_path_factory):
    out = tmp_path_factory.mktemp("verify") / "p.lg"
    lg.write("prototypes:130?seed=6", out, graph=lg.graph("none"), workers=1, shard_size=50, progress=False)
    return out


@pytest.fixture
def small(monkeypatch):
    monkeypatch.setattr(module, "ROWS", 40)
    monkeypatch.setattr("lazygraph.reading.verify_checks.BLOCK", 10**9)  # blocks are of 4,096 rows: none ends in a part


def damage(path, shard):
    """Change the records in the middle of a shard."""
    store = Store(path)
    file = path / store.manifest.shards[shard].file.name
    start = sum(one.rows for one in store.manifest.shards[:shard])
    content = bytearray(file.read_bytes())
    for row in range(start, start + 50):
        content[int(store.column("record")["offset"][row]) + 9] ^= 1
    file.write_bytes(content)


def test_a_sample_reads_some_records_of_each_shard_and_says_how_many(original):
    result = verify(original, sample=0.1)
    assert (result.problems, result.graphs, result.records) == ((), 130, 13)
    assert verify(original).records == 130
    assert verify(original, sample=1.0).records == 130
    assert verify(original, sample=1e-9).records == 3  # one of each shard


def test_a_sample_depends_on_the_seed_and_the_shard_alone(original):
    store = Store(original)
    found = sampled_rows(store, 0.5, 7, 1)
    assert found.tolist() == sampled_rows(store, 0.5, 7, 1).tolist()
    assert found.tolist() != sampled_rows(store, 0.5, 8, 1).tolist()
    assert len(set(found.tolist())) == 25
    assert found.min() >= 50
    assert found.max() < 100
    assert (np.diff(found) > 0).all()


def test_a_sample_finds_a_damaged_shard_that_it_does_not_hash(copy):
    damage(copy, 1)
    problems = verify(copy, sample=0.1).problems
    assert len(problems) == 5
    assert all("checksum" in problem and "shards/00001-" in problem for problem in problems)


def test_a_sample_checks_every_column(copy):
    name = Store(copy).manifest.columns["density"].file.name
    content = bytearray((copy / name).read_bytes())
    content[-1] ^= 1
    (copy / name).write_bytes(content)
    assert any(name in problem for problem in verify(copy, sample=0.01).problems)


@pytest.mark.parametrize("sample", [0, -0.1, 1.5, float("nan")])
def test_a_sample_is_a_fraction(original, sample):
    with pytest.raises(InputError, match="required: a fraction of the records"):
        verify(original, sample=sample)


@pytest.mark.slow
def test_workers_find_what_one_process_finds_in_the_same_order(copy, small):
    for shard in (0, 2):
        file = copy / Store(copy).manifest.shards[shard].file.name
        content = bytearray(file.read_bytes())
        content[len(content) // 2] ^= 255
        file.write_bytes(content)
    seen = []
    one, two = verify(copy), verify(copy, seen.append, workers=2)
    assert one == two
    assert one.problems
    assert seen == [40, 40, 40, 10]


def test_a_verification_goes_on_where_it_stopped(copy, tmp_path, monkeypatch, small):
    state = tmp_path / "state"
    damage(copy, 0)
    whole = verify(copy)
    monkeypatch.setitem(module._CHECKS, "rows", stops_at(80))
    with pytest.raises(KeyboardInterrupt):
        verify(copy, state=state)
    with state.open("a") as file:
        file.write('["rows 80", ["a line that was cut o')
    monkeypatch.undo()
    monkeypatch.setattr(module, "ROWS", 40)
    read = []
    monkeypatch.setitem(
        module._CHECKS, "rows", lambda store, part: read.append(part.number) or module._rows(store, part)
    )
    monkeypatch.setitem(module._CHECKS, "file", lambda *_: pytest.fail("it was checked before"))
    assert verify(copy, state=state) == whole
    assert read == [80, 120]
    assert not state.exists()  # the next verification begins anew


def stops_at(row):
    original = module._rows

    def check(store, part):
        if part.number == row:
            raise KeyboardInterrupt
        return original(store, part)

    return check


def test_a_state_of_another_verification_is_refused(copy, tmp_path, monkeypatch, small):
    state = tmp_path / "state"
    monkeypatch.setitem(module._CHECKS, "rows", stops_at(0))
    with pytest.raises(KeyboardInterrupt):
        verify(copy, state=state)
    before = state.read_bytes()
    with pytest.raises(InputError, match="the state of another verification"):
        verify(copy, state=state, sample=0.5)
    lg.remove(copy, ["prototype-0000003"], reason="a test")
    with pytest.raises(InputError, match="the state of another verification"):
        verify(copy, state=state)
    assert state.read_bytes() == before


@pytest.mark.parametrize("content", ["no JSON\n", "[1]\n[2]\n", '{"verify": 1}\n{}\n'])
def test_a_state_that_is_none_is_refused_and_kept(original, tmp_path, content):
    state = tmp_path / "notes.txt"
    state.write_text(content)
    with pytest.raises(InputError, match="state of a"):
        verify(original, state=state)
    assert state.read_text() == content


def test_a_state_does_not_lie_in_the_dataset(copy):
    with pytest.raises(InputError, match="is inside the dataset"):
        verify(copy, state=copy / "state")
    assert not (copy / "state").exists()


def test_problems_that_were_noted_are_told_again(copy, tmp_path, monkeypatch, small):
    state = tmp_path / "state"
    damage(copy, 0)
    monkeypatch.setitem(module._CHECKS, "rows", stops_at(120))
    with pytest.raises(KeyboardInterrupt):
        verify(copy, state=state)
    lines = [json.loads(line) for line in state.read_text().splitlines()[1:]]
    noted = [problem for _, problems in lines for problem in problems]
    monkeypatch.undo()
    assert noted
    monkeypatch.setattr(module, "ROWS", 40)
    assert set(noted) <= set(verify(copy, state=state).problems)


def test_numbers_that_come_twice_are_found_within_and_between_pieces():
    for pieces, said in (([[0, 7, 8], [9, 7]], 7), ([[3, 3]], 3), ([[1, 2], [3], [0]], None), ([[5, 9], [9, 5]], 5)):
        repeats = Repeats(10)
        found = [repeats.first(np.array(piece, np.uint16)) for piece in pieces]
        assert found[-1] == said
        assert found[:-1] == [None] * (len(pieces) - 1)


# ---- edges ----


def with_other_edges(monkeypatch, path, change, number=3):
    """Write crystals whose hashes are right, but where one graph has other edges than its recipe builds."""
    build, seen = lg.GraphSpec.build, []

    def changed(spec, structure, *arguments, **options):
        graph = build(spec, structure, *arguments, **options)
        key = structure.lattice.tobytes()
        if key not in seen:  # some are built once more, to train a dictionary
            seen.append(key)
        if seen.index(key) == number:
            change(graph)
        return graph

    with monkeypatch.context() as patched:
        patched.setattr(lg.GraphSpec, "build", changed)
        lg.write("prototypes:8?seed=6", path, graph=lg.graph("comformer"), workers=1, progress=False)
    assert len(seen) == 8
    return path


def drop_a_pair(graph):
    graph.edge_index, graph.images = graph.edge_index[:, 2:], graph.images[2:]


def turn_an_image(graph):
    graph.images = graph.images.copy()
    graph.images[4:6] = [[5, 0, 0], [-5, 0, 0]]


def turn_a_lattice_vector(graph):
    graph.lattice_images = -graph.lattice_images


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            drop_a_pair,
            r"row 3, id '.*': the record has \d+ edges; the (compiled loop|plain rule|search of nvalchemi) finds \d+",
        ),
        (turn_an_image, r"row 3, id '.*': edge 4 of the record is \(.*\[5, 0, 0\]\); .* finds"),
        (turn_a_lattice_vector, r"row 3, id '.*': the lattice vectors of the record are not those"),
    ],
)
def test_stored_edges_are_compared_with_those_of_the_recipe(monkeypatch, tmp_path, change, message):
    path = with_other_edges(monkeypatch, tmp_path / "other.lg", change)
    assert verify(path).problems == ()
    problems = verify(path, edges=True).problems
    ways = len(ways_of_building(lg.graph("comformer")))
    assert len(problems) == ways
    assert verify(path, edges=True).edges_built_by == ways_of_building(lg.graph("comformer"))
    for problem in problems:
        assert re.search(message, problem), problem
    for way, problem in zip(ways_of_building(lg.graph("comformer")), problems, strict=True):
        assert way in problem
    assert verify(path, edges=True, sample=1.0).problems == problems
    assert verify(path, edges=True, workers=2).problems == problems


@pytest.mark.parametrize("preset", ["comformer", "cgcnn", "mace", "m3gnet"])
def test_edges_that_the_recipe_builds_are_all_as_written(preset, tmp_path):
    lg.write("prototypes:20?seed=6", tmp_path / "p.lg", graph=preset, workers=1, progress=False)
    found = verify(tmp_path / "p.lg", edges=True)
    assert found.problems == ()
    assert {"the plain rule"} <= set(found.edges_built_by)
    assert ("the search of nvalchemi" in found.edges_built_by) == (find_spec("nvalchemiops") is not None)
    assert verify(tmp_path / "p.lg").edges_built_by == ()


def test_the_command_says_in_which_ways_edges_were_built(tmp_path, capsys, monkeypatch):
    path = str(tmp_path / "p.lg")
    lg.write("prototypes:5?seed=6", path, graph="mace", workers=1, progress=False)
    assert main(["verify", path, "--edges", "--workers", "1"]) == 0
    assert "edges compared with edges built by " in capsys.readouterr().out
    monkeypatch.setenv("LAZYGRAPH_NATIVE", "0")
    native.kernels.cache_clear()
    try:
        assert main(["verify", path, "--edges", "--workers", "1"]) == 0
    finally:
        monkeypatch.delenv("LAZYGRAPH_NATIVE")
        native.kernels.cache_clear()
    rest = " and by the search of nvalchemi" if find_spec("nvalchemiops") else ""
    assert capsys.readouterr().out.endswith(f"edges compared with edges built by the plain rule{rest}\n")
    assert main(["verify", path]) == 0
    assert "edges" not in capsys.readouterr().out
    damage_record(path)
    assert main(["verify", path, "--edges", "--workers", "1"]) == 3
    assert "edges were not compared" in capsys.readouterr().out


def damage_record(path):
    store = Store(path)
    file = store.path / store.manifest.shards[0].file.name
    content = bytearray(file.read_bytes())
    content[int(store.column("record")["offset"][0]) + 9] ^= 1
    file.write_bytes(content)


def test_datasets_without_edges_of_a_recipe_have_none_to_compare(original):
    with pytest.raises(InputError, match="stores crystals alone; edges can be compared only for"):
        verify(original, edges=True)
