"""The class ``Mix``: several datasets that a loader reads as one, each at its own rate."""

from __future__ import annotations

import copy
import operator
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeAlias, overload

import numpy as np
import torch
from numpy.typing import NDArray
from torch_geometric.data import Data
from torch_geometric.data.data import BaseData

from lazygraph.errors import InputError, LabelError, RecipeMismatch, UnknownId
from lazygraph.format.id_lookup import find_ids
from lazygraph.graphs.spec import GraphSpec
from lazygraph.loading.dataset import LazyGraphDataset
from lazygraph.loading.graph_access import GraphAccess
from lazygraph.loading.mix_reader import MixReader, joined_schema
from lazygraph.loading.mixing_order import MemberOrder, Mixed
from lazygraph.loading.mixing_rates import Rates
from lazygraph.loading.orders import Order, Shuffled, digest, order_of, weights_of
from lazygraph.loading.positions import Rows, Several, non_negative, rows_at, select
from lazygraph.loading.read_ahead import ReadAheadOfMembers
from lazygraph.loading.reader import Presenter, StoredPresenter, ViewPresenter
from lazygraph.reading.augment import Augmenter
from lazygraph.reading.conditions import evaluate
from lazygraph.reading.joined_columns import DATASET, JoinedColumns, JoinedLabel, Member
from lazygraph.reading.rebuild import gives_the_stored_graphs
from lazygraph.reading.views import View
from lazygraph.registry import unknown_name
from lazygraph.text import printable

__all__ = ["LoadableDataset", "Mix", "as_dataset", "mix"]


class Mix(torch.utils.data.Dataset[Data], GraphAccess):
    """Several datasets as one, created by :func:`mix`.

    The graphs have positions, one dataset after the other in the order of ``members``. Every graph has the number of
    its dataset in this order as ``dataset``, of shape (1,), and a batch has (B,) int64. Like a dataset, a mix holds no
    graphs, is picklable, and is safe under fork and in threads.

    Attributes:
        names: the names of the members, in order. ``batch.dataset`` are positions in it.
        target: the labels that become ``y``.
        view: the view of all members.
        reader: reads the graphs.
    """

    def __init__(self, members: Mapping[str, LazyGraphDataset], target: Sequence[str] | None, rates: Rates) -> None:
        self._all, self._rates = dict(members), rates
        self.names = tuple(self._all)
        self._chosen: NDArray[np.int64] | None = None
        self._ends = np.cumsum([len(member) for member in self._all.values()], dtype=np.int64)
        self._store_ends = np.cumsum([member.len() for member in self._all.values()], dtype=np.int64)
        first = next(iter(self._all.values()))
        self.view: View = first.view
        self._check_agreement()
        rates.check(self.names)
        self._joined = self._labels(target)
        self.target = tuple(label.name for label in self._joined)
        self.reader: MixReader = self._make_reader(self._joined)
        if not rates.visits_each_once:
            rates.visits(self._sizes())  # what cannot be is said now

    # ---- what it is ----

    @property
    def members(self) -> dict[str, LazyGraphDataset]:
        """The datasets by name; of a part of the mix, the parts of them."""
        if self._chosen is None:
            return dict(self._all)
        return {
            name: self._all[name].index_select(self._chosen[np.asarray(self._places_of(number))] - start)
            for number, (name, start) in enumerate(zip(self.names, self._starts(), strict=True))
        }

    @property
    def path(self) -> str:
        """What errors call the mix."""
        return f"the mix of {', '.join(self.names)}"

    @property
    def spec(self) -> GraphSpec | None:
        """The recipe of the graphs; None for ready-made graphs."""
        return next(iter(self._all.values())).spec

    @property
    def rebuilds(self) -> bool:
        """Whether graphs of a member are built when they are read."""
        return any(member.rebuilds for member in self._all.values())

    @property
    def augmenter(self) -> Augmenter | None:
        """The augmentation of the first member that has one; None if no member is augmented."""
        return next((member.augmenter for member in self._all.values() if member.augmenter is not None), None)

    @property
    def edges_reason(self) -> str:
        """One sentence for each member that says where its edges come from."""
        return "; ".join(f"{name!r}: {member.edges_reason}" for name, member in self._all.items())

    @property
    def builds_in_python(self) -> bool:
        """Whether the edges of a member are built by Python code, during which no other thread runs."""
        return any(member.builds_in_python for member in self._all.values())

    @property
    def builds_on_device(self) -> bool:
        """Whether edges are built when a batch is expanded: never, in a mix."""
        return False

    @property
    def transform(self) -> tuple[Any, ...] | None:
        """The transforms of the members; None if no member has one."""
        transforms = tuple(member.transform for member in self._all.values())
        return transforms if any(transform is not None for transform in transforms) else None

    @property
    def ids(self) -> NDArray[np.str_]:
        """The ids of the graphs, in order. Members may share an id."""
        return self.columns["id"]

    @property
    def columns(self) -> JoinedColumns:
        """The columns by name, one row per graph: labels in one unit, sizes, and ``dataset`` with the member's name."""
        return JoinedColumns(
            [Member(name, member.columns, member.manifest.columns, len(member)) for name, member in self._all.items()],
            self._chosen,
        )

    @property
    def is_remote(self) -> bool:
        """Whether a member is on a server."""
        return any(member.is_remote for member in self._all.values())

    if not TYPE_CHECKING:  # a type checker knows the attributes

        def __getattr__(self, name: str) -> Any:
            """Say what to do about an attribute that only one dataset has."""
            hint = ""
            if not name.startswith("_") and hasattr(LazyGraphDataset, name):
                hint = (
                    "; a mix is no single dataset: take a member, mix.members[...], or join them with lazygraph.concat"
                )
            msg = f"a mix has no attribute {name!r}{hint}"
            raise AttributeError(msg)

    def unit(self, label: str) -> str | None:
        """Return the unit of a label in ``y`` and in ``columns``: the unit of the first member that has the label."""
        return self.columns.label(label).unit

    # ---- graphs ----

    def __len__(self) -> int:
        return len(self.indices())

    @overload
    def __getitem__(self, idx: int | str | np.integer[Any]) -> Data: ...
    @overload
    def __getitem__(self, idx: Several) -> Mix: ...
    def __getitem__(self, idx: Any) -> Any:
        """Return one graph by position (int) or id (str), or a lazy part by slice, list, mask, array or tensor."""
        if isinstance(idx, str):
            position = int(self._positions_of_ids([idx])[0])
        elif isinstance(idx, (int, np.integer)) or (isinstance(idx, torch.Tensor) and idx.dim() == 0):
            position = int(rows_at(self.indices(), non_negative(np.array([operator.index(idx)]), len(self)))[0])
        else:
            return self.index_select(idx)
        row = int(self._rows(np.array([position]))[0])
        return self.transformed(row, self.reader.data(row, self._own_seeds(1)))

    def __iter__(self) -> Iterator[Data]:
        return (self[position] for position in range(len(self)))

    def transformed(self, row: int, data: Data) -> Any:
        """Apply the transform of its member to the graph in a row; its errors name the graph."""
        number, own = self.reader.member_row(row)
        made = self._all[self.names[number]].transformed(own, data)
        if isinstance(made, BaseData):
            made[DATASET] = torch.tensor([number])  # also where the transform made another object
        return made

    def record_bytes(self) -> NDArray[np.int64]:
        """Return an upper bound for the bytes of each record, (n,) int64, without reading a graph."""
        found = np.concatenate([member.record_bytes() for member in self._all.values()])
        return found if self._chosen is None else found[self._chosen]

    # ---- parts ----

    def indices(self) -> Rows:
        """Return the positions of this part in the whole mix: a range or an int64 array."""
        return range(int(self._ends[-1])) if self._chosen is None else self._chosen

    def index_select(self, idx: Several) -> Mix:
        """Return a lazy part over the same datasets, by slice, positions, ids, or boolean mask."""
        out = copy.copy(self)
        out._chosen = np.asarray(select(self.indices(), idx, self._positions_of_ids), np.int64)  # noqa: SLF001 - of its own class
        return out

    def where(self, condition: str) -> Mix:
        """Select graphs by a condition on columns, such as ``"dataset == 'alex' and n_atoms < 50"``.

        Raises:
            InputError: the condition cannot be used, as in :meth:`LazyGraphDataset.where`; or it compares a label whose
                units cannot be converted.
        """
        return self.index_select(evaluate(condition, self.columns.operand))

    def unaugmented(self) -> Mix:
        """Return the same (part of the) mix without augmentation, for validation and tests."""
        out = copy.copy(self)
        out._all = {name: member.unaugmented() for name, member in self._all.items()}  # noqa: SLF001 - of its own class
        out.reader = out._make_reader(self._joined)  # noqa: SLF001 - of its own class
        return out

    def split(self, name: str, *, of: str = "split") -> Mix:
        """Select the graphs of a named split, which every member must have.

        Args:
            name: name of the split, such as ``"train"``.
            of: the column of splits.

        Raises:
            InputError: the split does not exist in a member.
        """
        for member in self._all.values():
            member.split(name, of=of)  # which says what is missing
        return self.index_select(self.columns.raw(of) == name.encode())

    # ---- what a loader asks ----

    def order(
        self, *, shuffle: bool, window: int | None = None, block: int | None = None, weights: NDArray[Any] | None = None
    ) -> Order:
        """Return the order of the epochs of a loader with these options.

        Args:
            shuffle: visit graphs in a new order in every epoch.
            window: shuffle within windows of this number of graphs; of a member, if members are mixed by rates.
            block: number of consecutive graphs that stay in one window.
            weights: (n,) a column. If members are mixed by rates, it decides which graphs of a member are drawn.

        Raises:
            InputError: two options exclude each other.
        """
        if self._rates.visits_each_once:
            given = None if weights is None else weights_of(weights)
            return order_of(len(self), shuffle=shuffle, window=window, block=block, weights=given)
        places = [self._places_of(number) for number in range(len(self.names))]
        orders = []
        for (name, count), own in zip(self.visits().items(), places, strict=True):
            if name in self._rates.replay:
                orders.append(MemberOrder(Shuffled(len(own)), count, independent=True))
                continue
            given = None if weights is None else weights_of(weights[np.asarray(own)])
            order = order_of(len(own), shuffle=shuffle, window=window, block=block, weights=given)
            orders.append(MemberOrder(order, count))
        return Mixed(orders, places, shuffle=shuffle or weights is not None)

    def visits(self) -> dict[str, int]:
        """Return how many graphs of each member an epoch visits.

        Raises:
            InputError: a member is never visited.
        """
        sizes = self._sizes()
        return sizes if self._rates.visits_each_once else self._rates.visits(sizes)

    def identity(self) -> dict[str, str]:
        """Return what a loader's state holds beside the identity of the members."""
        rows = {} if self._chosen is None else {"rows": digest(self._chosen)}
        labels = ", ".join(f"{name} ({self.unit(name) or 'no unit'})" for name in self.target)
        return {"members": ", ".join(map(repr, self.names)), "target": labels, **rows}

    def shards_to_read(self) -> tuple[list[tuple[str, int]], int]:
        """Return the shards that are worth reading as a whole, each with its member, and their size in bytes."""
        found = {name: member.shards_to_read() for name, member in self.members.items()}
        shards = [(name, shard) for name, (some, _) in found.items() for shard in some]
        return shards, sum(size for _, size in found.values())

    def read_ahead(self, batches: Iterable[NDArray[np.int64]] = ()) -> ReadAheadOfMembers:
        """Read the shards of all members into the page cache, in threads. Shards on a server are fetched.

        Args:
            batches: positions, batch by batch, in the order in which they will be read. Each member iterates over them.
        """
        visits = self.visits()
        total = max(sum(visits.values()), 1)
        return ReadAheadOfMembers(
            [
                (member.read_ahead(self._of_member(number, batches)), visits[name] / total)
                for number, (name, member) in enumerate(self.members.items())
            ]
        )

    def _of_member(self, number: int, batches: Iterable[NDArray[np.int64]]) -> Iterator[NDArray[np.int64]]:
        """Yield the positions of one member, in that member, for each batch."""
        places = self._places_of(number)
        if isinstance(places, range):
            for positions in batches:
                yield positions[(positions >= places.start) & (positions < places.stop)] - places.start
            return
        rank = np.full(len(self), -1)
        rank[places] = np.arange(len(places))
        for positions in batches:
            found = rank[positions]
            yield found[found >= 0]

    def read_whole_shards(self) -> None:
        """Let shards be fetched from a server as a whole if many of their graphs are in this part."""
        for member in self.members.values():
            member.read_whole_shards()

    def shard_rows(self) -> int:
        """Return the number of graphs of the largest shard of all members."""
        return max(member.shard_rows() for member in self._all.values())

    # ---- inside ----

    def _starts(self) -> list[int]:
        return [0, *self._ends[:-1].tolist()]

    def _sizes(self) -> dict[str, int]:
        return {name: len(self._places_of(number)) for number, name in enumerate(self.names)}

    def _places_of(self, number: int) -> Rows:
        """Return the positions in this part of the graphs of one member."""
        if self._chosen is None:
            return range(self._starts()[number], int(self._ends[number]))
        return np.flatnonzero(np.searchsorted(self._ends, self._chosen, side="right") == number)

    def _rows_at(self, positions: NDArray[np.int64]) -> NDArray[np.int64]:
        return self._rows(rows_at(self.indices(), positions))

    def _rows(self, positions: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return the rows that the reader knows of positions in the whole mix."""
        numbers = np.searchsorted(self._ends, positions, side="right")
        out = np.empty(len(positions), np.int64)
        stores = [0, *self._store_ends[:-1].tolist()]
        for number in np.unique(numbers).tolist():
            there = numbers == number
            rows = self._all[self.names[number]].indices()
            out[there] = rows_at(rows, positions[there] - self._starts()[number]) + stores[number]
        return out

    def _own_seeds(self, n: int) -> NDArray[np.uint64] | None:
        """Draw seeds of the augmentation from torch's generator; None if no member is augmented."""
        augmented = next((member for member in self._all.values() if member.augmenter is not None), None)
        return None if augmented is None else augmented._own_seeds(n)  # noqa: SLF001  # of a member

    def _positions_of_ids(self, ids: Sequence[str]) -> NDArray[np.int64]:
        """Return the positions of ids in the whole mix.

        Raises:
            UnknownId: no graph of this part has one of the ids.
            InputError: graphs of several members have it.
        """
        out = np.full(len(ids), -1)
        for name, member, start in zip(self.names, self._all.values(), self._starts(), strict=True):
            for place, position in _held(member, ids):
                if out[place] >= 0:
                    other = self.names[int(np.searchsorted(self._ends, out[place], side="right"))]
                    msg = (
                        f"the id {ids[place]!r} is in {other!r} and in {name!r}; give its position, or choose the "
                        f"member, as in mix.members[{name!r}][{ids[place]!r}]"
                    )
                    raise InputError(msg)
                out[place] = start + position
        unknown = out < 0 if self._chosen is None else ~np.isin(out, self._chosen)
        if unknown.any():
            place = int(unknown.argmax())
            where = self.path if out[place] < 0 or self._chosen is None else f"this part of {self.path}"
            msg = f"no graph in {where} has the id {ids[place]!r}"
            raise UnknownId(msg)
        return out

    def _check_agreement(self) -> None:
        """Refuse members whose graphs cannot be in one batch, or whose sizes are unknown."""
        for name, member in self._all.items():
            if member.augmenter is not None and member.augmenter.times != 1:
                msg = f"{name!r} is augmented by a supercell, whose size a mix does not know; open it without this step"
                raise InputError(msg)
        (first, wanted), *others = self._all.items()
        for name, member in others:
            mine, theirs = wanted.spec, member.spec
            if (mine is None) != (theirs is None):
                made, given = (name, first) if mine is None else (first, name)
                msg = (
                    f"{made!r} holds graphs of a recipe, and {given!r} holds ready-made graphs; the members of a mix "
                    "need graphs of one kind"
                )
                raise RecipeMismatch(msg)
            if mine is not None and theirs is not None and not gives_the_stored_graphs(mine, theirs):
                msg = (
                    f"the members of a mix need one recipe: {name!r} differs from {first!r}: "
                    f"{'; '.join(theirs.diff(mine))}. Open {name!r} with LazyGraphDataset(..., graph={mine!r}), which "
                    "builds its graphs when they are read"
                )
                raise RecipeMismatch(msg)
            if mine is not None and member.view != wanted.view:
                msg = f"{name!r} has the view {member.view}, and {first!r} has {wanted.view}; open both with one view"
                raise InputError(msg)
            if member.builds_on_device:
                msg = f"{name!r} builds its edges on the device of a batch, which a mix cannot; open it without backend"
                raise InputError(msg)
            if member.target_dtype != wanted.target_dtype:
                msg = (
                    f"{name!r} has target_dtype={member.target_dtype!r}, and {first!r} has {wanted.target_dtype!r}; "
                    "open both with one type"
                )
                raise InputError(msg)

    def _labels(self, target: Sequence[str] | None) -> list[JoinedLabel]:
        """Return the labels that become ``y``: the given ones, or those of all members."""
        names = dict.fromkeys(name for member in self._all.values() for name in _targets(member))
        if target is not None:
            names = dict.fromkeys(target)
        known = dict.fromkeys(name for member in self._all.values() for name in member.manifest.labels())
        if unknown := [name for name in names if name not in known]:
            msg = f"{self.path}: {unknown_name('label', unknown[0], known)}"
            raise LabelError(msg)
        for member_name, member in self._all.items():
            augmented = member.augmenter is not None
            if augmented and (new := [n for n in names if n in member.manifest.labels() and n not in _targets(member)]):
                msg = (
                    f"the target {new[0]!r} is not a target of the augmented member {member_name!r}, which may have to "
                    f"change it; open {member_name!r} with target={new[0]!r} too"
                )
                raise LabelError(msg)
        columns = self.columns
        labels = [columns.label(name) for name in names]
        for member in self._all.values():
            for name in names:
                if (
                    member.target_dtype == "float32"
                    and name in member.manifest.labels()
                    and name not in _targets(member)
                ):
                    member.warn_of_rounding(name)
        return labels

    def _make_reader(self, labels: Sequence[JoinedLabel]) -> MixReader:
        members, spec = self._all, self.spec
        schema = joined_schema(
            {name: member.reader.schema for name, member in members.items()}, of_crystals=spec is not None
        )
        presenter: Presenter = StoredPresenter(schema) if spec is None else ViewPresenter(self.view, spec, schema)
        if DATASET in presenter.layout:
            msg = f"the graphs have an array {DATASET!r}, the field in which a mix names the member; rename the array"
            raise LabelError(msg)
        readers = [member.reader for member in members.values()]
        rows = [member.len() for member in members.values()]
        target_dtype = next(iter(members.values())).target_dtype
        return MixReader(readers, rows, presenter, schema=schema, labels=labels, target_dtype=target_dtype)

    def __repr__(self) -> str:
        total, sizes = int(self._ends[-1]), self._sizes()
        part = f" of {total}" if len(self) != total else ""
        lines = [f"Mix({len(self)}{part} graphs, {self._rates})"]
        try:
            visits = {name: f", {count:,} visits an epoch" for name, count in self.visits().items()}
        except InputError as error:  # a part without graphs of a member, which a loader refuses
            visits = {}
            lines.append(f"  not for a loader: {error}")
        for number, (name, member) in enumerate(self._all.items()):
            lines.append(f"  {number} {name}: {sizes[name]:,} graphs of {member.path}{visits.get(name, '')}")
        lines.append(f"  target: {', '.join(self.target) or 'none'}")
        return "\n".join(map(printable, lines))


LoadableDataset: TypeAlias = LazyGraphDataset | Mix
"""What a loader reads."""


def mix(
    members: Mapping[str, LazyGraphDataset | torch.utils.data.Subset[Any]],
    *,
    rates: Mapping[str, float] | None = None,
    policy: str | None = None,
    temperature: float | None = None,
    replay: Mapping[str, int] | None = None,
    target: str | Sequence[str] | None = None,
) -> Mix:
    """Mix several datasets, for one loader. No graph is read or copied.

    The members need graphs of one recipe, one view and one ``target_dtype``. A member of another recipe is opened with
    ``graph=``, which builds its graphs when they are read. Labels are matched by name. Their values are converted to
    the unit of the first member that has the label, and are NaN in members without it. Labels of atoms are treated in
    the same way.

    Args:
        members: name -> dataset, or part of a dataset.
        rates: name -> how often a member is visited, relative to the others, such as ``{"mptrj": 3, "alex": 1}``.
            Default: an epoch visits every graph once.
        policy: when an epoch ends. ``"exhaust_first"`` (default with ``rates``): when all graphs of the first member
            have been visited. ``"exhaust_all"``: when all graphs of all members have been visited; smaller members are
            repeated. Without ``rates``, both visit the members equally often. ``"temperature"``: an epoch has as many
            visits as there are graphs, and members are visited in proportion to ``size ** (1 / temperature)``.
        temperature: for ``policy="temperature"``: 1 visits every graph once, infinity all members equally often.
            Default 5.
        replay: name -> number of graphs of this member that every epoch visits beside the others. Every epoch draws
            other graphs, by the seed of the loader.
        target: the label or labels that become ``y``. Default: the targets of all members.

    Raises:
        RecipeMismatch: the members have different recipes, or ready-made graphs with different fields.
        LabelError: labels of one name cannot be joined, such as eV and eV/atom; or a target does not exist.
        InputError: options that exclude each other, or do not name the members.

    Example:
        >>> import tempfile, lazygraph as lg
        >>> folder = tempfile.TemporaryDirectory()
        >>> for n in (30, 10):
        ...     _ = lg.write(f"prototypes:{n}?seed={n}", f"{folder.name}/{n}.lg", graph="cgcnn", workers=1)
        >>> parts = {"large": lg.LazyGraphDataset(f"{folder.name}/30.lg", target="density"),
        ...          "small": lg.LazyGraphDataset(f"{folder.name}/10.lg", target="density")}
        >>> both = mix(parts, rates={"large": 2, "small": 1})
        >>> batch = next(iter(lg.loader(both, batch_size=30, shuffle=True)))
        >>> batch.num_graphs, batch.dataset.bincount().tolist()
        (30, [20, 10])
        >>> folder.cleanup()
    """
    if not isinstance(members, Mapping) or not members:
        problem = "a mix needs members" if isinstance(members, Mapping) else f"found a {type(members).__name__}"
        msg = f"{problem}; give a mapping from names to datasets, such as {{'mptrj': a, 'alex': b}}"
        raise InputError(msg)
    datasets: dict[str, LazyGraphDataset] = {}
    for name, member in members.items():
        if not isinstance(name, str) or not name:
            msg = f"the name of a member is {name!r}; give every member a text as its name"
            raise InputError(msg)
        dataset = as_dataset(member)
        if isinstance(dataset, Mix):
            msg = f"the member {name!r} is a mix, and members must be datasets; mix all the datasets at once"
            raise InputError(msg)
        datasets[name] = dataset
    targets = [target] if isinstance(target, str) else target
    return Mix(datasets, targets, Rates(rates, policy, temperature, dict(replay or {})))


def as_dataset(dataset: Any) -> LoadableDataset:
    """Return what a loader reads for a dataset of torch.

    A ``Subset`` becomes a part of its dataset, and a ``ConcatDataset`` a mix that visits every graph once.

    Raises:
        InputError: the object is something else; the message says what to do.
    """
    if isinstance(dataset, (LazyGraphDataset, Mix)):
        return dataset
    if type(dataset) is torch.utils.data.Subset:
        indices = dataset.indices
        inner = as_dataset(dataset.dataset)
        return inner.index_select(indices if isinstance(indices, (list, np.ndarray, torch.Tensor)) else list(indices))
    if type(dataset) is torch.utils.data.ConcatDataset:
        return mix({str(number): member for number, member in enumerate(_concatenated(dataset))})
    msg = (
        f"found a {type(dataset).__name__}; required: a LazyGraphDataset, a mix, or torch's Subset or ConcatDataset of "
        "them; give others to torch's DataLoader with collate_fn=lg.collate"
    )
    raise InputError(msg)


def _concatenated(dataset: torch.utils.data.ConcatDataset[Any]) -> Iterator[LazyGraphDataset]:
    """Yield the datasets that are concatenated, also those of a ConcatDataset within."""
    for part in dataset.datasets:
        found = as_dataset(part)
        if isinstance(found, LazyGraphDataset):
            yield found
        elif type(part) is torch.utils.data.ConcatDataset:
            yield from found.members.values()
        else:
            raise InputError("a ConcatDataset must not contain a mix; give all the datasets to lg.mix instead")


def _held(member: LazyGraphDataset, ids: Sequence[str]) -> Iterator[tuple[int, int]]:
    """Yield the place of each id that a dataset has, and the position of its graph in the dataset."""
    rows = np.concatenate([np.empty(0, np.int64), *(found for _, found in find_ids(member.store, ids))])
    held = np.flatnonzero(rows >= 0)
    indices = member.indices()
    if isinstance(indices, range):
        for place in held.tolist():
            if rows[place] in indices:
                yield place, indices.index(int(rows[place]))
        return
    order = np.argsort(indices, kind="stable")
    at = np.searchsorted(indices, rows[held], sorter=order)
    for place, found in zip(held.tolist(), at.tolist(), strict=True):
        if found < len(order) and indices[order[found]] == rows[place]:
            yield place, int(order[found])


def _targets(member: LazyGraphDataset) -> list[str]:
    return [member.target] if isinstance(member.target, str) else list(member.target or ())
