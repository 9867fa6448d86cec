"""How many CPUs work for a process: one answer for writer, loader, training and doctor."""

from __future__ import annotations

import ast
import os
from pathlib import Path

import pytest

import lazygraph as lg
from lazygraph.cli.surroundings import look
from lazygraph.errors import InputError
from lazygraph.machine import usable_cpus

PACKAGE = Path(lg.__file__).parent
COUNTS = {"cpu_count", "sched_getaffinity", "process_cpu_count", "cpu_affinity"}


def names(path):
    nodes = ast.walk(ast.parse(path.read_text()))
    return {
        node.attr if isinstance(node, ast.Attribute) else node.id
        for node in nodes
        if hasattr(node, "attr") or hasattr(node, "id")
    }


@pytest.mark.slow
def test_one_module_counts_the_usable_cpus():
    found = {str(path.relative_to(PACKAGE)) for path in PACKAGE.rglob("*.py") if COUNTS & names(path)}
    # The doctor says beside it how many CPUs the machine has.
    assert found == {"machine.py", "cli/surroundings.py"}


def test_affinity_and_the_variable_of_loky_count(monkeypatch):
    assert 1 <= usable_cpus() <= len(os.sched_getaffinity(0))
    monkeypatch.setenv("LOKY_MAX_CPU_COUNT", "1")
    assert usable_cpus() == look().usable_cpus == 1
    monkeypatch.setenv("LOKY_MAX_CPU_COUNT", "many")
    with pytest.raises(InputError, match="LOKY_MAX_CPU_COUNT is 'many'; set it to a whole number"):
        usable_cpus()


@pytest.mark.parametrize(
    ("quota", "most"), [("50000 100000", 1), ("100000 100000", 1), ("150000 100000", 2), ("max 100000", 2**20)]
)
def test_the_quota_of_a_control_group_counts(tmp_path, monkeypatch, quota, most):
    """Of the process's own group, as systemd sets it, outside any container."""
    monkeypatch.setattr(os, "cpu_count", lambda: 64)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(64)))
    (tmp_path / "proc/self").mkdir(parents=True)
    (tmp_path / "proc/self/cgroup").write_text("0::/user.slice/job.scope\n")
    folder = tmp_path / "sys/fs/cgroup/user.slice/job.scope"
    folder.mkdir(parents=True)
    (folder / "cpu.max").write_text(quota)
    assert usable_cpus(tmp_path) == min(most, usable_cpus())


def test_a_loader_knows_it(monkeypatch, prototypes):
    monkeypatch.setenv("LOKY_MAX_CPU_COUNT", "1")
    told = lg.loader(lg.LazyGraphDataset(prototypes), 8).settings
    assert (told.num_workers, told.threads) == (0, 0)
