"""The command ``lazygraph slurm``."""

from __future__ import annotations

import argparse
import os
import re
import shlex
from collections.abc import Iterator
from pathlib import Path

from lazygraph.cli import plan
from lazygraph.cli.options import input_options, recipe, refuse_options_of_new_datasets, split_rule, write_options
from lazygraph.cli.output import say
from lazygraph.errors import InputError

SUMMARY = "Print a script that writes a dataset with Slurm: jobs that plan it, write its shards, and merge them."
EXAMPLES = """\
examples:
  lazygraph slurm structures.json -o mp.lg --tasks 64 --time 2:00:00 --partition cpu > submit.sh
      look at the script, then submit all jobs: bash submit.sh
  lazygraph slurm 'cifs/*.cif' -o cifs.lg --tasks 500 --throttle 50 --sbatch=--account=materials | bash
      500 tasks; at most 50 run at the same time
  lazygraph slurm more.json -o mp.lg --append --split train --tasks 16 | bash
      add to a dataset

The other options are the options of lazygraph-write plan. All machines must share the folders, and the file system must
have file locks. The jobs run in the folder where you submit them, and with the same environment.
"""
ATTEMPTS = 3

SCRIPT = """\
#!/usr/bin/env bash
# Writes {output} with Slurm. Submit all jobs with: bash SCRIPT
# If a job failed or ran out of time, submit this script again: finished shards are kept.
set -euo pipefail
mkdir -p {logs}

# 1. Read the input once and plan the shards.
plan=$(sbatch {common} --job-name={name}-plan --output={logs}/plan-%j.log <<'JOB'
#!/usr/bin/env bash
set -euo pipefail
{plan}
JOB
)
plan=${{plan%%;*}}

# 2. Write the shards in {tasks} tasks, at most {throttle} at once. Slurm starts a task again if its node fails.
shards=$(sbatch {common} --job-name={name}-shards --output={logs}/shards-%A_%a.log --requeue \\
  --array=1-{tasks}%{throttle} --dependency="afterok:$plan" --kill-on-invalid-dep=yes <<'JOB'
#!/usr/bin/env bash
set -euo pipefail
status=0
for _ in {attempts}; do
  status=0
  {shard} --part "$SLURM_ARRAY_TASK_ID/{tasks}" || status=$?
  # A killed process (128 + signal) leaves a note of its current structure, and the next one isolates this structure.
  [ "$status" -gt 128 ] || break
done
exit "$status"
JOB
)
shards=${{shards%%;*}}

# 3. Merge the shards and publish the dataset.
merge=$(sbatch {common} --job-name={name}-merge --output={logs}/merge-%j.log \\
  --dependency="afterok:$shards" --kill-on-invalid-dep=yes <<'JOB'
#!/usr/bin/env bash
set -euo pipefail
{merge}
JOB
)
echo "submitted: plan $plan, shards $shards, merge ${{merge%%;*}}; logs are in" {logs}
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of the command, and those of ``lazygraph-write plan``, to its parser."""
    plan.add_what_is_planned(parser)
    slurm = parser.add_argument_group("Slurm")
    own = (
        slurm.add_argument(
            "--tasks", type=int, default=64, metavar="N", help="tasks of the array (default %(default)s)"
        ),
        slurm.add_argument(
            "--throttle", type=int, metavar="N", help="greatest number of tasks that run at once (default: all)"
        ),
        slurm.add_argument("--time", metavar="T", help="time limit of each job, such as 2:00:00"),
        slurm.add_argument("--partition", metavar="NAME", help="partition of all jobs"),
        slurm.add_argument(
            "--sbatch",
            action="append",
            default=[],
            metavar="OPTION",
            help="another option of sbatch for all jobs, such as --sbatch=--account=materials; repeat for more",
        ),
    )
    parser.set_defaults(options_of_plan=lambda arguments: _options(parser, {action.dest for action in own}, arguments))


def run(arguments: argparse.Namespace) -> int:
    """Print the script."""
    _check(arguments)
    output = arguments.output
    plugins = [f"--plugin={name}" for name in arguments.plugin]
    limits = {"--time": arguments.time, "--partition": arguments.partition}
    common = ["--parsable", *(f"{name}={value}" for name, value in limits.items() if value), *arguments.sbatch]
    name = Path(output).absolute().name.removesuffix(".lg")
    script = SCRIPT.format(
        output=output,
        logs=shlex.quote(f"{output.rstrip('/')}.logs"),
        name=shlex.quote(name),
        common=shlex.join(common),
        tasks=arguments.tasks,
        throttle=arguments.throttle or arguments.tasks,
        attempts=" ".join(str(attempt + 1) for attempt in range(ATTEMPTS)),
        plan=shlex.join(["lazygraph-write", "plan", *arguments.options_of_plan(arguments)]),
        shard=shlex.join(["lazygraph-write", "shard", output, *plugins]),
        merge=shlex.join(["lazygraph-write", "merge", output, *plugins]),
    )
    say(*script.rstrip("\n").split("\n"))
    return 0


def _check(arguments: argparse.Namespace) -> None:
    """Refuse, before jobs wait in a queue, what a job would refuse.

    Raises:
        InputError: with what is allowed.
    """
    if "-" in arguments.source:
        raise InputError(
            "the jobs cannot read - (standard input); give files that the machines of the cluster can read"
        )
    for text in (*arguments.options_of_plan(arguments), *arguments.sbatch):
        if not text.isprintable():
            msg = f"{text!r} contains a line end or a control character, which a script cannot hold; remove it"
            raise InputError(msg)
    if re.search(r"[%\\]", arguments.output):
        msg = f"the output {arguments.output!r} contains % or \\, which Slurm replaces in the names of logs; rename it"
        raise InputError(msg)
    _check_limits(arguments)
    if arguments.append:
        refuse_options_of_new_datasets(arguments)
    split_rule(arguments, named=arguments.append)
    recipe(arguments)
    input_options(arguments)
    write_options(arguments)


def _check_limits(arguments: argparse.Namespace) -> None:
    """Refuse what is no limit of Slurm.

    Raises:
        InputError: with what is allowed.
    """
    for name in ("tasks", "throttle"):
        number = getattr(arguments, name)
        if number is not None and number < 1:
            msg = f"found --{name} {number}; required: at least 1"
            raise InputError(msg)
    forms = (
        ("time", r"[0-9]+(-[0-9]+)?(:[0-9]+){0,2}", "minutes, H:MM:SS or D-HH:MM:SS, such as 2:00:00"),
        ("partition", r"[\w.,-]+", "the name of a partition, or several with commas"),
    )
    for name, form, required in forms:
        value = getattr(arguments, name)
        if value is not None and not re.fullmatch(form, value):
            msg = f"found --{name} {value!r}; required: {required}"
            raise InputError(msg)
    for option in arguments.sbatch:
        if not option.startswith("-"):
            msg = f"found --sbatch {option!r}; required: an option of sbatch, such as --sbatch=--account=materials"
            raise InputError(msg)


def _options(parser: argparse.ArgumentParser, own: set[str], arguments: argparse.Namespace) -> Iterator[str]:
    """The arguments as ``lazygraph-write plan`` takes them: its options that differ from their defaults."""
    last: list[str] = []
    for action in parser._actions:  # noqa: SLF001  # argparse has no other list of its options
        value = getattr(arguments, action.dest, None)
        if action.dest in own or value is None or value == action.default or action.dest in ("help", "traceback"):
            continue
        if not action.option_strings:
            last += value  # the sources
            continue
        option = max(action.option_strings, key=len)
        if action.nargs == 0:
            yield option
        else:
            yield from (f"{option}={one}" for one in (value if isinstance(value, list) else [value]))
    # Names that begin with a dash are no options.
    yield from (f".{os.sep}{one}" if one.startswith("-") else one for one in last)
