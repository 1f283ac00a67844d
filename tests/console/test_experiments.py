"""The page Experiments by a person's tasks, in a real browser: splits of several variants, interleaving, judging, mistakes."""

from __future__ import annotations

import json
import re
from typing import Any

import numpy as np
import pytest

from palate.serve import answers, records, wire
from palate.serve.clients.client import Client
from palate.serve.experiments import live

pytest.importorskip("nicegui", reason="the console needs NiceGUI")

pytestmark = pytest.mark.slow


@pytest.fixture(autouse=True)
def stopped(site: Any) -> Any:
    """Stop what runs at the end, so that the next experiment has everybody."""
    yield
    for row in site.store.experiments("running"):
        site.store.move_experiment(row.name, "stopped")
    site.service.forget_caches()


def card(page: Any, title: str) -> Any:
    """Return the group of fields of a name."""
    return page.get_by_role("group", name=title, exact=True)


def pick(page: Any, place: Any, label: str, option: str) -> None:
    """Choose in a list within a group."""
    place.get_by_role("combobox", name=label, exact=True).click()
    page.get_by_role("option", name=option, exact=True).click()
    page.get_by_role("listbox").wait_for(state="detached")  # once it is gone, the focus is back at the field


def begin(tour: Any, name: str) -> None:
    """Start an experiment that was just made."""
    tour.sees(f"{name} is made")
    tour.press(f"Start {name}")
    tour.sure("Start")
    tour.sees(f"{name} is running")


def rows(page: Any, table: str) -> list[list[str]]:
    """Return the texts of a table."""
    found = page.get_by_role("table", name=table).get_by_role("row").all()[1:]
    return [row.get_by_role("cell").all_inner_texts() for row in found]


def test_a_candidate_is_judged_by_the_log(tour: Any) -> None:
    page = tour.go("experiments")
    visits(tour.site, "w", 150, events=False)
    tour.press("Judge the candidate")
    tour.sees("What the candidate would have earned")
    found = rows(page, "What the candidate would have earned")
    assert len(found) > 5 and all("refused" not in row for row in found)
    page.get_by_role("img", name="Reward of a slate under the candidate").wait_for()


def test_a_split_of_three(tour: Any) -> None:
    """Two variants beside the control: made, started, met by people, read with intervals and guardrails, and stopped."""
    store = tour.site.store
    popular = next(row.version for row in store.models() if row.system == "popularity")
    page = tour.go("experiments")
    page.get_by_label("Name", exact=True).fill("three-ways")
    page.get_by_label("People planned").fill("400")
    first = card(page, "Variant 1")
    first.get_by_label("Name of the variant").fill("popular")
    pick(page, first, "Model", popular)
    assert page.get_by_role("button", name=re.compile("Remove")).count() == 0
    for _ in range(2):
        tour.press("Another variant")
    tour.sees("Variant 3 is added.")
    assert page.get_by_role("button", name="Remove control").count() == 0
    tour.press("Remove variant 2")
    tour.sees("Variant 2 is taken out.")
    assert card(page, "Variant 3").count() == 0
    second = card(page, "Variant 2")
    assert second.get_by_label("Name of the variant").input_value() == "variant 3"  # what was written moves up with its card
    second.get_by_label("Name of the variant").fill("calm")
    pick(page, second, "Diversity", "MMR")
    assert "33%: 133 people" in second.inner_text()
    card(page, "Control").get_by_label("Weight").fill("2")
    tour.sees("50%: 200 people")
    card(page, "Control").get_by_label("Weight").fill("1")
    tour.press("Another metric")
    guard = card(page, "Metric 2")
    pick(page, guard, "What is counted", "feedback per slate")
    guard.get_by_label("Only of the type").fill("click")
    guard.get_by_text("empty: feedback per slate (click)").wait_for()
    pick(page, guard, "What it is for", "must not get worse")
    guard.get_by_label("At most worse by").fill("0.9")
    page.get_by_text("What can be changed of the pipeline").click()
    keys = {row[0]: row[1] for row in rows(page, "Keys of the pipeline")}
    assert keys["seen"] == '"exclude"' and json.loads(keys["explore"])["epsilon"] == 0.3
    tour.check("experiments-form")
    page.set_viewport_size({"width": 1280, "height": 800})
    tour.press("Make the experiment")
    begin(tour, "three-ways")
    spec = store.experiment("three-ways").spec
    assert [(v["name"], v["model"], v["weight"]) for v in spec["variants"]] == [
        ("control", None, 1.0),
        ("popular", popular, 1.0),
        ("calm", None, 1.0),
    ]
    assert spec["variants"][2]["pipeline"] == {"diversity": {"kind": "mmr", "level": 0.3}}
    assert [(m["name"], m["guardrail"]) for m in spec["metrics"]] == [
        ("events of each person", None),
        ("feedback per slate (click)", 0.9),
    ]
    visits(tour.site, "x", 400, events=True)  # at least 100 an arm, else intervals have no ends
    tour.press("Read three-ways")
    tour.sees("400 of 400 planned people so far.")
    assert [row[0] for row in rows(page, "As measured, by variant")] == ["events of each person"] * 3 + [
        "feedback per slate (click)"
    ] * 3
    against = rows(page, "Against the control")
    assert [row[:2] for row in against] == [["events of each person", "popular"], ["events of each person", "calm"]]
    assert all(re.search(r"\(-?[\d.]+ to -?[\d.]+\)", row[2]) for row in against)
    comparisons = live.analysis(store, "three-ways")["comparisons"]
    told = {one["variant"]: one for one in comparisons if one["metric"] == "events of each person"}
    assert [row[5] for row in against] == [told["popular"]["conclusion"], told["calm"]["conclusion"]]
    tour.sees("P-values are corrected for the number of comparisons (Holm)")
    assert [row[:2] for row in rows(page, "Guardrails")] == [
        ["feedback per slate (click)", "popular"],
        ["feedback per slate (click)", "calm"],
    ]
    page.get_by_role("img", name="Differences from the control: events of each person").wait_for()
    tour.check("experiments")
    page.set_viewport_size({"width": 1280, "height": 800})
    tour.press("Stop three-ways")
    tour.sure("Stop")
    tour.sees("three-ways is stopped")
    assert store.experiment("three-ways").state == "stopped"


def test_interleaving(tour: Any) -> None:
    """From the form to a preference: people ask over HTTP, choose what is of their kind, and it says whose it was."""
    store = tour.site.store
    popular = next(row.version for row in store.models() if row.system == "popularity")
    page = tour.go("experiments")
    tour.press("Another variant")
    page.get_by_role("radio", name="Interleaving").check()
    tour.sees("Interleaving compares two: variant 2 is left out.")
    assert page.get_by_label("Weight").locator("visible=true").count() == 0
    assert not page.get_by_text("Variant 2 is added.").is_visible()
    tour.press("Remove variant 1")
    tour.sees("Variant 1 is taken out.")
    card(page, "Variant 1").wait_for()  # the one that was left out takes its place
    assert not page.get_by_text("is left out").is_visible()
    assert page.get_by_role("button", name="Another variant").count() == 0
    page.get_by_label("Name", exact=True).fill("taste")
    page.get_by_label("People planned").fill("120")
    card(page, "Control").get_by_label("Name of the variant").fill("personal")
    card(page, "Variant 1").get_by_label("Name of the variant").fill("popular")
    pick(page, card(page, "Variant 1"), "Model", popular)
    page.get_by_label("Only of the type").locator("visible=true").fill("click")
    tour.check("interleaving-form")
    page.set_viewport_size({"width": 1280, "height": 800})
    tour.press("Make the experiment")
    begin(tour, "taste")
    spec = store.experiment("taste").spec
    assert (spec["kind"], [v["name"] for v in spec["variants"]]) == ("interleaving", ["personal", "popular"])
    assert [(m["kind"], m["type"]) for m in spec["metrics"]] == [("feedback", "click")]
    choose_their_kind(tour.site, 130)
    tour.press("Read taste")
    tour.sees("130 of 120 planned people so far.")
    [row] = rows(page, "Whose items people chose")
    assert row[0] == "feedback of each person (click)"
    popular_won, personal_won, ties = (int(cell) for cell in row[1:4])
    assert popular_won + personal_won + ties == 130 and personal_won > 3 * popular_won
    for at in (4, 5):  # at any time, and at the planned size
        value, low, high = (float(figure) for figure in re.findall(r"-?\d+\.\d+", row[at]))
        assert low < value < high < 0
    assert row[-1] == "personal is preferred"
    page.get_by_role("img", name="Preference between personal (left) and popular (right)").wait_for()
    tour.check("interleaving")
    page.set_viewport_size({"width": 1280, "height": 800})
    table = page.get_by_role("table", name="Experiments, newest first")
    assert "Interleaving" in table.get_by_role("row").filter(has_text="taste").inner_text()


def test_mistakes_are_told_beside_their_fields(tour: Any) -> None:
    page = tour.go("experiments")
    tour.press("Make the experiment")
    name = page.get_by_label("Name", exact=True)
    tour.sees("An experiment needs a name")
    page.wait_for_function("document.activeElement.getAttribute('aria-label') === 'Name'")
    assert name.get_attribute("aria-invalid") == "true" and "needs a name" in name.get_attribute("aria-description")
    name.fill("mistaken")
    page.wait_for_function("!document.querySelector('[aria-invalid=true]')")  # what is changed is forgiven
    page.get_by_label("People planned").fill("")
    first, control = card(page, "Variant 1"), card(page, "Control")
    first.get_by_label("Name of the variant").fill("")
    first.get_by_label("Other keys of the pipeline").fill("{seen")
    tour.press("Make the experiment")
    first.get_by_text("These keys are not JSON.").wait_for()
    first.get_by_label("Other keys of the pipeline").fill('{"souces": []}')
    tour.press("Make the experiment")
    first.get_by_text("It may not be empty.").wait_for()
    page.get_by_text("Input should be a valid integer").wait_for()
    page.get_by_label("People planned").fill("50")
    first.get_by_label("Weight").fill("0")
    first.get_by_label("Name of the variant").fill("control")
    tour.press("Make the experiment")
    first.get_by_text("Input should be greater than 0.").wait_for()
    first.get_by_label("Weight").fill("1")
    tour.press("Make the experiment")
    first.get_by_text("Names of variants must differ.").wait_for()
    assert control.get_by_role("alert").count() == 0
    first.get_by_label("Name of the variant").fill("other")
    tour.press("Make the experiment")
    first.get_by_text("did you mean 'sources'?").wait_for()
    tour.axe("mistakes in the form")
    page.screenshot(path=tour.shots / "experiments-mistakes.png", full_page=True)
    first.get_by_label("Other keys of the pipeline").fill('{"seen": "allow"}')
    pick(page, card(page, "Metric 1"), "What it is for", "must not get worse")
    tour.press("Make the experiment")
    tour.sees("At least one metric must be a goal, not a guardrail.")
    pick(page, card(page, "Metric 1"), "What it is for", "decides")
    tour.press("Make the experiment")
    tour.sees("mistaken is made")
    tour.press("Make the experiment")
    tour.sees("There is an experiment of that name.")
    page.wait_for_function("document.activeElement.getAttribute('aria-label') === 'Name'")
    assert tour.site.store.experiment("mistaken").spec["variants"][1]["pipeline"] == {"seen": "allow"}


def choose_their_kind(site: Any, people: int) -> None:
    """Let new people tell what they did, ask for a slate, and click mostly what is of their kind; all over HTTP."""
    rng = np.random.default_rng(0)
    with Client(site.url, site.keys["admin"]) as palate:
        for n in range(people):
            user = f"v{n}"
            palate.add_events([{"user": user, "item": f"i{2 * at + n % 2}"} for at in range(n % 5, n % 5 + 4)])
            slate = palate.recommend(user, k=6)
            assert slate.slate is not None and (slate.experiment, slate.variant) == ("taste", "interleaved")
            for item in slate.items:
                if rng.random() < (0.7 if int(item.id[1:]) % 2 == n % 2 else 0.15):
                    palate.feedback(slate.slate, item.id)
    site.service.settle()


def visits(site: Any, letter: str, people: int, *, events: bool) -> None:
    """Let new people visit; some of them click, and come back to do something."""
    site.service.forget_caches()
    slates = [answers.recommend(site.service, wire.RecommendIn(user=f"{letter}{n}", k=5)) for n in range(people)]
    site.service.settle()
    for n, slate in enumerate(slates):
        assert slate.slate is not None
        if n % 3 == 0:
            records.keep_feedback(site.service, wire.FeedbackIn(slate=slate.slate, item=slate.items[n % 5].id))
        if events:
            at = site.service.clock() + 1
            did = [wire.EventIn(user=f"{letter}{n}", item=slate.items[0].id, time=at) for _ in range(1 + n % 3)]
            records.keep_events(site.service, did)
    site.service.settle()
