"""The documentation site: every public name is in the reference, every link leads somewhere, and a browser shows it."""

from __future__ import annotations

import doctest
import functools
import http.server
import importlib
import importlib.util
import os
import re
import subprocess
import sys
import threading
import types
import zlib
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urljoin, urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st
from markdown_it import MarkdownIt

import lazygraph as lg
from tests.sharing.chromium import Browser, found

ROOT = Path(__file__).resolve().parents[1]
DOCS = ROOT / "docs"
MKDOCS = all(importlib.util.find_spec(name) for name in ("mkdocs", "material", "mkdocstrings_handlers"))
needs_mkdocs = pytest.mark.skipif(not MKDOCS, reason="mkdocs-material is not installed: pip install 'lazygraph[docs]'")
PROGRAM = found()
needs_browser = pytest.mark.skipif(
    PROGRAM is None, reason="found no chromium or google-chrome; Debian: apt-get install chromium"
)


def load(name):
    spec = importlib.util.spec_from_file_location(name, ROOT / "tools" / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


PAGES = load("site_pages")
NAMES = [name for page in PAGES.REFERENCE for name in PAGES.names_of(page)]


def public_names():
    """Every name that lazygraph or one of its public modules lists, under the shortest path that leads to it."""
    found = set()
    for module in map(importlib.import_module, ("lazygraph", "lazygraph.errors", "lazygraph.testing")):
        for name in module.__all__:
            if isinstance(getattr(module, name), types.ModuleType):
                found |= {f"lg.{name}.{one}" for one in getattr(module, name).__all__}
            else:
                found.add(f"{module.__name__}.{name}")
    return found


def value_of(name):
    """What a full name stands for."""
    parts = name.split(".")
    for end in range(len(parts) - 1, 0, -1):
        try:
            value = importlib.import_module(".".join(parts[:end]))
        except ModuleNotFoundError:
            continue
        return functools.reduce(getattr, parts[end:], value)
    raise AssertionError(f"there is no {name}")


def test_every_public_name_is_in_the_reference():
    documented = {id(value_of(name)) for name in NAMES if not name.startswith("lazygraph.interop")}
    missing = []
    for name in public_names():
        value = value_of(name.replace("lg.", "lazygraph.", 1))
        if id(value) not in documented:
            missing.append(name)
    assert missing == []


def test_what_a_public_function_returns_is_in_the_reference():
    known = {name.rpartition(".")[2] for name in NAMES}
    returned = {
        function.__annotations__["return"].split("[")[0].split(" |")[0]
        for function in (getattr(lg, name) for name in lg.__all__)
        if isinstance(function, types.FunctionType)
    }
    assert returned - known == {"Batch", "int"}


def test_every_name_of_the_example_plugin_is_in_the_reference():
    """What a plug-in needs is public."""
    known = {name.rpartition(".")[2] for name in NAMES} | {"EDGE", "EDGE_INDEX", "NODE"}  # constants, in docs/views.md
    used = set()
    for file in (ROOT / "examples" / "plugin").rglob("*.py"):
        for names in re.findall(r"^from lazygraph\S* import (.+?)(?:  #.*)?$", file.read_text(), re.MULTILINE):
            used |= set(names.split(", "))
    assert used - known == set()
    assert len(used) > 15


def test_no_name_is_listed_twice():
    assert len(set(NAMES)) == len(NAMES)


def test_the_names_of_a_module_are_read_as_python_reads_them():
    assert PAGES.listed("errors") == importlib.import_module("lazygraph.errors").__all__
    assert PAGES.listed("testing") == importlib.import_module("lazygraph.testing").__all__
    with pytest.raises(ValueError, match="no list __all__"):
        PAGES.listed("cli.info")


def relative_links(page):
    return [target for target, _ in PAGES.links(page.read_text(encoding="utf-8")) if target]


@pytest.mark.parametrize("page", sorted([*DOCS.glob("guide/*.md"), DOCS / "index.md"]), ids=lambda path: path.name)
def test_links_of_the_guide_work_on_github(page):
    assert [target for target in relative_links(page) if not (page.parent / target).exists()] == []


def test_links_of_the_notebook_work_on_github():
    text, _ = PAGES.notebook_page(DOCS / "guide" / "phonons.ipynb")
    targets = [target for target, _ in PAGES.links(text) if not target.endswith(".png")]
    assert targets
    assert [target for target in targets if not (DOCS / "guide" / target).exists()] == []


# ---- the two kinds of Markdown ----

ITEM = st.sampled_from(["word", "two words", "`code`"])


@st.composite
def nested_lists(draw, level=0):
    """A list as GitHub reads it: items of one or several paragraphs, with lists and blocks of code in them."""
    ordered = draw(st.booleans())
    lines = []
    for number in range(1, draw(st.integers(1, 3)) + 1):
        mark = f"{number}. " if ordered else "- "
        inner = [draw(ITEM)]
        if draw(st.booleans()):
            inner += ["", draw(ITEM)]
        if draw(st.booleans()):
            inner += ["", "```text", "code", "  indented", "```"]
        if level < 2 and draw(st.booleans()):
            inner += ["", *draw(nested_lists(level + 1))]
        lines += [mark + inner[0], *(" " * len(mark) + line if line else "" for line in inner[1:])]
        if draw(st.booleans()):
            lines.append("")
    return lines


def shape(html):
    """The elements of some HTML that say how it is built, with the texts in them; ``p`` depends on loose lists."""
    html = re.sub(r"<(/?)(\w+)[^>]*>", lambda m: f"<{m[1]}{m[2]}>" if m[2] in {"ul", "ol", "li", "pre"} else " ", html)
    return re.sub(r"\s*(<[^>]+>)\s*", r"\1", re.sub(r"\s+", " ", html)).strip()


@needs_mkdocs
@given(nested_lists())
def test_lists_are_read_as_on_github(lines):
    import markdown

    text = "\n".join(lines) + "\n"
    ours = markdown.markdown(PAGES.wider(text), extensions=["pymdownx.superfences"])
    assert shape(ours) == shape(MarkdownIt().render(text))


def test_the_drawing_of_the_parts_becomes_a_table():
    text = "before\n\n```mermaid\ngraph TD\n  a --> b\n  a --> c\n  b --> c\n```\n\nafter\n"
    table = "| part | imports |\n|---|---|\n| `a` | `b`, `c` |\n| `b` | `c` |\n"
    assert PAGES.table_of_graph(text) == f"before\n\n{table}\nafter\n"


def test_links_in_code_are_no_links():
    assert PAGES.links("[a](b.md)\n\n```text\n[c](d.md)\n```\n\n[e](f.md#g) [h](https://i)\n") == [
        ("b.md", ""), ("f.md", "#g")
    ]  # fmt: skip


def test_every_command_is_in_the_reference():
    from lazygraph.cli.main import COMMANDS

    page = PAGES.commands_page()
    assert [name for name in COMMANDS if f"\n## lazygraph {name}\n" not in page] == []
    assert "--max-neighbors K" in page


# ---- the built site ----


class Page(HTMLParser):
    """The addresses that a page refers to, its anchors, and the elements of its main part."""

    def __init__(self, path):
        super().__init__()
        self.links, self.loads, self.anchors, self.counts = [], [], set(), {}
        self._main = False
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag, attrs):
        values = dict(attrs)
        if tag == "article":
            self._main = True
        if self._main:
            self.counts[tag] = self.counts.get(tag, 0) + 1
        self.anchors |= {values[name] for name in ("id", "name") if values.get(name)}
        if tag == "a" and values.get("href"):
            self.links.append(values["href"])
        loaded = values.get("src") or (values.get("href") if tag == "link" else None)
        if loaded:
            self.loads.append(loaded)

    def handle_endtag(self, tag):
        if tag == "article":
            self._main = False


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """The folder of the site, built strictly."""
    folder = tmp_path_factory.mktemp("site") / "site"
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(folder)]
    environment = os.environ | {"NO_MKDOCS_2_WARNING": "1"}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "WARNING" not in done.stderr
    return folder


@pytest.fixture(scope="module")
def pages(site):
    """Address -> page, of every page of the site."""
    return {path.relative_to(site).as_posix(): Page(path) for path in site.rglob("*.html")}


def inventory(site):
    """The names that the reference defines."""
    data = (site / "objects.inv").read_bytes().split(b"\n", 4)[4]
    return {line.split(" ")[0] for line in zlib.decompress(data).decode().splitlines()}


@needs_mkdocs
@pytest.mark.slow
def test_the_site_documents_every_name(site):
    assert set(NAMES) - inventory(site) == set()
    members = {"lazygraph.LazyGraphDataset.where", "lazygraph.Loader.state_dict", "lazygraph.Crystal.volume"}
    assert members - inventory(site) == set()


@needs_mkdocs
def test_docstrings_become_markdown():
    failed, tried = doctest.testmod(load("site_docstrings"))
    assert failed == 0
    assert tried >= 3


@needs_mkdocs
@pytest.mark.slow
def test_examples_are_code_and_no_role_of_sphinx_is_left(site):
    examples = 0
    for path in site.glob("reference/*/index.html"):
        html = path.read_text(encoding="utf-8")
        assert re.findall(r":(?:func|class|meth|mod|attr|exc|data):", html) == [], path
        outside = re.sub(r"<pre.*?</pre>|<code.*?</code>", "", html, flags=re.DOTALL)
        assert "&gt;&gt;&gt;" not in outside, path
        assert "class TestToy" not in outside, path
        examples += html.count("Examples:")
    assert examples > 20


@needs_mkdocs
@pytest.mark.slow
def test_no_link_is_dead(site, pages):
    dead = []
    for address, page in pages.items():
        for target in {*page.links, *page.loads}:
            parts = urlsplit(urljoin(f"/{address}", target))
            if parts.scheme not in ("", "http", "https") or parts.netloc:
                continue
            path = unquote(parts.path).lstrip("/")
            path = path + "index.html" if path == "" or path.endswith("/") else path
            there = (site / path).is_file() and (
                not parts.fragment or path not in pages or unquote(parts.fragment) in pages[path].anchors | {"__search"}
            )
            if not there and address != "404.html":  # whose links begin at the root of the server
                dead.append((address, target))
    assert dead == []
    assert len(pages) > 40


@needs_mkdocs
@pytest.mark.slow
def test_nothing_is_loaded_from_another_server(pages):
    foreign = {(address, one) for address, page in pages.items() for one in page.loads if urlsplit(one).netloc}
    assert foreign == set()


@needs_mkdocs
@pytest.mark.slow
@pytest.mark.parametrize("page", sorted(DOCS.glob("**/*.md")), ids=lambda path: path.name)
def test_a_page_has_the_lists_and_tables_that_github_shows(page, pages):
    uri = page.relative_to(DOCS).with_suffix("").as_posix()
    counts = pages["index.html" if uri == "index" else f"{uri}/index.html"].counts
    drawn = PAGES.table_of_graph(page.read_text(encoding="utf-8"))
    tokens = MarkdownIt("commonmark").enable("table").parse(drawn)
    opened = [token.tag for token in tokens if token.nesting == 1]
    told = {tag: counts.get(tag, 0) for tag in ("li", "ul", "ol", "tr", "h1", "h2", "h3")}
    assert told == {tag: opened.count(tag) for tag in told}
    blocks = [token for token in tokens if token.type in {"fence", "code_block"}]
    assert counts.get("pre", 0) == len(blocks)


class Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *arguments):
        pass


@pytest.fixture(scope="module")
def address(site):
    """The address of a server of the site on this machine."""
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=str(site)))
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}/"
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    browser = Browser(PROGRAM, tmp_path_factory.mktemp("chromium"))
    yield browser
    browser.close()


OVERFLOW = "document.documentElement.scrollWidth - document.documentElement.clientWidth"
SHOWN = ("", "guide/start/", "guide/phonons/", "reference/", "reference/loading/", "sources/", "benchmarks/")


@needs_mkdocs
@needs_browser
@pytest.mark.slow
@pytest.mark.parametrize(("width", "scheme"), [(1280, "light"), (390, "dark")])
@pytest.mark.parametrize("page", SHOWN)
def test_a_browser_shows_a_page(page, width, scheme, browser, address):
    shown = browser.open(address + page, width, 900, scheme)
    assert shown.problems() == []
    assert [one for one in shown.requests() if not one.startswith((address, "data:"))] == []
    assert shown.evaluate(OVERFLOW) <= 0
    assert shown.evaluate("document.querySelector('article').getBoundingClientRect().height") > 300
    broken = "[...document.querySelectorAll('article img')].filter((one) => !one.naturalWidth).length"
    assert shown.evaluate(broken) == 0
    shown.close()


@needs_mkdocs
@needs_browser
@pytest.mark.slow
@pytest.mark.parametrize("width", [1280, 390])
def test_search_finds_a_word(width, browser, address):
    """Without a network: the index and the script that searches it come with the site."""
    shown = browser.open(address + "guide/start/", width)
    shown.evaluate("document.querySelector('input.md-search__input').focus()")
    shown.call("Input.insertText", text="quarantine")
    results = (
        "new Promise((done) => { const look = () => {"
        "const found = [...document.querySelectorAll('.md-search-result__link')].map((one) => one.href);"
        "found.length ? done(found) : setTimeout(look, 20); }; look(); })"
    )
    links = shown.evaluate(results)
    assert any("/sources/" in link or "/guide/" in link for link in links)
    assert shown.problems() == []
    assert [one for one in shown.requests() if not one.startswith((address, "data:", "blob:"))] == []
    shown.close()
