"""Tables of labels without structures: what ``lazygraph labels --from`` reads."""

from __future__ import annotations

import csv
import io
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lazygraph.errors import UnreadableInput
from lazygraph.sources.base import ID_KEYS

__all__ = ["read_table", "read_text"]


def read_table(path: str | os.PathLike[str], id_key: str | None = None) -> dict[str, dict[str, Any]]:
    """Id -> column -> raw value, from a CSV with a header, a JSON list of objects, or JSONL.

    Args:
        path: the file.
        id_key: the column with the ids; ``jid``, ``material_id``, ..., ``id`` unless said.

    Raises:
        UnreadableInput: the file cannot be read, has no column of ids, or has an id twice.
    """
    text = read_text(path, "a CSV with a header, a JSON list of objects, or JSONL")
    try:
        # Not splitlines(), which also breaks lines at U+2028 and its like, which an id may hold, and within quotes.
        is_json = text.lstrip()[:1] in ("[", "{")
        rows = _json_rows(text) if is_json else list(csv.DictReader(io.StringIO(text, newline="")))
    except (ValueError, RecursionError, csv.Error) as error:
        msg = f"{path} is neither a CSV with a header, a JSON list of objects, nor JSONL: {error}"
        raise UnreadableInput(msg) from None
    if not rows or not all(isinstance(row, Mapping) for row in rows):
        msg = f"{path} holds no rows; required: a CSV with a header, a JSON list of objects, or JSONL"
        raise UnreadableInput(msg)
    columns = list(rows[0])
    key = id_key or next((name for name in (*ID_KEYS, "id") if name in columns), None)
    if key not in columns:
        wanted = "of ids" if key is None else repr(key)
        msg = f"{path} has no column {wanted}; its columns are {', '.join(map(repr, columns))}: name one with --id-key"
        raise UnreadableInput(msg)
    table: dict[str, dict[str, Any]] = {}
    for row in rows:
        graph_id = str(row.get(key))
        if graph_id in table:
            msg = f"{path} has the id {graph_id!r} twice; required: one row an id"
            raise UnreadableInput(msg)
        table[graph_id] = {name: value for name, value in row.items() if name and name != key}
    return table


def read_text(path: str | os.PathLike[str], required: str) -> str:
    """The text of a file that the user named.

    Args:
        path: the file; UTF-8, with or without a byte-order mark.
        required: what it has to be, for the error.

    Raises:
        UnreadableInput: there is no such file, it cannot be read, or it is not text.
    """
    try:
        return Path(path).read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        msg = f"there is no file {path}; required: {required}"
    except OSError as error:
        msg = f"{path} cannot be read: {error.strerror}; required: {required}"
    except UnicodeDecodeError as error:
        msg = f"{path} is not text in UTF-8 ({error.reason} at byte {error.start}); required: {required}, unpacked"
    raise UnreadableInput(msg)


def _json_rows(text: str) -> list[Any]:
    if text.lstrip()[:1] == "[":
        rows: list[Any] = json.loads(text)
        return rows
    lines = text.replace("\r\n", "\n").replace("\r", "\n").split("\n")
    return [json.loads(line) for line in lines if line.strip()]
