"""Which epoch an iteration of a loader reads, and from where: the next one, one that was set, or a loaded place."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from lazygraph.loading.orders import check_whole

__all__ = ["EpochPosition", "Epochs"]


@dataclass(slots=True, eq=False)
class EpochPosition:
    """A place between two batches of an epoch."""

    epoch: int
    batches: int = 0
    """How many were delivered."""
    is_finished: bool = False
    """Whether the last one was."""


class Epochs:
    """The active iterations of a loader, and the epoch of the next one.

    Each iteration has a place of its own. The loader is at the place of the one that delivered a batch last.
    """

    def __init__(self) -> None:
        self._next = 0  # the epoch that begins when no place was loaded
        self._loaded: EpochPosition | None = None
        self._set: int | None = None  # the epoch that was set last
        self._active: list[EpochPosition] = []  # the one that delivered a batch last comes last
        self._announced = False  # whether an iterator was made after that

    def announce(self) -> None:
        """An iterator was made, which begins when its first batch is asked for."""
        self._announced = True

    def begin(self, *, read_here: bool = True) -> EpochPosition:
        """Where an iteration begins, which is active from now on.

        Args:
            read_here: whether it is this loader that reads it, and says what was delivered.
        """
        place = replace(self.next())
        if self._loaded is None:
            self._next += 1
        self._loaded = None
        if read_here:
            self._active.append(place)
        return place

    def delivered(self, place: EpochPosition, *, is_last: bool) -> None:
        """One more batch of an iteration was delivered."""
        place.is_finished, self._announced = is_last, False
        if not self._active or self._active[-1] is not place:
            self.end(place)
            self._active.append(place)

    def end(self, place: EpochPosition) -> None:
        """An iteration is no longer active."""
        self._active = [other for other in self._active if other is not place]

    def current(self) -> EpochPosition:
        """The place of the iteration that delivered a batch last, or of an iterator that was made after that."""
        return self.next() if self._announced or not self._active else self._active[-1]

    def next(self) -> EpochPosition:
        """Where the next iteration begins."""
        return self._loaded or EpochPosition(self._next)

    def set(self, epoch: int) -> None:
        """The next iteration begins this epoch.

        A place that was loaded is kept where the same epoch had been set when its state was taken, as by a framework
        that sets the epoch in which it resumes; within it a loader may have read further epochs.
        """
        if self._loaded is not None and epoch == (self._loaded.epoch if self._set is None else self._set):
            self._next = max(self._next, self._loaded.epoch + 1)
        else:
            self._next, self._loaded = epoch, None
        self._set = epoch
        self._active = []

    def state(self) -> dict[str, Any]:
        """What ``load`` takes: where an interrupted program would continue, and the epoch after that."""
        unfinished = [place for place in self._active if not place.is_finished]
        place = unfinished[-1] if unfinished else self.next()
        following = self._next if unfinished or self._loaded is not None else self._next + 1
        return {"epoch": place.epoch, "batches": place.batches, "next_epoch": following, "set_epoch": self._set}

    def load(self, state: Mapping[str, Any]) -> None:
        """The next iteration begins where a state was taken.

        Raises:
            InputError: the state holds no such numbers.
        """
        for name in ("epoch", "batches", "next_epoch"):
            check_whole(name, state.get(name), 0)
        if state.get("set_epoch") is not None:
            check_whole("set_epoch", state["set_epoch"], 0)
        self._loaded = EpochPosition(int(state["epoch"]), int(state["batches"]))
        self._next, self._set, self._active = int(state["next_epoch"]), state.get("set_epoch"), []

    def copy(self) -> Epochs:
        """The same epoch comes next; no iteration is active."""
        other = Epochs()
        other._next, other._loaded, other._set = self._next, self._loaded, self._set
        return other
