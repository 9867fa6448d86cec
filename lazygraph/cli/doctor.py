"""The command ``lazygraph doctor``."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

from lazygraph.cli.advice import FolderFacts, MachineFacts, advise
from lazygraph.cli.options import add_json
from lazygraph.cli.output import say, say_json
from lazygraph.cli.surroundings import look
from lazygraph.errors import DatasetNotFound, InputError
from lazygraph.storage.base import is_url
from lazygraph.storage.transport import shown

SUMMARY = "Inspect this machine and a dataset on it; say which settings to change, and why."
EXAMPLES = """\
examples:
  lazygraph doctor
  lazygraph doctor mp.lg
      also open the dataset, read some graphs, and inspect its disk
  lazygraph doctor mp.lg --json
  lazygraph doctor mp.lg --strict && sbatch train.sh
      train only if no setting should change
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of the command to its parser."""
    parser.add_argument("path", nargs="?", metavar="PATH", help="a dataset, or a folder for a new dataset")
    add_json(parser)
    parser.add_argument("--strict", action="store_true", help="exit with 1 if a setting should change")


def run(arguments: argparse.Namespace) -> int:
    """Print the facts and the advice. Changes nothing."""
    if arguments.path is not None and is_url(arguments.path):
        msg = (
            f"{shown(arguments.path)} is on a server, and doctor inspects only this machine; give a folder, such as "
            "the folder of the cache (lazygraph cache)"
        )
        raise InputError(msg)
    if arguments.path is not None and not Path(arguments.path).exists():
        msg = f"there is nothing at {arguments.path}; give a dataset, or a folder for a new dataset"
        raise DatasetNotFound(msg)
    facts = look(arguments.path)
    advice = advise(facts)
    if arguments.json:
        say_json({"facts": asdict(facts), "advice": [asdict(one) for one in advice]})
    else:
        say(*_lines(facts))
        for kind in ("change", "note"):
            for one in advice:
                if one.kind == kind:
                    say("", f"{kind}: {one.what}", f"    because {one.why}")
        if not any(one.kind == "change" for one in advice):
            say("", "no setting needs to change")
    return int(arguments.strict and any(one.kind == "change" for one in advice))


def _lines(facts: MachineFacts) -> Iterator[str]:
    versions = ", ".join(f"{name} {version or 'not installed'}" for name, version in facts.versions.items())
    yield f"versions        {versions}"
    yield f"compiled code   {facts.native or ('used' if facts.has_zstd else 'used, without zstd and XXH3')}"
    limit = "none" if facts.cpu_limit is None else f"{facts.cpu_limit:g}"
    yield f"CPUs            {_told(facts.cpus)}, usable {_told(facts.usable_cpus)}, limit of the container {limit}"
    yield f"OMP_NUM_THREADS {facts.threads or 'not set'}"
    yield f"memory          {_size(facts.memory)}, limit of the container {_size(facts.memory_limit, 'none')}"
    yield f"open files      limit {_told(facts.descriptors)}, hard limit {_told(facts.descriptors_hard)}"
    yield f"start method    {_told(facts.start_method)}"
    yield f"shared memory   {'none' if facts.shm is None else _place(facts.shm)}"
    yield f"temporary files {_place(facts.temporary)}"
    if facts.place is not None:
        yield f"path            {_place(facts.place)}"
    if facts.dataset is not None and facts.dataset.problem is None:
        dataset = facts.dataset
        speed = "" if dataset.microseconds is None else f", {dataset.microseconds:.0f} us per graph from the page cache"
        yield f"dataset         {dataset.graphs:,} graphs in {dataset.shards:,} shards{speed}"


def _place(place: FolderFacts) -> str:
    return f"{place.path}, {_told(place.file_system)}, {_size(place.free)} free"


def _told(value: object) -> str:
    return "unknown" if value is None else str(value)


def _size(size: int | None, otherwise: str = "unknown") -> str:
    return otherwise if size is None else f"{size / 2**30:,.1f} GiB"
