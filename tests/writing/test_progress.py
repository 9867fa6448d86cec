"""What a write shows: lines where there is no terminal, a bar in a terminal and in a notebook, and nothing if asked."""

from __future__ import annotations

import io
import re
import sys
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

import lazygraph as lg
from lazygraph.writing import progress as module
from lazygraph.writing.progress import Bar, Lines, Progress, line, progress


class Clock:
    def __init__(self):
        self.now = 1000.0

    def __call__(self):
        return self.now


class Terminal(io.StringIO):
    def isatty(self):
        return True


def test_a_line_a_minute_and_no_other():
    clock, stream = Clock(), io.StringIO()
    lines = Lines(10, 5000, stream, clock)
    for second in range(1, 301):
        clock.now = 1000.0 + second
        if second == 90:
            lines.made(500, 3)
        lines.tick()
    lines.close()
    assert stream.getvalue().splitlines() == [
        "lazygraph: 0 of 10 shards, 0 of 5,000 crystals, 0 a second, 0 quarantined, time left not known yet",
        "lazygraph: 1 of 10 shards, 500 of 5,000 crystals, 4 a second, 3 quarantined, 18 min left",
        "lazygraph: 1 of 10 shards, 500 of 5,000 crystals, 3 a second, 3 quarantined, 27 min left",
        "lazygraph: 1 of 10 shards, 500 of 5,000 crystals, 2 a second, 3 quarantined, 36 min left",
        "lazygraph: 1 of 10 shards, 500 of 5,000 crystals, 2 a second, 3 quarantined, 45 min left",
    ]


@given(st.lists(st.tuples(st.floats(0.1, 500), st.integers(1, 1000), st.integers(0, 5)), max_size=30))
def test_lines_are_a_minute_apart_and_count_everything(steps):
    clock, stream = Clock(), io.StringIO()
    lines = Lines(len(steps), sum(crystals for _, crystals, _ in steps), stream, clock)
    due, expected, done = 1060.0, [], [0, 0, 0]
    for seconds, crystals, quarantined in steps:
        clock.now += seconds
        lines.made(crystals, quarantined)
        done = [done[0] + 1, done[1] + crystals, done[2] + quarantined]
        if clock.now >= due:
            expected.append(tuple(done))
            due = clock.now + 60
    pattern = re.compile(r"lazygraph: (\d+) of \d+ shards (\d+) of .* (\d+) quarantined")
    shown = [pattern.match(one).groups() for one in stream.getvalue().replace(",", "").splitlines()]
    assert [tuple(map(int, one)) for one in shown] == expected


def test_hours_are_told():
    assert line((1, 100), (201, 20_100), 0, 60.0).endswith("2 a second, 0 quarantined, 3 h 20 min left")


def test_a_closed_stream_ends_no_write():
    clock, stream = Clock(), io.StringIO()
    lines = Lines(1, 1, stream, clock)
    stream.close()
    clock.now += 61
    lines.made(1, 0)


def test_which_display_is_chosen(monkeypatch):
    monkeypatch.setattr(sys, "stderr", io.StringIO())
    assert type(progress(2, 20, show=True)) is Lines
    assert type(progress(2, 20, show=False)) is Progress
    shell = SimpleNamespace(config={"IPKernelApp": {}})
    monkeypatch.setitem(sys.modules, "IPython", SimpleNamespace(get_ipython=lambda: shell))
    assert module.in_notebook()
    shell.config = {"TerminalIPythonApp": {}}
    assert not module.in_notebook()
    monkeypatch.setitem(sys.modules, "IPython", SimpleNamespace(get_ipython=lambda: None))
    assert not module.in_notebook()
    monkeypatch.setattr(sys, "stderr", Terminal())
    bar = progress(2, 20, show=True)
    assert type(bar) is Bar
    bar.close()
    monkeypatch.setattr(sys, "stderr", None)
    assert type(progress(2, 20, show=True)) is Progress


def test_a_bar_counts_crystals_and_quarantined_inputs(monkeypatch):
    monkeypatch.setattr(sys, "stderr", stream := Terminal())
    bar = progress(2, 20, show=True)
    bar.made(12, 3)
    bar.tick()
    bar.made(8, 1)
    bar.close()
    assert "20/20" in stream.getvalue()
    assert "quarantined=4" in stream.getvalue()


@pytest.mark.parametrize("workers", [1, pytest.param(2, marks=pytest.mark.slow)])
def test_a_write_without_a_terminal_tells_how_far_it_is(workers, tmp_path, monkeypatch):
    """With lines as often as can be: how often they come is tested above."""
    monkeypatch.setattr(module, "EVERY", 0.0)
    monkeypatch.setattr(sys, "stderr", stream := io.StringIO())
    items = [(f"{n}", lg.Crystal([[4, 0, 0], [0, 4, 0], [0, 0, 4]], [[0, 0, 0]], [11])) for n in range(5)]
    lg.write([*items, ("bad", "no structure")], tmp_path / "x.lg", shard_size=2, workers=workers)
    shown = stream.getvalue().splitlines()
    assert shown[-1].startswith("lazygraph: 3 of 3 shards, 6 of 6 crystals")
    assert "1 quarantined" in shown[-1]
