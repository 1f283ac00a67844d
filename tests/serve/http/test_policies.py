"""A policy learns from the service's own slates who clicks what, is served by its version, and can be judged."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from palate.catalog.registry import load
from palate.cli.main import app
from palate.contracts.bundle import read_manifest
from palate.errors import DataError, UnsupportedError
from palate.explore.linucb import LinUCB
from palate.serve.models import teaching
from palate.serve.models.production import publish
from palate.serve.models.teaching import Taught, teach
from palate.serve.privacy import erase, export
from palate.serve.settings import ServiceSettings
from palate.serve.store import Feedback, ItemRow, Shown, Slate, UserRow

Open = Callable[..., AbstractContextManager[Any]]
NOW = 1_700_000_000.0
#: Everything in the catalogue, the newest first.
SOURCES = [{"kind": "new", "days": 1_000, "quota": 200}]
#: What the policy learns from: the kind of the item, and whether it is evening (then gardens are clicked, else space).
SETTINGS = {"item_features": ["categories"], "context": ["evening", "user.child"], "alpha": 0.05}


def settings(**explore: Any) -> ServiceSettings:
    """Return settings of a service that explores so."""
    return ServiceSettings().replace(pipeline={"sources": SOURCES, "seen": "allow", "explore": explore})


def log_of(live: Any, slates: int, *, people: int = 20) -> None:
    """Have people shown slates by chance, and click what fits the hour; children click nothing, every tenth slate lacks it."""
    live.store.put_users([UserRow(f"u{n}", {"child": n % 4 == 0}) for n in range(people)])
    for n in range(slates):
        evening, user = n % 2, n % people
        context = {} if n % 10 == 9 else {"evening": evening}
        slate = live.post("/v1/recommendations", user=f"u{user}", k=4, context=context)
        for item in slate["items"]:
            if int(item["id"][1:]) % 2 == evening and user % 4:
                live.post("/v1/feedback", slate=slate["slate"], item=item["id"], kind="click", value=1.0)
                break
    live.service.settle()


@pytest.fixture(scope="module")
def open_at(open_live: Any) -> Open:
    """Open a service in a folder, where its store stays; its keys don't."""

    @contextmanager
    def opened(folder: Path, settings: ServiceSettings) -> Iterator[Any]:
        with contextmanager(open_live)(folder, settings) as live:
            yield live
            for scope in live.keys:
                live.store.revoke_key(f"test-{scope}")

    return opened


@pytest.fixture(scope="module")
def taught(open_at: Open, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Taught]:
    """A folder with a store that has a log, and the policy that learnt from it."""
    folder = tmp_path_factory.mktemp("taught")
    with open_at(folder, settings(kind="epsilon", epsilon=1.0, pool=40)) as live:
        log_of(live, 200)
        return folder, teach(live.store, folder / "models", "linucb", SETTINGS)


@pytest.fixture(scope="module")
def served(open_at: Open, taught: tuple[Path, Taught]) -> Iterator[tuple[Any, Taught]]:
    """The service with that policy choosing among what is found."""
    folder, found = taught
    with open_at(folder, settings(kind="policy", model=found.version, pool=40, epsilon=0.2)) as live:
        live.service.loading.wait()
        yield live, found


def kinds(slate: dict[str, Any]) -> set[str]:
    return {item["categories"][0] for item in slate["items"]}


def test_it_learnt_who_clicks_what(taught: tuple[Path, Taught]) -> None:
    _, found = taught
    assert found.slates == 180 and found.left_out == {"the request lacked 'evening'": 20}
    facts = read_manifest(found.folder)
    assert facts["fit"]["notes"]["slates"] == 180 and facts["system"] == "linucb"
    assert load(found.folder).rounds_.tolist() == [180]
    assert not any(b'"u1"' in path.read_bytes() for path in found.folder.iterdir())


def test_the_context_of_a_request_decides(served: tuple[Any, Taught]) -> None:
    live, found = served
    assert live.service.shelf.policies()[0].version == found.version and live.service.ready().trouble is None
    for evening, kind in ((1, "garden"), (0, "space")):
        slate = live.post("/v1/recommendations", user="u1", k=5, context={"evening": evening}, trace=True)
        assert kinds(slate) == {kind} and [item["propensity"] for item in slate["items"]] == [1.0] * 5
        assert slate["trace"][-1]["step"] == "slate, explore policy" and not slate["trace"][-1]["note"]
        assert any("policy: " in move for item in slate["items"] for move in item["moves"])
        live.service.settle()
        logged = live.store.slate(slate["slate"])
        assert logged.stochastic and [shown.propensity for shown in logged.items] == [1.0] * 5
    plain = live.post("/v1/recommendations", user="u1", k=5, context={"evening": 1}, experiments=False)
    assert kinds(plain) == {"garden", "space"}, "without exploration it is the pipeline's order"


def test_without_its_context_it_is_not_asked_and_that_is_told(served: tuple[Any, Taught]) -> None:
    live, found = served
    for asked, column in (({"user": "u1"}, "evening"), ({"anonymous": "a visitor", "context": {"evening": 1}}, "user.child")):
        slate = live.post("/v1/recommendations", k=3, trace=True, **asked)
        assert slate["trace"][-1]["note"] == f"the policy was not asked: the request lacks {column!r}"
        assert {round(item["propensity"], 3) for item in slate["items"]} <= {0.805, 0.005}  # 1 - ε + ε/40, ε/40
        words = f'palate_policy_not_asked_total{{column="{column}",model="{found.version}"}} 1.0'
        assert words in live.call("GET", "/v1/metrics").text


def test_new_items_get_their_share(served: tuple[Any, Taught]) -> None:
    live, _ = served
    live.store.put_items([ItemRow(id="i99", title="Fresh", categories=("garden",), created=NOW - 60)])
    live.service.stale()
    firsts = []
    for _ in range(150):
        slate = live.post("/v1/recommendations", user="u1", k=1, context={"evening": 1}, trace=True)
        (item,) = slate["items"]
        assert slate["trace"][-1]["note"] == "1 unknown to the policy"
        assert item["propensity"] == pytest.approx(0.2 if item["id"] == "i99" else 0.8)
        firsts.append(item["id"] == "i99")
    assert 0.08 < np.mean(firsts) < 0.34
    assert live.call("DELETE", "/v1/items/i99").status_code == 200


def test_pinned_items_and_limits_hold(served: tuple[Any, Taught], monkeypatch: pytest.MonkeyPatch) -> None:
    live, _ = served
    config = live.service.settings.pipeline.replace(pinned=["i2"], caps=[{"field": "maker", "most": 1}])
    monkeypatch.setattr(live.service, "pipeline", live.service.pipeline_of(config))
    ids = live.ids(user="u1", k=5, context={"evening": 1})
    assert ids[0] == "i2" and {int(item[1:]) % 2 for item in ids[1:]} == {1}
    assert len({int(item[1:]) % 5 for item in ids}) == 5


def test_a_policy_is_judged_by_its_own_log(open_at: Open, taught: tuple[Path, Taught], tmp_path: Path) -> None:
    """Whatever the context, and beside items that it doesn't know, every weight is 1."""
    with open_at(tmp_path, settings(kind="epsilon", epsilon=1.0, pool=40)) as live:
        log_of(live, 60)
        found = teach(live.store, tmp_path / "models", "lin_ts", {"context": ["evening"], "item_features": ["categories"]})
        live.store.put_items([ItemRow(id="i99", title="Fresh", categories=("garden",), created=NOW - 60)])
    by_policy = settings(kind="policy", model=found.version, pool=12).pipeline.replace(name="by policy")
    with open_at(tmp_path, ServiceSettings().replace(pipeline=by_policy.model_dump())) as live:
        rng, chances = np.random.default_rng(5), []
        for n in range(110):
            slate = live.post("/v1/recommendations", user=f"u{n}", k=3, context={"evening": n % 2} if n % 5 else {})
            chances += [item["propensity"] for item in slate["items"]]
            for item in slate["items"]:
                if rng.random() < 0.4:
                    live.post("/v1/feedback", slate=slate["slate"], item=item["id"])
        assert len(set(chances)) > 5
        live.service.settle()
        judged = live.post("/v1/experiments/offpolicy", pipeline={}, policy="by policy")
        assert judged["slates"] == 110
        for row in judged["estimates"]:
            if row["name"] in ("rips", "snrips", "sips", "clipped_ips"):
                assert row["refused"] is None and row["mean_weight"] == pytest.approx(1.0), row
                assert row["value"] == pytest.approx(judged["logged"])
        other = live.post("/v1/experiments/offpolicy", pipeline={"caps": [{"field": "maker", "most": 1}]}, policy="by policy")
        assert any(row["mean_weight"] != pytest.approx(1.0) for row in other["estimates"] if row["name"] == "sips")


def test_versions_of_other_kinds_are_refused(served: tuple[Any, Taught]) -> None:
    live, found = served
    active = live.store.active_model().version
    for path, body in (
        ("/v1/recommendations", {"user": "u1", "model": found.version}),
        ("/v1/rank", {"user": "u1", "candidates": ["i1"], "model": found.version}),
        (f"/v1/models/{found.version}/activate", {}),
    ):
        response = live.call("POST", path, body)
        assert response.status_code == 422, response.text
        assert f"[pipeline.explore] kind = 'policy', model = '{found.version}'" in response.json()["remedy"]
    assert live.store.active_model().version == active
    with pytest.raises(UnsupportedError, match="a policy can't answer from the whole catalogue"):
        publish(live.store, "p-2", found.folder, activate=True)
    spec = {
        "variants": [{"name": "a"}, {"name": "b", "pipeline": {"explore": {"kind": "policy", "model": active}}}],
        "metrics": [{"name": "clicks", "kind": "feedback"}],
        "planned": 100,
    }
    response = live.call("POST", "/v1/experiments", {"name": "wrong", "spec": spec})
    assert response.status_code == 409 and "this model is no policy" in response.text
    spec["variants"][1]["pipeline"]["explore"]["model"] = found.version
    assert live.call("POST", "/v1/experiments", {"name": "right", "spec": spec}).status_code == 200


def test_an_experiment_holds_a_policy_against_the_order(served: tuple[Any, Taught]) -> None:
    live, found = served
    explore = {"kind": "policy", "model": found.version, "pool": 40}
    spec = {
        "variants": [
            {"name": "order", "pipeline": {"name": "by order", "explore": {"kind": "none"}}},
            {"name": "policy", "pipeline": {"name": "by policy", "explore": explore}},
        ],
        "metrics": [{"name": "clicks", "kind": "feedback"}],
        "planned": 100,
    }
    live.store.put_users([UserRow(f"person {n}", {"child": False}) for n in range(60)])
    live.post("/v1/experiments", name="beside", spec=spec)
    assert live.call("POST", "/v1/experiments/beside/start").status_code == 200
    met: dict[str, set[str]] = {"order": set(), "policy": set()}
    for n in range(60):
        slate = live.post("/v1/recommendations", user=f"person {n}", k=5, context={"evening": 1})
        met[slate["variant"]] |= kinds(slate)
        assert slate["policy"] == f"by {slate['variant']}" and all(0 < item["propensity"] <= 1 for item in slate["items"])
        if slate["variant"] == "policy":
            live.post("/v1/feedback", slate=slate["slate"], item=slate["items"][0]["id"], kind="click")
    live.service.settle()
    assert met == {"order": {"garden", "space"}, "policy": {"garden"}}
    counted = live.call("GET", "/v1/experiments/beside").json()
    assert {row["variant"]: row["value"] for row in counted["metrics"]["clicks"]} == {"order": 0.0, "policy": 1.0}
    assert live.call("POST", "/v1/experiments/beside/stop").status_code == 200


def test_the_command_teaches_and_says_what_to_write(taught: tuple[Path, Taught], tmp_path: Path) -> None:
    folder, found = taught
    words = ["retrain", "linucb", "--store", f"sqlite:///{folder / 'palate.db'}", "--models", str(tmp_path)]
    words += ["--set", 'context=["evening"]']
    said = CliRunner().invoke(app, words)
    assert said.exit_code == 0, said.output
    text = " ".join(said.output.split())
    assert "[pipeline.explore] kind = 'policy', model = 'linucb-" in text and "left out: the request lacked 'evening'" in text
    told = json.loads(CliRunner().invoke(app, [*words, "--json"]).stdout)
    assert told["slates"] >= found.slates and Path(told["folder"]).name == told["version"]
    for more in (["--incremental"], ["--positive", "click"], ["--all-events"], ["--publish-undecided"]):
        refused = CliRunner().invoke(app, [*words, *more])
        assert refused.exit_code != 0 and "a policy learns anew" in refused.output
    lost = CliRunner().invoke(app, [*words[:-1], 'context=["absent"]'])
    assert lost.exit_code != 0 and "the request lacked 'absent'" in lost.output


# -- lessons ----------------------------------------------------------------------------------------------


def shown(store: Any, name: str, user: str | None, time: float, clicked: str | None = None, **more: Any) -> None:
    """Enter a slate of three items, and a click."""
    items = tuple(Shown(f"i{n}", at, 0.5) for at, n in enumerate((1, 2, 3), 1))
    store.add_slates([Slate(name, items, user=user, time=time, stochastic=True, **more)])
    if clicked is not None:
        store.add_feedback([Feedback(name, clicked, "click")])


def state(found: Taught) -> dict[str, np.ndarray]:
    return load(found.folder)._state()


def same(first: Taught, second: Taught) -> bool:
    one, two = state(first), state(second)
    return one.keys() == two.keys() and all(np.array_equal(one[name], two[name]) for name in one)


def test_who_was_erased_is_not_learnt_from_again(live: Any, tmp_path: Path) -> None:
    store, models = live.store, tmp_path / "models"
    for n in range(6):
        shown(store, f"s{n}", "u3", NOW - 100 + n, "i2")
    before = teach(store, models, "thompson")
    shown(store, "t0", "gone one", NOW - 50, "i3")
    shown(store, "t1", None, NOW - 50, "i3", anonymous="a visitor")
    during = teach(store, models, "thompson")
    assert (before.slates, during.slates) == (6, 8) and not same(before, during)
    assert during.version not in export(live.service, "u3")["bundles"]
    for who in ("gone one", "a visitor"):
        owed = erase(live.service, who).retrain
        assert during.version in owed and live.store.active_model().version not in owed
    after = teach(store, models, "thompson")
    assert after.slates == 6 and same(before, after)


def test_an_erasure_meanwhile_begins_it_again(live: Any, tmp_path: Path, monkeypatch: Any) -> None:
    for n in range(4):
        shown(live.store, f"s{n}", f"u{n}", NOW - 100 + n, "i2")
    learn, models = teaching._learn, tmp_path / "models"

    def slowly(*given: Any) -> Any:
        done = learn(*given)
        if done.slates == 4:
            live.store.erase_user("u0")
        return done

    monkeypatch.setattr(teaching, "_learn", slowly)
    known = {row.version for row in live.store.models()}
    found = teach(live.store, models, "thompson")
    assert found.slates == 3 and load(found.folder).rounds_.tolist() == [3]
    assert {row.version for row in live.store.models()} - known == {found.version}
    assert {path.name for path in models.iterdir()} - known == {found.version}


def test_pages_and_blocks_change_nothing(live: Any, tmp_path: Path, monkeypatch: Any) -> None:
    for n in range(11):
        shown(live.store, f"s{n}", f"u{n}", NOW - 100 + n // 4, f"i{1 + n % 3}" if n % 2 else None)
    whole = teach(live.store, tmp_path / "models", "linucb")
    monkeypatch.setattr(teaching, "ROWS", 7)
    monkeypatch.setattr(teaching, "BLOCK", 3)
    parts = teach(live.store, tmp_path / "models", "linucb")
    assert whole.slates == parts.slates == 11
    for name, array in state(whole).items():
        np.testing.assert_allclose(state(parts)[name], array, rtol=1e-12)


def test_lessons_are_what_happened(live: Any, tmp_path: Path, monkeypatch: Any) -> None:
    """Clicks (not hides), the order of time, contexts, and the history before the slate."""
    store, given = live.store, []
    monkeypatch.setattr(LinUCB, "update", lambda self, requests, feedback: given.append((self, requests, feedback)))
    live.post("/v1/events", user="fresh", item="i7", time=NOW - 200)
    live.post("/v1/events", user="fresh", item="i8", time=NOW - 50)
    live.post("/v1/events", user="fresh", item="i9", time=NOW + 50)
    shown(store, "second", "fresh", NOW, "i3", context={"x": True})
    shown(store, "first", "fresh", NOW - 100, "i1", context={"x": "2.5"})
    store.add_feedback([Feedback("first", "i2", "hide"), Feedback("second", "i3", "click", -1.0)])
    store.add_slates([Slate("odd", (Shown("i1", 1, None), Shown("not there", 2, None)), time=NOW, stochastic=False)])
    shown(store, "third", "nobody known", NOW + 1, context={"x": 0})
    found = teach(store, tmp_path / "models", "linucb", {"context": ["x"], "history": True})
    ((policy, requests, feedback),) = given
    assert found.left_out == {"an item is gone, or stands there twice": 1} and found.slates == 3
    histories = [policy.items_.ids.decode(row).to_pylist() for row in map(requests.histories.ragged.__getitem__, range(3))]
    assert histories == [["i7"], ["i7", "i8"], []]
    assert requests.context.column("x").to_pylist() == [2.5, 1.0, 0.0] and (requests.users == -1).all()
    assert feedback.rewards.tolist() == [[1, 0, 0], [0, 0, 0], [0, 0, 0]]
    assert policy.items_.ids.decode(feedback.slate.items[0]).to_pylist() == ["i1", "i2", "i3"]
    assert (feedback.slate.propensities == 0.5).all()


def test_what_can_not_learn_or_serve_is_refused(live: Any, tmp_path: Path) -> None:
    known = live.store.models()
    for system, words in (("slate_thompson", "doesn't learn slate by slate"), ("cascading_rl", "can't say what is likely")):
        with pytest.raises(UnsupportedError, match=words):
            teach(live.store, tmp_path / "models", system)
    shown(live.store, "s", "u1", NOW)
    with pytest.raises(DataError, match="none of the slates"):
        teach(live.store, tmp_path / "models", "linucb", {"context": ["absent"]})
    assert live.store.models() == known
