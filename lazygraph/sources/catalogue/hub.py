"""Parquet files of a repository of the Hugging Face Hub as an entry of the catalogue, by the metadata of the Hub."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any
from urllib.parse import quote

from lazygraph.errors import InputError, TransferError
from lazygraph.extras import require
from lazygraph.sources.catalogue.table import CatalogueEntry, CatalogueFile
from lazygraph.storage.files import make_folder, write_atomic
from lazygraph.storage.hub import HubAddress, hub_errors, hub_headers
from lazygraph.storage.transport import UnreachableError, repeated

__all__ = ["ENTRY", "hub_entry", "keep_entry", "kept_entry", "token_headers"]

ENTRY = ".entry.json"  # the file with the answer of the Hub, beside the files


def hub_entry(name: str, folder: Path) -> CatalogueEntry:
    """Return the entry of ``hf:ORG/NAME[@REVISION][/FOLDER]``: the Parquet files in one folder of the repository.

    The Hub states size and sha256 of each file. The addresses name the commit that the revision has now. If the Hub
    cannot be reached, the entry is the one that was kept when the files were downloaded.

    Args:
        name: of the data set.
        folder: where its files lie after a download.

    Raises:
        InputError: the name has another form, or there are no such files; the message lists the folders that have some.
        TransferError: there is no such repository, or the Hub cannot be reached.
        MissingExtra: huggingface_hub is not installed.
    """
    address = HubAddress.of(f"hf://datasets/{name.removeprefix('hf:')}")
    hub = require("huggingface_hub", "hub", "hf: data sets")
    endpoint = require("huggingface_hub.constants", "hub", "hf: data sets").ENDPOINT
    api = hub.HfApi(endpoint=endpoint)

    def ask() -> Any:
        with hub_errors(name):
            return api.dataset_info(address.repository, revision=address.revision, files_metadata=True, timeout=30)

    try:
        info = repeated(ask, name)
    except UnreachableError:
        if (folder / ENTRY).exists():
            return kept_entry(name, folder)
        raise
    except FileNotFoundError as error:
        msg = f"{name}: {error.strerror}"
        raise TransferError(msg) from None
    tables = {one.rfilename: one for one in info.siblings or () if one.rfilename.endswith(".parquet")}
    of_folder = [path for path in tables if path.rpartition("/")[0] == address.folder]
    folders = sorted({path.rpartition("/")[0] for path in tables})
    if not of_folder or (not address.folder and len(folders) > 1):
        known = ", ".join(f"{name}/{one}" for one in folders if one) if not address.folder else ", ".join(folders)
        msg = f"{name} has {len(of_folder)} Parquet files in this folder; name one of the folders: {known or 'none'}"
        raise InputError(msg)
    files = tuple(
        CatalogueFile(
            path.replace("/", "--"),
            f"{endpoint}/datasets/{address.repository}/resolve/{info.sha}/{quote(path)}",
            tables[path].size,
            None if tables[path].lfs is None else tables[path].lfs.sha256,
            git=tables[path].blob_id if tables[path].lfs is None else None,
        )
        for path in of_folder
    )
    card = info.card_data.to_dict() if info.card_data is not None else {}
    said = card.get("license")
    return CatalogueEntry(
        name,
        str(card.get("pretty_name") or address.repository),
        files,
        f"the Hugging Face Hub, commit {info.sha}",
        license=said if isinstance(said, str) else None,
        homepage=f"{endpoint}/datasets/{address.repository}",
    )


def token_headers(url: str) -> dict[str, str]:
    """Return the headers of a request for a file: with the token of the Hub, if the address is of the Hub."""
    endpoint = require("huggingface_hub.constants", "hub", "hf: data sets").ENDPOINT
    return hub_headers() if url.startswith(f"{endpoint}/") else {}


def keep_entry(entry: CatalogueEntry, folder: Path) -> None:
    """Store the answer of the Hub beside the files, for every process that reads them."""
    make_folder(folder)
    data = {key: value for key, value in asdict(entry).items() if key not in ("name", "folds")}
    write_atomic(folder / ENTRY, json.dumps(data).encode() + b"\n")


def kept_entry(name: str, folder: Path) -> CatalogueEntry:
    """Return the entry that was kept.

    Raises:
        InputError: the entry does not exist.
    """
    try:
        return CatalogueEntry.from_json(name, json.loads((folder / ENTRY).read_bytes()))
    except (OSError, ValueError, TypeError, KeyError) as error:
        msg = f"what the Hub said of {name} is not in {folder} any more: {error}; write the data set by its name again"
        raise InputError(msg) from error
