"""Design of experiments: from a form's values to a spec, and faults that know their field."""

from __future__ import annotations

from typing import Any

import pytest

pytest.importorskip("nicegui", reason="the console needs NiceGUI")

from palate.console import design
from palate.console.design import Fault
from palate.errors import BundleError, ConfigError
from palate.serve.errors import ConflictError, NotFound
from palate.serve.pipeline.config import PipelineConfig

BASE = PipelineConfig()
SPLIT: dict[str, Any] = {
    "kind": "split",
    "variants": [{"name": "control", "weight": 1.0}, {"name": "other", "weight": 1.0}],
    "metrics": [{"name": "events", "kind": "events"}],
    "planned": 100.0,
    "traffic": 1.0,
}
MIXED: dict[str, Any] = {
    "kind": "interleaving",
    "variants": [{"name": "a"}, {"name": "b"}],
    "metrics": [{"name": "clicks", "kind": "feedback", "type": "click"}],
    "planned": 100.0,
}


def fine(pipeline: PipelineConfig) -> None:
    """Find nothing wrong."""


@pytest.mark.parametrize("given", [SPLIT, MIXED])
def test_what_is_right_becomes_a_spec(given: dict[str, Any]) -> None:
    spec, faults = design.check(given, BASE, fine)
    assert faults == [] and spec is not None
    assert (spec.kind, spec.planned, len(spec.variants)) == (given["kind"], 100, 2)


@pytest.mark.parametrize(
    ("given", "path", "word"),
    [
        ({**SPLIT, "planned": None}, ("planned",), "integer"),
        ({**SPLIT, "planned": 10.5}, ("planned",), "fractional"),
        ({**SPLIT, "traffic": 0.0}, ("traffic",), "greater than 0"),
        ({**SPLIT, "variants": [*SPLIT["variants"], {"name": "c", "weight": None}]}, ("variants", 2, "weight"), "number"),
        ({**SPLIT, "variants": [*SPLIT["variants"], {"name": ""}]}, ("variants", 2, "name"), "may not be empty"),
        ({**SPLIT, "variants": [*SPLIT["variants"], {"name": "other"}]}, ("variants", 2, "name"), "must differ"),
        ({**SPLIT, "variants": [{"name": f"v{n}"} for n in range(11)]}, ("variants",), "too many"),
        ({**SPLIT, "metrics": [*SPLIT["metrics"], *SPLIT["metrics"]]}, ("metrics", 1, "name"), "must differ"),
        ({**SPLIT, "metrics": [{**SPLIT["metrics"][0], "guardrail": 0.1}]}, ("metrics",), "must be a goal"),
        ({**SPLIT, "metrics": [{**SPLIT["metrics"][0], "guardrail": -0.1}]}, ("metrics", 0, "guardrail"), "greater than"),
        ({**MIXED, "variants": [*MIXED["variants"], {"name": "c"}]}, ("variants",), "name two"),
        ({**MIXED, "metrics": SPLIT["metrics"]}, ("metrics",), "counts feedback"),
        ({**MIXED, "covariate_days": 7.0}, ("covariate_days",), "no covariates"),
    ],
)
def test_a_fault_knows_its_field(given: dict[str, Any], path: tuple[Any, ...], word: str) -> None:
    spec, [fault] = design.check(given, BASE, fine)
    assert spec is None and fault.path == path and word in fault.words


def test_all_faults_are_told_at_once() -> None:
    wrong = {**SPLIT, "variants": [{"name": "", "weight": None}, {"name": "b"}], "planned": None}
    _, faults = design.check(wrong, BASE, fine)
    assert {fault.path for fault in faults} == {("variants", 0, "name"), ("variants", 0, "weight"), ("planned",)}
    pipelines = [{"name": "a", "pipeline": {"souces": []}}, {"name": "b"}, {"name": "c", "pipeline": {"seen": "maybe"}}]
    spec, faults = design.check({**SPLIT, "variants": pipelines}, BASE, fine)
    assert spec is None
    assert [fault.path for fault in faults] == [("variants", 0, "pipeline"), ("variants", 2, "pipeline")]
    assert "did you mean 'sources'?" in faults[0].words and faults[0].words.endswith("?")


def test_a_variant_that_cannot_answer_is_told_beside_its_model_or_its_keys() -> None:
    def attempt(pipeline: PipelineConfig) -> None:
        if pipeline.rule is not None:
            raise ConfigError("this rule can't be read.", value=pipeline.rule)
        if any(getattr(source, "model", None) == "lost-1" for source in pipeline.sources):
            raise BundleError("the bundle is gone.")

    variants = [{"name": "a"}, {"name": "b", "model": "lost-1"}, {"name": "c", "pipeline": {"rule": "item."}}]
    spec, [lost, unread] = design.check({**SPLIT, "variants": variants}, BASE, attempt)
    assert spec is None
    assert lost.path == ("variants", 1, "model") and "the bundle is gone" in lost.words
    assert unread.path == ("variants", 2, "pipeline") and "can't be read" in unread.words


def test_what_the_service_refuses_stands_beside_what_it_names() -> None:
    taken = ConflictError("there is an experiment of that name.", where="name", value="x", remedy="choose another")
    assert design.refused(taken, ["a", "b"]) == Fault(
        ("name",), "There is an experiment of that name. Value: x. Next step: choose another."
    )
    gone = NotFound("a variant names a model that there is not.", where="b", value="m-1")
    assert design.refused(gone, ["a", "b"]).path == ("variants", 1, "model")
    assert design.refused(ConfigError("they share one list.", where="exp"), ["a", "b"]) == Fault((), "They share one list.")


def test_keys_of_a_pipeline() -> None:
    assert design.pipeline_keys("", "", 0.3) == {}
    assert design.pipeline_keys('{"seen": "allow"}', "mmr", 0.4) == {
        "seen": "allow",
        "diversity": {"kind": "mmr", "level": 0.4},
    }
    for text, word in (("{seen", "not JSON"), ("[1]", "JSON object")):
        with pytest.raises(ConfigError, match=word):
            design.pipeline_keys(text, "", None)


def test_shares_of_weights_in_words() -> None:
    assert design.shares([1.0, 1.0, 2.0], 400) == ["25%: 100 people", "25%: 100 people", "50%: 200 people"]
    assert design.shares([1.0, 3.0], None) == ["25%", "75%"]
    for odd in ([0.0, 0.0], [None, 1.0], [-1.0, 3.0]):
        assert design.shares(odd, 10) == ["its share, beside the others'"] * 2


def test_metrics_have_a_name_by_themselves() -> None:
    assert design.metric_name("feedback", "click") == "feedback of each person (click)"
    assert design.metric_name("events", None) == "events of each person"
