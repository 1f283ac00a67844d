"""The service keeps its OpenAPI document: generated requests find no fault, no undocumented status, no odd answer."""

from __future__ import annotations

import json
import os
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from random import Random
from typing import Any
from urllib.parse import quote

import pytest
import schemathesis
from hypothesis import HealthCheck, given, seed, settings
from hypothesis import strategies as st
from hypothesis.errors import FlakyFailure, Unsatisfiable
from schemathesis import GenerationMode
from schemathesis.core.failures import FailureGroup
from schemathesis.specs.openapi.checks import negative_data_rejection, positive_data_acceptance

from palate.serve.models.retrain import retrain
from palate.serve.settings import ServiceSettings
from palate.serve.store import Event, ItemRow, UserRow

#: What is said of an experiment that can't be read yet, and of a log that can't tell: states, which no schema knows.
STATES = (
    "nobody has met this experiment yet",
    "only visitors met this experiment",
    "no slate for somebody known was logged",
)
#: What parts of settings mean to each other.
RULES = (
    "names of variants must differ",
    "names of metrics must differ",
    "at least one metric must be a goal",
    "interleaving drafts from two variants",
    "interleaving counts feedback",
    "interleaving takes no covariates",
    "variants that are interleaved must have the same caps",
    "weights of variants must not",
    "an allocation is",
    "a ranker is named by its version",
    "a pre-ranker",
    "these scores say nothing of click chances",
)
EXAMPLES = int(os.environ.get("PALATE_FUZZ", "15"))
#: Limits that a JSON schema can't state, as the service words them: a request that fits the schema may be refused for one.
UNSTATED = (
    "a number beyond 64 bits",  # in free objects (context, attributes), whose numbers the schema leaves open
    "nested too deeply",  # free objects again: their depth
    "larger than",  # objects that hold settings
    "too large",  # free objects (their bytes) and k: both limits are settings of the server
    "a NUL or a broken character",  # in texts: patterns speak of the whole text, and half of a surrogate pair is no character
    *RULES,
    *STATES,
    "Input should be a valid integer",  # 5.0 is an integer to JSON Schema; the service wants 5
)
#: Fields in a language of its own: what they mean is checked.
LANGUAGES = {"filter", "rule"}


def beyond_schema(case: Any, response: Any) -> bool:
    """Say whether a request was refused for what the schema can't state; any other that fits the schema must be accepted."""
    if response.status_code != 422:
        return False
    problem = response.json()
    if str(problem.get("where")).partition(" ")[0] in LANGUAGES:
        return True
    if problem["code"] == "unsupported" or "\\u0000" in json.dumps(case.body, default=str):
        return True  # what the model of the day can't do; a NUL, whose complaint is of another kind inside a union
    return any(limit.lower() in problem["what"].lower() for limit in UNSTATED)


def loose_query(case: Any) -> bool:
    """Say whether a query has parameters that the operation hasn't (passed over) or has one twice (the last counts)."""
    known, query = {parameter.name for parameter in case.operation.query}, case.query or {}
    return not set(query) <= known or any(isinstance(value, list | dict) for value in query.values())


def excluded_from(case: Any, response: Any) -> list[Any]:
    """Return the checks that don't hold for a request and its answer."""
    fitting = [positive_data_acceptance] if beyond_schema(case, response) else []
    return fitting + ([negative_data_rejection] if loose_query(case) else [])


@pytest.fixture
def patient(open_live: Any, tmp_path: Path) -> Any:
    """A service that explores, whose limits of rates nothing here meets: they would hide what comes behind them."""
    rates = {"requests_per_second": 1e6, "burst": 10**6, "wrong_keys": 10**6, "wrong_keys_per_minute": 1e6}
    explore = {"explore": {"kind": "epsilon", "epsilon": 0.5, "pool": 8}}
    yield from open_live(tmp_path, ServiceSettings().replace(server=rates, pipeline=explore))


SPLIT: dict[str, Any] = {
    "variants": [{"name": "a"}, {"name": "b", "pipeline": {"sources": [{"kind": "trending", "hours": 1e5}], "name": "b"}}],
    "metrics": [{"name": "clicks", "kind": "feedback"}, {"name": "seen", "kind": "slates", "guardrail": 0.5}],
    "planned": 300,
}
MIXED: dict[str, Any] = {
    "kind": "interleaving",
    "variants": [{"name": "a"}, {"name": "b", "pipeline": {"diversity": {"kind": "mmr"}}}],
    "metrics": [{"name": "clicks", "kind": "feedback", "type": "click"}],
    "planned": 100,
}
FILTERS: list[dict[str, Any] | None] = [
    None,
    {"field": "price", "op": "<", "value": 20},
    {"any": [{"field": "categories", "op": "has", "value": "space"}, {"not": {"field": "attributes.year", "op": "exists"}}]},
]
#: Which pool the texts under a key of a body, and in a path, are of.
POOLS = {
    **dict.fromkeys(("user", "user_id"), "users"),
    **dict.fromkeys(("item", "item_id", "items", "exclude", "candidates", "history", "pinned", "banned"), "items"),
    **dict.fromkeys(("model", "version"), "versions"),
    **{"slate": "slates", "bundle": "bundles", "name": "experiments", "field": "fields", "rule": "rules"},
}


#: What an operation makes: a name that is there already is a conflict.
FRESH, NAME = {"POST /v1/experiments": "name", "POST /v1/models": "version"}, "[A-Za-z0-9][A-Za-z0-9._-]{0,99}"
ERASE = "DELETE /v1/profile/{user_id}"


class Known:
    """Ids that the service knows, in the place of many generated ones: what lies behind finding them is met, too."""

    def __init__(self, live: Any) -> None:
        self.live, self.users, self.items = live, [f"u{n}" for n in range(8)], [f"i{n}" for n in range(8)]
        self.made = 0  # names were made up
        self.doomed = ["d0", "d1"]  # those to erase: the others' slates are needed
        self.versions = [live.store.active_model().version]
        self.versions.append(retrain(live.store, live.service.models, "popularity", gate=False).version)
        live.call("POST", f"/v1/models/{self.versions[0]}/activate")
        self.experiments = ["read", "mixed", "draft"]
        for name, spec in (("read", SPLIT), ("mixed", MIXED)):
            live.post("/v1/experiments", name=name, spec=spec)
            live.post(f"/v1/experiments/{name}/start")
            self._visit(name)
            live.post(f"/v1/experiments/{name}/stop")
            live.service.forget_caches()
        live.post("/v1/experiments", name="draft", spec=SPLIT)
        self.slates = [self._visit(None) for _ in range(2)][-1]

    def _visit(self, experiment: str | None) -> list[dict[str, Any]]:
        """Show everybody a slate, and have most of them click; return the slates."""
        slates = [self.live.post("/v1/recommendations", user=user, k=3) for user in self.users]
        for slate in slates[2:]:
            assert slate["experiment"] == experiment
            self.live.post("/v1/feedback", slate=slate["slate"], item=slate["items"][0]["id"])
        self.live.service.settle()
        return slates

    def restore(self, name: str) -> None:
        """Put back what an operation takes away."""
        store = self.live.store
        if name in ("", "DELETE /v1/items/{item_id}"):
            store.put_items([ItemRow(id=item, title=f"story {item}", price=3.0) for item in self.items])
        if name in ("", "DELETE /v1/users/{user_id}"):
            store.put_users([UserRow(id=user, attributes={"age": 7}) for user in self.users])
        if name == ERASE:
            store.add_events([Event(user=user, item=self.items[0]) for user in self.doomed])
        if name == "POST /v1/models/rollback":
            for version in (*self.versions[:2], self.versions[0]):
                store.activate(version)

    def pool(self, key: str) -> Sequence[str]:
        """Return what may stand under a key."""
        kind = POOLS.get(key)
        if kind == "slates":
            return [slate["slate"] for slate in self.slates]
        if kind == "bundles":
            return [folder.name for folder in self.live.service.models.iterdir()]
        if kind == "fields":
            return ["price", "categories", "attributes.year", "title", "created"]
        if kind == "rules":
            return ["item.price < 100.0", 'has(context.device) && context.device == "phone"', "1 / 0 == 1"]
        return [] if kind is None else getattr(self, kind)

    def put_into(self, value: Any, key: str, rng: Random, share: float) -> Any:
        """Return a value in which a share of the ids are known ones, and of the lengths of lists small ones.

        What is no id, or no length, stays: right stays right, and wrong stays wrong.
        """
        if isinstance(value, dict):
            return {name: self.put_into(below, name, rng, share) for name, below in value.items()}
        if isinstance(value, list):
            return [self.put_into(below, key, rng, share) for below in value]
        if rng.random() >= share or key == "name":  # names in a body are of what is made
            return value
        if key == "k" and type(value) is int and value > 0:
            return rng.choice([1, 3, 10])
        pool = self.pool(key)
        fits = isinstance(value, str) and 0 < len(value) <= 100 and value not in (".", "..")
        return rng.choice(pool) if fits and pool else value

    def good(self, name: str, rng: Random) -> dict[str, Any] | None:
        """Return a body whose parts fit each other, or nothing where generated ones do."""
        slate, narrow = rng.choice(self.slates), rng.choice(FILTERS)
        bodies: Mapping[str, dict[str, Any]] = {
            "POST /v1/similar": {"items": rng.sample(self.items, 2), "k": rng.randint(1, 30), "filter": narrow},
            "POST /v1/recommendations": {"user": rng.choice(self.users), "filter": narrow, "text": "story", "trace": True},
            "POST /v1/search": {"query": "story of space", "user": rng.choice(self.users), "filter": narrow},
            "POST /v1/feedback": {"slate": slate["slate"], "item": rng.choice(slate["items"])["id"], "kind": "like"},
            "POST /v1/experiments": {"name": "new", "spec": rng.choice([SPLIT, MIXED])},
            "POST /v1/experiments/offpolicy": {"pipeline": {"explore": {"kind": rng.choice(["none", "epsilon", "thompson"])}}},
        }
        return bodies.get(name)

    def into(self, case: Any, name: str, mode: GenerationMode, rng: Random) -> None:
        """Put known ids into the path and the body of a request."""
        for key, value in (case.path_parameters or {}).items():
            pool = self.doomed if name == ERASE else self.pool(key)
            if isinstance(value, str) and pool and rng.random() < 0.5:
                case.path_parameters[key] = quote(rng.choice(pool), safe="")
        if isinstance(case.body, dict):
            good = self.good(name, rng) if mode is GenerationMode.POSITIVE and rng.random() < 0.5 else None
            case.body = good or self.put_into(case.body, "", rng, rng.choice([0.2, 1.0]))
            key = FRESH.get(name)
            if key is not None and isinstance(case.body.get(key), str) and re.fullmatch(NAME, case.body[key]):
                self.made += 1
                case.body = {**case.body, key: f"new{self.made}"}


def ask(operation: Any, mode: GenerationMode, headers: dict[str, str], count: Counter[str], known: Known) -> str | None:
    """Send generated requests of an operation, count them by kind of answer, and return what was wrong."""
    examples = EXAMPLES if mode is GenerationMode.POSITIVE else -(-EXAMPLES // 3)
    name = f"{operation.method.upper()} {operation.path}"

    @seed(1)
    @settings(max_examples=examples, deadline=None, suppress_health_check=list(HealthCheck), database=None)
    @given(case=operation.as_strategy(generation_mode=mode), rng=st.randoms(use_true_random=False))
    def fuzz(case: Any, rng: Random) -> None:
        known.into(case, name, mode, rng)
        known.restore(name)
        response = case.call(headers=headers)
        excluded = excluded_from(case, response)
        beyond = ["beyond the schema"] * (positive_data_acceptance in excluded)
        count.update(["cases", mode.value, f"{response.status_code // 100}xx", *beyond])
        case.validate_response(response, headers=headers, excluded_checks=excluded)
        if name == "POST /v1/experiments" and response.status_code == 200:
            run_through(known.live, response.json()["name"])

    known.restore("")
    try:
        fuzz()
    except Unsatisfiable:
        assert mode is GenerationMode.NEGATIVE, "nothing can be sent that is right"
    except (Exception, FailureGroup) as error:
        if isinstance(error, FlakyFailure) and error.split(RecursionError)[1] is None:
            return None  # making a request failed, deep inside of the generator; nothing was sent
        count["failures"] += 1
        return "\n".join([str(error), *(str(one) for one in getattr(error, "exceptions", ()))])
    return None


def run_through(live: Any, name: str) -> None:
    """Start, meet, read and stop an experiment: what was accepted must work, and leave the answers to everybody alone."""
    live.service.forget_caches()
    lost = dict(live.service.lost)
    assert live.call("POST", f"/v1/experiments/{name}/start").status_code == 200
    for user in ("u1", "u2", "u3", "somebody new"):
        response = live.call("POST", "/v1/recommendations", {"user": user, "k": 3, "text": "story", "why": True, "trace": True})
        assert response.status_code == 200, (name, response.text)
    live.service.settle()
    assert live.service.lost == lost, (name, "what was answered is not on record")
    response = live.call("GET", f"/v1/experiments/{name}")
    assert response.status_code == 200 or any(state in response.text for state in STATES), (name, response.text)
    assert live.call("POST", f"/v1/experiments/{name}/stop").status_code == 200
    live.service.forget_caches()


def test_generated_requests(patient: Any) -> None:
    """Requests that fit the schema, and a third as many that don't; every operation answers some with success.

    ``PALATE_FUZZ`` says how many; ``PALATE_FUZZ_COUNTS`` names a file for the counts by operation.
    """
    schema = schemathesis.openapi.from_asgi("/openapi.json", patient.client.app)
    headers, known = {"Authorization": f"Bearer {patient.keys['admin']}"}, Known(patient)
    wrong: list[str] = []
    counts: dict[str, Counter[str]] = {}
    for found in schema.get_all_operations():
        operation = found.ok()
        name = f"{operation.method.upper()} {operation.path}"
        count = counts.setdefault(name, Counter(failures=0))
        for mode in GenerationMode:
            error = ask(operation, mode, headers, count, known)
            if error is not None:
                wrong.append(f"{name}, {mode.value}: {error}")
    if "PALATE_FUZZ_COUNTS" in os.environ:
        Path(os.environ["PALATE_FUZZ_COUNTS"]).write_text(json.dumps(counts), encoding="utf-8")
    assert not wrong, "\n\n".join(wrong)
    assert sum(count["cases"] for count in counts.values()) >= EXAMPLES * 10
    unmet = [name for name, count in counts.items() if not count["2xx"]]
    assert not unmet, "nothing behind these was met"


def test_the_document_is_openapi_3_1_and_every_route_states_its_errors(live_shared: Any) -> None:
    document = live_shared.client.get("/openapi.json").json()
    assert document["openapi"].startswith("3.1")
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            assert operation.get("description") or operation.get("summary"), (path, method)
            if path not in ("/v1/health", "/v1/ready"):
                assert {"401", "403", "422", "429", "503"} <= set(operation["responses"]), (path, method)
                assert operation["security"], (path, method)
