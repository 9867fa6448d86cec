"""Tables of labels without structures: what ``lazygraph labels --from`` reads."""

from __future__ import annotations

import csv
import os
from collections import Counter
from collections.abc import Mapping
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

__all__ = ["read_table"]

BYTE_ORDER_MARK = b"\xef\xbb\xbf"


def read_table(path: str | os.PathLike[str], id_key: str | None = None) -> dict[str, dict[str, Any]]:
    """Id -> column -> raw value, from a table of text with a header, a JSON list of objects, or JSONL.

    The cells of a text table are separated by commas, semicolons or tabs; numbers may have decimal commas. A row that
    has more or fewer cells than the header is refused: its values cannot be told apart.

    Args:
        path: the file.
        id_key: the column with the ids; ``jid``, ``material_id``, ..., ``id`` unless said.

    Raises:
        UnreadableInput: the file cannot be read, has no column of ids, or has an id twice.
    """
    place = Path(path)
    try:
        data = place.read_bytes().removeprefix(BYTE_ORDER_MARK)
    except OSError as error:
        msg = f"cannot read {path}: {error.strerror}; required: a table with a header, a JSON list of objects, or JSONL"
        raise UnreadableInput(msg) from error
    with naming(place):
        found = _json_rows(data) if data.lstrip()[:1] in (b"[", b"{") else _text_rows(data)
        return _by_id(found, id_key)


def _by_id(found: list[dict[str, Any]], id_key: str | None) -> dict[str, dict[str, Any]]:
    columns = list(dict.fromkeys(name for row in found for name in row))
    key = id_key or next((name for name in (*ID_KEYS, "id") if name in columns), None)
    if key is None or key not in columns:
        wanted = "of ids" if key is None else repr(key)
        msg = f"there is no column {wanted}; the columns are {', '.join(map(repr, columns))}: name one with --id-key"
        raise UnreadableInput(msg)
    table: dict[str, dict[str, Any]] = {}
    for number, row in enumerate(found):
        value = plain(row.get(key))
        if value is None or value == "":
            msg = f"row {number} has no id under {key!r}; required: one id a row"
            raise UnreadableInput(msg)
        graph_id = id_text(value)
        if graph_id in table:
            msg = f"the id {graph_id!r} stands twice; required: one row an id"
            raise UnreadableInput(msg)
        table[graph_id] = {name: plain(value) for name, value in row.items() if name and name != key}
    return table


def _text_rows(data: bytes) -> list[dict[str, Any]]:
    try:
        texts = [text.decode().removesuffix("\r") for _, text in rows([data], quoted=True)]
        delimiter = delimiter_of(texts[:FIRST])
        header, *table = [cells_of(text, delimiter) for text in texts] or [[]]
    except (UnicodeDecodeError, csv.Error) as error:
        msg = f"no table of text with a header: {error}"
        raise UnreadableInput(msg) from None
    names = [name.strip() for name in header]
    if twice := [name for name, times in Counter(names).items() if name and times > 1]:
        msg = f"the column {twice[0]!r} stands twice; required: a name of its own for each column"
        raise UnreadableInput(msg)
    if not table:
        msg = "there are no rows; required: a table with a header, a JSON list of objects, or JSONL"
        raise UnreadableInput(msg)
    for number, row in enumerate(table, start=2):
        if len(row) != len(names):
            msg = (
                f"row {number} has {len(row)} cells, and the header {len(names)}: {', '.join(map(repr, names[:12]))}; "
                "required: a cell for each column, and quotes around cells with the separator in them"
            )
            raise UnreadableInput(msg)
    if decimal_comma(cell for row in table for cell in row) is not None:
        table = [list(map(with_points, row)) for row in table]
    kept = [place for place, name in enumerate(names) if name and not name.startswith("Unnamed: ")]
    return [{names[place]: row[place] for place in kept} for row in table]


def _json_rows(data: bytes) -> list[dict[str, Any]]:
    try:
        found = loads(data)
    except UnreadableInput:
        found = [loads(text) for _, text in rows([data], quoted=False)]
    table: list[Any] = found if isinstance(found, list) else [found]
    if not table or not all(isinstance(row, Mapping) for row in table):
        msg = "there are no rows of objects; required: a table with a header, a JSON list of objects, or JSONL"
        raise UnreadableInput(msg)
    return table
