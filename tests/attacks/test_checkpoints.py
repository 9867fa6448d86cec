"""A stranger's checkpoint: one that would run code is refused, and none of it runs."""

from __future__ import annotations

import os
import pickle
import zipfile
from pathlib import Path

import pytest

from lazygraph.errors import InputError

torch = pytest.importorskip("torch")
pytest.importorskip("lightning")


class Code:
    """What runs code where it is unpickled."""

    def __reduce__(self):
        return os.system, ("touch ran",)


def saved(path, inner):
    torch.save({"lazygraph": {"version": 1, "model": inner}, "state_dict": {}}, path)


def bare(path, inner):
    path.write_bytes(pickle.dumps(inner))


def in_a_zip(path, inner):
    """As torch writes it, with a pickle of the attacker's in the place of torch's."""
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("archive/data.pkl", pickle.dumps(inner, protocol=2))
        file.writestr("archive/version", "3")


@pytest.mark.parametrize("make", [saved, bare, in_a_zip])
def test_a_checkpoint_that_would_run_code_is_refused(make, tmp_path, monkeypatch):
    from lazygraph.training.predict import Trained

    monkeypatch.chdir(tmp_path)
    make(tmp_path / "best.ckpt", Code())
    with pytest.raises(InputError, match="cannot be read as a checkpoint of nothing but numbers and texts"):
        Trained.load(tmp_path / "best.ckpt")
    assert not Path("ran").exists()
