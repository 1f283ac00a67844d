"""Each page of the console by a person's task, in a real browser: no error, no other host, no broken rule of axe."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from palate.errors import BundleError
from palate.serve.store import Event, ModelRow

pytest.importorskip("nicegui", reason="the console needs NiceGUI")

pytestmark = pytest.mark.slow


def test_overview(tour: Any) -> None:
    page = tour.go("")
    tour.sees("No event came in for a day")
    assert page.locator("dt", has_text="People").locator("xpath=../dd").inner_text() == "60"
    page.get_by_text("The same figures as a table").first.click()
    assert page.get_by_role("table", name="Events by day").get_by_role("row").count() > 10
    tour.check("overview")


def test_people(tour: Any) -> None:
    page = tour.go("people")
    page.get_by_label("Id of a person").fill("u0")
    tour.press("Show this person")
    offers = page.get_by_role("list", name="Recommendations", exact=True)
    offers.get_by_role("listitem").first.wait_for()
    before = offers.get_by_role("link").all_inner_texts()
    assert len(before) == 10
    tour.press(f"They chose {before[0]}")
    tour.sees(re.compile("The next answer changed"))
    after = offers.get_by_role("link").all_inner_texts()
    assert before[0] not in after
    assert page.get_by_role("list", name="What u0 chose").get_by_role("link").first.inner_text() == before[0]
    tour.press(f"Like {after[0]}")
    tour.sees(re.compile(f"Like on {re.escape(after[0])} is kept"))
    assert "Because of" in offers.inner_text()
    liked = offers.get_by_role("link").all_inner_texts()
    assert after[0] not in liked  # it counts as chosen
    for verb, item in (("Hide", liked[0]), ("Dislike", liked[1])):
        tour.press(f"{verb} {item}")
        tour.sees(re.compile(f"{verb} on {re.escape(item)} is kept. The next answer changed"))
        assert item not in offers.get_by_role("link").all_inner_texts()
    said = page.get_by_role("list", name="What they said of items")
    assert said.get_by_role("link").all_inner_texts() == [liked[1], liked[0], after[0]]
    tour.press(f"Take back: {liked[0]} is hidden")
    tour.sees(re.compile(f"{re.escape(liked[0])} is not hidden any more. The next answer changed"))
    assert liked[0] in offers.get_by_role("link").all_inner_texts()
    tour.press(f"Hide {liked[0]}")
    tour.sees(re.compile(f"Hide on {re.escape(liked[0])} is kept"))
    assert liked[0] not in offers.get_by_role("link").all_inner_texts()
    page.get_by_label("What they feel like, in words").fill("tale of the garden")
    page.keyboard.press("Enter")
    tour.sees(re.compile("Asked again. The next answer changed"))
    assert "Garden story" in offers.get_by_role("link").first.inner_text()
    tour.choose("Category", "garden")
    page.wait_for_function("document.querySelectorAll('.offers .soft').length > 0")
    tour.sees("Asked again")
    assert all("garden" in text for text in offers.locator(".body > .soft:nth-child(2)").all_inner_texts())
    tour.press("Compare")
    tour.sees("items are in both lists")
    tour.check("people")
    with page.expect_download() as download:
        tour.press("Export everything about this person")
    held = json.loads(Path(download.value.path()).read_text())
    assert held["events"][-1]["item"]
    assert tour.site.store.feedback_of(held["slates"][1]["id"]) or any(s["feedback"] for s in held["slates"])
    tour.press("Erase this person")
    tour.sure("Erase")
    tour.sees("u0 is erased")
    assert tour.site.store.count_of("u0") == 0


def test_typed_history(tour: Any) -> None:
    page = tour.go("people?history=i1,i3,i5")
    offers = page.get_by_role("list", name="Recommendations", exact=True)
    offers.get_by_role("listitem").first.wait_for()
    assert "garden" in offers.get_by_role("listitem").first.inner_text()


def test_items(tour: Any) -> None:
    page = tour.go("items")
    page.get_by_label("Words, or an id").fill("i2")
    tour.press("Search")
    page.get_by_text("The item with this id").click()
    heading = page.get_by_role("heading", level=2).nth(1)
    heading.wait_for()
    assert "<img src=x onerror" in heading.inner_text()  # read as text
    assert page.locator("img[src='x']").count() == 0
    assert "Palate" in page.title()
    tour.press("Look who gets it")
    tour.sees(re.compile(r"\d+ of \d+ people get it"))
    tour.check("items")
    page.get_by_role("switch", name="May be shown").click()
    tour.sees("is not shown any more")
    assert not tour.site.store.item("i2").available
    page.get_by_role("switch", name="May be shown").click()
    tour.sees("may be shown again")


def test_models(tour: Any) -> None:
    page = tour.go("models")
    tour.choose("System", "ItemKNN")
    page.get_by_role("checkbox", name=re.compile("Gate")).click()
    tour.press("Retrain")
    tour.sees(re.compile("is published"))
    new = next(row.version for row in tour.site.store.models() if row.system == "item_knn")
    tour.press(f"Activate {new}")
    tour.sure("Activate")
    tour.sees(f"{new} answers now.")
    assert tour.site.store.active_model().version == new
    tour.press("Roll back")
    tour.sure("Roll back")
    tour.sees(re.compile(r"^ease-\S+ answers again\.$"))
    assert tour.site.store.active_model().system == "ease"
    page.get_by_role("checkbox", name=re.compile("Load every")).click()
    tour.press("Measure")
    tour.sees("NDCG@10 against time of an answer (ms)")
    page.get_by_role("img", name="NDCG@10 against diversity of a list").wait_for()
    tour.check("models")


def test_drift(tour: Any) -> None:
    store = tour.site.store
    page = tour.go("models")
    tour.press("Look for drift")
    activity = page.get_by_role("table", name="Activity")
    activity.wait_for()
    before = int(activity.get_by_role("cell").nth(1).inner_text())
    people = [f"late{n}" for n in range(60)]
    store.add_events([Event(user=user, item=f"i{n}") for user in people for n in (1, 3, 5)])
    try:
        tour.press("Look for drift")
        tour.sees(re.compile(r"\d\d% of events are by people whom the model never saw: retrain"))
        assert int(activity.get_by_role("cell").nth(1).inner_text()) == before + 180
        scores = page.get_by_role("table", name="Scores of people")
        assert scores.get_by_role("row").count() == 6
        assert re.search(r"In training \(\d+ people\)\s+Now \(\d+ people\)", scores.inner_text())
        assert page.locator("dt", has_text="Stability of what is chosen").locator("xpath=../dd").inner_text()[0].isdigit()
        tour.check("drift")
    finally:
        for user in people:
            store.erase_user(user, scrub=False)


def test_a_damaged_model_is_told(tour: Any, tmp_path: Path) -> None:
    store, service = tour.site.store, tour.site.service
    model = service.shelf.active.model
    folder = model.save(tmp_path / "damaged")
    store.add_model(ModelRow("damaged-1", model.name, str(folder)))
    (folder / "state.safetensors").write_bytes(b"")
    store.activate("damaged-1")
    try:
        with pytest.raises(BundleError):
            service.catch_up()
        tour.go("")
        tour.sees(re.compile(r"The active model damaged-1 can't be loaded: .* ease-\S+ answers in its place\."))
        assert str(tmp_path) not in tour.page.content()
    finally:
        store.roll_back()
        service.catch_up()


def test_a_policy_learns_from_the_slates(tour: Any) -> None:
    active = tour.site.store.active_model().version
    page = tour.go("models")
    tour.choose("System", "UCB1 (policy)")
    tour.press("Retrain")
    tour.sees(re.compile(r"^It learnt from \d+ slates?\b.* kind = 'policy', model = 'ucb1-"))
    tour.go("models")
    page.get_by_role("cell", name=re.compile("^ucb1-")).first.wait_for()
    tour.sees("chooses among what others find")
    assert tour.site.store.active_model().version == active


def test_a_model_learns_on_from_the_active_one(tour: Any) -> None:
    store = tour.site.store
    before = store.active_model().version
    page = tour.go("models")
    page.get_by_role("checkbox", name=re.compile("Learn on")).click()
    tour.press("Retrain")
    tour.sees(re.compile("can't learn on"))  # EASE can only be fitted anew
    tour.go("models")
    tour.choose("System", "iALS")
    page.get_by_label(re.compile("Settings that differ")).fill("dim=8, epochs=3")
    page.get_by_label(re.compile("Events that count")).fill("view")
    for box in ("Gate", "Activate it"):
        page.get_by_role("checkbox", name=re.compile(box)).click()
    tour.press("Retrain")
    tour.sees(re.compile("is published"))
    tour.sees("It learnt from these events: view.")
    first = store.active_model().version
    assert store.active_model().system == "ials" and first != before
    store.add_events([Event(user="u1", item=f"i{n}") for n in (1, 3, 5)])
    tour.go("models")
    assert page.get_by_label(re.compile("Events that count")).input_value() == "view"  # as the active model's
    page.get_by_role("checkbox", name=re.compile("Learn on")).click()
    page.get_by_role("checkbox", name=re.compile("Gate")).click()
    tour.press("Retrain")
    known = {first, before}
    for _ in range(150):  # the page tells of the retraining before, until this one ends
        newer = [row.version for row in store.models() if row.system == "ials" and row.version not in known]
        if newer:
            break
        page.wait_for_timeout(100)
    [newest] = newer
    tour.sees(re.compile(f"{re.escape(newest)}.* is published"))
    loaded = tour.site.service.model(newest).model
    assert loaded.record_.notes["updates"] == 1 and loaded.config.dim == 8
    tour.go("models")
    for _ in range(10):
        if store.active_model().version == before:
            break
        tour.press("Roll back")
        tour.sure("Roll back")
        tour.sees(re.compile("answers again"))
        tour.go("models")
    assert store.active_model().version == before


def test_data(tour: Any, tmp_path: Path) -> None:
    rng = np.random.default_rng(3)
    liked = [2 * rng.permutation(20)[:15] + n % 2 for n in range(40)]
    rows = [f"n{n},i{liked[n][at]},{1_690_000_000 + 3_600 * (40 * at + n)}" for at in range(15) for n in range(40)]
    file = tmp_path / "events.csv"
    file.write_text("customer,sku,when\n" + "\n".join(rows) + "\n")
    page = tour.go("data")
    page.get_by_label("File", exact=True).set_input_files(str(file))
    tour.sees("The first rows")
    tour.choose("Time", "when")
    tour.press("Read the file")
    tour.sees("3. Audit")
    tour.press("Cut and audit")
    tour.sees("No leak was found.")
    tour.press("Load into the store")
    tour.sure("Load")
    tour.sees("600 events came in new.")
    assert tour.site.store.count_of("n3") == 15
    tour.press("Fit the model")
    tour.sees(re.compile("Saved as ease-upload"))
    tour.press("Publish the model")
    tour.sees("ease-upload is published")
    assert tour.site.store.model("ease-upload") is not None
    tour.check("data")


def test_systems(tour: Any) -> None:
    page = tour.go("systems")
    page.get_by_label("Name, family or paper").fill("item")
    tour.choose("Status", "works")
    tour.press("Look at ItemKNN")
    tour.sees("Settings of item_knn")
    tour.check("systems")


def test_login_is_asked_for_and_kept(browser: Any, site: Any, shots: Path, axe: Any) -> None:
    context = browser.new_context()
    page = context.new_page()
    page.goto(f"{site.url}/console/models")
    assert page.url.startswith(f"{site.url}/console/login")
    axe(page, "login")
    page.screenshot(path=shots / "login-light.png")
    page.get_by_label("API key").fill("plt_nobody_wrong")
    page.get_by_role("button", name="Log in").click()
    page.get_by_text("No such key").wait_for()
    page.get_by_label("API key").fill(site.keys["read"])
    page.get_by_role("button", name="Log in").click()
    page.get_by_role("heading", name="Overview").wait_for()
    page.goto(f"{site.url}/console/models")
    page.get_by_text("A key with the scope admin may").wait_for()
    assert page.get_by_role("button", name="Retrain").count() == 0
    cookie = next(c for c in context.cookies() if c["name"] == "palate_console")
    assert cookie["httpOnly"] and cookie["sameSite"] == "Strict"
    page.get_by_role("button", name="Log out").click()
    page.get_by_label("API key").wait_for()
    context.close()


def test_who_likes_it_dark_gets_it_dark(browser: Any, site: Any) -> None:
    context = browser.new_context(color_scheme="dark")
    page = context.new_page()
    page.goto(f"{site.url}/console/")
    page.get_by_label("API key").fill(site.keys["read"])
    page.get_by_role("button", name="Log in").click()
    page.get_by_role("button", name="Switch to light colours").click()
    page.wait_for_function("!document.body.classList.contains('body--dark')")
    page.goto(f"{site.url}/console/systems")
    page.get_by_role("button", name="Switch to dark colours").wait_for()
    context.close()


def test_errors_are_told_in_words(tour: Any) -> None:
    page = tour.go("items?item=nowhere")
    tour.sees("No such item.")
    assert "Traceback" not in page.content()
    tour.go("models")
    page.get_by_label("Settings that differ").fill("dim")
    tour.press("Retrain")
    tour.sees("A setting is written name=value.")
    tour.axe("an error")
