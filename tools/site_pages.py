"""A hook of mkdocs: the pages of the site that are made of the code, and the links between the site and the repository.

The pages in docs/ are written for GitHub, and the site shows them as they are. This module adds what the site needs:

- ``reference/``: one page for each group of public names, which mkdocstrings fills from docstrings and types, and one
  page with the help of every command;
- ``project/``: pages of the repository outside docs/, such as CHANGELOG.md, and files that pages link to, such as the
  examples. Links to them lead to these pages;
- notebooks, with the outputs that are stored in them.

mkdocs reads Markdown as Python-Markdown does. Two differences from GitHub are evened out: the indentation of lists, and
the drawing in docs/architecture.md, which would need a script from a server.
"""

from __future__ import annotations

import ast
import base64
import json
import logging
import os
import posixpath
import re
import runpy
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
DOCS = ROOT / "docs"
LOG = logging.getLogger("mkdocs.hooks.site_pages")

# Page -> title, introduction, names. ``module.*`` stands for all names that the module lists as public.
REFERENCE = {
    "writing": (
        "Writing",
        "Turn structures into a dataset, and change a dataset that is there.",
        [
            "write", "append", "retry_quarantined", "Report", "GraphWriter", "set_splits",
            "writing.edit.SplitReport", "concat", "subset", "writing.copy.CopyReport", "remove",
            "writing.remove.RemoveReport", "duplicates", "writing.duplicates.Duplicates", "count",
            "writing.count.CountReport",
        ],
    ),
    "loading": (
        "Datasets and loaders",
        "Open a dataset, select graphs, and load batches.",
        [
            "LazyGraphDataset", "loader", "Loader", "mix", "Mix", "collate", "find_budget", "view", "View", "Rattle",
            "Rotate", "Strain", "Supercell", "CrystalBatch", "diff", "reading.diff.DatasetDiff",
        ],
    ),
    "graphs": (
        "Crystals and graphs",
        "A crystal, the recipe of its graph, and the graph.",
        ["Crystal", "graph", "GraphSpec", "CrystalGraph"],
    ),
    "training": (
        "Training",
        "Train a model on a dataset, and predict with it. Needs the extra `train`.",
        [
            "train", "TrainOptions", "training.results.Results", "train_from_list", "train_ensemble", "cross_validate",
            "find_learning_rate", "training.rate_finder.LearningRates", "predict",
            "training.predict.Predictions", "training.report.Prediction", "LazyGraphDataModule",
            "training.models.*",
        ],
    ),
    "interop": (
        "Other trainers",
        "Batches for the trainers of matgl, chgnet, mace-torch and metatrain: [Other trainers](../interop.md).",
        ["interop.matgl.*", "interop.chgnet.*", "interop.mace.*", "interop.metatrain.*"],
    ),
    "sharing": (
        "Sharing",
        "Publish a dataset, copy it, export it, and describe it.",
        [
            "push", "sharing.push.PushReport", "pull", "sharing.pull.PullReport", "export", "ExportReport", "report",
            "sharing.report.ReportFile",
        ],
    ),
    "executors": (
        "Executors",
        "Write a dataset with the workers of a cluster: `lg.write(..., executor=)`.",
        ["executors.*"],
    ),
    "errors": (
        "Errors",
        "Every error that lazygraph raises on purpose, and the built-in exception that it also is.",
        ["errors.*"],
    ),
    "plugins": (
        "Plug-ins",
        "What a plug-in subclasses, calls or returns. [Write a plug-in](../guide/plugins.md) shows how.",
        [
            "graphs.Preset", "graphs.Rule", "graphs.Radius", "graphs.Nearest", "graphs.Shell", "graphs.NoEdges",
            "graphs.ChosenEdges", "graphs.neighbors.Search", "graphs.Angles", "graphs.Triplets", "graphs.LineGraph",
            "graphs.WholeLineGraph", "graphs.BondGraph", "reading.views.base.Arrays", "reading.views.base.cast",
            "reading.crystals.Crystals", "sources.base.Source", "sources.base.Cut", "sources.base.Entry",
            "sources.base.Scan", "sources.base.attempt", "sources.base.hash_file", "sources.base.read_entry",
            "sharing.exports.base.CrystalFormat", "sharing.exports.base.GraphFormat",
            "sharing.exports.base.Contents", "sharing.exports.base.ExportedGraph", "storage.base.Storage",
            "storage.files.FileRef", "storage.files.write_atomic", "registry.Registry",
        ],
    ),
    "testing": (
        "Contract tests",
        "Tests for authors of plug-ins. Subclass one of the classes in a test module, and pytest runs its tests.",
        ["testing.*"],
    ),
}  # fmt: skip
# Modules that pages link to, so that the links work on GitHub too -> the page of the reference that documents them.
DOCUMENTED = {
    "lazygraph/errors.py": "reference/errors.md",
    "lazygraph/graphs/__init__.py": "reference/plugins.md",
    "lazygraph/testing/__init__.py": "reference/testing.md",
}
# Pages of the repository that are in the navigation.
PROJECT = ("CHANGELOG.md", "CONTRIBUTING.md", "SECURITY.md")

LINK = re.compile(r"(?<=\]\()([^)\s#]+)(#[^)\s]*)?(?=\))")
FENCE = re.compile(r"^( *)(```+|~~~+)")
LANGUAGES = {".py": "python", ".sh": "bash", ".toml": "toml", ".c": "c", ".json": "json"}


def listed(module):
    """The names that a module of the package lists as public, in ``__all__``. Nothing is imported."""
    path = ROOT / "lazygraph" / module.replace(".", "/")
    path = path / "__init__.py" if path.is_dir() else path.with_suffix(".py")
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        targets = node.targets if isinstance(node, ast.Assign) else []
        if [getattr(target, "id", None) for target in targets] == ["__all__"]:
            return ast.literal_eval(node.value)
    raise ValueError(f"{path} has no list __all__")


def names_of(page):
    """The full names on a page of the reference."""
    found = []
    for name in REFERENCE[page][2]:
        module, _, last = name.rpartition(".")
        found += [f"lazygraph.{module}.{one}" for one in listed(module)] if last == "*" else [f"lazygraph.{name}"]
    return found


# ---- files ----


class Pages:
    """Which file of the repository is shown at which address of the site."""

    def __init__(self, sources):
        # File of the repository -> its address, such as "project/examples/loop_pyg.py.md".
        self.shown = {ROOT / name: uri for name, uri in DOCUMENTED.items()}
        for uri in sources:
            self.shown[DOCS / uri] = uri
        waiting = [DOCS / uri for uri in sources if uri.endswith(".md")] + [self._add(ROOT / name) for name in PROJECT]
        while waiting:
            page = waiting.pop()
            for target, _ in links(page.read_text(encoding="utf-8")):
                found = (page.parent / target).resolve()
                if found.exists() and found.is_relative_to(ROOT) and not found.is_relative_to(DOCS):
                    if found in self.shown:
                        continue
                    self._add(found)
                    if found.suffix == ".md":
                        waiting.append(found)

    def _add(self, path):
        uri = f"project/{path.relative_to(ROOT).as_posix()}"
        self.shown[path] = uri if path.suffix == ".md" else f"{uri}.md"
        return path

    def outside(self):
        """The files of the repository outside docs/ that are shown, with the addresses of their pages."""
        return {path: uri for path, uri in self.shown.items() if uri.startswith("project/")}

    def translated(self, text, page, uri):
        """The text of a page with links to addresses of the site.

        Args:
            text: Markdown.
            page: the file that the text comes from, from which its links count.
            uri: the address of the page.
        """

        def lead(match):
            target, anchor = match[1], match[2] or ""
            if "://" in target or target.startswith(("mailto:", "#")):
                return match[0]
            found = Path(os.path.normpath(page.parent / target))
            address = self.shown.get(found)
            if address is None:
                if not found.is_relative_to(DOCS):
                    LOG.warning("%s links to %s, which is not there", page.relative_to(ROOT), target)
                return match[0]
            if address.endswith(".ipynb"):
                address = address.removesuffix(".ipynb") + ".md"
            return posixpath.relpath(address, posixpath.dirname(uri) or ".") + anchor

        return outside_fences(text, lambda line: LINK.sub(lead, line))


def links(text):
    """The links of a page, without those in blocks of code: (target, anchor)."""
    found = []

    def keep(line):
        found.extend(LINK.findall(line))
        return line

    outside_fences(text, keep)
    return [(target, anchor) for target, anchor in found if "://" not in target and not target.startswith("mailto:")]


def outside_fences(text, change):
    """The text with every line changed that is not in a block of code."""
    lines, closing = [], None
    for line in text.splitlines():
        fence = FENCE.match(line)
        if closing is None and fence:
            closing = fence[2]
        elif closing is not None:
            if fence and line.strip() == closing:
                closing = None
        else:
            line = change(line)  # noqa: PLW2901
        lines.append(line)
    return "\n".join(lines) + "\n"


# ---- Markdown of GitHub, for Python-Markdown ----


def wider(text):
    """The text with lists indented by four spaces a level, as Python-Markdown needs; GitHub takes two or three."""
    lines, fence, added = [], None, 0
    levels = []  # of each open item: [column of its text, whether there was an empty line in it]
    for line in text.splitlines():
        stripped = line.lstrip(" ")
        indent = len(line) - len(stripped)
        if fence is not None:
            lines.append(" " * added + line if stripped else line)
            if stripped.strip() == fence:
                fence = None
            continue
        if not stripped:
            for level in levels:
                level[1] = True
            lines.append(line)
            continue
        ended = []
        while levels and indent < levels[-1][0]:
            ended.append(levels.pop())
        added = 4 * len(levels) - (levels[-1][0] if levels else 0)
        if opening := FENCE.match(line):
            fence = opening[2]
        elif item := re.match(r"([-*+]|\d+\.) +", stripped):
            if lines and lines[-1] and any(loose for _, loose in ended):
                lines.append("")  # Python-Markdown would take the item for a line of the paragraph above
            levels.append([indent + item.end(), False])
        lines.append(" " * added + line)
    return "\n".join(lines) + "\n"


def table_of_graph(text):
    """The drawing of the parts in docs/architecture.md, as a table."""

    def table(match):
        imports = {}
        for line in match[1].splitlines():
            part, _, other = line.partition(" --> ")
            if other:
                imports.setdefault(part.strip(), []).append(f"`{other.strip()}`")
        rows = [f"| `{part}` | {', '.join(others)} |" for part, others in imports.items()]
        return "\n".join(["| part | imports |", "|---|---|", *rows]) + "\n"

    return re.sub(r"^```mermaid\n(.*?)^```\n", table, text, flags=re.MULTILINE | re.DOTALL)


# ---- pages that are made ----


def reference_page(page):
    """One page of the reference, as directives of mkdocstrings."""
    title, introduction, _ = REFERENCE[page]
    return "\n\n".join([f"# {title}", introduction, *(f"::: {name}" for name in names_of(page))]) + "\n"


INDEX = """\
# Reference

This part is made from the docstrings and the types of the code. `import lazygraph as lg` gives all names of the
package, and imports torch only when a name needs it. A name that is not listed here is internal.
"""

COMMANDS = """\
# Commands

`lazygraph-write` is short for `lazygraph write`, and also takes `plan`, `shard` and `merge`. Exit codes: 0 success;
1 success with quarantined inputs or problems, or a bug of lazygraph (with a traceback); 2 wrong usage or input;
3 corrupt data; 130 interrupted.
"""


def reference_index():
    """The list of all names with links, and with the first line of their docstrings."""
    import griffe

    roles = runpy.run_path(os.fspath(ROOT / "tools" / "site_docstrings.py"))["Roles"]
    package = griffe.load("lazygraph", search_paths=[os.fspath(ROOT)], extensions=griffe.Extensions(roles()))
    parts = [INDEX]
    for page, (title, introduction, _) in REFERENCE.items():
        parts += [f"\n## {title}\n\n{introduction}\n\n| name | |\n|---|---|"]
        for name in names_of(page):
            docstring = package[name.removeprefix("lazygraph.")].docstring
            first = docstring.value.split("\n\n")[0] if docstring else ""
            parts.append(f"| [`{name.removeprefix('lazygraph.')}`][{name}] | {' '.join(first.split())} |")
    return "\n".join([*parts, "\n## Commands\n\n[The help of every command](commands.md).\n"])


def commands_page():
    """The help of every command, as a terminal of 100 columns shows it."""
    from lazygraph.cli.main import COMMANDS as NAMES
    from lazygraph.cli.main import _command_line

    before = os.environ.get("COLUMNS")
    os.environ["COLUMNS"] = "100"
    try:
        _, parsers = _command_line()
        helped = {name: parsers[name].format_help().rstrip() for name in NAMES}
    finally:
        if before is None:
            del os.environ["COLUMNS"]
        else:
            os.environ["COLUMNS"] = before
    return COMMANDS + "".join(f"\n## lazygraph {name}\n\n```text\n{text}\n```\n" for name, text in helped.items())


def source_page(path):
    """A file, or the files of a folder, as code."""
    name = path.relative_to(ROOT).as_posix()
    if path.is_dir():
        files = sorted(one for one in path.rglob("*") if one.suffix in LANGUAGES and "__pycache__" not in one.parts)
        parts = [f"## {one.relative_to(path).as_posix()}\n\n{fenced(one)}" for one in files]
    else:
        parts = [fenced(path)]
    return "\n\n".join([f"# {name}", *parts]) + "\n"


def fenced(path):
    return f"````{LANGUAGES.get(path.suffix, 'text')}\n{path.read_text(encoding='utf-8').rstrip()}\n````"


def notebook_page(path):
    """A notebook as Markdown, with its stored outputs, and the pictures in them: (text, {name: bytes})."""
    cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
    parts, pictures = [], {}
    for cell in cells:
        source = "".join(cell["source"])
        if cell["cell_type"] == "markdown":
            parts.append(source)
            continue
        parts.append(f"````python\n{source}\n````")
        for output in cell["outputs"]:
            data = output.get("data", {})
            if "image/png" in data:
                name = f"{path.stem}-{len(pictures) + 1}.png"
                pictures[name] = base64.b64decode("".join(data["image/png"]))
                # What stands before the picture says what it shows.
                parts.append(f"![The plot of the cell above]({name})")
            elif "text/html" in data:
                parts.append(f'<div class="output">{"".join(data["text/html"])}</div>')
            else:
                text = "".join(output.get("text", data.get("text/plain", "")))
                parts.append(f"````{{.text .output}}\n{text.rstrip()}\n````")
    return "\n\n".join(parts) + "\n", pictures


# ---- what mkdocs calls ----

_pages: Pages


def on_files(files, config):
    """Add the pages that are made."""
    from mkdocs.structure.files import File, InclusionLevel

    global _pages  # noqa: PLW0603  # mkdocs calls functions of a module, one after another
    notebooks = [file for file in files if file.src_uri.endswith(".ipynb")]
    pages = [file for file in files if file.src_uri.endswith(".md")]
    _pages = Pages([file.src_uri for file in [*files.media_files(), *pages, *notebooks]])

    def add(uri, content, *, hidden=False):
        file = File.generated(config, uri, content=content)
        if hidden:
            file.inclusion = InclusionLevel.NOT_IN_NAV
        files.append(file)

    for page in REFERENCE:
        add(f"reference/{page}.md", reference_page(page))
    add("reference/index.md", reference_index())
    add("reference/commands.md", commands_page())
    for path, uri in _pages.outside().items():
        text = source_page(path) if path.suffix != ".md" else path.read_text(encoding="utf-8")
        if path.suffix == ".md":
            text = _pages.translated(text, path, uri)
        add(uri, text, hidden=uri.removeprefix("project/") not in PROJECT)
    for file in notebooks:
        text, pictures = notebook_page(DOCS / file.src_uri)
        uri = file.src_uri.removesuffix(".ipynb") + ".md"
        add(uri, _pages.translated(text, DOCS / file.src_uri, uri))
        for name, content in pictures.items():
            add(posixpath.join(posixpath.dirname(uri), name), content)
    return files


def on_page_markdown(markdown, page, config, files):  # noqa: ARG001  # mkdocs passes them by name
    """Lead the links of a page of docs/ to addresses of the site, and even out the two kinds of Markdown."""
    uri = page.file.src_uri
    if (DOCS / uri).exists():
        markdown = _pages.translated(markdown, DOCS / uri, uri)
    return table_of_graph(markdown) if uri.startswith("reference/") else wider(table_of_graph(markdown))
