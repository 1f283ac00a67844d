"""Towers of texts: text encoders with weights that learn, and what they become afterwards.

A tower reads texts once (``read``), gives their vectors with a gradient (``forward``) and, after training, the parts of a plain
encoder (``packed``), which :func:`unpacked` writes and :func:`palate.language.encoder.encoder` opens by its path. The loss of
two sides in one space is :func:`alignment`.

    L = -1/B Σ_b ln( e^{cos(u_b, p_b)/τ} / ( Σ_c e^{cos(u_b, p_c)/τ} + Σ_c e^{cos(u_b, n_c)/τ} ) )

Source: X. Ren, C. Huang, "EasyRec: Simple yet Effective Language Models for Recommendation", EMNLP 2025; masked words:
J. Devlin et al., "BERT", NAACL 2019, section 3.1.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from palate.data.whole import whole_folder
from palate.errors import BundleError, ConfigError, UnsupportedError
from palate.language.encoder import TextEncoder
from palate.language.encoders.batches import Tokens, padded
from palate.language.encoders.folders import chosen_pooling, read_folder
from palate.language.encoders.hashed import FILE, HashedEncoder
from palate.language.encoders.tokenizer import Tokenizer
from palate.language.encoders.transformer import TransformerEncoder, load_transformer
from palate.nn import towers
from palate.nn.contrast import contrast
from palate.nn.unit import TINY

#: A label without a loss.
IGNORED = -100


class HashedTower(nn.Module):
    """The tower of a :class:`~palate.language.encoders.hashed.HashedEncoder`; its idf and its buckets stay.

    Parameters
    ----------
    encoder
        Where the weights begin.
    """

    def __init__(self, encoder: HashedEncoder) -> None:
        super().__init__()
        self.encoder = encoder
        self.table = nn.Parameter(torch.from_numpy(encoder.table.copy()))
        hidden = [len(w) for w, _ in encoder.layers[:-1]]
        self.layers = towers.Tower(encoder.table.shape[1], hidden, encoder.dim, np.random.default_rng(0))
        with torch.no_grad():
            for at, (weight, bias) in enumerate(encoder.layers):
                self.layers.weights[at].copy_(torch.from_numpy(weight))
                self.layers.biases[at].copy_(torch.from_numpy(bias))

    def read(self, texts: Sequence[str]) -> list[tuple[np.ndarray, np.ndarray]]:
        """Return buckets and weights of each text."""
        bags = self.encoder.bags(texts)
        bounds = list(zip(bags.indptr[:-1], bags.indptr[1:], strict=True))
        return [(bags.indices[low:high].astype(np.int64), bags.data[low:high]) for low, high in bounds]

    def forward(self, texts: Sequence[tuple[np.ndarray, np.ndarray]]) -> Tensor:
        """Return ``float32[n, dim]`` of length one, for texts as :meth:`read` gave them; 0 for a text without a word.

        Such a text has no direction that could be learnt: at length 0 the gradient of a direction has no bound.
        """
        device = self.table.device
        lengths = torch.tensor([len(columns) for columns, _ in texts], device=device)
        columns = torch.from_numpy(np.concatenate([c for c, _ in texts])).to(device)
        weights = torch.from_numpy(np.concatenate([w for _, w in texts])).to(device)
        offsets = torch.cumsum(lengths, 0) - lengths
        x = functional.embedding_bag(columns, self.table, offsets, mode="sum", per_sample_weights=weights)
        said = torch.nonzero(lengths).ravel()
        return x.new_zeros((len(x), self.encoder.dim)).index_copy(0, said, self.layers(x[said]))

    def masked_words(self, texts: Sequence[Any], share: float, rng: np.random.Generator) -> Tensor:
        """Refuse: a bag of words has no place for a word."""
        raise no_head("a hashed encoder")

    def packed(self) -> dict[str, np.ndarray]:
        """Return the encoder of the weights as they are now, for :func:`opened`."""
        old = self.encoder
        layers = [
            (w.detach().cpu().numpy().copy(), b.detach().cpu().numpy().copy())
            for w, b in zip(self.layers.weights, self.layers.biases, strict=True)
        ]
        table = self.table.detach().cpu().numpy().copy()
        made = HashedEncoder(table, layers, idf=old.idf, subwords=old.subwords, name=old.name)
        return {f"hashed/{name}": array for name, array in made.state().items()}


class TransformerTower(nn.Module):
    """The tower of a transformer in a local folder.

    Parameters
    ----------
    folder
        With ``config.json``, ``model.safetensors`` and ``tokenizer.json``.
    pooling
        ``"mean"`` or ``"cls"`` where the folder doesn't say.
    max_tokens
        Most tokens of a text, in training and afterwards.
    words
        Whether masked words are to be learnt, which needs a folder with a head for them.

    Raises
    ------
    UnsupportedError
        If it has no such head.
    BundleError
        If it can't be read.
    """

    def __init__(self, folder: str | Path, *, pooling: str | None, max_tokens: int, words: bool) -> None:
        super().__init__()
        found = read_folder(folder)
        self.pooling = chosen_pooling(found.pooling or pooling, found.path)
        self.max_tokens, self.lower = min(max_tokens, found.max_length), found.lower
        self.tokenizer_file = found.tokenizer.read_bytes() if found.tokenizer.is_file() else b""
        self.tokenizer = Tokenizer(found.tokenizer, self.max_tokens, found.path.name, lower=found.lower)
        whole = _load(found.transformer, words)
        self.whole = whole
        own = self.tokenizer._own
        mark = next((own.token_to_id(word) for word in ("[MASK]", "<mask>") if own.token_to_id(word) is not None), None)
        if words and mark is None:
            raise UnsupportedError("the tokenizer has no mark for a masked word.", where=found.tokenizer, remedy="mlm_weight=0")
        self.mark, self.n_words = mark, len(self.tokenizer)
        marks = (own.token_to_id(word) for word in ("[CLS]", "[SEP]", "[PAD]", "<s>", "</s>", "<pad>"))
        self.special = np.array([number for number in marks if number is not None], np.int64)

    @property
    def model(self) -> Any:
        """The transformer without its head."""
        return self.whole.base_model

    def read(self, texts: Sequence[str]) -> list[Tokens]:
        """Return the tokens of each text."""
        return self.tokenizer.tokens(texts)

    def forward(self, texts: Sequence[Tokens]) -> Tensor:
        """Return ``float32[n, dim]`` of length one, for texts as :meth:`read` gave them."""
        ids, mask = self._batch(texts)
        states = self.model(input_ids=ids, attention_mask=mask).last_hidden_state
        if self.pooling == "cls":
            pooled = states[:, 0]
        else:
            weights = mask[:, :, None].to(states.dtype)
            pooled = (states * weights).sum(1) / weights.sum(1).clamp(min=1)
        return functional.normalize(pooled.float(), dim=1, eps=TINY)

    def masked_words(self, texts: Sequence[Tokens], share: float, rng: np.random.Generator) -> Tensor:
        """Return the cross-entropy of masked words, over those that were masked (0 where none was)."""
        ids, mask = self._batch(texts)
        free = mask.cpu().numpy().astype(bool) & ~np.isin(ids.cpu().numpy(), self.special)
        assert self.mark is not None
        shown, labels = mask_words(ids.cpu().numpy(), free, share, self.mark, self.n_words, rng)
        if not (labels != IGNORED).any():
            return ids.new_zeros((), dtype=torch.float32)
        scores = self.whole(input_ids=torch.from_numpy(shown).to(ids.device), attention_mask=mask).logits
        wanted = torch.from_numpy(labels).to(ids.device)
        return functional.cross_entropy(scores.flatten(0, 1).float(), wanted.flatten(), ignore_index=IGNORED)

    def packed(self) -> dict[str, np.ndarray]:
        """Return the encoder of the weights as they are now (without its head of words), for :func:`opened`: bytes of files."""
        with tempfile.TemporaryDirectory() as work:
            folder = Path(work)
            self.model.save_pretrained(folder, safe_serialization=True)
            (folder / "tokenizer.json").write_bytes(self.tokenizer_file)
            (folder / "1_Pooling").mkdir()
            (folder / "1_Pooling" / "config.json").write_text(json.dumps({_FLAGS[self.pooling]: True}))
            settings = {"max_seq_length": self.max_tokens, "do_lower_case": self.lower}
            (folder / "sentence_bert_config.json").write_text(json.dumps(settings))
            files = [path for path in sorted(folder.rglob("*")) if path.is_file()]
            return {f"file/{path.relative_to(folder).as_posix()}": np.fromfile(path, np.uint8) for path in files}

    def _batch(self, texts: Sequence[Tokens]) -> tuple[Tensor, Tensor]:
        batch = padded(texts, np.arange(len(texts)), self.tokenizer.pad)
        device = next(self.parameters()).device
        return torch.from_numpy(batch.ids).to(device), torch.from_numpy(batch.mask).to(device)


#: A text encoder with weights that learn.
Tower: TypeAlias = HashedTower | TransformerTower

_FLAGS = {"mean": "pooling_mode_mean_tokens", "cls": "pooling_mode_cls_token"}


def opened(packed: Mapping[str, np.ndarray]) -> TextEncoder:
    """Return the encoder that a tower packed.

    Raises
    ------
    BundleError
        If the parts are not those of an encoder.
    """
    if "hashed/table" in packed:
        return HashedEncoder.of_state({name.removeprefix("hashed/"): array for name, array in packed.items()})
    with tempfile.TemporaryDirectory() as work:
        made = TransformerEncoder(unpacked(packed, Path(work) / "encoder"), name="tuned", cache=False)
        _ = made.fingerprint  # while its files are there
    return made


def unpacked(packed: Mapping[str, np.ndarray], folder: Path) -> Path:
    """Write the encoder that a tower packed into a folder, for :func:`palate.language.encoder.encoder`; return the folder.

    Raises
    ------
    BundleError
        If the parts are not those of an encoder.
    DataError
        If there is something else of that name.
    """
    if "hashed/table" in packed:
        return HashedEncoder.of_state({name.removeprefix("hashed/"): array for name, array in packed.items()}).save(folder)
    files = {name.removeprefix("file/"): array for name, array in packed.items()}
    if "config.json" not in files or any(name.startswith("/") or ".." in name.split("/") for name in files):
        raise BundleError("the files are not those of a text encoder.", value=sorted(files), remedy="fit the model again")
    with whole_folder(folder, "sentence_bert_config.json") as work:
        for name, array in files.items():
            (work / name).parent.mkdir(parents=True, exist_ok=True)
            array.tofile(work / name)
    return folder


def tower_of(folder: str | Path, *, pooling: str | None, max_tokens: int, words: bool) -> Tower:
    """Return a tower that begins with the encoder of a folder.

    Raises
    ------
    ConfigError
        If there is none of that name, or it has no weights that can be tuned.
    UnsupportedError
        If masked words are wanted (``words``), and it has no head for them.
    """
    path = Path(folder)
    if (path / FILE).is_file():
        if words:
            raise no_head(str(folder))
        return HashedTower(HashedEncoder.load(path))
    if not (path.is_dir() and list(path.rglob("config.json"))):
        remedy = 'give "hashed", "minilm", or the folder of a transformer or of a hashed encoder'
        raise ConfigError("there is no encoder that can be tuned.", where="encoder", value=str(folder), remedy=remedy)
    return TransformerTower(path, pooling=pooling, max_tokens=max_tokens, words=words)


def alignment(people: Tensor, had: Tensor, others: Tensor, temperature: float, hidden: Tensor | None = None) -> Tensor:
    """Return the cross-entropy of each person's own item among all items of the batch (see the module's text).

    Parameters
    ----------
    people, had
        ``float32[B, d]``: people, and an item that each of them had.
    others
        ``float32[m, d]``: items that count as negatives for all, beside the others' items.
    temperature
        τ.
    hidden
        ``bool[B, B + m]``: negatives that don't count for a row (an item of its own that stands elsewhere in the batch). Its
        own place, ``[b, b]``, is never hidden. ``None``: all count.
    """
    vectors, own = torch.cat([had, others]), torch.arange(len(people), device=people.device)
    if hidden is None or not bool(hidden.any()):
        return contrast(people, vectors, temperature, own)
    a, b = (functional.normalize(v, dim=1, eps=TINY) for v in (people, vectors))
    kept = hidden & ~torch.eye(len(people), len(vectors), dtype=torch.bool, device=people.device)
    return functional.cross_entropy((a @ b.T / temperature).masked_fill(kept, float("-inf")), own)


def mask_words(
    ids: np.ndarray, free: np.ndarray, share: float, mark: int, n_words: int, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Return tokens with some of them masked, and the labels: the token where it is to be told, else ``IGNORED``.

    Of the tokens chosen, 80% become the mark, 10% a random word, and 10% stay.

    Parameters
    ----------
    ids
        ``int64[n, length]``.
    free
        ``bool[n, length]``: which may be chosen (no marks, nothing that fills up).
    share
        Chance of each.
    mark, n_words
        Number of the mark, and how many tokens there are.
    """
    chosen = free & (rng.random(ids.shape) < share)
    how = rng.random(ids.shape)
    shown = np.where(chosen & (how < 0.8), mark, ids)
    shown = np.where(chosen & (how >= 0.8) & (how < 0.9), rng.integers(n_words, size=ids.shape), shown)
    return shown, np.where(chosen, ids, IGNORED)


def _load(folder: Path, words: bool) -> Any:
    """Return the model of a folder, with its head of words if wanted."""
    model, missing = load_transformer(folder, "a transformer that learns", words=words)
    if words and any("pooler" not in name and "position_ids" not in name for name in missing):
        raise no_head(str(folder))
    return model


def no_head(what: str) -> UnsupportedError:
    """Return the error of an encoder that can't tell masked words."""
    remedy = "set mlm_weight=0, or give the folder of a masked language model"
    return UnsupportedError("masked words need an encoder with a head that tells words.", where=what, remedy=remedy)
