"""The class ``Ranks``: the processes that train together. Either all continue or none."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from itertools import groupby
from typing import Any, TypeVar

import lightning
from lightning.fabric.plugins.environments.lightning import LightningEnvironment
from lightning.fabric.plugins.environments.torchelastic import TorchElasticEnvironment
from torch import distributed

from lazygraph.errors import InputError
from lazygraph.training.folder import MEANS

__all__ = ["Ranks"]

T = TypeVar("T")
NAMED = 3  # differences that an error tells in full
NODES = 4  # nodes that an error names for each value


@dataclass(frozen=True, slots=True)
class Ranks:
    """The processes that a launcher such as torchrun or Slurm has started for one training.

    Processes that Lightning starts itself are not included. They begin with the training, on the same machine, and
    repeat the same command. In this case, or with only one process, no method of this class waits or communicates.

    Attributes:
        rank: index of this process, from 0.
        is_first: whether this process writes the files of the run.
        nodes: the node of each process, such as ``node 1 (gpu-17)``.
    """

    rank: int
    is_first: bool
    nodes: tuple[str, ...]

    @classmethod
    def of(cls, trainer: lightning.Trainer) -> Ranks:
        """Connect the processes that share this trainer.

        Raises:
            InputError: there are several nodes and no launcher has started this process, or a launcher has started
                another number of processes than the trainer has devices.
        """
        node = f"node {trainer.node_rank} ({socket.gethostname()})"
        own_launch = isinstance(getattr(trainer.strategy, "cluster_environment", None), LightningEnvironment)
        if own_launch and trainer.num_nodes > 1:
            msg = (
                f"num_nodes={trainer.num_nodes} needs a launcher, but none has started this process. Start the same "
                "command on every node with Slurm (srun) or torchrun, such as: torchrun --nnodes 2 --nproc-per-node "
                "4 --rdzv-backend c10d --rdzv-endpoint HOST:29500 --no-python lazygraph train ..."
            )
            raise InputError(msg)
        _check_number(trainer)
        if own_launch or trainer.world_size == 1:
            return cls(0, trainer.is_global_zero, (node,))
        trainer.strategy.setup_environment()
        nodes: list[str] = [""] * trainer.world_size
        distributed.all_gather_object(nodes, node)
        return cls(trainer.global_rank, trainer.is_global_zero, tuple(nodes))

    def together(self, call: Callable[[], T]) -> T:
        """Call a function on every process. If it fails on one of them, all processes stop.

        Every process must call this, and none returns before the function has returned on all of them.

        Raises:
            Exception: the error of the function on this process.
            InputError: the function failed on another process; the message says on which, and how.
        """
        failure, result = None, None
        try:
            result = call()
        except Exception as error:
            if len(self.nodes) == 1:
                raise
            failure = error
        told = self._gathered(None if failure is None else f"{type(failure).__name__}: {failure}")
        if failure is not None:
            raise failure
        failed = [rank for rank, text in enumerate(told) if text is not None]
        if failed:
            msg = f"this process stops, because {self._named(failed)} cannot train: {told[failed[0]]}"
            raise InputError(msg)
        return result  # type: ignore[return-value]  # call has returned it

    def agree(self, own: Mapping[str, Any]) -> None:
        """Make sure that all processes train the same model on the same data.

        Args:
            own: what the run depends on: options by name, and ``dataset``, the identity of the dataset.

        Raises:
            InputError: processes differ. All of them raise it, and the message says which ones have which value.
        """
        every = self._gathered(dict(_told(own)))
        names = list(dict.fromkeys(name for told in every for name in told))
        different = [name for name in names if any(told.get(name) != every[0].get(name) for told in every)]
        if not different:
            return
        parts = [self._difference(name, [told.get(name) for told in every]) for name in different[:NAMED]]
        more = "" if len(different) <= NAMED else f"; and {len(different) - NAMED} more differences"
        msg = (
            f"the processes of this training differ: {'; '.join(parts)}{more}. Required: the same on all nodes; "
            "'lazygraph pull' copies a dataset to a node, and brings a copy up to date (--overwrite)"
        )
        raise InputError(msg)

    def _gathered(self, value: Any) -> list[Any]:
        """Return the values of all processes. Every process must call it."""
        values = [value] * len(self.nodes)
        if len(values) > 1:
            distributed.all_gather_object(values, value)
        return values

    def _difference(self, name: str, values: list[Any]) -> str:
        having: dict[Any, list[int]] = {}
        for rank, value in enumerate(values):
            having.setdefault(value, []).append(rank)
        return f"{name} is " + " and ".join(f"{value} for {self._named(ranks)}" for value, ranks in having.items())

    def _named(self, ranks: list[int]) -> str:
        """Name processes, by their nodes."""
        parts = []
        for node, members in groupby(ranks, lambda rank: self.nodes[rank]):
            some = list(members)
            parts.append(f"process{'es' if len(some) > 1 else ''} {', '.join(map(str, some))} on {node}")
        more = "" if len(parts) <= NODES else f", and those on {len(parts) - NODES} more nodes"
        return ", ".join(parts[:NODES]) + more


def _check_number(trainer: lightning.Trainer) -> None:
    """Refuse a wrong number of processes, because some would wait for ever, or each would train alone."""
    started = int(os.environ["WORLD_SIZE"]) if TorchElasticEnvironment.detect() else trainer.world_size
    wanted = trainer.num_devices * trainer.num_nodes
    if started != wanted:
        msg = (
            f"the launcher started {started} processes, but devices={trainer.num_devices} on "
            f"num_nodes={trainer.num_nodes} need {wanted}. Set devices (--devices) to the processes of a node, and "
            "num_nodes (--num-nodes) to the number of nodes"
        )
        raise InputError(msg)


def _told(own: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Yield a name for everything that a run depends on, and its value: the data first."""
    identity = own["dataset"]
    yield "the content id", identity["content_id"]
    yield "the recipe", identity["recipe"]
    for split, of in identity["splits"].items():
        yield f"the split {split}", of
    for label, of in identity["labels"].items():
        yield f"the unit of the label {label!r}", repr(of.get("unit"))
        yield f"the digest of the label {label!r}", of["values"]
    for name, value in own.items():
        if name != "dataset" and name not in MEANS:
            yield f"the option {name}", repr(value)
