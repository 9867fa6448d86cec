"""The class ``Folder``: the files of a run, and the check that the folder belongs to it."""

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
    """The folder of a run and the paths of its files."""

    path: Path

    @property
    def options(self) -> Path:
        """The file with all options, as TOML."""
        return self.path / "options.toml"

    @property
    def checkpoints(self) -> Path:
        """The folder with ``last.ckpt`` and the best checkpoints."""
        return self.path / "checkpoints"

    @property
    def last(self) -> Path:
        """The checkpoint that a run resumes from."""
        return self.checkpoints / "last.ckpt"

    @property
    def metrics(self) -> Path:
        """The file with one line of metrics per epoch."""
        return self.path / "metrics.csv"

    @property
    def predictions(self) -> Path:
        """The file with label and prediction of each target for the test graphs."""
        return self.path / "predictions.csv"

    @property
    def results(self) -> Path:
        """The file with the results; it exists once the run has finished."""
        return self.path / "results.json"

    def member(self, number: int) -> Folder:
        """Return the folder of one member of an ensemble."""
        return Folder(self.path / f"member-{number}")

    def members(self) -> list[Path]:
        """Return the folders of an ensemble's members, in order; empty for a single run."""
        numbers = (path.name.removeprefix("member-") for path in self.path.glob("member-*"))
        return [self.member(number).path for number in sorted(int(each) for each in numbers if each.isdecimal())]

    def check(self, own: Mapping[str, Any]) -> None:
        """Refuse a folder in which this run cannot begin or resume.

        Args:
            own: what the run depends on, or a part of it, as plain values: options by name, and ``dataset``, the
                identity of the dataset.

        Raises:
            OutputExists: the folder belongs to another run or to a finished one, or holds something else.
        """
        self.check_same(own)
        if self.results.exists():
            msg = f"{self.path} holds this run, finished; choose another output_dir, or delete it"
            raise OutputExists(msg)

    def check_same(self, own: Mapping[str, Any]) -> None:
        """Refuse a folder of another run. A finished folder of this run is accepted.

        Args:
            own: what the run depends on, as for ``check``.

        Raises:
            OutputExists: the folder belongs to a run with other options, labels, units or splits, or holds something
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
        """Claim the folder for a run, which resumes where it was stopped. Raises the errors of ``check``.

        Args:
            own: everything that the run depends on, as plain values.
            first: whether this process is the first of the processes that train together. Only the first one writes.
                The others need not wait, because training starts when all processes have met.

        Returns:
            The checkpoint to resume from, if there is one.
        """
        self.check(own)
        if first and not self.options.exists():
            self.path.mkdir(parents=True, exist_ok=True)
            write_toml(own, self.options)
        return self.last if self.last.exists() else None
