"""A folder of a causal language model for ``transformers``, run by torch; the form that can be fine-tuned.

Only safetensors are read, and no code of the folder is run. The engine has no grammar: answers under a schema are validated and
tried again. For answers alone a GGUF file is several times faster on a CPU (:mod:`palate.language.models.gguf`).
"""

from __future__ import annotations

import hashlib
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from palate.errors import DataError, MissingExtraError
from palate.extras import require
from palate.language.failures import AnswerTimeoutError, LanguageModelError
from palate.language.model import Answer, Call, LanguageModel, Message, Settings
from palate.language.models.gguf import file_sha256

if TYPE_CHECKING:
    import torch

PURPOSE = "A language model from a local folder"


class LocalModel(LanguageModel):
    """A language model from a transformers folder, with a LoRA adapter where one is named.

    Parameters
    ----------
    folder
        Holds ``config.json``, safetensors and the tokenizer.
    adapter
        A folder made by :func:`palate.language.fine_tune.fine_tune`, or ``None``.
    device
        Of torch.
    settings, timeout
        Of calls that name none.

    Raises
    ------
    DataError
        If the folder is no such model.
    """

    kind = "transformers folder"
    exact_tokens = True

    def __init__(
        self,
        folder: str | Path,
        *,
        adapter: str | Path | None = None,
        device: str = "cpu",
        settings: Settings | None = None,
        timeout: float = 300.0,
    ) -> None:
        self.folder, self.adapter = Path(folder), None if adapter is None else Path(adapter)
        self.device, self.settings, self.timeout = device, settings or Settings(), timeout
        self._torch = require("torch", PURPOSE)
        self.tokenizer, network = load_folder(self.folder)
        if self.adapter is not None:
            network = with_adapter(network, self.adapter)
        self.network = network.to(device).eval()
        self.special_tokens = tuple(map(str, self.tokenizer.all_special_tokens))
        self._lock = threading.Lock()

    @property
    def name(self) -> str:
        """The folder's name, and the adapter's."""
        return self.folder.name if self.adapter is None else f"{self.folder.name} + {self.adapter.name}"

    @property
    def fingerprint(self) -> str:
        """Hash of every file that shapes answers."""
        folders = [self.folder] if self.adapter is None else [self.folder, self.adapter]
        files = [
            path
            for folder in folders
            for path in sorted(folder.iterdir())
            if path.suffix in (".json", ".safetensors", ".jinja", ".model")
        ]
        told = "\n".join(f"{path.name} {file_sha256(path)}" for path in files)
        return f"transformers:{hashlib.sha256(told.encode()).hexdigest()}"

    def count_tokens(self, text: str) -> int:
        """Return the exact number of tokens of a text (without those that the chat template adds)."""
        return len(self.tokenizer(text, add_special_tokens=False)["input_ids"])

    def answer(self, call: Call) -> Answer:
        """Answer one call; calls from several threads take turns."""
        with self._lock:
            return self._generate(call, None)

    def pieces(self, call: Call) -> Iterator[str | Answer]:
        """Yield an answer as it is written; leaving the loop early stops it."""
        from transformers import TextIteratorStreamer

        streamer: Any = TextIteratorStreamer(self.tokenizer, skip_prompt=True, skip_special_tokens=True)
        stop = threading.Event()
        done: list[Answer | Exception] = []

        def work() -> None:
            try:
                with self._lock:
                    done.append(self._generate(call, streamer, stop))
            except Exception as error:
                done.append(error)
                streamer.end()

        worker = threading.Thread(target=work, name="palate-local", daemon=True)
        worker.start()
        try:
            yield from before_stop(filter(None, streamer), call.settings.stop)
        finally:
            stop.set()
            worker.join()
        if isinstance(done[0], Exception):
            raise done[0]
        yield done[0]

    def hidden_states(self, texts: Sequence[str]) -> np.ndarray:
        """Return ``float32[n, dim]``, the mean of the last hidden states over each text's tokens."""
        rows = []
        with self._lock, self._torch.inference_mode():
            for text in texts:
                ids = self.tokenizer(text, return_tensors="pt")["input_ids"].to(self.device)
                if ids.shape[1] == 0:
                    raise LanguageModelError("a text without tokens has no hidden states.", where=self.name, value=text)
                self._fits(ids.shape[1], 0)
                states = self.network(input_ids=ids, output_hidden_states=True).hidden_states[-1]
                rows.append(states[0].mean(0).float().cpu().numpy())
        return np.stack(rows) if rows else np.zeros((0, self.network.config.hidden_size), np.float32)

    def prompt_ids(self, call: Call) -> torch.Tensor:
        """Return ``int64[1, n]`` tokens of what a call sends."""
        if call.prompt is not None:
            ids = self.tokenizer(call.prompt, return_tensors="pt")["input_ids"]
        else:
            ids = self.tokenizer(
                written(self.tokenizer, call.messages, answering=True), return_tensors="pt", add_special_tokens=False
            )["input_ids"]
        return ids.to(self.device)

    def _fits(self, tokens: int, more: int) -> None:
        most = getattr(self.network.config, "max_position_embeddings", None)
        if most is not None and tokens + more > most:
            raise LanguageModelError(
                "prompt and answer are longer than the model reads.",
                where=self.name,
                value=f"{tokens} + {more} > {most} tokens",
                remedy="shorten the prompt, or lower max_tokens",
            )

    def _generate(self, call: Call, streamer: Any, stop: threading.Event | None = None) -> Answer:
        from transformers import StoppingCriteriaList

        s, torch = call.settings, self._torch
        start = time.monotonic()
        ids = self.prompt_ids(call)
        self._fits(ids.shape[1], s.max_tokens)
        watch = _Watch(self.tokenizer, ids.shape[1], s.stop, start + call.timeout, stop)
        sampled = {"temperature": s.temperature, "top_p": s.top_p, "top_k": 0} if s.temperature > 0 else {}
        with torch.inference_mode(), torch.random.fork_rng(devices=[] if self.device == "cpu" else None):
            torch.manual_seed(s.seed)
            out = self.network.generate(
                input_ids=ids,
                attention_mask=torch.ones_like(ids),
                max_new_tokens=s.max_tokens,
                do_sample=s.temperature > 0,
                pad_token_id=_pad(self.tokenizer),
                stopping_criteria=StoppingCriteriaList([watch]),
                streamer=streamer,
                **sampled,
            )
        if watch.late:
            remedy = "raise the timeout, or lower max_tokens"
            raise AnswerTimeoutError(f"no whole answer in {call.timeout:g} s.", where=self.name, remedy=remedy)
        new = out[0, ids.shape[1] :]
        text = "".join(before_stop([self.tokenizer.decode(new, skip_special_tokens=True)], s.stop))
        finish = "length" if len(new) >= s.max_tokens and not watch.met else "stop"
        return Answer(text, finish, int(ids.shape[1]), len(new), time.monotonic() - start)


class _Watch:
    """Stops an answer at a stop text, when time is up, or when nobody reads on."""

    def __init__(self, tokenizer: Any, begin: int, stops: Sequence[str], deadline: float, stop: threading.Event | None) -> None:
        self.tokenizer, self.begin, self.stops, self.deadline, self.stop = tokenizer, begin, stops, deadline, stop
        self.late = self.met = False

    def __call__(self, input_ids: torch.Tensor, scores: Any, **kwargs: Any) -> Any:
        import torch

        self.late = time.monotonic() > self.deadline
        if self.stops:
            text = self.tokenizer.decode(input_ids[0, self.begin :], skip_special_tokens=True)
            self.met = any(stop in text for stop in self.stops)
        ended = self.late or self.met or (self.stop is not None and self.stop.is_set())
        return torch.full((input_ids.shape[0],), ended, dtype=torch.bool, device=input_ids.device)


def before_stop(pieces: Iterator[str] | Sequence[str], stops: Sequence[str]) -> Iterator[str]:
    """Yield pieces up to the first stop text, which may lie across pieces."""
    held, longest = "", max((len(stop) for stop in stops), default=1)
    for piece in pieces:
        held += piece
        found = [at for at in (held.find(stop) for stop in stops) if at >= 0]
        if found:
            if held[: min(found)]:
                yield held[: min(found)]
            return
        ready = len(held) - (longest - 1)
        if ready > 0:
            yield held[:ready]
            held = held[ready:]
    if held:
        yield held


def written(tokenizer: Any, messages: Sequence[Message], *, answering: bool) -> str:
    """Return a chat as the text that the model was trained on: by its chat template, else plain paragraphs."""
    if tokenizer.chat_template:
        text = tokenizer.apply_chat_template([m.to_dict() for m in messages], tokenize=False, add_generation_prompt=answering)
        return str(text)
    paragraphs = [m.content for m in messages]
    return "\n\n".join(paragraphs) + ("\n\n" if answering else "")


def load_folder(folder: Path) -> tuple[Any, Any]:
    """Return the tokenizer and the network (float32) of a folder; nothing is fetched, and no code of it runs."""
    transformers = require("transformers", PURPOSE)
    if not (folder / "config.json").is_file():
        raise DataError(
            "this is no folder of a model.", where=folder, remedy="it needs config.json, safetensors and a tokenizer"
        )
    try:
        with quiet():
            return _read(transformers, folder)
    except MissingExtraError:
        raise
    except (OSError, ValueError, KeyError) as error:
        raise DataError(
            f"the model can't be loaded: {str(error)[:300]}", where=folder, remedy="only safetensors are read"
        ) from None


@contextmanager
def quiet() -> Iterator[None]:
    """Keep transformers' own bars off the screen."""
    logging = require("transformers.utils.logging", PURPOSE)
    shown = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        if shown:
            logging.enable_progress_bar()


def _read(transformers: Any, folder: Path) -> tuple[Any, Any]:
    here = {"local_files_only": True, "trust_remote_code": False}
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder, **here)
    network = transformers.AutoModelForCausalLM.from_pretrained(folder, use_safetensors=True, dtype="float32", **here)
    return tokenizer, network


def with_adapter(network: Any, adapter: Path) -> Any:
    """Return a network with a LoRA adapter on it."""
    peft = require("peft", "A LoRA adapter")
    if not (adapter / "adapter_model.safetensors").is_file():
        raise DataError("this is no folder of an adapter.", where=adapter, remedy="make one: palate.language.fine_tune")
    return peft.PeftModel.from_pretrained(network, adapter, local_files_only=True)


def _pad(tokenizer: Any) -> int:
    for found in (tokenizer.pad_token_id, tokenizer.eos_token_id):
        if found is not None:
            return int(found)
    return 0
