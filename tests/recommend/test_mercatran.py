"""Mercatran: items seen alone, a causal decoder, the loss of constant vectors, steps, words, unseen items, bundles."""

from __future__ import annotations

import math

import numpy as np
import pyarrow as pa
import pytest

torch = pytest.importorskip("torch")

from palate.contracts.conformance import check_recommender  # noqa: E402
from palate.contracts.requests import Requests  # noqa: E402
from palate.data.dataset import Dataset, Entities  # noqa: E402
from palate.data.interactions import Interactions  # noqa: E402
from palate.data.ragged import Ragged  # noqa: E402
from palate.data.vocabulary import Vocabulary  # noqa: E402
from palate.errors import ConfigError, DataError  # noqa: E402
from palate.language.listing_texts import listing_texts  # noqa: E402
from palate.nn.cross_attention import diagonal, sinusoids  # noqa: E402
from palate.nn.noam import Noam, rate  # noqa: E402
from palate.nn.three_towers import END, ThreeTowers  # noqa: E402
from palate.recommend.mercatran import Mercatran, _Trainer  # noqa: E402

QUICK = {
    "dim": 16,
    "heads": 2,
    "blocks": 1,
    "hidden": 32,
    "epochs": 2,
    "batch_size": 32,
    "n_tokens": 512,
    "require_text": False,
}
CYCLE, COPIES = 8, 12
NOUNS = ["lamp", "vase", "boot", "coat", "ring", "drum", "book", "sofa"]


def shop(people: int = 160, seed: int = 0) -> Dataset:
    """People walk a fixed cycle of eight kinds; each kind has many listings, of which the last of each was never met."""
    rng = np.random.default_rng(seed)
    user, item = [], []
    for u in range(people):
        kind = rng.integers(CYCLE)
        for _ in range(rng.integers(6, 14)):
            user.append(u)
            item.append(int(kind * COPIES + rng.integers(COPIES - 1)))
            kind = (kind + 1) % CYCLE
    titles = [f"Acme {NOUNS[i // COPIES]} {'abcdefghijkl'[i % COPIES] * 2}" for i in range(CYCLE * COPIES)]
    table = pa.table(
        {
            "name": titles,
            "c0_name": ["home"] * len(titles),
            "c2_name": [None] * len(titles),
            "brand_name": ["acme"] * len(titles),
        }
    )
    events = Interactions.sorted(np.array(user), np.array(item), time=np.arange(len(user)))
    return Dataset(events, Entities(Vocabulary.range(people)), Entities(Vocabulary.range(len(titles)), table))


DATA = shop()
SETTINGS = {"dim": 32, "heads": 2, "blocks": 1, "hidden": 64, "epochs": 40, "batch_size": 32, "lr": 3e-3, "tokens": "words",
            "n_tokens": 2048, "dropout": 0.0}  # fmt: skip


@pytest.fixture(scope="module")
def model() -> Mercatran:
    return Mercatran(**SETTINGS).fit(DATA, seed=1)


def towers(**changes: int | bool) -> ThreeTowers:
    shape = {"dim": 16, "heads": 2, "blocks": 2, "hidden": 32, "max_len": 10, "steps": 4, "share_table": True, **changes}
    net = ThreeTowers(40, **shape)
    net.reset(torch.Generator().manual_seed(0))
    return net.eval()


# -- the dossier's exact tests ------------------------------------------------------------------


def test_item_vectors_do_not_change_with_the_other_items_of_a_row() -> None:
    net = towers()
    bags = torch.randn(5, 16, generator=torch.Generator().manual_seed(1))
    alone = net.items(bags)
    row = net.item(bags[None], diagonal(5))[0]
    torch.testing.assert_close(row, alone, rtol=1e-5, atol=1e-6)
    other = bags.clone()
    other[1:] = 7.0
    torch.testing.assert_close(net.item(other[None], diagonal(5))[0, 0], row[0], rtol=1e-5, atol=1e-6)
    open_row = net.item(other[None], torch.zeros(1, 1, 5, 5))[0, 0]
    assert not torch.allclose(open_row, row[0], atol=1e-3), "without the mask the others are seen"


def test_the_decoder_is_causal_and_reads_the_memory() -> None:
    net = towers()
    g = torch.Generator().manual_seed(2)
    events, followed = torch.randn(3, 6, 16, generator=g), torch.randn(3, 4, 16, generator=g)
    memory, mask = net.people(events, torch.tensor([6, 3, 1]))
    answers = net.decode(memory, mask, followed)
    changed = followed.clone()
    changed[:, 2] = changed[:, 2].flip(1)
    again = net.decode(memory, mask, changed)
    torch.testing.assert_close(again[:, :3], answers[:, :3])
    assert not torch.allclose(again[:, 3:], answers[:, 3:], atol=1e-3)
    assert not torch.allclose(net.decode(memory.flip(0), mask.flip(0), followed), answers, atol=1e-3)
    padded = torch.cat([events, torch.full((3, 2, 16), 9.0)], 1)
    padded[1, 3:], padded[2, 1:] = -3.0, 4.0
    longer = net.decode(*net.people(padded, torch.tensor([6, 3, 1])), followed)
    torch.testing.assert_close(longer, answers, rtol=1e-4, atol=1e-5)


def test_the_loss_of_constant_vectors_is_the_log_of_their_number(monkeypatch: pytest.MonkeyPatch) -> None:
    data = shop(20)
    fitted = Mercatran(**{**QUICK, "tokens": "words", "epochs": 0, "distinct": False, "cut": "last"}).fit(data)
    trainer = _Trainer(fitted, data.histories)
    batch = next(iter(trainer.sequences.epoch(np.random.default_rng(0))))
    assert len(batch.own) == 5 * 20 and batch.columns.tolist().count(-1) == 20
    constant = lambda x, *_: torch.ones(len(x), 16)  # noqa: E731
    monkeypatch.setattr(trainer.net, "items", constant)
    assert trainer.loss(batch, torch.Generator()).item() == pytest.approx(math.log(5 * 20), rel=1e-6)
    once = Mercatran(**{**QUICK, "tokens": "words", "epochs": 0, "cut": "last"}).fit(data)
    trainer = _Trainer(once, data.histories)
    batch = next(iter(trainer.sequences.epoch(np.random.default_rng(0))))
    monkeypatch.setattr(trainer.net, "items", constant)
    assert len(set(batch.columns.tolist())) == len(batch.columns) < 100
    assert trainer.loss(batch, torch.Generator()).item() == pytest.approx(math.log(len(batch.columns)), rel=1e-6)


@pytest.mark.parametrize("distinct", [False, True])
def test_the_loss_of_a_batch_is_that_of_its_definition(distinct: bool) -> None:
    """Each history read alone, without padding; its answer of a step against the items of all steps of all histories."""
    fitted = Mercatran(**{**QUICK, "tokens": "words", "epochs": 0, "distinct": distinct, "dropout": 0.0}).fit(DATA)
    trainer, net = _Trainer(fitted, DATA.histories), fitted.net_
    people = np.array([3, 8, 21])
    cuts, scale = np.array([1, DATA.histories.lengths[8] - 2, 4]), fitted.config.temperature  # of the second, two items follow
    loss = trainer.loss(trainer.sequences.batch(people, cuts), torch.Generator()).item()
    answers, vectors, codes = [], [], []
    with torch.no_grad():
        for person, cut in zip(people, cuts, strict=True):
            own = DATA.histories.ragged[int(person)][: cut + 4]
            read = net.bags(0, fitted.texts_.take(own))
            memory, mask = net.people(read[None, :cut], torch.tensor([int(cut)]))
            answers.append(net.decode(memory, mask, read[None, cut:])[0])
            vectors += [net.items(read[cut:]), net.items(net.mark(2, END)[None])]
            codes += [*own[cut:].tolist(), -1]
    q, v, at = torch.cat(answers), torch.cat(vectors), np.arange(len(codes))
    if distinct:
        _, first, at = np.unique(codes, return_index=True, return_inverse=True)
        assert len(first) < len(codes)
        v = v[first]
    wanted = torch.nn.functional.cross_entropy(q @ v.T / scale, torch.from_numpy(at.ravel()))
    assert len(codes) == 5 + 3 + 5 and loss == pytest.approx(wanted.item(), rel=1e-4)


# -- what it learns -----------------------------------------------------------------------------


def kinds(items: np.ndarray) -> np.ndarray:
    return items // COPIES


def test_it_learns_the_cycle_at_every_step(model: Mercatran) -> None:
    asked = Requests.of_histories(
        [[kind * COPIES, ((kind + 1) % CYCLE) * COPIES + 3] for kind in range(CYCLE)], exclude_seen=False
    )
    for step in range(4):
        found = kinds(model.at_step(step).recommend(asked, 5).items)
        wanted = (np.arange(CYCLE) + 2 + step) % CYCLE
        assert (found == wanted[:, None]).mean() > 0.8, f"step {step}"
    np.testing.assert_allclose(model.step_vectors(asked)[:, 2], model.at_step(2).request_vectors(asked), rtol=1e-5, atol=1e-6)
    with pytest.raises(ConfigError, match="not learnt"):
        model.at_step(4)


def test_an_output_fed_back_is_no_bag_of_words(model: Mercatran) -> None:
    """The paper's way of answering loses the order after the first step, which words of the best item keep."""
    asked = Requests.of_histories([[kind * COPIES] for kind in range(CYCLE)], exclude_seen=False)
    other = Mercatran(**{**SETTINGS, "feedback": "vector"}).fit(DATA, seed=1)
    np.testing.assert_array_equal(other.request_vectors(asked), model.request_vectors(asked))
    wanted = (np.arange(CYCLE) + 4) % CYCLE
    hits = [(kinds(m.at_step(3).recommend(asked, 5).items) == wanted[:, None]).mean() for m in (model, other)]
    assert hits[0] > 0.8 > 0.5 > hits[1]


def test_items_that_nobody_had_are_offered_and_new_ones_placed_by_their_words(model: Mercatran) -> None:
    never = np.arange(CYCLE) * COPIES + COPIES - 1
    assert (DATA.item_counts[never] == 0).all()
    asked = Requests.of_histories([[kind * COPIES] for kind in range(CYCLE)], exclude_seen=False)
    scores = model.score(asked, np.tile(never.astype(np.int32), (CYCLE, 1)))
    assert (scores.argmax(1) == (np.arange(CYCLE) + 1) % CYCLE).all()
    new = pa.table({"name": ["old BOOT", "Acme ring zz", None], "brand_name": [None, "acme", None]})
    vectors = model.embed_items(new)
    assert vectors.shape == (3, 32) and not vectors[2].any()
    nearest = kinds((vectors[:2] @ model.item_vectors.T).argmax(1))
    assert nearest.tolist() == [NOUNS.index("boot"), NOUNS.index("ring")]


def test_the_start_vector_and_order_matter(model: Mercatran) -> None:
    vectors = model.request_vectors(Requests.of_histories([[0, 40], [40, 0]]))
    assert not np.allclose(vectors[0], vectors[1], atol=1e-3)


def test_bits_are_the_same_alone_and_in_a_batch(model: Mercatran) -> None:
    rng = np.random.default_rng(0)
    rows = [rng.integers(0, CYCLE * COPIES, n).tolist() for n in (*range(1, 30), *[5] * 90)]
    asked = Requests.of_histories(rows)
    whole = model.step_vectors(asked)
    for row in range(0, len(rows), 11):
        np.testing.assert_array_equal(model.step_vectors(asked.take(np.array([row])))[0], whole[row])
    late = Requests.of_histories([rows[25], rows[25][-22:]])
    np.testing.assert_array_equal(*model.request_vectors(late))


# -- texts --------------------------------------------------------------------------------------


def test_listing_texts_tell_the_finest_category_that_is_known() -> None:
    table = pa.table(
        {
            "name": ["red  coat", None, "x"],
            "brand_name": ["acme", None, ""],
            "c0_name": ["women", "kids", None],
            "c1_name": ["coats", None, None],
            "c2_name": [None, None, None],
        }
    ).cast(pa.schema([(n, pa.string()) for n in ("name", "brand_name", "c0_name", "c1_name", "c2_name")]))
    items = Entities(Vocabulary.range(3), table)
    assert listing_texts(items) == ["red coat acme coats", "kids", "x"]
    assert listing_texts(items, ("brand", "category")) == ["acme coats", "kids", ""]
    assert listing_texts(items, ("category", "title")) == ["coats red coat", "kids", "x"]
    assert listing_texts(Entities(Vocabulary.range(3))) is None
    listed = Entities(Vocabulary.range(2), pa.table({"title": ["a", "b"], "categories": [["home", "lamps"], []]}))
    assert listing_texts(listed) == ["a lamps", "b"]


def test_items_without_texts_are_refused_unless_ids_may_stand_for_them() -> None:
    bare = Dataset.from_columns([1, 1, 2, 2], ["a b", "c", "a b", "c"])
    with pytest.raises(DataError, match="no attribute says"):
        Mercatran(**{**QUICK, "require_text": True}).fit(bare)
    assert Mercatran(**{**QUICK, "tokens": "words"}).fit(bare).recommend(Requests.of_histories([[0]]), 1).items.tolist() == [
        [1]
    ]


def test_byte_pairs_are_learnt_from_training_items_alone() -> None:
    pytest.importorskip("tokenizers")
    data = shop(40)
    table = data.items.attributes
    names = table["name"].to_pylist()
    names = [f"{n} zyzzyva" if data.item_counts[i] == 0 else n for i, n in enumerate(names)]
    items = Entities(data.items.ids, table.set_column(0, "name", pa.array(names)))
    fitted = Mercatran(**{**QUICK, "epochs": 0}).fit(data.derive({"step": "secret"}, items=items))
    assert len(fitted.reader_) <= 512
    assert len(fitted.reader_.pieces("acme lamp")) <= 4 < len(fitted.reader_.pieces("zyzzyva"))
    assert (fitted.texts_.lengths > 0).all()


@pytest.mark.parametrize("tokens", ["bpe", "words"])
def test_conformance(tokens: str) -> None:
    if tokens == "bpe":
        pytest.importorskip("tokenizers")
    for _, check in check_recommender(lambda: Mercatran(**QUICK, tokens=tokens)):
        check()


# -- settings -----------------------------------------------------------------------------------


def test_the_schedule_rises_then_falls_and_goes_on_after_a_stop(tmp_path) -> None:  # type: ignore[no-untyped-def]
    assert rate(1, 1.0, 64, 3000) == pytest.approx(64**-0.5 * 3000**-1.5)
    assert rate(3000, 2.0, 64, 3000) == pytest.approx(2 * 64**-0.5 * 3000**-0.5)
    assert rate(12_000, 1.0, 64, 3000) == pytest.approx(rate(3000, 1.0, 64, 3000) / 2)
    weight = torch.nn.Parameter(torch.ones(3))
    optimizer = Noam([weight], 1.0, dim=64, warmup=10)
    seen = []
    for _ in range(3):
        weight.grad = torch.ones(3)
        optimizer.step()
        seen.append(optimizer.param_groups[0]["lr"])
    assert seen == pytest.approx([rate(t, 1.0, 64, 10) for t in (1, 2, 3)])
    small = {**QUICK, "tokens": "words", "noam": True, "lr": 1.0, "warmup": 10, "epochs": 4}
    whole = Mercatran(**small).fit(DATA, seed=4)
    Mercatran(**{**small, "epochs": 2}).fit(DATA, seed=4, checkpoint=tmp_path)
    resumed = Mercatran(**small).fit(DATA, seed=4, checkpoint=tmp_path)
    for name, array in whole._state().items():
        np.testing.assert_array_equal(array, resumed._state()[name], err_msg=name)


@pytest.mark.parametrize("change", [{"share_table": False}, {"distinct": False}, {"fields": ("title",)}, {"steps": 1}])
def test_other_forms_learn_too(change) -> None:  # type: ignore[no-untyped-def]
    fitted = Mercatran(**{**SETTINGS, **change}).fit(DATA)
    asked = Requests.of_histories([[kind * COPIES] for kind in range(CYCLE)], exclude_seen=False)
    found = kinds(fitted.recommend(asked, 3).items)
    assert (found == ((np.arange(CYCLE) + 1) % CYCLE)[:, None]).mean() > 0.8
    assert len(fitted.net_.tables) == (1 if fitted.config.share_table else 3)


def test_pieces_stay_in_the_unit_ball(model: Mercatran) -> None:
    assert model.net_.table(0).norm(dim=1).max() <= 1 + 1e-6
    bags = model.net_.bags(2, Ragged(np.array([0, 2, 2]), np.array([1, 2], np.int32))).detach()
    wanted = model.net_.table(2)[[1, 2]].mean(0).detach() * 32**0.5
    torch.testing.assert_close(bags, torch.stack([wanted, torch.zeros(32)]))


def test_wrong_settings() -> None:
    for change in ({"heads": 3}, {"dim": 7, "heads": 1}, {"fields": ("title", "title")}, {"fields": ()}):
        with pytest.raises(ConfigError):
            Mercatran(**{**QUICK, **change})
    with pytest.raises(ValueError, match="even"):
        sinusoids(4, 7)
    table = sinusoids(3, 4)
    assert table[2].tolist() == pytest.approx([math.sin(2), math.cos(2), math.sin(0.02), math.cos(0.02)], abs=1e-6)
