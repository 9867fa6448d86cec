"""Tables of labels without structures, for ``lazygraph labels --from``."""

from __future__ import annotations

import csv
import os
from collections import Counter
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from lazygraph.errors import UnreadableInput
from lazygraph.sources.base import ID_KEYS
from lazygraph.sources.dialect import cells_of, decimal_comma, delimiter_of, with_points
from lazygraph.sources.json_entries import loads
from lazygraph.sources.plain_values import plain
from lazygraph.sources.records import id_text
from lazygraph.sources.rowscan import rows
from lazygraph.sources.structure_keys import FIRST
from lazygraph.sources.unpack import naming

__all__ = ["read_table", "read_text"]


def read_table(path: str | os.PathLike[str], id_key: str | None = None) -> dict[str, dict[str, Any]]:
    """Read id -> column -> raw value from a text table with a header, a JSON list of objects, or JSONL.

    The cells of a text table are separated by commas, semicolons or tabs, and numbers may have decimal commas. A row
    with more or fewer cells than the header is refused, because it is not clear which value belongs to which column.

    Args:
        path: the file.
        id_key: the column of the ids; default ``jid``, ``material_id``, ..., ``id``.

    Raises:
        UnreadableInput: the file cannot be read, has no column of ids, or repeats an id.
    """
    with naming(Path(path)):
        data = read_text(path, "a table with a header, a JSON list of objects, or JSONL").encode()
        found = _json_rows(data) if data.lstrip()[:1] in (b"[", b"{") else _text_rows(data, id_key)
        return _by_id(found, id_key)


def _id_column(columns: Collection[str], id_key: str | None) -> str | None:
    return id_key or next((name for name in (*ID_KEYS, "id") if name in columns), None)


def _by_id(found: list[dict[str, Any]], id_key: str | None) -> dict[str, dict[str, Any]]:
    columns = list(dict.fromkeys(name for row in found for name in row))
    key = _id_column(columns, id_key)
    if key is None or key not in columns:
        wanted = "of ids" if key is None else repr(key)
        msg = f"there is no column {wanted}; the columns are {', '.join(map(repr, columns))}: name one with --id-key"
        raise UnreadableInput(msg)
    table: dict[str, dict[str, Any]] = {}
    for number, row in enumerate(found):
        value = plain(row.get(key))
        if value is None or value == "":
            msg = f"row {number} has no id under {key!r}; every row needs an id"
            raise UnreadableInput(msg)
        graph_id = id_text(value)
        if graph_id in table:
            msg = f"the id {graph_id!r} appears twice; give each id one row"
            raise UnreadableInput(msg)
        table[graph_id] = {name: plain(value) for name, value in row.items() if name and name != key}
    return table


def _text_rows(data: bytes, id_key: str | None) -> list[dict[str, Any]]:
    try:
        texts = [text.decode().removesuffix("\r") for _, text in rows([data], quoted=True)]
        delimiter = delimiter_of(texts[:FIRST])
        header, *table = [cells_of(text, delimiter) for text in texts] or [[]]
    except csv.Error as error:
        msg = f"no table of text with a header: {error}"
        raise UnreadableInput(msg) from None
    names = [name.strip() for name in header]
    if twice := [name for name, times in Counter(names).items() if name and times > 1]:
        msg = f"the column {twice[0]!r} appears twice; required: a different name for each column"
        raise UnreadableInput(msg)
    if not table:
        msg = "there are no rows; give a table with a header, a JSON list of objects, or JSONL"
        raise UnreadableInput(msg)
    for number, row in enumerate(table, start=2):
        if len(row) != len(names):
            msg = (
                f"row {number} has {len(row)} cells, and the header {len(names)}: {', '.join(map(repr, names[:12]))}; "
                "give each column a cell, and put quotes around cells with the separator in them"
            )
            raise UnreadableInput(msg)
    key = _id_column(names, id_key)
    kept = [place for place, name in enumerate(names) if name and not name.startswith("Unnamed: ")]
    numbers = [place for place in kept if names[place] != key]
    if decimal_comma(row[place] for row in table for place in numbers) is not None:
        for row in table:
            for place in numbers:
                row[place] = with_points(row[place])
    return [{names[place]: row[place] for place in kept} for row in table]


def _json_rows(data: bytes) -> list[dict[str, Any]]:
    try:
        found = loads(data)
    except UnreadableInput:
        found = [loads(text) for _, text in rows([data.replace(b"\r", b"\n")], quoted=False)]
    table: list[Any] = found if isinstance(found, list) else [found]
    if not table or not all(isinstance(row, Mapping) for row in table):
        msg = "there are no rows of objects; give a table with a header, a JSON list of objects, or JSONL"
        raise UnreadableInput(msg)
    return table


def read_text(path: str | os.PathLike[str], required: str) -> str:
    """Return the text of a file that the user named.

    Args:
        path: the file; UTF-8, with or without a byte-order mark.
        required: the expected content, for the error.

    Raises:
        UnreadableInput: the file does not exist, cannot be read, or is not text.
    """
    try:
        with Path(path).open(encoding="utf-8-sig", newline="") as file:
            return file.read()
    except FileNotFoundError:
        msg = f"there is no file {path}; give {required}"
    except OSError as error:
        msg = f"{path} cannot be read: {error.strerror}; give {required}"
    except UnicodeDecodeError as error:
        msg = f"{path} is not text in UTF-8 ({error.reason} at byte {error.start}); give {required}, unpacked"
    raise UnreadableInput(msg)
