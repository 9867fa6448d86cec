"""The command ``lazygraph catalogue``."""

from __future__ import annotations

import argparse
from dataclasses import asdict
from typing import Any

from lazygraph.cli.options import add_json
from lazygraph.cli.output import say, say_json
from lazygraph.errors import InputError
from lazygraph.sources.catalogue.download import downloaded, entry_of, folder_of, is_downloaded
from lazygraph.sources.catalogue.table import CatalogueEntry, CatalogueFile, catalogue

SUMMARY = "List public data sets that you can write by name: addresses, checksums, licences, citations."
EXAMPLES = """\
examples:
  lazygraph catalogue
      list all data sets
  lazygraph catalogue matbench:phonons
      show the facts of one data set: files, checksums, licence, citation, published splits
  lazygraph-write matbench:phonons -o phonons.lg
      download it, and write it with its splits, licence and citation
  lazygraph catalogue hf:LeMaterial/LeMat-Bulk/compatible_pbe
      the Parquet files in a folder of a repository of the Hugging Face Hub
  lazygraph catalogue cdvae:mp_20 --download
      download the files alone, and print where they are
"""
UNKNOWN = "not known"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of the command to its parser."""
    parser.add_argument(
        "name",
        nargs="?",
        metavar="NAME",
        help="a data set, such as jarvis:dft_3d, or hf:ORG/NAME/FOLDER (default: list all)",
    )
    parser.add_argument("--download", action="store_true", help="download its files into the cache of this machine")
    add_json(parser)


def run(arguments: argparse.Namespace) -> int:
    """Print the catalogue, or one of its data sets."""
    if arguments.name is None:
        if arguments.download:
            msg = "--download needs the name of one data set, as lazygraph catalogue lists them"
            raise InputError(msg)
        _list(as_json=arguments.json)
        return 0
    entry = entry_of(arguments.name)
    if arguments.download:
        paths = [str(path) for path in downloaded(entry)]
        if arguments.json:
            say_json(paths)
        else:
            say(*paths)
    elif arguments.json:
        say_json(_json(entry))
    else:
        _print(entry)
    return 0


def _list(*, as_json: bool) -> None:
    entries = list(catalogue().values())
    if as_json:
        say_json([_json(entry) for entry in entries])
        return
    width = max(len(entry.name) for entry in entries)
    for entry in entries:
        graphs = "" if entry.graphs is None else f"{entry.graphs:,}"
        said = [entry.title]
        said += [f"splits: {', '.join(entry.splits)}"] if entry.splits else []
        said += [f"{entry.folds.number} folds"] if entry.folds else []
        said += ["for download alone"] if entry.unpack else []
        said += ["no addresses"] if not entry.files else []
        say(f"{entry.name:{width}}  {graphs:>10}  {'; '.join(said)}")
    say(
        "",
        "The addresses are those of the projects that publish the data. None of these addresses was tested.",
    )


def _json(entry: CatalogueEntry) -> dict[str, Any]:
    return {**asdict(entry), "downloaded": is_downloaded(entry)}


def _print(entry: CatalogueEntry) -> None:
    say(entry.name, f"  {entry.title}")
    graphs = UNKNOWN if entry.graphs is None else f"{entry.graphs:,}"
    for what, value in (
        ("structures", graphs),
        ("licence", entry.license),
        ("cite", entry.citation),
        ("doi", entry.doi),
        ("homepage", entry.homepage),
        ("splits", _splits(entry)),
    ):
        say(f"  {what:<12}{value or UNKNOWN}")
    for file in entry.files:
        say(f"  {'file':<12}{file.name}", f"    address   {file.url} (untested)")
        say(f"    size      {UNKNOWN if file.size is None else f'{file.size:,} bytes'}", f"    sum       {_sums(file)}")
    if not entry.files:
        say(f"  {'files':<12}{UNKNOWN}")
    if entry.unpack:
        say(f"  {'to read':<12}it is {entry.unpack}")
    say(f"  {'facts from':<12}{entry.facts}")
    if is_downloaded(entry):
        say(f"  {'downloaded':<12}{folder_of(entry.name)}")


def _splits(entry: CatalogueEntry) -> str:
    """What is known of published splits."""
    if entry.splits:
        return f"{', '.join(entry.splits)}, in the column split"
    if entry.folds is None:
        return "none in this catalogue"
    last = entry.folds.number - 1
    how = f", stratified by {entry.folds.stratify}" if entry.folds.stratify else ""
    return f"{entry.folds.number} official folds{how}, in the columns fold_0 to fold_{last}"


def _sums(file: CatalogueFile) -> str:
    names = {"git": "git blob"}
    return ", ".join(f"{names.get(name, name)} {value}" for name, value in file.sums.items()) or UNKNOWN
