"""The report in a real browser: nothing is blank, nothing goes wrong, nothing is asked of a network."""

from __future__ import annotations

import numpy as np
import pytest

import lazygraph as lg
from tests.sharing.chromium import Browser, found

PROGRAM = found()
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(PROGRAM is None, reason="found no chromium or google-chrome; Debian: apt-get install chromium"),
]
EVIL = "<script>document.title='owned'</script><img src=x onerror=\"document.title='owned'\">"


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    browser = Browser(PROGRAM, tmp_path_factory.mktemp("chromium"))
    yield browser
    browser.close()


@pytest.fixture(scope="module")
def report(tmp_path_factory):
    folder = tmp_path_factory.mktemp("report")
    lg.write(
        "prototypes:400?seed=0", folder / "p.lg", workers=1, progress=False, split=(0.8, 0.1, 0.1),
        about={"title": "Made-up crystals", "description": "Prototypes with random elements.", "license": "CC0-1.0"},
    )  # fmt: skip
    lg.report(folder / "p.lg", folder / "p.html")
    return folder / "p.html"


PIXELS = """(() => {
  const canvas = document.getElementById("crystal");
  const data = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height).data;
  const colors = new Set();
  let painted = 0, sum = 0;
  for (let k = 0; k < data.length; k += 4) {
    if (data[k + 3]) {
      painted += 1;
      colors.add(data[k] << 16 | data[k + 1] << 8 | data[k + 2]);
      sum = (sum * 31 + data[k] + 7 * data[k + 1] + 13 * data[k + 2]) % 1000000007;
    }
  }
  return [painted / (data.length / 4), colors.size, sum];
})()"""
SHOWN = "[...document.querySelectorAll('#rows tr')].filter((row) => !row.hidden).map((row) => row.cells[1].textContent)"
OVERFLOW = "document.documentElement.scrollWidth - document.documentElement.clientWidth"


@pytest.mark.parametrize(("width", "scheme"), [(1280, "light"), (390, "dark")])
def test_everything_is_drawn(width, scheme, browser, report, tmp_path):
    page = browser.open(report.as_uri(), width, 900, scheme)
    assert page.problems() == []
    assert page.requests() == [report.as_uri()]
    assert page.evaluate(OVERFLOW) <= 0
    assert page.evaluate("document.title") == "Made-up crystals - lazygraph report"
    painted, colors, _ = page.evaluate(PIXELS)
    assert painted > 0.02
    assert colors > 100
    assert page.evaluate("document.querySelectorAll('.element').length") == 118
    assert page.evaluate("document.querySelectorAll('#rows tr').length") == 100
    charts = page.evaluate(
        "[...document.querySelectorAll('svg.chart')].map((chart) => [chart.getBoundingClientRect().height,"
        "...[...chart.querySelectorAll('path')].map((path) => path.getTotalLength())])"
    )
    assert len(charts) >= 3
    assert all(min(chart) > 50 for chart in charts)
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == (
        "rgb(246, 247, 249)" if scheme == "light" else "rgb(16, 21, 27)"
    )
    page.screenshot(tmp_path / f"report-{width}.png")
    assert (tmp_path / f"report-{width}.png").stat().st_size > 20_000
    page.close()


def test_an_element_filters_the_graphs(browser, report):
    page = browser.open(report.as_uri())
    everything = page.evaluate(SHOWN)
    symbol = page.evaluate("document.querySelector('.element:not(:disabled)').dataset.symbol")
    page.click(f".element[data-symbol='{symbol}']")
    import re

    expected = [text for text in everything if symbol in re.findall("[A-Z][a-z]?", text)]
    assert page.evaluate(SHOWN) == expected
    assert 0 < len(expected) < len(everything)
    assert f"{len(expected)} of these 100 graphs hold {symbol}" in page.evaluate("document.body.textContent")
    assert page.evaluate(f"document.querySelector(\"[data-symbol='{symbol}']\").getAttribute('aria-pressed')") == "true"
    page.click("#all")
    assert page.evaluate(SHOWN) == everything
    page.evaluate("document.getElementById('find').focus()")
    page.call("Input.insertText", text="0000007")
    assert len(page.evaluate(SHOWN)) <= 1
    assert page.problems() == []
    page.close()


def test_the_graphs_are_sorted_by_a_column(browser, report):
    page = browser.open(report.as_uri())
    ids = "[...document.querySelectorAll('#rows tr')].map((row) => row.cells[0].textContent)"
    atoms = "[...document.querySelectorAll('#rows tr')].map((row) => Number(row.cells[2].textContent))"
    first, before = page.evaluate(ids), page.evaluate(atoms)
    page.click("#titles th:nth-child(3) button")
    assert page.evaluate(atoms) == sorted(before)
    page.click("#titles th:nth-child(3) button")
    assert page.evaluate(atoms) == sorted(before, reverse=True)
    page.click("#titles th:nth-child(1) button")
    assert page.evaluate(ids) == first
    page.click("#titles th:nth-child(2) button")
    formulas = page.evaluate(SHOWN)
    assert formulas == sorted(formulas)
    assert page.problems() == []
    page.close()


def test_crystals_turn_by_mouse_touch_and_keys(browser, report):
    page = browser.open(report.as_uri())
    seen = [page.evaluate(PIXELS)[2]]

    def changed():
        seen.append(page.evaluate(PIXELS)[2])
        return seen[-1] != seen[-2]

    page.drag("#crystal", 60, 25)
    assert changed()
    page.evaluate("document.getElementById('crystal').focus()")
    for key in ("ArrowLeft", "ArrowUp", "+", "-"):
        page.key(key)
        assert changed(), key
    page.key("0")
    assert changed()
    assert seen[-1] == seen[0]  # the first view again
    x, y = page.middle("#crystal")
    page.call("Input.dispatchTouchEvent", type="touchStart", touchPoints=[{"x": x, "y": y}])
    page.call("Input.dispatchTouchEvent", type="touchMove", touchPoints=[{"x": x + 40, "y": y + 10}])
    page.call("Input.dispatchTouchEvent", type="touchEnd", touchPoints=[])
    assert changed()
    first = page.evaluate("document.getElementById('what').textContent")
    page.click("#rows tr:nth-child(3) button")
    assert changed()
    assert page.evaluate("document.getElementById('what').textContent") != first
    assert page.problems() == []
    page.close()


def test_the_keyboard_reaches_everything(browser, report):
    page = browser.open(report.as_uri())
    reached = set()
    for _ in range(260):
        page.key("Tab")
        reached.add(page.evaluate("document.activeElement.id || document.activeElement.className.split(' ')[0]"))
        if reached >= {"element", "find", "crystal", "nearer"}:
            break
    assert reached >= {"element", "find", "crystal", "nearer"}
    page.evaluate("document.querySelector('.element:not(:disabled)').focus()")
    page.key("Enter")
    assert page.evaluate("document.querySelectorAll('.element[aria-pressed=true]').length") == 1
    page.close()


def test_texts_of_a_dataset_are_shown_as_they_are(browser, tmp_path):
    inputs = [
        (f"c{k}{EVIL}", lg.Crystal(np.eye(3) * 4, [[0, 0, 0]], [11 + k]), {"kind": EVIL, "gap": k / 7, EVIL[:40]: 1.0})
        for k in range(8)
    ]
    about = {"title": EVIL, "description": EVIL, "citation": "javascript:alert(1)", "homepage": f"https://x{EVIL}"}
    lg.write(inputs, tmp_path / "e.lg", graph="cgcnn", workers=1, progress=False, units={"gap": EVIL}, about=about)
    lg.report(tmp_path / "e.lg", tmp_path / "e.html")
    page = browser.open((tmp_path / "e.html").as_uri(), 390)
    assert page.problems() == []
    assert page.requests() == [(tmp_path / "e.html").as_uri()]
    assert page.evaluate("document.title").startswith("<script>")
    assert page.evaluate("document.querySelectorAll('img, iframe, object, form').length") == 0
    assert page.evaluate("document.querySelectorAll('script').length") == 2
    assert page.evaluate("document.querySelector('h1').textContent") == EVIL
    assert EVIL[:40] in page.evaluate("document.querySelector('#rows button').textContent")
    assert page.evaluate(OVERFLOW) <= 0
    page.close()


def test_the_policy_stops_what_would_get_in(browser, report, tmp_path):
    """A copy with markup that no text of a dataset can bring: the second wall holds too."""
    page = report.read_text().replace("<main>", f"<main>{EVIL}<img src='http://127.0.0.1:9/x.png'>")
    (tmp_path / "owned.html").write_text(page)
    opened = browser.open((tmp_path / "owned.html").as_uri())
    assert opened.evaluate("document.title") == "Made-up crystals - lazygraph report"
    refused = [event for event in opened.problems() if "Content Security Policy" in str(event)]
    assert len(refused) >= 2
    opened.close()
