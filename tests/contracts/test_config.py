"""Settings: typed, frozen, and helpful when wrong."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal, get_args, get_origin

import pytest
from pydantic import BaseModel, Field, ValidationError, model_validator
from pydantic_core import PydanticCustomError

from palate.catalog.registry import systems
from palate.contracts.config import Config, KeysOf, With
from palate.errors import ConfigError


class Sample(Config):
    """Settings of every kind."""

    dim: int = Field(64, ge=1, description="length of vectors")
    lr: float = 0.01
    loss: Literal["bpr", "softmax"] = "bpr"
    name: str = "x"
    window: float | None = None
    layers: tuple[int, ...] = (64,)


def test_defaults_and_changes() -> None:
    settings = Sample.parse({"dim": 8, "loss": "softmax"})
    assert (settings.dim, settings.lr, settings.loss) == (8, 0.01, "softmax")
    assert settings.replace(dim=16).dim == 16 and settings.dim == 8


def test_words_of_a_command_line_are_read() -> None:
    settings = Sample.parse({"dim": "8", "lr": "1e-3", "loss": "softmax", "name": "12", "window": "null", "layers": "[8, 4]"})
    assert settings == Sample(dim=8, lr=0.001, loss="softmax", name="12", window=None, layers=(8, 4))


def test_unknown_setting_names_the_nearest() -> None:
    with pytest.raises(ConfigError, match="did you mean 'dim'") as caught:
        Sample.parse({"dims": 8}, system="sample")
    assert caught.value.value == "dims" and caught.value.where == "settings of sample"
    with pytest.raises(ConfigError, match="no settings"):
        Config.parse({"dim": 1})


@pytest.mark.parametrize(
    ("key", "value", "advice"),
    [
        ("dim", 0, "length of vectors"),
        ("dim", "many", "int"),
        ("loss", "hinge", "default 'bpr'"),
        ("layers", "8,4", r"a list, written as \[8, 4\]"),
    ],
)
def test_wrong_values_say_what_is_right(key: str, value: object, advice: str) -> None:
    with pytest.raises(ConfigError, match=advice) as caught:
        Sample.parse({key: value})
    assert caught.value.value == value and f"'{key}'" in caught.value.what


def test_a_check_of_several_settings_may_name_the_one_to_change() -> None:
    class Span(Config):
        low: int = 0
        high: int = 1

        @model_validator(mode="after")
        def _rising(self) -> Span:
            if self.low > self.high:
                raise PydanticCustomError("span", "low must not be above high", {"path": ("low",)})
            return self

    with pytest.raises(ConfigError, match="setting 'low' is wrong: low must not be above high"):
        Span.parse({"low": 2})


def test_settings_that_do_not_go_together_are_told_in_the_words_of_their_check() -> None:
    class Pair(Sample):
        @model_validator(mode="after")
        def _together(self) -> Pair:
            if self.dim < len(self.layers):
                raise ValueError("dim must be at least the number of layers")
            return self

    with pytest.raises(ConfigError) as caught:
        Pair.parse({"dim": 1, "layers": [8, 4]}, system="pair")
    assert caught.value.what == "dim must be at least the number of layers."
    assert caught.value.value == {"dim": 1, "layers": [8, 4]} and caught.value.where == "settings of pair"


def test_replace_checks_again() -> None:
    with pytest.raises(ConfigError):
        Sample().replace(dim=-1)


def test_settings_are_frozen() -> None:
    with pytest.raises(ValidationError):
        Sample().dim = 3  # type: ignore[misc]


def test_one_definition_gives_the_json_schema() -> None:
    schema = Sample.model_json_schema()
    assert schema["properties"]["dim"]["description"] == "length of vectors" and schema["additionalProperties"] is False


def test_what_came_as_json_is_read_as_its_schema_says() -> None:
    given = {"dim": 8, "lr": 1, "layers": [2, 3], "window": None}
    assert Sample.parse(given, strict=True) == Sample(dim=8, lr=1.0, layers=(2, 3))
    assert Sample.parse({"dim": "8"}).dim == 8, "words of a command line"
    for wrong in ({"dim": "8"}, {"dim": 8.0}, {"lr": True}, {"name": 3}, {"layers": "[2]"}, {"layers": [2.5]}):
        with pytest.raises(ConfigError, match=f"setting '{next(iter(wrong))}"):
            Sample.parse(wrong, strict=True)
    with pytest.raises(ConfigError, match="no JSON"):
        Sample.parse({"lr": float("nan")}, strict=True)
    with pytest.raises(ConfigError, match="no JSON"):
        Sample.parse({"name": object()}, strict=True)
    with pytest.raises(ConfigError, match="did you mean 'dim'"):
        Sample.parse({"dims": 1}, strict=True)
    base = Sample(dim=8, layers=(1, 2))
    assert base.differing({"lr": 0.5}) == Sample(dim=8, layers=(1, 2), lr=0.5)
    with pytest.raises(ConfigError, match="'dim'") as caught:
        base.differing({"dim": "9"}, system="the sample")
    assert "settings of the sample" in str(caught.value)


def test_a_needed_setting_has_no_default_to_tell() -> None:
    class Needy(Config):
        size: int = Field(..., description="how many")

    with pytest.raises(ConfigError) as caught:
        Needy.parse({"size": "many"})
    assert "how many" in str(caught.value) and "default" not in str(caught.value)


def test_a_free_object_tells_its_keys_in_the_schema_and_stays_free() -> None:
    class Body(BaseModel):
        settings: Annotated[dict[str, Any], KeysOf(Sample)]

    told = Body.model_json_schema()["properties"]["settings"]
    assert told["properties"]["dim"]["minimum"] == 1 and told["additionalProperties"] is False
    assert Body(settings={"dims": 1}).settings == {"dims": 1}


class Depending(Config):
    counts_with: ClassVar[Mapping[str, With]] = {"power": With("kind", ("steep", "flat")), "calls": With("model")}

    kind: str = Field("plain", description="which")
    power: float = Field(1.0, description="how much")
    model: str | None = Field(None, description="who")
    calls: int = Field(3, description="how often")


class Further(Depending):
    counts_with: ClassVar[Mapping[str, With]] = {"depth": With("kind", unless=("plain",)), "lost": With("kind")}

    depth: int = Field(2, description="how deep")


@pytest.mark.parametrize(
    ("settings", "idle"),
    [
        ({}, {}),
        ({"power": 1.0, "calls": 3}, {}),
        ({"power": 2.0}, {"power": "kind=steep or kind=flat"}),
        ({"power": 2.0, "kind": "flat"}, {}),
        ({"calls": 5, "depth": 7}, {"calls": "model given", "depth": "kind other than plain"}),
        ({"calls": 5, "model": "small", "depth": 7, "kind": "steep"}, {}),
    ],
)
def test_settings_that_count_for_nothing_are_told(settings: dict[str, object], idle: dict[str, str]) -> None:
    assert Further(**settings).idle() == idle
    assert set(Further.conditions()) == {"power", "calls", "depth"}
    assert Further(**settings).replace().idle() == idle


def test_conditions_name_settings_that_are_there_and_values_they_may_have() -> None:
    for system in systems().values():
        if system.status != "works":
            continue
        kind = system.load().Settings
        for key, condition in kind.conditions().items():
            field = kind.model_fields[condition.key]
            allowed = get_args(field.annotation)
            if get_origin(field.annotation) is Literal and len(allowed) > 1:  # one: a system that has no other way
                told = {*condition.values, *(condition.unless if not condition.values else ())}
                assert told <= set(allowed), (system.name, key)
            assert key != condition.key
