"""The command ``lazygraph info``."""

from __future__ import annotations

import argparse
from dataclasses import asdict
from typing import Any

import numpy as np

from lazygraph.cli.options import add_dataset, add_json
from lazygraph.cli.output import say, say_json
from lazygraph.format.columns import Column
from lazygraph.format.manifest import ABOUT, Manifest
from lazygraph.format.schema import Field
from lazygraph.format.store import Store
from lazygraph.graphs.spec import GraphSpec
from lazygraph.writing.split_rules import rule_from_json
from lazygraph.writing.splits import DEFAULT, Splits

SUMMARY = "Describe a dataset: recipe, fields, labels, splits, size, origin, content id."
EXAMPLES = """\
examples:
  lazygraph info mp.lg
  lazygraph info mp.lg --json
  lazygraph info hf://datasets/our-group/crystals/mp.lg
  lazygraph info mp.lg --json | python -c 'import json, sys; print(json.load(sys.stdin)["content_id"])'
"""
SHOWN = 5  # input files that are listed


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of the command to its parser."""
    add_dataset(parser)
    add_json(parser)


def run(arguments: argparse.Namespace) -> int:
    """Print the facts. Reads the manifest and columns of a folder, but no graph; of a server, the manifest alone."""
    store = Store(arguments.dataset)
    facts = facts_of(store)
    if arguments.json:
        say_json(facts)
    else:
        say(*_lines(store.manifest, facts))
    return 0


def facts_of(store: Store) -> dict[str, Any]:
    """Return the facts of the manifest, as ``--json`` prints them."""
    manifest = store.manifest
    size = sum(file.size for file in manifest.files()) + len(manifest.to_bytes())
    # The columns of a dataset on a server are not fetched for this: the manifest says the rest.
    counted = {} if store.is_remote else {axis: f"n_{axis}" for axis in ("node", "edge")}
    atoms, edges = (
        int(store.column(counted[axis]).sum()) if counted.get(axis) in manifest.columns else None
        for axis in ("node", "edge")
    )
    return {
        "path": store.name,
        "graphs": manifest.graphs,
        "atoms": atoms,
        "edges": edges,
        "quarantined": 0 if manifest.quarantine is None else manifest.quarantine.count,
        "recipe": manifest.recipe,
        "fields": manifest.schema.to_json()["fields"],
        "labels": {
            name: {"unit": c.unit, "dtype": np.dtype(c.dtype).name, "shape": list(c.shape[1:]), **_said(c)}
            for name, c in manifest.labels().items()
        },
        "texts": {name: _text_facts(column) for name, column in manifest.texts().items()},
        "splits": {name: _splits(store, name) for name in manifest.splits()},
        "bytes": size,
        "shards": len(manifest.shards),
        "about": manifest.about,
        "provenance": asdict(manifest.provenance),
        "content_id": manifest.content_id,
        "format": ".".join(map(str, manifest.version)),
    }


def _text_facts(column: Column) -> dict[str, Any]:
    """What is said of texts, how many there are, and the different ones where they are a category."""
    names = None if column.categories is None else list(column.categories)
    said = _said(column)
    del said["per"]
    return {**said, "categories": names}


def _said(column: Column) -> dict[str, Any]:
    said = {"per": column.per, "description": column.description, "required": column.required}
    return {**said, **(column.statistics or {})}


def _description(label: dict[str, Any]) -> str:
    required = "; required" if label["required"] else ""
    return required + (f"; {label['description']}" if label["description"] else "")


def _told(facts: dict[str, Any]) -> str:
    names = facts["categories"]
    if names is None:
        told = f"{facts['count']:,} texts" if "count" in facts else "texts"
    else:
        told = ", ".join(names[:SHOWN]) + (f" and {len(names) - SHOWN:,} more" if len(names) > SHOWN else "")
    return told + (f"; {facts['missing']:,} missing" if facts.get("missing") else "")


def _energies(elements: dict[str, float]) -> str:
    return ", ".join(f"{symbol} {energy:.6g}" for symbol, energy in elements.items())


def _splits(store: Store, name: str) -> dict[str, Any]:
    """The sizes of the splits in one column, the number of graphs in none, and the rule.

    Of a dataset on a server, the sizes are not known without its columns.
    """
    if store.is_remote:
        column = store.manifest.columns[name]
        return {"sizes": dict.fromkeys(column.categories or ()), "in_no_split": None, "rule": column.rule}
    found = Splits.of(store, name)
    sizes = {split: int((found.codes == code).sum()) for code, split in enumerate(found.names)}
    return {"sizes": sizes, "in_no_split": found.unsplit, "rule": store.manifest.columns[name].rule}


def _rule(rule: dict[str, Any] | None) -> str:
    return "" if rule is None else f"; {rule_from_json(rule).in_words()}"


def _lines(manifest: Manifest, facts: dict[str, Any]) -> list[str]:
    spec = None if manifest.recipe is None else GraphSpec.from_json(manifest.recipe)
    recipe = "the graphs are ready-made" if spec is None else repr(spec)
    if spec is not None and not spec.rule.has_edges:
        recipe += ": crystals alone"
    counted = ", ".join(f"{facts[key]:,} {key}" for key in ("graphs", "atoms", "edges") if facts[key] is not None)
    size = f"{facts['bytes']:,} bytes, {facts['bytes'] / max(manifest.graphs, 1):,.0f} a graph"
    labels = facts["labels"].items()
    inputs = [file for source in manifest.provenance.sources for file in source.files]
    lines = [
        f"{facts['path']}",
        *(f"  {key.replace('_', ' ')}: {manifest.about[key]}" for key in ABOUT if key in manifest.about),
        f"  {counted}",
        f"  recipe      {recipe}",
        f"  on disk     {size}, in {len(manifest.files()) + 1} files",
        *(
            f"  label       {n}{_unit(label['unit'])}{_per(label)}{_shape(label['shape'])}: "
            f"{_statistics(label)}{_description(label)}"
            for n, label in labels
        ),
        *(f"  elements    {n}: {_energies(label['elements'])}" for n, label in labels if "elements" in label),
        *(f"  text        {name}: {_told(facts)}{_description(facts)}" for name, facts in facts["texts"].items()),
        *(f"  per atom    {field.name}{_unit(field.unit)}{_shape(field.shape)}" for field in _atom_labels(manifest)),
    ]
    for name, split in facts["splits"].items():
        parts = [part if n is None else f"{part} {n:,}" for part, n in split["sizes"].items()]
        parts += [f"{split['in_no_split']:,} graphs in none"] if split["in_no_split"] else []
        of = "" if name == DEFAULT else f"{name}: "
        lines.append(f"  splits      {of}" + ", ".join(parts) + _rule(split["rule"]))
    if manifest.quarantine is not None:
        lines.append(f"  quarantined {manifest.quarantine.count:,} inputs, listed in {manifest.quarantine.file.name}")
    lines += [f"  made from   {f['name']}, {f['size']:,} bytes, sha256 {f['sha256'][:16]}" for f in inputs[:SHOWN]]
    if len(inputs) > SHOWN:
        lines.append(f"              and {len(inputs) - SHOWN:,} more files")
    lines.append("  made with   " + ", ".join(f"{n} {v}" for n, v in manifest.provenance.versions.items()))
    lines += [f"  removed     {len(one.removed):,} graphs: {one.reason}" for one in manifest.history]
    lines.append(f"  content id  {manifest.content_id}")
    return lines


def _atom_labels(manifest: Manifest) -> list[Field]:
    """Return the fields of a crystal with a value an atom that are not the crystal itself."""
    if manifest.recipe is None:
        return []
    return [f for f in manifest.schema.fields if f.axis == "node" and f.name not in ("numbers", "frac_coords")]


def _per(label: dict[str, Any]) -> str:
    return "" if label["per"] is None else f" per {label['per']}"


def _unit(unit: str | None) -> str:
    return "" if unit is None else f" [{unit}]"


def _shape(shape: Any) -> str:
    return f" {tuple(shape)}" if shape else ""


def _statistics(label: dict[str, Any]) -> str:
    if "mean" not in label:
        return "no value"
    text = f"{label['mean']:.4g} ± {label['std']:.4g}, {label['min']:.4g} to {label['max']:.4g}"
    return text + (f", {label['missing']:,} missing" if label["missing"] else "")
