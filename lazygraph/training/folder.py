"""``Folder``: where the files of a run are, and whose it is."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lazygraph.errors import OutputExists
from lazygraph.training.identity import differences
from lazygraph.training.options import read_toml, write_toml

__all__ = ["Folder"]

# How a run is carried out, and not what it is: a run may resume with others. (Only the processes have to be as many.)
MEANS = ("num_workers", "devices", "num_nodes")


@dataclass(frozen=True, slots=True)
class Folder:
    """Where the files of a run are."""

    path: Path

    @property
    def options(self) -> Path:
        """The options, all of them, as TOML."""
        return self.path / "options.toml"

    @property
    def checkpoints(self) -> Path:
        """``last.ckpt`` and the best ones."""
        return self.path / "checkpoints"

    @property
    def last(self) -> Path:
        """The checkpoint that a run resumes from."""
        return self.checkpoints / "last.ckpt"

    @property
    def metrics(self) -> Path:
        """One line an epoch."""
        return self.path / "metrics.csv"

    @property
    def predictions(self) -> Path:
        """The test graphs: label and prediction of each target."""
        return self.path / "predictions.csv"

    @property
    def results(self) -> Path:
        """What the run came to; there when it is finished."""
        return self.path / "results.json"

    def member(self, number: int) -> Folder:
        """The folder of one model of an ensemble."""
        return Folder(self.path / f"member-{number}")

    def members(self) -> list[Path]:
        """The folders of an ensemble's models, in order; none where it is a single run."""
        numbers = (path.name.removeprefix("member-") for path in self.path.glob("member-*"))
        return [self.member(number).path for number in sorted(int(each) for each in numbers if each.isdecimal())]

    def check(self, own: Mapping[str, Any]) -> None:
        """Refuse a folder in which this run cannot begin or resume.

        Args:
            own: what the run depends on, as plain values, or a part of it: options by name, and ``dataset``, its
                identity.

        Raises:
            OutputExists: it is the folder of another run, or of a finished one, or holds something else.
        """
        self.check_same(own)
        if self.results.exists():
            msg = f"{self.path} holds this run, finished; choose another output_dir, or delete it"
            raise OutputExists(msg)

    def check_same(self, own: Mapping[str, Any]) -> None:
        """Refuse a folder of another run; one of this run may be finished.

        Args:
            own: as for ``check``.

        Raises:
            OutputExists: it is the folder of a run with other options, labels, units or splits, or holds something
                else.
        """
        if not self.options.exists():
            # Another rank may be writing the options this moment.
            others = [p for p in self.path.iterdir() if not p.name.startswith(".")] if self.path.exists() else []
            if others and not self.options.exists():
                msg = f"{self.path} holds files that are not of a run; choose another output_dir"
                raise OutputExists(msg)
            return
        found = read_toml(self.options)
        parts: list[str] = []
        for name, value in own.items():
            if name == "dataset":
                parts += differences(found.get(name, {}), value)
            elif name not in MEANS and value != found.get(name):
                parts.append(f"{name} is {found.get(name)!r} there and {value!r} here")
        if parts:
            msg = f"{self.path} holds another run: {'; '.join(parts)}; choose another output_dir, or delete it"
            raise OutputExists(msg)

    def claim(self, own: Mapping[str, Any], *, first: bool) -> Path | None:
        """Make the folder that of a run, which resumes where it was stopped. Raises as ``check`` does.

        Args:
            own: all that the run depends on, as plain values.
            first: whether this process is the first of those that train together, which alone writes. The others need
                not wait: nobody trains before all have met.

        Returns:
            The checkpoint to resume from, if there is one.
        """
        self.check(own)
        if first and not self.options.exists():
            self.path.mkdir(parents=True, exist_ok=True)
            write_toml(own, self.options)
        return self.last if self.last.exists() else None
