"""Options that several commands share."""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path
from typing import Any

from lazygraph.errors import InputError
from lazygraph.graphs.effort import MAX_IMAGES
from lazygraph.graphs.presets import PRESETS
from lazygraph.graphs.spec import GraphSpec, graph
from lazygraph.sources.dataset import is_dataset
from lazygraph.sources.options import CIF_FORMULA
from lazygraph.sources.time_limit import MAX_SECONDS

__all__ = [
    "add_dataset",
    "add_graph",
    "add_json",
    "add_source",
    "fractions",
    "import_from_here",
    "recipe",
    "source_options",
    "units",
]

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


def add_dataset(parser: argparse.ArgumentParser) -> None:
    """The dataset that a command works on."""
    parser.add_argument("dataset", metavar="NAME.lg", help="the dataset directory")


def add_json(parser: argparse.ArgumentParser) -> None:
    """``--json``."""
    parser.add_argument("--json", action="store_true", help="print JSON, for programs")


def add_source(parser: argparse.ArgumentParser) -> None:
    """Everything that says what is read."""
    parser.add_argument(
        "source",
        nargs="+",
        metavar="SOURCE",
        help="files, folders, globs, datasets, prototypes:N?seed=S, or - for standard input; the kind is told by the "
        "content (see docs/sources.md)",
    )
    parser.add_argument("-o", "--output", required=True, metavar="NAME.lg", help="the dataset directory to make")
    group = parser.add_argument_group("input")
    group.add_argument("--format", help="the input format, instead of recognising it")
    group.add_argument("--id-key", metavar="KEY", help="key or column with the ids (default: jid, material_id, ...)")
    group.add_argument(
        "--structure-key", metavar="KEY", help="key or column with the structure (default: chosen once for a source)"
    )
    group.add_argument(
        "--cif-formula",
        choices=CIF_FORMULA,
        default="error",
        help="a CIF whose sites contradict its formula or Z: quarantine it (error, the default), keep and name it "
        "(warn), or keep it (ignore)",
    )
    group.add_argument(
        "--trust-pickle", action="store_true", help="read pickle files, which can run any code when they are loaded"
    )
    group.add_argument(
        "--label",
        action="append",
        metavar="NAME",
        dest="labels",
        help="keep this label; repeat for more (default: all that are numeric)",
    )
    group.add_argument(
        "--max-images",
        type=int,
        default=MAX_IMAGES,
        metavar="N",
        help="quarantine a structure whose search would look at more images of atoms (default %(default)s)",
    )
    group.add_argument(
        "--max-seconds",
        type=float,
        default=MAX_SECONDS,
        metavar="S",
        help="quarantine an input that takes more processor time, s (default %(default)g; inf for no limit)",
    )
    group.add_argument(
        "--unit",
        action="append",
        metavar="NAME=UNIT",
        dest="units",
        default=[],
        help="unit of a label, such as band_gap=eV; repeat for more",
    )


def add_graph(parser: argparse.ArgumentParser) -> None:
    """Everything that says which edges a graph has."""
    group = parser.add_argument_group("graph")
    group.add_argument(
        "--graph",
        metavar="PRESET",
        help=f"recipe: {', '.join(PRESETS)}, or module:variable for one of your own (default comformer; a dataset "
        "as the only kind of SOURCE keeps its own)",
    )
    group.add_argument("--cutoff", type=float, metavar="A", help="cutoff radius, A (comformer: 4.0)")
    group.add_argument(
        "--max-neighbors", type=int, metavar="K", help="neighbours, or the shell of the K-th (comformer: 25)"
    )
    group.add_argument(
        "--ties",
        choices=("shell", "reference"),
        help="keep shells whole (default), or replay the published code's arithmetic",
    )
    group.add_argument(
        "--tolerance", type=float, metavar="A", help="distances this close are one shell, A (default 1e-4)"
    )
    group.add_argument(
        "--boundary", choices=("<", "<="), help="how a distance is compared with the cutoff (default <=)"
    )
    group.add_argument("--threebody-cutoff", type=float, metavar="A", help="bonds that make angles, A (m3gnet: 4.0)")
    group.add_argument("--bond-cutoff", type=float, metavar="A", help="bonds of the bond graph, A (chgnet: 3.0)")
    group.add_argument(
        "--no-lattice-edges",
        dest="lattice_edges",
        action="store_const",
        const=False,
        help="comformer or matformer without the edges along the lattice vectors",
    )
    output = parser.add_argument_group("output")
    output.add_argument("--overwrite", action="store_true", help="replace a dataset that is there already")
    output.add_argument("--level", type=int, default=9, help="zstd level, 1 to 22 (default %(default)s)")
    output.add_argument("--shard-size", type=int, metavar="N", help="inputs a shard (default: from their number)")


def recipe(arguments: argparse.Namespace) -> GraphSpec | None:
    """The recipe that was asked for, or None where none was.

    Raises:
        InputError: a parameter was given without the preset, and the input is a dataset, which has a recipe.
    """
    options = {name: getattr(arguments, name) for name in GRAPH_OPTIONS}
    given = {name: value for name, value in options.items() if value is not None}
    if arguments.graph is None and not given:
        return None
    datasets = [path for path in arguments.source if is_dataset(Path(path))]
    if arguments.graph is None and datasets:
        names = ", ".join(given)
        msg = f"found {names} without --graph for the dataset {datasets[0]}; required: --graph PRESET beside it"
        raise InputError(msg)
    if arguments.graph is not None and ":" in arguments.graph:
        import_from_here()
    return graph(arguments.graph or "comformer", **given)


def import_from_here() -> None:
    """Let ``module:name``, which the user has given, be found in the current folder.

    The folder comes after everything installed: a file in it, which may be a stranger's, is in no package's place.
    """
    here = os.getcwd()  # noqa: PTH109  # sys.path holds texts
    if here not in sys.path:
        sys.path.append(here)


def source_options(arguments: argparse.Namespace) -> dict[str, Any]:
    """The keyword arguments of ``write`` and ``plan`` that ``add_source`` and ``add_graph`` read."""
    return {
        "graph": recipe(arguments),
        "overwrite": arguments.overwrite,
        "format": arguments.format,
        "id_key": arguments.id_key,
        "cif_formula": arguments.cif_formula,
        "structure_key": arguments.structure_key,
        "trust_pickle": arguments.trust_pickle,
        "labels": arguments.labels,
        "units": units(arguments.units),
        "level": arguments.level,
        "shard_size": arguments.shard_size,
        "max_images": arguments.max_images,
        "max_seconds": arguments.max_seconds,
    }


def units(pairs: list[str]) -> dict[str, str]:
    """``NAME=UNIT`` texts as a mapping; InputError for any other form."""
    out = {}
    for pair in pairs:
        name, separator, unit = pair.partition("=")
        if not (name and separator and unit):
            msg = f"found --unit {pair!r}; required: NAME=UNIT, such as band_gap=eV"
            raise InputError(msg)
        out[name] = unit
    return out


def fractions(text: str) -> tuple[float, ...]:
    """``0.8,0.1,0.1`` as numbers; InputError for any other form."""
    try:
        return tuple(float(part) for part in text.split(","))
    except ValueError:
        msg = f"found the fractions {text!r}; required: train,val,test such as 0.8,0.1,0.1"
        raise InputError(msg) from None
