"""EasyRec: batches, profiles without the target, people and items that are new, transfer, the encoder as one for others."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

pytest.importorskip("torch")

from palate.contracts.requests import Requests
from palate.data.dataset import Dataset, Entities
from palate.data.histories import Histories
from palate.data.mixture import mixed
from palate.errors import ConfigError, DataError, UnsupportedError
from palate.language.encoder import encoder
from palate.language.encoders.hashed import HashedEncoder
from palate.language.profiles import user_profiles
from palate.recommend.easyrec import EasyRec, _Trainer, without
from palate.training.text_towers import HashedTower

SMALL = {"buckets": 2048, "width": 32, "hidden": (32,), "dim": 16, "batch_size": 32, "epochs": 30, "lr": 0.01, "subwords": 0.0}
KINDS = (["alder", "birch", "cedar", "elm", "fir", "larch"], ["cod", "eel", "hake", "ling", "perch", "trout"])


def data(words=KINDS, seed: int = 0, people: int = 40) -> Dataset:
    """Two tastes; an item's title has two words of its own kind, and somebody likes one kind; item 0 was had by nobody."""
    rng = np.random.default_rng(seed)
    titles = [" ".join(rng.choice(words[at % 2], 2, replace=False)) for at in range(24)]
    events = [(u, i) for u in range(people) for i in rng.choice(np.arange(1, 12), 5, replace=False) * 2 + u % 2 - 2 * (u % 2)]
    user, item = np.array([(u, i) for u, i in events if i > 0]).T
    made = Dataset.from_columns(np.append(user, 0), np.append(item, 0), time=np.arange(len(user) + 1))
    order = [int(raw) for raw in made.items.ids.raw.to_pylist()]
    items = replace(made.items, attributes=pa.table({"title": [titles[at] for at in order]}))
    zero = made.items.ids.number(0)
    kept = np.flatnonzero(made.interactions.item != zero)
    return made.derive({"step": "texts"}, items=items, interactions=made.interactions.take(kept))


@pytest.fixture(scope="module")
def train() -> Dataset:
    return data()


@pytest.fixture(scope="module")
def model(train: Dataset) -> EasyRec:
    return EasyRec(**SMALL).fit(train, seed=0)


@pytest.fixture
def trainer(train: Dataset):
    def make(dataset: Dataset = train, **settings) -> _Trainer:
        own = EasyRec(**{**SMALL, **settings})
        own.users_, own.items_, own.histories_ = dataset.users, dataset.items, dataset.histories
        texts = own._write_items()
        shape = {"buckets": 256, "width": 8, "hidden": (), "dim": 4}
        return _Trainer(own, HashedTower(HashedEncoder.fresh(np.random.default_rng(0), **shape)), dataset, texts)

    return make


def parity(dataset: Dataset) -> np.ndarray:
    return dataset.items.ids.raw.to_numpy() % 2


def right(model: EasyRec, dataset: Dataset) -> float:
    """Share of offered items that are of the taste of whoever asks; people unknown to the model."""
    users = np.flatnonzero(dataset.histories.lengths > 1).astype(np.int32)
    known = Requests.of_users(dataset, users)
    asked = Requests(np.full(len(users), -1, np.int32), known.histories, known.exclude)
    offered = model.recommend(asked, 3).items
    return float((parity(dataset)[offered] == (dataset.users.ids.raw.to_numpy()[users] % 2)[:, None]).mean())


def test_an_item_not_had_is_never_one_that_was_had(train: Dataset, trainer) -> None:
    ones = train.matrix().toarray() > 0
    own = trainer(draws=5)
    epoch = own.epoch(1, np.random.default_rng(0))
    assert len(epoch.users) == 5 * len(own.people)
    assert ones[epoch.users, epoch.had].all() and not ones[epoch.users, epoch.others].any()
    drawn = np.unique(epoch.others)
    assert len(drawn) == train.n_items, "some item is never a negative"


def test_every_version_is_drawn(trainer) -> None:
    versions = trainer(draws=5).epoch(1, np.random.default_rng(0)).versions
    assert np.bincount(versions.ravel(), minlength=4).min() > 0.15 * versions.size
    assert not trainer(versions=1).epoch(1, np.random.default_rng(0)).versions.any()


def test_a_profile_in_training_is_silent_about_the_item_to_be_found(train: Dataset, trainer) -> None:
    users = np.flatnonzero(train.histories.lengths > 1)
    had = train.histories.items[train.histories.offsets[users]]
    versions = np.arange(len(users)) % 4
    names = train.items.labels(np.arange(train.n_items))
    out, whole = trainer(max_items=50), trainer(max_items=50, leave_out=False)
    others = [
        set(train.histories.items[train.histories.offsets[u] : train.histories.offsets[u + 1]]) - {i}
        for u, i in zip(users, had, strict=True)
    ]
    for text, full, item, rest in zip(
        out.written(users, had, versions), whole.written(users, had, versions), had, others, strict=True
    ):
        assert names[item] in full
        if names[item] not in {names[other] for other in rest}:
            assert names[item] not in text
        assert all(names[other] in text for other in rest)


def test_people_with_one_item_have_nothing_left_to_be_read_from(trainer) -> None:
    few = data(people=4)
    events = few.interactions.take(few.interactions.user != 0)
    first = np.flatnonzero(np.append(True, events.user[1:] != events.user[:-1]))
    one = few.derive({"step": "one"}, interactions=events.take(first))
    assert not len(trainer(one).people) and len(trainer(one, leave_out=False).people) == 3


def test_without_takes_all_events_of_the_item() -> None:
    left = without(Histories.from_rows([[1, 2, 1], [3], [4, 5]]), np.array([1, 3, 7]))
    assert left.items.tolist() == [2, 4, 5] and left.offsets.tolist() == [0, 1, 1, 3]


def test_own_items_elsewhere_in_the_batch_are_hidden(train: Dataset, trainer) -> None:
    ones = train.matrix().toarray() > 0
    own = trainer()
    epoch = own.epoch(1, np.random.default_rng(0))
    users, had, others = epoch.users[:10], epoch.had[:10], epoch.others[:10]
    hidden = own.hidden(users, had, others)
    wanted = ones[users][:, np.concatenate([had, others])]
    wanted[np.arange(10), np.arange(10)] = False
    assert np.array_equal(hidden, wanted) and wanted.any()
    assert trainer(mask_own=False).hidden(users, had, others) is None


@pytest.mark.parametrize("mask_own", [False, True])
def test_the_loss_of_a_batch_by_hand(train: Dataset, trainer, mask_own: bool) -> None:
    """Cosines of the texts that were drawn, own items elsewhere left out if so set, and the words' loss at its weight."""
    import torch

    own = trainer(mask_own=mask_own, mlm_weight=0.1)
    epoch, ones = own.epoch(1, np.random.default_rng(0)), train.matrix().toarray() > 0
    batch, b = next(iter(epoch)), SMALL["batch_size"]
    users, had, others, versions = epoch.users[:b], epoch.had[:b], epoch.others[:b], epoch.versions[:, :b]
    own.tower.masked_words = lambda texts, share, rng: torch.tensor(0.01 * len(texts))
    encode = own.tower.encoder.encode
    people = encode(own.written(users, had, versions[0]))
    texts, items = own.model._write_items(), np.concatenate([had, others])
    rows = encode([texts[v][i] for v, i in zip(versions[1:].ravel(), items, strict=True)])
    scores = people.astype(float) @ rows.T / 0.05
    hidden = ones[users][:, items]
    hidden[np.arange(b), np.arange(b)] = False
    if mask_own:
        scores[hidden] = -np.inf
    wanted = np.mean(np.log(np.exp(scores).sum(1)) - scores[np.arange(b), np.arange(b)]) + 0.1 * 0.01 * 3 * b
    assert own.loss(batch, torch.Generator().manual_seed(0)).item() == pytest.approx(wanted, rel=1e-4) and hidden.any()


def test_it_learns_tastes_whose_words_are_all_different(train: Dataset, model: EasyRec) -> None:
    assert right(model, train) > 0.95
    untouched = EasyRec(**{**SMALL, "epochs": 0}).fit(train, seed=0)
    assert untouched.record_.notes["epochs"] == 0 and right(untouched, train) < right(model, train)


def test_a_person_does_not_depend_on_the_company_of_others(train: Dataset, model: EasyRec) -> None:
    rows = [[1, 4, 9], [3, 5], [2], [], [7, 8, 1, 2]]
    together = model.request_vectors(Requests.of_histories(rows))
    alone = np.concatenate([model.request_vectors(Requests.of_histories([row])) for row in rows])
    assert np.allclose(together, alone, atol=1e-5) and not together[3].any()


def test_the_score_is_the_mean_cosine_over_pairs_of_versions(train: Dataset, model: EasyRec) -> None:
    from palate.language.profiles import item_profiles, user_profiles

    history = Histories.from_rows([[1, 4, 9]])
    forms = [model._form(version) for version in range(4)]
    people = [model.encoder_.encode(user_profiles(history, model.profiles_, form).texts)[0] for form in forms]
    items = [model.encoder_.encode(item_profiles(train, form).texts) for form in forms]
    mean = np.mean([[rows @ person for rows in items] for person in people], axis=(0, 1))
    found = model.score(Requests.of_histories([[1, 4, 9]]), np.arange(train.n_items, dtype=np.int32)[None])
    assert np.allclose(found[0], mean, atol=1e-5)
    assert len({user_profiles(history, model.profiles_, form).texts[0] for form in forms}) > 1


def test_an_item_that_nobody_had_is_placed_by_its_text(train: Dataset, model: EasyRec) -> None:
    silent = int(np.flatnonzero(train.item_counts == 0)[0])
    kind = parity(train)[silent]
    users = np.flatnonzero(train.histories.lengths > 1).astype(np.int32)
    scores = model.score(Requests.of_users(train, users), np.full((len(users), 1), silent, np.int32))[:, 0]
    own = train.users.ids.raw.to_numpy()[users] % 2 == kind
    assert scores[own].min() > scores[~own].max()
    table = train.items.attributes
    assert table is not None
    assert np.allclose(model.embed_items(table), model.item_vectors, atol=1e-6)


def test_a_stated_preference_stands_in_place_of_the_profile(train: Dataset, model: EasyRec) -> None:
    told = [" ".join(KINDS[0]), " ".join(KINDS[1]), "...", None]
    asked = replace(Requests.of_histories([[], [], [], []]), texts=told)
    assert model.informed(asked).tolist() == [True, True, False, False]
    offered = model.recommend(asked, 4)
    assert (parity(train)[offered.items[0]] == 0).all() and (parity(train)[offered.items[1]] == 1).all()
    assert offered.cold.tolist() == [False, False, True, True]
    odd = int(np.flatnonzero(parity(train) == 1)[0])
    changed = replace(Requests.of_histories([[odd]]), texts=[told[0]])
    assert np.array_equal(model.request_vectors(changed), model.request_vectors(asked.take(np.arange(1))))
    why = model.explain(changed, 1)
    assert not why.evidence and "stated" in why.method


def test_transfer_answers_data_that_it_never_saw_without_training(model: EasyRec) -> None:
    other = data(seed=9, people=30)
    moved = model.transfer(other)
    assert moved.encoder_.fingerprint == model.encoder_.fingerprint and moved.record_.notes["transferred"]
    assert moved.record_.data["fingerprint"] == other.fingerprint and right(moved, other) > 0.95
    strange = tuple([word[::-1] + "zq" for word in words] for words in KINDS)
    unknown = data(strange, seed=9, people=30)
    untouched = EasyRec(**{**SMALL, "epochs": 0}).fit(unknown)
    assert abs(right(model.transfer(unknown), unknown) - right(untouched, unknown)) < 0.15, "it knows words that it never saw"


def test_the_encoder_serves_others_by_its_path(train: Dataset, model: EasyRec, tmp_path: Path) -> None:
    folder = model.save_encoder(tmp_path / "tuned")
    own = encoder(folder)
    texts = [*model.profiles_.texts[:3], "alder cod"]
    assert np.array_equal(own.encode(texts), model.encoder_.encode(texts))
    again = EasyRec(**{**SMALL, "encoder": str(folder), "epochs": 0}).fit(train)
    assert np.array_equal(again.item_vectors, model.item_vectors)
    back = EasyRec.load(model.save(tmp_path / "bundle"))
    assert back.encoder_.fingerprint == own.fingerprint
    assert np.array_equal(back.transfer(train).item_vectors, model.item_vectors)


@pytest.fixture(scope="module")
def transformer(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of a tiny transformer with random weights and a head that tells words."""
    torch, transformers = pytest.importorskip("torch"), pytest.importorskip("transformers")
    t, path = pytest.importorskip("tokenizers"), tmp_path_factory.mktemp("tiny")
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *KINDS[0], *KINDS[1], "Enjoys", "Chose", "lately"]
    shape = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
    with torch.random.fork_rng():
        torch.manual_seed(0)
        config = transformers.BertConfig(vocab_size=len(words), max_position_embeddings=64, **shape)
        transformers.BertForMaskedLM(config).save_pretrained(path)
    own = t.Tokenizer(t.models.WordPiece({word: at for at, word in enumerate(words)}, unk_token="[UNK]"))
    own.pre_tokenizer = t.pre_tokenizers.BertPreTokenizer()
    own.post_processor = t.processors.TemplateProcessing(single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)])
    own.save(str(path / "tokenizer.json"))
    return path


def test_a_transformer_is_tuned_with_masked_words_and_lives_in_the_bundle(
    train: Dataset, transformer: Path, tmp_path: Path
) -> None:
    settings = {"encoder": str(transformer), "pooling": "mean", "lr": 0.01, "batch_size": 32, "versions": 2, "mlm_weight": 0.1}
    first, model = (EasyRec(**settings, epochs=epochs).fit(train, seed=1) for epochs in (0, 20))
    assert right(model, train) > max(0.8, right(first, train))
    back = EasyRec.load(model.save(tmp_path / "bundle"))
    users = np.arange(5, dtype=np.int32)
    asked = Requests.of_users(train, users)
    assert np.array_equal(back.recommend(asked, 5).items, model.recommend(asked, 5).items)
    assert np.array_equal(back.request_vectors(asked), model.request_vectors(asked))
    own = encoder(model.save_encoder(tmp_path / "tuned"), cache=False)
    assert np.array_equal(own.encode(["alder cod"]), model.encoder_.encode(["alder cod"]))
    assert right(back.transfer(data(seed=9, people=30)), data(seed=9, people=30)) > 0.8


def test_items_not_had_come_from_the_same_data_set(trainer) -> None:
    whole = mixed({"one": data(), "two": data(seed=4)})
    epoch = trainer(whole, draws=4).epoch(1, np.random.default_rng(0))
    half = np.array([raw.startswith("one") for raw in whole.items.ids.raw.to_pylist()])
    assert (half[epoch.had] == half[epoch.others]).all() and 0 < half[epoch.others].mean() < 1
    assert EasyRec(**{**SMALL, "epochs": 1}).fit(whole).item_vectors.shape == (whole.n_items, 16)


def test_somebody_who_had_everything_gives_no_negative(trainer) -> None:
    made = Dataset.from_columns(["a", "a", "b"], ["x", "y", "x"])
    made = replace(made, items=Entities(made.items.ids, pa.table({"title": ["oak", "cod"]})))
    own = trainer(made, leave_out=False)
    epoch = own.epoch(1, np.random.default_rng(0))
    assert epoch.others[epoch.users == 0].tolist() == [-1] and epoch.others[epoch.users == 1].tolist() == [1]
    batch = next(iter(epoch))
    assert len(batch.people) == 2 and len(batch.others) == 1 and batch.hidden.shape == (2, 3)


def test_what_cannot_be_done_is_refused(train: Dataset) -> None:
    with pytest.raises(UnsupportedError, match="masked words"):
        EasyRec(mlm_weight=0.1).fit(train)
    with pytest.raises(ConfigError, match="no encoder that can be tuned"):
        EasyRec(encoder="no such folder").fit(train)
    with pytest.raises(DataError, match="no attribute says what an item is"):
        EasyRec().fit(replace(train, items=Entities(train.items.ids)))


def test_without_texts_ids_are_names_if_so_set(train: Dataset) -> None:
    bare = replace(train, items=Entities(train.items.ids))
    model = EasyRec(**{**SMALL, "require_text": False}).fit(bare)
    assert right(model, bare) > 0.9
    alone = model.request_vectors(Requests.of_histories([[1]]))
    assert alone.any() and model.profiles_.texts[1].startswith(str(bare.items.ids.raw[1].as_py()))


def test_an_item_without_text_is_never_learnt_from(train: Dataset) -> None:
    table = train.items.attributes
    assert table is not None
    titles = table.column("title").to_pylist()
    titles[3] = None
    mute = replace(train, items=Entities(train.items.ids, pa.table({"title": titles})))
    model = EasyRec(**{**SMALL, "epochs": 2}).fit(mute)
    assert not model.item_vectors[3].any() and np.isfinite(model.item_vectors).all()
    alone = Requests.of_histories([[3], [3, 4]])
    assert model.informed(alone).tolist() == [False, True]


@pytest.mark.parametrize("column", [{"title": "the same"}, {"description": "one and the same thing"}, {"title": "?!"}])
def test_items_with_one_text_are_refused(train: Dataset, column: dict[str, str]) -> None:
    attributes = pa.table({name: [text] * train.n_items for name, text in column.items()})
    alike = train.derive({"step": "alike"}, items=replace(train.items, attributes=attributes))
    with pytest.raises(DataError, match="have the same one, so nothing tells them apart"):
        EasyRec(**SMALL).fit(alike)


def test_people_of_whom_nothing_is_told_do_not_disturb_the_others(train: Dataset) -> None:
    """A topic of all items says nothing of a person, so some profiles are empty: at length 0 there is no direction to learn."""
    parity = train.items.ids.raw.to_numpy() % 2
    words = [f"{KINDS[kind][0]} thing" if kind else "thing" for kind in parity]
    told = train.derive({"step": "told"}, items=replace(train.items, attributes=pa.table({"description": words})))
    model = EasyRec(**{**SMALL, "epochs": 5}).fit(told)
    assert any(not text for text in user_profiles(told, model.profiles_).texts)
    assert np.isfinite(model.item_vectors_).all() and all(np.isfinite(line[1]) for line in model.record_.notes["curve"])
