"""Workers never run the user's script again: not a script without a guard, not ``python -c``, not stdin."""

from __future__ import annotations

import pytest

from lazygraph.format.manifest import Manifest

SCRIPT = """
import os
print("the script runs", flush=True)
open("runs", "a").write("once\\n")
import lazygraph as lg
report = lg.write("prototypes:60?seed=2", "x.lg", workers=2, shard_size=10, progress=False)
print(report.written)
"""


@pytest.mark.slow
@pytest.mark.parametrize("how", ["script", "-c", "stdin", "-m"])
def test_the_script_runs_once(how, python, tmp_path):
    (tmp_path / "script.py").write_text(SCRIPT)
    output = {
        "script": lambda: python("script.py"),
        "-c": lambda: python("-c", SCRIPT),
        "stdin": lambda: python("-", stdin=SCRIPT),
        "-m": lambda: python("-m", "script"),
    }[how]()
    assert output.splitlines() == ["the script runs", "60"]
    assert (tmp_path / "runs").read_text() == "once\n"
    assert Manifest.load(tmp_path / "x.lg").graphs == 60
    assert sorted(p.name for p in tmp_path.iterdir()) in (
        ["runs", "script.py", "x.lg"],
        ["__pycache__", "runs", "script.py", "x.lg"],
    )


@pytest.mark.slow
def test_structures_made_in_the_script_reach_the_workers(python, tmp_path):
    """They are unpacked into a file: classes of the script itself need not be known to workers."""
    script = """
import numpy as np, lazygraph as lg
class Mine(lg.Crystal):
    pass
def structures():
    for n in range(40):
        yield f"id-{n}", Mine(np.eye(3) * (4 + n / 10), [[0, 0, 0], [.5, .5, .5]], [11, 17]), {"energy": n}
print(lg.write(structures(), "x.lg", workers=2, shard_size=10, progress=False).written)
"""
    assert python("-c", script) == "40\n"


@pytest.mark.slow
def test_a_worker_uses_one_thread(python):
    script = """
import os
from lazygraph.writing.pool import processes
with processes(1) as pool:
    print(pool.submit(os.getenv, "OMP_NUM_THREADS").result(), os.getenv("OMP_NUM_THREADS"))
"""
    assert python("-c", script).split()[0] == "1"


@pytest.mark.slow
def test_a_write_from_a_thread(python, tmp_path):
    """A worker ends when the thread that started it does: that must be the thread that waits for it."""
    script = """
import threading, lazygraph as lg
def work():
    print(lg.write("prototypes:60?seed=2", "x.lg", workers=2, shard_size=10, progress=False).written)
thread = threading.Thread(target=work)
thread.start()
thread.join()
"""
    assert python("-c", script) == "60\n"


@pytest.mark.slow
def test_nothing_but_the_result_is_printed_where_no_one_watches(environment, tmp_path):
    import subprocess
    import sys

    script = 'import lazygraph as lg; lg.write("prototypes:60", "x.lg", workers=2, shard_size=10)'
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, cwd=tmp_path, env=environment, check=True
    )
    assert (done.stdout, done.stderr) == (b"", b"")
