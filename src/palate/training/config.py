"""Settings that every trained model shares."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from palate.contracts.config import Config


class TrainConfig(Config):
    """Base of the settings of models that learn by steps."""

    epochs: int = Field(20, ge=0, description="passes over the training data; with validation, the most")
    batch_size: int = Field(1024, gt=0, description="training examples of a batch")
    accumulate: int = Field(1, gt=0, description="batches a step (of each worker); their gradients are averaged")
    lr: float = Field(1e-3, gt=0, description="step size of the optimiser")
    schedule: Literal["constant", "cosine"] = Field(
        "constant", description="step size over the epochs: the same, or down to zero along half a cosine"
    )
    weight_decay: float = Field(0.0, ge=0, description="decoupled decay of weights towards zero")
    patience: int = Field(5, ge=0, description="validation looks without improvement before stopping (0 = never)")
    patience_steps: int = Field(400, ge=0, description="and steps, which small data take in many epochs")
    eval_every: int = Field(1, gt=0, description="epochs between validation looks")
    clip_norm: float = Field(0.0, ge=0, description="largest norm of the gradient (0 = no limit)")
    precision: Literal["float32", "bfloat16"] = Field("float32", description="arithmetic of the network's products")
    checkpoint_every: int = Field(1, gt=0, description="epochs between checkpoints, where a folder is given")

    @property
    def free(self) -> set[str]:
        """Settings that may change when a fit goes on, as they alter no step."""
        return {"checkpoint_every", "update_epochs", *(["epochs"] if self.schedule == "constant" else [])}
