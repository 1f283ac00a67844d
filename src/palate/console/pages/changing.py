"""What a variant or a candidate changes of the running pipeline, as fields: another model, diversity, any other key."""

from __future__ import annotations

import json
from typing import Any

from palate.console import design, parts
from palate.serve.pipeline.config import PipelineConfig

DIVERSITY = {"": "as it is", "none": "none", "mmr": "MMR", "dpp": "DPP", "calibrate": "calibrated"}


class Change:
    """Fields for a change; made where they are to stand."""

    def __init__(self, versions: list[str]) -> None:
        self.model = parts.select("Model", {"": "the active one", **{v: v for v in versions}}, "")
        self.diversity = parts.select("Diversity", DIVERSITY, "")
        self.level = parts.figure("Its level", 0.3, min=0, max=1, step=0.1)
        self.more = parts.entry("Other keys of the pipeline").props("type=textarea autogrow")
        parts.hint(self.more, "as JSON")

        def grade() -> None:
            self.level.set_visibility(self.diversity.value not in ("", "none"))

        self.diversity.on_value_change(grade)
        grade()

    def given(self) -> tuple[str | None, dict[str, Any]]:
        """Return the version of a model (``None``: the active one), and keys of the pipeline that differ.

        Raises
        ------
        ConfigError
            If the other keys are no JSON object.
        """
        keys = design.pipeline_keys(self.more.value or "", self.diversity.value, self.level.value)
        return self.model.value or None, keys


def what_can_be_changed(base: PipelineConfig) -> None:
    """Show the keys of the running pipeline as they are now, folded, so that they can be copied and changed."""
    plain, fields = base.model_dump(mode="json"), PipelineConfig.model_fields
    rows: list[list[parts.Cell]] = [[key, json.dumps(value), fields[key].description or ""] for key, value in plain.items()]
    with parts.box("details"):
        parts.text("What can be changed of the pipeline", "summary")
        parts.table("Keys of the pipeline", ["Key", "As it is now, as JSON", "Meaning"], rows)
