"""Contract tests for authors of plug-ins: subclass one in a test module of yours, and pytest collects it.

A source, a view, a preset and a storage each promise things on which the writer and the loader rely. The classes here
test these promises for lazygraph's own and for anybody's. They need pytest; :func:`crystals` needs hypothesis.

Example:
    >>> from lazygraph.testing import PresetContract
    >>> class TestMine(PresetContract):
    ...     preset = "radius"
    ...     parameters = {"cutoff": 4.0}
"""

from __future__ import annotations

from lazygraph.testing.crystals import crystals, sample_crystals
from lazygraph.testing.presets import PresetContract
from lazygraph.testing.sources import SourceContract
from lazygraph.testing.storages import StorageContract
from lazygraph.testing.views import ViewContract

__all__ = ["PresetContract", "SourceContract", "StorageContract", "ViewContract", "crystals", "sample_crystals"]
