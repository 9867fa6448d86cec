"""Compares what lazygraph reads of the golden datasets with what was stored of them, by numpy alone.

    python tools/proofs/golden.py tests/golden

Every record is read by itself in Python, and all together by the compiled loops if there are any; then every dataset is
verified.
"""

from __future__ import annotations

import importlib.util
import json
import sys
from pathlib import Path

import numpy as np

from lazygraph.format.store import Store
from lazygraph.native import kernels
from lazygraph.reading.verify import verify


def load(path):
    spec = importlib.util.spec_from_file_location(path.stem, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def main(folder):
    graphs, described = 0, load(folder / "make.py").described
    for listed in sorted(folder.glob("*.json")):
        for name, stored in json.loads(listed.read_text(encoding="utf-8")).items():
            store = Store(folder / f"{listed.stem}-{name}.lg")
            rows = [store.arrays(row) for row in range(len(store))]
            for row, (found, expected) in enumerate(zip(rows, stored["rows"], strict=True)):
                for field, value in found.items():
                    if described(value) != expected["fields"][field]:
                        sys.exit(
                            f"{name}, row {row}: {field} is {described(value)}; stored: {expected['fields'][field]}"
                        )
            batch = store.read_batch(np.arange(len(store)))
            for field, value in batch.fields.items():
                if isinstance(value, list):
                    same = value == [one[field] for one in rows]
                else:
                    same = value.size == sum(one[field].size for one in rows)
                if not same:
                    sys.exit(f"{name}: {field} differs in a batch")
            if problems := verify(store.path).problems:
                sys.exit(f"{name}: {problems}")
            graphs += len(store)
    print(f"{graphs} golden graphs as stored; compiled loops: {'yes' if kernels() is not None else 'no'}")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
