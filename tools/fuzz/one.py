"""What does the fuzzer find in one target? Runs until its time is over, or until the first finding.

``tools/fuzz/run`` calls it: ``python -m tools.fuzz.one TARGET[:parts] [options of libFuzzer] FOLDER...``; with
``:parts`` inputs are changed as ``mutate.py`` does, else as libFuzzer does.
"""

import dis
import operator
import sys
from functools import lru_cache

import atheris
import numpy as np
from atheris.version_dependent import CMP_OP_SHIFT_AMOUNT

from tools.fuzz.mutate import mutator

with atheris.instrument_imports(include=["lazygraph"]):
    from tools.fuzz.targets import TARGETS

NAMES = {"<": "lt", "<=": "le", "==": "eq", "!=": "ne", ">": "gt", ">=": "ge"}
OPERATORS = [getattr(operator, NAMES[sign]) for sign in dis.cmp_op]


@lru_cache(maxsize=1)
def spare_arrays():
    """Compare arrays without atheris, which never frees what comparing gives: 5 KB for each input of ``pages``.

    Called with the first input, for ``atheris.Fuzz`` itself puts its function in the place where code looks for it.
    """
    trace = atheris._trace_cmp

    def compare(left, right, sign, *told):
        if isinstance(left, (np.ndarray, np.generic)) or isinstance(right, (np.ndarray, np.generic)):
            return OPERATORS[sign >> CMP_OP_SHIFT_AMOUNT](left, right)
        return trace(left, right, sign, *told)

    atheris._trace_cmp = compare


def main():
    name, _, how = sys.argv.pop(1).partition(":")
    target = TARGETS[name]

    def run(data):
        spare_arrays()
        target(data)

    options = {"custom_mutator": mutator(name)} if how == "parts" else {}
    atheris.Setup(sys.argv, run, **options)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
