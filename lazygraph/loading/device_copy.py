"""Copies of batches to a device: one buffer of narrow types, one copy, expanded on the device."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch

from lazygraph.format.record_batch import RecordBatch

__all__ = ["to_device"]


def to_device(records: RecordBatch, device: torch.device, *, pin: bool) -> RecordBatch:
    """Copy records to a device; their arrays become views of one tensor of bytes.

    Args:
        records: the records.
        device: the device to copy to.
        pin: use page-locked memory, so that the copy can overlap with other work of the device.
    """
    buffer, places = records.to_buffer()
    data = torch.empty(len(buffer), dtype=torch.uint8, pin_memory=pin)
    data.numpy()[...] = buffer
    there = data.to(device, non_blocking=pin)
    fields: dict[str, Any] = {name: value for name, value in records.fields.items() if isinstance(value, list)}
    for place in places:
        dtype = np.dtype(place.dtype)
        part = there[place.offset : place.offset + dtype.itemsize * math.prod(place.shape)]
        fields[place.name] = part.view(getattr(torch, dtype.name)).reshape(place.shape)
    return RecordBatch(records.counts, {name: fields[name] for name in records.fields})
