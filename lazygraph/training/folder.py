"""``Folder``: where the files of a run are, and whose it is."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lazygraph.errors import OutputExists
from lazygraph.training.options import read_toml, write_toml

__all__ = ["Folder"]


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
        """The checkpoint that a run goes on from."""
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
        found = self.path.glob("member-*")
        return sorted(found, key=lambda path: int(path.name.removeprefix("member-")))

    def check(self, own: Mapping[str, Any]) -> None:
        """Refuse a folder that cannot be that of this run.

        Args:
            own: what the run hangs on, as plain values, or a part of it.

        Raises:
            OutputExists: it is that of another run, or of a finished one, or holds something else.
        """
        if not self.options.exists():
            # Another rank may be writing the options this moment.
            others = [p for p in self.path.iterdir() if not p.name.startswith(".")] if self.path.exists() else []
            if others and not self.options.exists():
                msg = f"{self.path} holds files that are not of a run; choose another output_dir"
                raise OutputExists(msg)
            return
        found = read_toml(self.options)
        if differ := [name for name, value in own.items() if value != found.get(name)]:
            parts = "; ".join(f"{name} is {found.get(name)!r} there and {own[name]!r} here" for name in differ)
            msg = f"{self.path} holds another run: {parts}; choose another output_dir, or delete it"
            raise OutputExists(msg)
        if self.results.exists():
            msg = f"{self.path} holds this run, finished; choose another output_dir, or delete it"
            raise OutputExists(msg)

    def claim(self, own: Mapping[str, Any]) -> Path | None:
        """Make the folder that of a run, which goes on where it was stopped. Raises as ``check`` does.

        Args:
            own: all that the run hangs on, as plain values.

        Returns:
            The checkpoint to go on from, if there is one.
        """
        self.check(own)
        if self.options.exists():
            return self.last if self.last.exists() else None
        self.path.mkdir(parents=True, exist_ok=True)
        write_toml(own, self.options)
        return None
