"""The catalogue of public data sets, from ``table.json``.

Each entry names the source of its facts. Nothing is guessed: what the source does not say is None. The developers of
lazygraph could not try the addresses, so all files are checked by the sums that are known.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from types import MappingProxyType
from typing import Any

from lazygraph.errors import InputError
from lazygraph.registry import unknown_name

__all__ = ["HUB", "CatalogueEntry", "CatalogueFile", "Folds", "catalogue", "find_entry", "is_catalogue_name"]

HUB = "hf"  # the group of all repositories of the Hugging Face Hub, which the table does not list


@dataclass(frozen=True, slots=True)
class CatalogueFile:
    """A file of a data set.

    Attributes:
        name: its name.
        url: its address.
        size: bytes.
        sha256: of its bytes, in hex.
        md5: of its bytes, in hex.
        git: the name of its blob in a git repository: the sha1 of ``blob SIZE``, a zero byte and its bytes.
        split: the published split of its structures.
    """

    name: str
    url: str
    size: int | None = None
    sha256: str | None = None
    md5: str | None = None
    git: str | None = None
    split: str | None = None

    @property
    def sums(self) -> dict[str, str]:
        """The sums that are known, by name."""
        known = {"sha256": self.sha256, "md5": self.md5, "git": self.git}
        return {name: value for name, value in known.items() if value is not None}


@dataclass(frozen=True, slots=True)
class Folds:
    """The official folds of a cross-validation.

    Attributes:
        number: how many.
        seed: of the shuffle, as scikit-learn's ``KFold`` and ``StratifiedKFold`` take it.
        first_id: the official id of the first row.
        last_id: the official id of the last row.
        sha256: of the fold of each row, one byte a row.
        stratify: the label of whose values each fold has the same share.
    """

    number: int
    seed: int
    first_id: str
    last_id: str
    sha256: str
    stratify: str | None = None

    def official_id(self, row: int) -> str:
        """Return the official id of a row, from 0 on."""
        prefix, _, digits = self.first_id.rpartition("-")
        return f"{prefix}-{row + 1:0{len(digits)}d}"


@dataclass(frozen=True, slots=True)
class CatalogueEntry:
    """A public data set.

    Attributes:
        name: such as ``"jarvis:dft_3d"``.
        title: one line.
        files: its files, in order; none if no addresses are known.
        facts: where the facts of this entry come from.
        graphs: the number of structures.
        license: the licence.
        citation: what to cite.
        doi: of the publication.
        homepage: a page about it.
        folds: the official folds.
        unpack: why its file cannot be read as it is, if so.
    """

    name: str
    title: str
    files: tuple[CatalogueFile, ...]
    facts: str
    graphs: int | None = None
    license: str | None = None
    citation: str | None = None
    doi: str | None = None
    homepage: str | None = None
    folds: Folds | None = None
    unpack: str | None = None

    @property
    def splits(self) -> tuple[str, ...]:
        """The names of the published splits, one for each file."""
        return tuple(file.split for file in self.files if file.split is not None)

    def about(self) -> dict[str, str]:
        """Return the description of a dataset made from this entry, with the keys of ``lazygraph.write(about=)``."""
        said = {
            "title": self.title,
            "license": self.license,
            "citation": self.citation,
            "doi": self.doi,
            "homepage": self.homepage,
        }
        return {key: text for key, text in said.items() if text is not None}

    @classmethod
    def from_json(cls, name: str, data: Mapping[str, Any]) -> CatalogueEntry:
        """Read an entry of the table."""
        files = tuple(CatalogueFile(**file) for file in data["files"])
        folds = Folds(**data["folds"]) if "folds" in data else None
        return cls(name, **{**data, "files": files, "folds": folds})


@cache
def catalogue() -> Mapping[str, CatalogueEntry]:
    """Return all entries by name.

    Example:
        >>> entry = catalogue()["matbench:phonons"]
        >>> entry.graphs, entry.folds.number, entry.files[0].sha256[:8]
        (1265, 5, '4db551f2')
    """
    data = json.loads(Path(__file__).with_name("table.json").read_bytes())
    return MappingProxyType({name: CatalogueEntry.from_json(name, entry) for name, entry in data.items()})


def is_catalogue_name(text: str) -> bool:
    r"""Tell whether a text is meant as a name of the catalogue: a group that it has, and a colon.

    Example:
        >>> is_catalogue_name("jarvis:dft_3d"), is_catalogue_name("C:\\data"), is_catalogue_name("prototypes:20")
        (True, False, False)
    """
    group, colon, rest = text.partition(":")
    return bool(colon and rest) and (group == HUB or any(name.startswith(f"{group}:") for name in catalogue()))


def find_entry(name: str) -> CatalogueEntry:
    """Return the entry of a name in the table.

    Raises:
        InputError: the data set does not exist; the message lists the names of its group.
    """
    entries = catalogue()
    if name in entries:
        return entries[name]
    group = name.partition(":")[0]
    names = [known for known in entries if known.startswith(f"{group}:")]
    names = names or sorted({HUB, *(known.split(":")[0] for known in entries)})
    raise InputError(unknown_name("data set of the catalogue", name, names))
