"""The table of the 61 papers."""

import re

from palate.catalog.baselines import BASELINES
from palate.catalog.papers import PAPERS
from palate.catalog.registry import systems


def test_all_61_papers_stand_in_order():
    assert [paper.paper for paper in PAPERS] == list(range(1, 62))


def test_names_and_titles_are_unique_and_plain():
    rows = [*BASELINES, *PAPERS]
    assert len({row.name for row in rows}) == len(rows)
    assert len({row.title.casefold() for row in rows}) == len(rows)
    assert all(re.fullmatch(r"[a-z][a-z0-9]*(_[a-z0-9]+)*", row.name) for row in rows)
    assert set(systems()) >= {row.name for row in rows}


def test_rows_say_what_is_needed():
    for paper in PAPERS:
        assert re.search(r"\b(19|20)\d\d\b", paper.citation), paper.name
        assert paper.needs
        assert len(set(paper.needs)) == len(paper.needs)
        assert (paper.status == "works") == bool(paper.path), paper.name


def test_every_verb_has_a_paper():
    verbs = {paper.verb for paper in PAPERS}
    assert verbs == {"recommend", "rank", "explore", "converse", "write", "understand", "simulate", "evaluate", "data"}
