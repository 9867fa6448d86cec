"""The command ``lazygraph cache``."""

from __future__ import annotations

import argparse
import time

from lazygraph.cli.options import add_json
from lazygraph.cli.output import say, say_json
from lazygraph.storage.cache import FOLDER, SIZE, cache, parse_size

SUMMARY = "List, check, shrink or empty the cache of files that came from servers."
EXAMPLES = f"""\
examples:
  lazygraph cache
      the folder, how much it holds, and the datasets whose manifests it keeps
  lazygraph cache --verify
      compare every file with its sha256; remove damaged ones
  lazygraph cache --shrink 50GB
      remove files that were not used for longest, until 50 GB are left
  lazygraph cache --empty
      remove all files; they are fetched again when they are needed

{FOLDER} chooses the folder, and {SIZE} the size that it may have, such as 200GB.
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
    """Do what was asked for, and print what the cache holds."""
    kept, damaged, removed = cache(), [], 0
    if arguments.verify:
        damaged = [entry.sha256 for entry, is_good in kept.verify() if not is_good]
    elif arguments.shrink is not None:
        removed = kept.evict(parse_size(arguments.shrink, "--shrink"))
    elif arguments.empty:
        removed = kept.clear()
    entries, unfinished = kept.entries(), kept.unfinished()
    manifests = sorted(kept.manifests(), key=lambda one: one.url)
    size = sum(entry.size for entry in entries)
    if arguments.json:
        say_json({
            "folder": str(kept.folder),
            "files": len(entries),
            "bytes": size,
            "limit": kept.limit,
            "unfinished_bytes": sum(entry.size for entry in unfinished),
            "datasets": [{"url": one.url, "fetched": one.fetched} for one in manifests],
            "removed_bytes": removed,
            "damaged": damaged,
        })  # fmt: skip
        return 1 if damaged else 0
    limit = "no limit" if kept.limit is None else f"limit {kept.limit:,} bytes"
    say(f"{kept.folder}: {len(entries):,} files, {size:,} bytes ({limit})")
    if unfinished:
        say(f"  {len(unfinished):,} transfers are not finished: {sum(one.size for one in unfinished):,} bytes")
    for one in manifests:
        say(f"  {one.url}  opened {time.strftime('%Y-%m-%d %H:%M', time.localtime(one.fetched))}")
    if removed:
        say(f"removed {removed:,} bytes")
    for sha256 in damaged:
        say(f"damaged and removed: {sha256}")
    if arguments.verify and not damaged:
        say("every file is as it was")
    return 1 if damaged else 0
