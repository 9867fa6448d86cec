"""The memory of merge, append, subset, concat, verify and GraphWriter does not grow with the number of graphs."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pytest

import lazygraph as lg
from lazygraph.format import columns
from lazygraph.format.codec import CODECS
from lazygraph.format.digests import graph_digest
from lazygraph.format.manifest import Manifest
from lazygraph.format.record import pack
from lazygraph.format.shard import write_shard
from lazygraph.graphs.spec import GraphSpec
from lazygraph.reading.verify import verify
from lazygraph.writing import (
    graph_writer,
    id_order,
    id_set,
    label_columns,
    plan,
    quarantine,
    selection,
    temporary_arrays,
)
from lazygraph.writing.fields import crystal_values
from lazygraph.writing.layout import Layout
from lazygraph.writing.plan import Plan
from lazygraph.writing.rows import Maker, RowBuffer
from lazygraph.writing.write import finish
from lazygraph.writing.write import plan as plan_dataset

FEW, MANY = 10_000, 40_000
# What is put together in memory takes 250 bytes a graph and more, 7.5 MB for those that are more here.
GROWTH = 2_500_000
pytestmark = pytest.mark.slow


def peak(work):
    """The most memory that a call takes."""
    tracemalloc.start()
    try:
        work()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def made(path, graphs):
    """A plan with all of its shards, which hold one record many times under ids of their own."""
    plan_dataset(f"prototypes:{graphs}?seed=0", path, graph="none", codec="none", shard_size=2048)
    layout = Layout.of(path)
    planned = Plan.load(layout)
    crystal = lg.Crystal(np.eye(3) * 4.0, np.zeros((1, 3)), np.array([26]))
    graph = GraphSpec.from_json(planned.recipe).build(crystal)
    raw, counts = pack(planned.schema, crystal_values(planned.schema, graph, {}))
    frame = CODECS[planned.codec].encoder(planned.level, None)(raw)
    labels = [label for label in planned.labels if label.level == "graph"]
    position = 0
    for number, task in enumerate(planned.tasks):
        rows = RowBuffer(labels, len(counts))
        for _ in range(task.count):
            graph_id = f"made-{position * 7919 % 1_000_003:07d}"
            digest = graph_digest(graph_id.encode(), raw)
            rows.add(position, graph_id, "Fe", counts, labels=[float(position), 0.5, 2.0], digest=digest)
            position += 1
        file, record = write_shard(layout.dataset, number, [frame] * task.count)
        rows.finish(file, record, Maker.of(planned)).save(layout.done(number))
    return path


@pytest.fixture
def _small_pieces(monkeypatch):
    """Buffers in proportion to these sizes, so that they are full in both."""
    for module, name, size in (
        (columns, "PIECE", 2**15),
        (id_order, "RUN", 2**16),
        (id_order, "STEP", 2**11),
        (selection, "PIECE", 2**11),
        (label_columns, "ROWS", 2**11),
        (quarantine, "PIECE", 2**11),
        (plan, "MAX_SHARD", 2048),
    ):
        monkeypatch.setattr(module, name, size)


@pytest.mark.usefixtures("_small_pieces")
def test_memory_of_every_step_is_bounded(tmp_path):
    found = {}
    for graphs in (FEW, MANY):
        path, half, both = (tmp_path / f"{name}-{graphs}.lg" for name in ("made", "half", "both"))
        made(path, graphs)
        found[graphs] = {
            "merge": peak(lambda path=path: finish(path)),
            "append": peak(
                lambda path=path: lg.append(path, "prototypes:20?seed=1", workers=1, progress=False, split=None)
            ),
            "subset": peak(lambda path=path, half=half: lg.subset(path, half, where="density > 5000 or density < 0")),
            "concat": peak(
                lambda path=path, half=half, both=both: lg.concat([path, half], both, on_duplicate="prefix")
            ),
            "skip": peak(
                lambda path=path, half=half, both=both: lg.concat(
                    [path, half], both, on_duplicate="skip", overwrite=True
                )
            ),
            "verify": peak(lambda path=path: verify(path, sample=0.001)),
        }
        assert Manifest.load(path).graphs == graphs + 20
        assert Manifest.load(both).graphs == graphs + 20
        assert verify(both, sample=0.001).problems == ()
    growth = {name: found[MANY][name] - found[FEW][name] for name in found[FEW]}
    assert {name: size for name, size in growth.items() if size > GROWTH} == {}


@pytest.mark.usefixtures("_small_pieces")
def test_memory_of_a_writer_is_bounded(tmp_path):
    def write(graphs):
        with lg.GraphWriter(tmp_path / f"{graphs}.lg", codec="none") as writer:
            for number in range(graphs):
                writer.add({"z": np.array([26])}, id=f"g-{number * 7919 % 1_000_003}", labels={"energy": float(number)})

    few, many = (peak(lambda graphs=graphs: write(graphs)) for graphs in (5_000, 20_000))
    assert many - few < GROWTH  # 15,000 graphs that are held in memory take 4 MB
    assert verify(tmp_path / "20000.lg").problems == ()
    assert not (tmp_path / "20000.lg.partial").exists()


@pytest.mark.usefixtures("_small_pieces")
def test_a_writer_holds_the_rows_of_one_shard(tmp_path, monkeypatch):
    """Before it is closed. What it keeps of each finished shard takes less than 8 KiB, or 1/8 byte a graph."""
    for module, name, size in (
        (graph_writer, "SAMPLES", 512),
        (graph_writer, "SHARD", 512),
        (plan, "MAX_SHARD", 512),
        (id_set, "CHUNK", 2**12),
        (temporary_arrays, "SMALL", 2**12),
    ):
        monkeypatch.setattr(module, name, size)

    def add(writer, graphs):
        for number in range(graphs):
            writer.add({"z": np.array([26])}, id=f"g-{number}", labels={"energy": float(number)})

    peaks = []
    for graphs in (2_048, 16_384):
        with lg.GraphWriter(tmp_path / f"{graphs}.lg", codec="none") as writer:
            peaks.append(peak(lambda writer=writer, graphs=graphs: add(writer, graphs)))
        shards = Manifest.load(tmp_path / f"{graphs}.lg").shards
        assert {shard.rows for shard in shards} == {512}
    assert peaks[1] - peaks[0] < (16_384 - 2_048) // 512 * 8192  # 16 bytes a graph, which takes 250 in memory
