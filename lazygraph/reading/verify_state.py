"""What a verification has found so far, in a file from which a later one goes on."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, TextIO

from lazygraph.errors import InputError
from lazygraph.format.store import Store
from lazygraph.storage.local import LocalStorage

__all__ = ["State", "opened_state"]


class State:
    """The problems of each part that was checked. Without a file it remembers them for this run alone."""

    def __init__(self, found: dict[str, tuple[str, ...]] | None = None, file: TextIO | None = None) -> None:
        self._found, self._file = found or {}, file

    def get(self, part: str) -> tuple[str, ...] | None:
        """The problems of a part; None where it was not checked yet."""
        return self._found.get(part)

    def add(self, part: str, problems: Sequence[str]) -> None:
        """Keep the problems of a part."""
        if self._file is not None:
            self._file.write(json.dumps([part, list(problems)]) + "\n")
            self._file.flush()


@contextmanager
def opened_state(path: str | os.PathLike[str] | None, store: Store, options: dict[str, Any]) -> Iterator[State]:
    """A state in a file, which is removed when the verification ends, and kept where it does not.

    Args:
        path: the file; None for a state without one.
        store: the dataset.
        options: what else decides what is checked.

    Raises:
        InputError: the file is something else, or of another verification, or lies in the dataset.
    """
    if path is None:
        yield State()
        return
    place = Path(path).absolute()
    if isinstance(store.storage, LocalStorage) and place.resolve().is_relative_to(store.path.resolve()):
        msg = (
            f"the state {place} is inside the dataset, and verify writes nothing there; choose a place outside the "
            "dataset"
        )
        raise InputError(msg)
    manifest = hashlib.sha256(store.storage.manifest()).hexdigest()
    header = {"verify": 1, "manifest": manifest, **options}
    try:
        found = _read(place, header)
    except FileNotFoundError:
        found = None
    with place.open("a" if found is not None else "w", encoding="ascii") as file:
        if found is None:
            file.write(json.dumps(header) + "\n")
        yield State(found, file)
    with suppress(FileNotFoundError):
        place.unlink()


def _read(place: Path, header: dict[str, Any]) -> dict[str, tuple[str, ...]] | None:
    """What was found so far; None where the file is empty. Cuts off a line that a killed process left unfinished."""
    content = place.read_bytes()
    whole = content[: content.rfind(b"\n") + 1]
    if not content:
        return None
    try:
        first, *lines = map(json.loads, whole.splitlines())
        found = {str(part): tuple(map(str, problems)) for part, problems in lines}
    except (ValueError, TypeError) as error:
        msg = f"{place} is no state of a verification ({error}); choose another file, or delete this one"
        raise InputError(msg) from error
    if first != header:
        msg = (
            f"{place} is the state of another verification, {first}; this one is {header}. Give the options of the "
            "other verification to continue it, or delete the file to start again"
        )
        raise InputError(msg)
    if len(whole) < len(content):
        with place.open("r+b") as file:
            file.truncate(len(whole))
    return found
