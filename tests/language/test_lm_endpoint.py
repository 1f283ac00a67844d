"""The endpoint adapter and the limits around it, against a server that misbehaves on purpose."""

from __future__ import annotations

import importlib.util
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel

from palate.errors import ConfigError, UnsupportedError
from palate.extras import available
from palate.language.batch import batch
from palate.language.cache import AnswerCache
from palate.language.failures import AnswerTimeoutError, BudgetError, LanguageModelError, SchemaError, TransientError
from palate.language.managed import Budget, Limits, ManagedModel, RateLimit
from palate.language.model import Answer, Message
from palate.language.models.endpoint import EndpointModel


def _endpoint_class() -> Any:
    spec = importlib.util.spec_from_file_location("lm_endpoint", Path(__file__).with_name("lm_endpoint.py"))
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["lm_endpoint"] = module
    spec.loader.exec_module(module)
    return module.FakeEndpoint


@pytest.fixture
def server() -> Iterator[Any]:
    found = _endpoint_class()()
    yield found
    found.close()


pytestmark = pytest.mark.skipif(
    not all(map(available, ("openai", "tenacity", "jsonschema", "uvicorn"))), reason="needs the extras lm and serve"
)


class Review(BaseModel):
    stars: int


def managed(server: Any, model: str, cache: Any = None, **limits: Any) -> ManagedModel:
    return ManagedModel(EndpointModel(server.url, model), cache=cache, **{"backoff": 0.01, **limits})


def test_settings_reach_the_wire_and_counts_come_back(server: Any) -> None:
    model = EndpointModel(server.url, "echo", extra={"top_k": 5})
    answer = model.chat([Message("system", "s"), Message("user", "hello")], max_tokens=9, temperature=0.5, seed=3, stop=("x",))
    assert (answer.text, answer.tokens_in, answer.tokens_out, answer.finish) == ("hello", 11, 7, "stop")
    sent = server.requests[0]
    assert sent["path"] == "/v1/chat/completions" and sent["top_k"] == 5
    assert (sent["max_tokens"], sent["temperature"], sent["seed"], sent["stop"]) == (9, 0.5, 3, ["x"])
    assert sent["messages"] == [{"role": "system", "content": "s"}, {"role": "user", "content": "hello"}]
    assert model.complete("go on").text == "go on…" and server.requests[1]["path"] == "/v1/completions"


def test_a_server_without_counts_is_counted_by_estimate(server: Any) -> None:
    answer = EndpointModel(server.url, "nousage").chat("four words are here")
    assert answer.tokens_in == answer.tokens_out == 6


def test_stream_gives_pieces_then_the_whole(server: Any) -> None:
    model = EndpointModel(server.url, "echo")
    assert list(model.stream("a b c")) == ["a", " b", " c"]
    *_, last = model.pieces(model.call("a b c"))
    assert isinstance(last, Answer) and (last.text, last.tokens_out) == ("a b c", 7)


def test_keys_come_from_the_environment_and_go_where_they_belong(server: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "secret of OpenAI")
    monkeypatch.delenv("PALATE_LM_KEY", raising=False)
    EndpointModel(server.url, "echo").chat("x")
    monkeypatch.setenv("PALATE_LM_KEY", "mine")
    EndpointModel(server.url, "echo").chat("x")
    assert [h["authorization"] for h in server.headers] == ["Bearer none", "Bearer mine"]
    with pytest.raises(ConfigError, match="NO_SUCH_KEY"):
        EndpointModel(server.url, "echo", key="NO_SUCH_KEY")


@pytest.mark.parametrize("url", ["localhost:1", "ftp://x/v1", "http://", "http://user:pass@host/v1"])
def test_bad_addresses_are_refused(url: str) -> None:
    with pytest.raises(ConfigError):
        EndpointModel(url, "m")


def test_vectors_come_in_order_or_are_refused(server: Any) -> None:
    got = EndpointModel(server.url, "echo", embedding_model="e").hidden_states(["a", "bbb"])
    assert got.tolist() == [[1.0, 1.0], [3.0, 1.0]] and got.dtype.name == "float32"
    with pytest.raises(UnsupportedError, match="embedding model"):
        EndpointModel(server.url, "echo").hidden_states(["a"])


def test_failures_that_pass_are_tried_again(server: Any) -> None:
    assert managed(server, "flaky-2", retries=2).chat("hi").text == "hi"
    assert server.seen["flaky-2"] == 3
    with pytest.raises(TransientError, match="not now"):
        managed(server, "flaky-9", retries=1).chat("hi")
    assert server.seen["flaky-9"] == 2


def test_waits_as_long_as_the_server_asks(server: Any) -> None:
    assert managed(server, "busy").chat("hi").text == "hi"
    assert server.times[1] - server.times[0] >= 0.2


def test_refusals_are_not_tried_again(server: Any) -> None:
    with pytest.raises(LanguageModelError, match="refused") as caught:
        managed(server, "refuse").chat("hi")
    assert not isinstance(caught.value, TransientError) and server.seen["refuse"] == 1
    with pytest.raises(LanguageModelError, match="structured"):
        EndpointModel(server.url, "noschema").json("hi", Review)


def test_time_runs_out(server: Any) -> None:
    begin = time.monotonic()
    with pytest.raises(AnswerTimeoutError, match=r"0.2 s"):
        managed(server, "slow", timeout=0.2, retries=1).chat("hi")
    assert time.monotonic() - begin < 2 and server.seen["slow"] == 2
    with pytest.raises(AnswerTimeoutError):  # each piece is in time, the whole is not
        list(managed(server, "trickle", timeout=0.4).stream("a b c d e f g h"))


def test_nobody_there_is_a_failure_that_may_pass() -> None:
    with pytest.raises(TransientError, match="reached"):
        EndpointModel("http://127.0.0.1:9/v1", "m", timeout=2).chat("hi")


def test_a_reply_without_an_answer_is_tried_again(server: Any) -> None:
    with pytest.raises(TransientError, match="no answer"):
        managed(server, "empty", retries=1).chat("hi")
    assert server.seen["empty"] == 2


def test_a_dropped_stream_is_an_error_and_not_kept(server: Any, tmp_path: Path) -> None:
    model = managed(server, "drop", cache=tmp_path / "a.sqlite")
    with pytest.raises(LanguageModelError):
        list(model.stream("a b c"))
    assert len(model.cache) == 0 and model.cache.spent()[0]["failed"] == 1


def test_json_names_the_error_to_the_model_and_gets_it_right(server: Any) -> None:
    assert EndpointModel(server.url, "wrong-1").json("Rate it.", Review) == Review(stars=4)
    first, second = server.requests
    assert first["response_format"]["json_schema"]["schema"] == Review.model_json_schema()
    assert second["messages"][-2] == {"role": "assistant", "content": '{"stars": "many"}'}
    assert "stars" in second["messages"][-1]["content"] and "integer" in second["messages"][-1]["content"]


def test_json_that_stays_wrong_is_an_error_with_the_last_answer(server: Any) -> None:
    with pytest.raises(SchemaError, match="3 tries") as caught:
        EndpointModel(server.url, "wrong-9").json("Rate it.", Review)
    assert caught.value.value == '{"stars": "many"}'


def test_json_that_was_cut_gets_more_tokens(server: Any) -> None:
    got = EndpointModel(server.url, "cut").json("Rate it.", {"type": "object", "required": ["stars", "why"]}, max_tokens=8)
    assert got == {"stars": 4, "why": "good"}
    assert [r["max_tokens"] for r in server.requests] == [8, 16]


def test_a_server_without_grammar_is_told_the_schema(server: Any) -> None:
    EndpointModel(server.url, "wrong-0", structured="none").json("Rate it.", Review)
    sent = server.requests[0]
    assert "response_format" not in sent and '"stars"' in sent["messages"][0]["content"]


def test_the_same_call_is_paid_once(server: Any, tmp_path: Path) -> None:
    model = managed(server, "echo", cache=tmp_path / "a.sqlite", price_in=2.0, price_out=10.0)
    first, second = model.chat("hi"), model.chat("hi")
    assert not first.cached and second.cached and server.seen["echo"] == 1
    assert first.cost == pytest.approx((11 * 2 + 7 * 10) / 1e6) and second.cost == 0
    assert list(model.stream("hi")) == ["hi"] and server.seen["echo"] == 1
    for changed in ({"seed": 1}, {"max_tokens": 9}, {"temperature": 1.0}, {"stop": ("z",)}, {"top_p": 0.5}):
        assert not model.chat("hi", **changed).cached
    row = model.cache.spent()[0]
    assert (row["calls"], row["cached"], row["tokens_in"]) == (6, 2, 66) and row["cost"] == pytest.approx(6 * first.cost)
    again = managed(server, "other", cache=tmp_path / "a.sqlite")
    assert not again.chat("hi").cached, "another model has its own answers"


def test_budgets_hold_before_the_call(server: Any) -> None:
    model = managed(server, "echo", max_calls=2)
    model.chat("1"), model.chat("2")
    with pytest.raises(BudgetError, match="max_calls"):
        model.chat("3")
    assert server.seen["echo"] == 2
    with pytest.raises(BudgetError, match="max_tokens"):
        managed(server, "echo", max_tokens=50).chat("x", max_tokens=60)
    with pytest.raises(BudgetError, match="max_cost"):
        managed(server, "echo", max_cost=0.001, price_out=100.0).chat("x", max_tokens=60)
    assert server.seen["echo"] == 2
    tries = managed(server, "flaky-5", max_calls=2)
    with pytest.raises(BudgetError):  # tries are calls
        tries.chat("x")
    assert server.seen["flaky-5"] == 2


def test_a_budget_is_settled_by_real_figures_and_shared(server: Any) -> None:
    budget = Budget()
    models = [
        ManagedModel(EndpointModel(server.url, name), cache=None, budget=budget, max_tokens=400) for name in ("echo", "b")
    ]
    for model in models:
        model.chat("x", max_tokens=200)
    assert (budget.calls, budget.tokens) == (2, 36)


def test_rate_limit_spaces_calls() -> None:
    rate = RateLimit(2, window=0.2)
    begin = time.monotonic()
    stamps = []
    for _ in range(5):
        rate.wait()
        stamps.append(time.monotonic() - begin)
    assert stamps[1] < 0.1 and 0.2 <= stamps[2] < 0.35 and stamps[4] >= 0.4
    assert all(b - a >= 0.19 for a, b in zip(stamps, stamps[2:], strict=False)), "no three calls in any window"


def test_batch_tells_errors_row_by_row_and_runs_several_at_once(server: Any, tmp_path: Path) -> None:
    events = []
    model = managed(server, "work", cache=tmp_path / "a.sqlite")
    rows = batch(model, ["a", [], "c", "a"], workers=4, progress=events.append)
    assert [row.value for row in rows] == ["a", None, "c", "a"]
    assert not rows[1].ok and "at least one" in str(rows[1].error)
    assert (events[-1].done, events[-1].total, events[-1].metrics) == (4, 4, {"errors": 1.0})
    assert server.seen["work"] == 2, "the same call under way twice is asked once"
    assert server.most_busy == 2


def test_batch_goes_on_after_a_spent_budget(server: Any, tmp_path: Path) -> None:
    prompts = [f"prompt {n}" for n in range(6)]
    first = batch(managed(server, "echo", cache=tmp_path / "a.sqlite", max_calls=4), prompts)
    assert [row.ok for row in first] == [True] * 4 + [False] * 2 and isinstance(first[4].error, BudgetError)
    second = batch(managed(server, "echo", cache=tmp_path / "a.sqlite"), prompts)
    assert [row.value for row in second] == prompts and server.seen["echo"] == 6


def test_batch_with_a_schema(server: Any) -> None:
    rows = batch(managed(server, "wrong-1"), (text for text in ["a", "b"]), schema=Review)
    assert [row.value for row in rows] == [Review(stars=4)] * 2


def test_a_fault_of_ours_is_not_hidden_in_a_row(server: Any) -> None:
    class Broken(EndpointModel):
        def answer(self, call: Any) -> Answer:
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        batch(Broken(server.url, "echo"), ["a"])


def test_limits_are_typed() -> None:
    for wrong in ({"retrys": 1}, {"timeout": 0}, {"max_calls": -1}):
        with pytest.raises(ConfigError):
            ManagedModel(EndpointModel("http://127.0.0.1:9", "m"), cache=None, **wrong)
    assert Limits(price_in=1.0).cost(1_000_000, 5) == 1.0


def test_cache_default_place(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PALATE_CACHE", str(tmp_path))
    assert AnswerCache().path == tmp_path / "language" / "answers.sqlite"
