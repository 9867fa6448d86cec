"""``Loader``: shuffled batches of a dataset, epoch after epoch, read ahead by a thread or by processes."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping
from contextlib import closing
from typing import Any

import numpy as np
import torch
from torch_geometric.data import Batch, Data

from lazygraph.cached import cached_property
from lazygraph.errors import InputError
from lazygraph.loading.dataset import LazyGraphDataset
from lazygraph.loading.epochs import EpochPosition, Epochs
from lazygraph.loading.facts import MeasuredFacts
from lazygraph.loading.frameworks import EpochBatches, EpochSampler, as_dataset, distributed_ranks
from lazygraph.loading.graph_list import collate
from lazygraph.loading.orders import check_whole, digest, order_of
from lazygraph.loading.packing import Batches, OversizedGraphs
from lazygraph.loading.prefetch import Request, WorkerPool, fetch, prefetch_in_thread
from lazygraph.loading.reader import Fetched
from lazygraph.loading.sampling import Sampling
from lazygraph.loading.settings import Settings, choose
from lazygraph.loading.transforms import Draw, PlacedPositions, Untransformed

__all__ = ["Loader", "loader"]

logger = logging.getLogger(__name__)

STATE = 1  # the version of a loader's state
SAMPLE = 64  # graphs, read to see what a batch costs
LARGEST_EVALUATION = 128
DEFAULT_BATCH = 64
SIZES = {"atoms": "n_atoms", "edges": "n_edges", "triplets": "n_triplets"}  # what a batch may be limited by: its column


class Loader:
    """Batches of a dataset. Made by :func:`loader`.

    An iterable that owns a ``torch.utils.data.DataLoader`` and is none: Lightning rebuilds every ``DataLoader`` that it
    is given for prediction and under DDP, and cannot rebuild this one's batches. Every ``iter(loader)`` begins the next
    epoch, whether the one before was finished or not, unless ``set_epoch`` or a loaded state says which; it takes its
    epoch when its first batch is asked for. Batches depend on dataset, options, seed and epoch alone, and what a
    transform draws at random on seed, epoch and place in it: not on workers, threads or ranks.

    With budgets the epochs differ in their number of batches, and Lightning keeps to that of the first one unless it is
    a ``Trainer(reload_dataloaders_every_n_epochs=1)``.

    Owns its worker processes until it is closed or forgotten. Picklable, without them and without active iterations.
    Not for several threads at once. A forked child cannot continue an iteration for which a thread or processes read
    ahead, and gets an error; it may begin its own.

    Attributes:
        dataset: the dataset.
        batch_size: graphs in a batch, at most; None where only budgets limit it.
        device: where batches are expanded; None for this process's memory.
        seconds_waited: how long its user has waited for batches, all in all.
    """

    seconds_waited = 0.0
    prefetch_factor = None  # for Accelerate, whose loader over ``batch_sampler`` reads in this process

    def __init__(
        self,
        dataset: LazyGraphDataset,
        *,
        batch_size: int | None,
        limits: Mapping[str, int],
        sampling: Mapping[str, Any],
        ranks: tuple[int, int] | None,
        wanted: Mapping[str, Any],
        device: torch.device | None,
    ) -> None:
        self.dataset, self.batch_size, self.device = dataset, batch_size, device
        self._limits, self._options, self._ranks, self._wanted = limits, dict(sampling), ranks, dict(wanted)
        self._known: Sampling | None = None
        self._pins = False
        self._epochs = Epochs()
        self._plan: tuple[int, Sampling, Batches] | None = None
        self._processes: WorkerPool | None = None
        self._batches(0)  # what cannot be is said now

    # ---- iterating ----

    def __iter__(self) -> Iterator[Batch]:
        """The batches of the next epoch, or of the one that was set or loaded."""
        self._epochs.announce()
        return self._iterate()

    def _iterate(self) -> Iterator[Batch]:
        # A generator begins when its first batch is asked for: Lightning makes iterators, and only then sets the epoch.
        settings, now = self.settings, self._epochs.begin()
        self._pins = settings.pin_memory
        try:
            requests = self._requests(now)
            total = now.batches + len(requests)
            # A transform runs where the training runs, or in another process: a thread would race for random numbers.
            finish = self._finished if settings.num_workers else self._transformed
            with closing(self._reading(requests, settings)) as read:
                for batch in self._clocked(map(finish, read)):
                    now.batches += 1
                    self._epochs.delivered(now, is_last=now.batches == total)
                    yield batch.pin_memory() if self._pins and self.device is None else batch
        finally:
            self._epochs.end(now)

    def _reading(self, requests: list[Request], settings: Settings) -> Generator[Any, None, None]:
        """What is read of an epoch, batch after batch."""
        if settings.num_workers:
            self._processes = self._processes or WorkerPool(self.dataset, settings)
            return self._processes.read(requests)
        if settings.threads:
            return prefetch_in_thread(self._prefetched, requests, settings.prefetch_factor)
        return (self._prefetched(request) for request in requests)

    def __len__(self) -> int:
        """The number of batches of the epoch that is being read, or else is read next."""
        return len(self._batches(self._epochs.current().epoch))

    def next_batches(self) -> Batches:
        """The batches of the epoch that is read next, or the rest of it, as positions."""
        place = self._epochs.next()
        return self._batches(place.epoch).skip(place.batches)

    def begin_positions(self) -> Iterator[PlacedPositions]:
        """The next epoch as ``iter`` begins it, for another program that reads its graphs: positions by batch."""
        for request in self._requests(self._epochs.begin(read_here=False)):
            yield PlacedPositions(request.positions.tolist(), request.draw)

    def _requests(self, place: EpochPosition) -> list[Request]:
        """What is to be read of an epoch from a place on."""
        batches, seed = self._batches(place.epoch).skip(place.batches), int(self._options["seed"])
        places = batches.first_places().tolist()
        return [
            Request(positions, Draw(seed, place.epoch, first)) for positions, first in zip(batches, places, strict=True)
        ]

    def _clocked(self, made: Iterator[Batch]) -> Iterator[Batch]:
        """The same batches; what the caller waits for each is added up."""
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
        """A batch as it may be read ahead: complete, but for a transform."""
        fetched = fetch(self.dataset, request)
        return fetched if isinstance(fetched, Untransformed) else self._finished(fetched)

    def _transformed(self, prefetched: Untransformed | Batch) -> Batch:
        return self._finished(prefetched.batch()) if isinstance(prefetched, Untransformed) else prefetched

    def _finished(self, fetched: Fetched | Batch) -> Batch:
        """A batch where it is wanted."""
        if isinstance(fetched, Fetched):
            return self.dataset.reader.expand(fetched, self.device, pin=self._pins)
        return fetched if self.device is None else fetched.to(self.device)

    # ---- which batches ----

    @property
    def sampler(self) -> EpochSampler:
        """The order of the epochs, where Lightning tells the epoch."""
        return EpochSampler(self)

    @property
    def batch_sampler(self) -> EpochBatches:
        """The batches as positions, as a ``torch.utils.data.DataLoader`` takes them, with ``collate_fn``."""
        return EpochBatches(self, drop_last=self._options["drop_last"])

    @property
    def collate_fn(self) -> Callable[[Iterable[Data]], Batch]:
        """Makes a batch of graphs, where this loader makes them."""
        return collate if self.device is None else self._collated

    def _collated(self, graphs: Iterable[Data]) -> Batch:
        return collate(graphs).to(self.device)

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch that is read next, from its beginning, or from where a state of this epoch was loaded."""
        check_whole("epoch", epoch, 0)
        self._epochs.set(int(epoch))

    def state_dict(self) -> dict[str, Any]:
        """Where the loader is, for ``load_state_dict``, with any number of workers.

        With active iterations: the place of the one that delivered a batch last, unless that was its last batch.
        Without: the beginning of the next epoch. An iteration that was left, by ``break`` or because its iterator was
        forgotten, is not active: its rest is never read, with a state or without.
        """
        return {"version": STATE, **self._epochs.state(), "sampling": self._sampling().fingerprint()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue where a state was taken: the next iteration gives the batches that had not been delivered.

        Raises:
            InputError: the state is of another dataset, or of other options; the message says in what.
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
        """The batches of this process; rank and world size are those of torch.distributed, once it is initialised."""
        rank, world_size = self._ranks or distributed_ranks()
        if self._known is None or (self._known.rank, self._known.world_size) != (rank, world_size):
            try:
                self._known = Sampling(
                    **self._options, limits=self._limits, rank=rank, world_size=world_size, identity=self._identity
                )
            except OversizedGraphs as error:
                some = ", ".join(repr(str(graph_id)) for graph_id in self.dataset[error.positions[:5]].ids)
                msg = f"{error}; their ids: {some}{', ...' if len(error.positions) > 5 else ''}"
                raise OversizedGraphs(msg, error.positions) from error
        return self._known

    @cached_property
    def _identity(self) -> dict[str, str]:
        return {"content_id": self.dataset.content_id, "rows": digest(np.asarray(self.dataset.indices(), np.int64))}

    # ---- how they are read ----

    @cached_property
    def settings(self) -> Settings:
        """How the batches are read, and why; written to the log once, when it is first asked for."""
        settings = choose(
            lambda: MeasuredFacts(self.dataset, self._measure), batch_bytes=self._batch_bytes(), **self._wanted
        )
        logger.info("%s: %s", self.dataset, settings)
        return settings

    def _graphs_of_a_batch(self) -> float:
        """How many graphs a batch has, on average."""
        return len(self.dataset) / max(len(self) * self._sampling().world_size, 1)

    def _batch_bytes(self) -> int:
        """What the records of a batch may take, on average; no graph is read."""
        return round(self.dataset.record_bytes().mean() * self._graphs_of_a_batch()) if len(self.dataset) else 0

    def _measure(self) -> tuple[float, int]:
        """The seconds that reading a batch takes here, and the bytes that it has: of some graphs, read twice."""
        graphs = self._graphs_of_a_batch()
        n = min(round(graphs), SAMPLE)
        if not n:
            return 0.0, 0
        positions = np.linspace(0, len(self.dataset) - 1, n).astype(np.int64)
        request = Request(positions, Draw(int(self._options["seed"]), 0, 0))
        self._transformed(self._prefetched(request))  # which opens files
        begin = time.perf_counter()
        batch = self._transformed(self._prefetched(request))
        seconds = (time.perf_counter() - begin) * graphs / n
        tensors = (value for value in batch.to_dict().values() if isinstance(value, torch.Tensor))
        return seconds, round(sum(tensor.nbytes for tensor in tensors) * graphs / n)

    def evaluation(self, dataset: LazyGraphDataset) -> Loader:
        """A loader of another dataset with the same settings, in order.

        In batches of ``min(4 x batch_size, 128)``, or of ``batch_size`` where that is more.
        """
        size = None if self.batch_size is None else max(self.batch_size, min(4 * self.batch_size, LARGEST_EVALUATION))
        budgets: dict[str, Any] = {f"max_{name}": limit for name, limit in self._limits.items() if name != "graphs"}
        rank, world_size = self._ranks or (None, None)
        return loader(dataset, size, **budgets, **self._wanted, device=self.device, rank=rank, world_size=world_size)

    def close(self) -> None:
        """End the worker processes, those of an iteration that goes on with it; the next one starts others."""
        self._processes = None

    def __getstate__(self) -> dict[str, Any]:
        state = {**self.__dict__, "_processes": None, "_plan": None, "_epochs": self._epochs.copy()}
        state.pop("settings", None)  # of this machine
        return state

    def __repr__(self) -> str:
        limits = ", ".join(f"max_{name}={limit}" for name, limit in self._limits.items())
        return f"Loader({self.dataset}, {limits})"


def loader(
    dataset: LazyGraphDataset | torch.utils.data.Subset[Any],
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
    weights: str | None = None,
    num_workers: int | None = None,
    threads: int | None = None,
    prefetch_factor: int | None = None,
    persistent_workers: bool | None = None,
    pin_memory: bool | None = None,
    multiprocessing_context: str | None = None,
    device: str | torch.device | None = None,
    rank: int | None = None,
    world_size: int | None = None,
) -> Loader:
    """Batches of a dataset, as complete PyG ``Batch`` objects, read ahead.

    Args:
        dataset: what to read; a subset is read as such, also a ``torch.utils.data.Subset``.
        batch_size: graphs in a batch; 64 unless budgets are given.
        shuffle: visit the graphs in another order in every epoch.
        seed: of all that is random.
        max_atoms: the most atoms that a batch may hold; budgets can be combined, also with ``batch_size``.
        max_edges: the most edges.
        max_triplets: the most angles, of a dataset whose recipe has them.
        drop_last: leave out a last batch that is not full.
        window: shuffle within windows of so many graphs, which lie together on disk: for cold disks and network file
            systems.
        bucket: ``"atoms"``, ``"edges"`` or ``"triplets"``: batches of graphs of like size.
        weights: a column; graphs are drawn with probabilities in proportion to it, with replacement.
        num_workers: processes that read; chosen if not given, and 0 is often best: the compiled loops let other threads
            run, so a thread reads beside the training.
        threads: 1 for a thread that reads ahead where there are no workers, 0 for none.
        prefetch_factor: batches kept ready, of each process or of the thread.
        persistent_workers: whether processes live on from epoch to epoch.
        pin_memory: whether batches are put into page-locked memory, for faster copies to a GPU.
        multiprocessing_context: ``"fork"``, ``"spawn"`` or ``"forkserver"``.
        device: where batches are to be: records are copied there in one piece, in narrow types, and expanded there;
            None for the memory of this process.
        rank: which process of those that share an epoch this is; that of torch.distributed unless given.
        world_size: how many there are; likewise.

    Raises:
        InputError: options that exclude one another, a size or column that the dataset does not have.
        OversizedGraphs: graphs that are alone over a budget; the message names some.

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
    limits = {name: limit for name, limit in budgets.items() if limit is not None}
    if batch_size is None and not limits:
        batch_size = DEFAULT_BATCH
    if batch_size is not None:
        limits = {"graphs": batch_size, **limits}
    if (rank is None) != (world_size is None):
        msg = f"found rank={rank} and world_size={world_size}; required: both, or neither"
        raise InputError(msg)
    if bucket is not None and bucket not in SIZES:
        msg = f"found bucket={bucket!r}; required: one of {', '.join(map(repr, SIZES))}"
        raise InputError(msg)
    dataset = as_dataset(dataset)
    used = {*limits, *([] if bucket is None else [bucket])} & set(SIZES)
    columns = dataset.columns
    return Loader(
        dataset,
        batch_size=batch_size,
        limits=limits,
        sampling={
            "order": order_of(
                len(dataset), shuffle=shuffle, window=window, weights=None if weights is None else columns[weights]
            ),
            "sizes": {name: columns[SIZES[name]] for name in sorted(used)},
            "bucket": bucket,
            "seed": seed,
            "drop_last": drop_last,
        },
        ranks=None if rank is None or world_size is None else (rank, world_size),
        wanted={
            "num_workers": num_workers,
            "threads": threads,
            "prefetch_factor": prefetch_factor,
            "persistent_workers": persistent_workers,
            "pin_memory": pin_memory,
            "multiprocessing_context": multiprocessing_context,
        },
        device=None if device is None else torch.device(device),
    )
