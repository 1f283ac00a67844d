"""Models by path: small random ones, in the layouts that libraries write; pooling and length are read from the folder."""

from __future__ import annotations

import json
import shutil
import warnings
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from palate.errors import BundleError, ConfigError, UnsupportedError
from palate.language.encoder import encoder
from palate.language.encoders.folders import read_folder
from palate.language.encoders.onnx import OnnxEncoder
from palate.language.encoders.static import StaticEncoder
from palate.language.encoders.transformer import TransformerEncoder
from palate.language.reranker import reranker

pytest.importorskip("tokenizers", reason="the text extra is not installed")
TEXTS = ["red bicycle", "red steel pan with a lid", "a", "bicycle " * 100]
WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "red", "bicycle", "steel", "pan", "with", "a", "lid"]


def write_tokenizer(folder: Path) -> None:
    import tokenizers as t

    own = t.Tokenizer(t.models.WordPiece({word: at for at, word in enumerate(WORDS)}, unk_token="[UNK]"))
    own.pre_tokenizer = t.pre_tokenizers.Whitespace()
    own.post_processor = t.processors.TemplateProcessing(
        single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] $B:1 [SEP]:1", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    own.enable_truncation(3)  # settings of an export, which do not count
    own.enable_padding(length=50)
    own.save(str(folder / "tokenizer.json"))


def bert(kind: str = "BertModel", **more: int):
    torch = pytest.importorskip("torch", reason="torch is not installed")
    transformers = pytest.importorskip("transformers", reason="transformers is not installed")
    torch.manual_seed(0)
    config = transformers.BertConfig(
        vocab_size=len(WORDS),
        hidden_size=16,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=32,
        max_position_embeddings=24,
        initializer_range=0.5,
        **more,
    )
    return getattr(transformers, kind)(config).eval()


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of transformers, without a word on pooling."""
    folder = tmp_path_factory.mktemp("plain") / "model"
    bert().save_pretrained(folder)
    write_tokenizer(folder)
    return folder


@pytest.fixture
def copy(plain: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(plain, tmp_path / "model"))


def with_pooling(folder: Path, settings: dict) -> Path:
    (folder / "1_Pooling").mkdir(exist_ok=True)
    (folder / "1_Pooling" / "config.json").write_text(json.dumps(settings))
    kinds = [("", "sentence_transformers.models.Transformer"), ("1_Pooling", "sentence_transformers.models.Pooling")]
    modules = [{"idx": at, "name": str(at), "path": path, "type": kind} for at, (path, kind) in enumerate(kinds)]
    (folder / "modules.json").write_text(json.dumps(modules))
    return folder


def by_hand(folder: Path, pooling: str, length: int = 24) -> np.ndarray:
    """Vectors by the plain definition, a text at a time."""
    import torch
    import transformers

    net = transformers.AutoModel.from_pretrained(folder).eval()
    out = []
    for text in TEXTS:
        ids = [*[2, *(WORDS.index(word) for word in text.split())][: length - 1], 3]
        with torch.no_grad():
            states = net(input_ids=torch.tensor([ids])).last_hidden_state[0].numpy()
        out.append(states.mean(0) if pooling == "mean" else states[0])
    return np.stack(out)


@pytest.mark.parametrize(
    ("settings", "pooling"),
    [
        ({"pooling_mode_cls_token": True, "pooling_mode_mean_tokens": False}, "cls"),
        ({"pooling_mode_cls_token": False, "pooling_mode_mean_tokens": True}, "mean"),
        ({"pooling_mode": "cls"}, "cls"),
        ({"pooling_mode": "mean", "embedding_dimension": 16}, "mean"),
    ],
)
def test_pooling_is_read_from_the_folder(copy: Path, settings: dict, pooling: str) -> None:
    own = encoder(with_pooling(copy, settings), cache=False)
    assert isinstance(own, TransformerEncoder) and own.dim == 16 and own.name == "model"
    assert np.abs(own.encode(TEXTS, normalize=False) - by_hand(copy, pooling)).max() < 1e-5


def test_the_two_poolings_differ(copy: Path) -> None:
    assert np.abs(by_hand(copy, "mean") - by_hand(copy, "cls")).max() > 0.1


def test_pooling_that_nobody_told_is_asked_for(copy: Path) -> None:
    with pytest.raises(ConfigError, match='pooling="mean"'):
        encoder(copy)
    own = encoder(copy, pooling="mean", cache=False)
    assert np.abs(own.encode(TEXTS, normalize=False) - by_hand(copy, "mean")).max() < 1e-5
    with pytest.raises(ConfigError, match="no such pooling"):
        encoder(copy, pooling="max")


@pytest.mark.parametrize(
    "settings",
    [
        {"pooling_mode_max_tokens": True},
        {"pooling_mode_cls_token": True, "pooling_mode_mean_tokens": True},
        {"pooling_mode": "lasttoken"},
    ],
)
def test_other_poolings_are_refused(copy: Path, settings: dict) -> None:
    with pytest.raises(UnsupportedError, match="pooling"):
        encoder(with_pooling(copy, settings))


def test_a_module_behind_the_pooling_is_refused(copy: Path) -> None:
    with_pooling(copy, {"pooling_mode": "cls"})
    modules = json.loads((copy / "modules.json").read_text())
    modules.append({"idx": 2, "name": "2", "path": "2_Dense", "type": "sentence_transformers.models.Dense"})
    (copy / "modules.json").write_text(json.dumps(modules))
    with pytest.raises(UnsupportedError) as caught:
        encoder(copy)
    assert "Dense" in str(caught.value)


def test_the_longest_input_is_read_from_the_folder(copy: Path) -> None:
    assert read_folder(copy).max_length == 24
    (copy / "tokenizer_config.json").write_text('{"model_max_length": 1000000000000000019884624838656}')
    assert read_folder(copy).max_length == 24
    (copy / "sentence_bert_config.json").write_text('{"max_seq_length": 6}')
    own = encoder(copy, pooling="mean", cache=False)
    assert np.abs(own.encode(TEXTS, normalize=False) - by_hand(copy, "mean", 6)).max() < 1e-5


def test_texts_are_put_in_lower_case_where_the_folder_says_so(copy: Path) -> None:
    assert (
        np.abs(
            encoder(copy, pooling="cls", cache=False).encode(["RED pan"])
            - encoder(copy, pooling="cls", cache=False).encode(["red pan"])
        ).max()
        > 1e-3
    )
    before = encoder(copy, pooling="cls", cache=False).fingerprint
    (copy / "sentence_bert_config.json").write_text('{"max_seq_length": 24, "do_lower_case": true}')
    own = encoder(copy, pooling="cls", cache=False)
    assert np.abs(np.diff(own.encode(["RED pan", "red pan"]), axis=0)).max() < 1e-6 and own.fingerprint != before


def test_the_library_reads_a_folder_alike(copy: Path) -> None:
    library = pytest.importorskip("sentence_transformers", reason="sentence-transformers is not installed")
    transformers = pytest.importorskip("transformers")
    fast = transformers.PreTrainedTokenizerFast(
        tokenizer_file=str(copy / "tokenizer.json"), pad_token="[PAD]", unk_token="[UNK]", cls_token="[CLS]", sep_token="[SEP]"
    )
    fast.save_pretrained(copy)
    with_pooling(copy, {"pooling_mode_cls_token": True, "pooling_mode_mean_tokens": False, "word_embedding_dimension": 16})
    theirs = library.SentenceTransformer(str(copy), device="cpu")
    theirs.max_seq_length = 24
    saved = copy.parent / "saved"
    theirs.save(str(saved))
    expected = theirs.encode(TEXTS, normalize_embeddings=False)
    for folder in (copy, saved):
        assert np.abs(encoder(folder, cache=False, max_length=24).encode(TEXTS, normalize=False) - expected).max() < 1e-5


def test_damaged_and_empty_folders(copy: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(BundleError, match="no model"):
        encoder(tmp_path / "empty")
    weights = copy / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-50])
    with pytest.raises(BundleError):
        encoder(copy, pooling="mean").encode(["a"])
    weights.unlink()
    (copy / "pytorch_model.bin").write_bytes(b"a pickle")
    with pytest.raises(BundleError, match="safetensors"):
        encoder(copy, pooling="mean")
    (copy / "tokenizer.json").unlink()
    with pytest.raises(BundleError, match=r"tokenizer\.json"):
        encoder(copy, pooling="mean")
    (copy / "tokenizer.json").write_text("{")
    with pytest.raises(BundleError, match="tokenizer"):
        encoder(copy, pooling="mean")
    (copy / "modules.json").write_text("[")
    with pytest.raises(BundleError, match="can't be read"):
        encoder(copy, pooling="mean")


def test_the_fingerprint_follows_the_weights(copy: Path, plain: Path) -> None:
    first = encoder(copy, pooling="mean", cache=False).fingerprint
    assert first == encoder(plain, pooling="mean", cache=False).fingerprint
    assert first != encoder(copy, pooling="cls", cache=False).fingerprint
    import torch

    net = bert()
    with torch.no_grad():
        net.embeddings.word_embeddings.weight[5, 0] += 1e-3
    net.save_pretrained(copy)
    assert encoder(copy, pooling="mean", cache=False).fingerprint != first


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same network as an ONNX folder, and a cross-encoder beside it."""
    torch = pytest.importorskip("torch")
    pytest.importorskip("onnxruntime", reason="the text extra is not installed")
    pytest.importorskip("onnx", reason="onnx, which torch needs to export, is not installed")
    base = tmp_path_factory.mktemp("exported")
    ones = torch.ones((1, 4), dtype=torch.int64)
    kinds = {"encoder": ("BertModel", "last_hidden_state"), "cross": ("BertForSequenceClassification", "logits")}
    for name, (kind, output) in kinds.items():
        (base / name).mkdir()
        write_tokenizer(base / name)
        net = bert(kind, **({"num_labels": 1} if name == "cross" else {}))
        net.save_pretrained(base / f"{name}-torch")
        dynamic = {key: {0: "batch", 1: "length"} for key in ("input_ids", "attention_mask", "token_type_ids")}

        class Alone(torch.nn.Module):
            def __init__(self, own: torch.nn.Module) -> None:
                super().__init__()
                self.own = own

            def forward(self, ids, mask, types):
                return self.own(input_ids=ids, attention_mask=mask, token_type_ids=types)[0]

        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch's word on its two exporters
            torch.onnx.export(
                Alone(net),
                (ones, ones, ones * 0),
                str(base / name / "model.onnx"),
                input_names=["input_ids", "attention_mask", "token_type_ids"],
                output_names=[output],
                dynamic_axes={**dynamic, output: {0: "batch", **({1: "length"} if name == "encoder" else {})}},
                dynamo=False,
            )
        (base / name / "config.json").write_text('{"max_position_embeddings": 24}')
    return base


def test_onnx_gives_the_vectors_of_torch(exported: Path, plain: Path) -> None:
    own = encoder(exported / "encoder", pooling="mean", cache=False)
    assert isinstance(own, OnnxEncoder) and own.dim == 16 and not own._session.dynamic
    assert np.abs(own.encode(TEXTS, normalize=False) - by_hand(plain, "mean")).max() < 1e-5
    with pytest.raises(ConfigError, match="pooled"):
        encoder(exported / "encoder")


def test_a_cross_encoder_by_path(exported: Path) -> None:
    import torch
    import transformers

    own = reranker(exported / "cross")
    net = transformers.AutoModelForSequenceClassification.from_pretrained(exported / "cross-torch").eval()
    ids = [[2, 4, 3, *(WORDS.index(word) for word in text.split()), 3] for text in TEXTS[:3]]
    types = [[0, 0, 0] + [1] * (len(row) - 3) for row in ids]
    with torch.no_grad():
        rows = [
            net(input_ids=torch.tensor([i]), token_type_ids=torch.tensor([t])).logits.item()
            for i, t in zip(ids, types, strict=True)
        ]
    assert np.allclose(own.score("red", TEXTS[:3]), rows, atol=1e-5)
    with pytest.raises(BundleError, match="one logit"):
        reranker(exported / "encoder")


def test_a_damaged_onnx_file_is_refused(tmp_path: Path) -> None:
    pytest.importorskip("onnxruntime", reason="the text extra is not installed")
    write_tokenizer(tmp_path)
    (tmp_path / "model.onnx").write_bytes(b"no onnx")
    for make in (lambda: encoder(tmp_path, pooling="mean"), lambda: reranker(tmp_path)):
        with pytest.raises(BundleError, match="ONNX file"):
            make()


def test_static_vectors_by_path(tmp_path: Path) -> None:
    write_tokenizer(tmp_path)
    table = np.random.default_rng(0).standard_normal((len(WORDS), 5), np.float32)
    save_file({"embedding.weight": table}, tmp_path / "any.safetensors")
    own = encoder(tmp_path)
    assert isinstance(own, StaticEncoder) and own.dim == 5
    expected = [table[[4, 5]].mean(0), table[1], table[[5] * 100].mean(0)]
    assert np.allclose(own.encode(["red bicycle", "unknown", TEXTS[3]], normalize=False), expected, atol=1e-6)
    save_file({"embedding.weight": table[:-1]}, tmp_path / "any.safetensors")
    with pytest.raises(BundleError, match="more tokens"):
        encoder(tmp_path)
    save_file({"a": table, "b": table}, tmp_path / "any.safetensors")
    with pytest.raises(BundleError, match="one matrix"):
        encoder(tmp_path)
