"""Options that several commands share."""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path
from typing import Any

from lazygraph.errors import InputError
from lazygraph.format.codec import CODECS
from lazygraph.format.frozen_subset import FrozenSubset
from lazygraph.graphs.effort import MAX_IMAGES
from lazygraph.graphs.presets import PRESETS
from lazygraph.graphs.spec import GraphSpec, graph
from lazygraph.sources.dataset import is_dataset
from lazygraph.sources.options import CIF_FORMULA, SourceOptions
from lazygraph.sources.table import read_text
from lazygraph.sources.time_limit import MAX_SECONDS
from lazygraph.storage.files import is_whole_manifest
from lazygraph.writing.descriptions import Descriptions
from lazygraph.writing.options import InputOptions, WriteOptions
from lazygraph.writing.split_rules import SplitRule

__all__ = [
    "GRAPH_OPTIONS",
    "add_dataset",
    "add_descriptions",
    "add_graph",
    "add_json",
    "add_part",
    "add_recipe",
    "add_source",
    "add_splits",
    "fractions",
    "ids_of",
    "import_from_here",
    "input_options",
    "named",
    "recipe",
    "refuse_options_of_new_datasets",
    "said_of_labels",
    "split_rule",
    "units",
    "write_options",
]

CODEC = "zstd"
LEVEL = 9  # of zstd

GRAPH_OPTIONS = (
    "cutoff",
    "max_neighbors",
    "ties",
    "tolerance",
    "boundary",
    "threebody_cutoff",
    "bond_cutoff",
    "lattice_edges",
)


def add_dataset(parser: argparse.ArgumentParser, what: str = "the dataset: a directory or a URL") -> None:
    """Add the argument for the dataset that a command works on.

    Args:
        parser: the parser of the command.
        what: the help text. Commands that change a dataset accept no URL.
    """
    parser.add_argument("dataset", metavar="NAME.lg", help=what)


def add_json(parser: argparse.ArgumentParser) -> None:
    """Add ``--json``."""
    parser.add_argument("--json", action="store_true", help="print JSON for programs")


def add_part(parser: argparse.ArgumentParser) -> None:
    """Add the options that choose some graphs of a dataset; ``ids_of`` reads the last two."""
    parser.add_argument("--where", metavar="CONDITION", help="keep the graphs that meet this condition on columns")
    parser.add_argument("--split", metavar="NAME", help="keep the graphs of this split")
    parser.add_argument("--ids", action="append", default=[], metavar="ID", help="an id to keep; repeat for more")
    parser.add_argument(
        "--ids-from", metavar="FILE", help="a file with one id per line, or a subset that save_subset wrote"
    )


def add_source(parser: argparse.ArgumentParser) -> None:
    """Add the arguments that say what to read."""
    parser.add_argument(
        "source",
        nargs="+",
        metavar="SOURCE",
        help="files, folders, globs, datasets, prototypes:N?seed=S, names of the catalogue (lazygraph catalogue), or - "
        "for standard input; the content decides the kind (see docs/sources.md)",
    )
    parser.add_argument("-o", "--output", required=True, metavar="NAME.lg", help="the dataset directory to write")
    group = parser.add_argument_group("input")
    group.add_argument("--format", help="the input format (default: recognised by content)")
    group.add_argument("--id-key", metavar="KEY", help="key or column of the ids (default: jid, material_id, ...)")
    group.add_argument(
        "--structure-key", metavar="KEY", help="key or column of the structures (default: chosen once for each source)"
    )
    group.add_argument(
        "--cif-formula",
        choices=CIF_FORMULA,
        default="error",
        help="what to do with a CIF whose sites contradict its formula or Z: quarantine it (error, the default), keep "
        "and report it (warn), or keep it (ignore)",
    )
    group.add_argument(
        "--trust-pickle", action="store_true", help="load pickle files; a pickle can run any code when it is loaded"
    )
    group.add_argument(
        "--label",
        action="append",
        metavar="NAME",
        dest="labels",
        help="keep only this label; repeat for more (default: all numbers and texts)",
    )
    group.add_argument(
        "--max-images",
        type=int,
        default=MAX_IMAGES,
        metavar="N",
        help="quarantine a structure whose neighbour search would examine more than N images of atoms "
        "(default %(default)s)",
    )
    group.add_argument(
        "--max-seconds",
        type=float,
        default=MAX_SECONDS,
        metavar="S",
        help="quarantine an input that takes more than S seconds of processor time (default %(default)g; inf for no "
        "limit)",
    )
    group.add_argument(
        "--unit",
        action="append",
        metavar="NAME=UNIT",
        dest="units",
        default=[],
        help="unit of a label, such as band_gap=eV; repeat for more",
    )
    add_descriptions(parser)
    parser.add_argument(
        "--about",
        action="append",
        metavar="KEY=TEXT",
        default=[],
        help="describe the dataset; KEY is title, description, license, citation, doi, homepage or level_of_theory; "
        "repeat for more",
    )


def add_descriptions(parser: argparse.ArgumentParser) -> None:
    """Add the options that describe labels."""
    group = parser.add_argument_group("descriptions of labels")
    group.add_argument(
        "--per",
        action="append",
        metavar="NAME=cell|atom",
        default=[],
        help="say whether a label is per cell or per atom, such as energy=cell; repeat for more",
    )
    group.add_argument(
        "--describe",
        action="append",
        metavar="NAME=TEXT",
        default=[],
        help="describe a label in one line; repeat for more",
    )
    group.add_argument(
        "--required",
        action="append",
        metavar="NAME",
        default=[],
        help="a label that every graph must have, such as charge; a write or an append quarantines a structure without "
        "it; repeat for more",
    )


def add_graph(parser: argparse.ArgumentParser) -> None:
    """Add the arguments that say which edges a graph has, and how the dataset is written."""
    add_recipe(parser, default="default comformer; if every SOURCE is a dataset, their common recipe")
    add_output(parser)


def add_recipe(parser: argparse.ArgumentParser, default: str | None = None) -> None:
    """Add the arguments that say which edges a graph has.

    Args:
        parser: takes the arguments.
        default: what happens without ``--graph``; None if it is required.
    """
    group = parser.add_argument_group("graph")
    group.add_argument(
        "--graph",
        metavar="PRESET",
        required=default is None,
        help=f"recipe: {', '.join(PRESETS)}, or module:variable for your own{f' ({default})' if default else ''}",
    )
    group.add_argument("--cutoff", type=float, metavar="A", help="cutoff radius, A (comformer: 4.0)")
    group.add_argument(
        "--max-neighbors",
        type=int,
        metavar="K",
        help="number of neighbours; for shells, the K-th neighbour sets the radius (comformer: 25)",
    )
    group.add_argument(
        "--ties",
        choices=("shell", "reference"),
        help="keep shells whole (default), or repeat the arithmetic of the published code",
    )
    group.add_argument(
        "--tolerance",
        type=float,
        metavar="A",
        help="largest difference of distances within one shell, A (default 1e-4)",
    )
    group.add_argument("--boundary", choices=("<", "<="), help="comparison of a distance with the cutoff (default <=)")
    group.add_argument(
        "--threebody-cutoff", type=float, metavar="A", help="longest edge that forms angles, A (m3gnet: 4.0)"
    )
    group.add_argument("--bond-cutoff", type=float, metavar="A", help="longest edge of the bond graph, A (chgnet: 3.0)")
    group.add_argument(
        "--no-lattice-edges",
        dest="lattice_edges",
        action="store_const",
        const=False,
        help="leave out the edges along the lattice vectors (comformer, matformer)",
    )


def add_output(parser: argparse.ArgumentParser) -> None:
    """Add the arguments that say how a dataset is written."""
    output = parser.add_argument_group("output")
    output.add_argument("--overwrite", action="store_true", help="replace an existing dataset")
    output.add_argument(
        "--codec",
        choices=tuple(CODECS),
        help=f"compression of the records; none is faster to read and takes about twice the bytes (default {CODEC})",
    )
    output.add_argument("--level", type=int, help=f"zstd level, 1 to 22 (default {LEVEL})")
    output.add_argument(
        "--shard-size", type=int, metavar="N", help="inputs per shard (default: chosen from their number)"
    )


def add_splits(parser: argparse.ArgumentParser) -> None:
    """Add the options that split what is written."""
    splits = parser.add_argument_group("splits")
    splits.add_argument(
        "--split",
        metavar="TRAIN,VAL,TEST",
        help="split at random by these fractions, such as 0.8,0.1,0.1. With --append: fractions of the new graphs, or "
        "the name of one split for all of them (default with --append: the rule that the dataset was split by)",
    )
    splits.add_argument("--seed", type=int, default=123, help="random seed of the splits (default %(default)s)")
    splits.add_argument(
        "--group",
        metavar="COLUMN",
        help="keep graphs with the same value in one split: formula, chemical_system, or a label",
    )


def split_rule(arguments: argparse.Namespace, *, named: bool) -> SplitRule | str | None:
    """Return the splits that the options of ``add_splits`` ask for, or None if they ask for none.

    Args:
        arguments: the parsed arguments.
        named: whether the name of one split may be given in place of fractions.

    Raises:
        InputError: they are neither fractions nor a name that may be given.
    """
    text: str | None = arguments.split
    if text is None or (named and "," not in text):
        return text
    return SplitRule(fractions(text), arguments.seed, arguments.group)


def refuse_options_of_new_datasets(arguments: argparse.Namespace, *, retries: bool = False) -> None:
    """Refuse what ``lazygraph.append`` and ``lazygraph.retry_quarantined`` do not take.

    Raises:
        InputError: such an option was given.
    """
    given = {
        **{name: getattr(arguments, name) is not None for name in ("graph", *GRAPH_OPTIONS, "codec", "level")},
        "overwrite": arguments.overwrite,
        **{name: bool(getattr(arguments, name)) for name in ("per", "describe", "required", "about")},
    }
    if retries:
        given |= {"label": arguments.labels is not None, "unit": bool(arguments.units)}
    if names := [name for name, is_given in given.items() if is_given]:
        option = "no-lattice-edges" if names[0] == "lattice_edges" else names[0].replace("_", "-")
        adding = "--retry-quarantined" if retries else "--append"
        msg = (
            f"--{option} cannot be combined with {adding}, because the dataset keeps its graphs, recipe, labels and "
            "compression"
        )
        raise InputError(msg)


def recipe(arguments: argparse.Namespace) -> GraphSpec | None:
    """Return the recipe that the arguments name, or None if they name none.

    Raises:
        InputError: a parameter without ``--graph``, for a dataset, which has its own recipe.
    """
    options = {name: getattr(arguments, name) for name in GRAPH_OPTIONS}
    given = {name: value for name, value in options.items() if value is not None}
    if arguments.graph is None and not given:
        return None
    datasets = [path for path in getattr(arguments, "source", []) if is_dataset(Path(path))]
    if arguments.graph is None and datasets:
        names = ", ".join(given)
        msg = f"{names} needs --graph PRESET, because the source {datasets[0]} is a dataset"
        raise InputError(msg)
    if arguments.graph is not None and ":" in arguments.graph:
        import_from_here()
    return graph(arguments.graph or "comformer", **given)


def import_from_here() -> None:
    """Let Python find the user's ``module:name`` in the current folder.

    The folder comes after everything that is installed, so a stranger's file in it cannot replace a package.
    """
    here = os.getcwd()  # noqa: PTH109  # sys.path holds texts
    if here not in sys.path:
        sys.path.append(here)


def input_options(arguments: argparse.Namespace) -> InputOptions:
    """Return how inputs are read, from the options of ``add_source``."""
    of_sources = SourceOptions(arguments.cif_formula, arguments.structure_key, arguments.trust_pickle)
    return InputOptions(arguments.format, arguments.id_key, of_sources)


def write_options(arguments: argparse.Namespace) -> WriteOptions:
    """Return what is written, from the options of ``add_source`` and ``add_graph``."""
    return WriteOptions(
        arguments.labels,
        units(arguments.units),
        CODEC if arguments.codec is None else arguments.codec,
        LEVEL if arguments.level is None else arguments.level,
        arguments.shard_size,
        arguments.max_images,
        arguments.max_seconds,
        _descriptions(arguments),
        about=named(arguments.about, "--about", "KEY=TEXT, such as title='Relaxed oxides'"),
    )


def ids_of(arguments: argparse.Namespace) -> list[str] | None:
    """Return the ids of ``--ids`` and of the file of ``--ids-from``; None if neither was given.

    The file has one id a line, or is a subset that ``save_subset`` wrote.
    """
    if not arguments.ids and arguments.ids_from is None:
        return None
    text = "" if arguments.ids_from is None else read_text(arguments.ids_from, "a file with one id a line")
    if is_whole_manifest(text.encode()):
        return [*arguments.ids, *FrozenSubset.from_bytes(text.encode(), arguments.ids_from).ids]
    # Not splitlines() and strip(): an id may hold other line ends and spaces.
    lines = (line.removesuffix("\r") for line in text.split("\n"))
    return [*arguments.ids, *(line for line in lines if line)]


def units(pairs: list[str]) -> dict[str, str]:
    """Parse ``NAME=UNIT`` texts into a mapping; any other form raises InputError."""
    return named(pairs, "--unit", "NAME=UNIT, such as band_gap=eV")


def named(pairs: list[str], option: str, form: str) -> dict[str, str]:
    """Parse ``NAME=TEXT`` texts into a mapping.

    Args:
        pairs: the texts.
        option: that they were given to, for the error.
        form: what they must look like, for the error.

    Raises:
        InputError: a text has another form.
    """
    out = {}
    for pair in pairs:
        name, separator, value = pair.partition("=")
        if not (name and separator and value):
            msg = f"found {option} {pair!r}; required: {form}"
            raise InputError(msg)
        try:
            pair.encode()
        except UnicodeEncodeError:
            msg = f"{option} {pair!r} cannot be written as UTF-8; give text that is valid UTF-8"
            raise InputError(msg) from None
        out[name] = value
    return out


def _descriptions(arguments: argparse.Namespace) -> Descriptions:
    said = said_of_labels(arguments)
    return Descriptions(said["per"], said["describe"], said["required"])


def said_of_labels(arguments: argparse.Namespace) -> dict[str, Any]:
    """Return ``per``, ``describe`` and ``required`` from the options of ``add_descriptions``."""
    return {
        "per": named(arguments.per, "--per", "NAME=cell or NAME=atom"),
        "describe": named(arguments.describe, "--describe", "NAME=TEXT"),
        "required": tuple(arguments.required),
    }


def fractions(text: str) -> tuple[float, ...]:
    """Parse ``0.8,0.1,0.1`` into numbers; any other form raises InputError."""
    try:
        return tuple(float(part) for part in text.split(","))
    except ValueError:
        msg = f"found the fractions {text!r}; required: train,val,test such as 0.8,0.1,0.1"
        raise InputError(msg) from None
