"""Which bytes of a stranger does lazygraph not expect? Fuzzes every target in turn; ``tools/fuzz/run`` is the command.

Inputs that reach new code are kept in --work, in which the next run goes on; a finding ends the run, with its input in
findings/.
"""

from __future__ import annotations

import re
import resource
import subprocess
import sys
import tempfile
from pathlib import Path

from tools.bench.common import parser, publish
from tools.fuzz.targets import TARGETS

CORPUS = Path(__file__).with_name("corpus")
RUNS = [
    run
    for target in TARGETS
    for run in ((target, f"{target}:parts") if target in ("manifest", "record") else (target,))
]
"""Targets; of those with parts, once more with whole parts exchanged."""


def main():
    options = arguments()
    runs = [run for run in RUNS if options.target in (None, run, run.partition(":")[0])]
    rows, finding = {}, None
    with tempfile.TemporaryDirectory() as folder:
        for run in runs:
            rows[run], finding = fuzz(run, options, options.work or Path(folder))
            if finding:
                break
    publish(__doc__, options, {"Fuzzing": rows}, finding=finding)
    if finding:
        sys.exit(f"a finding in the target {finding}: its input lies in {options.findings}")


def arguments():
    options = parser(__doc__, 1)
    options.add_argument("--minutes", type=float, default=10.0, help="of each target (default %(default)s)")
    options.add_argument("--target", choices=[*TARGETS, *RUNS], help="this one alone")
    options.add_argument("--work", type=Path, help="where inputs are kept that reach new code")
    options.add_argument("--findings", type=Path, default=Path("findings"), help="where the input of a finding is left")
    options.add_argument("--memory", type=int, default=1024, help="MiB that a target may take (default %(default)s)")
    return options.parse_args()


def fuzz(run, options, work):
    """The row of one run, and its name where it found something."""
    target = run.partition(":")[0]
    kept = work / target
    kept.mkdir(parents=True, exist_ok=True)
    options.findings.mkdir(parents=True, exist_ok=True)
    command = [
        sys.executable, "-m", "tools.fuzz.one", run, f"-max_total_time={round(60 * options.minutes)}",
        f"-rss_limit_mb={options.memory}", "-timeout=30", "-max_len=8192", "-print_final_stats=1",
        f"-artifact_prefix={options.findings}/{target}-", str(kept), str(CORPUS / target),
    ]  # fmt: skip
    print("==", run, flush=True)
    before = resource.getrusage(resource.RUSAGE_CHILDREN).ru_utime
    done = subprocess.run(command, check=False, stderr=subprocess.PIPE, text=True, errors="replace")
    covered = [tuple(map(int, found)) for found in re.findall(r"cov: (\d+) ft: (\d+)", done.stderr)]
    seconds = resource.getrusage(resource.RUSAGE_CHILDREN).ru_utime - before
    (first, _), (last, features) = (covered[0], covered[-1]) if covered else ((0, 0), (0, 0))
    stats = dict(re.findall(r"^stat::(\w+):\s+(\d+)$", done.stderr, re.MULTILINE))
    if done.returncode:
        print(done.stderr[-8000:])
    return {
        "minutes": options.minutes,
        "cpu_minutes": round(seconds / 60, 2),
        "executions": int(stats.get("number_of_executed_units", 0)),
        "branches": last,
        "new_branches": last - first,
        "features": features,
        "peak_MiB": int(stats.get("peak_rss_mb", 0)),
        "findings": int(done.returncode != 0),
    }, (run if done.returncode else None)


if __name__ == "__main__":
    main()
