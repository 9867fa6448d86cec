"""The official folds of matbench: for each row of a file, the fold in which it is tested."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lazygraph.errors import UnreadableInput
from lazygraph.sources.catalogue.table import Folds

__all__ = ["official_folds"]


def official_folds(folds: Folds, rows: int, strata: Sequence[Any] | None = None) -> NDArray[np.uint8]:
    """Return the fold of each row, (rows,).

    Without strata these are the test folds of ``KFold(number, shuffle=True, random_state=seed)`` of scikit-learn, and
    with strata those of ``StratifiedKFold``, as the generator of matbench's validation file calls them. They are
    compared with the sha256 of the folds in that file.

    Args:
        folds: the folds of a data set.
        rows: how many rows its file has.
        strata: (rows,) the value of the label ``folds.stratify`` in each row.

    Raises:
        UnreadableInput: the folds are not the official ones, because the file has other rows.
    """
    random = np.random.RandomState(folds.seed)
    found = _plain(rows, folds.number, random) if strata is None else _stratified(strata, folds.number, random)
    if (digest := hashlib.sha256(found.tobytes()).hexdigest()) != folds.sha256:
        msg = (
            f"the {rows:,} rows give other folds (sha256 {digest}) than the official ones ({folds.sha256}); use a "
            f"file with the rows of {folds.first_id} to {folds.last_id}, in their order"
        )
        raise UnreadableInput(msg)
    return found


def _plain(rows: int, number: int, random: np.random.RandomState) -> NDArray[np.uint8]:
    """Shuffle the rows, and give each fold the next part. The first folds may have one row more."""
    order = np.arange(rows)
    random.shuffle(order)
    out = np.empty(rows, np.uint8)
    for fold, part in enumerate(np.array_split(order, number)):
        out[part] = fold
    return out


def _stratified(strata: Sequence[Any], number: int, random: np.random.RandomState) -> NDArray[np.uint8]:
    """Sort rows by stratum, in the order of appearance. Row p gets fold p mod K. Then the folds are shuffled."""
    seen: dict[Any, int] = {}
    codes = np.array([seen.setdefault(one, len(seen)) for one in strata])
    out = np.empty(len(codes), np.uint8)
    start = 0
    for code in range(len(seen)):
        members = np.flatnonzero(codes == code)
        own = np.sort(np.arange(start, start + len(members)) % number).astype(np.uint8)
        random.shuffle(own)
        out[members] = own
        start += len(members)
    return out
