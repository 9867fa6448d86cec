"""The class ``Folder``: the files of a run, and the check that the folder belongs to it."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lazygraph.errors import InputError, OutputExists
from lazygraph.storage.files import resolved_path
from lazygraph.training.identity import differences
from lazygraph.training.options import read_toml, write_toml

__all__ = ["MEANS", "Folder", "wait_for"]

# Options that do not change the result. A run may resume with other values, but with the same number of processes.
MEANS = ("num_workers", "devices", "num_nodes")
# Schedules of the learning rate that do not depend on the number of epochs. A run with one of them can be extended.
EXTENSIBLE = ("none", "plateau", "multistep")
SEEN_WITHIN = 60.0  # s: NFS may remember for so long that a file did not exist


@dataclass(frozen=True, slots=True)
class Folder:
    """The folder of a run and the paths of its files."""

    path: Path

    @classmethod
    def of(cls, path: str | os.PathLike[str]) -> Folder:
        """The folder of a run at this path, which need not exist.

        Raises:
            InputError: a link leads to itself, or cannot be read.
        """
        try:
            return cls(resolved_path(Path(path)))
        except OSError as error:
            msg = f"the output {os.fspath(path)} cannot be followed: {error}"
            raise InputError(msg) from error

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
        if self._continues(own):
            self.check_same({name: value for name, value in own.items() if name != "n_epochs"})
            return
        self.check_same(own)
        if self.results.exists():
            msg = (
                f"{self.path} holds this run, finished; choose another output_dir, or delete it. To train on, use a "
                f"larger n_epochs (with the schedules {', '.join(EXTENSIBLE)}), or begin another run with its weights: "
                "from_checkpoint"
            )
            raise OutputExists(msg)

    def _continues(self, own: Mapping[str, Any]) -> bool:
        """Tell whether the folder holds this run, and more epochs of it are wanted."""
        if own.get("schedule") not in EXTENSIBLE or not self.options.exists():
            return False
        before = read_toml(self.options).get("n_epochs")
        return isinstance(before, int) and before < own["n_epochs"]

    def check_same(self, own: Mapping[str, Any]) -> None:
        """Refuse a folder of another run. A finished folder of this run is accepted.

        Args:
            own: options by name, and ``dataset``, the identity of the dataset, as plain values.

        Raises:
            OutputExists: the folder belongs to a run with other options, labels, units or splits, or holds something
                else.
        """
        if not self.options.exists():
            # Another process may be writing the options this moment.
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

    def claim(self, own: Mapping[str, Any]) -> None:
        """Claim the folder for a run, in the first of the processes that train together. Raises errors of ``check``.

        Args:
            own: everything that the run depends on, as plain values.
        """
        self.check(own)
        if not self.options.exists():
            self.path.mkdir(parents=True, exist_ok=True)
            write_toml(own, self.options)
        elif self._continues(own):
            # In this order: a run that is killed in between is unfinished, with the old number of epochs.
            self.results.unlink(missing_ok=True)
            write_toml(own, self.options)

    def resume(self, own: Mapping[str, Any]) -> Path | None:
        """Return the checkpoint to resume from, if there is one, after the first process has claimed the folder.

        Raises:
            InputError: this process does not see what the first process has written.
            OutputExists: the folder belongs to another run or to a finished one.
        """
        wait_for(self.options)
        self.check(own)
        return self.last if self.last.exists() else None


def wait_for(path: Path) -> None:
    """Wait until a file is seen that the first process has written.

    Raises:
        InputError: it is not seen within a minute, so the folder is not shared by the nodes.
    """
    until = time.monotonic() + SEEN_WITHIN
    while not path.exists():
        if time.monotonic() > until:
            msg = (
                f"{socket.gethostname()} does not see {path}, although the first process has written it; choose an "
                "output_dir on a file system that all nodes share"
            )
            raise InputError(msg)
        time.sleep(0.1)
