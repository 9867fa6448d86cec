"""A dataset of a stranger: made of a good one, anything changed, and every checksum right."""

from __future__ import annotations

import copy
import hashlib
import json

import msgpack
import numpy as np

from lazygraph.format.columns import write_column
from lazygraph.format.manifest import MANIFEST, canonical_json, graph_digest
from lazygraph.format.record import Compressor
from lazygraph.format.shard import write_shard
from lazygraph.format.store import Store
from lazygraph.storage.files import named_after_content


class Hostile:
    """What a dataset holds, to be changed before it is written.

    Attributes:
        body: the manifest; what it says of files is put right when they are written.
        raws: the decompressed records.
        frames: row -> what the shard holds instead of the compressed record.
        columns: name -> array; files: name of a column -> the bytes of its file instead of those of the array.
        record: the column ``record`` is given to it before it is written.
        dictionary: bytes of a dictionary.
        edits: each is given the manifest when all else is in it; after: the folder when all is written.
        seal: the manifest as bytes.
    """

    def __init__(self, path):
        store = Store(path)
        self.body = json.loads((path / MANIFEST).read_bytes())
        del self.body["sha256"]
        self.raws = [store.raw(row) for row in range(len(store))]
        self.columns = {name: np.array(store.column(name)) for name in self.body["columns"]}
        self.frames, self.files, self.edits, self.after = {}, {}, [], []
        self.record = lambda column: column
        self.dictionary = None
        self.seal = seal

    def copy(self):
        return copy.deepcopy(self)

    def part(self, row, place, value):
        """Replace one element of a record; ``value`` may be a function of what was there."""
        parts = msgpack.unpackb(self.raws[row])
        parts[place] = value(parts[place]) if callable(value) else value
        self.raws[row] = msgpack.packb(parts)

    def buffer(self, row, field, value):
        """Replace the buffer of a field."""
        names = [each["name"] for each in self.body["schema"]["fields"]]
        self.part(row, 2 + len(self.body["schema"]["axes"]) + names.index(field), value)

    def count(self, row, axis, value):
        """Replace the count of an axis."""
        self.part(row, 1 + self.body["schema"]["axes"].index(axis), value)

    def field(self, name, **changes):
        """Change what the schema says of a field."""
        next(each for each in self.body["schema"]["fields"] if each["name"] == name).update(changes)

    def label(self, name, **changes):
        """Add a label that is zero everywhere."""
        self.columns[name] = np.zeros(self.body["graphs"])
        nothing = dict.fromkeys(("unit", "statistics", "categories", "rule", "per", "description"))
        self.body["columns"][name] = {"role": "label", "required": False} | nothing | changes

    def texts(self, name, values, **changes):
        """Add a label of texts, or of the codes of categories."""
        self.label(name, role="text" if values.dtype.kind == "S" else "category", **changes)
        self.columns[name] = np.resize(values, self.body["graphs"])

    def write(self, path):
        """The folder, written."""
        path.mkdir(parents=True)
        compress = Compressor(3, None)
        file, index = write_shard(path, 0, [self.frames.get(row) or compress(raw) for row, raw in enumerate(self.raws)])
        body, columns = self.body, self.columns | {"record": self.record(index)}
        body["shards"] = [{"file": file.to_json(), "records": len(self.raws), "rows": body["graphs"]}]
        dictionary = self.dictionary and named_after_content(path, "dictionary", ".zstd", self.dictionary).to_json()
        body["codec"]["dictionary"] = dictionary
        for name, array in columns.items():
            made = write_column(path, name, array)
            body["columns"][name] |= {"file": made.file.to_json(), "dtype": made.dtype, "shape": list(made.shape)}
            if name in self.files:
                other = named_after_content(path, "columns/forged", ".npy", self.files[name])
                body["columns"][name]["file"] = other.to_json()
        identity = hashlib.sha256(canonical_json({"recipe": body["recipe"], "schema": body["schema"]}))
        for graph_id, raw in zip(columns["id"].tolist(), self.raws, strict=False):
            identity.update(graph_digest(graph_id, raw))
        body["content_id"] = identity.hexdigest()
        for edit in self.edits:
            edit(body)
        (path / MANIFEST).write_bytes(self.seal(body))
        for act in self.after:
            act(path)
        return path


def sealed(prefix):
    """A manifest file with this beginning, and the checksum that fits it."""
    return prefix + b',"sha256":"' + hashlib.sha256(prefix).hexdigest().encode() + b'"}\n'


def seal(body):
    """A manifest file in the form of the format."""
    return sealed(json.dumps(body, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()[:-1])


def with_user(text):
    """A manifest file in which this text of JSON stands for ``user``."""
    return lambda body: sealed(
        json.dumps(body | {"user": "HERE"}, sort_keys=True, separators=(",", ":"))
        .encode()[:-1]
        .replace(b'"HERE"', text)
    )
