"""A dataset of a stranger: made of a good one, anything changed, and every checksum right."""

from __future__ import annotations

import copy
import hashlib
import json
from dataclasses import dataclass, field
from itertools import accumulate

import msgpack
import numpy as np

from lazygraph.format.codec import CODECS
from lazygraph.format.columns import write_column
from lazygraph.format.digests import blocks_of_column, blocks_of_graphs, graph_digest, write_digests
from lazygraph.format.manifest import MANIFEST
from lazygraph.format.shard import record_dtype, write_shard
from lazygraph.format.store import Store
from lazygraph.format.strict_json import canonical_json
from lazygraph.storage.files import named_after_content

NOTHING = dict.fromkeys(("unit", "statistics", "categories", "rule", "per", "description"))
INDEX = {"role": "index", "required": False} | NOTHING
"""What the manifest says of a column of the index."""


@dataclass
class Part:
    """What becomes one shard.

    Attributes:
        rows: how many rows have their records in it.
        codec: how they are compressed; dictionary: the number of the one that they are compressed with.
        spare: key -> what the shard holds there besides, which belongs to no row.
    """

    rows: int
    codec: str = "zstd"
    dictionary: int | None = None
    spare: dict[int, bytes] = field(default_factory=dict)


class Hostile:
    """What a dataset holds, to be changed before it is written.

    Attributes:
        body: the manifest; what it says of files is put right when they are written.
        raws: the decompressed records.
        frames: row -> what the shard holds instead of the compressed record.
        columns: name -> array; files: name of a column -> the bytes of its file instead of those of the array.
        record: the column ``record`` is given to it before it is written.
        parts: what becomes the shards, in order; their rows are those of the dataset.
        dictionaries: the bytes of each.
        quarantined: what the list of quarantined inputs holds, as its lines; no list where it is None.
        digests: the blocks of the graphs and name -> those of each column are given to it before they are written.
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
        self.digests = lambda graphs, columns: (graphs, columns)
        self.parts, self.dictionaries, self.quarantined = [Part(len(self.raws))], [], None
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
        self.part(row, 1 + len(self.body["schema"]["axes"]) + names.index(field), value)

    def count(self, row, axis, value):
        """Replace the count of an axis."""
        self.part(row, self.body["schema"]["axes"].index(axis), value)

    def field(self, name, **changes):
        """Change what the schema says of a field."""
        next(each for each in self.body["schema"]["fields"] if each["name"] == name).update(changes)

    def label(self, name, **changes):
        """Add a label that is zero everywhere."""
        self.columns[name] = np.zeros(self.body["graphs"])
        self.body["columns"][name] = {"role": "label", "required": False} | NOTHING | changes

    def texts(self, name, values, **changes):
        """Add a label of texts, or of the codes of categories."""
        self.label(name, role="text" if values.dtype.kind == "S" else "category", **changes)
        self.columns[name] = np.resize(values, self.body["graphs"])

    def write(self, path):
        """The folder, written."""
        path.mkdir(parents=True)
        body, columns = self.body, self.columns | {"record": self.record(self._write_shards(path))}
        written = [named_after_content(path, "dictionary", ".zstd", each).to_json() for each in self.dictionaries]
        body["dictionaries"] = written
        for name, array in columns.items():
            made = write_column(path, name, array)
            body["columns"][name] |= {"file": made.file.to_json(), "dtype": made.dtype, "shape": list(made.shape)}
            if name in self.files:
                other = named_after_content(path, "columns/forged", ".npy", self.files[name])
                body["columns"][name]["file"] = other.to_json()
        told = map(graph_digest, columns["id"].tolist(), self.raws)
        graphs = blocks_of_graphs(np.frombuffer(b"".join(told), "V32"))
        described = canonical_json({"recipe": body["recipe"], "schema": body["schema"]})
        body["content_id"] = hashlib.sha256(described + graphs.tobytes()).hexdigest()
        blocks = {name: blocks_of_column(array) for name, array in columns.items()}
        body["digests"] = write_digests(path, *self.digests(graphs, blocks)).to_json()
        if self.quarantined is not None:
            content = "".join(f"{line}\n" for line in self.quarantined).encode()
            written = named_after_content(path, "quarantine", ".jsonl", content).to_json()
            body["quarantine"] = {"file": written, "count": len(self.quarantined)}
        for edit in self.edits:
            edit(body)
        (path / MANIFEST).write_bytes(self.seal(body))
        for act in self.after:
            act(path)
        return path

    def _write_shards(self, path):
        """The column ``record``; the manifest is told of the shards."""
        self.body["shards"], index = [], []
        starts = [0, *accumulate(part.rows for part in self.parts)]
        for number, part in enumerate(self.parts):
            encode = CODECS[part.codec].encoder(
                3, None if part.dictionary is None else self.dictionaries[part.dictionary]
            )
            rows = range(starts[number], starts[number + 1])
            values = [self.frames[row] if row in self.frames else encode(self.raws[row]) for row in rows]
            for key, value in sorted(part.spare.items()):
                values.insert(key, value)
            file, places = write_shard(path, number, values)
            index.append(np.delete(places, sorted(part.spare)))
            described = {"spare": sorted(part.spare), "codec": part.codec, "dictionary": part.dictionary}
            self.body["shards"].append({"file": file.to_json(), "records": len(values)} | described)
        widest = max((each.dtype for each in index), key=lambda dtype: dtype.itemsize, default=record_dtype(0, 0))
        return np.concatenate([np.empty(0, widest), *index], dtype=widest)


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
