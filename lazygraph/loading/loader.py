"""The class ``Loader``: shuffled batches of a dataset, prefetched by a thread or by worker processes."""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping
from contextlib import closing
from dataclasses import replace
from functools import cache
from typing import Any, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch_geometric.data import Batch, Data

from lazygraph.cached import cached_property
from lazygraph.errors import InputError
from lazygraph.loading.batch_table import Batches, totals
from lazygraph.loading.epochs import EpochPosition, Epochs
from lazygraph.loading.facts import MeasuredFacts
from lazygraph.loading.frameworks import EpochBatches, EpochSampler, distributed_ranks
from lazygraph.loading.graph_list import GraphList, collate
from lazygraph.loading.mixing import LoadableDataset, Mix, as_dataset
from lazygraph.loading.orders import Order, Sequential, check_whole, digest, order_of, weights_of
from lazygraph.loading.packing import OversizedGraphs
from lazygraph.loading.padding import Padding, Shape, with_static_limits
from lazygraph.loading.prefetch import Request, Requests, UnderWay, WorkerPool, fetch, prefetch_in_threads
from lazygraph.loading.read_ahead import ReadAhead, ReadAheadOfMembers
from lazygraph.loading.reader import Fetched
from lazygraph.loading.sampling import Sampling
from lazygraph.loading.settings import Settings, WantedSettings, choose
from lazygraph.loading.transforms import (
    Draw,
    PlacedPositions,
    Untransformed,
    taken_counts,
    transformed_batch,
    with_counts,
)
from lazygraph.reading.augment import AugmentationCounts
from lazygraph.registry import unknown_name

__all__ = ["Loader", "loader"]

T = TypeVar("T")
logger = logging.getLogger(__name__)

STATE = 1  # the version of a loader's state
SAMPLE = 64  # graphs, read to see what a batch costs
LARGEST_EVALUATION = 128
DEFAULT_BATCH = 64
REMOTE_WINDOW = 2**15  # graphs that are shuffled together where a dataset is on a server
REMOTE_SHARDS = 8  # shards, at least, whose graphs are shuffled together there
SIZES = {"atoms": "n_atoms", "edges": "n_edges", "triplets": "n_triplets"}  # what a batch may be limited by: its column


class Loader:
    """An iterable over the batches of a dataset, created by :func:`loader`.

    Every ``iter(loader)`` begins the next epoch, even if the previous iteration has not ended, unless ``set_epoch`` or
    a loaded state chooses another one. An iterator takes its epoch when its first batch is requested. The batches
    depend only on dataset, options, seed and epoch. Random numbers of a transform depend only on seed, epoch and the
    position of the graph in the epoch. Workers and threads change neither the batches nor the random numbers. With
    ``balance``, the number of ranks changes which graphs form a batch.

    With budgets, the number of batches differs between epochs. Lightning keeps the number of the first epoch, except
    with ``Trainer(reload_dataloaders_every_n_epochs=1)``.

    The loader owns a ``torch.utils.data.DataLoader`` but does not inherit from it. Lightning rebuilds every
    ``DataLoader`` for prediction and under DDP, and cannot rebuild the batches of this one. The loader owns its worker
    processes until it is closed or deleted. A pickled loader has no workers and no active iterations. Do not use it
    from several threads at once. A forked child cannot continue an iteration that a thread or workers prefetch, and
    gets an error. It may begin its own iteration.

    Attributes:
        dataset: the dataset.
        batch_size: greatest number of graphs in a batch; None if only budgets limit it.
        batch_transform: the function that changes every batch; None without one.
        device: the device on which batches are expanded; None for the memory of this process.
        seconds_waited: total time that the user of the loader has waited for batches, in s.
        augmentation: how many crystals were delivered, drawn again and taken unchanged, if the dataset has ``augment``.
    """

    seconds_waited = 0.0
    augmentation = AugmentationCounts()
    prefetch_factor = None  # for Accelerate, whose loader over ``batch_sampler`` reads in this process

    def __init__(
        self,
        dataset: LoadableDataset,
        *,
        batch_size: int | None,
        sampling: Sampling,
        ranks: tuple[int, int] | None,
        wanted: WantedSettings,
        device: torch.device | None,
        note: str | None = None,
        batch_transform: Callable[[Batch], Any] | None = None,
        pad: str | None = None,
    ) -> None:
        self._note, self.batch_transform, self._pad = note, batch_transform, pad
        self._padding: Padding | None = None
        self.dataset, self.batch_size, self.device = dataset, batch_size, device
        self._last_sampling, self._ranks, self._wanted = sampling, ranks, wanted
        self._budgets = {name: limit for name, limit in sampling.limits.items() if name != "graphs"}
        if pad is not None:
            sampling, self._padding = _padded(dataset, sampling, pad)
            self._last_sampling = sampling
        self._pins = False
        self._ahead: ReadAhead | ReadAheadOfMembers | None = None
        self._epochs = Epochs()
        self._plan: tuple[int, Sampling, Batches] | None = None
        self._processes: WorkerPool | None = None
        self._batches(0)  # what cannot be is said now

    # ---- iterating ----

    def __iter__(self) -> Iterator[Batch]:
        """Iterate over the batches of the next epoch, or of the epoch that was set or loaded."""
        self._epochs.announce()
        return self._iterate()

    def _iterate(self) -> Iterator[Batch]:
        # A generator begins when its first batch is asked for: Lightning makes iterators, and only then sets the epoch.
        settings, now = self.settings, self._epochs.begin()
        self._pins = settings.pin_memory
        try:
            if not settings.num_workers:
                self._begin_read_ahead(settings, now)
            requests = self._requests(now)
            total = now.batches + len(requests)
            # A transform runs where the training runs, or in another process: a thread would race for random numbers.
            finish = self._finished if settings.num_workers else self._transformed
            under_way = UnderWay(requests)

            def complete(fetched: Any) -> tuple[Batch, int]:
                draw, graphs = under_way.next()
                return self._changed(finish(fetched), draw), graphs

            with closing(self._reading(under_way, settings)) as read:
                # By map, which keeps nothing: the memory of a batch can be used for the next one.
                for batch, graphs in self._clocked(map(complete, read)):
                    now.batches += 1
                    if (counts := taken_counts(batch)) is not None:
                        self.augmentation += counts
                    if self._ahead is not None:
                        self._ahead.visited += graphs
                    self._epochs.delivered(now, is_last=now.batches == total)
                    # With workers only now: they may be forked, which threads disturb.
                    self._begin_read_ahead(settings, now)
                    yield batch.pin_memory() if self._pins and self.device is None else batch
        finally:
            self._epochs.end(now)
            # The next epoch begins again, also for a server: its cache may have removed files.
            if self._ahead is not None and (not self._ahead.stop() or self.dataset.is_remote):
                self._ahead = None

    def _begin_read_ahead(self, settings: Settings, now: EpochPosition) -> None:
        """Begin to read the shards ahead, unless that was done before."""
        if settings.read_ahead and self._ahead is None:
            self._ahead = self.dataset.read_ahead(self._batches(now.epoch).skip(now.batches))

    def _reading(self, requests: Iterable[Request], settings: Settings) -> Generator[Any, None, None]:
        """Return the batches of an epoch, as they were read."""
        if settings.num_workers:
            self._processes = self._processes or WorkerPool(self.dataset, settings)
            return self._processes.read(requests)
        if settings.threads:
            return prefetch_in_threads(self._prefetched, requests, settings.ahead, settings.threads, self.device)
        return (self._prefetched(request) for request in requests)

    def __len__(self) -> int:
        """Return the number of batches in the active epoch, or in the next one if no iteration is active."""
        return len(self._batches(self._epochs.current().epoch))

    def next_batches(self) -> Batches:
        """Return the batches of the next epoch, or its remaining batches, as positions."""
        place = self._epochs.next()
        return self._batches(place.epoch).skip(place.batches)

    def begin_positions(self) -> Iterator[PlacedPositions]:
        """Begin the next epoch as ``iter`` does; yield positions by batch for programs that read the graphs."""
        for request in self._requests(self._epochs.begin(read_here=False)):
            yield PlacedPositions(request.positions.tolist(), request.draw)

    def _requests(self, place: EpochPosition) -> Requests:
        """Return the requests of an epoch from a position on."""
        batches = self._batches(place.epoch).skip(place.batches)
        return Requests(batches, int(self._last_sampling.seed), place.epoch)

    def _clocked(self, made: Iterator[T]) -> Iterator[T]:
        """Yield the same batches and add up the time that the caller waits."""
        while True:
            begin = time.perf_counter()
            try:
                batch = next(made)
            except StopIteration:
                return
            finally:
                self.seconds_waited += time.perf_counter() - begin
            yield batch

    def _prefetched(self, request: Request) -> Untransformed | Batch:
        """Prepare a batch as far as a prefetch thread may: completely, but before a transform."""
        fetched = fetch(self.dataset, request)
        return fetched if isinstance(fetched, Untransformed) else self._finished(fetched)

    def _transformed(self, prefetched: Untransformed | Batch) -> Batch:
        return self._finished(prefetched.batch()) if isinstance(prefetched, Untransformed) else prefetched

    def _changed(self, batch: Batch, draw: Draw) -> Batch:
        """Apply the transform of batches."""
        if self.batch_transform is None:
            return batch
        return transformed_batch(self.batch_transform, batch, draw, self.device)

    def _finished(self, fetched: Fetched | Batch) -> Batch:
        """Complete a batch in the calling thread, on the right device."""
        if isinstance(fetched, Fetched):
            masks: Mapping[str, NDArray[np.bool_]] = {}
            if self._padding is not None:
                fetched, masks = self._padding.apply(fetched)
            batch = self.dataset.reader.expand(fetched, self.device, pin=self._pins, masks=masks)
            return with_counts(batch, fetched.augmented)
        return fetched if self.device is None else fetched.to(self.device)

    def _unpadded(self, request: Request) -> Batch:
        """Read any graphs as a batch, also those that fit into no shape together."""
        fetched = fetch(self.dataset, request)
        if isinstance(fetched, Fetched):
            return self.dataset.reader.expand(fetched, self.device, pin=self._pins)
        return self._transformed(fetched)

    @property
    def shapes(self) -> tuple[Shape, ...]:
        """The shapes of the batches with ``pad``, the largest last; none without."""
        return () if self._padding is None else self._padding.shapes

    def known_sizes(self) -> dict[str, NDArray[np.int64]]:
        """Return all sizes of the graphs that are known without reading them: name -> (n,)."""
        columns = self.dataset.columns
        return {name: _size(self.dataset, name).astype(np.int64) for name in SIZES if SIZES[name] in columns}

    def read_batch(self, epoch: int, number: int) -> Batch:
        """Read one batch of an epoch in this process; the position of the loader stays.

        Args:
            epoch: number of the epoch.
            number: number of the batch in the epoch, on this rank.
        """
        check_whole("epoch", epoch, 0)
        batches = self._sampling().batches(epoch).take(slice(number, number + 1))
        request = next(iter(Requests(batches, int(self._last_sampling.seed), epoch)))
        batch = self._changed(self._transformed(self._prefetched(request)), request.draw)
        taken_counts(batch)
        return batch

    def heaviest_batches(self, epochs: int) -> list[tuple[int, int]]:
        """Return the epoch and the number of the batches that have most of anything, in some epochs; reads no graph."""
        sizes = self.known_sizes()
        most: dict[str, tuple[int, int, int]] = {}
        for epoch in range(epochs):
            batches = self._sampling().batches(epoch)
            if not len(batches):
                continue
            for name, total in totals(batches, sizes).items():
                number = int(total.argmax())
                most[name] = max(most.get(name, (-1, 0, 0)), (int(total[number]), epoch, number))
        return sorted({(epoch, number) for _, epoch, number in most.values()})

    # ---- which batches ----

    @property
    def sampler(self) -> EpochSampler:
        """A sampler with the order of the epochs, on which Lightning sets the epoch."""
        return EpochSampler(self)

    @property
    def batch_sampler(self) -> EpochBatches:
        """The batches as positions, for a ``torch.utils.data.DataLoader`` with this ``collate_fn``."""
        return EpochBatches(self, drop_last=self._last_sampling.drop_last)

    @property
    def collate_fn(self) -> Callable[[Iterable[Data]], Batch]:
        """The function that collates graphs, on the device of this loader, with its ``batch_transform``."""
        changed = self.device, self.batch_transform, self._padding
        return self._collated if any(part is not None for part in changed) else collate

    def _collated(self, graphs: Iterable[Data]) -> Batch:
        if self._padding is not None and isinstance(graphs, GraphList):
            batch = self._finished(graphs.fetched)
            taken_counts(batch)
        elif self._padding is not None:
            msg = (
                f"found a {type(graphs).__name__} of graphs to pad; give the graphs as torch's DataLoader reads them "
                "from the dataset"
            )
            raise InputError(msg)
        else:
            batch = collate(graphs)
            batch = batch if self.device is None else batch.to(self.device)
        if self.batch_transform is None:
            return batch
        return transformed_batch(self.batch_transform, batch, getattr(graphs, "draw", None), self.device)

    def set_epoch(self, epoch: int) -> None:
        """Set the next epoch. It starts at its first batch, or at a loaded position of the same epoch."""
        check_whole("epoch", epoch, 0)
        self._epochs.set(int(epoch))

    def state_dict(self) -> dict[str, Any]:
        """Return the position of the loader for ``load_state_dict``; the number of workers may differ there.

        With active iterations, this is the position of the iteration that delivered a batch last, unless this was its
        last batch. Otherwise it is the start of the next epoch. An iteration is not active after ``break``, or after
        its iterator was deleted. Its remaining batches are never read, with a state or without.
        """
        return {"version": STATE, **self._epochs.state(), "sampling": self._sampling().fingerprint()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue at a state: the next iteration gives the batches that had not been delivered.

        Raises:
            InputError: the state belongs to another dataset or other options; the message says what differs.
        """
        if state.get("version") != STATE:
            msg = f"found a loader's state of version {state.get('version')!r}; required: {STATE}"
            raise InputError(msg)
        self._sampling().check(state["sampling"])
        self._epochs.load(state)

    def _batches(self, epoch: int) -> Batches:
        sampling = self._sampling()
        if self._plan is None or self._plan[0] != epoch or self._plan[1] is not sampling:
            self._plan = epoch, sampling, sampling.batches(epoch)
        return self._plan[2]

    def _sampling(self) -> Sampling:
        """The batches of this process; rank and world size come from torch.distributed if it is initialised."""
        rank, world_size = self._ranks or distributed_ranks()
        last = self._last_sampling
        if (last.rank, last.world_size) != (rank, world_size):
            self._last_sampling = replace(last, rank=rank, world_size=world_size)
        return self._last_sampling

    # ---- how they are read ----

    @cached_property
    def settings(self) -> Settings:
        """How the batches are read, and why. The first access also writes this to the log."""
        if self.dataset.is_remote:
            self.dataset.read_whole_shards()
        measure = cache(self._measure)
        facts = cache(lambda: MeasuredFacts(self.dataset, measure))
        settings = choose(facts, self._wanted, batch_bytes=self._batch_bytes(measure))
        notes = [note for note in (self.dataset.edges_reason, self._note) if note is not None]
        settings = replace(settings, reasons=(*settings.reasons, *notes))
        logger.info("%s: %s", self.dataset, settings)
        return settings

    def _graphs_of_a_batch(self) -> float:
        """The average number of graphs in a batch."""
        return self._last_sampling.order.n / max(len(self) * self._sampling().world_size, 1)

    def _batch_bytes(self, measure: Callable[[], tuple[float, int]]) -> int:
        """Estimate the average size of a batch's records in bytes. Reads graphs only if ``graph=`` builds them."""
        if self.dataset.rebuilds:
            return measure()[1]
        return round(self.dataset.record_bytes().mean() * self._graphs_of_a_batch()) if len(self.dataset) else 0

    def _measure(self) -> tuple[float, int]:
        """Measure seconds and bytes of a batch: read some graphs twice."""
        graphs = self._graphs_of_a_batch()
        n = min(round(graphs), SAMPLE)
        if not n:
            return 0.0, 0
        # Of a server the first graphs, which lie together: the others need not be there yet.
        last = n - 1 if self.dataset.is_remote else len(self.dataset) - 1
        positions = np.linspace(0, last, n).astype(np.int64)
        request = Request(positions, Draw(int(self._last_sampling.seed), 0, 0))
        self._unpadded(request)  # which opens files
        begin = time.perf_counter()
        if self.dataset.builds_on_device:
            fetch(self.dataset, request)  # what worker processes would do: edges are built where the batch is used
            seconds, batch = time.perf_counter() - begin, self._unpadded(request)
        else:
            batch = self._unpadded(request)
            seconds = time.perf_counter() - begin
        tensors = (value for value in batch.to_dict().values() if isinstance(value, torch.Tensor))
        return seconds * graphs / n, round(sum(tensor.nbytes for tensor in tensors) * graphs / n)

    def evaluation(
        self,
        dataset: LoadableDataset | torch.utils.data.Subset[Any] | torch.utils.data.ConcatDataset[Any],
        *,
        drop_last: bool = False,
        batch_transform: Callable[[Batch], Any] | None = None,
    ) -> Loader:
        """Create a loader for another dataset, in order, with the same settings.

        The batches have ``min(4 x batch_size, 128)`` graphs, or ``batch_size`` if that is more. With ``drop_last``,
        they have ``batch_size`` graphs, and a last batch that is not full is left out. The transform of this loader's
        batches may be noise for the training, so it is not applied: give one here if evaluation needs it.
        """
        size = self.batch_size
        if size is not None and not drop_last:
            size = max(size, min(4 * size, LARGEST_EVALUATION))
        dataset = as_dataset(dataset)
        budgets = self._budgets
        return Loader(
            dataset,
            batch_size=size,
            sampling=_sampling(
                dataset, _limits(size, budgets), Sequential(len(dataset)), drop_last=drop_last, pad=self._pad
            ),
            ranks=self._ranks,
            wanted=self._wanted,
            device=self.device,
            batch_transform=batch_transform,
            pad=self._pad,
        )

    def close(self) -> None:
        """End the worker processes, also of an active iteration. The next iteration starts new ones."""
        self._processes = None

    def __getstate__(self) -> dict[str, Any]:
        state = {
            **self.__dict__,
            "_processes": None,
            "_plan": None,
            "_ahead": None,
            "_epochs": self._epochs.copy(),
        }
        state.pop("settings", None)  # of this machine
        return state

    def __repr__(self) -> str:
        limits = ", ".join(f"max_{name}={limit}" for name, limit in self._last_sampling.limits.items())
        return f"Loader({self.dataset}, {limits})"


def loader(
    dataset: LoadableDataset | torch.utils.data.Subset[Any] | torch.utils.data.ConcatDataset[Any],
    batch_size: int | None = None,
    *,
    shuffle: bool = False,
    seed: int = 0,
    max_atoms: int | None = None,
    max_edges: int | None = None,
    max_triplets: int | None = None,
    drop_last: bool = False,
    window: int | None = None,
    bucket: str | None = None,
    balance: str | Callable[[Mapping[str, NDArray[Any]]], Any] | None = None,
    pad: str | None = None,
    weights: str | None = None,
    num_workers: int | None = None,
    threads: int | None = None,
    prefetch_factor: int | None = None,
    persistent_workers: bool | None = None,
    pin_memory: bool | None = None,
    multiprocessing_context: str | None = None,
    read_ahead: bool | None = None,
    device: str | torch.device | None = None,
    batch_transform: Callable[[Batch], Any] | None = None,
    rank: int | None = None,
    world_size: int | None = None,
) -> Loader:
    """Load batches of a dataset as complete PyG ``Batch`` objects, with prefetching.

    Args:
        dataset: the dataset, a part of it, a mix of several (:func:`mix`), or torch's ``Subset`` or ``ConcatDataset``.
        batch_size: greatest number of graphs in a batch; default 64, or no limit if you give a budget.
        shuffle: visit the graphs in a new order in every epoch. The graphs of a dataset on a server are shuffled within
            windows of 8 shards, and at least 32,768 graphs, so that its shards are fetched one after another. A larger
            ``window`` is more random; a window as large as the dataset is a full shuffle.
        seed: seed of all random choices.
        max_atoms: greatest number of atoms in a batch. Budgets can be combined with each other and with ``batch_size``.
        max_edges: greatest number of edges in a batch.
        max_triplets: greatest number of angles in a batch, for a dataset whose recipe has angles.
        drop_last: leave out a last batch that is not full.
        window: shuffle within windows of this number of graphs, which are close together on disk. Useful for cold disks
            and network file systems.
        bucket: ``"atoms"``, ``"edges"`` or ``"triplets"``: put graphs of similar size into one batch.
        balance: ``"atoms"``, ``"edges"`` or ``"triplets"``: the batches of a step, one on each rank, have nearly the
            same number of them, and the same number of graphs or one more. Or a function of the columns, which returns
            the cost of each graph (n,). One rank alone has nothing to balance.
        pad: ``"buckets"``: pad every batch to one of at most four shapes (``loader.shapes``), with the masks
            ``node_mask``, ``edge_mask`` and ``graph_mask`` of what is real. Atoms, edges and graphs of a batch get
            limits where none is given.
        weights: name of a column. Graphs are drawn with replacement, with probabilities proportional to the column. For
            a column of texts, such as a category, every text is drawn equally often.
        num_workers: number of worker processes. By default the loader chooses. 0 is often best, because compiled code
            lets other threads run and a thread can prefetch beside the training.
        threads: number of threads that prefetch if there are no workers, 0 for none. By default the loader chooses.
        prefetch_factor: batches that the thread, or each worker, keeps ready.
        persistent_workers: keep workers alive from epoch to epoch.
        pin_memory: put batches into page-locked memory, for faster copies to a GPU.
        multiprocessing_context: ``"fork"``, ``"spawn"`` or ``"forkserver"``.
        read_ahead: read the shards from beginning to end in a thread when the first epoch begins, so that a shuffled
            pass does not wait for single records. By default the loader does so if they fit into half of the memory.
        device: the device of the batches. Records are copied to it in one piece, in narrow types, and expanded there.
            None for the memory of this process.
        batch_transform: a function that receives every ``Batch``, on its device, and returns a ``Batch``. It runs in
            the process that uses the batches. Its random numbers are seeded by seed, epoch and position, as those of a
            transform of the dataset are.
        rank: index of this process among the processes that share an epoch; default from torch.distributed.
        world_size: number of processes that share an epoch; default from torch.distributed.

    Raises:
        InputError: options that exclude each other, or a size or column that the dataset does not have.
        OversizedGraphs: single graphs exceed a budget; the message names some.

    Example:
        >>> import tempfile, lazygraph as lg
        >>> folder = tempfile.TemporaryDirectory()
        >>> _ = lg.write("prototypes:20?seed=0", folder.name + "/p.lg", graph="comformer", workers=1)
        >>> batches = loader(lg.LazyGraphDataset(folder.name + "/p.lg"), batch_size=8, shuffle=True)
        >>> [batch.num_graphs for batch in batches], len(batches)
        ([8, 8, 4], 3)
        >>> folder.cleanup()
    """
    budgets = {"atoms": max_atoms, "edges": max_edges, "triplets": max_triplets}
    given = {name: limit for name, limit in budgets.items() if limit is not None}
    if batch_size is None and not given:
        batch_size = DEFAULT_BATCH
    if (rank is None) != (world_size is None):
        msg = f"found rank={rank} and world_size={world_size}; required: both, or neither"
        raise InputError(msg)
    if bucket is not None and bucket not in SIZES:
        raise InputError(unknown_name("bucket", bucket, SIZES))
    dataset = as_dataset(dataset)
    limits = _limits(batch_size, given)
    note, block = None, None
    if dataset.is_remote and shuffle and window is None and weights is None:
        # A rule of the dataset alone: ranks on several machines, whose caches differ, must agree on it.
        block = max(dataset.shard_rows(), 1)
        window = max(REMOTE_SHARDS * block, REMOTE_WINDOW)
        note = (
            f"graphs are shuffled within windows of {window:,}, because the dataset is on a server (window= changes it)"
        )
    column = None if weights is None else dataset.columns[weights]
    if isinstance(dataset, Mix):
        order = dataset.order(shuffle=shuffle, window=window, block=block, weights=column)
    else:
        drawn_by = None if column is None else weights_of(column)
        order = order_of(len(dataset), shuffle=shuffle, window=window, block=block, weights=drawn_by)
    return Loader(
        dataset,
        batch_size=batch_size,
        sampling=_sampling(
            dataset,
            limits,
            order,
            bucket=bucket,
            cost=None if balance is None else _costs(dataset, balance),
            seed=seed,
            drop_last=drop_last,
            pad=pad,
        ),
        ranks=None if rank is None or world_size is None else (rank, world_size),
        wanted=WantedSettings(
            num_workers, threads, prefetch_factor, persistent_workers, pin_memory, multiprocessing_context, read_ahead
        ),
        device=None if device is None else torch.device(device),
        note=note,
        batch_transform=batch_transform,
        pad=pad,
    )


def _limits(batch_size: int | None, budgets: Mapping[str, int]) -> dict[str, int]:
    """The greatest contents of a batch by name."""
    return dict(budgets) if batch_size is None else {"graphs": batch_size, **budgets}


def _sampling(
    dataset: LoadableDataset,
    limits: Mapping[str, int],
    order: Order,
    *,
    bucket: str | None = None,
    cost: NDArray[np.float64] | None = None,
    seed: int = 0,
    drop_last: bool = False,
    pad: str | None = None,
) -> Sampling:
    """The batches of a dataset for one process.

    Raises:
        InputError: the dataset has no column of a size that is needed.
        OversizedGraphs: single graphs exceed a limit; the message names some.
    """
    columns = dataset.columns
    if pad is not None:
        _check_pad(dataset, pad)
    shaped = () if pad is None or dataset.spec is None else ("atoms", "edges")[: 1 + dataset.spec.rule.has_edges]
    used = sorted({*limits, *([] if bucket is None else [bucket]), *shaped} & set(SIZES))
    for name in used:
        if SIZES[name] not in columns:
            raise _unknown_size(
                dataset, name, f"max_{name}" if name in limits else "bucket" if name == bucket else "pad"
            )
    sizes = {name: _size(dataset, name) for name in used}
    try:
        return Sampling(
            order=order,
            limits=limits,
            sizes=sizes,
            bucket=bucket,
            cost=cost,
            seed=seed,
            drop_last=drop_last,
            identity=_identity(dataset),
        )
    except OversizedGraphs as error:
        some = ", ".join(repr(str(graph_id)) for graph_id in dataset[error.positions[:5]].ids)
        msg = f"{error}; their ids: {some}{', ...' if len(error.positions) > 5 else ''}"
        raise OversizedGraphs(msg, error.positions) from error


def _size(dataset: LoadableDataset, name: str) -> NDArray[Any]:
    """A size of each graph, (n,)."""
    size = dataset.columns[SIZES[name]]
    # Of augmented crystals there is only the number of atoms, which a supercell multiplies.
    times = 1 if dataset.augmenter is None else dataset.augmenter.times
    return size if times == 1 else times * size.astype(np.int64)


def _check_pad(dataset: LoadableDataset, pad: Any) -> None:
    """Refuse padding where it has no meaning.

    Raises:
        InputError: the option, the dataset or its recipe does not fit.
    """
    spec, problem = dataset.spec, None
    if pad != "buckets":
        msg = f"found pad={pad!r}; required: 'buckets' or None"
        raise InputError(msg)
    if isinstance(dataset, Mix):
        problem = "it is a mix; use one dataset"
    elif spec is None:
        problem = "its graphs came ready-made; use a dataset of crystals"
    elif dataset.builds_on_device:
        problem = "its edges are built on the device of a batch; use a dataset without backend"
    elif dataset.transform is not None:
        problem = "it has a transform, which may change sizes; use a batch_transform instead"
    elif spec.angles is not None:
        problem = f"{spec!r} has angles, whose number is not padded; use a recipe without angles"
    elif spec.rule.most_neighbors is not None:
        problem = (
            f"{spec!r} gives at most {spec.rule.most_neighbors} edges to an atom; use a recipe without such a limit"
        )
    if problem is not None:
        msg = f"{dataset.path} cannot be padded: {problem}"
        raise InputError(msg)


def _padded(dataset: LoadableDataset, sampling: Sampling, pad: str) -> tuple[Sampling, Padding]:
    """Batches that have a limit for everything with a shape, and their padding."""
    _check_pad(dataset, pad)
    spec: Any = dataset.spec
    limited, shapes = with_static_limits(sampling, has_edges=spec.rule.has_edges)
    return limited, Padding(shapes, spec)


def _costs(dataset: LoadableDataset, balance: Any) -> NDArray[np.float64]:
    """The cost of each graph, (n,).

    Raises:
        InputError: the size is unknown, or the function does not return one number for each graph.
    """
    if not callable(balance):
        if balance not in SIZES:
            raise InputError(unknown_name("balance", balance, SIZES) + "; or a function of columns")
        if SIZES[balance] not in dataset.columns:
            raise _unknown_size(dataset, balance, "balance")
        return dataset.columns[SIZES[balance]].astype(np.float64)
    found = np.asarray(balance(dataset.columns))
    if found.shape != (len(dataset),) or found.dtype.kind not in "iufb":
        msg = (
            f"the function balance returned {found.dtype} of shape {found.shape}; required: one number for each of the "
            f"{len(dataset)} graphs"
        )
        raise InputError(msg)
    return found.astype(np.float64)


def _identity(dataset: LoadableDataset) -> dict[str, str]:
    """What says which graphs in which order a loader reads."""
    if isinstance(dataset, Mix):
        members = {name: _identity(member) for name, member in dataset.members.items()}
        return dataset.identity() | {
            f"{key} of {name!r}": value for name, own in members.items() for key, value in own.items()
        }
    spec = dataset.spec
    return {
        "content_id": dataset.content_id,
        "recipe": "ready-made" if spec is None else json.dumps(spec.to_json(), sort_keys=True),
        "rows": digest(dataset.indices()),
    }


def _unknown_size(dataset: LoadableDataset, size: str, option: str) -> InputError:
    """The error for a limit or a bucket of a size that is not known before the graphs are read."""
    spec = dataset.spec
    if dataset.rebuilds:
        if dataset.augmenter is not None:
            why = "its graphs are built when they are read (augment)"
        else:
            why = (
                f"its graphs are built when they are read (graph={spec!r}), and were not counted; count them once with "
                f"lazygraph.count({dataset.path!r}, {spec!r}), or with the command lazygraph count"
            )
    elif spec is not None and size == "edges" and not spec.rule.has_edges:
        why = "the dataset stores no edges"
    else:
        why = f"the dataset has no column {SIZES[size]!r}"
    allowed = ", ".join(repr(name) for name, column in SIZES.items() if column in dataset.columns)
    return InputError(
        f"{option} cannot be used for {dataset.path}: {why}; use a size that it has a column of ({allowed}), or "
        "batch_size"
    )
