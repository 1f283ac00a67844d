"""One task a page by the keyboard alone, in a real browser."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("nicegui", reason="the console needs NiceGUI")

pytestmark = pytest.mark.slow


def test_the_way_past_the_navigation(tour: Any) -> None:
    page = tour.go("")
    page.evaluate("document.activeElement.blur()")
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.textContent") == "Skip to the content"
    page.keyboard.press("Enter")
    assert page.evaluate("document.activeElement.className").startswith("content")


def test_overview(tour: Any) -> None:
    page = tour.go("")
    for _ in range(60):
        page.keyboard.press("Tab")
        if page.evaluate("document.activeElement.textContent") == "The same figures as a table":
            break
    page.keyboard.press("Enter")
    page.get_by_role("table", name="Events by day").wait_for()


def test_people(tour: Any) -> None:
    page = tour.go("people")
    tour.tab_to("textbox", "Id of a person")
    page.keyboard.type("u5")
    page.keyboard.press("Enter")
    offers = page.get_by_role("list", name="Recommendations", exact=True)
    offers.get_by_role("listitem").first.wait_for()
    first = offers.get_by_role("link").first.inner_text()
    tour.tab_to("slider", re.compile("Diversity"))
    page.keyboard.press("ArrowRight")
    tour.sees("Diversity: 0.1")
    tour.sees("Asked again")
    first = offers.get_by_role("link").first.inner_text()
    tour.tab_to("button", f"Like {first}")
    page.keyboard.press("Space")
    tour.sees(re.compile(f"Like on {re.escape(first)} is kept"))


def test_items(tour: Any) -> None:
    page = tour.go("items")
    tour.tab_to("textbox", "Words, or an id")
    page.keyboard.type("tale of the garden")
    page.keyboard.press("Enter")
    found = page.get_by_role("table", name=re.compile("best first"))
    found.wait_for()
    title = found.get_by_role("link").first.inner_text()
    tour.tab_to("link", title)
    page.keyboard.press("Enter")
    page.get_by_role("heading", name=title).wait_for()
    tour.tab_to("switch", "May be shown")
    page.keyboard.press("Space")
    tour.sees("is not shown any more")


def test_models(tour: Any) -> None:
    page, store = tour.go("models"), tour.site.store
    other = next(row.version for row in store.models() if row.state != "active")
    tour.tab_to("button", f"Activate {other}")
    page.keyboard.press("Enter")
    dialog = page.get_by_role("dialog")
    dialog.wait_for()
    page.wait_for_function("document.activeElement.textContent === 'Cancel'")  # what harms nothing has the focus first
    tour.tab_to("button", "Activate", back=True)
    page.keyboard.press("Enter")
    tour.sees(f"{other} answers now.")
    assert store.active_model().version == other


def test_experiments(tour: Any) -> None:
    page = tour.go("experiments")
    tour.tab_to("radio", "Split")
    for key, kind in (("ArrowDown", "Interleaving"), ("ArrowUp", "Split")):
        page.keyboard.press(key)
        page.get_by_role("radio", name=kind, checked=True).wait_for()
    tour.tab_to("textbox", "Name")
    page.keyboard.type("by-keys")
    tour.tab_to("button", "Another variant")
    page.keyboard.press("Enter")
    place = "document.activeElement.closest('fieldset')?.querySelector('legend').textContent"
    page.wait_for_function(f"{place} === 'Variant 2'")  # the keyboard is led to what was added
    page.keyboard.press("Control+A")
    page.keyboard.type("calm")
    for _ in range(3):  # past weight and model
        page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.getAttribute('aria-label')") == "Diversity"
    page.keyboard.press("ArrowDown")
    page.get_by_role("option", name="MMR").wait_for()
    for _ in range(2):  # past "none"
        page.keyboard.press("ArrowDown")
    page.keyboard.press("Enter")
    tour.tab_to("button", "Remove variant 1", back=True)
    page.keyboard.press("Enter")
    page.wait_for_function("document.activeElement.textContent === 'Another variant'")
    tour.tab_to("button", "Make the experiment")
    page.keyboard.press("Enter")
    tour.sees("by-keys is made")
    control, calm = tour.site.store.experiment("by-keys").spec["variants"]
    assert (control["name"], calm["name"]) == ("control", "calm") and calm["pipeline"]["diversity"]["kind"] == "mmr"


def test_data(tour: Any, tmp_path: Path) -> None:
    file = tmp_path / "events.csv"
    rows = (f"n{n % 20},i{(n * 7) % 40},{1_690_000_000 + 60 * n}" for n in range(400))
    file.write_text("user_id,item_id,timestamp\n" + "\n".join(rows) + "\n")
    page = tour.go("data")
    page.locator("#upload").wait_for(state="attached")
    for _ in range(60):
        page.keyboard.press("Tab")
        if page.evaluate("document.activeElement.id") == "upload":
            break
    else:
        raise AssertionError("the field can't be reached with Tab")
    with page.expect_file_chooser() as chooser:
        page.keyboard.press("Space")
    chooser.value.set_files(str(file))
    tour.tab_to("button", "Read the file")
    page.keyboard.press("Enter")
    tour.tab_to("button", "Cut and audit")
    page.keyboard.press("Enter")
    tour.sees(re.compile("No leak was found"))


def test_systems(tour: Any) -> None:
    page = tour.go("systems")
    tour.tab_to("textbox", "Name, family or paper")
    page.keyboard.type("sasrec")
    tour.sees(re.compile(r"^\d of \d+ systems$"))
    tour.tab_to("button", "Look at SASRec")
    page.keyboard.press("Enter")
    page.get_by_role("table", name="Settings of sasrec").wait_for()
