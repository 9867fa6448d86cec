"""Cases that are drawn whole and nearly right, in places that a mutator of bytes rarely reaches.

Each module has a function ``case``, which draws one case from a ``random.Random``, judges it, and returns a word for
what happened. An AssertionError, or any error that lazygraph does not raise on purpose, is a finding. What a case takes
is bounded, so that every one ends. ``python -m tools.fuzz.structured`` runs them, ``tests/attacks/test_structured.py``
replays some.
"""

from __future__ import annotations

import random
import warnings

import numpy as np

from tools.fuzz.structured import records, search, views

KINDS = {"records": records.case, "views": views.case, "search": search.case}


def run(kind, seed, number):
    """Draw and judge one case, which follows from its kind, seed and number alone."""
    chosen = random.Random(f"{kind} {seed} {number}")
    with warnings.catch_warnings():
        warnings.simplefilter("error", RuntimeWarning)  # of numbers that overflow, which nobody expects
        return KINDS[kind](chosen, np.random.default_rng(chosen.getrandbits(64)))
