"""A plan: the shards of a write, and everything that decides their bytes, in one file.

Any machine that sees the folder of the plan can make any shard, and the bytes do not depend on the machine. The file
has lines of JSON, each after its checksum: what all shards share, one line per shard, and the files of the sources.
A worker reads the first line and the line of its shard.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import astuple, dataclass, field, replace
from functools import cache, partial
from itertools import accumulate, islice
from pathlib import Path
from typing import Any, NamedTuple

from lazygraph.crystal import Crystal
from lazygraph.errors import InputError, LabelError, LazyGraphError, OutputExists, UnreadableInput
from lazygraph.format.codec import CODECS, train_dictionary
from lazygraph.format.manifest import Manifest, SourceFiles
from lazygraph.format.record_encoder import RecordEncoder
from lazygraph.format.schema import Schema
from lazygraph.format.strict_json import canonical_json
from lazygraph.graphs.spec import GraphSpec
from lazygraph.sources.base import MAX_TEXT, Cut, Entry, ImpliedUnits, Scan, Source, readable
from lazygraph.sources.detect import source_from_json, source_to_json
from lazygraph.sources.time_limit import one_input, time_limit
from lazygraph.storage.files import FileRef, named_after_content, write_atomic
from lazygraph.writing.crash_isolation import crash_guard
from lazygraph.writing.fields import crystal_values, labelled_schema
from lazygraph.writing.labels import Label, LabelSet, choose_labels
from lazygraph.writing.layout import Layout
from lazygraph.writing.options import WriteOptions
from lazygraph.writing.split_rules import SplitRule
from lazygraph.writing.splits import Splits
from lazygraph.writing.value_groups import FORMULA

__all__ = [
    "Base",
    "Head",
    "Job",
    "Piece",
    "Plan",
    "Scanned",
    "Task",
    "check_same_work",
    "check_split_columns",
    "common_about",
    "make_plan",
    "read_head",
    "read_job",
    "read_task",
    "sampled",
    "scan_sources",
    "shard_size",
    "versions",
]

PLAN_VERSION = 7
# Labels are recognised from this many inputs: the first ones of up to 8 shards. The dictionary is trained on half of
# them. This costs 1 percent of its effect, and saves 0.2 s of building before the workers begin.
SAMPLES = 1024
TRAINED = 512
SAMPLED_SHARDS = 8
MIN_SHARD, MAX_SHARD = 512, 65536


@dataclass(frozen=True, slots=True)
class Piece:
    """A range of inputs of one source, and the number of its first input among all inputs of the dataset."""

    source: int
    mark: int
    start: int
    count: int
    position: int
    only: tuple[int, ...] | None = None
    """For a retry: the inputs of the range that are tried again, counted from ``start``. None for all."""

    @classmethod
    def from_json(cls, data: Sequence[Any]) -> Piece:
        """Read the JSON form, a list of the fields."""
        source, mark, start, count, position, only = data
        return cls(source, mark, start, count, position, None if only is None else tuple(only))


@dataclass(frozen=True, slots=True)
class Task:
    """One shard: pieces of sources, one after another."""

    pieces: tuple[Piece, ...]

    @property
    def count(self) -> int:
        """The number of inputs."""
        return sum(piece.count for piece in self.pieces)


@dataclass(frozen=True, slots=True)
class Base:
    """The dataset that a plan adds to: its size and its identity."""

    graphs: int
    inputs: int
    shards: int
    content_id: str


@dataclass(frozen=True, slots=True)
class Plan:
    """Everything that a worker and a merge need to know."""

    sources: tuple[dict[str, Any], ...]
    """For each source: ``name``, ``source`` (how to read it), ``inputs`` (number), ``files`` (name, size, sha256)."""
    entries: int
    """The number of new inputs; 0 for a retry of quarantined inputs."""
    notes: tuple[str, ...]
    recipe: dict[str, Any]
    labels: tuple[Label, ...]
    schema: Schema
    codec: str
    level: int
    dictionary: FileRef | None
    tasks: tuple[Task, ...]
    versions: dict[str, str]
    max_images: int
    max_seconds: float
    base: Base | None = None
    about: Mapping[str, str] = field(default_factory=dict)
    """The description of the new dataset."""
    columns: tuple[str, ...] | None = None
    """The names of values beside the structures, for the report; None if the user named the labels."""
    splits: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """Column of splits -> its splits in order, as the sources declare them."""
    split: SplitRule | str | None = None
    """The splits that ``merge`` gives to the graphs of the plan, if the plan was made with splits."""

    @property
    def first_shard(self) -> int:
        """The number of the plan's first shard in the dataset."""
        return 0 if self.base is None else self.base.shards

    @property
    def first_position(self) -> int:
        """The number of the plan's first new input."""
        return 0 if self.base is None else self.base.inputs

    def origin(self, task: Task, position: int) -> tuple[str, int]:
        """Return the name of the source of an input, and the number of the input in this source."""
        piece = next(piece for piece in task.pieces if piece.position <= position < piece.position + piece.count)
        return self.sources[piece.source]["name"], position - piece.position + piece.start

    def source_files(self) -> tuple[SourceFiles, ...]:
        """The sources for the manifest; empty for a retry of quarantined inputs."""
        return (
            () if self.retries else tuple(SourceFiles(s["name"], s["inputs"], tuple(s["files"])) for s in self.sources)
        )

    def groups(self) -> tuple[str, ...]:
        """The columns with one value a graph that the dataset will have."""
        return (FORMULA, *(label.name for label in self.labels if label.level == "graph" and not label.shape))

    @property
    def retries(self) -> bool:
        """Whether the plan tries quarantined inputs again, and adds no new inputs."""
        return self.base is not None and self.entries == 0

    def to_json(self) -> dict[str, Any]:
        """The JSON form."""
        return {
            "plan": PLAN_VERSION,
            "sources": list(self.sources),
            "entries": self.entries,
            "notes": list(self.notes),
            "recipe": self.recipe,
            "labels": [label.to_json() for label in self.labels],
            "schema": self.schema.to_json(),
            "codec": self.codec,
            "level": self.level,
            "dictionary": None if self.dictionary is None else self.dictionary.to_json(),
            "tasks": [[list(astuple(piece)) for piece in task.pieces] for task in self.tasks],
            "versions": self.versions,
            "max_images": self.max_images,
            "max_seconds": None if self.max_seconds == math.inf else self.max_seconds,
            "base": None
            if self.base is None
            else [self.base.graphs, self.base.inputs, self.base.shards, self.base.content_id],
            "about": dict(self.about),
            "columns": None if self.columns is None else list(self.columns),
            "splits": {column: list(names) for column, names in self.splits.items()},
            "split": self.split.to_json() if isinstance(self.split, SplitRule) else self.split,
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Plan:
        """Read the JSON form."""
        return cls(
            sources=tuple(data["sources"]),
            entries=data["entries"],
            notes=tuple(data["notes"]),
            recipe=data["recipe"],
            labels=tuple(Label.from_json(label) for label in data["labels"]),
            schema=Schema.from_json(data["schema"]),
            codec=data["codec"],
            level=data["level"],
            dictionary=None if data["dictionary"] is None else FileRef(**data["dictionary"]),
            tasks=tuple(Task(tuple(map(Piece.from_json, pieces))) for pieces in data["tasks"]),
            versions=data["versions"],
            max_images=data["max_images"],
            max_seconds=math.inf if data["max_seconds"] is None else data["max_seconds"],
            base=None if data["base"] is None else Base(*data["base"]),
            about=data["about"],
            columns=None if data["columns"] is None else tuple(data["columns"]),
            splits={column: tuple(names) for column, names in data["splits"].items()},
            split=SplitRule(**data["split"]) if isinstance(data["split"], dict) else data["split"],
        )

    @property
    def digest(self) -> str:
        """The sha256 of everything that decides the bytes of the shards, independent of the paths of the inputs."""
        dictionary = None if self.dictionary is None else self.dictionary.sha256
        return hashlib.sha256(canonical_json(self._identity() | {"dictionary": dictionary})).hexdigest()

    @property
    def title(self) -> str:
        """The plan in words, for errors: the beginning of its digest, recipe, number of inputs and sources."""
        sources = ", ".join(source["name"] for source in self.sources[:3]) + ", ..." * (len(self.sources) > 3)
        recipe = repr(GraphSpec.from_json(self.recipe))
        return f"{self.digest[:12]} ({recipe}, {self.entries or 'quarantined'} inputs of {sources})"

    def save(self, layout: Layout) -> None:
        """Write the plan. From then on its shards can be made."""
        shared = self.to_json()
        tasks = shared.pop("tasks")
        files = [source["files"] for source in self.sources]
        shared["sources"] = [{key: value for key, value in s.items() if key != "files"} for s in self.sources]
        shared |= {"digest": self.digest, "title": self.title, "shards": len(tasks)}
        # ASCII, because a path may hold bytes that UTF-8 cannot encode.
        lines = [json.dumps(line, sort_keys=True, allow_nan=False).encode() for line in (shared, *tasks, files)]
        write_atomic(layout.plan, b"".join(b"%s %s\n" % (_checksum(line), line) for line in lines))

    @classmethod
    def load(cls, layout: Layout) -> Plan:
        """Read the plan of a dataset that is being made.

        Raises:
            InputError: there is no plan, the plan is damaged, or another version of lazygraph made it.
        """
        with _opened(layout) as lines:
            shared = _shared(lines, layout)
            tasks = [_parsed(next(lines)) for _ in range(shared["shards"])]
            files = _parsed(next(lines))
            sources = [source | {"files": own} for source, own in zip(shared["sources"], files, strict=True)]
            return cls.from_json(shared | {"tasks": tasks, "sources": sources})

    def differences(self, other: Plan) -> list[str]:
        """Return a sentence for each reason why another plan gives other bytes; empty if both are the same work."""
        mine, theirs = self._identity(), other._identity()
        return [
            f"{key}: {_short(mine.get(key))} -> {_short(theirs.get(key))}"
            for key in {**mine, **theirs}
            if mine.get(key) != theirs.get(key)
        ]

    def _identity(self) -> dict[str, Any]:
        """Everything that decides the bytes, with one entry for each thing that can differ."""
        out = self.to_json()
        # The folder of an input does not matter, but its name and its contents do.
        out["sources"] = [
            {"name": s["name"]} | {k: v for k, v in s["source"].items() if k not in ("path", "paths")}
            for s in self.sources
        ]
        out["inputs"] = [[s["inputs"], *s["files"]] for s in self.sources]
        # The dictionary follows from the rest (``digest`` includes it anyway). Notes and splits do not change graphs.
        # The time limit of an input depends on the machine, so a resumed run may change it, as it may change workers.
        del out["dictionary"], out["notes"], out["about"], out["columns"], out["split"], out["max_seconds"]
        tasks = out.pop("tasks")
        most = max((task.count for task in self.tasks), default=0)
        digest = hashlib.sha256(canonical_json(tasks)).hexdigest()
        out["shards"] = f"{len(tasks)} of up to {most} inputs ({digest[:8]})"
        return {f"{part} {k}": v for part in ("recipe", "versions") for k, v in out.pop(part).items()} | out


class Head(NamedTuple):
    """The identity of a plan, and its number of shards."""

    digest: str
    title: str
    shards: int


class Job(NamedTuple):
    """One shard of a plan, with everything that the shards share."""

    plan: Plan
    """The plan without tasks, and without the files of the sources."""
    head: Head
    task: Task


def read_head(layout: Layout) -> Head:
    """Read the identity of the plan in a folder.

    Raises:
        InputError: as ``Plan.load``.
    """
    with _opened(layout) as lines:
        return _head(_shared(lines, layout))


def read_job(layout: Layout, task: int) -> Job:
    """Read everything to make one shard, in a time that does not depend on the number of input files.

    Raises:
        InputError: there is no such shard; or as ``Plan.load``.
    """
    with _opened(layout) as lines:
        shared = _shared(lines, layout)
        head = _head(shared)
        if task not in range(head.shards):
            msg = f"found the task {task}; required: 0 to {head.shards - 1}, a shard of the plan of {layout.final}"
            raise InputError(msg)
        pieces = _parsed(next(islice(lines, task, None)))
        sources = [source | {"files": []} for source in shared["sources"]]
        plan = Plan.from_json(shared | {"tasks": [], "sources": sources})
        return Job(plan, head, Task(tuple(map(Piece.from_json, pieces))))


@contextmanager
def _opened(layout: Layout) -> Iterator[Iterator[bytes]]:
    """Yield the lines of the file of a plan, and turn all errors of the file into one kind."""
    try:
        with layout.plan.open("rb") as lines:
            yield lines
    except FileNotFoundError:
        name = layout.final.name
        msg = f"there is no plan in {layout.partial}; make one with 'lazygraph-write plan SOURCE -o {name}'"
        with suppress(LazyGraphError):  # a damaged plan may hold anything
            msg += f"; {name} holds {Manifest.load(layout.final).graphs} graphs"
        raise InputError(msg) from None
    except (_DamagedError, StopIteration) as error:
        msg = f"{layout.plan} is damaged; delete {layout.partial} and run the command again"
        raise InputError(msg) from error


class _DamagedError(Exception):
    """A line differs from what was written."""


def _checksum(line: bytes) -> bytes:
    return hashlib.sha256(line).hexdigest()[:32].encode()


def _parsed(line: bytes) -> Any:
    """Return the content of a line, after comparing its checksum."""
    checksum, _, content = line.removesuffix(b"\n").partition(b" ")
    if checksum != _checksum(content):
        raise _DamagedError
    return json.loads(content)


def _shared(lines: Iterator[bytes], layout: Layout) -> dict[str, Any]:
    """Return the first line of a plan, if it has this version."""
    shared: dict[str, Any] = _parsed(next(lines))
    if shared.get("plan") != PLAN_VERSION:
        msg = (
            f"{layout.plan} is of plan version {shared.get('plan')}; required: {PLAN_VERSION}, which this release "
            "makes. Delete the file and make a new plan"
        )
        raise InputError(msg)
    return shared


def _head(shared: Mapping[str, Any]) -> Head:
    return Head(shared["digest"], shared["title"], shared["shards"])


def shard_size(entries: int) -> int:
    """Return inputs per shard: a power of two, 512 to 65,536, for about 64 shards. Independent of the workers.

    Example:
        >>> shard_size(2_000), shard_size(200_000), shard_size(100_000_000)
        (512, 4096, 65536)
    """
    size = MIN_SHARD
    while size < MAX_SHARD and size * 64 < entries:
        size *= 2
    return size


def make_plan(sources: Sequence[Source], spec: GraphSpec, options: WriteOptions, layout: Layout) -> Plan:
    """Read every source once, cut it into shards, choose the labels and train the dictionary.

    Leaves spooled inputs and the dictionary in the partial folder; does not save the plan.

    Raises:
        UnreadableInput: a source cannot be read, or holds nothing.
        LabelError: a requested label does not exist.
    """
    scanned = scan_sources(sources, spec, options, layout)
    plan = scanned.plan
    with time_limit(plan.max_seconds):
        samples = [entry for entry in sampled(plan, layout) if isinstance(entry.crystal, Crystal)]
    about, differences = common_about(scanned.abouts, options.about)
    labels, notes, columns = choose_labels(
        [(len(e.crystal), e.labels, e.atom_labels) for e in samples if isinstance(e.crystal, Crystal)],
        options.labels if samples else None,
        options.units if samples else {},
        plan.labels,
        scanned.implied,
    )
    if samples:
        labels = options.descriptions.applied(labels)
    check_split_columns(plan.splits, labels)
    chosen = LabelSet(labels)
    schema = labelled_schema(spec, chosen.node)
    some = samples[:: max(1, len(samples) // TRAINED)]
    record = partial(_record, spec=spec, labels=chosen, encoder=RecordEncoder(schema), max_images=plan.max_images)
    with time_limit(plan.max_seconds), crash_guard(layout.planning) as watch:
        some = watch.harmless(some, record)
        records = [raw for entry in watch.reading(lambda: some) if (raw := record(entry))]
    trained = train_dictionary(records, plan.entries) if CODECS[plan.codec].takes_dictionary else None
    dictionary = None if trained is None else named_after_content(layout.dataset, "dictionary", ".zstd", trained)
    return replace(
        plan,
        labels=tuple(labels),
        schema=schema,
        dictionary=dictionary,
        notes=(*plan.notes, *notes, *differences),
        about=about,
        columns=tuple(columns) if options.labels is None else None,
    )


class Scanned(NamedTuple):
    """The result of one pass over all sources."""

    plan: Plan
    """The plan without a dictionary, with the labels that the sources declare."""
    implied: tuple[ImpliedUnits, ...]
    """The units that the sources imply."""
    abouts: tuple[Mapping[str, str], ...]
    """The description of each source."""


def scan_sources(
    sources: Sequence[Source], spec: GraphSpec, options: WriteOptions, layout: Layout, base: Base | None = None
) -> Scanned:
    """Read each source once and cut it into shards.

    Raises:
        UnreadableInput: a source cannot be read, or holds nothing.
    """
    layout.spools.mkdir(parents=True, exist_ok=True)
    # The size of a shard depends on the number of inputs, which only the scan finds. So mark often, and use every n-th.
    fine = options.shard_size or MIN_SHARD
    with time_limit(options.max_seconds):
        scans = [_scan(source, fine, layout.spool(number)) for number, source in enumerate(sources)]
    entries = sum(scan.entries for scan in scans)
    if entries == 0:
        names = ", ".join(source.name for source in sources)
        msg = f"there are no structures in {names or 'the sources'}; give at least one"
        raise UnreadableInput(msg)
    size = options.shard_size or shard_size(entries)
    plan = Plan(
        sources=tuple(map(_source, sources, scans)),
        entries=entries,
        notes=tuple(readable(note) for scan in scans for note in scan.notes),
        recipe=spec.to_json(),
        labels=tuple(label for scan in scans for label in scan.labels),
        schema=labelled_schema(spec, ()),
        codec=options.codec,
        level=options.level,
        dictionary=None,
        tasks=tuple(_cut(scans, fine, size, 0 if base is None else base.inputs)),
        versions=versions(),
        max_images=options.max_images,
        max_seconds=options.max_seconds,
        base=base,
        splits=_declared_splits(scans),
    )
    implied = tuple(scan.implied for scan in scans if scan.implied is not None)
    return Scanned(plan, implied, tuple(scan.about for scan in scans))


def _declared_splits(scans: Iterable[Scan]) -> dict[str, tuple[str, ...]]:
    """Return column of splits -> the splits that any source declares in it.

    Raises:
        InputError: there are more splits than codes.
    """
    out: dict[str, tuple[str, ...]] = {}
    for scan in scans:
        for column, names in scan.splits.items():
            out[column] = Splits.none(0).recoded(tuple(dict.fromkeys((*out.get(column, ()), *names)))).names
    return out


def check_split_columns(splits: Iterable[str], labels: Iterable[Label]) -> None:
    """Refuse a column of splits with the name of a label.

    Raises:
        LabelError: they have a name in common; the message gives it.
    """
    names = {label.name for label in labels}
    if clash := [column for column in splits if column in names]:
        msg = (
            f"{clash[0]!r} is the name of a label and of a column of splits; a name has one meaning. Name the other "
            "labels with --label (labels=), or rename the column of splits"
        )
        raise LabelError(msg)


def common_about(
    abouts: Sequence[Mapping[str, str]], given: Mapping[str, str]
) -> tuple[dict[str, str], tuple[str, ...]]:
    """Describe a dataset of several sources: what the user gives, and what all sources say in the same words.

    Args:
        abouts: the description of each source.
        given: the description by the user, which overrides theirs.

    Returns:
        The description, and a sentence if the sources differ.
    """
    first = abouts[0] if abouts else {}
    kept = {key: text for key, text in first.items() if all(about.get(key) == text for about in abouts[1:])}
    left = sorted({key for about in abouts for key in about} - kept.keys() - given.keys())
    told = f"the sources say different things about themselves, which are left out: {', '.join(left)}"
    return {**kept, **given}, (told,) if left else ()


def read_task(plan: Plan, task: Task, layout: Layout) -> Iterator[tuple[int, Entry]]:
    """Yield the inputs of one shard with their positions among all inputs."""
    for piece in task.pieces:
        yield from _read_piece(plan, piece, layout)


def _read_piece(plan: Plan, piece: Piece, layout: Layout) -> Iterator[tuple[int, Entry]]:
    source = source_from_json(plan.sources[piece.source]["source"])
    wanted = None if piece.only is None else set(piece.only)
    entries = source.read(Cut(piece.mark, piece.start, piece.count), layout.spool(piece.source))
    found = 0
    try:
        for number, entry in enumerate(entries):
            found += 1
            if wanted is None or number in wanted:
                yield piece.position + number, entry
    except UnreadableInput as error:
        msg = f"{source.name}: {error}"
        raise UnreadableInput(msg) from error
    except MemoryError as error:
        raise _no_memory(source, f"input number {piece.start + found}") from error
    if found != piece.count:
        msg = (
            f"{source.name}: found {found} inputs from number {piece.start} on, but {piece.count} when it was "
            "planned; the input has changed since"
        )
        raise UnreadableInput(msg)


def _scan(source: Source, every: int, spool: Path) -> Scan:
    try:
        return source.scan(every, spool)
    except MemoryError as error:
        raise _no_memory(source, "it") from error


def _no_memory(source: Source, what: str) -> UnreadableInput:
    return UnreadableInput(
        f"{source.name}: there was not enough memory to find where {what} ends; up to {MAX_TEXT:,} bytes of the text "
        "of one input are held"
    )


def versions() -> dict[str, str]:
    """Return the versions of the packages that decide edges and bytes."""
    return dict(_versions())


@cache
def _versions() -> dict[str, str]:
    names = "lazygraph numpy pymatgen-core pymatgen spglib gemmi ase zstandard lmdb msgpack".split()
    return {name: importlib.metadata.version(name) for name in names if _installed(name)}


def _installed(name: str) -> bool:
    try:
        importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return False
    return True


def _source(source: Source, scan: Scan) -> dict[str, Any]:
    files = [file._replace(name=readable(file.name))._asdict() for file in scan.files]
    return {
        "name": readable(source.name),
        "source": source_to_json(source),
        "inputs": scan.entries,
        "files": files,
    }


def _cut(scans: Sequence[Scan], fine: int, size: int, position: int) -> Iterator[Task]:
    """Cut all sources into shards of up to ``size`` inputs. Cuts are at marks, which come every ``fine`` inputs."""
    pieces: list[Piece] = []
    room = size
    for number, scan in enumerate(scans):
        for start in range(0, scan.entries, fine):
            count = min(fine, scan.entries - start)
            if count > room:
                yield Task(tuple(pieces))
                pieces, room = [], size
            if pieces and pieces[-1].source == number:
                pieces[-1] = replace(pieces[-1], count=pieces[-1].count + count)
            else:
                pieces.append(Piece(number, scan.marks[start // fine], start, count, position + start))
            room -= count
        position += scan.entries
    yield Task(tuple(pieces))


def sampled(plan: Plan, layout: Layout) -> Iterator[Entry]:
    """Return the first inputs of up to 8 evenly spread shards."""
    step = max(1, len(plan.tasks) // SAMPLED_SHARDS)
    chosen = plan.tasks[::step][:SAMPLED_SHARDS]
    for task in chosen:
        for _, entry in read_task(plan, _beginning(task, SAMPLES // len(chosen)), layout):
            yield entry


def _beginning(task: Task, count: int) -> Task:
    """Return the first inputs of a task."""
    ends = accumulate(piece.count for piece in task.pieces)
    parts = [replace(p, count=min(p.count, count - end + p.count)) for p, end in zip(task.pieces, ends, strict=True)]
    return Task(tuple(part for part in parts if part.count > 0))


def _record(entry: Entry, spec: GraphSpec, labels: LabelSet, encoder: RecordEncoder, max_images: int) -> bytes:
    try:
        with one_input():
            graph = spec.build(entry.crystal, max_images=max_images)
            _, atoms, _ = labels.row(entry.labels, graph.n_atoms, entry.atom_labels)
            return encoder.pack(crystal_values(encoder.schema, graph, atoms))[0]
    except Exception:  # noqa: BLE001  # the worker of its shard will say why
        return b""


def _short(value: Any) -> str:
    text = json.dumps(value)
    return text if len(text) <= 200 else text[:200] + "..."


def check_same_work(stored: Plan, new: Plan, layout: Layout) -> None:
    """Refuse to continue a dataset that was begun with other arguments.

    Raises:
        OutputExists: the arguments differ; the message names every difference.
    """
    if differences := stored.differences(new):
        msg = (
            f"{layout.partial} was begun with other arguments or input: {'; '.join(differences)}. Run the earlier "
            "command again to finish it, or delete that folder to start again"
        )
        raise OutputExists(msg)
