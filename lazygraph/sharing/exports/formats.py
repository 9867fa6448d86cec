"""The export formats by name, and the format of a file by its suffix."""

from __future__ import annotations

from pathlib import Path

from lazygraph.errors import InputError
from lazygraph.registry import Registry
from lazygraph.sharing.exports.ase_db import AseDbFormat
from lazygraph.sharing.exports.aselmdb import AseLmdbFormat
from lazygraph.sharing.exports.base import ExportFormat
from lazygraph.sharing.exports.csv_table import CsvFormat
from lazygraph.sharing.exports.extxyz import ExtxyzFormat
from lazygraph.sharing.exports.parquet_table import ParquetFormat
from lazygraph.sharing.exports.pyg_list import PygFormat
from lazygraph.sharing.exports.pymatgen_json import JsonFormat, JsonLinesFormat

__all__ = ["EXPORT_FORMATS", "format_of"]

_OWN: tuple[type[ExportFormat], ...] = (
    ExtxyzFormat,
    AseDbFormat,
    AseLmdbFormat,
    CsvFormat,
    ParquetFormat,
    JsonFormat,
    JsonLinesFormat,
    PygFormat,
)
EXPORT_FORMATS: Registry[type[ExportFormat]] = Registry(
    "export format", {one.kind: one for one in _OWN}, group="lazygraph.exports", type_=ExportFormat
)
"""Name -> format. A plug-in is used only if a user names it."""


def format_of(path: Path, name: str | None) -> ExportFormat:
    """Return the format of a file.

    Args:
        path: the file.
        name: the format, if it was named; else the suffix of the file decides.

    Raises:
        InputError: no format has this name or suffix.

    Example:
        >>> format_of(Path("mp.xyz"), None).kind, format_of(Path("mp.data"), "csv").kind
        ('extxyz', 'csv')
    """
    if name is not None:
        return EXPORT_FORMATS.get(name)()
    suffix = path.suffix.lower()
    for one in _OWN:
        if suffix in one.suffixes:
            return one()
    known = ", ".join(suffix for one in _OWN for suffix in one.suffixes)
    names = ", ".join(EXPORT_FORMATS)
    msg = (
        f"no format is known for {path.name!r}; give a name that ends in {known}, or name the format with --format: "
        f"{names}"
    )
    raise InputError(msg)
