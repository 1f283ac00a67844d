"""A GGUF file becomes a transformers folder: a tiny Llama written here gives the same scores and tokens on the other side."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from palate.errors import DataError
from palate.extras import available
from palate.language.fine_tune import convert_gguf, fine_tune
from palate.language.models.local import LocalModel, load_folder

pytestmark = pytest.mark.skipif(
    not all(map(available, ("torch", "transformers", "peft", "gguf"))), reason="needs the extra lm-train"
)

HEADS, WIDE, LAYERS = 2, 32, 2
WORDS = ["<s>", "</s>", "<unk>", *"abcdefgh", "Ġ", "ab", "cd", "abcd", "Ġab"]
MERGES = ["a b", "c d", "ab cd", "Ġ ab"]
#: Names of a layer's weights, there and in transformers.
NAMES = {
    "attn_norm": "input_layernorm", "attn_q": "self_attn.q_proj", "attn_k": "self_attn.k_proj", "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj", "ffn_norm": "post_attention_layernorm", "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj", "ffn_down": "mlp.down_proj",
}  # fmt: skip


def tiny_llama() -> Any:
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=len(WORDS), hidden_size=WIDE, intermediate_size=64, num_hidden_layers=LAYERS, num_attention_heads=HEADS,
        num_key_value_heads=HEADS, max_position_embeddings=64, initializer_range=0.4, tie_word_embeddings=False,
        bos_token_id=0, eos_token_id=1,
    )  # fmt: skip
    return LlamaForCausalLM(config).eval()


def turned(weights: np.ndarray) -> np.ndarray:
    """Rows in the order that the file format has for rotary positions: pairs side by side, not halves."""
    return weights.reshape(HEADS, 2, len(weights) // HEADS // 2, -1).swapaxes(1, 2).reshape(weights.shape)


def write(network: Any, path: Path, quantized: bool) -> None:
    """Write the network as a GGUF file; ``quantized``: the matrices of the feed-forward parts in eight bits."""
    import gguf

    writer = gguf.GGUFWriter(path, "llama")
    writer.add_context_length(64)
    writer.add_embedding_length(WIDE)
    writer.add_block_count(LAYERS)
    writer.add_feed_forward_length(64)
    writer.add_head_count(HEADS)
    writer.add_head_count_kv(HEADS)
    writer.add_layer_norm_rms_eps(1e-6)
    writer.add_rope_freq_base(10_000.0)
    writer.add_rope_dimension_count(WIDE // HEADS)
    writer.add_vocab_size(len(WORDS))
    writer.add_tokenizer_model("gpt2")
    writer.add_token_list(WORDS)
    writer.add_token_types([3, 3, 3, *[1] * (len(WORDS) - 3)])
    writer.add_token_merges(MERGES)
    writer.add_bos_token_id(0)
    writer.add_eos_token_id(1)
    own = {name: value.numpy() for name, value in network.state_dict().items()}
    writer.add_tensor("token_embd.weight", own["model.embed_tokens.weight"])
    writer.add_tensor("output_norm.weight", own["model.norm.weight"])
    writer.add_tensor("output.weight", own["lm_head.weight"])
    for layer in range(LAYERS):
        for there, here in NAMES.items():
            values = own[f"model.layers.{layer}.{here}.weight"]
            values = turned(values) if there in ("attn_q", "attn_k") else values
            kind = gguf.GGMLQuantizationType.Q8_0 if quantized and "ffn_" in there and "norm" not in there else None
            values = np.ascontiguousarray(values) if kind is None else gguf.quants.quantize(values, kind)
            writer.add_tensor(f"blk.{layer}.{there}.weight", values, raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


@pytest.fixture(scope="module")
def network() -> Any:
    return tiny_llama()


@pytest.fixture(scope="module", params=[False, True], ids=["float", "quantized"])
def converted(request: pytest.FixtureRequest, network: Any, tmp_path_factory: pytest.TempPathFactory) -> tuple[bool, Path]:
    place = tmp_path_factory.mktemp("gguf")
    write(network, place / "tiny.gguf", request.param)
    return request.param, convert_gguf(place / "tiny.gguf", place / "folder" / "tiny")


def test_the_folder_says_what_the_network_said(network: Any, converted: tuple[bool, Path]) -> None:
    import torch

    quantized, folder = converted
    _, found = load_folder(folder)
    ids = torch.tensor([[0, 3, 13, 5, 8, 15]])
    with torch.no_grad():
        wanted, got = network(ids).logits, found(ids).logits
    assert next(found.parameters()).dtype == torch.float32
    if quantized:
        # Eight bits a weight: near, but not the same.
        assert 1e-5 < float((wanted - got).abs().max()) < 0.1 * float(wanted.abs().max())
    else:
        torch.testing.assert_close(got, wanted, rtol=1e-4, atol=1e-5)


def test_its_tokenizer_merges_as_the_file_says(converted: tuple[bool, Path]) -> None:
    tokenizer, _ = load_folder(converted[1])
    pieces = [WORDS[number] for number in tokenizer("abcd ab", add_special_tokens=False)["input_ids"]]
    assert pieces == ["abcd", "Ġab"]
    assert tokenizer.eos_token_id == 1


def test_it_holds_plain_files_and_can_be_tuned(converted: tuple[bool, Path], tmp_path: Path) -> None:
    folder = converted[1]
    assert {"config.json", "model.safetensors", "tokenizer.json"} <= {path.name for path in folder.iterdir()}
    assert "quantization_config" not in (folder / "config.json").read_text()
    assert [path.name for path in folder.parent.iterdir()] == ["tiny"]
    record = fine_tune(folder, ["abcd ab", "ab abcd"], tmp_path / "adapter", seed=0, epochs=10, lr=0.02)
    assert record.losses[-1] < record.losses[0]
    assert LocalModel(folder, adapter=tmp_path / "adapter").count_tokens("abcd ab") == 2


def test_what_is_in_the_way_is_named(network: Any, tmp_path: Path) -> None:
    write(network, tmp_path / "tiny.gguf", False)
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "notes.txt").write_text("mine")
    with pytest.raises(DataError, match="not empty"):
        convert_gguf(tmp_path / "tiny.gguf", tmp_path / "full")
    assert (tmp_path / "full" / "notes.txt").read_text() == "mine"
    with pytest.raises(DataError, match="no such file"):
        convert_gguf(tmp_path / "absent.gguf", tmp_path / "new")
    assert not (tmp_path / "new").exists()
