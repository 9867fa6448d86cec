"""Does any nearly right record, dataset or crystal crash, hang, or mean two things? Cases of one kind, until a finding.

    tools/sanitize python -m tools.fuzz.structured records --seconds 1200 --seed 1 --json $PWD/results/structured.json
    python -m tools.fuzz.structured search --seed 1 --first 4711 --cases 1    # that case again

The number of the case at hand stands in --at, so that a process that a sanitizer ends tells which one it was. Runs with
the same --json add up to one table; ``python tools/bench/report.py --page reliability results`` puts it into the page.
"""

from __future__ import annotations

import ctypes
import faulthandler
import json
import os
import resource
import signal
import sys
import time
from collections import Counter
from itertools import count
from pathlib import Path

from lazygraph.native import LIBRARY, kernels
from tools.bench.common import parser, publish
from tools.fuzz.structured import KINDS, run

TITLE = "Structured cases"
SLOW = 60  # s of processor time; a case that takes more is a finding, under sanitizers too


def main():
    options = arguments()
    faulthandler.enable()
    # A case takes only a bounded number of steps; one that does not end all the same is stopped where it stands.
    signal.signal(signal.SIGPROF, _too_slow)
    said, slowest, begin = Counter(), 0.0, time.monotonic()
    for number in count(options.first):
        if time.monotonic() - begin > options.seconds or number - options.first == options.cases:
            break
        options.at.write_text(f"{options.kind} --seed {options.seed} --first {number} --cases 1\n")
        started = time.monotonic()
        faulthandler.dump_traceback_later(20 * SLOW, exit=True)
        signal.setitimer(signal.ITIMER_PROF, SLOW)
        try:
            said[run(options.kind, options.seed, number)] += 1
        except BaseException:
            print(f"a finding: {options.kind} --seed {options.seed} --first {number} --cases 1", file=sys.stderr)
            raise
        finally:
            signal.setitimer(signal.ITIMER_PROF, 0)
            faulthandler.cancel_dump_traceback_later()
        slowest = max(slowest, time.monotonic() - started)
    row = {
        "minutes": round((time.monotonic() - begin) / 60, 1),
        "cases": said.total(),
        **{word: said[word] for word in sorted(said)},
        "slowest_s": round(slowest, 2),
        "peak_MiB": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> 10,
        "compiled_code": "sanitized" if sanitized() else "as installed" if kernels() else "none",
        "findings": 0,
    }
    before = json.loads(options.json.read_text()) if options.json and options.json.exists() else {}
    rows = before.get("tables", {}).get(TITLE, {})
    publish(__doc__, options, {TITLE: rows | {f"{options.kind}, seed {options.seed}": row}})


def arguments():
    options = parser(__doc__, 1)
    options.add_argument("kind", choices=KINDS)
    options.add_argument("--seed", type=int, default=0)
    options.add_argument("--first", type=int, default=0, help="the number of the first case")
    options.add_argument("--cases", type=int, default=-1, help="how many; without a bound unless said")
    options.add_argument("--seconds", type=float, default=600.0, help="after which none is begun (default %(default)s)")
    options.add_argument("--at", type=Path, default=Path(os.devnull), help="a file that names the case at hand")
    return options.parse_args()


def sanitized():
    """Whether the compiled loops report to AddressSanitizer."""
    return kernels() is not None and hasattr(ctypes.CDLL(os.fspath(LIBRARY)), "__asan_init")


def _too_slow(*_):
    raise TimeoutError(f"one case takes more than {SLOW} s of processor time")


if __name__ == "__main__":
    sys.exit(main())
