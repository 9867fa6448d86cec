from __future__ import annotations

import json

import pytest

from lazygraph.sources.base import Cut, Source
from lazygraph.sources.detect import open_sources, source_from_json, source_to_json


@pytest.fixture
def entries_of(tmp_path):
    """Scan an input and read every cut, as workers do: from a copy that travelled as JSON. Returns scan and entries."""

    def read(given, every=2, **options):
        (source,) = open_sources(given, **options) if not isinstance(given, Source) else (given,)
        spool = tmp_path / "spools" / source.kind
        spool.parent.mkdir(exist_ok=True)
        scan = source.scan(every, spool)
        assert len(scan.marks) == -(-scan.entries // every)
        entries = []
        for number, mark in reversed(list(enumerate(scan.marks))):  # in any order
            copy = source_from_json(json.loads(json.dumps(source_to_json(source))))
            count = min(every, scan.entries - number * every)
            part = list(copy.read(Cut(mark, number * every, count), spool))
            assert len(part) == count
            entries[:0] = part
        return scan, entries

    return read
