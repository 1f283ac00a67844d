"""Plots by title and year, however the title is written."""

import json

import pytest

from palate.data.public import redial_plots as plots
from palate.errors import DataError


@pytest.mark.parametrize("title", ["Matrix, The (1999)", "The Matrix (1999)", "the matrix (Part one) (1999)", "MATRIX (1999) "])
def test_titles_meet(title):
    assert plots.title_key(title) == ("matrix", 1999)


def test_a_title_may_have_no_year():
    assert plots.title_key("Alien") == ("alien", 0)


def test_films_without_a_plot_are_left_out(tmp_path, monkeypatch):
    monkeypatch.setenv("PALATE_DATA", str(tmp_path))
    monkeypatch.setattr(plots, "cache_folder", lambda: tmp_path / "cache")
    with pytest.raises(DataError, match="no plots"):
        plots.known_plots()
    (tmp_path / "redial").mkdir()
    films = {"1": {"name": "Alien (1979)", "plot": "a ship"}, "2": {"name": "Aliens (1986)", "plot": None}}
    (tmp_path / "redial" / "id2info.json").write_text(json.dumps(films))
    assert plots.known_plots() == {("alien", 1979): "a ship"}
