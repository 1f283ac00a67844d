"""Words, figures, charts and numbers of the console, without a browser."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args, get_type_hints

import pytest

pytest.importorskip("nicegui", reason="the console needs NiceGUI")

from fastapi.testclient import TestClient
from pydantic import ValidationError

from palate.console import charts, mount, numbers, slates, tradeoff, uploads
from palate.console import format as show
from palate.console.desk import Desk
from palate.console.setting import parse_settings, settings_rows
from palate.contracts.explanation import Evidence
from palate.errors import ConfigError, DataError
from palate.serve import wire
from palate.serve.answers import recommend
from palate.serve.errors import ConflictError
from palate.serve.http.app import make_app
from palate.serve.http.problems import Refusal
from palate.serve.http.security import new_key
from palate.serve.models.retrain import retrain
from palate.serve.service import Service
from palate.serve.settings import ServiceSettings
from palate.serve.store import Event, Feedback, ItemRow, Shown, Slate, Store

NOW = 1_700_000_000.0
DAY = 86_400.0


@pytest.fixture
def service(tmp_path: Path) -> Iterator[Service]:
    """A service over a store with a few events and no model."""
    url = f"sqlite:///{tmp_path / 'palate.db'}"
    store = Store.open(url, clock=lambda: NOW)
    store.put_items([ItemRow(id=f"i{n}", title=f"Item {n}", categories=("a",)) for n in range(4)])
    store.add_events([Event(user=f"u{n % 3}", item=f"i{n % 4}", time=NOW - DAY * (n + 2)) for n in range(6)])
    made = Service(store, ServiceSettings().replace(store={"url": url}), tmp_path / "models", clock=lambda: NOW)
    yield made
    made.close()
    store.close()


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, "–"),
        (math.nan, "–"),
        (3.0, "3"),
        (1_234_567.0, "1,234,567"),
        (0.123456, "0.1235"),
        (12_345.6, "12,346"),
        (-2, "-2"),
    ],
)
def test_numbers_are_short(value: float | None, text: str) -> None:
    assert show.number(value) == text


@pytest.mark.parametrize(
    ("gone", "text"),
    [(0, "just now"), (60, "1 minute ago"), (7_300, "2 hours ago"), (DAY, "1 day ago"), (800 * DAY, "2 years ago")],
)
def test_moments_are_told_in_one_unit(gone: float, text: str) -> None:
    assert show.ago(NOW - gone, NOW) == text


def test_a_moment_to_come_is_a_date_and_nonsense_stays_readable() -> None:
    assert show.ago(NOW + 100, NOW) == "2023-11-14 22:15 UTC"
    assert show.moment(1e30) == "1e+30"


@pytest.mark.parametrize("reference", ["javascript:alert(1)", "//evil.example/x.png", "data:text/html,x", "x.png", "", None])
def test_pictures_that_are_none_are_not_asked_for(reference: str | None) -> None:
    assert show.picture(reference) is None


def test_an_error_is_told_with_place_value_and_next_step() -> None:
    told = show.complaint(DataError("no such thing.", where="row 3", value="x" * 900, remedy="mend it"))
    assert told.what == "No such thing."
    assert [name for name, _ in told.lines()] == ["Where", "Value", "Next step"]
    assert len(told.value or "") == 300


def test_a_refusal_and_a_wrong_body_are_told_in_words() -> None:
    assert "doesn't allow" in show.complaint(Refusal(403, "use another")).what
    with pytest.raises(ValidationError) as caught:
        wire.RecommendIn(user="u", k=0)
    assert show.complaint(caught.value).where == "k"


def test_what_nobody_foresaw_keeps_its_message_to_itself() -> None:
    assert "secret" not in str(show.complaint(RuntimeError("secret path /etc")))


def test_queries_are_quoted() -> None:
    assert show.address("people", user="a&b=c #") == "/console/people?user=a%26b%3Dc+%23"


@pytest.mark.parametrize(
    ("given", "text"),
    [
        ((0.3333, 0.2571, 0.41), "0.333 (0.257 to 0.410)"),
        ((2.0, 1.9, 2.14), "2.00 (1.90 to 2.14)"),
        ((-0.004, -0.0349, 0.0268), "-0.0040 (-0.0349 to 0.0268)"),
        ((12_345.6, 12_000.0, 13_000.4), "12,346 (12,000 to 13,000)"),
        ((0.0, 0.0, 0.0), "0 (0 to 0)"),
        ((0.5, None, None), "0.5"),
        ((math.nan, 0.0, 1.0), "–"),
    ],
)
def test_an_interval_has_the_same_decimals_throughout(given: tuple[float, ...], text: str) -> None:
    assert show.interval(*given) == text


def test_p_values_and_shares_with_open_ends() -> None:
    assert [show.chance(p) for p in (None, 1e-9, 0.00123, 1.0)] == ["–", "< 0.001", "0.00123", "1"]
    assert show.share_interval(0.02, -0.01, 0.05) == "2.0% (-1.0% to 5.0%)"
    assert show.share_interval(0.02, -0.01, None) == "2.0% (-1.0% to no end yet)"
    assert show.share_interval(0.02, None, None) == "2.0%"
    assert show.share_interval(None, 0.0, 1.0) == "–"


def test_figures_of_a_column_share_their_decimals() -> None:
    assert show.decimals([0.012, 0.5, None, math.nan]) == 3
    assert show.decimals([1e-12]) == 6
    assert show.interval(0.88, None, None, 3) == "0.880"


def test_charts_are_json_and_change_with_the_night() -> None:
    points = [charts.Estimate("<b>one</b>", 1.0, 0.5, 1.5), charts.Estimate("two", 2.0, 1.5, 2.5)]
    for make in (
        lambda dark: charts.intervals(dark, points, axis_name="x", zero=True),
        lambda dark: charts.by_day(dark, ["2023-01-01"], {"Events": [3.0]}),
        lambda dark: charts.scatter(dark, [("m", points[0], points[1])], x_name="x", y_name="y"),
    ):
        day, night = make(False), make(True)
        json.dumps([day, night])
        assert day["color"] != night["color"]
        assert day["animation"] is False
        assert day["tooltip"].get("renderMode", "none") == "richText" or day["tooltip"]["show"] is False


def test_an_interval_is_drawn_from_its_low_to_its_high_end() -> None:
    drawn = charts.intervals(False, [charts.Estimate("a", 1.0, 0.5, 1.5)], axis_name="x")
    assert drawn["series"][0]["data"][0]["coords"] == [[0.5, 0], [1.5, 0]]


@pytest.mark.parametrize(("high", "sides"), [(0.4, (-0.5, 0.5)), (0.6, (None, None))])
def test_an_axis_reaches_as_far_to_both_sides_unless_an_interval_goes_further(
    high: float, sides: tuple[float | None, float | None]
) -> None:
    drawn = charts.intervals(False, [charts.Estimate("a", 0.1, -0.2, high)], axis_name="x", zero=True, reach=0.5)
    assert (drawn["xAxis"].get("min"), drawn["xAxis"].get("max")) == sides


def test_days_without_anything_are_left_out_of_the_table() -> None:
    rows = charts.day_rows(["d1", "d2", "d3"], {"A": [1.0, 0.0, 2.0], "B": [0.0, 0.0, 5.0]})
    assert rows == [["d3", "2", "5"], ["d1", "1", "0"]]


def test_changes_of_an_answer_are_told() -> None:
    assert slates.changes([], ["a"], {}) == ""
    assert slates.changes(["a", "b"], ["a", "b"], {}) == "The next answer is the same."
    told = slates.changes(["a", "b", "c"], ["b", "d", "c"], {"d": "Dune"})
    assert told == "The next answer changed: 1 new (Dune); 1 gone (a); 1 moved."


def test_reasons_are_one_sentence() -> None:
    liked = [
        wire.Reason(kind="history", text="Dune", item="i", weight=3.0),
        wire.Reason(kind="history", text="Emma", weight=1.0),
    ]
    assert slates.why(liked) == "Because of Dune (75%), Emma (25%)."
    assert slates.why([]) == "The model gives no reason."
    against = wire.Reason(kind="content", text="Ubik", weight=-0.2)
    assert slates.why([against]) == "No single reason stands out."
    close = [wire.Reason(kind="content", text="Dune", item="i", weight=0.3), against]
    assert slates.why(close) == "Not known to the model yet; says the like of Dune (100%), which they chose."
    assert slates.why([wire.Reason(kind="popularity", text="chosen by others", weight=3.0)]) == "Chosen 3 times by others."


@pytest.mark.parametrize("kind", [*get_args(get_type_hints(Evidence)["kind"]), "content", "a kind to come"])
def test_every_kind_of_reason_has_its_words(kind: str) -> None:
    told = slates.why([wire.Reason(kind=kind, text="The Garden", weight=2.0)])
    assert "The Garden" in told or told == "Chosen 2 times by others."


def test_an_item_that_the_model_does_not_know_says_why(service: Service, tmp_path: Path) -> None:
    retrain(service.store, service.models, "ease", gate=False, activate=True)
    service.catch_up()
    service.store.put_items([ItemRow(id="new", title="Item 1", text="", categories=("a",))])
    service.stale()
    asked = wire.RecommendIn(user="u1", k=9, why=True, seen="allow")
    item = next(one for one in recommend(service, asked).items if one.id == "new")
    assert slates.why(item.why).startswith("Not known to the model yet; says the like of Item ")


def test_settings_are_checked() -> None:
    assert parse_settings("reg=12.5", "ease") == {"reg": 12.5}
    assert any(row[0] == "reg" for row in settings_rows("ease"))
    with pytest.raises(ConfigError, match="name=value"):
        parse_settings("reg", "ease")
    with pytest.raises(ConfigError, match="unknown setting"):
        parse_settings("regg=1", "ease")


def test_traffic_by_day(service: Service) -> None:
    service.store.add_slate(Slate("s1", [Shown("i0", 1), Shown("i1", 2)], user="u0", time=NOW - 60, stochastic=False))
    service.store.add_feedback([Feedback("s1", "i0", time=NOW)])
    seen = numbers.traffic(service)
    assert (sum(seen.events), sum(seen.slates), sum(seen.feedback)) == (6, 1, 1)
    assert (seen.events[-3], seen.slates[-1], seen.days[-1]) == (1, 1, "2023-11-14")
    assert (seen.offered, seen.offerable) == (2, 4)
    assert numbers.traffic(service, offered=1).offered == 1


def test_alerts_name_what_is_wrong(service: Service) -> None:
    service.lost["slates"] = 2
    told = " ".join(numbers.alerts(service, numbers.traffic(service), ["NDCG@10 fell"]))
    for word in ("No model is active", "No event came in for a day; the last one was 2 days ago", "2 slates", "NDCG@10 fell"):
        assert word in told


def test_everything_that_could_not_be_logged_is_an_alert(service: Service) -> None:
    assert not any("logged" in told for told in numbers.alerts(service, numbers.traffic(service)))
    for lost, (kind, words) in enumerate(
        {"slates": "slates could", "exposures": "exposures could", "searches": "searches could"}.items(), 2
    ):
        service.lost[kind] = lost
        alerts = numbers.alerts(service, numbers.traffic(service))
        assert sum(f"{lost} {words} not be logged" in told for told in alerts) == 1, alerts
    assert set(numbers.LOST) == set(service.lost)
    service.lost["exposures"] = service.lost["searches"] = 1
    told = " ".join(numbers.alerts(service, numbers.traffic(service)))
    assert "1 exposure could" in told and "bias a split" in told and "interleaving" in told and "1 search could" in told


def test_people_by_their_latest_event(service: Service) -> None:
    assert numbers.latest_people(service.store, 2) == ["u0", "u1"]


def test_weighing_needs_people(service: Service) -> None:
    with pytest.raises(DataError, match="too few people"):
        tradeoff.measure(service, [], ["u0", "u1"])


def test_an_upload_is_looked_at_read_and_loaded_once(service: Service, tmp_path: Path) -> None:
    folder, path = uploads.place_for("../../events of may.CSV")
    assert path.parent == Path(folder.name)
    path.write_text("member_id,sku,ts\n" + "".join(f"m{n % 5},i{n % 4},{1_690_000_000 + n}\n" for n in range(40)))
    found = uploads.look(folder, path, "events of may.CSV")
    assert found.roles == {"user": "member_id", "item": "sku", "time": "ts"}
    assert found.sample[0] == ["m0", "i0", "1690000000"]
    data = uploads.take(found, found.roles, drop=False)
    before = service.store.position()
    assert uploads.into_store(service, data, lambda event: None) == 40
    assert uploads.into_store(service, data, lambda event: None) == 0
    assert service.store.position() == before + 40


@pytest.mark.parametrize("times", [True, False])
def test_an_upload_into_an_empty_store_is_loaded_once(tmp_path: Path, times: bool) -> None:
    lines = ["user,item,time" if times else "user,item", *(f"u{n},i{n}{f',{1_690_000_000 + n}' * times}" for n in range(3))]
    with Store.open(f"sqlite:///{tmp_path / 'palate.db'}") as store:
        empty = Service(store, ServiceSettings(), tmp_path / "models")
        for more, came in (([], 3), ([], 0), ([lines[-1].replace("u2", "u9")], 1), ([], 0)):
            lines += more
            folder, path = uploads.place_for("events.csv")
            path.write_text("\n".join(lines) + "\n")
            found = uploads.look(folder, path, "events.csv")
            assert uploads.into_store(empty, uploads.take(found, found.roles, drop=False), lambda event: None) == came
        assert store.position() == 4
        empty.close()


def test_other_files_and_names_are_refused(service: Service) -> None:
    with pytest.raises(DataError, match="no table of text"):
        uploads.place_for("model.pkl")
    with pytest.raises(ConfigError, match="letters"):
        uploads.fit(service, None, "ease", {}, "../away", lambda event: None)  # type: ignore[arg-type]


def test_what_costs_much_is_asked_for_again_only_later(service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    from palate.console import desk as desks

    now = [100.0]
    monkeypatch.setattr(desks.time, "monotonic", lambda: now[0])
    desk = Desk(service, None, None)  # type: ignore[arg-type]
    asked: list[float] = []

    def work() -> float:
        asked.append(now[0])
        return now[0]

    found = []
    for moment in (100.0, 159.0, 161.0):
        now[0] = moment
        found.append(desk.lately("offered", 60.0, work))
    assert (found, asked) == ([100.0, 100.0, 161.0], [100.0, 161.0])


def test_epochs_of_a_fit_are_kept_and_other_steps_are_not(service: Service) -> None:
    from palate.progress import ProgressEvent

    steps = [ProgressEvent("Net: epoch", 1, 2, {"loss": 1.0}), ProgressEvent("Net: batches of epoch 2", 5, 9, {"loss": 0.9})]

    def work(progress: Any) -> None:
        for step in steps:
            progress(step)

    desk = Desk(service, None, None)  # type: ignore[arg-type]
    job = desk.begin("fit", "Fit", work)
    while not job.done:
        pass
    assert job.epochs == steps[:1]
    assert job.event == steps[1]


def test_one_job_of_a_kind_at_a_time(service: Service) -> None:
    import threading

    gate = threading.Event()
    desk = Desk(service, None, None)  # type: ignore[arg-type]
    job: Any = desk.begin("fit", "Fit", lambda progress: gate.wait(10))
    with pytest.raises(ConflictError, match="under way"):
        desk.begin("fit", "Fit", lambda progress: None)
    gate.set()
    while not job.done:
        pass
    failed = desk.begin("fit", "Fit", lambda progress: 1 / 0)
    while not failed.done:
        pass
    assert failed.trouble is not None and failed.trouble.value == "ZeroDivisionError"


def test_the_door_is_shut_without_a_key(service: Service) -> None:
    key = new_key(service.store, "ann", "read")
    with TestClient(make_app(service, mount), follow_redirects=False) as client:
        assert client.get("/").headers["location"] == "/console/"
        for page in ("", "people", "items", "models", "experiments", "data", "systems"):
            assert client.get(f"/console/{page}").headers["location"] == "/console/login"
        assert "frame-ancestors 'none'" in client.get("/console/login").headers["content-security-policy"]
        assert client.post("/console/login", data={"key": "plt_ann_no"}).headers["location"] == "login?trouble=401"
        assert client.post("/console/login", data={"key": key}).headers["location"] == "./"
        assert client.get("/console/").status_code == 200
        client.post("/console/logout")
        assert client.get("/console/").status_code == 303
        assert client.post("/console/login", content=b"x" * (3 * 2**20)).status_code == 413


def test_no_key_is_needed_on_a_loopback_that_says_so(service: Service) -> None:
    service.settings = service.settings.replace(server={"insecure_loopback": True})
    with TestClient(make_app(service, mount), follow_redirects=False) as client:
        shown = client.get("/console/")
        assert shown.status_code == 200
        assert "no key needed here" in shown.text
