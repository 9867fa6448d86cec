"""The base classes of sources that read one file, and of those among them that read records with keys."""

from __future__ import annotations

from dataclasses import dataclass

from lazygraph.sources.options import DEFAULT_OPTIONS, SourceOptions
from lazygraph.sources.unpack import bare_name

__all__ = ["FileSource", "RecordSource"]


@dataclass(frozen=True, slots=True)
class FileSource:
    """A source that reads one file.

    Args:
        path: the file.
        id_key: the key, column or property of the ids, if it has no usual name.
    """

    path: str
    id_key: str | None = None

    @property
    def name(self) -> str:
        """The file's name without folders and suffixes."""
        return bare_name(self.path)


@dataclass(frozen=True, slots=True)
class RecordSource(FileSource):
    """A source that reads one file of records or rows, in which a structure stands under a key.

    Args:
        path: the file.
        id_key: the key, column or property of the ids, if it has no usual name.
        options: options for reading structures.
    """

    options: SourceOptions = DEFAULT_OPTIONS
