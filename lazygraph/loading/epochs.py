"""Epochs and positions of the iterations of a loader."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from lazygraph.loading.orders import check_whole

__all__ = ["EpochPosition", "Epochs"]


@dataclass(slots=True, eq=False)
class EpochPosition:
    """A position between two batches of an epoch."""

    epoch: int
    batches: int = 0
    """How many were delivered."""
    is_finished: bool = False
    """Whether the last one was."""


class Epochs:
    """The active iterations of a loader, and the epoch of the next one.

    Each iteration has its own position. The position of the loader is the position of the iteration that delivered a
    batch last.
    """

    def __init__(self) -> None:
        self._next = 0  # the epoch that begins when no place was loaded
        self._loaded: EpochPosition | None = None
        self._set: int | None = None  # the epoch that was set last
        self._active: list[EpochPosition] = []  # the one that delivered a batch last comes last
        self._announced = False  # whether an iterator was made after that

    def announce(self) -> None:
        """Register a new iterator. It begins when its first batch is requested."""
        self._announced = True

    def begin(self, *, read_here: bool = True) -> EpochPosition:
        """Start an iteration and return its first position.

        Args:
            read_here: whether this loader reads the batches, and reports what was delivered.
        """
        place = replace(self.next())
        if self._loaded is None:
            self._next += 1
        self._loaded = None
        if read_here:
            self._active.append(place)
        return place

    def delivered(self, place: EpochPosition, *, is_last: bool) -> None:
        """Count one more delivered batch of an iteration."""
        place.is_finished, self._announced = is_last, False
        if not self._active or self._active[-1] is not place:
            self.end(place)
            self._active.append(place)

    def end(self, place: EpochPosition) -> None:
        """Remove an iteration from the active ones."""
        self._active = [other for other in self._active if other is not place]

    def current(self) -> EpochPosition:
        """Return the position of the iteration that delivered a batch last, or of an iterator created after that."""
        return self.next() if self._announced or not self._active else self._active[-1]

    def next(self) -> EpochPosition:
        """The position where the next iteration begins."""
        return self._loaded or EpochPosition(self._next)

    def set(self, epoch: int) -> None:
        """Let the next iteration begin this epoch.

        A loaded position is kept if the same epoch had been set when the state was taken. A framework sets the epoch in
        this way when it resumes. Within that epoch of the framework, a loader may have read further epochs.
        """
        if self._loaded is not None and epoch == (self._loaded.epoch if self._set is None else self._set):
            self._next = max(self._next, self._loaded.epoch + 1)
        else:
            self._next, self._loaded = epoch, None
        self._set = epoch
        self._active = []

    def state(self) -> dict[str, Any]:
        """Return the state for ``load``: where an interrupted program would continue, and the epoch after that."""
        unfinished = [place for place in self._active if not place.is_finished]
        place = unfinished[-1] if unfinished else self.next()
        following = self._next if unfinished or self._loaded is not None else self._next + 1
        return {"epoch": place.epoch, "batches": place.batches, "next_epoch": following, "set_epoch": self._set}

    def load(self, state: Mapping[str, Any]) -> None:
        """Let the next iteration begin where a state was taken.

        Raises:
            InputError: the state lacks the numbers of a position.
        """
        for name in ("epoch", "batches", "next_epoch"):
            check_whole(name, state.get(name), 0)
        if state.get("set_epoch") is not None:
            check_whole("set_epoch", state["set_epoch"], 0)
        self._loaded = EpochPosition(int(state["epoch"]), int(state["batches"]))
        self._next, self._set, self._active = int(state["next_epoch"]), state.get("set_epoch"), []

    def copy(self) -> Epochs:
        """Return a copy with the same next epoch and no active iteration."""
        other = Epochs()
        other._next, other._loaded, other._set = self._next, self._loaded, self._set
        return other
