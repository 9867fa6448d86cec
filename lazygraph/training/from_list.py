"""The function ``train_from_list``, which trains a model on structures and labels in memory."""

from __future__ import annotations

import hashlib
import json
import logging
import os
import time
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Unpack

import numpy as np

from lazygraph.crystal import Crystal
from lazygraph.errors import InputError, WriterBusy
from lazygraph.format.manifest import MANIFEST, Manifest
from lazygraph.graphs.spec import GraphSpec, graph
from lazygraph.text import printable
from lazygraph.training.data import check_ratios
from lazygraph.training.folder import Folder
from lazygraph.training.label_tables import columns_of
from lazygraph.training.models import find_model
from lazygraph.training.option_types import to_builtin
from lazygraph.training.options import FurtherOptions, TrainOptions
from lazygraph.training.results import Results
from lazygraph.training.run import train
from lazygraph.writing.quarantine import read_quarantine
from lazygraph.writing.write import write

__all__ = ["train_from_list"]

logger = logging.getLogger(__name__)

Input = tuple[str, Any, dict[str, float]]
BUSY = 0.2  # seconds between two looks at a dataset that another process writes
REMIND = 60.0  # seconds between two messages about waiting


def train_from_list(
    strucs: Sequence[Any],
    labels: Any,
    *,
    ids: Sequence[str] | None = None,
    model: str = "icomformer",
    learning_rate: float = 1e-3,
    batch_size: int = 64,
    n_epochs: int = 100,
    output_dir: str | os.PathLike[str] = "run",
    train_ratio: float = 0.8,
    val_ratio: float = 0.1,
    test_ratio: float = 0.1,
    cutoff: float | None = None,
    max_neighbors: int | None = None,
    use_lattice: bool | None = None,
    num_workers: int = 0,
    cache_graphs: bool = True,
    graph_cache_dir: str | os.PathLike[str] = "graph_cache",
    unit: str | Mapping[str, str] | None = None,
    progress: bool = True,
    **options: Unpack[FurtherOptions],
) -> Results:
    """Train a model on structures in memory.

    Args:
        strucs: pymatgen ``Structure``, ASE or jarvis ``Atoms``, their dictionaries, or :class:`lazygraph.Crystal`.
        labels: one number per structure, in a list, an array or a pandas ``Series``. None, NaN or ``NA`` marks a
            missing label. For several targets: a mapping from names to such numbers, or a ``DataFrame``.
        ids: one text per structure; default its position.
        model: name of a model, or ``package.module:Class``.
        learning_rate: greatest learning rate of AdamW.
        batch_size: graphs in a batch.
        n_epochs: passes over the training graphs.
        output_dir: the folder of the run.
        train_ratio: share of the training graphs.
        val_ratio: share of the validation graphs.
        test_ratio: share of the test graphs.
        cutoff: cutoff of the graphs, A; default from the preset of the model.
        max_neighbors: number of neighbours; default from the preset of the model.
        use_lattice: True for graphs with ComFormer's edges along the lattice vectors; default from the preset.
        num_workers: worker processes that read; 0 to let the loader choose.
        cache_graphs: keep the graphs on disk, and use graphs of the same structures, labels and recipe that are on
            disk.
        graph_cache_dir: the folder for stored graphs.
        unit: unit of the labels, for every report. For several targets: a mapping from names to units.
        progress: show progress bars.
        options: further options of :class:`TrainOptions`, such as ``loss="mse"`` or ``seed=1``.

    Returns:
        Scores, predictions, paths and times. ``seconds`` also has ``conversion`` and ``building``.

    Raises:
        LabelError: the number of labels differs from the number of structures, no label is a number, or several
            targets have no names.
        InputError: options that do not fit together.

    Warns:
        UserWarning: some structures could not become graphs; the warning gives the first reason.
    """
    begin = time.perf_counter()
    further: dict[str, Any] = dict(options)
    if "target" in further:
        msg = "target= cannot be given, because the names of the labels are the targets: labels={'gap': [...]}"
        raise InputError(msg)
    if further.get("splits") is not None:
        msg = "splits= cannot be given, because a list has no splits: the ratios split it"
        raise InputError(msg)
    if not {"graph", "graph_options"}.isdisjoint(further):
        msg = "graph= cannot be given, because the model chooses the preset; cutoff and max_neighbors change it"
        raise InputError(msg)
    _check_pairs(strucs, labels)
    strucs = list(strucs)
    columns = columns_of(labels, len(strucs))
    units = dict(unit) if isinstance(unit, Mapping) else {} if unit is None else dict.fromkeys(columns, unit)
    if unknown := sorted(set(units) - set(columns)):
        msg = f"there is a unit for {unknown[0]!r}, which is not a label; the labels are {', '.join(columns)}"
        raise InputError(msg)
    named = {"target": tuple(columns), "model": model, "learning_rate": learning_rate, "batch_size": batch_size}
    named |= {"n_epochs": n_epochs, "train_ratio": train_ratio, "val_ratio": val_ratio, "test_ratio": test_ratio}
    settings = TrainOptions.of({**named, "num_workers": num_workers, **further})
    inputs = _inputs(strucs, columns, ids)
    spec = _recipe(model, cutoff, max_neighbors, use_lattice)
    check_ratios(len(inputs), settings.ratios)
    Folder(Path(output_dir)).check(settings.to_json())
    seconds = {"conversion": time.perf_counter() - begin}
    begin = time.perf_counter()
    with _Graphs(inputs, spec, units, Path(graph_cache_dir) if cache_graphs else None, progress) as path:
        seconds["building"] = time.perf_counter() - begin
        _warn_of_quarantined(path)
        return train(path, settings, output_dir, progress=progress, seconds=seconds)


def _warn_of_quarantined(path: Path) -> None:
    rejected = read_quarantine(path, Manifest.load(path))
    if rejected:
        first = rejected[0]
        msg = f"{len(rejected)} structures could not become graphs; the first, id {first.id!r}: {first.message}"
        warnings.warn(printable(msg), stacklevel=3)


@dataclass(slots=True)
class _Graphs:
    """The dataset of the inputs, in the cache or in a temporary folder."""

    inputs: list[Input]
    spec: GraphSpec
    units: dict[str, str]
    cache: Path | None
    progress: bool
    temporary: TemporaryDirectory[str] | None = None

    def __enter__(self) -> Path:
        if self.cache is None:
            self.temporary = TemporaryDirectory()
            path = Path(self.temporary.name) / "graphs.lg"
        else:
            path = self.cache / f"{_digest(self.inputs, self.spec, self.units)}.lg"
        names = list(self.inputs[0][2])
        waiting = _Waiting()
        while not (path / MANIFEST).exists():
            path.parent.mkdir(parents=True, exist_ok=True)
            # Another rank, or another run with the same structures, may write the same dataset. Its lock ends with it.
            try:
                write(self.inputs, path, graph=self.spec, labels=names, units=self.units, progress=self.progress)
            except WriterBusy as error:
                waiting.tell(error)
                time.sleep(BUSY)
        return path

    def __exit__(self, *_: object) -> None:
        if self.temporary is not None:
            self.temporary.cleanup()


class _Waiting:
    """Log messages about waiting: at once, and then again from time to time."""

    def __init__(self) -> None:
        self._begin = self._next = time.monotonic()

    def tell(self, busy: WriterBusy) -> None:
        """Log the reason if it is due."""
        now = time.monotonic()
        if now >= self._next:
            self._next = now + REMIND
            logger.warning(
                "waiting for %.0f s for the graphs of these structures: %s", now - self._begin, printable(str(busy))
            )


def _inputs(strucs: list[Any], columns: Mapping[str, list[float]], ids: Sequence[str] | None) -> list[Input]:
    """Return (id, crystal, labels) of each input. An invalid structure stays unchanged and will be quarantined."""
    names = [str(n) for n in range(len(strucs))] if ids is None else [str(name) for name in ids]
    if len(names) != len(strucs):
        msg = f"there are {len(strucs)} structures and {len(names)} ids; required: one id per structure"
        raise InputError(msg)
    rows = (dict(zip(columns, values, strict=True)) for values in zip(*columns.values(), strict=True))
    return [(name, _crystal(s), row) for name, s, row in zip(names, strucs, rows, strict=True)]


def _check_pairs(strucs: Any, labels: Any) -> None:
    """Refuse structures without an order, and labels that pandas would align in another order."""
    indexes: list[Any] = [getattr(each, "index", None) for each in (strucs, labels)]
    if all(hasattr(index, "equals") for index in indexes) and not indexes[0].equals(indexes[1]):
        msg = "structures and labels have different indexes; give both the same rows in the same order"
        raise InputError(msg)
    if isinstance(strucs, Mapping) or hasattr(strucs, "columns"):
        msg = (
            f"the structures are in a {type(strucs).__name__}; give a list of structures, and their names as ids=[...]"
        )
        raise InputError(msg)


def _crystal(structure: Any) -> Any:
    try:
        return Crystal.from_any(structure)
    except InputError:
        return structure


def _recipe(model: str, cutoff: float | None, max_neighbors: int | None, use_lattice: bool | None) -> GraphSpec:
    preset = find_model(model).preset or "comformer"
    wanted = {"cutoff": cutoff, "max_neighbors": max_neighbors, "lattice_edges": use_lattice}
    return graph(preset, **{name: to_builtin(name, value) for name, value in wanted.items() if value is not None})


def _digest(inputs: list[Input], spec: GraphSpec, units: dict[str, str]) -> str:
    """Return a name that depends on every atom, label and parameter of the recipe."""
    out = hashlib.sha256(json.dumps([spec.to_json(), list(inputs[0][2]), units], sort_keys=True).encode())
    for name, crystal, values in inputs:
        if isinstance(crystal, Crystal):
            arrays = (crystal.lattice, crystal.frac_coords, crystal.numbers, np.array(crystal.pbc))
            parts = [np.ascontiguousarray(array).tobytes() for array in arrays]
        else:
            parts = [type(crystal).__name__.encode()]  # the input will be quarantined
        for part in (name.encode(), np.array(list(values.values()), dtype=np.float64).tobytes(), *parts):
            out.update(len(part).to_bytes(8, "little"))
            out.update(part)
    return out.hexdigest()[:32]
