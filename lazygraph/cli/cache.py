"""The command ``lazygraph cache``."""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator
from typing import Any

from lazygraph.cli.options import add_json
from lazygraph.cli.output import say, say_json
from lazygraph.storage.cache import FOLDER, SIZE, Cache, cache, parse_size

SUMMARY = "List, check, shrink or empty the cache of files that came from servers."
EXAMPLES = f"""\
examples:
  lazygraph cache
      the folder, how much it holds, and the datasets whose manifests it keeps
  lazygraph cache --verify
      compare every file with its sha256; remove damaged ones
  lazygraph cache --shrink 50GB
      remove the least recently used files, until 50 GB are left
  lazygraph cache --empty
      remove all files; they are fetched again when they are needed

{FOLDER} sets the folder, and {SIZE} its greatest size, such as 200GB.
Files that a process has open are never removed.
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of the command to its parser."""
    action = parser.add_mutually_exclusive_group()
    action.add_argument("--verify", action="store_true", help="compare every file with its sha256")
    action.add_argument("--shrink", metavar="SIZE", help="remove the least recently used files down to this size")
    action.add_argument("--empty", action="store_true", help="remove all files")
    add_json(parser)


def run(arguments: argparse.Namespace) -> int:
    """Verify, shrink or empty the cache, and print its contents."""
    kept, damaged, removed = cache(), [], 0
    if arguments.verify:
        damaged = [entry.sha256 for entry, is_good in kept.verify() if not is_good]
    elif arguments.shrink is not None:
        removed = kept.evict(parse_size(arguments.shrink, "--shrink"))
    elif arguments.empty:
        removed = kept.clear()
    facts = {**_facts(kept), "removed_bytes": removed, "damaged": damaged}
    if arguments.json:
        say_json(facts)
    else:
        say(*_lines(facts), *(["no file is damaged"] if arguments.verify and not damaged else []))
    return 1 if damaged else 0


def _facts(kept: Cache) -> dict[str, Any]:
    entries = kept.entries()
    return {
        "folder": str(kept.folder),
        "files": len(entries),
        "bytes": sum(entry.size for entry in entries),
        "limit": kept.limit,
        "unfinished_bytes": sum(entry.size for entry in kept.unfinished()),
        "catalogue_bytes": sum(entry.size for entry in kept.downloads()),
        "datasets": [
            {"url": one.url, "fetched": one.fetched} for one in sorted(kept.manifests(), key=lambda one: one.url)
        ],
    }


def _lines(facts: dict[str, Any]) -> Iterator[str]:
    limit = "no limit" if facts["limit"] is None else f"limit {facts['limit']:,} bytes"
    yield f"{facts['folder']}: {facts['files']:,} files, {facts['bytes']:,} bytes ({limit})"
    if facts["unfinished_bytes"]:
        yield f"  transfers that are not finished: {facts['unfinished_bytes']:,} bytes"
    if facts["catalogue_bytes"]:
        yield f"  data sets of the catalogue: {facts['catalogue_bytes']:,} bytes, which do not count for the limit"
    for one in facts["datasets"]:
        yield f"  {one['url']}  opened {time.strftime('%Y-%m-%d %H:%M', time.localtime(one['fetched']))}"
    if facts["removed_bytes"]:
        yield f"removed {facts['removed_bytes']:,} bytes"
    for sha256 in facts["damaged"]:
        yield f"damaged and removed: {sha256}"
