"""When two graphs, or two batches, are the same: what the tests of this folder share."""

from __future__ import annotations

import numpy as np
import torch


def same_values(a, b):
    assert sorted(a.keys()) == sorted(b.keys())
    for key in a.keys():  # noqa: SIM118  # a Data is no mapping
        if isinstance(a[key], torch.Tensor):
            assert a[key].dtype == b[key].dtype, key
            assert a[key].shape == b[key].shape, key
            # Bits, so that NaN counts too.
            mine, theirs = (np.ascontiguousarray(value[key].numpy()) for value in (a, b))
            assert mine.tobytes() == theirs.tobytes(), key
        else:
            assert a[key] == b[key], key


def same_batches(a, b):
    same_values(a, b)
    assert type(a) is type(b)
    assert a.num_graphs == b.num_graphs
    assert a.num_nodes == b.num_nodes
    for mine, theirs in ((a._slice_dict, b._slice_dict), (a._inc_dict, b._inc_dict)):
        assert mine.keys() == theirs.keys()
        for key, value in mine.items():
            assert (value is None) == (theirs[key] is None), key
            assert value is None or torch.equal(value, theirs[key]), key
