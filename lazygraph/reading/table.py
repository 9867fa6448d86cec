"""The columns of a dataset or subset under their public names."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from types import MappingProxyType
from typing import Any

from numpy import char  # now: a child forked while a thread imports it would wait for ever
from numpy.typing import NDArray

from lazygraph.errors import CorruptDataset, InputError
from lazygraph.format.columns import texts_of
from lazygraph.format.store import Store
from lazygraph.reading.operands import Categories, Elements, n_elements
from lazygraph.registry import unknown_name

__all__ = ["Columns", "UnknownColumn"]

_ALIASES = {"n_atoms": "n_node", "n_edges": "n_edge"}


class Columns(Mapping[str, NDArray[Any]]):
    """A mapping from column names to arrays with one row per graph.

    The columns are labels, sizes, ``formula``, ``n_elements``, ``split`` and ``id``. Sizes are ``n_atoms``,
    ``n_edges``, and ``n_triplets`` if the recipe defines angles. With ``of_crystals``, the sizes of the stored graphs
    are left out, because graphs are built from the crystals. ``sizes`` names the columns that hold the sizes of these
    graphs, if they are known.

    Labels are bool, int64 or float64, with NaN for a missing number, or texts, which are empty where missing. Numbers
    of a whole dataset are read-only views of the memory-mapped file. Numbers of a subset, and texts, are copies.
    """

    def __init__(
        self,
        store: Store,
        rows: Any = None,
        *,
        of_crystals: bool = False,
        sizes: Mapping[str, str] = MappingProxyType({}),
    ) -> None:
        self._store, self._rows, self._of_crystals, self._sizes = store, rows, of_crystals, sizes

    def __getitem__(self, name: str) -> NDArray[Any]:
        array = self.raw(name)
        if array.dtype.kind == "S":
            try:
                return char.decode(array, "utf-8")
            except UnicodeDecodeError as error:
                msg = f"{self._store.name}: the column {name!r} is not UTF-8: {error}"
                raise CorruptDataset(msg) from error
        return array

    def raw(self, name: str) -> NDArray[Any]:
        """Return the column ``name`` with texts as bytes.

        Raises:
            UnknownColumn: the column does not exist; the message lists the columns. It is a KeyError and an InputError.
        """
        if name not in self._names():
            raise UnknownColumn(unknown_name("column", name, self._names()))
        name = self._sizes.get(name, name)
        column = self._store.manifest.columns.get(name)
        if name == "n_elements" and column is None:
            return n_elements(self._rows_of("formula"))
        array = self._rows_of(_ALIASES.get(name, name) if column is None else name)
        return array if column is None or column.categories is None else texts_of(column, array)

    def operand(self, name: str) -> Any:
        """Return what a condition compares: categories by their codes, ``elements``, or the column as ``raw`` has it.

        Raises:
            UnknownColumn: the column does not exist.
        """
        columns = self._store.manifest.columns
        if name == "elements" and name not in columns and "formula" in columns:
            return Elements(self.raw("formula"))
        if name not in self._names():
            raise UnknownColumn(unknown_name("column", name, [*self._names(), *["elements"] * ("formula" in columns)]))
        column = columns.get(name)
        if column is None or column.categories is None:
            return self.raw(name)
        return Categories(name, self._rows_of(name), tuple(text.encode() for text in column.categories))

    def _rows_of(self, name: str) -> NDArray[Any]:
        """The stored values of this (sub)set."""
        array = self._store.column(name)
        if self._rows is None:
            return array
        rows = self._rows
        return array[rows.start : rows.stop : rows.step] if _forward(rows) else array[rows]

    def _names(self) -> list[str]:
        manifest = self._store.manifest
        index: list[str] = [name for name in ("n_triplets", "id", "formula") if name in manifest.columns]
        index += manifest.splits()
        index += ["n_elements"] * ("formula" in index and "n_elements" not in manifest.columns)
        axes = [f"n_{axis}" for axis in manifest.schema.axes]
        aliases = [alias for alias, name in _ALIASES.items() if name in axes and alias not in manifest.columns]
        names = [*manifest.all_labels(), *aliases, *(a for a in axes if a not in _ALIASES.values()), *index]
        if not self._of_crystals:
            return names
        return [*(name for name in names if name not in ("n_edges", "n_triplets")), *self._sizes]

    def __iter__(self) -> Iterator[str]:
        return iter(self._names())

    def __len__(self) -> int:
        return len(self._names())

    def __repr__(self) -> str:
        return f"Columns({', '.join(self)})"


class UnknownColumn(InputError, KeyError):
    """The column does not exist."""

    __str__ = Exception.__str__


def _forward(rows: Any) -> bool:
    return isinstance(rows, range) and rows.step > 0
