"""Options of a write in three groups: how inputs are read, what is written, and which processes do the work."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass, field

from lazygraph.errors import InputError
from lazygraph.format.codec import CODECS
from lazygraph.graphs.effort import MAX_IMAGES
from lazygraph.graphs.spec import check_images
from lazygraph.registry import unknown_name
from lazygraph.sources.options import SourceOptions
from lazygraph.sources.time_limit import MAX_SECONDS, check_seconds
from lazygraph.writing.descriptions import Descriptions, check_about

__all__ = ["InputOptions", "RunOptions", "WriteOptions"]

MAX_LEVEL = 22
MAX_SHARD = 2**20


@dataclass(frozen=True, slots=True)
class InputOptions:
    """How inputs are read.

    Args:
        format: the input format; None to recognise it by content.
        id_key: the key or column of the ids; None for the usual names.
        of_sources: the options that sources share.
    """

    format: str | None = None
    id_key: str | None = None
    of_sources: SourceOptions = field(default_factory=SourceOptions)


@dataclass(frozen=True, slots=True)
class WriteOptions:
    """Which parts of the inputs are stored, and how; see ``lazygraph.write``.

    Args:
        labels: the labels to keep; None for all numeric ones.
        units: name -> unit of labels.
        codec: how records are compressed, ``"zstd"`` or ``"none"``.
        level: zstd level, 1 to 22.
        shard_size: inputs a shard, 1 to 1,048,576; None to choose it from their number.
        max_images: images of atoms that the neighbour search of one input may look at.
        max_seconds: processor time that one input may take, s.
        descriptions: descriptions of labels, and the labels that every graph must have.
        about: the description of the dataset.

    Raises:
        InputError: an option is out of its range.
    """

    labels: Sequence[str] | None = None
    units: Mapping[str, str] = field(default_factory=dict)
    codec: str = "zstd"
    level: int = 9
    shard_size: int | None = None
    max_images: int = MAX_IMAGES
    max_seconds: float = MAX_SECONDS
    descriptions: Descriptions = field(default_factory=Descriptions)
    about: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.codec not in CODECS:
            raise InputError(unknown_name("codec", self.codec, CODECS))
        if not 1 <= self.level <= MAX_LEVEL:
            msg = f"found the zstd level {self.level}; required: 1 to {MAX_LEVEL}"
            raise InputError(msg)
        if self.shard_size is not None and not 1 <= self.shard_size <= MAX_SHARD:
            msg = f"found the shard size {self.shard_size}; required: 1 to {MAX_SHARD} inputs"
            raise InputError(msg)
        labels = (self.labels,) if isinstance(self.labels, str) else self.labels
        object.__setattr__(self, "labels", None if labels is None else tuple(labels))
        object.__setattr__(self, "units", dict(self.units))
        object.__setattr__(self, "max_images", check_images(self.max_images))
        object.__setattr__(self, "max_seconds", check_seconds(self.max_seconds))
        object.__setattr__(self, "about", check_about(self.about))


@dataclass(frozen=True, slots=True)
class RunOptions:
    """The processes that make the shards.

    Args:
        workers: worker processes; None for one per available CPU, 1 for this process.
        executor: any ``concurrent.futures.Executor`` to use instead.
        progress: show a bar in a terminal or a notebook, and elsewhere a line a minute on stderr.

    Raises:
        InputError: ``workers`` is less than 1.
    """

    workers: int | None = None
    executor: Executor | None = None
    progress: bool = True

    def __post_init__(self) -> None:
        if self.workers is not None and self.workers < 1:
            msg = f"found workers={self.workers}; required: at least 1, or None for one per available CPU"
            raise InputError(msg)
