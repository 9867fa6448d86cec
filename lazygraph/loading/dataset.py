"""The class ``LazyGraphDataset``: graphs of a dataset directory by index, id or condition."""

from __future__ import annotations

import copy
import operator
import os
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from types import NoneType
from typing import Any, Literal, overload

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch_geometric.data import Data, Dataset

from lazygraph.crystal import Crystal
from lazygraph.errors import (
    ContentMismatch,
    CorruptDataset,
    InputError,
    LabelError,
    RecipeMismatch,
    StructureError,
    UnknownId,
)
from lazygraph.format.frozen_subset import FrozenSubset, digest_of_graphs
from lazygraph.format.id_lookup import rows_of
from lazygraph.format.manifest import Manifest
from lazygraph.format.store import Store
from lazygraph.graphs.crystal_records import CRYSTAL_FIELDS
from lazygraph.graphs.nvalchemi import DEVICE_BACKEND
from lazygraph.graphs.rule import native_rule
from lazygraph.graphs.spec import GraphSpec
from lazygraph.graphs.spec import graph as graph_spec
from lazygraph.loading.device_edges import CrystalsForDevice, RadiusSearch
from lazygraph.loading.graph_access import GraphAccess
from lazygraph.loading.positions import Several, is_plain, rows_at, select
from lazygraph.loading.precision import float32_rounding, is_too_coarse
from lazygraph.loading.read_ahead import (
    NextShard,
    ReadAhead,
    bytes_to_read,
    fetch_together,
    shards_in_order,
    shards_to_read,
)
from lazygraph.loading.reader import Reader, StoredPresenter, ViewPresenter
from lazygraph.loading.samples import (
    check_matrix,
    farthest_points,
    random_sample,
    sample_rule,
    strata_of,
    stratified_sample,
)
from lazygraph.loading.shown import Shown
from lazygraph.markup.elements import or_plain
from lazygraph.reading.augment import Augmentation, Augmenter, LabelFacts
from lazygraph.reading.conditions import evaluate
from lazygraph.reading.rebuild import RebuiltRecords, chosen_edges
from lazygraph.reading.table import Columns
from lazygraph.reading.views import View, as_view
from lazygraph.registry import unknown_name
from lazygraph.storage.base import Storage
from lazygraph.text import printable

__all__ = ["LazyGraphDataset"]


class LazyGraphDataset(Dataset, GraphAccess):  # type: ignore[misc]
    """A PyG dataset that reads each graph from disk when you access it.

    PyG's ``DataLoader`` accepts it directly, torch's with ``collate_fn=lg.collate``. It holds the manifest,
    memory-mapped columns and a few file descriptors, whatever the number of graphs. Reading a graph takes about 50 us.
    It is safe under fork, spawn and forkserver, in threads, and after pickling. It takes no lock, writes nothing, and
    runs no code from the dataset.

    Attributes:
        rebuilds: whether edges are built from the stored crystals when they are read, because of ``graph``, ``edges``
            or ``augment``.
        edges_reason: one sentence that says why.
        augmenter: the checked steps of ``augment``; None without any.

    Args:
        path: the dataset directory, a URL, or a storage. URLs begin with ``https://``, ``s3://``, ``gs://``, ``az://``,
            ``sftp://`` or ``hf://datasets/``, or with the scheme of an installed plug-in (docs/sharing.md). Files are
            fetched when they are needed and kept in the cache.
        target: the label or labels that become ``y``, of shape (1, T). Each component of a vector label is one column.
        view: the arrays of a graph, as a name or as the result of :func:`lazygraph.view`. Ready-made graphs have the
            arrays that they were written with. Default ``"pyg"``.
        transform: a function that receives every ``Data`` and returns a ``Data``. :func:`lazygraph.loader` seeds random
            numbers for each graph. In ``ds[i]`` and in the loaders of PyG and torch, random numbers come from the
            generators of the process.
        expect: the recipe that the graphs must have, or the name of a preset with its defaults. Default: any recipe.
        graph: a recipe, or the name of a preset. If the stored graphs have another recipe, its graphs are built from
            the stored crystals at every read. Their sizes are known beforehand only if :func:`lazygraph.count` counted
            them; else there are no columns ``n_edges`` and ``n_triplets``. Default: the stored graphs.
        edges: ``"stored"`` reads the stored edges, and refuses a recipe that gives others. ``"build"`` builds the edges
            at every read. ``"auto"`` (default) reads the stored edges if the recipe gives them, and else builds edges.
        backend: how edges are built at every read. ``"native"`` (default) uses the compiled loops, in the process that
            reads. ``"nvalchemi"`` builds radius edges on the device of the batch, with NVIDIA's nvalchemi-toolkit-ops
            (``pip install "lazygraph[cuda]"``): ``lg.loader(ds, device="cuda")`` copies crystals without edges to the
            device. Both give the same edges. Stored edges are read if the recipe gives them, except with
            ``edges="build"``.
        augment: steps that change the crystals before their edges are built, at every read: :class:`lazygraph.Rattle`,
            :class:`lazygraph.Strain`, :class:`lazygraph.Rotate`, :class:`lazygraph.Supercell`, or functions of your
            own. Edges are built as with ``graph``, by the stored recipe if no other is given.
            :func:`lazygraph.loader` seeds every graph by seed, epoch and position; elsewhere, seeds come from torch's
            generator of the process.
        augment_attempts: how often a crystal is drawn whose augmented form is refused, for example because atoms are
            too close. After that it is taken unchanged.
        content_id: the identity that the graphs must have, as ``lazygraph info`` prints it. It pins the data of a
            paper. The digests of all graphs are compared, but no graph is read (:func:`lazygraph.pull` reads each).
        target_dtype: the type of ``y``: ``"float32"`` (default), as most networks take it, or ``"float64"``, as labels
            are stored. A torch dtype works too.

    Raises:
        DatasetNotFound, CorruptDataset, UnsupportedFormat: the path holds no dataset that can be read.
        RecipeMismatch: the recipe differs from ``expect``; the message compares each field. Or the view needs graphs
            of another recipe, or ``graph`` is given for ready-made graphs.
        ContentMismatch: the dataset has another content id than ``content_id``.
        TransferError: a server cannot be reached, and nothing is in the cache.
        LabelError: a target does not exist; the message lists the labels.
        InputError: ``target_dtype`` is not one of the two types, ``augment`` does not fit the dataset, or ``backend``
            is unknown or combined with ``augment``.
        MissingExtra: the package of the backend is not installed.

    Warns:
        UserWarning: ``augment`` moves atoms, and energies, forces or stresses are those of the stored crystals.
        UserWarning: float32 may change a target by more than a thousandth of its standard deviation, for example total
            energies of about 100,000 eV.

    Example:
        >>> import tempfile, lazygraph as lg
        >>> folder = tempfile.TemporaryDirectory()
        >>> _ = lg.write("prototypes:20?seed=0", folder.name + "/p.lg", graph="comformer", workers=1)
        >>> ds = LazyGraphDataset(folder.name + "/p.lg", target="density")
        >>> ds[0].x.shape[1], ds[0].y.shape, len(ds[5:10]), ds[3].id == ds.ids[3]
        (1, torch.Size([1, 1]), 5, True)
        >>> len(ds.where("n_atoms < 10")) < len(ds)
        True
        >>> folder.cleanup()
    """

    def __init__(
        self,
        path: str | os.PathLike[str] | Storage,
        target: str | Sequence[str] | None = None,
        view: str | View = "pyg",
        transform: Callable[[Data], Any] | None = None,
        expect: GraphSpec | str | None = None,
        *,
        graph: GraphSpec | str | None = None,
        edges: Literal["auto", "stored", "build"] = "auto",
        backend: Literal["native", "nvalchemi"] = "native",
        augment: Sequence[Augmentation] = (),
        augment_attempts: int = 5,
        content_id: str | None = None,
        target_dtype: str | torch.dtype = "float32",
    ) -> None:
        super().__init__(transform=transform)
        self._chosen: Any = None  # rows of a subset; PyG's own name for it is private
        self._rule: Mapping[str, Any] | None = None  # by which a sample was chosen
        self._store = Store(path)
        if content_id is not None:
            self._store.check_content(content_id)
        manifest = self._store.manifest
        self.view = as_view(view)
        self.target = target
        self.target_dtype = _float_type(target_dtype)
        targets = self._check_targets(target)
        # First what the user named: the dataset may need the rule of that plug-in, and imports none itself.
        wanted, expected = _recipe("graph", graph), _recipe("expect", expect)
        self._stored = stored = None if manifest.recipe is None else GraphSpec.from_json(manifest.recipe)
        self._targets = targets
        self._spec = wanted or stored
        if wanted is not None and stored is None:
            msg = f"the graphs of {self.path} came ready-made, so graph={wanted} cannot build them; leave graph out"
            raise RecipeMismatch(msg)
        self._edges, self._backend = edges, backend
        self.augmenter = self._make_augmenter(augment, augment_attempts, targets)
        if expected is not None:
            self._check_recipe(expected)
        self._make_reader()

    # ---- what it is ----

    @property
    def path(self) -> str:
        """The dataset directory, or its URL."""
        return self._store.name

    @property
    def storage(self) -> Storage:
        """The storage that holds the files of the dataset."""
        return self._store.storage

    @property
    def store(self) -> Store:
        """The records and columns of the whole dataset by row, whatever part of it this is."""
        return self._store

    @property
    def manifest(self) -> Manifest:
        """The manifest, which describes the dataset and all its files."""
        return self._store.manifest

    @property
    def spec(self) -> GraphSpec | None:
        """The recipe of the graphs that are read; None for ready-made graphs."""
        return self._spec

    @property
    def builds_in_python(self) -> bool:
        """Whether edges are built by Python code, during which no other thread runs: the rule has no compiled loop."""
        return self.rebuilds and self._spec is not None and native_rule(self._spec.rule) is None

    @property
    def builds_on_device(self) -> bool:
        """Whether edges are built when a batch is expanded, on its device."""
        return self.rebuilds and self._backend == DEVICE_BACKEND

    @property
    def content_id(self) -> str:
        """The identity of all graphs in the dataset, independent of compression, shards and location."""
        return self.manifest.content_id

    @property
    def ids(self) -> NDArray[np.str_]:
        """The ids of the graphs, in order."""
        return self.columns["id"]

    @property
    def columns(self) -> Columns:
        """The columns by name, one row per graph of this (sub)set: labels, n_atoms, n_edges, formula, split, id."""
        return Columns(self._store, self._chosen, of_crystals=self.rebuilds, sizes=self._sizes_of_built)

    # ---- one graph ----

    def len(self) -> int:
        """Return the number of graphs on disk; ``len(ds)`` gives the number in the subset."""
        return len(self._store)

    def get(self, idx: int) -> Data:
        """Return the graph in row ``idx`` of the dataset on disk, before the transform."""
        return self.reader.data(idx, self._own_seeds(1))

    def crystal(self, idx: int | str) -> Crystal:
        """Return the crystal of a graph, with the exact lattice and coordinates that were written.

        Args:
            idx: position in this (sub)set, or id.

        Raises:
            InputError: the dataset holds ready-made graphs, without crystals.
            IndexError, UnknownId: the graph does not exist.
            CorruptDataset: the record is damaged.

        Example:
            >>> import tempfile, lazygraph as lg
            >>> folder = tempfile.TemporaryDirectory()
            >>> _ = lg.write("prototypes:3", folder.name + "/p.lg", workers=1)
            >>> ds = lg.LazyGraphDataset(folder.name + "/p.lg")
            >>> crystal = ds.crystal(1)
            >>> len(crystal) == len(crystal.to_pymatgen()) == len(crystal.to_ase()) == ds[1].num_nodes
            True
            >>> folder.cleanup()
        """
        row = self._row_of(idx) if isinstance(idx, str) else self._row(operator.index(idx))
        if self._spec is None:
            msg = f"the graphs of {self.path} came ready-made, without crystals; read their arrays with ds[{idx!r}]"
            raise InputError(msg)
        fields: dict[str, Any] = self._store.arrays(row)
        try:
            return Crystal(fields["lattice"], fields["frac_coords"], fields["numbers"], tuple(fields["pbc"].tolist()))
        except StructureError as error:
            self._store.raise_corrupt(row, CorruptDataset(str(error)))

    @overload
    def __getitem__(self, idx: int | str | np.integer[Any]) -> Data: ...
    @overload
    def __getitem__(self, idx: Several) -> LazyGraphDataset: ...
    def __getitem__(self, idx: Any) -> Any:
        """Return one graph by position (int) or id (str), or a lazy subset by slice, list, mask, array or tensor."""
        if isinstance(idx, str):
            row = self._row_of(idx)
        elif isinstance(idx, (int, np.integer)) or (isinstance(idx, torch.Tensor) and idx.dim() == 0):
            row = self._row(int(idx))
        else:
            return self.index_select(idx)
        return self.transformed(row, self.get(row))

    def record_bytes(self) -> NDArray[np.int64]:
        """Return an upper bound for the bytes of each record of this (sub)set, (n,) int64, without reading a graph."""
        rows = self.indices()
        rows = slice(rows.start, rows.stop) if is_plain(rows) else np.asarray(rows)
        schema = self.manifest.schema
        counts = [np.asarray(self._store.column(f"n_{axis}")[rows], np.int64) for axis in schema.axes]
        return np.broadcast_to(np.asarray(schema.bound(counts), np.int64), (len(self),))

    def transformed(self, row: int, data: Data) -> Any:
        """Apply the transform to the graph in a row on disk; its errors name the graph."""
        if self.transform is None:
            return data
        try:
            return self.transform(data)
        except Exception as error:
            error.add_note(f"in the transform of {self.reader.where(row).removesuffix(': ')}")
            raise

    # ---- subsets ----

    def shards_to_read(self) -> tuple[list[int], int]:
        """Return the shards that are worth reading as a whole for this (sub)set, and their size in bytes."""
        shards = shards_to_read(self._store, self.indices())
        return shards, bytes_to_read(self._store, shards)

    def read_ahead(self, batches: Iterable[NDArray[np.int64]] = ()) -> ReadAhead:
        """Read the shards of this (sub)set into the page cache, in threads. Shards on a server are fetched.

        Args:
            batches: positions, batch by batch, in the order in which they will be read. Only a dataset on a server
                needs it.
        """
        shards = self.shards_to_read()[0]
        if not self.is_remote:
            return ReadAhead(self._store, [NextShard(shard, 0) for shard in shards])
        return ReadAhead(self._store, shards_in_order(self._store, self.indices(), batches, shards))

    @property
    def is_remote(self) -> bool:
        """Whether the dataset is on a server, and not in a folder of this machine."""
        return self._store.is_remote

    def read_whole_shards(self) -> None:
        """Fetch the columns of batches from a server, and let shards be fetched of which many graphs are read."""
        shards = self.shards_to_read()[0]
        self._store.read_whole(shards)
        fetch_together(self._store, self._targets, shards)

    def shard_rows(self) -> int:
        """Return the number of graphs of the largest shard."""
        return max((shard.rows for shard in self.manifest.shards), default=0)

    def indices(self) -> Any:
        """Return the rows on disk of this (sub)set: a range or an int64 array."""
        return range(self.len()) if self._chosen is None else self._chosen

    def index_select(self, idx: Several) -> LazyGraphDataset:
        """Return a lazy subset over the same files, by slice, positions, ids, or boolean mask."""
        return self._subset(select(self.indices(), idx, self._rows_of))

    def where(self, condition: str) -> LazyGraphDataset:
        """Select graphs by a condition on columns; reads no graph.

        Args:
            condition: such as ``"n_atoms < 50 and band_gap > 0"``, ``"config_type == 'bulk'"``, ``"'Fe' in elements"``,
                ``"elements <= {'Fe', 'O'} and n_elements == 2"``, ``"split in ('train', 'val')"``.

        Raises:
            InputError: the condition cannot be parsed, names a column that does not exist, or compares a category with
                a text that no graph of the dataset has.

        Warns:
            UserWarning: no graph of the dataset has one of the texts after ``in``.
        """
        return self.index_select(evaluate(condition, self.columns.operand))

    def unaugmented(self) -> LazyGraphDataset:
        """Return the same (sub)set without augmentation, for validation and tests; graphs of the same recipe."""
        out = copy.copy(self)
        out.augmenter = None
        out._make_reader()  # noqa: SLF001 - of its own class
        return out

    def split(self, name: str, *, of: str = "split") -> LazyGraphDataset:
        """Select the graphs of a named split.

        Args:
            name: name of the split, such as ``"train"``.
            of: the column of splits, if the dataset has several, such as ``"fold_0"``.

        Raises:
            InputError: the split does not exist, or no column of splits has this name; the message lists the existing
                names.
        """
        columns = self.manifest.splits()
        if of != "split" and of not in columns:
            raise InputError(unknown_name("column of splits", of, columns))
        column = columns.get(of)
        names = () if column is None else column.categories or ()
        if name not in names:
            hint = "" if names else f"; make splits with 'lazygraph split {self.path} 0.8,0.1,0.1'"
            raise InputError(unknown_name("split", name, names) + hint)
        codes = self._store.column(of)
        rows = self.indices()
        codes = codes[rows.start : rows.stop : rows.step] if is_plain(rows) else codes[np.asarray(rows)]
        return self.index_select(np.asarray(codes) == names.index(name))

    def sample(
        self, n: int, *, seed: int = 0, stratify: str | None = None, farthest: ArrayLike | torch.Tensor | None = None
    ) -> LazyGraphDataset:
        """Select a sample of n graphs, the same for the same seed. Save it with :meth:`save_subset`.

        Args:
            n: number of graphs, at most those of this (sub)set.
            seed: seed of all random choices.
            stratify: a column with one value per graph, or ``"chemical_system"``. The sample has each value's share of
                its graphs, rounded down or up at random. Numbers with more than 10 different values are divided into 10
                bins of about equal size.
            farthest: (len(ds), d) one row of numbers per graph, such as descriptors. The first graph is drawn, and each
                further graph is the one that is farthest from all that were chosen. The graphs keep this order.

        Returns:
            The sample, in the order of this (sub)set, except with ``farthest``.

        Raises:
            InputError: there are fewer graphs, no such column, or the matrix has another number of rows or holds
                numbers that are not finite.

        Example:
            >>> import tempfile, lazygraph as lg
            >>> folder = tempfile.TemporaryDirectory()
            >>> _ = lg.write("prototypes:40", folder.name + "/p.lg", workers=1)
            >>> ds = lg.LazyGraphDataset(folder.name + "/p.lg")
            >>> pilot = ds.sample(10, seed=0, stratify="chemical_system")
            >>> pilot.save_subset(folder.name + "/pilot.json")
            >>> ds.load_subset(folder.name + "/pilot.json").ids.tolist() == pilot.ids.tolist()
            True
            >>> folder.cleanup()
        """
        total = len(self)
        if isinstance(farthest, torch.Tensor):
            farthest = farthest.detach().cpu().numpy()
        points = None if farthest is None else check_matrix(farthest, total)
        rule = sample_rule(n, total, seed=seed, stratify=stratify, farthest=points)
        if points is not None:
            positions = farthest_points(points, n, seed)
        elif stratify is not None:
            positions = stratified_sample(strata_of(stratify, self.columns), n, seed)
        else:
            positions = random_sample(total, n, seed)
        out = self.index_select(positions)
        out._rule = rule  # noqa: SLF001 - of its own class
        return out

    def digest(self) -> str:
        """Return the sha256 over the ids and stored records of the graphs of this (sub)set, in order. Reads them."""
        return digest_of_graphs(self._store, np.asarray(self.indices(), np.int64))

    def save_subset(self, path: str | os.PathLike[str]) -> None:
        """Write down which graphs this (sub)set has, for :meth:`load_subset`.

        The file holds the ids, the content id of the whole dataset, the digest of these graphs, the rule of a sample,
        and its own checksum. A file of this name is replaced.
        """
        FrozenSubset(self.content_id, self.digest(), tuple(self.ids.tolist()), self._rule).save(path)

    def load_subset(self, path: str | os.PathLike[str]) -> LazyGraphDataset:
        """Select the graphs that :meth:`save_subset` wrote down.

        If the dataset has another content id, because graphs were added or removed, the digest of the graphs of the
        subset is compared.

        Raises:
            CorruptDataset: the file was changed, or is something else.
            UnknownId: this (sub)set lacks one of the graphs.
            ContentMismatch: a graph has another record than when the subset was saved.
        """
        frozen = FrozenSubset.load(path)
        out = self.index_select(list(frozen.ids))
        if frozen.content_id != self.content_id and (found := out.digest()) != frozen.digest:
            msg = (
                f"the graphs of {os.fspath(path)} have the digest {found} in {self.path}; required: {frozen.digest}. "
                "Some were changed, or have another recipe"
            )
            raise ContentMismatch(msg)
        out._rule = frozen.rule  # noqa: SLF001 - of its own class
        return out

    # ---- inside ----

    def _rows_at(self, positions: NDArray[np.int64]) -> NDArray[np.int64]:
        return rows_at(self.indices(), positions)

    def _own_seeds(self, n: int) -> NDArray[np.uint64] | None:
        """Draw seeds of the augmentation from torch's generator, as PyG's random transforms do; None without one."""
        if self.augmenter is None:
            return None
        return torch.randint(-(2**63), 2**63 - 1, (n,)).numpy().view(np.uint64)

    def _row(self, position: int) -> int:
        n = len(self)
        if not -n <= position < n:
            msg = f"position {position} is out of range; the dataset has {n} graphs"
            raise IndexError(msg)
        return int(self.indices()[position])

    def _row_of(self, graph_id: str) -> int:
        row = self._store.row_of(graph_id)
        if self._chosen is None or (row in self._chosen):
            return row
        msg = f"the id {graph_id!r} is in {self.path}, but not in this subset of {len(self)} graphs"
        raise UnknownId(msg)

    def _rows_of(self, ids: Sequence[str]) -> NDArray[np.int64]:
        """Find the rows of several ids."""
        rows = rows_of(self._store, ids)
        if self._chosen is not None and not (own := np.isin(rows, np.asarray(self._chosen))).all():
            self._row_of(ids[int(np.argmin(own))])  # which says that it is not in this subset
        return rows

    def _subset(self, rows: Any) -> LazyGraphDataset:
        out = copy.copy(self)
        out._chosen, out._rule = rows, None  # noqa: SLF001 - of its own class
        return out

    def _make_reader(self) -> None:
        schema, stored, spec = self.manifest.schema, self._stored, self._spec
        records: Store | RebuiltRecords | CrystalsForDevice = self._store
        if self._backend not in (known := ("native", DEVICE_BACKEND)):
            raise InputError(unknown_name("backend", self._backend, known))
        if self._backend == DEVICE_BACKEND and self.augmenter is not None:
            msg = (
                f"backend={DEVICE_BACKEND!r} cannot be used with augment, which needs the edges to see whether an "
                "augmented crystal is possible; leave backend out"
            )
            raise InputError(msg)
        self._sizes_of_built: Mapping[str, str] = {}
        self.rebuilds, self.edges_reason = chosen_edges(self._edges, stored, spec)
        if spec is None or stored is None:
            if self._backend != "native":
                msg = f"the graphs of {self.path} came ready-made, so there are no crystals for backend; leave it out"
                raise InputError(msg)
            self.reader = Reader(self._store, records, StoredPresenter(schema), self._targets, self.target_dtype)
            return
        if self.augmenter is not None:
            if self._edges == "stored":
                msg = f"{self.path}: edges='stored' cannot be used with augment, which changes them; use edges='auto'"
                raise InputError(msg)
            self.rebuilds, self.edges_reason = True, "edges are built at every read, after the augmentation"
        rebuilt = RebuiltRecords(self._store, stored, spec, self.augmenter) if self.rebuilds else None
        if rebuilt is not None:
            records, schema, self._sizes_of_built = rebuilt, rebuilt.schema, rebuilt.sizes
            if self.builds_on_device and spec.rule.has_edges:
                records = CrystalsForDevice(rebuilt, RadiusSearch.of(spec))
                self.edges_reason += f", on the device of the batch (backend={self._backend!r})"
        presenter = ViewPresenter(self.view, spec, schema)
        augmented = None if self.augmenter is None else rebuilt
        self.reader = Reader(self._store, records, presenter, self._targets, self.target_dtype, augmented=augmented)

    def _make_augmenter(self, steps: Any, attempts: int, targets: list[str]) -> Augmenter | None:
        if callable(steps) or not isinstance(steps, Sequence):
            msg = f"found augment={steps!r}; required: a list of steps, such as [lg.Rattle(0.05)]"
            raise InputError(msg)
        if not steps:
            return None
        if self._spec is None:
            msg = f"the graphs of {self.path} came ready-made, without crystals to augment; leave augment out"
            raise InputError(msg)
        columns = self.manifest.columns
        labels = [
            LabelFacts(field.name, "atom", field.shape, unit=field.unit)
            for field in self.manifest.schema.fields
            if field.name not in CRYSTAL_FIELDS
        ]
        for name in targets:
            column = columns[name]
            labels.append(LabelFacts(name, "crystal", tuple(column.shape[1:]), column.per, column.unit))
        augmenter = Augmenter(steps, labels, attempts)
        if augmenter.stale:
            msg = (
                f"augment moves atoms, and {', '.join(map(repr, augmenter.stale))} stay those of the stored crystals: "
                "use displacement as the target of denoising, or only labels that may stay"
            )
            warnings.warn(printable(msg), stacklevel=3)
        return augmenter

    def _check_recipe(self, expect: GraphSpec) -> None:
        found = self.spec
        differences = ["it has no recipe: its graphs came ready-made"] if found is None else found.diff(expect)
        if differences:
            msg = f"{self.path} holds other graphs than expected: {'; '.join(differences)}"
            raise RecipeMismatch(msg)

    def _check_targets(self, target: Any) -> list[str]:
        if callable(target) or not isinstance(target, (str, Iterable, NoneType)):
            hint = "; a transform is given as transform=" if callable(target) else ""
            msg = f"found target={target!r}; required: the name of a label, or several{hint}"
            raise InputError(msg)
        names = [target] if isinstance(target, str) else list(target or ())
        labels = self.manifest.labels()
        for name in names:
            if name not in labels:
                hint = ""
                if name in self.manifest.texts():
                    hint = f"; {name!r} is a text: read it as ds.columns[{name!r}]"
                if name in self.manifest.schema.names:
                    hint = f"; {name!r} is a field of every graph: read it as data.{name}"
                msg = f"{self.path}: {unknown_name('label', name, labels)}{hint}"
                raise LabelError(msg)
        if self.target_dtype == "float32":
            for name in names:
                self.warn_of_rounding(name)
        return names

    def warn_of_rounding(self, name: str) -> None:
        """Warn if float32 is too coarse for a label."""
        # By what the manifest says of the label: opening a dataset reads no column.
        found = self.manifest.columns[name].statistics or {}
        if "std" not in found or not is_too_coarse(found["min"], found["max"], found["std"]):
            return
        off = float32_rounding(max(abs(found["min"]), abs(found["max"])))
        msg = (
            f"y is float32, which may change the label {name!r} (from {found['min']:.10g} to {found['max']:.10g}, "
            f"standard deviation {found['std']:.3g}) by {off:.3g}; LazyGraphDataset(..., target_dtype='float64') gives "
            "the labels as they are stored"
        )
        warnings.warn(printable(msg), stacklevel=4)

    def __repr__(self) -> str:
        return self._shown().text()

    def _repr_html_(self) -> str:
        return or_plain(lambda: self._shown().html(), self.__repr__)

    def _shown(self) -> Shown:
        steps = () if self.augmenter is None else self.augmenter.steps
        return Shown(
            self._store,
            self.indices(),
            self._spec,
            rebuilds=self.rebuilds,
            steps=steps,
            target=self.target,
            view=self.view,
            rule=self._rule,
        )


def _float_type(dtype: Any) -> str:
    name = str(dtype).removeprefix("torch.")
    if not isinstance(dtype, (str, torch.dtype)) or name not in ("float32", "float64"):
        msg = f"found target_dtype={dtype!r}; required: 'float32' or 'float64'"
        raise InputError(msg)
    return name


def _recipe(option: str, given: Any) -> GraphSpec | None:
    """The recipe that was given, also by the name of a preset; None where none was."""
    if isinstance(given, str):
        return graph_spec(given)
    if given is not None and not isinstance(given, GraphSpec):
        msg = f"found {option}={given!r}; required: the name of a preset, or a recipe such as lg.graph('comformer')"
        raise InputError(msg)
    return given
