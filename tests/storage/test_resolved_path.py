"""Outputs behind links: followed, also where nothing is yet; a link that leads to itself is one error everywhere."""

from __future__ import annotations

import pytest

import lazygraph as lg
from lazygraph.errors import InputError
from lazygraph.storage.files import resolved_path


def test_links_are_followed_to_what_need_not_exist(tmp_path):
    place = tmp_path.resolve() / "there"
    (tmp_path / "link").symlink_to(place)
    for path in (tmp_path / "link", tmp_path / "there", tmp_path / "link" / ".." / "there"):
        assert resolved_path(path) == place


def test_a_link_that_leads_to_itself_is_an_error(tmp_path):
    loop = tmp_path / "loop"
    loop.symlink_to(loop)
    with pytest.raises(OSError, match="[Ll]evels of symbolic links"):
        resolved_path(loop)


def test_every_output_says_so(tmp_path):
    loop = tmp_path / "loop"
    loop.symlink_to(loop)
    lg.write("prototypes:30", tmp_path / "d.lg", graph="cgcnn", workers=1, progress=False)
    options = lg.TrainOptions(target="density", model="cgcnn")
    for call in (
        lambda: lg.write("prototypes:3", loop, workers=1, progress=False),
        lambda: lg.export(tmp_path / "d.lg", loop),
        lambda: lg.train(tmp_path / "d.lg", options, loop, progress=False),
        lambda: lg.train_ensemble(tmp_path / "d.lg", options, loop, 2, progress=False),
    ):
        with pytest.raises(InputError, match="cannot be followed"):
            call()
