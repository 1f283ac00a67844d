"""Variants that can't answer: refused at the start, and a rest for everybody when one is lost later."""

from __future__ import annotations

import json
import shutil
import threading
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient
from sqlalchemy import update

from palate.console import numbers
from palate.serve.experiments.live import INTERLEAVED
from palate.serve.http.app import make_app
from palate.serve.models import loaded as recommenders
from palate.serve.models import shelf
from palate.serve.models.production import publish
from palate.serve.models.retrain import retrain
from palate.serve.pipeline.config import Need
from palate.serve.service import Service
from palate.serve.store.tables import experiments

CLICKS = [{"name": "clicks", "kind": "feedback", "type": "click"}]
PEOPLE = tuple(f"u{n}" for n in range(40))


def spec(*models: str | None, **changed: Any) -> dict[str, Any]:
    """Return an experiment whose variants differ by their models; ``None`` answers by trends alone."""
    trends: dict[str, Any] = {"sources": [{"kind": "trending", "hours": 100_000.0}], "name": "trends"}
    variants = [{"name": m, "model": m} if m else {"name": "trends", "pipeline": trends} for m in models]
    return {"variants": [{"name": "control"}, *variants], "metrics": CLICKS, "planned": 100, **changed}


def made(live: Any, system: str = "ease") -> tuple[str, Path]:
    """Publish a model, without activating it; return its version and folder."""
    found = retrain(live.store, live.service.models, system, gate=False, activate=False)
    return found.version, found.folder


def begin(live: Any, name: str, wanted: dict[str, Any]) -> None:
    live.post("/v1/experiments", name=name, spec=wanted)
    assert live.call("POST", f"/v1/experiments/{name}/start").status_code == 200


@contextmanager
def again(live: Any) -> Iterator[Any]:
    """The service after a restart."""
    service = Service(live.store, live.service.settings, live.service.models, clock=live.service.clock, seed=0)
    with TestClient(make_app(service), raise_server_exceptions=False) as client:
        yield type(live)(service, live.store, live.keys, client)


def slates(live: Any, people: Sequence[str] = PEOPLE) -> dict[str, Any]:
    return {user: live.post("/v1/recommendations", user=user, k=3) for user in people}


def exposed(live: Any, name: str) -> dict[str, str]:
    live.service.settle()
    table = live.store.exposures(name)
    return dict(zip(table["unit"].to_pylist(), table["variant"].to_pylist(), strict=True))


def metric(live: Any, name: str) -> float:
    lines = live.call("GET", "/v1/metrics").text.splitlines()
    return float(next(line.split()[-1] for line in lines if line.startswith(name + " ")))


def test_an_experiment_does_not_start_with_a_variant_whose_bundle_is_gone(live: Any) -> None:
    version, folder = made(live)
    live.post("/v1/experiments", name="first", spec=spec(version))
    shutil.rmtree(folder)
    refused = live.call("POST", "/v1/experiments/first/start")
    assert refused.status_code == 409, refused.text
    assert version in refused.json()["what"] and "no bundle here" in refused.json()["what"] and str(folder) not in refused.text
    assert live.store.experiment("first").state == "draft"
    other = live.call("POST", "/v1/experiments", {"name": "second", "spec": spec(version)})
    assert other.status_code == 409 and "no bundle here" in other.json()["what"] and live.store.experiment("second") is None


def test_a_damaged_bundle_is_found_before_anybody_meets_it(live: Any) -> None:
    version, folder = made(live)
    live.post("/v1/experiments", name="first", spec=spec(version))
    live.service.shelf.drop(version)
    state = folder / "state.safetensors"
    state.write_bytes(state.read_bytes()[:-10])
    refused = live.call("POST", "/v1/experiments/first/start")
    assert refused.status_code == 409 and "changed or cut short" in refused.json()["what"], refused.text


def test_a_ranker_is_no_variants_model(live: Any, ranker: Path) -> None:
    publish(live.store, "fm", ranker)
    refused = live.call("POST", "/v1/experiments", {"name": "first", "spec": spec("fm")})
    assert refused.status_code == 409, refused.text
    assert "variant fm" in refused.json()["what"] and "only a recommender" in refused.json()["what"]
    live.store.add_experiment("before", spec("fm"))  # made by an older version, which did not look
    refused = live.call("POST", "/v1/experiments/before/start")
    assert refused.status_code == 409 and "only a recommender" in refused.json()["what"]
    live.store.add_experiment("absent", spec("gone"))
    refused = live.call("POST", "/v1/experiments/absent/start")
    assert refused.status_code == 409 and "gone" in refused.text and "no such model" in refused.json()["what"]


@pytest.fixture(scope="module")
def ranker(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A ranker's bundle."""
    pytest.importorskip("torch")
    import pyarrow as pa

    from palate.contracts.ranker import Rows
    from palate.rank.fm import FM

    table = pa.table(
        {"price": [float(n % 7) for n in range(60)], "click": pa.array([float(n % 2) for n in range(60)], pa.float32())}
    )
    folder = tmp_path_factory.mktemp("rankers") / "fm"
    FM(dim=2, epochs=1, batch_size=32, patience=0).fit(Rows.of_table(table, ["click"])).save(folder)
    return folder


def test_a_running_experiments_models_stay_in_memory(live: Any) -> None:
    version, folder = made(live)
    begin(live, "first", spec(version))
    for n in range(shelf.MOST + 1):
        publish(live.store, f"more{n}", folder)
        live.post("/v1/recommendations", user="u0", k=1, model=f"more{n}")
    assert live.service.shelf.find(version) is not None and len(live.service.shelf.versions()) == shelf.MOST
    variants = Counter(slate["variant"] for slate in slates(live).values())
    assert set(variants) == {"control", version}
    assert live.call("POST", "/v1/experiments/first/stop").status_code == 200
    for n in range(shelf.MOST):
        live.post("/v1/recommendations", user="u0", k=1, model=f"more{n}")
    assert live.service.shelf.find(version) is None


def test_more_variants_than_models_are_kept_otherwise_all_answer_from_the_start(live: Any) -> None:
    _, folder = made(live)
    names = [f"arm{n}" for n in range(shelf.MOST + 2)]
    for name in names:
        publish(live.store, name, folder)
    begin(live, "many", spec(*names))
    assert all(live.service.shelf.holds(Need("model", name)) for name in names)
    assert {slate["variant"] for slate in slates(live).values()} == {"control", *names}
    assert not live.service.arms.replaced


def test_a_variant_lost_later_rests_the_experiment(live: Any) -> None:
    version, folder = made(live)
    begin(live, "first", spec(version, None))
    before = slates(live)
    assert Counter(slate["variant"] for slate in before.values()).keys() == {"control", version, "trends"}
    met = exposed(live, "first")
    assert met == {user: slate["variant"] for user, slate in before.items()}
    shutil.rmtree(folder)
    with again(live) as later:
        later.service.loading.wait()
        after = slates(later, [*PEOPLE, *(f"new{n}" for n in range(20))])
        assert all(slate["experiment"] is None and slate["variant"] is None for slate in after.values())
        answered = {user: [item["id"] for item in slate["items"]] for user, slate in after.items()}
        plain = {user: later.ids(user=user, k=3, experiments=False) for user in PEOPLE}
        mine = {user for user, variant in met.items() if variant == version}
        assert all(answered[user] == plain[user] for user in mine)  # the control's answer
        assert {after[user]["policy"] for user in PEOPLE if met[user] == "trends"} == {"trends"}  # as ever
        assert exposed(later, "first") == met  # nobody new, in any variant
        replaced = later.service.arms.replaced["first", version]
        assert len(mine) <= replaced < len(after)
        assert metric(later, f'palate_variant_replaced_total{{experiment="first",variant="{version}"}}') == replaced
        assert metric(later, "palate_experiments_resting") == 1.0
        ready = later.call("GET", "/v1/ready", scope=None)
        assert ready.status_code == 200 and str(folder) not in ready.text
        assert version in ready.json()["resting"]["first"] and "no bundle here" in ready.json()["resting"]["first"]
        [alert] = [told for told in numbers.alerts(later.service, numbers.traffic(later.service)) if "first rests" in told]
        assert version in alert and str(folder) not in alert


def test_a_mended_variant_goes_on(live: Any, tmp_path: Path) -> None:
    version, folder = made(live)
    begin(live, "first", spec(version))
    shutil.move(folder, tmp_path / "away")
    with again(live) as later:
        later.service.loading.wait()
        assert later.post("/v1/recommendations", user="u0", k=3)["experiment"] is None
        shutil.move(tmp_path / "away", folder)
        now = later.service.loading.clock()
        later.service.loading.clock = lambda: now + 3_600
        later.service.forget_caches()
        later.service.running()
        later.service.loading.wait()
        assert {slate["variant"] for slate in slates(later).values()} == {"control", version}
        assert later.call("GET", "/v1/ready", scope=None).json()["resting"] == {}


def test_no_visitor_waits_for_a_variants_model_after_a_restart(live: Any, monkeypatch: Any) -> None:
    version, _ = made(live)
    begin(live, "first", spec(version))
    met = {user: slate["variant"] for user, slate in slates(live).items()}
    load, go_on = recommenders.load, threading.Event()

    def slow(folder: Path) -> Any:
        if json.loads((folder / "manifest.json").read_text())["system"] == "ease":
            assert go_on.wait(30)
        return load(folder)

    monkeypatch.setattr(recommenders, "load", slow)
    with again(live) as later:
        meanwhile = slates(later, PEOPLE[:10])
        assert {slate["experiment"] for slate in meanwhile.values()} == {None}
        assert "is being loaded" in later.call("GET", "/v1/ready", scope=None).json()["resting"]["first"]
        assert not any("rests" in told for told in numbers.alerts(later.service, numbers.traffic(later.service)))
        go_on.set()
        later.service.loading.wait()
        assert {user: slate["variant"] for user, slate in slates(later).items()} == met


def test_an_interleaving_rests_too(live: Any) -> None:
    version, folder = made(live)
    begin(live, "taste", spec(version, kind="interleaving"))
    assert live.post("/v1/recommendations", user="u0", k=4)["variant"] == INTERLEAVED
    assert set(exposed(live, "taste")) == {"u0"}
    shutil.rmtree(folder)
    with again(live) as later:
        later.service.loading.wait()
        slate = later.post("/v1/recommendations", user="u1", k=4)
        assert (slate["experiment"], slate["policy"]) == (None, "default")
        assert later.service.arms.replaced["taste", INTERLEAVED] == 1 and set(exposed(later, "taste")) == {"u0"}


def test_a_lost_control_is_replaced_by_the_service_itself(live: Any) -> None:
    version, folder = made(live)
    wanted = spec(None)
    wanted["variants"][0]["model"] = version
    begin(live, "first", wanted)
    shutil.rmtree(folder)
    with again(live) as later:
        later.service.loading.wait()
        policies = {slate["policy"] for slate in slates(later).values()}
        assert policies == {"default", "trends"} and later.service.arms.replaced["first", "control"] > 0
        assert exposed(later, "first") == {}


def test_a_running_experiment_that_can_not_be_read_harms_nobody(live: Any) -> None:
    begin(live, "first", spec(None))
    old = spec(None)
    old["variants"][1]["weight"] = 0.0  # older versions took it
    with live.store.database.write() as connection:
        connection.execute(update(experiments).values(spec=json.dumps(old)))
    live.service.forget_caches()
    assert {slate["experiment"] for slate in slates(live, PEOPLE[:10]).values()} == {None}
    assert "weight" in live.call("GET", "/v1/ready", scope=None).json()["resting"]["first"]


def test_a_variant_that_no_longer_fits_the_settings_rests(live: Any) -> None:
    begin(live, "first", spec(None, traffic=1.0))
    with live.store.database.write() as connection:
        changed = spec(None)
        changed["variants"][1]["pipeline"] = {"sources": []}
        connection.execute(update(experiments).values(spec=json.dumps(changed)))
    with again(live) as later:
        assert {slate["experiment"] for slate in slates(later, PEOPLE[:10]).values()} == {None}
        assert "variant trends can't answer" in later.call("GET", "/v1/ready", scope=None).json()["resting"]["first"]


def test_a_weight_of_nothing_is_refused(live: Any) -> None:
    wanted = spec(None)
    wanted["variants"][1]["weight"] = 0
    refused = live.call("POST", "/v1/experiments", {"name": "first", "spec": wanted})
    assert refused.status_code == 422 and "weight" in refused.json()["what"]


def test_what_the_pipeline_names_is_loaded_at_the_start(live: Any) -> None:
    version, folder = made(live)
    settings = live.service.settings.replace(pipeline={"rank": {"kind": "model", "model": version}})
    service = Service(live.store, settings, live.service.models, clock=live.service.clock)
    service.loading.wait()
    assert service.shelf.holds(Need("model", version)) and service.ready().trouble is None
    service.close()
    shutil.rmtree(folder)
    service = Service(live.store, settings, live.service.models, clock=live.service.clock)
    service.loading.wait()
    assert version in str(service.ready().trouble) and "no bundle here" in str(service.ready().trouble)
    assert any(version in told for told in numbers.alerts(service, numbers.traffic(service)))
    service.close()
