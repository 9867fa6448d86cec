"""What does the fuzzer find in one target? Runs until its time is over, or until the first finding.

``tools/fuzz/run`` calls it: ``python -m tools.fuzz.one TARGET[:parts] [options of libFuzzer] FOLDER...``; with
``:parts`` inputs are changed as ``mutate.py`` does, else as libFuzzer does.
"""

import sys

import atheris

with atheris.instrument_imports(include=["lazygraph"]):
    from tools.fuzz.targets import TARGETS
from tools.fuzz.mutate import mutator

if __name__ == "__main__":
    name, _, how = sys.argv.pop(1).partition(":")
    options = {"custom_mutator": mutator(name)} if how == "parts" else {}
    atheris.Setup(sys.argv, TARGETS[name], **options)
    atheris.Fuzz()
