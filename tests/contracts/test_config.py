"""Settings: typed, frozen, and helpful when wrong."""

from __future__ import annotations

from typing import Literal

import pytest
from pydantic import Field, ValidationError

from palate.contracts.config import Config
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
    ("key", "value", "advice"), [("dim", 0, "length of vectors"), ("dim", "many", "int"), ("loss", "hinge", "default 'bpr'")]
)
def test_wrong_values_say_what_is_right(key: str, value: object, advice: str) -> None:
    with pytest.raises(ConfigError, match=advice) as caught:
        Sample.parse({key: value})
    assert caught.value.value == value and f"'{key}'" in caught.value.what


def test_replace_checks_again() -> None:
    with pytest.raises(ConfigError):
        Sample().replace(dim=-1)


def test_settings_are_frozen() -> None:
    with pytest.raises(ValidationError):
        Sample().dim = 3  # type: ignore[misc]


def test_one_definition_gives_the_json_schema() -> None:
    schema = Sample.model_json_schema()
    assert schema["properties"]["dim"]["description"] == "length of vectors" and schema["additionalProperties"] is False
