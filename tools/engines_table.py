"""Put the results of tools/engines, as pytest writes them for other programs, into the table of docs/clusters.md."""

from __future__ import annotations

import importlib.metadata
import platform
import re
import subprocess
import sys
import xml.etree.ElementTree as ET
from pathlib import Path

PAGE = Path(__file__).resolve().parents[1] / "docs" / "clusters.md"
BEGIN, END = "<!-- begin engines -->\n", "<!-- end engines -->"
ENGINES = {
    "dask_local": "Dask, local cluster",
    "dask": "Dask, scheduler and workers",
    "ray": "Ray",
    "parsl": "parsl",
    "executorlib": "executorlib",
    "mpi": "mpi4py",
}
TESTS = {
    "test_a_worker_that_is_killed_costs_nothing_but_time": "a worker killed",
    "test_ctrl_c_keeps_what_is_finished_and_the_same_command_goes_on": "Ctrl-C, and the same command again",
    "test_an_input_that_kills_every_worker_is_quarantined": "an input that kills its worker",
    "test_workers_of_a_write_that_was_given_up_leave_another_one_alone": "replaced by another write",
}
SLURM = {
    "test_the_jobs_write_the_bytes_of_one_process": "array and dependencies",
    "test_a_requeued_task_and_one_that_is_killed_cost_nothing_but_time": "a task that is requeued or killed",
    "test_a_time_limit_that_strikes_keeps_what_is_finished": "a task that reaches its time limit",
    "test_a_structure_that_kills_is_quarantined": "an input that kills its worker",
}
PACKAGES = ("dask", "distributed", "ray", "parsl", "executorlib", "mpi4py")


def outcomes(path):
    """Name of a test -> passed, failed or skipped."""
    found = {}
    for case in ET.parse(path).iter("testcase"):
        kinds = {child.tag for child in case}
        found[case.get("name")] = (
            "failed" if kinds & {"failure", "error"} else "skipped" if "skipped" in kinds else "passed"
        )
    return found


def table(found):
    lines = ["| engine | " + " | ".join(TESTS.values()) + " |", "|---|" + "---|" * len(TESTS)]
    for engine, name in ENGINES.items():
        cells = [found.get(f"{test}[{engine}]", "not run") for test in TESTS]
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    lines += ["", "| Slurm | result |", "|---|---|"]
    lines += [f"| {name} | {found.get(test, 'not run')} |" for test, name in SLURM.items()]
    versions = []
    for name in PACKAGES:
        try:
            versions.append(f"{name} {importlib.metadata.version(name)}")
        except importlib.metadata.PackageNotFoundError:
            continue
    for command, pattern in (
        (["mpiexec", "--version"], r"(OpenRTE\) [\d.]+|HYDRA)"),
        (["slurmd", "-V"], r"(slurm.*)"),
    ):
        try:
            said = subprocess.run(command, capture_output=True, text=True, check=False).stdout
        except FileNotFoundError:
            continue
        versions += re.findall(pattern, said)[:1]
    versions = [
        text.replace("slurm-wlm", "Slurm").replace("OpenRTE", "Open MPI").replace("(", "").replace(")", "")
        for text in versions
    ]
    return "\n".join([*lines, "", f"Python {platform.python_version()}, {', '.join(versions)}.", ""])


def main():
    page = PAGE.read_text()
    before, rest = page.split(BEGIN)
    _, after = rest.split(END)
    PAGE.write_text(before + BEGIN + "\n" + table(outcomes(sys.argv[1])) + "\n" + END + after)


if __name__ == "__main__":
    main()
