"""Pickle files, loaded only if the user trusts them, because loading a pickle can run any code in it.

The process that plans loads them once and writes the spool. Workers unpickle nothing.
"""

from __future__ import annotations

import pickle
import zipfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

from lazygraph.errors import UnreadableInput
from lazygraph.sources.base import Cut, Entry, Scan, hash_file, open_regular, read_entry
from lazygraph.sources.options import DEFAULT_OPTIONS, SourceOptions
from lazygraph.sources.pyg_data import entry_of_data, is_data, parts
from lazygraph.sources.python import PythonSource
from lazygraph.sources.records import holds_structure
from lazygraph.sources.structure_keys import USUAL_NAMES
from lazygraph.sources.unpack import Intake, bare_name

__all__ = ["PickleSource", "is_pickle"]

_SUFFIXES = frozenset({".pkl", ".pickle", ".p", ".pt", ".pth"})
_OLD_TRAJECTORY = b"PickleTrajectory"
# torch before 1.6 wrote several pickles, the first of them its magic number.
_OLD_TORCH = b"\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19"


def is_pickle(path: Path) -> bool:
    """Whether a file is a pickle, plain or from ``torch.save``, by its first bytes or the contents of its zip."""
    try:
        with open_regular(path) as file:
            head = file.read(len(_OLD_TRAJECTORY))
    except OSError:
        return False
    if head[:2] in (b"\x80\x02", b"\x80\x03", b"\x80\x04", b"\x80\x05") or head == _OLD_TRAJECTORY:
        return True
    if head.startswith(b"PK\x03\x04"):
        with suppress(Exception), zipfile.ZipFile(path) as archive:  # a broken zip fails in many ways
            return any(name.endswith("/data.pkl") for name in archive.namelist())
        return False
    # The oldest pickles are text. The reader looks into a gzip.
    suffixes = {suffix.lower() for suffix in path.suffixes[-2:]}
    return bool(suffixes & _SUFFIXES) and (head[:2] == b"\x1f\x8b" or head[:1] in b"(cilp")


@dataclass(frozen=True, slots=True)
class PickleSource:
    """One entry per item: a structure of any library, a record with one, a row of a pandas table, or a PyG ``Data``.

    The file may hold one item, a list or array of them, a mapping of ids to them, or PyG's collated
    ``(data, slices)``. The whole file is in memory while it is scanned.

    Args:
        path: the file, plain or in a gzip.
        id_key: the key of the ids, if it has no usual name.
        options: options for reading; ``trust_pickle`` must be set.
    """

    kind: ClassVar[str] = "pickle"

    path: str
    id_key: str | None = None
    options: SourceOptions = DEFAULT_OPTIONS

    @property
    def name(self) -> str:
        """The file's name without folders and suffixes."""
        name = bare_name(self.path)
        return Path(name).stem if Path(name).suffix.lower() in _SUFFIXES else name

    def scan(self, every: int, spool: Path) -> Scan:
        """Load the file and write its items to the spool.

        Raises:
            UnreadableInput: pickles are not trusted, or it cannot be loaded.
        """
        path = Path(self.path)
        head = _head(path)
        if not self.options.trust_pickle:
            msg = (
                f"{path} is a pickle, and loading a pickle can run any code that is in it; if you trust whoever made "
                "it, read it with --trust-pickle (trust_pickle=True)"
            )
            raise UnreadableInput(msg)
        scan = self._spooled(_items(_loaded(path, head), self.id_key)).scan(every, spool)
        return replace(scan, files=(hash_file(path),))

    def read(self, cut: Cut, spool: Path) -> Iterator[Entry]:
        """Yield the entries of one range of the spool."""
        return self._spooled(None).read(cut, spool)

    def _spooled(self, items: Iterable[Any] | None) -> PythonSource:
        return PythonSource(items, self.name, self.id_key, self.options)


def _head(path: Path) -> bytes:
    """Return the first bytes of the file.

    Raises:
        UnreadableInput: it cannot be read.
    """
    try:
        with open_regular(path) as file:
            return file.read(32)
    except OSError as error:
        msg = f"{path} cannot be read: {error.strerror}"
        raise UnreadableInput(msg) from error


def _loaded(path: Path, head: bytes) -> Any:
    """Return the contents of the file."""
    try:
        if head.startswith(_OLD_TRAJECTORY):
            msg = "it is a trajectory of ASE before 3.9: write it again with ASE as .traj"
            raise UnreadableInput(msg)  # noqa: TRY301
        if _OLD_TORCH in head or zipfile.is_zipfile(path):
            import torch

            return torch.load(path, map_location="cpu", weights_only=False)
        return pickle.loads(b"".join(Intake(path)))  # noqa: S301  # the user trusts it
    except Exception as error:  # unpickling runs code of any package, which fails in any way
        msg = (
            f"cannot load the pickle {path}: {type(error).__name__}: {error}; the packages it was made with are needed"
        )
        raise UnreadableInput(msg) from error


def _items(content: Any, id_key: str | None) -> Iterator[Any]:
    """Yield the items of what a pickle holds, as :class:`PythonSource` takes them; graphs are entries already."""

    def item(value: Any, key: str = "") -> Any:
        return read_entry(key, entry_of_data, value, key, id_key) if is_data(value) else value

    if is_data(content):
        yield item(content)
    elif isinstance(content, tuple) and len(content) in {2, 3} and isinstance(content[1], Mapping):
        yield from (read_entry("", _entry_of_part, part, id_key) for part in parts(*content))
    elif hasattr(content, "to_dict") and hasattr(content, "columns") and hasattr(content, "index"):  # pandas
        for key, record in zip(content.index, content.to_dict("records"), strict=True):
            yield (key, record) if isinstance(key, str) else record
    elif isinstance(content, Mapping) and not _is_record(content):
        yield from (item(value, str(key)) if is_data(value) else (key, value) for key, value in content.items())
    elif hasattr(content, "__iter__") and not _is_record(content):
        yield from map(item, content)
    else:
        yield content


def _entry_of_part(give: Callable[[], Any], id_key: str | None) -> Entry:
    return entry_of_data(give(), "", id_key)


def _is_record(content: Any) -> bool:
    """Tell whether an object is one structure, or a record with one under a usual name."""
    return holds_structure(content) or (
        isinstance(content, Mapping) and any(holds_structure(content.get(name)) for name in USUAL_NAMES)
    )
