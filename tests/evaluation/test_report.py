"""Reports: values by hand, pairs, slices, seeds, and every kind of file."""

from __future__ import annotations

import json
import re
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from palate.data.dataset import Dataset
from palate.data.histories import Histories
from palate.data.ragged import Ragged
from palate.data.split import HeldOut
from palate.errors import ConfigError, DataError
from palate.evaluation.judge import Facts, Judgement, judge
from palate.evaluation.report import Report
from palate.evaluation.report_text import label, number
from palate.evaluation.significance import paired_permutation, paired_t
from palate.evaluation.slices import Slicing

N, ITEMS = 40, 12
METRICS = ["ndcg@5", "recall@5", "coverage@5", "gini@5"]
FACTS = Facts.of(Dataset.from_columns(np.arange(48) % N, np.arange(48) % ITEMS))
QUESTIONS = HeldOut(np.arange(N, dtype=np.int32), Histories.empty(N), Ragged.from_rows([[u % ITEMS] for u in range(N)]))


def judged(skill: float, seed: int = 0, *, order: np.ndarray | None = None, sampled: str | None = None) -> Judgement:
    rng = np.random.default_rng(seed)
    scores = rng.random((N, ITEMS))
    scores[np.arange(N), np.arange(N) % ITEMS] += skill
    lists = np.argsort(-scores, axis=1)[:, :5].astype(np.int32)
    rows = np.arange(N) if order is None else order
    return judge(lists[rows], QUESTIONS.take(rows), METRICS, FACTS, sampled=sampled)


def report(**options: object) -> Report:
    made = Report("A <b>test</b> & more", "f00d", spec={"protocol": "by hand"}, looks=1, resamples=300, **options)  # type: ignore[arg-type]
    made.add("EASE", judged(0.6), info={"system": "ease", "fit_seconds": 1.5, "requests_per_s": 2000.0, "n_trials": 3})
    made.add("Popularity", judged(0.0, 1), info={"system": "popularity", "fit_seconds": 0.1, "n_trials": 3})
    for seed in range(3):
        made.add("New_1", judged(0.55, 2 + seed), seed=seed, info={"system": "new", "fit_seconds": 5.0 + seed, "n_trials": 3})
    return made.slice_by(Slicing.of_labels("age", ["old" if u % 4 else "young" for u in range(N)], "by age"))


# -- values -----------------------------------------------------------------------------------------


def test_one_seed_gives_the_judgements_own_numbers() -> None:
    found, judgement = report(), judged(0.6)
    for name in METRICS:
        assert found.estimates(name)["EASE"].value == judgement.value(name)
    assert found.estimates("NDCG@5") is found.estimates("ndcg@5")


def test_seeds_are_averaged_person_by_person() -> None:
    found = report()
    parts = [judged(0.55, 2 + seed) for seed in range(3)]
    np.testing.assert_allclose(found.values("New_1", "ndcg@5"), np.mean([p.per_user["ndcg@5"] for p in parts], axis=0))
    estimate = found.estimates("ndcg@5")["New_1"]
    overall = [p.value("ndcg@5") for p in parts]
    assert estimate.value == pytest.approx(np.mean(overall)) and estimate.spread == pytest.approx(np.std(overall, ddof=1))
    assert found.estimates("coverage@5")["New_1"].value == pytest.approx(np.mean([p.value("coverage@5") for p in parts]))
    assert found.info("New_1", "fit_seconds") == 6.0


def test_intervals_hold_the_value_and_the_best_is_marked() -> None:
    found = report()
    for name in METRICS:
        estimates = found.estimates(name)
        sign = found.better(name)
        top = max(sign * e.value for e in estimates.values())
        assert [e.best for e in estimates.values()] == [sign * e.value == top for e in estimates.values()]
        for estimate in estimates.values():
            if name in found.paired_metrics:
                assert estimate.low < estimate.value < estimate.high
            else:
                assert estimate.low is None and estimate.high is None
    assert found.better("gini@5") == -1


def test_standard_errors_are_those_of_means() -> None:
    estimate, values = report().estimates("ndcg@5")["EASE"], report().values("EASE", "ndcg@5")
    assert estimate.error == pytest.approx(values.std() / np.sqrt(N), rel=0.15)
    assert report().estimates("coverage@5")["EASE"].error is None


def test_slices_sum_up_as_the_whole_does() -> None:
    names = ["percentile_rank@5", "median_rank@5"]
    held = HeldOut(QUESTIONS.users, QUESTIONS.histories, Ragged.from_rows([range(1 + u % 3) for u in range(N)]))
    lists = np.argsort(-np.random.default_rng(0).random((N, ITEMS)), axis=1)[:, :5].astype(np.int32)
    verdict = judge(lists, held, names, FACTS)
    found = Report("r", "f", resamples=50).add("a", verdict).slice_by(Slicing("all", ("everybody",), np.zeros(N, np.int32)))
    for name in names:
        assert found.slices(name)[0].value == pytest.approx(verdict.value(name))
        assert found.slices(name)[0].low == pytest.approx(found.estimates(name)["a"].low)


def test_slices_are_printed_a_row_a_group() -> None:
    ((title, rows),) = report().slice_tables()
    assert title == "NDCG@5 by age: by age" and [row["People"] for row in rows] == ["old", "young"]
    assert [row["Number"] for row in rows] == ["30", "10"]
    old = {value.system: value for value in report().slices("ndcg@5") if value.group == "old"}
    assert rows[0]["EASE"].startswith(f"{old['EASE'].value:.4f} ±{(old['EASE'].high - old['EASE'].low) / 2:.4f}")
    assert [title for title in old if rows[0][title].endswith("*")] == [max(old, key=lambda title: old[title].value)]
    assert report().slice_tables("Recall@5")[0][0] == "Recall@5 by age: by age"
    assert report().slice_tables("coverage@5") == report().slice_tables()  # it has no values of people


def test_intervals_are_the_same_one_by_one_and_together(monkeypatch: pytest.MonkeyPatch) -> None:
    together = [report().estimates(name)["New_1"] for name in ("ndcg@5", "recall@5")]
    monkeypatch.setattr("palate.evaluation.report.SHARED_BYTES", 1)
    alone = [report().estimates(name)["New_1"] for name in ("ndcg@5", "recall@5")]
    for a, b in zip(together, alone, strict=True):
        assert (a.low, a.high, a.error) == pytest.approx((b.low, b.high, b.error))


def test_people_without_a_value_are_left_out() -> None:
    questions = HeldOut(np.arange(3, dtype=np.int32), Histories.empty(3), Ragged.from_rows([[0], [], [1]]))
    lists = np.array([[0, 1], [0, 1], [0, 1]], np.int32)
    found = Report("r", "f").add("a", judge(lists, questions, ["recall@1"], FACTS))
    estimate = found.estimates("recall@1")["a"]
    assert (estimate.n, estimate.value) == (2, 0.5)
    assert np.isnan(found.values("a", "recall@1")).tolist() == [False, True, False]


def test_people_in_another_order_are_put_in_order() -> None:
    order = np.random.default_rng(0).permutation(N)
    found = Report("r", "f").add("a", judged(0.5)).add("b", judged(0.5, order=order))
    np.testing.assert_array_equal(found.values("a", "ndcg@5"), found.values("b", "ndcg@5"))


def test_what_can_not_be_compared_is_refused() -> None:
    found = report()
    with pytest.raises(DataError, match="this seed already"):
        found.add("EASE", judged(0.5))
    with pytest.raises(DataError, match="different people"):
        found.add("b", judged(0.5, order=np.arange(5)))
    with pytest.raises(DataError, match="different candidates"):
        found.add("b", judged(0.5, sampled="99 uniform negatives"))
    with pytest.raises(DataError, match="different metrics"):
        found.add("b", judge(np.zeros((N, 1), np.int32), QUESTIONS, ["recall@1"], FACTS))
    with pytest.raises(ConfigError, match="no values of people"):
        found.compare("coverage@5")
    with pytest.raises(ConfigError, match="New_1"):
        found.compare("ndcg@5", baseline="New")
    with pytest.raises(ConfigError, match="not judged"):
        found.estimates("ndcg@10")
    with pytest.raises(ConfigError, match="unknown test"):
        found.compare("ndcg@5", test="sign")  # type: ignore[arg-type]
    with pytest.raises(DataError, match="one code a person"):
        found.slice_by(Slicing.of_labels("x", ["a"]))
    with pytest.raises(ConfigError, match="age"):
        found.slices("ndcg@5", by="aeg")


# -- pairs ------------------------------------------------------------------------------------------


def test_all_pairs_with_holm() -> None:
    found = report()
    pairs = found.compare("ndcg@5")
    assert [(p.system, p.baseline) for p in pairs] == [("EASE", "Popularity"), ("EASE", "New_1"), ("Popularity", "New_1")]
    gap = found.values("EASE", "ndcg@5") - found.values("Popularity", "ndcg@5")
    first = pairs[0]
    assert first.difference == pytest.approx(gap.mean()) and first.p == paired_permutation(gap).p
    assert (first.wins, first.losses, first.n) == (int((gap > 0).sum()), int((gap < 0).sum()), N)
    assert first.relative == pytest.approx(gap.mean() / found.estimates("ndcg@5")["Popularity"].value)
    assert first.low < first.difference < first.high and first.significant
    in_order = sorted(pairs, key=lambda p: p.p)
    assert in_order[0].p_adjusted == pytest.approx(min(1, 3 * in_order[0].p))


def test_against_one_baseline_and_other_tests() -> None:
    found = report()
    pairs = found.compare("ndcg@5", baseline="Popularity", test="t")
    assert [p.system for p in pairs] == ["EASE", "New_1"]
    assert pairs[0].p == paired_t(found.values("EASE", "ndcg@5") - found.values("Popularity", "ndcg@5")).p
    assert found.compare("ndcg@5", test="wilcoxon")[0].method == "Wilcoxon signed rank"


def test_several_metrics_are_one_family() -> None:
    found = report()
    alone, both = found.compare("ndcg@5"), found.compare(["ndcg@5", "recall@5"])
    assert len(both) == 6
    assert all(b.p_adjusted >= a.p_adjusted for a, b in zip(alone, both, strict=False))


def test_weighted_metrics_are_compared_by_weighted_differences() -> None:
    class Weighted:
        """A judgement with weights, by hand."""

        users, dropped, sampled = np.arange(3, dtype=np.int32), {"ndcg@5": 0}, None

        def __init__(self, values: list[float]) -> None:
            self.per_user, self.weights = {"ndcg@5": np.array(values)}, {"ndcg@5": np.array([1.0, 1.0, 2.0])}
            self.overall = {"ndcg@5": float(np.average(values, weights=[1, 1, 2]))}

    found = Report("r", "f").add("a", Weighted([1, 0, 1])).add("b", Weighted([0, 0, 0.5]))  # type: ignore[arg-type]
    pair = found.compare("ndcg@5")[0]
    assert pair.difference == pytest.approx((1 * 1 + 0 + 2 * 0.5) / 4)
    assert pair.difference == pytest.approx(found.estimates("ndcg@5")["a"].value - found.estimates("ndcg@5")["b"].value)


# -- slices and words -------------------------------------------------------------------------------


def test_slices_are_means_of_their_people() -> None:
    found = report()
    rows = {(row.group, row.system): row for row in found.slices("ndcg@5", by="age")}
    young = np.arange(N) % 4 == 0
    values = found.values("EASE", "ndcg@5")
    assert rows["young", "EASE"].value == pytest.approx(values[young].mean()) and rows["young", "EASE"].n == 10
    assert rows["old", "EASE"].value == pytest.approx(values[~young].mean())
    assert rows["old", "EASE"].low < rows["old", "EASE"].value < rows["old", "EASE"].high


def test_table_rows_can_be_printed() -> None:
    rows = report().table(["ndcg@5", "coverage@5"])
    assert [row["System"] for row in rows] == ["EASE", "Popularity", "New_1"]
    assert list(rows[0]) == ["System", "NDCG@5", "Coverage@5", "Fit s", "Requests/s"]
    assert all(re.fullmatch(r"0\.\d{4} ±0\.\d{4}\*?", row["NDCG@5"]) for row in rows) and rows[0]["Requests/s"] == "2,000"
    assert rows[1]["Requests/s"] == "–" and sum(str(row["NDCG@5"]).endswith("*") for row in rows) == 1


def test_summary_says_what_counts() -> None:
    text = "\n".join(report().summary_lines())
    assert "Best: New_1. Not separable from it: EASE (p ≥ 0." in text
    assert "New_1 beats Popularity (p ≤ 0.001)." in text and "EASE beats Popularity (p ≤ 0.001)." in text
    assert "opened once" in text and "3 trials a system" in text
    assert "Not better than the best baseline, EASE: New_1." in text and "1 to 3 seeds" in text
    assert "SAMPLED" not in text
    assert Report("empty", "f").summary_lines() == ["No system has been judged yet."]


def test_summary_stays_short_with_many_systems() -> None:
    found = Report("many", "f", resamples=50)
    titles = [f"System, {at}" for at in range(9)]
    for at, title in enumerate(titles):
        found.add(title, judged(0.05 * at, at))
    lines = found.summary_lines()
    pairs = found.compare("ndcg@5")
    assert len(lines) <= 3 + len(titles)
    values = {title: found.estimates("ndcg@5")[title].value for title in titles}
    best = max(values, key=values.__getitem__)
    level = {t for p in pairs if not p.significant and best in (p.system, p.baseline) for t in (p.system, p.baseline)} - {best}
    line = next(line for line in lines if line.startswith("  Best:"))
    assert line.startswith(f"  Best: {best}.")
    assert {t for t in titles if t in line} == {best} | level, "those that can't be told from the best, and no others"
    beats = {(p.system, p.baseline) if p.difference > 0 else (p.baseline, p.system) for p in pairs if p.significant}
    told = {(w, loser) for w in titles for ln in lines if ln.startswith(f"  {w} beats") for loser in titles if loser in ln}
    assert told - {(t, t) for t in titles} == beats


@pytest.mark.parametrize(
    ("name", "text"), [("ndcg@10", "NDCG@10"), ("hit_rate@5", "Hit rate@5"), ("ndcg@5[gain=linear]", "NDCG@5[gain=linear]")]
)
def test_labels(name: str, text: str) -> None:
    assert label(name) == text


def test_numbers() -> None:
    cells = [number(v) for v in (0.12344, 12.344, 123.44, 12345.6, float("nan"), None)]
    assert cells == ["0.1234", "12.34", "123.4", "12,346", "–", "–"]


# -- files ------------------------------------------------------------------------------------------


def test_json_gives_the_report_back(tmp_path: Path) -> None:
    found = report()
    again = Report.read(found.to_json(tmp_path / "deep" / "r.json"))
    assert again.to_dict() == found.to_dict() and again.table() == found.table()
    assert again.summary_lines() == found.summary_lines()
    for title in found.systems:
        np.testing.assert_array_equal(again.values(title, "ndcg@5"), found.values(title, "ndcg@5"))
    assert again.compare("recall@5", test="t") == found.compare("recall@5", test="t")
    again.add("more", judged(0.1, 9))
    assert sorted(p.name for p in (tmp_path / "deep").iterdir()) == ["r.json"]


def test_json_is_plain_and_says_how_it_was_measured() -> None:
    plain = report().to_dict()
    assert json.loads(json.dumps(plain, allow_nan=False)) == plain
    assert plain["split"] == {"fingerprint": "f00d", "spec": {"protocol": "by hand"}, "looks": 1}
    assert plain["candidates"] == "full catalogue" and plain["people"] == N
    assert plain["systems"][2]["seeds"] == [0, 1, 2] and plain["systems"][0]["info"][0]["n_trials"] == 3
    assert {"numpy", "palate"} <= set(plain["versions"]) and plain["machine"]["threads"] >= 1
    assert len(plain["compared"]) == 3 and len(plain["slices"]) == 6


@pytest.mark.parametrize("harm", ["missing", "cut", "other", "newer", "values"])
def test_damaged_json_is_refused(tmp_path: Path, harm: str) -> None:
    path = report().to_json(tmp_path / "r.json")
    text = path.read_text(encoding="utf-8")
    whole = json.loads(text)
    if harm == "missing":
        path.unlink()
    elif harm == "cut":
        path.write_text(text[:-200], encoding="utf-8")
    elif harm == "other":
        path.write_text("[]", encoding="utf-8")
    elif harm == "newer":
        path.write_text(json.dumps({**whole, "schema": 99}), encoding="utf-8")
    else:
        whole["values"]["users"] = whole["values"]["users"][:8]
        path.write_text(json.dumps(whole), encoding="utf-8")
    with pytest.raises(DataError, match=r"r\.json"):
        Report.read(path)


def test_parquet_holds_values_of_people(tmp_path: Path) -> None:
    found = report()
    table = pq.read_table(found.to_parquet(tmp_path / "r.parquet"))
    assert table.num_rows == 5 * N
    frame = table.to_pandas()
    own = frame[(frame.system == "New_1") & (frame.seed == 1)]
    np.testing.assert_array_equal(own["ndcg@5"], judged(0.55, 3).per_user["ndcg@5"])
    assert set(own["slice: age"]) == {"old", "young"} and set(own["candidates"]) == {"full catalogue"}
    assert json.loads(table.schema.metadata[b"palate"])["split"]["fingerprint"] == "f00d"


def test_latex_and_markdown_are_escaped(tmp_path: Path) -> None:
    found = report()
    latex = found.to_latex(tmp_path / "r.tex").read_text(encoding="utf-8")
    assert r"New\_1 & " in latex and latex.count(r" \\") == 4 and r"\textbf{" in latex and r"\toprule" in latex
    assert all(line.startswith("%") for line in latex.splitlines()[: 1 + len(found.summary_lines())])
    markdown = found.to_markdown(tmp_path / "r.md").read_text(encoding="utf-8")
    assert r"| New\_1 | " in markdown and r"\<b\>" in markdown and "full catalogue" in markdown


class Page(HTMLParser):
    """Collects what matters of a page."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.ids: set[str] = set()
        self.links: list[str] = []
        self.words = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.ids |= {str(v) for k, v in attrs if k == "id"}
        self.links += [str(v) for k, v in attrs if k in ("src", "href", "xlink:href")]

    def handle_data(self, data: str) -> None:
        self.words += data


def page_of(found: Report, tmp_path: Path) -> Page:
    pytest.importorskip("matplotlib")
    pytest.importorskip("jinja2")
    people = [
        {
            "user": "<script>alert(1)</script>",
            "events": 9,
            "history": ["Alien & Co", "<i>Up</i>"],
            "offers": [{"title": "<img src=x>", "score": 1.25, "why": "because of Alien (80%)"}],
            "cold": False,
        }
    ]
    return Page(found.to_html(tmp_path / "r.html", people=people).read_text(encoding="utf-8"))


def test_html_stands_alone(tmp_path: Path) -> None:
    page = page_of(report(), tmp_path)
    assert not {"script", "img", "link", "iframe", "i"} & set(page.tags)
    assert all(link.startswith("#") for link in page.links)
    assert page.tags.count("svg") == 4
    assert {"results", "significance", "slices", "beyond", "people", "how"} <= page.ids
    for words in ("A <b>test</b> & more", "<script>alert(1)</script>", "because of Alien", "f00d", "NDCG@5", "New_1", "by age"):
        assert words in page.words
    text = (tmp_path / "r.html").read_text(encoding="utf-8")
    assert "prefers-color-scheme: dark" in text and "@import" not in text and "url(http" not in text


def test_html_of_one_system_without_facts(tmp_path: Path) -> None:
    page = page_of(Report("one", "f").add("a", judged(0.5)), tmp_path)
    assert "significance" not in page.ids and "slices" not in page.ids and "how" in page.ids
    assert page.tags.count("svg") == 1


def test_html_is_the_same_each_time(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    first, second = (report().to_html(tmp_path / name).read_bytes() for name in ("a.html", "b.html"))
    assert first == second


def test_sampled_candidates_are_labelled_in_every_output(tmp_path: Path) -> None:
    how = "99 uniform negatives"
    found = Report("sampled", "f").add("a", judged(0.9, sampled=how)).add("b", judged(0.1, 1, sampled=how))
    assert all(how in row["Candidates"] for row in found.table())
    assert any("SAMPLED" in line and how in line for line in found.summary_lines())
    assert found.to_dict()["candidates"] == how
    assert set(pq.read_table(found.to_parquet(tmp_path / "r.parquet")).column("candidates").to_pylist()) == {how}
    for path in (found.to_latex(tmp_path / "r.tex"), found.to_markdown(tmp_path / "r.md"), found.to_html(tmp_path / "r.html")):
        text = path.read_text(encoding="utf-8")
        assert "SAMPLED CANDIDATES" in text and how in text
    assert Report.read(found.to_json(tmp_path / "r.json")).sampled == how


def test_empty_report_can_not_be_written_as_parquet(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="nothing to write"):
        Report("r", "f").to_parquet(tmp_path / "r.parquet")
    assert not list(tmp_path.iterdir())
