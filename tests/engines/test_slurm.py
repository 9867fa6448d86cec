"""The jobs of ``lazygraph slurm`` under a real Slurm of one node: arrays, dependencies, requeue and time limits.

Needs root and Debian's packages slurmctld, slurmd, slurm-client and munge. Accounting, and so the states of jobs that
ended long ago, needs a database, which is not started: the tests read ``scontrol`` while Slurm remembers them.
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

import lazygraph as lg
from tests.engines.processes import finished, until

pytestmark = pytest.mark.slow
SOURCE = "prototypes:300?seed=4"
OPTIONS = ["--shard-size", "20", "--split", "0.8,0.1,0.1"]
CONFIGURATION = """\
ClusterName=test
SlurmctldHost={host}(127.0.0.1)
SlurmUser=root
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket
CredType=cred/munge
MpiDefault=none
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
SlurmctldPort={controller}
SlurmdPort={daemon}
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
SlurmdSpoolDir={folder}/spool
StateSaveLocation={folder}/state
ReturnToService=2
KillWait=2
MinJobAge=300
OverTimeLimit=0
AccountingStorageType=accounting_storage/none
JobAcctGatherType=jobacct_gather/none
JobCompType=jobcomp/none
SchedulerParameters=sched_interval=2,batch_sched_delay=1
NodeName={host} NodeAddr=127.0.0.1 CPUs=2 State=UNKNOWN
PartitionName=main Nodes={host} Default=YES MaxTime=INFINITE State=UP OverSubscribe=FORCE:4
"""


def free_port():
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return found.getsockname()[1]


class Slurm:
    """A controller and a node, and its commands."""

    def __init__(self, start, variables, folder):
        self.folder, self.variables = folder, variables | {"SLURM_CONF": str(folder / "slurm.conf")}
        host = socket.gethostname().split(".")[0]
        for name in ("spool", "state"):
            (folder / name).mkdir()
        ports = {"controller": free_port(), "daemon": free_port()}
        (folder / "slurm.conf").write_text(CONFIGURATION.format(host=host, folder=folder, **ports))
        key = folder / "munge.key"
        key.write_bytes(os.urandom(1024))
        key.chmod(0o400)
        files = [f"--{name}={folder / 'munge'}.{end}" for name, end in (("socket", "socket"), ("pid-file", "pid"))]
        files += [f"--log-file={folder}/munge.log", f"--seed-file={folder}/munge.seed", f"--key-file={key}"]
        self.processes = [start("munged", "munged", "--foreground", "--force", *files)]
        until((folder / "munge.socket").exists, self.processes[0], 20)
        for name in ("slurmctld", "slurmd"):
            extra = ["-N", host] if name == "slurmd" else []
            self.processes.append(start(name, name, "-D", *extra, SLURM_CONF=self.variables["SLURM_CONF"]))
        until(lambda: "idle" in self("sinfo", "-h", "-o", "%T", check=False), self.processes[-1], 60)

    def __call__(self, *command, check=True, stdin=None):
        done = subprocess.run(
            list(map(str, command)), input=stdin, env=self.variables, cwd=self.folder, capture_output=True, text=True,
            check=False,
        )  # fmt: skip
        assert done.returncode == 0 or not check, done.stderr
        return done.stdout

    def states(self, job):
        """The states of a job, or of each task of an array."""
        return set(re.findall(r"JobState=(\w+)", self("scontrol", "show", "job", job, check=False)))

    def submit(self, *options, source=SOURCE, output="x.lg"):
        """Submit the jobs that ``lazygraph slurm`` prints; their numbers."""
        text = self("lazygraph", "slurm", source, "-o", output, *OPTIONS, *options)
        said = self("bash", stdin=text)
        return re.match(r"submitted: plan (\d+), shards (\d+), merge (\d+)", said).groups()

    def wait(self, *jobs, seconds=180):
        """Wait until jobs have ended; their states."""
        busy = {"PENDING", "RUNNING", "COMPLETING", "CONFIGURING", "SUSPENDED", "REQUEUED"}
        until(lambda: not any(self.states(job) & busy for job in jobs), self.processes[1], seconds)
        return [self.states(job) for job in jobs]

    def logs(self):
        return "\n".join(f"== {p.name}\n{p.read_text()}" for p in sorted(self.folder.rglob("*.log")))


@pytest.fixture
def slurm(start, variables):
    for program in ("slurmctld", "slurmd", "sbatch", "munged"):
        if shutil.which(program) is None:
            pytest.skip(f"{program} is not installed: Debian's slurmctld, slurmd, slurm-client and munge")
    if "LAZYGRAPH_ENGINES" not in os.environ:
        pytest.skip("tools/engines runs it: it takes minutes")
    if os.geteuid() != 0:
        pytest.skip("starting slurmd needs root")
    if shutil.which("lazygraph", path=Path(sys.executable).parent) is None:
        pytest.skip("lazygraph is not installed in this environment: pip install -e .")
    folder = Path(variables["TMPDIR"]) / "slurm"
    folder.mkdir()
    return Slurm(start, variables, folder)


@pytest.fixture(scope="module")
def expected(tmp_path_factory):
    path = tmp_path_factory.mktemp("expected") / "x.lg"
    command = ["lazygraph-write", SOURCE, "-o", str(path), *OPTIONS, "--workers", "1"]
    subprocess.run([Path(sys.executable).parent / command[0], *command[1:]], check=True, capture_output=True)
    return {str(p.relative_to(path)): p.read_bytes() for p in path.rglob("*") if p.is_file()}


def test_the_jobs_write_the_bytes_of_one_process(slurm, expected, bytes_of):
    jobs = slurm.submit("--tasks", "4", "--throttle", "2", "--time", "10", "--partition", "main")
    assert slurm.wait(*jobs) == [{"COMPLETED"}] * 3, slurm.logs()
    assert bytes_of(slurm.folder / "x.lg") == expected
    assert len(list((slurm.folder / "x.lg.logs").glob("shards-*_*.log"))) == 4
    # Submitted again, the first job says that there is nothing to do, and the others are taken back.
    again = slurm.submit("--tasks", "4")
    assert slurm.wait(*again)[0] == {"FAILED"}
    until(lambda: slurm.states(again[2]) <= {"CANCELLED"}, slurm.processes[1])
    assert bytes_of(slurm.folder / "x.lg") == expected


def test_a_requeued_task_and_one_that_is_killed_cost_nothing_but_time(slurm, expected, bytes_of):
    _, shards, merge = slurm.submit("--tasks", "2", "--throttle", "1")
    until(lambda: finished(slurm.folder / "x.lg") >= 2, slurm.processes[1])
    slurm("scontrol", "requeue", f"{shards}_1")
    until(lambda: finished(slurm.folder / "x.lg") >= 4, slurm.processes[1], 240)
    for link in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            words = link.read_bytes().split(b"\0")
            if b"shard" in words and (link.parent / "cwd").resolve() == slurm.folder:
                os.kill(int(link.parent.name), signal.SIGKILL)
        except OSError:
            continue
    assert slurm.wait(shards, merge, seconds=240) == [{"COMPLETED"}] * 2, slurm.logs()
    assert bytes_of(slurm.folder / "x.lg") == expected


def test_a_time_limit_that_strikes_keeps_what_is_finished(slurm, expected, bytes_of):
    """Slurm's shortest limit is a minute; a shard that waits takes longer."""
    site = slurm.folder / "site"
    site.mkdir()
    (site / "sitecustomize.py").write_text(
        "import time\nfrom lazygraph.writing.rows import ShardRows\nsave = ShardRows.save\n"
        "def slow(self, path):\n    if path.name == '00005.msgpack':\n        time.sleep(600)\n    save(self, path)\n"
        "ShardRows.save = slow\n"
    )
    paths = slurm.variables["PYTHONPATH"]
    slurm.variables["PYTHONPATH"] = os.pathsep.join([str(site), paths])
    _, shards, merge = slurm.submit("--tasks", "1", "--time", "1")
    assert slurm.wait(shards, seconds=240) == [{"TIMEOUT"}], slurm.logs()
    until(lambda: slurm.states(merge) <= {"CANCELLED"}, slurm.processes[1])
    assert finished(slurm.folder / "x.lg") == 5
    slurm.variables["PYTHONPATH"] = paths
    jobs = slurm.submit("--tasks", "1")
    assert slurm.wait(*jobs) == [{"COMPLETED"}] * 3, slurm.logs()
    assert bytes_of(slurm.folder / "x.lg") == expected


def salt(atoms, a):
    return lg.Crystal([[a, 0, 0], [0, 4, 0], [0, 0, 4]], [[k / atoms, 0.1, 0.2] for k in range(atoms)], [11] * atoms)


def test_a_structure_that_kills_is_quarantined(slurm):
    """Its task tries again. The samples of the plan do not reach it."""
    source = [(f"id-{n}", salt(3 if n == 30 else 2, 4 + 0.01 * n)) for n in range(400)]
    lg.write(source, slurm.folder / "source.lg", graph="none", workers=1, progress=False)
    slurm.variables["POISON"] = "1"
    jobs = slurm.submit("--graph", "cgcnn", "--tasks", "2", source="source.lg")
    assert slurm.wait(*jobs) == [{"COMPLETED"}] * 3, slurm.logs()
    ds = lg.LazyGraphDataset(slurm.folder / "x.lg")
    assert (len(ds), ds.manifest.quarantine.count) == (399, 1)
