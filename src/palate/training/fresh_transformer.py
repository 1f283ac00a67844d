"""A small transformer with weights that nothing has been learnt in, over byte pairs of the texts at hand, as a local folder."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch

from palate.extras import require
from palate.language.byte_pairs import BytePairs

#: Marks that a transformer needs beside the pieces of words.
MARKS = ("[PAD]", "[CLS]", "[SEP]", "[MASK]")


def fresh_transformer(
    folder: str | Path,
    texts: Sequence[str],
    *,
    seed: int = 0,
    pieces: int = 8_192,
    dim: int = 128,
    layers: int = 2,
    heads: int = 4,
    max_tokens: int = 64,
) -> Path:
    """Write a folder that :func:`palate.language.encoder.encoder` and a tower open, and return it.

    Parameters
    ----------
    folder
        Made if it is missing.
    texts
        The byte pairs are learnt from these.
    seed
        Fixes the weights.
    pieces, dim, layers, heads, max_tokens
        Most byte pairs, width (four times as much inside), layers, heads, and the longest text.
    """
    library, transformers = require("tokenizers", "a fresh transformer"), require("transformers", "a fresh transformer")
    path = Path(folder)
    path.mkdir(parents=True, exist_ok=True)
    own = library.Tokenizer.from_str(BytePairs.learn(texts, pieces, "a fresh transformer").text)
    own.add_special_tokens(list(MARKS))
    ends = [(mark, own.token_to_id(mark)) for mark in ("[CLS]", "[SEP]")]
    own.post_processor = library.processors.TemplateProcessing(single="[CLS] $A [SEP]", special_tokens=ends)
    own.save(str(path / "tokenizer.json"))
    config = transformers.BertConfig(
        vocab_size=own.get_vocab_size(),
        hidden_size=dim,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        intermediate_size=4 * dim,
        max_position_embeddings=max_tokens,
        pad_token_id=own.token_to_id("[PAD]"),
    )
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        transformers.BertForMaskedLM(config).save_pretrained(path)
    return path
