"""Plots of films: read by id, once a film, as item text; what is refused."""

import gzip

import pyarrow as pa
import pytest

from palate.data.dataset import Dataset
from palate.data.public.plots import with_plots
from palate.errors import DataError

MADE_UP = (
    "movie_id,title,overview,runtime\n"
    '1,One (1990),"A cook, alone,\nfinds a map.",90.0\n'
    "1,One (1990),Another text.,90.0\n"
    "2,Two (1991),,80.0\n"
    "9,Nine (1999),Nobody rated it.,70.0\n"
)


@pytest.fixture
def films():
    return Dataset.from_columns(["a", "a", "b"], ["1", "2", "3"])


@pytest.mark.parametrize("packed", [False, True])
def test_plots_become_the_description(films, tmp_path, packed):
    path = tmp_path / ("items_tmdb.csv.gz" if packed else "items_tmdb.csv")
    path.write_bytes(gzip.compress(MADE_UP.encode()) if packed else MADE_UP.encode())
    for given in (path, tmp_path):
        told = with_plots(films, given)
        assert told.items.attributes.column("description").to_pylist() == ["A cook, alone, finds a map.", None, None]
        assert told.spec[-1] == {"step": "plots", "told": 1}
    from palate.language.texts import item_texts

    assert "finds a map" in item_texts(told)[0]
    with pytest.raises(DataError, match="already"):
        with_plots(told, path)


def test_numbers_as_ids_and_other_attributes_stay(tmp_path):
    (tmp_path / "items_tmdb.csv").write_text(MADE_UP, encoding="utf-8")
    films = Dataset.from_columns([0, 0], [9, 1])
    told = with_plots(films, tmp_path)
    by_id = dict(zip(films.items.ids.raw.to_pylist(), told.items.attributes.column("description").to_pylist(), strict=True))
    assert by_id == {9: "Nobody rated it.", 1: "A cook, alone, finds a map."}


@pytest.mark.parametrize(
    ("text", "words"), [("movie_id,title\n1,One\n", "column"), ("movie_id,overview\n77,Other.\n", "none of the items")]
)
def test_files_of_another_kind_are_refused(films, tmp_path, text, words):
    (tmp_path / "items_tmdb.csv").write_text(text, encoding="utf-8")
    with pytest.raises(DataError, match=words):
        with_plots(films, tmp_path)
    with pytest.raises(DataError, match="no plots"):
        with_plots(films, tmp_path / "nowhere")
    assert isinstance(films.items.attributes, pa.Table | None)
