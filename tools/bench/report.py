"""Puts the results of the benchmarks into docs/benchmarks.json and their tables into docs/benchmarks.md.

    python tools/bench/report.py RESULTS    every RESULTS/NAME.json becomes the result of benchmark NAME
    python tools/bench/report.py            only writes the tables again

`--page reliability` does the same for the runs of tools/soak. The tables of NAME stand in the page between
`<!-- begin NAME -->` and `<!-- end NAME -->`; all other text is written by hand.
"""

from __future__ import annotations

import argparse
import json
import re
from pathlib import Path

import common

DOCS = Path(__file__).resolve().parents[2] / "docs"


def page(text, results):
    """The page with the tables of these results in their places."""
    for name, result in results.items():
        begin, end = f"<!-- begin {name} -->", f"<!-- end {name} -->"
        pattern = re.compile(f"{begin}.*?{end}", re.DOTALL)
        if not pattern.search(text):
            raise SystemExit(f"found no {begin} ... {end} in the page; required: one for every result")
        body = f"{begin}\n\n{section(result)}\n\n{end}"
        text = pattern.sub(lambda _, body=body: body, text, count=1)
    return text


def section(result):
    tables = result.get("tables") or {"": result["table"]}
    parts = [
        part for title, table in tables.items() for part in (f"**{title}**" * bool(title), markdown(table)) if part
    ]
    machine, versions = result["machine"], result["versions"]
    memory = f", {machine['memory_gib']} GiB" if "memory_gib" in machine else ""
    told = f"{machine['processor']}, {machine['cores']} cores{memory}; {machine['system']}; "
    told += ", ".join(f"{name} {number}" for name, number in versions.items())
    rounds = result["repeats"]
    cache = f"; cache {result['cache']}" if "cache" in result else ""
    return "\n\n".join([*parts, f"{rounds} round{'s' * (rounds > 1)}{cache}; {told}."])


def markdown(table):
    heading, *rows = common.grid(table)
    rule = ["---", *(["---:"] * (len(heading) - 1))]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in (heading, rule, *rows))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("results", type=Path, nargs="?", help="a folder of NAME.json files")
    parser.add_argument("--page", default="benchmarks", help="the page, docs/PAGE.md and docs/PAGE.json")
    parser.add_argument("--docs", type=Path, default=DOCS, help="the folder of the page")
    options = parser.parse_args()
    stored, text = options.docs / f"{options.page}.json", options.docs / f"{options.page}.md"
    results = json.loads(stored.read_text()) if stored.exists() else {}
    if options.results:
        results |= {file.stem: json.loads(file.read_text()) for file in sorted(options.results.glob("*.json"))}
        stored.write_text(json.dumps(results, indent=1) + "\n")
    text.write_text(page(text.read_text(), results))


if __name__ == "__main__":
    main()
