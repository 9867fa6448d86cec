"""The card of a dataset: the ``README.md`` that the Hugging Face Hub shows, made from the manifest."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from urllib.parse import urlsplit

from lazygraph.format.columns import Column
from lazygraph.format.manifest import Manifest
from lazygraph.graphs.spec import GraphSpec
from lazygraph.text import printable, shortened

__all__ = ["card", "updated_card"]

LONGEST = 300  # characters of a text of the dataset in a table
SIZES = ((1_000, "n<1K"), (10_000, "1K<n<10K"), (100_000, "10K<n<100K"), (1_000_000, "100K<n<1M"),
         (10_000_000, "1M<n<10M"), (100_000_000, "10M<n<100M"), (10**9, "100M<n<1B"))  # fmt: skip
# What the Hub takes as the name of a licence; the text of another one stands under "other".
LICENSES = {
    "cc by 4.0": "cc-by-4.0", "cc-by-4.0": "cc-by-4.0", "cc by": "cc-by-4.0", "cc0": "cc0-1.0", "cc0 1.0": "cc0-1.0",
    "cc0-1.0": "cc0-1.0", "cc by-nc 4.0": "cc-by-nc-4.0", "cc-by-nc-4.0": "cc-by-nc-4.0",
    "cc by-sa 4.0": "cc-by-sa-4.0", "cc-by-sa-4.0": "cc-by-sa-4.0", "mit": "mit", "apache 2.0": "apache-2.0",
    "apache-2.0": "apache-2.0", "bsd-3-clause": "bsd-3-clause", "gpl-3.0": "gpl-3.0", "odbl": "odbl",
}  # fmt: skip


def card(manifest: Manifest, url: str) -> str:
    """Return the card of a dataset.

    Args:
        manifest: the dataset.
        url: where it is published.
    """
    return updated_card(None, manifest, url)


def updated_card(old: str | None, manifest: Manifest, url: str) -> str:
    """Return a card in which the part of a dataset is new, and everything else as it was.

    The part stands between two comments that name the folder of the dataset, so a repository may hold several.

    Args:
        old: the existing card, or None.
        manifest: the dataset.
        url: where it is published.
    """
    name = re.sub(r"[^A-Za-z0-9_.@-]+", "-", urlsplit(url).path.rstrip("/").rpartition("/")[2]) or "dataset"
    begin, end = f"<!-- lazygraph:begin {name} -->", f"<!-- lazygraph:end {name} -->"
    part = "\n".join([begin, *_part(manifest, url), end])
    if old is None:
        return "\n".join([*_head(manifest), "", part, ""])
    first, last = old.find(begin), old.find(end)
    if first < 0 or last < first:
        return old.rstrip("\n") + f"\n\n{part}\n"
    return old[:first] + part + old[last + len(end) :]


def _head(manifest: Manifest) -> Iterator[str]:
    """The lines of YAML that the Hub reads. Texts are written as JSON, which is YAML too."""
    about = manifest.about
    yield "---"
    if "title" in about:
        yield f"pretty_name: {json.dumps(_line(about['title']))}"
    if "license" in about:
        known = LICENSES.get(about["license"].strip().lower())
        yield f"license: {known or 'other'}"
        if known is None:
            yield f"license_name: {json.dumps(_line(about['license']))}"
    yield "tags:"
    yield from (f"- {tag}" for tag in ("chemistry", "materials-science", "graphs", "lazygraph"))
    yield "size_categories:"
    yield f"- {next((name for limit, name in SIZES if manifest.graphs < limit), 'n>1T')}"
    yield "---"


def _part(manifest: Manifest, url: str) -> Iterator[str]:
    about = manifest.about
    yield f"# {_text(about.get('title', 'Crystal graphs'))}"
    yield ""
    if "description" in about:
        yield from (_text(about["description"]), "")
    size = sum(file.size for file in manifest.files())
    yield "| | |"
    yield "|---|---|"
    yield f"| graphs | {manifest.graphs:,} |"
    yield f"| recipe | `{_code(_recipe(manifest))}` |"
    yield f"| size | {size / 1e6:,.1f} MB in {len(manifest.files()) + 1} files |"
    for key in ("license", "citation", "doi", "homepage", "level_of_theory"):
        if key in about:
            yield f"| {key.replace('_', ' ')} | {_text(about[key])} |"
    for name, column in manifest.splits().items():
        yield f"| splits `{_code(name)}` | {_text(', '.join(column.categories or ()))} |"
    if manifest.quarantine is not None:
        yield f"| inputs that could not be read | {manifest.quarantine.count:,} |"
    yield f"| content id | `{manifest.content_id}` |"
    labels = manifest.all_labels()
    if labels:
        yield from ("", "| label | unit | mean | standard deviation | least | greatest | missing |")
        yield "|---|---|---|---|---|---|---|"
        yield from (_row(name, column) for name, column in labels.items())
    yield ""
    yield "Written with lazygraph, which reads it graph by graph:"
    yield ""
    yield "```python"
    yield "import lazygraph as lg"
    yield ""
    yield f"ds = lg.LazyGraphDataset({printable(url)!r})"
    yield "loader = lg.loader(ds, batch_size=64, shuffle=True)"
    yield "```"
    yield ""
    yield "To pin exactly these graphs:"
    yield ""
    yield "```bash"
    yield f"lazygraph pull {printable(url)} -o {_folder(url)} --content-id {manifest.content_id}"
    yield "```"


def _folder(url: str) -> str:
    name = re.sub(r"[^A-Za-z0-9_.-]+", "-", url.rstrip("/").rpartition("/")[2])
    return name if name.endswith(".lg") else f"{name}.lg"


def _recipe(manifest: Manifest) -> str:
    if manifest.recipe is None:
        return "the graphs are ready-made"
    return repr(GraphSpec.from_json(manifest.recipe))


def _row(name: str, column: Column) -> str:
    found = column.statistics or {}
    numbers = [f"{found[key]:.6g}" if key in found else "" for key in ("mean", "std", "min", "max")]
    per = f" per {column.per}" if column.per else ""
    missing = f"{found.get('missing', 0):,}"
    return "| " + " | ".join([f"`{_code(name)}`", _text((column.unit or "") + per), *numbers, missing]) + " |"


def _line(text: str) -> str:
    return shortened(printable(text), LONGEST)


def _text(text: str) -> str:
    """A text of a dataset in Markdown, where it is nothing but text."""
    return re.sub(r"([\\`*_{}\[\]<>()#|!~$&@])", r"\\\1", _line(text))


def _code(text: str) -> str:
    """A text of a dataset as code in a table."""
    return _line(text).replace("`", "'").replace("|", "\\|")
