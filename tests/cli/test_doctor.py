"""What doctor would set: advice from made-up facts, facts from made-up and from this machine, and the command."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lazygraph import native
from lazygraph.cli import surroundings
from lazygraph.cli.advice import NETWORK, DatasetFacts, FolderFacts, MachineFacts, advise
from lazygraph.cli.main import main
from lazygraph.cli.surroundings import file_system_of, look

GOLDEN = Path(__file__).parents[1] / "golden" / "1.0-crystals.lg"
VERSIONS = dict.fromkeys(("torch", "numpy", "lmdb", "zstandard", "lightning"), "1.0")
DISK = FolderFacts("/data", "ext4", 2**40)
SHM = FolderFacts("/dev/shm", "tmpfs", 2**34)
# A machine on which nothing is to be said.
QUIET = MachineFacts(
    system="Linux", versions=VERSIONS, native=None, has_zstd=True, start_method="forkserver", cpus=1, usable_cpus=1,
    cpu_limit=None, memory=2**35, memory_limit=None, descriptors=4096, descriptors_hard=4096, threads=None, shm=SHM,
    memfd=True, temporary=DISK, place=DISK,
)  # fmt: skip
UNKNOWN = MachineFacts(
    system="", versions={}, native=None, has_zstd=True, start_method=None, cpus=None, usable_cpus=None, cpu_limit=None,
    memory=None, memory_limit=None, descriptors=None, descriptors_hard=None, threads=None, shm=None, memfd=False,
    temporary=FolderFacts("/tmp", None, None),
)  # fmt: skip
MANY = DatasetFacts(None, graphs=10**6, shards=900, columns=12, column_bytes=2**24, microseconds=9.0)


def test_nothing_is_said_of_a_machine_that_needs_nothing():
    assert advise(QUIET) == []


@pytest.mark.parametrize(
    ("change", "kind", "what", "why"),
    [
        ({"place": FolderFacts("/home/x", "nfs4", 1)}, "change", "to a local disk", "/home/x is on nfs4"),
        ({"place": FolderFacts("/home/x", None, 1)}, "note", "on a network file system", "does not give the type"),
        ({"place": FolderFacts("/tmp/x", "tmpfs", 1)}, "note", "keep a copy of the dataset on a disk", "uses memory"),
        ({"native": "there is no kernels.so"}, "change", "C compiler", "no kernels.so; without compiled code"),
        ({"native": "LAZYGRAPH_NATIVE=0 leaves"}, "change", "unset LAZYGRAPH_NATIVE", "without compiled code"),
        ({"has_zstd": False}, "change", "wheels of zstandard and xxhash", "found no zstd or XXH3"),
        ({"descriptors": 100}, "change", "ulimit -n 4096", "100 files open, and lazygraph needs about 256"),
        ({"descriptors": 100, "descriptors_hard": 200}, "change", "the hard limit is 200", "needs about 256"),
        ({"descriptors": 1024, "dataset": MANY}, "note", "window=4096", "lazygraph keeps at most 256 open"),
        ({"start_method": "fork"}, "note", "multiprocessing_context='forkserver'", "forks by default"),
        ({"cpus": 64, "usable_cpus": 4, "cpu_limit": 4.0}, "note", "num_workers up to 3", "4 CPUs may be used"),
        ({"cpus": 64, "usable_cpus": 4, "cpu_limit": 4.0}, "change", "OMP_NUM_THREADS=4", "64 CPUs, but only 4 may"),
        ({"cpus": 64, "usable_cpus": 64}, "note", "num_workers up to 8", "64 CPUs may be used"),
        ({"shm": FolderFacts("/dev/shm", "tmpfs", 2**26)}, "note", "--shm-size", "loader needs no /dev/shm"),
        ({"shm": FolderFacts("/dev/shm", "tmpfs", 2**26), "memfd": False}, "change", "num_workers=0", "64 MiB free"),
        ({"dataset": replace(MANY, shards=1), "memory_limit": 2**24}, "change", "more memory", "take 16 MiB of the 16"),
        ({"dataset": DatasetFacts("x.lg: sha256")}, "change", "lazygraph verify", "x.lg: sha256"),
        ({"versions": VERSIONS | {"lmdb": None}}, "change", "pip install lmdb", "not installed"),
        ({"versions": VERSIONS | {"lightning": None}}, "note", "lazygraph[train]", "not installed"),
        ({"system": "Darwin"}, "note", "lazygraph verify", "untested on Darwin"),
    ],
)  # fmt: skip
def test_advice(change, kind, what, why):
    found = advise(replace(QUIET, **change))
    assert [one for one in found if one.kind == kind and what in one.what and why in one.why], found
    # One fact, one piece of advice; two of a limit on CPUs.
    assert len(found) <= 2


def test_threads_that_are_set_are_left():
    facts = replace(QUIET, cpus=64, usable_cpus=4, cpu_limit=4.0, threads="4")
    assert not [one for one in advise(facts) if "OMP_NUM_THREADS" in one.what]


def test_nothing_is_to_be_set_where_nothing_is_known():
    assert [one for one in advise(UNKNOWN) if one.kind == "change"] == []


@given(
    cpus=st.none() | st.integers(1, 512),
    usable_cpus=st.none() | st.integers(1, 512),
    limit=st.none() | st.floats(0.01, 512),
    descriptors=st.none() | st.integers(0, 2**31),
    memory=st.none() | st.integers(0, 2**40),
    system=st.sampled_from([*NETWORK, "ext4", "tmpfs", None]),
    free=st.none() | st.integers(0, 2**40),
    dataset=st.none() | st.builds(DatasetFacts, st.none() | st.text(min_size=1), *[st.integers(0, 2**20)] * 4),
)
def test_any_facts_give_advice(cpus, usable_cpus, limit, descriptors, memory, system, free, dataset):
    place = FolderFacts("x", system, free)
    facts = replace(
        UNKNOWN, cpus=cpus, usable_cpus=usable_cpus, cpu_limit=limit, descriptors=descriptors,
        descriptors_hard=descriptors, memory=memory, memory_limit=memory, place=place, shm=place, dataset=dataset,
    )  # fmt: skip
    for one in advise(facts):
        assert one.kind in ("change", "note")
        assert one.what
        assert one.why


# ---- facts ----

MOUNTS = """\
22 1 0:20 / / rw,relatime - ext4 /dev/sda1 rw
30 22 0:30 / /home rw - nfs4 server:/home rw
31 30 0:31 / /home/me/my\\040disk rw shared:1 master:2 - xfs /dev/sdb rw
32 22 0:32 / /mnt rw - ext4 /dev/sdc rw
33 22 0:33 / /mnt rw - fuse.sshfs host: rw
34 22 0:34 / /a\u2028b rw - lustre host: rw
not a line of it
"""


@pytest.mark.parametrize(
    ("path", "found"),
    [
        ("/", "ext4"), ("/homely/x", "ext4"), ("/home/me", "nfs4"), ("/home/me/my disk/p.lg", "xfs"),
        ("/home/me/my", "nfs4"), ("/mnt/p.lg", "fuse.sshfs"),
        ("/a\u2028b/p.lg", "lustre"),
    ],
)  # fmt: skip
def test_the_file_system_of_a_path_is_that_of_the_nearest_mount(path, found):
    assert file_system_of(Path(path), MOUNTS) == found


@pytest.mark.parametrize(
    ("files", "cpus", "memory"),
    [
        ({}, None, None),
        ({"sys/fs/cgroup/cpu.max": "max 100000\n", "sys/fs/cgroup/memory.max": "max\n"}, None, None),
        ({"sys/fs/cgroup/cpu.max": "150000 100000\n", "sys/fs/cgroup/memory.max": "1073741824\n"}, 1.5, 2**30),
        # The least of those that hold one another.
        ({"sys/fs/cgroup/job/cpu.max": "400000 100000", "sys/fs/cgroup/job/step/cpu.max": "max 100000"}, 4.0, None),
        ({"sys/fs/cgroup/job/cpu.max": "400000 100000", "sys/fs/cgroup/job/step/cpu.max": "50000 100000"}, 0.5, None),
        ({"sys/fs/cgroup/cpu.max": "nonsense", "sys/fs/cgroup/memory.max": ""}, None, None),
    ],
)  # fmt: skip
def test_limits_of_control_groups(tmp_path, files, cpus, memory):
    for name, text in {"proc/self/cgroup": "0::/job/step\n", **files}.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    found = look(root=tmp_path)
    assert (found.cpu_limit, found.memory_limit) == (cpus, memory)
    assert found.temporary.file_system is None  # there is no mountinfo


def test_limits_of_control_groups_of_version_1(tmp_path):
    files = {
        "proc/self/cgroup": "4:memory:/box\n3:cpu,cpuacct:/box\n",
        "sys/fs/cgroup/cpu,cpuacct/nothing": "",
        "sys/fs/cgroup/cpu/box/cpu.cfs_quota_us": "200000\n",
        "sys/fs/cgroup/cpu/box/cpu.cfs_period_us": "100000\n",
        "sys/fs/cgroup/cpu/cpu.cfs_quota_us": "-1\n",
        "sys/fs/cgroup/cpu/cpu.cfs_period_us": "100000\n",
        "sys/fs/cgroup/memory/box/memory.limit_in_bytes": "536870912\n",
        "sys/fs/cgroup/memory/memory.limit_in_bytes": "9223372036854771712\n",
    }
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    found = look(root=tmp_path)
    assert (found.cpu_limit, found.memory_limit) == (2.0, 2**29)


def test_other_systems_tell_less_and_fail_nowhere(tmp_path, monkeypatch):
    for name in ("sched_getaffinity", "sysconf", "memfd_create"):
        monkeypatch.delattr(os, name)
    monkeypatch.setattr(surroundings, "descriptor_limit", lambda: (None, None))
    monkeypatch.setattr(surroundings.platform, "system", lambda: "Windows")
    facts = look(tmp_path, root=tmp_path)
    assert (facts.descriptors, facts.memory, facts.memfd) == (None, None, False)
    assert facts.usable_cpus
    assert [one.why for one in advise(facts) if "Windows" in one.why] == ["lazygraph is untested on Windows"]


def test_why_there_are_no_compiled_loops(monkeypatch, tmp_path):
    monkeypatch.setattr(native, "kernels", lambda: None)
    monkeypatch.setenv("LAZYGRAPH_NATIVE", "0")
    assert look().native == "LAZYGRAPH_NATIVE=0 turns compiled code off"
    monkeypatch.delenv("LAZYGRAPH_NATIVE")
    monkeypatch.setattr(native, "LIBRARY", tmp_path / "kernels.so")
    assert "no compiler was found" in look().native
    (tmp_path / "kernels.so").touch()
    assert "compiled from other sources" in look().native


def test_a_dataset_is_opened_and_read(tmp_path):
    facts = look(GOLDEN)
    assert facts.dataset.problem is None
    assert (facts.dataset.graphs, facts.dataset.shards) == (6, 2)
    assert facts.dataset.microseconds > 0
    assert look(tmp_path).dataset is None
    copy = tmp_path / "x.lg"
    shutil.copytree(GOLDEN, copy)
    shard = next(copy.glob("shards/00001-*"))
    shard.write_bytes(bytes(shard.stat().st_size))
    assert "row 3" in look(copy).dataset.problem
    (copy / "manifest.json").write_text("{}")
    assert "manifest.json: the checksum" in look(copy).dataset.problem


# ---- the command ----


def run(capsys, *arguments):
    code = main(["doctor", *map(str, arguments)])
    captured = capsys.readouterr()
    return code, captured.out, captured.err


def test_the_command(capsys, tmp_path):
    code, text, error = run(capsys, GOLDEN)
    assert (code, error) == (0, "")
    for part in ("versions", "compiled code", "start method", "/dev/shm", "6 graphs in 2 shards", str(GOLDEN)):
        assert part in text
    told = json.loads(run(capsys, "--json", GOLDEN)[1])
    assert told["facts"]["dataset"]["graphs"] == 6
    assert {"kind", "what", "why"} == set().union(*told["advice"], {"kind", "what", "why"})
    before = sorted(tmp_path.iterdir())
    assert run(capsys, tmp_path)[0] == 0
    assert sorted(tmp_path.iterdir()) == before


def test_strict_tells_whether_anything_is_to_be_set(capsys, monkeypatch, tmp_path):
    from lazygraph.cli import doctor

    monkeypatch.setattr(doctor, "look", lambda path: QUIET)
    code, text, _ = run(capsys, "--strict")
    assert code == 0
    assert "no setting needs to change" in text
    monkeypatch.setattr(doctor, "look", lambda path: replace(QUIET, descriptors=64))
    assert run(capsys)[0] == 0
    code, text, _ = run(capsys, "--strict")
    assert code == 1
    assert "change: run ulimit -n 4096\n    because a process may have 64 files open" in text


def test_a_path_that_is_not_there_is_an_error(capsys, tmp_path):
    code, text, error = run(capsys, tmp_path / "none.lg")
    assert (code, text) == (2, "")
    assert error.startswith("lazygraph: error: there is nothing at ")
    assert error.count("\n") == 1


def test_looking_loads_no_torch():
    code = "import sys; from lazygraph.cli.surroundings import look; look(); print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"
