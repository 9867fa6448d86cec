"""Augmentation: crystals are changed before their edges are built, by seed, epoch and position alone."""

from __future__ import annotations

import pickle
from dataclasses import replace

import numpy as np
import pytest
import torch
from ase.build import make_supercell
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.utils.data import DataLoader

import lazygraph as lg
from lazygraph.errors import InputError, StructureError
from lazygraph.graphs.neighbors import MIN_DISTANCE
from lazygraph.reading.augment import Augmenter, LabelFacts
from lazygraph.reading.draws import Draws, derived_seeds

from same import same_batches, same_values  # isort: skip

PLAIN, THREAD = {"num_workers": 0, "threads": 0}, {"threads": 1}
FORK = {"num_workers": 2, "multiprocessing_context": "fork"}
SPAWN = {"num_workers": 1, "multiprocessing_context": "spawn"}
STEPS = [lg.Rattle(0.05), lg.Strain(0.02), lg.Rotate({"stress": "voigt"})]
pytestmark = pytest.mark.filterwarnings("ignore:augment moves atoms")


@pytest.fixture(scope="module")
def forces(tmp_path_factory):
    """Sixty crystals with forces, a stress and an energy."""
    folder = tmp_path_factory.mktemp("forces")
    lg.write("prototypes:60?seed=3", folder / "plain.lg", graph="none", workers=1, progress=False)
    plain, rng = lg.LazyGraphDataset(folder / "plain.lg"), np.random.default_rng(4)
    inputs = [
        (
            str(plain.ids[i]),
            plain.crystal(i),
            {
                "energy": float(i),
                "forces": rng.normal(size=(len(plain.crystal(i)), 3)),
                "stress": rng.normal(size=6).tolist(),
                "virial": rng.normal(size=(3, 3)).tolist(),
            },
        )
        for i in range(60)
    ]
    for name in ("mace", "none"):
        lg.write(inputs, folder / f"{name}.lg", graph=name, per={"energy": "cell"}, workers=1, progress=False)
    return folder


@pytest.fixture
def ds(forces):
    return lg.LazyGraphDataset(forces / "mace.lg", ["energy", "stress"], augment=STEPS)


def numbers_of(batches):
    """Everything that augmentation may change, by graph."""
    return [
        (g.id, *(g[key].numpy().tobytes() for key in ("pos", "cell", "edge_attr", "forces", "displacement", "y")))
        for batch in batches
        for g in batch.to_data_list()
    ]


# ---- random numbers ----


@given(st.lists(st.tuples(st.integers(0, 2**64 - 1), st.integers(1, 9)), min_size=1, max_size=30), st.data())
def test_the_numbers_of_a_crystal_do_not_depend_on_the_others(crystals, data):
    chosen = data.draw(st.permutations(range(len(crystals))))[: data.draw(st.integers(1, len(crystals)))]
    seeds, sizes = np.array([c[0] for c in crystals], np.uint64), np.array([c[1] for c in crystals])
    whole, part = (Draws(seeds[c], sizes[c]) for c in (range(len(crystals)), chosen))
    ends = sizes.cumsum()
    atoms = np.concatenate([np.arange(ends[c] - sizes[c], ends[c]) for c in chosen])
    for draw, rows in (("uniform", atoms), ("normal", atoms), ("normal", chosen), ("uniform", chosen)):
        per = "atom" if rows is atoms else "crystal"
        assert getattr(part, draw)(per, 2, 3).tobytes() == getattr(whole, draw)(per, 2, 3)[rows].tobytes()


def test_numbers_have_their_distribution_and_do_not_repeat():
    seeds = np.arange(2000, dtype=np.uint64)  # neighbouring seeds, the hardest ones
    draws = Draws(seeds, np.full(2000, 10))
    normal, uniform, again = draws.normal("atom", 3), draws.uniform("atom", 3), draws.uniform("atom", 3)
    assert len(np.unique(np.concatenate([uniform, again]))) == 120_000
    n = normal.size
    assert abs(normal.mean()) < 5 / n**0.5
    assert abs(normal.var() - 1) < 5 * (2 / n) ** 0.5
    assert abs((normal**4).mean() - 3) < 5 * (96 / n) ** 0.5
    counts = np.histogram(uniform, 100, (0, 1))[0]
    assert ((counts - n / 100) ** 2 / (n / 100)).sum() < 99 + 5 * (2 * 99) ** 0.5
    for a, b in ((normal[1:], normal[:-1]), (normal[:, 0], normal[:, 1]), (uniform, again)):
        assert abs(np.corrcoef(a.ravel(), b.ravel())[0, 1]) < 5 / a.size**0.5
    of_crystals = draws.normal("crystal")
    assert abs(np.corrcoef(of_crystals[1:], of_crystals[:-1])[0, 1]) < 5 / 2000**0.5


def test_other_seeds_and_calls_draw_other_numbers():
    seeds = np.array([1, 2], np.uint64)
    assert len({int(s) for k in range(1000) for s in derived_seeds(seeds, k)}) == 2000
    with pytest.raises(InputError, match="per='bond'; required: 'atom' or 'crystal'"):
        Draws(seeds, np.array([1, 1])).normal("bond")


# ---- the loader ----


@pytest.fixture(scope="module")
def expected(forces):
    ds = lg.LazyGraphDataset(forces / "mace.lg", ["energy", "stress"], augment=STEPS)
    loader = lg.loader(ds, 16, shuffle=True, seed=3, **PLAIN)
    return numbers_of(loader), numbers_of(loader)


@pytest.mark.parametrize("way", [PLAIN, THREAD, FORK, SPAWN, {**PLAIN, "device": "cpu"}], ids=str)
@pytest.mark.parametrize("size", [7, 16])
def test_the_numbers_are_the_same_however_they_are_read(ds, expected, way, size):
    torch.manual_seed(size)
    before = torch.get_rng_state()
    loader = lg.loader(ds, size, shuffle=True, seed=3, **way)
    assert numbers_of(loader) == expected[0]
    assert numbers_of(loader) == expected[1]
    assert loader.augmentation == (120, 0, 0)
    assert torch.equal(torch.get_rng_state(), before)
    loader.close()


def test_every_epoch_seed_and_graph_has_numbers_of_its_own(ds, expected):
    other = numbers_of(lg.loader(ds, 16, shuffle=True, seed=4, **PLAIN))
    assert len({row[1] for epoch in (*expected, other) for row in epoch}) == 180
    twice = lg.loader(ds, 16, weights="energy", **PLAIN)
    names = [row[0] for row in numbers_of(twice)]
    assert len(set(names)) < len({row[1] for row in numbers_of(lg.loader(ds, 16, weights="energy", **PLAIN))}) == 60


@pytest.mark.parametrize("way", [THREAD, FORK], ids=str)
def test_ranks_and_resumed_epochs_draw_as_one_process_does(ds, expected, way):
    options = {"shuffle": True, "seed": 3}
    shares = [numbers_of(lg.loader(ds, 16, rank=rank, world_size=3, **options, **way)) for rank in range(3)]
    assert sorted(sum(shares, [])) == sorted(expected[0])
    loader = lg.loader(ds, 16, **options, **way)
    iterator = iter(loader)
    begun = [next(iterator), next(iterator)]
    resumed = lg.loader(ds, 16, **options, **PLAIN)
    resumed.load_state_dict(loader.state_dict())
    assert numbers_of(begun) + numbers_of(resumed) == expected[0]
    del iterator
    loader.close()


def test_torchs_loader_over_the_batches_draws_the_same(ds, expected):
    loader = lg.loader(ds, 16, shuffle=True, seed=3)
    same = DataLoader(loader.dataset, batch_sampler=loader.batch_sampler, collate_fn=loader.collate_fn)
    assert numbers_of(same) == expected[0]


@pytest.mark.parametrize("way", [PLAIN, FORK], ids=str)
def test_a_transform_sees_the_augmented_graph(forces, expected, way):
    def double(data):
        data.doubled = 2 * data.pos
        return data

    ds = lg.LazyGraphDataset(forces / "mace.lg", ["energy", "stress"], transform=double, augment=STEPS)
    loader = lg.loader(ds, 16, shuffle=True, seed=3, **way)
    batches = list(loader)
    assert numbers_of(batches) == expected[0]
    assert all(torch.equal(batch.doubled, 2 * batch.pos) for batch in batches)
    assert loader.augmentation.crystals == 60
    assert all("augmented" not in key for batch in batches for key in (*batch.__dict__, *batch.keys()))
    loader.close()


def test_without_a_loader_numbers_come_from_torchs_generator(ds):
    torch.manual_seed(1)
    first, second = ds[4], ds[4]
    torch.manual_seed(1)
    same_values(ds[4], first)
    assert not torch.equal(first.pos, second.pos)
    torch.manual_seed(1)
    batch = ds.batch([4, 5])
    torch.manual_seed(1)
    same_batches(ds.batch([4, 5]), batch)


def test_a_dataset_with_augmentation_survives_pickling(ds, expected):
    again = pickle.loads(pickle.dumps(ds))
    assert numbers_of(lg.loader(again, 16, shuffle=True, seed=3, **PLAIN)) == expected[0]


# ---- the steps ----


def both(forces, steps, targets=(), name="mace", **options):
    """Augmented and stored graphs, in order, with float64."""
    view = lg.view("pyg", dtype="float64")
    path, targets = forces / f"{name}.lg", list(targets)
    made = lg.LazyGraphDataset(path, targets, view, augment=steps, target_dtype="float64", **options)
    stored = lg.LazyGraphDataset(path, targets, view, target_dtype="float64", **options)
    return (next(iter(lg.loader(ds, 60, **PLAIN))) for ds in (made, stored))


def test_rattle_moves_atoms_by_the_displacement(forces):
    made, stored = both(forces, [lg.Rattle(0.05)])
    assert torch.allclose(made.pos - made.displacement, stored.pos, atol=1e-12)
    assert 0.045 < float(made.displacement.std()) < 0.055
    assert torch.equal(made.cell, stored.cell)
    assert torch.equal(made.forces, stored.forces)


def test_later_steps_take_the_displacement_along(forces):
    steps = [lg.Rattle(0.05), lg.Strain(0.1), lg.Rotate(), lg.Supercell(2)]
    made, stored = both(forces, steps)
    clean = made.pos - made.displacement
    for mine, other, cell in zip(made.to_data_list(), stored.to_data_list(), made.ptr[:-1], strict=True):
        n = other.num_nodes
        frac = clean[cell : cell + n].numpy() @ np.linalg.inv(mine.cell[0].numpy() / 2)
        assert np.allclose(frac, other.pos.numpy() @ np.linalg.inv(other.cell[0].numpy()), atol=1e-9)


def test_edges_are_those_of_the_changed_crystal(forces):
    steps = [lg.Rattle(0.05), lg.Strain(0.05), lg.Rotate()]
    for spec in (None, lg.graph("chgnet"), lg.graph("comformer")):
        view = lg.view("pyg", dtype="float64")
        ds = lg.LazyGraphDataset(forces / "mace.lg", view=view, augment=steps, graph=spec)
        for graph, number in zip(next(iter(lg.loader(ds, 60, **PLAIN))).to_data_list(), range(60), strict=True):
            frac = graph.pos.numpy() @ np.linalg.inv(graph.cell[0].numpy())
            crystal = lg.Crystal(graph.cell[0].numpy(), frac, graph.x[:, 0].numpy())
            wanted = (spec or lg.graph("mace")).build(crystal)
            assert graph.num_edges == wanted.n_edges, number
            lengths = np.sort(np.linalg.norm(graph.edge_attr.numpy(), axis=1))
            assert np.allclose(lengths, np.sort(wanted.distances), atol=1e-9)


def test_crystals_alone_are_augmented_and_get_no_edges(forces):
    made, stored = both(forces, [lg.Rattle(0.05)], name="none")
    assert made.num_edges == 0
    assert torch.allclose(made.pos - made.displacement, stored.pos, atol=1e-12)


def test_rotation_keeps_what_does_not_depend_on_the_axes(forces):
    rotate = lg.Rotate({"stress": "voigt"})
    made, stored = both(forces, [rotate], ["energy", "stress", "virial"])
    turns = torch.linalg.solve(stored.cell, made.cell)  # rows are vectors: v' = v @ turn
    assert torch.allclose(turns @ turns.mT, torch.eye(3, dtype=torch.float64).expand(60, 3, 3), atol=1e-9)
    assert torch.allclose(torch.linalg.det(turns), torch.ones(60, dtype=torch.float64))
    assert abs(float(turns.mean(0).abs().max())) < 5 * (1 / 3 / 60) ** 0.5
    assert torch.equal(made.edge_index, stored.edge_index)
    of_edges, of_atoms = turns[made.batch[made.edge_index[0]]], turns[made.batch]
    assert torch.allclose((stored.edge_attr[:, None] @ of_edges)[:, 0], made.edge_attr, atol=1e-9)
    assert torch.allclose((stored.forces[:, None] @ of_atoms)[:, 0], made.forces, atol=1e-9)
    assert torch.equal(made.y[:, 0], stored.y[:, 0])
    where = torch.tensor([[0, 5, 4], [5, 1, 3], [4, 3, 2]])
    for mine, theirs in (
        (made.y[:, 1:7][:, where], stored.y[:, 1:7][:, where]),
        (made.y[:, 7:].reshape(-1, 3, 3), stored.y[:, 7:].reshape(-1, 3, 3)),
    ):
        assert torch.allclose(turns.mT @ theirs @ turns, mine, atol=1e-9)
    assert not torch.allclose(made.y[:, 1:], stored.y[:, 1:])


@pytest.mark.parametrize(
    ("labels", "target", "message"),
    [
        (
            {},
            "stress",
            r"label 'stress' of shape \(6,\) turns .* declare it, .*'scalar'}.* or .*'stress': 'voigt'}",
        ),
        ({"stress": "tensor"}, "stress", r"shape \(6,\) cannot be a 'tensor'; its shape allows 'scalar' or 'voigt'"),
        (
            {"strss": "voigt"},
            "stress",
            "names 'strss', .* the labels that are read are 'forces', 'stress'",
        ),
        (
            {"stress": "voigt"},
            "energy",
            "names 'stress', .* the labels that are read are 'forces', 'energy'",
        ),
    ],
)
def test_rotation_refuses_labels_whose_kind_is_not_known(forces, labels, target, message):
    with pytest.raises(InputError, match=message):
        lg.LazyGraphDataset(forces / "mace.lg", target, augment=[lg.Rotate(labels)])


def test_strain_keeps_fractional_coordinates(forces):
    made, stored = both(forces, [lg.Strain(0.05)])
    strain = torch.linalg.solve(stored.cell, made.cell) - torch.eye(3, dtype=torch.float64)
    assert torch.allclose(strain, strain.mT, atol=1e-9)
    upper = strain[:, *torch.triu_indices(3, 3)]
    assert 0.04 < float(upper.std()) < 0.06
    deform = torch.linalg.solve(stored.cell, made.cell)[made.batch]
    assert torch.allclose((stored.pos[:, None] @ deform)[:, 0], made.pos, atol=1e-9)


MATRICES = st.lists(st.lists(st.integers(-2, 2), min_size=3, max_size=3), min_size=3, max_size=3).filter(
    lambda rows: 0 < abs(round(np.linalg.det(rows))) <= 12
)


@settings(max_examples=40)
@given(MATRICES | st.integers(1, 3) | st.tuples(*[st.integers(1, 3)] * 3))
def test_supercells_are_those_of_ase(repeats):
    crystal = lg.Crystal([[3, 0.1, 0], [0.2, 4, 0], [0, 0.3, 5]], [[0, 0, 0], [0.3, 0.4, 0.9]], [11, 17])
    step = lg.Supercell(repeats)
    one = lg.CrystalBatch.of_crystals([crystal, crystal])
    made = step(one, Draws(np.zeros(2, np.uint64), one.n_node)).take(np.array([1]))
    matrix = np.array(repeats) if np.ndim(repeats) == 2 else np.diag(np.broadcast_to(repeats, 3))
    theirs = make_supercell(crystal.to_ase(), matrix)
    assert len(theirs) == 2 * step.times == int(made.n_node[0])
    assert np.allclose(made.lattice[0], theirs.cell)
    assert made.numbers[: len(crystal)].tolist() == [11, 17]

    def sites(numbers, cart):
        frac = np.round(cart @ np.linalg.inv(theirs.cell) % 1, 6) % 1
        return sorted(zip(numbers.tolist(), frac.tolist(), strict=True))

    mine = sites(made.numbers, made.cart_coords)
    assert np.allclose([s[1] for s in mine], [s[1] for s in sites(theirs.numbers, theirs.positions)], atol=1e-5)


def test_supercells_multiply_labels_per_cell_and_sizes(forces):
    made, stored = both(forces, [lg.Supercell((2, 1, 1))], ["energy"])
    assert torch.equal(made.y, 2 * stored.y)
    assert made.num_nodes == 2 * stored.num_nodes
    assert made.num_edges == 2 * stored.num_edges
    ds = lg.LazyGraphDataset(forces / "mace.lg", augment=[lg.Supercell((2, 1, 1))])
    assert max(batch.num_nodes for batch in lg.loader(ds, max_atoms=200, **PLAIN)) <= 200
    with pytest.raises(InputError, match="edges cannot .*: its graphs are built when they are read \\(augment\\)"):
        lg.loader(ds, max_edges=10_000)


def test_supercells_refuse_labels_that_are_not_declared(forces):
    with pytest.raises(InputError, match="whether the label 'stress' grows with the cell; set per='cell' or"):
        lg.LazyGraphDataset(forces / "mace.lg", "stress", augment=[lg.Supercell(2)])
    ds = lg.LazyGraphDataset(forces / "mace.lg", "stress", augment=[lg.Supercell(2, {"stress": "intensive"})])
    assert torch.equal(ds[7].y, lg.LazyGraphDataset(forces / "mace.lg", "stress")[7].y)


def test_supercells_refuse_directions_without_repetition(tmp_path):
    slab = lg.Crystal(np.diag([3.0, 3.0, 20.0]), [[0, 0, 0.5]], [29], (True, True, False))
    lg.write([("slab", slab, {})], tmp_path / "s.lg", graph="mace", workers=1, progress=False)
    assert lg.LazyGraphDataset(tmp_path / "s.lg", augment=[lg.Supercell((2, 2, 1))])[0].num_nodes == 4
    ds = lg.LazyGraphDataset(tmp_path / "s.lg", augment=[lg.Supercell(2)])
    with pytest.raises(
        StructureError, match=r"id 'slab': this crystal cannot be augmented: it has pbc=\(True, True, F"
    ):
        ds[0]


def test_an_own_function_gets_crystals_and_their_random_numbers(forces):
    def swell(crystals, draws):
        factor = 1 + 0.1 * draws.uniform("crystal")
        noise = draws.normal("atom", 2)
        return replace(
            crystals,
            lattice=crystals.lattice * factor[:, None, None],
            atom_labels={**crystals.atom_labels, "noise": noise},
        )

    swell.adds = {"noise": (2,)}
    made, stored = both(forces, [swell])
    factor = made.cell[:, 0].norm(dim=1) / stored.cell[:, 0].norm(dim=1)
    assert float(factor.min()) >= 1
    assert float(factor.max()) <= 1.1
    assert len(factor.unique()) == 60
    assert made.noise.shape == (made.num_nodes, 2)


@pytest.mark.parametrize(
    ("step", "message"),
    [
        (lambda crystals, draws: None, "returned NoneType; it must return a CrystalBatch"),
        (lambda crystals, draws: crystals.take(np.array([0, 0])), "crystals of other sizes"),
        (lambda crystals, draws: replace(crystals, lattice=crystals.lattice[0]), "lattice of type float64 and sh"),
        (lambda crystals, draws: replace(crystals, numbers=0 * crystals.numbers), "atomic numbers from 0 to 0"),
        (lambda crystals, draws: replace(crystals, atom_labels={}), r"the labels \[\] instead of \['forces'\]"),
    ],
)
def test_own_functions_must_return_the_same_crystals(forces, step, message):
    with pytest.raises(InputError, match=message):
        lg.LazyGraphDataset(forces / "mace.lg", augment=[step]).batch([0])


def test_an_error_of_an_own_function_names_it(forces):
    def broken(crystals, draws):
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError) as caught:
        lg.LazyGraphDataset(forces / "mace.lg", augment=[broken])[0]
    assert any("in the augmentation <function" in note for note in caught.value.__notes__)


# ---- refused crystals ----


class TooClose:
    """Puts the first two atoms together, in a known share of all draws."""

    def __init__(self, share):
        self.share = share

    def __call__(self, crystals, draws):
        first = crystals.n_node.cumsum() - crystals.n_node
        close = (draws.uniform("crystal") < self.share) & (crystals.n_node > 1)
        frac = crystals.frac_coords.copy()
        frac[first[close] + 1] = frac[first[close]]
        return replace(crystals, frac_coords=frac)


@pytest.mark.parametrize("way", [PLAIN, THREAD, FORK], ids=str)
def test_refused_crystals_are_drawn_again_and_counted(forces, way):
    ds = lg.LazyGraphDataset(forces / "mace.lg", augment=[lg.Rattle(0.01), TooClose(0.5)], augment_attempts=3)
    loader = lg.loader(ds, 16, shuffle=True, **way)
    batches = list(loader)
    counts = loader.augmentation
    assert counts.crystals == 60
    assert 18 < counts.redrawn < 42
    assert 1 < counts.unchanged < 16
    for batch in batches:
        assert float(batch.edge_attr.norm(dim=1).min()) >= MIN_DISTANCE
    graphs = [g for batch in batches for g in batch.to_data_list()]
    assert sum(not g.displacement.any() for g in graphs) == counts.unchanged
    stored = lg.LazyGraphDataset(forces / "mace.lg")
    for g in graphs:
        if not g.displacement.any():
            assert torch.equal(g.pos, stored[g.id].pos)
    loader.close()


def test_a_crystal_that_is_drawn_once_is_not_counted_as_drawn_again(forces):
    ds = lg.LazyGraphDataset(forces / "mace.lg", augment=[TooClose(0.5)], augment_attempts=1)
    loader = lg.loader(ds, 16, **PLAIN)
    assert len(list(loader)) == 4
    assert loader.augmentation.redrawn == 0 < loader.augmentation.unchanged


def test_redraws_do_not_depend_on_the_batch(forces):
    ds = lg.LazyGraphDataset(forces / "mace.lg", augment=[lg.Rattle(0.01), TooClose(0.5)], augment_attempts=2)
    first, second = ([p for b in lg.loader(ds, n, **PLAIN) for p in b.pos.tolist()] for n in (5, 60))
    assert first == second


def test_a_crystal_that_is_refused_as_it_is_stored_is_an_error(tmp_path):
    close = lg.Crystal(np.eye(3) * 4, [[0, 0, 0], [0.001, 0, 0]], [1, 1])
    lg.write([("close", close, {})], tmp_path / "c.lg", graph="none", workers=1, progress=False)
    ds = lg.LazyGraphDataset(tmp_path / "c.lg", graph="mace", augment=[lg.Strain(0.01)])
    with pytest.raises(StructureError, match="id 'close': this crystal cannot become a graph of .*required: at least"):
        ds[0]


# ---- what is refused ----


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: lg.Rattle(0), r"Rattle\(0\); required: a positive number"),
        (lambda: lg.Strain(float("nan")), r"Strain\(nan\)"),
        (
            lambda: lg.Rotate({"forces": "arrow"}),
            "the label 'forces' in Rotate: 'arrow'; known: scalar, vector, te",
        ),
        (lambda: lg.Supercell(0), r"Supercell\(0\); required: a whole number from 1"),
        (lambda: lg.Supercell([[1, 0, 0], [1, 0, 0], [0, 0, 1]]), "not singular"),
        (lambda: lg.Supercell(1.5), r"Supercell\(1.5\)"),
        (
            lambda: lg.Supercell(2, {"energy": "cell"}),
            "the label 'energy' in Supercell: 'cell'; known: extensive, i",
        ),
    ],
)
def test_impossible_steps_are_refused(make, message):
    with pytest.raises(InputError, match=message):
        make()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"augment": lg.Rattle(0.1)}, r"augment=Rattle\(sigma=0.1\); required: a list of steps"),
        ({"augment": [lg.Rattle]}, "required: steps such as lg.Rattle"),
        (
            {"augment": [lg.Rattle(0.1)], "edges": "stored"},
            "edges='stored' cannot be used with augment, .*; use edges='auto'",
        ),
        ({"augment": ["rattle"]}, "found 'rattle' in augment"),
        ({"augment": [lg.Rattle(0.1)], "augment_attempts": 0}, "augment_attempts=0; required: a whole number"),
    ],
)
def test_what_is_no_augmentation_is_refused(forces, options, message):
    with pytest.raises(InputError, match=message):
        lg.LazyGraphDataset(forces / "mace.lg", **options)


def test_augmentation_needs_crystals_and_free_names(tmp_path, forces):
    from torch_geometric.data import Data

    with lg.GraphWriter(tmp_path / "ready.lg") as writer:
        writer.add(Data(x=torch.ones(2, 1), edge_index=torch.tensor([[0], [1]])), id="a")
    with pytest.raises(InputError, match="came ready-made, without crystals"):
        lg.LazyGraphDataset(tmp_path / "ready.lg", augment=[lg.Rattle(0.1)])
    inputs = [
        (
            f"c{n}",
            lg.Crystal(np.eye(3) * 9, np.arange(3 * n).reshape(n, 3) / 20, [1] * n),
            {"displacement": np.ones((n, 3))},
        )
        for n in (2, 3, 4)
    ]
    lg.write(inputs, tmp_path / "d.lg", graph="mace", workers=1, progress=False)
    with pytest.raises(InputError, match="the augmentation adds 'displacement', and the dataset has a label of"):
        lg.LazyGraphDataset(tmp_path / "d.lg", augment=[lg.Rattle(0.1)])


def test_augmented_datasets_are_not_stored(ds, tmp_path):
    for save in (lg.write, lg.subset, lg.export):
        with pytest.raises(InputError, match="augment"):
            save(ds, tmp_path / ("out.xyz" if save is lg.export else "out.lg"))


def test_labels_that_no_longer_hold_are_named(forces):
    with pytest.warns(UserWarning, match="augment moves atoms, and 'forces', 'energy' stay those of the stored"):
        lg.LazyGraphDataset(forces / "mace.lg", "energy", augment=[lg.Rattle(0.1)])


def test_steps_are_checked_in_the_order_in_which_they_run():
    labels = [LabelFacts("energy", "crystal", (), "cell")]
    augmenter = Augmenter([lg.Supercell(2), lg.Supercell((1, 1, 3))], labels, 5)
    assert augmenter.times == 24
    assert [dict(step.labels) for step in augmenter.steps] == [{"energy": "extensive"}] * 2


def test_the_steps_are_shown(ds):
    assert "augment Rattle(sigma=0.05), Strain(sigma=0.02), Rotate(labels={'stress': 'voigt'})" in repr(ds)
    assert "augment" not in repr(ds.unaugmented())
    assert "Rattle(sigma=0.05)" in ds._repr_html_()
