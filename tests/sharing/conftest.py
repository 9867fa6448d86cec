import pytest

from lazygraph.storage import transport


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("LAZYGRAPH_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(transport, "FIRST_PAUSE", 0.002)
