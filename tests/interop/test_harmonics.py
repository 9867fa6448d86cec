"""Spherical harmonics, which eComFormer has written out, are those of e3nn."""

from __future__ import annotations

import mace.tools  # noqa: F401  # e3nn 0.4.4 cannot be imported before mace makes torch.load trust every file
import numpy as np
import torch
from e3nn import o3

from lazygraph.training.models.basis import spherical_harmonics


def test_harmonics_are_those_of_e3nn():
    vectors = torch.tensor(np.random.default_rng(4).normal(size=(20, 3)))
    # e3nn's polar axis is y: its (x, y, z) are our (y, z, x).
    theirs = o3.spherical_harmonics([0, 1, 2], vectors[:, [1, 2, 0]], normalize=True, normalization="component")
    assert torch.allclose(spherical_harmonics(vectors), theirs, atol=1e-6)
