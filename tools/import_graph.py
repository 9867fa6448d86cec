"""Which room of the package imports which, as a mermaid drawing; refuses a circle.

    python tools/import_graph.py            print the drawing
    python tools/import_graph.py --write    put it into docs/architecture.md

A room is a folder or a module right below lazygraph. An arrow is left out where others lead there already. Imports
inside functions count; imports for type checking alone do not.
"""

from __future__ import annotations

import argparse
import sys
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import grimp

PAGE = Path(__file__).resolve().parents[1] / "docs" / "architecture.md"
BEGIN, END = "```mermaid\n", "```\n"


def modules():
    """Each module -> the modules of the package that it imports."""
    found = grimp.build_graph("lazygraph", exclude_type_checking_imports=True, cache_dir=None)
    return {module: set(found.find_modules_directly_imported_by(module)) for module in found.modules}


def circle(graph):
    """The modules of one circle of imports, or None."""
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        return error.args[1]
    return None


def rooms(graph):
    """Return room -> the rooms that it imports. ``lazygraph/__init__.py`` is not a room."""
    found = {}
    for module, imported in graph.items():
        for other in (module, *imported):
            found.setdefault(room(other), set())
        found[room(module)] |= {room(other) for other in imported}
    return {name: others - {name, ""} for name, others in found.items() if name}


def room(module):
    return [*module.split("."), ""][1]


def reduced(graph):
    """The graph without the arrows that a longer way replaces."""
    reached = {}
    for name in TopologicalSorter(graph).static_order():  # what is imported comes first
        reached[name] = graph[name].union(*(reached[other] for other in graph[name]))
    return {
        name: {other for other in others if not any(other in reached[third] for third in others - {other})}
        for name, others in graph.items()
    }


def drawing():
    """The rooms as mermaid.

    Raises:
        SystemExit: modules or rooms import one another in a circle.
    """
    graph = modules()
    for found in (circle(graph), circle(rooms(graph))):
        if found:
            sys.exit(f"imports go in a circle: {' <- '.join(found)}")
    arrows = [f"  {name} --> {other}" for name, others in reduced(rooms(graph)).items() for other in others]
    return "\n".join(["graph TD", *sorted(arrows)]) + "\n"


def drawn(text):
    """The text of a page with this drawing in the place of its own."""
    before, _, rest = text.partition(BEGIN)
    return before + BEGIN + drawing() + END + rest.partition(END)[2]


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--write", action="store_true", help="put the drawing into docs/architecture.md")
    if parser.parse_args().write:
        PAGE.write_text(drawn(PAGE.read_text()))
    else:
        sys.stdout.write(drawing())
