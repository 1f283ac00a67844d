"""Fine-tune a local language model by LoRA: small matrices ``B A`` learnt beside frozen weights.

    W' = W + (alpha / rank) B A        A: rank x in, B: out x rank (0 at first)

Source: E. J. Hu et al., "LoRA: Low-Rank Adaptation of Large Language Models", ICLR 2022, equation 3; by the ``peft`` package.
The loss is the mean cross-entropy of the next token: over whole texts, or, of pairs, over the answer's tokens alone.
"""

from __future__ import annotations

import math
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from palate.errors import ConfigError, DataError, TrainingError
from palate.extras import require
from palate.language.model import Message, invalid
from palate.language.models.local import load_folder, quiet, written
from palate.progress import Progress, ProgressEvent, silent
from palate.runtime import generator

PURPOSE = "Fine-tuning of a language model"
#: Labels with this number have no loss.
IGNORED = -100


class TuneSettings(BaseModel):
    """Settings of a fine-tuning."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    epochs: int = Field(1, gt=0, description="passes over the examples")
    batch_size: int = Field(4, gt=0, description="examples a step")
    lr: float = Field(2e-4, gt=0, description="step size of AdamW; falls to 0 along a cosine")
    max_len: int = Field(256, gt=1, description="tokens of an example; longer ones lose their end")
    rank: int = Field(8, gt=0, description="rank of the learnt matrices")
    alpha: float = Field(16.0, gt=0, description="weight of the learnt part, divided by the rank")
    dropout: float = Field(0.0, ge=0, lt=1, description="share of the learnt part's inputs set to zero in training")
    targets: tuple[str, ...] = Field(("q_proj", "v_proj"), min_length=1, description="layers that learn, by their names")
    clip: float = Field(1.0, gt=0, description="longest gradient of a step")


@dataclass(frozen=True)
class TuneRecord:
    """What came of a fine-tuning.

    Attributes
    ----------
    adapter
        Folder of the adapter (safetensors), for ``LocalModel(folder, adapter=...)``.
    losses
        Mean loss of each step.
    parameters
        How many were learnt.
    cut
        Examples that lost their end.
    """

    adapter: Path
    losses: list[float] = field(repr=False)
    parameters: int
    seconds: float
    cut: int


def fine_tune(
    folder: str | Path,
    examples: Sequence[str] | Sequence[tuple[str, str]],
    out: str | Path,
    *,
    seed: int = 0,
    device: str = "cpu",
    progress: Progress = silent,
    **settings: Any,
) -> TuneRecord:
    """Learn from texts, or from pairs of a prompt and its answer.

    Parameters
    ----------
    folder
        A transformers folder (:func:`convert_gguf` makes one from a GGUF file).
    examples
        Texts, or ``(prompt, answer)``; a prompt is written as a turn of a chat where the model has a chat template.
    out
        A new or empty folder for the adapter.
    seed
        Fixes first weights, order and dropout.
    **settings
        Of :class:`TuneSettings`.

    Raises
    ------
    DataError
        If there is no example, or one has nothing to learn from.
    TrainingError
        If the loss is no longer a number.
    """
    try:
        c = TuneSettings.model_validate(settings)
    except ValidationError as error:
        raise invalid(error, "settings of a fine-tuning") from None
    out = Path(out)
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise DataError("the folder for the adapter is not empty.", where=out, remedy="name a new one")
    torch, peft = require("torch", PURPOSE), require("peft", PURPOSE)
    start = time.monotonic()
    tokenizer, network = load_folder(Path(folder))
    rows, cut = _rows(tokenizer, examples, c.max_len)
    with torch.random.fork_rng(devices=[] if device == "cpu" else None):
        torch.manual_seed(seed)
        learnt = _wrapped(peft, network, c).to(device)
        losses = _learn(learnt, rows, c, seed, device, progress)
    with tempfile.TemporaryDirectory(dir=_above(out), prefix=".adapter") as draft:
        learnt.save_pretrained(Path(draft) / "a", safe_serialization=True)
        out.parent.mkdir(parents=True, exist_ok=True)
        (Path(draft) / "a").replace(out)
    parameters = sum(p.numel() for p in learnt.parameters() if p.requires_grad)
    return TuneRecord(out, losses, parameters, time.monotonic() - start, cut)


def _above(out: Path) -> Path:
    out.parent.mkdir(parents=True, exist_ok=True)
    return out.parent


def _wrapped(peft: Any, network: Any, c: TuneSettings) -> Any:
    config = peft.LoraConfig(
        r=c.rank, lora_alpha=c.alpha, lora_dropout=c.dropout, target_modules=list(c.targets), task_type="CAUSAL_LM"
    )
    try:
        return peft.get_peft_model(network, config)
    except ValueError as error:
        raise ConfigError(f"no layer learns: {str(error)[:200]}", where="targets", value=c.targets) from None


def _rows(tokenizer: Any, examples: Sequence[Any], max_len: int) -> tuple[list[tuple[list[int], int]], int]:
    """Return the tokens of each example, with the place from which its loss counts; and how many were cut."""
    rows, cut = [], 0
    for at, example in enumerate(examples):
        before, after = ("", example) if isinstance(example, str) else example
        begin: list[int] = []
        if not isinstance(example, str):
            begin = _ids(tokenizer, written(tokenizer, [Message("user", before)], answering=True))
        ids = [*begin, *_ids(tokenizer, after)]
        if tokenizer.eos_token_id is not None:
            ids.append(tokenizer.eos_token_id)
        cut += len(ids) > max_len
        ids = ids[:max_len]
        if len(ids) < 2 or len(begin) >= len(ids):
            raise DataError(
                "an example has nothing to learn from.",
                where=f"example {at}",
                value=example,
                remedy="leave it out, or raise max_len",
            )
        rows.append((ids, len(begin)))
    if not rows:
        raise DataError("there is no example to learn from.", where="examples")
    return rows, cut


def _ids(tokenizer: Any, text: str) -> list[int]:
    return list(tokenizer(text, add_special_tokens=False)["input_ids"])


def _learn(
    network: Any, rows: list[tuple[list[int], int]], c: TuneSettings, seed: int, device: str, progress: Progress
) -> list[float]:
    import torch

    weights = [p for p in network.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(weights, lr=c.lr, weight_decay=0.0)
    steps = c.epochs * math.ceil(len(rows) / c.batch_size)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: (1 + math.cos(math.pi * step / steps)) / 2)
    rng = generator(seed, "fine_tune", "order")
    losses: list[float] = []
    network.train()
    for _ in range(c.epochs):
        order = rng.permutation(len(rows))
        for begin in range(0, len(rows), c.batch_size):
            loss = _loss(network, [rows[at] for at in order[begin : begin + c.batch_size]], device)
            if not torch.isfinite(loss):
                raise TrainingError("the loss is no longer a number.", where=f"step {len(losses)}", remedy="lower lr")
            optimizer.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(weights, c.clip)
            optimizer.step()
            schedule.step()
            losses.append(float(loss.detach()))
            progress(ProgressEvent("fine-tuning: step", len(losses), steps, {"loss": losses[-1]}))
    network.eval()
    return losses


def _loss(network: Any, rows: list[tuple[list[int], int]], device: str) -> Any:
    """Return the mean cross-entropy over the tokens that count."""
    import torch

    width = max(len(ids) for ids, _ in rows)
    ids = np.zeros((len(rows), width), np.int64)
    mask = np.zeros_like(ids)
    labels = np.full_like(ids, IGNORED)
    for row, (tokens, begin) in enumerate(rows):
        ids[row, : len(tokens)] = tokens
        mask[row, : len(tokens)] = 1
        labels[row, begin : len(tokens)] = tokens[begin:]
    given = {"input_ids": ids, "attention_mask": mask, "labels": labels}
    return network(**{name: torch.from_numpy(array).to(device) for name, array in given.items()}).loss


def convert_gguf(gguf: str | Path, folder: str | Path) -> Path:
    """Write a GGUF file as a transformers folder in float32, to be fine-tuned; once, for it takes half a minute and more.

    The weights are the file's quantized ones, made float32: not the upstream model's own.
    """
    transformers = require("transformers", PURPOSE)
    require("gguf", PURPOSE)
    gguf, folder = Path(gguf), Path(folder)
    if folder.exists() and any(folder.iterdir()):
        raise DataError("the folder for the model is not empty.", where=folder, remedy="name a new one")
    if not gguf.is_file():
        raise DataError("there is no such file.", where=gguf)
    given = {"gguf_file": gguf.name, "local_files_only": True}
    with quiet():
        loaded = transformers.AutoModelForCausalLM.from_pretrained(gguf.parent, dtype="float32", **given)
        tokenizer = transformers.AutoTokenizer.from_pretrained(gguf.parent, **given)
    config = loaded.config
    if hasattr(config, "quantization_config"):
        del config.quantization_config  # a model that came from a GGUF refuses to be saved while this stands
    plain = type(loaded)(config)
    plain.load_state_dict(loaded.state_dict())
    with tempfile.TemporaryDirectory(dir=_above(folder), prefix=".model") as draft:
        place = Path(draft) / "m"
        plain.save_pretrained(place, safe_serialization=True)
        tokenizer.save_pretrained(place)
        if folder.exists():
            folder.rmdir()
        place.replace(folder)
    return folder
