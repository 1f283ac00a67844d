"""RLMRec: both losses by hand and against loops, masks, the backbone without text, controls, what is left out, models."""

import timeit
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pytest
import torch

from palate.contracts.model import Fitting
from palate.contracts.requests import Requests
from palate.data.dataset import Dataset
from palate.errors import ConfigError, DataError
from palate.recommend.graph_base import Objective, Setting
from palate.recommend.lightgcn import LightGCN
from palate.recommend.rlmrec import RLMRec, TextContrast, TextRebuilt, controlled, main_directions
from palate.recommend.sgl import SGL
from palate.recommend.simgcl import SimGCL
from palate.recommend.xsimgcl import XSimGCL

HALF, SMALL = 20, {"dim": 8, "epochs": 3, "batch_size": 128, "lr": 0.02, "layers": 2, "text_dim": 12}
FITTING = Fitting(0, "cpu", lambda event: None, None, None, "", ())


def told(users: int = 100, seed: int = 0) -> Dataset:
    """Two tastes, whose items say theirs; two items without a text, one person and one item without events."""
    rng = np.random.default_rng(seed)
    rows = [rng.choice(HALF, 5, replace=False) + HALF * (u % 2) for u in range(users)]
    user, item = np.repeat(np.arange(users), 5), np.concatenate(rows)
    data = Dataset.from_columns(np.append(user, users), np.append(item, 2 * HALF))
    raw = data.items.ids.raw.to_pylist()
    titles = [None if r in (3, HALF + 3) else f"{'red' if r < HALF else 'blue'} thing {'abcdefgh'[r % 8] * 4}" for r in raw]
    kinds = [[] if t is None else [t.split()[0]] for t in titles]
    table = pa.table({"title": titles, "categories": pa.array(kinds, pa.list_(pa.string()))})
    thin = data.interactions.take(np.arange(len(data) - 1))
    return data.derive({"step": "texts"}, interactions=thin, items=replace(data.items, attributes=table))


DATA = told()


def prepared(**settings):
    """A model whose texts are made, its objective and first batch."""
    model = RLMRec(**{**SMALL, **settings})
    model.config = model.config.model_copy(update={"epochs": 0})
    model.fit(DATA)
    setting = Setting.of(DATA, FITTING)
    aim = Objective(model._table(setting, model._parts(setting)), setting, model.config, model._lowest)
    return model, aim, next(iter(aim.batches(1, np.random.default_rng(0))))


def vectors_of(aim, layer0):
    """Final vectors of all nodes, by dense matrices."""
    n, matrix = aim.setting.n_users, aim.setting.matrix.toarray()
    whole = np.zeros((sum(matrix.shape),) * 2, np.float32)
    whole[:n, n:], whole[n:, :n] = matrix, matrix.T
    root = np.sqrt(np.maximum(whole.sum(1), 1))
    a, x = torch.from_numpy(whole / root[:, None] / root), layer0
    found = [x]
    for _ in range(aim.config.layers):
        found.append(a @ found[-1])
    return torch.stack(found).mean(0)


def base_loss(aim, batch, e, x):
    n, size = aim.setting.n_users, len(batch)
    u, i, j = (torch.from_numpy(v.astype(np.int64)) for v in (batch.users, batch.positives + n, batch.negatives + n))
    loss = torch.nn.functional.softplus((e[u] * (e[j] - e[i])).sum(1)).mean()
    return loss + aim.config.reg / (2 * size) * sum(x[v].square().sum() for v in (u, i, j))


def nce(own, others, tau):
    """Each row of ``own`` has its place in ``others``: a plain loop over (row, text) and a table of texts."""
    total = 0.0
    for x, at in own:
        scores = [torch.nn.functional.cosine_similarity(x, y, dim=0) / tau for y in others]
        total = total + torch.logsumexp(torch.stack(scores), 0) - scores[at]
    return total / len(own)


@pytest.mark.parametrize("denominator", ["batch", "published"])
def test_con_against_a_loop(denominator):
    model, aim, batch = prepared(denominator=denominator, weight=0.7, batch_size=40, temperature=0.3)
    part = aim.table.parts[-1]
    assert isinstance(part, TextContrast)
    found = aim.loss(batch, torch.Generator().manual_seed(1))
    n, x = DATA.n_users, aim.table.free
    e, known = vectors_of(aim, x), part.known
    wanted = base_loss(aim, batch, e, x)
    for kind, nodes in enumerate((batch.users, batch.positives + n, batch.negatives + n)):
        rows = [int(v) for v in nodes if known[v]]
        rows = sorted(set(rows)) if denominator == "batch" else rows
        table = [v for v in range(n) if known[v]] if denominator == "published" and kind == 0 else rows
        texts = [part.network(part.texts[v]) for v in table]
        places = [table.index(v) for v in rows] if denominator == "published" and kind == 0 else range(len(rows))
        wanted = wanted + 0.7 * nce([(e[v], at) for v, at in zip(rows, places, strict=True)], texts, 0.3)
    torch.testing.assert_close(found, wanted, rtol=1e-5, atol=1e-5)
    parameters = [aim.table.free, *part.network.parameters()]
    slopes = [torch.autograd.grad(loss, parameters) for loss in (found, wanted)]
    for one, other in zip(*slopes, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-3, atol=1e-6)
    assert model.item_texts_.shape == (DATA.n_items, 12)


def test_repeats_count_as_negatives_in_the_published_form_only():
    """A popular item stands several times in a batch: the published sum has it as its own negative, so its loss is higher."""
    losses = {}
    for denominator in ("batch", "published"):
        _, aim, batch = prepared(denominator=denominator, weight=1.0)
        same = replace(batch, positives=np.full_like(batch.positives, batch.positives[0]))
        losses[denominator] = aim.loss(same, torch.Generator().manual_seed(1)).item()
    assert losses["published"] > losses["batch"] + 1


def test_gen_by_hand_and_its_masks():
    _, aim, batch = prepared(mode="gen", weight=0.5, mask_share=0.2, temperature=0.4)
    part = aim.table.parts[-1]
    assert isinstance(part, TextRebuilt) and not part.token.any()
    with torch.no_grad():
        part.token += torch.linspace(-1, 1, 8)
    found = aim.loss(batch, torch.Generator().manual_seed(3))
    masked = part.masked.copy()
    degree = np.diff(aim.setting.graph.offsets)
    candidates = np.flatnonzero(part.known & (degree > 0))
    assert len(masked) == len(set(masked.tolist())) == max(int(len(candidates) * 0.2), 1)
    assert set(masked.tolist()) <= set(candidates.tolist())
    hidden = torch.zeros(len(degree), 1)
    hidden[masked] = 1
    x = aim.table.free * (1 - hidden) + part.token * hidden
    e = vectors_of(aim, x)
    rows = [(part.network(e[v]), at) for at, v in enumerate(masked)]
    wanted = base_loss(aim, batch, e, x) + 0.5 * nce(rows, [part.texts[v] for v in masked], 0.4)
    torch.testing.assert_close(found, wanted, rtol=1e-5, atol=1e-5)
    slopes = [torch.autograd.grad(loss, [aim.table.free, part.token]) for loss in (found, wanted)]
    for one, other in zip(*slopes, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-3, atol=1e-6)
    assert not slopes[0][0][masked].any() and slopes[0][1].any()  # what is masked learns through the token alone
    again = aim.loss(batch, torch.Generator().manual_seed(4))
    assert set(part.masked.tolist()) != set(masked.tolist()) and again != found
    assert part.layer0(aim.table.free, None) is aim.table.free  # answers see no mask


def test_gen_loss_of_two_nodes_by_hand():
    """Cosines 1 and 0 with τ = 1: each row costs ln(1 + e^-1)."""
    config = RLMRec(dim=2, text_dim=2, mode="gen", temperature=1.0, weight=1.0, mask_share=1.0).config
    part = TextRebuilt(np.eye(2, dtype=np.float32), np.ones(2, bool), config, np.random.default_rng(0))
    part.network = torch.nn.Identity()
    part.masked = np.arange(2)

    class Done:
        class vectors:
            nodes = staticmethod(lambda rows: 3 * torch.eye(2)[torch.from_numpy(rows)])

    assert float(part.loss(Done)) == pytest.approx(np.log(1 + np.exp(-1)), rel=1e-6)


def test_one_node_at_least_is_masked():
    config, linked = RLMRec(mask_share=0.1).config, np.array([1, 1, 0], bool)
    part = TextRebuilt(np.eye(3, dtype=np.float32), linked, config, np.random.default_rng(0))

    class Asked:
        seed = staticmethod(lambda: 5)

    part.layer0(torch.zeros(3, 64), Asked)
    assert len(part.masked) == 1 and part.masked[0] < 2


@pytest.mark.parametrize("base", [SGL, SimGCL, XSimGCL])
def test_without_weight_it_is_the_backbone_to_the_bit(base):
    class Renamed(RLMRec):
        """Random streams carry names: these are the backbone's."""

        name, title = base.name, base.title

    class WithPart(Renamed):
        def _parts(self, setting):
            texts = np.ones((len(setting.graph), 4), np.float32)
            return (*super()._parts(setting), TextContrast(texts, setting.n_users, self.config, np.random.default_rng(0)))

    shared = {key: value for key, value in SMALL.items() if key != "text_dim"}
    wanted = base(**shared).fit(DATA, seed=3)._state()
    for kind, extra in ((Renamed, {"mode": "none"}), (Renamed, {"weight": 0.0}), (WithPart, {"weight": 0.0})):
        found = kind(**shared, backbone=base.name, **extra).fit(DATA, seed=3)._state()
        for name, array in wanted.items():
            np.testing.assert_array_equal(array, found[name])


def test_without_text_it_is_lightgcn():
    """To the bit beside ours without text; within rounding of the class, whose fused step adds in another order."""

    class Renamed(RLMRec):
        name, title = LightGCN.name, LightGCN.title

    class WithPart(Renamed):
        def _parts(self, setting):
            texts = np.ones((len(setting.graph), 4), np.float32)
            return (*super()._parts(setting), TextContrast(texts, setting.n_users, self.config, np.random.default_rng(0)))

    shared = {key: value for key, value in SMALL.items() if key != "text_dim"}
    wanted, found = LightGCN(**shared).fit(DATA), Renamed(**shared, mode="none").fit(DATA)
    np.testing.assert_allclose(wanted.item_vectors, found.item_vectors, rtol=1e-3, atol=1e-5)
    for kind in (Renamed, WithPart):
        same = kind(**shared, weight=0.0).fit(DATA)
        np.testing.assert_array_equal(found.item_vectors, same.item_vectors)
        np.testing.assert_array_equal(found.own_, same.own_)


@pytest.mark.parametrize("mode", ["con", "gen"])
def test_answers_have_the_shape_and_the_cost_of_the_backbones(mode):
    """Texts have no part in answers: the same arrays of the same shapes, and about the same time."""
    shared = {key: value for key, value in SMALL.items() if key != "text_dim"}
    ours, backbone = RLMRec(**SMALL, mode=mode, weight=0.1).fit(DATA), LightGCN(**shared).fit(DATA)
    asked = Requests.of_users(DATA, np.tile(np.arange(DATA.n_users, dtype=np.int32), 20))
    assert ours.request_vectors(asked).shape == backbone.request_vectors(asked).shape
    assert ours.item_vectors.shape == backbone.item_vectors.shape
    assert ours.request_vectors(asked).dtype == backbone.request_vectors(asked).dtype
    blind = RLMRec(**SMALL, mode=mode, weight=0.1).fit(DATA)
    blind.user_texts_, blind.item_texts_ = np.zeros_like(ours.user_texts_), np.zeros_like(ours.item_texts_)
    np.testing.assert_array_equal(ours.recommend(asked, 5).items, blind.recommend(asked, 5).items)

    def seconds(model):
        model.recommend(asked, 5)
        return min(timeit.repeat(lambda: model.recommend(asked, 5), number=1, repeat=7))

    assert seconds(ours) < 3 * seconds(backbone) + 0.01  # the same work: 3 leaves room for a busy machine


def told_profiles():
    """Data whose people, and one item, come with profiles; one person has none."""
    n = DATA.n_users
    people = pa.table({"summary": [None, *(f"likes {'red' if u % 2 == 0 else 'blue'}  things" for u in range(1, n))]})
    items = DATA.items.attributes.append_column("summary", pa.array(["a given text", *[None] * (DATA.n_items - 1)]))
    parts = {"users": replace(DATA.users, attributes=people), "items": replace(DATA.items, attributes=items)}
    return DATA.derive({"step": "told"}, **parts)


def test_profiles_that_come_with_the_data_stand_in_for_ours(tmp_path):
    data = told_profiles()
    model = RLMRec(**SMALL, profile_column="summary").fit(data, seed=1)
    people, items = (model.record_.notes[f"profiles of {what}"] for what in ("people", "items"))
    assert people["given"] == DATA.n_users - 1 and people["template"] == 1 and items["given"] == 1
    assert np.abs(model.item_vectors - RLMRec(**SMALL).fit(data, seed=1).item_vectors).max() > 0
    # Two texts for all people but one: two vectors.
    assert len(np.unique(model.user_texts_[1:].round(5), axis=0)) == 2
    assert "given" not in RLMRec(**SMALL).fit(data, seed=1).record_.notes["profiles of people"]
    assert RLMRec.load(model.save(tmp_path / "model")).config.profile_column == "summary"
    with pytest.raises(DataError, match="did you mean 'summary'"):
        RLMRec(**SMALL, profile_column="sumary").fit(data)


def test_shuffled_texts_change_nothing_without_weight_and_something_with_it():
    def fitted(control, weight):
        return RLMRec(**SMALL, control=control, weight=weight).fit(DATA, seed=1).item_vectors

    np.testing.assert_array_equal(fitted("none", 0.0), fitted("shuffled", 0.0))
    assert np.abs(fitted("none", 1.0) - fitted("shuffled", 1.0)).max() > 1e-3
    assert np.abs(fitted("none", 1.0) - fitted("random", 1.0)).max() > 1e-3


@pytest.mark.parametrize("backbone", ["lightgcn", "sgl", "simgcl", "xsimgcl"])
@pytest.mark.parametrize("mode", ["con", "gen"])
def test_every_backbone_learns_and_comes_back(backbone, mode, tmp_path):
    model = RLMRec(**{**SMALL, "epochs": 2}, backbone=backbone, mode=mode, weight=0.1).fit(DATA, seed=2)
    again = RLMRec.load(model.save(tmp_path / "model"))
    for name, array in model._state().items():
        np.testing.assert_array_equal(array, again._state()[name])
    asked = Requests.of_users(DATA, np.arange(10, dtype=np.int32))
    np.testing.assert_array_equal(model.recommend(asked, 5).items, again.recommend(asked, 5).items)
    assert {path.suffix for path in (tmp_path / "model").iterdir()} <= {".json", ".parquet", ".safetensors"}


@pytest.mark.parametrize("mode", ["con", "gen"])
def test_resumes_to_the_bit(mode, tmp_path):
    given = {**SMALL, "mode": mode, "weight": 0.1}
    whole = RLMRec(**{**given, "epochs": 4}).fit(DATA, seed=4)
    RLMRec(**{**given, "epochs": 2}).fit(DATA, seed=4, checkpoint=tmp_path)
    resumed = RLMRec(**{**given, "epochs": 4}).fit(DATA, seed=4, checkpoint=tmp_path)
    for name, array in whole._state().items():
        np.testing.assert_array_equal(array, resumed._state()[name])


@pytest.mark.parametrize("mode", ["con", "gen"])
def test_vectors_come_to_tell_the_texts(mode):
    """Items of one text lie nearer to each other the more the texts weigh, though these two texts say nothing of the events."""
    titles = ["even" if n % 2 else "odd" for n in range(DATA.n_items)]
    data = DATA.derive({"step": "other"}, items=replace(DATA.items, attributes=pa.table({"title": titles})))

    def gap(weight):
        x = RLMRec(**{**SMALL, "epochs": 30}, mode=mode, weight=weight).fit(data, seed=1).item_vectors
        x = x / np.maximum(np.linalg.norm(x, axis=1, keepdims=True), 1e-12)
        same = np.array(titles)[:, None] == np.array(titles)
        cosines = x @ x.T
        return cosines[same].mean() - cosines[~same].mean()

    assert gap(2.0) > gap(0.0) + 0.05


def test_rows_without_a_text_stay_out_and_are_counted():
    model = RLMRec(**SMALL).fit(DATA)
    notes = model.record_.notes
    assert notes["alignment"] == "con" and notes["profiles of items"]["left out"] == 2
    assert notes["profiles of items"]["nothing"] == 2 and notes["profiles of items"]["template"] == DATA.n_items - 2
    assert notes["profiles of people"]["left out"] == 1
    silent = np.flatnonzero(DATA.histories.lengths == 0)
    assert not model.user_texts_[silent].any()
    np.testing.assert_allclose(
        np.linalg.norm(model.item_texts_, axis=1).round(4),
        [0.0 if t is None else 1.0 for t in DATA.items.attributes.column("title").to_pylist()],
    )
    assert model.forget([0]) == 1 and not model.user_texts_[DATA.users.ids.number(0)].any()


def test_data_without_texts_are_refused_unless_none_are_wanted():
    bare = DATA.derive({"step": "bare"}, items=replace(DATA.items, attributes=None))
    with pytest.raises(DataError, match="no attribute says what an item is"):
        RLMRec(**SMALL).fit(bare)
    model = RLMRec(**SMALL, mode="none").fit(bare)
    assert model.record_.notes["alignment"] == "none" and model.item_texts_.shape == (DATA.n_items, 0)
    one = pa.table({"title": ["red", *[None] * (DATA.n_items - 1)]})
    with pytest.raises(DataError, match="too few items"):
        RLMRec(**SMALL).fit(DATA.derive({"step": "one"}, items=replace(DATA.items, attributes=one)))


@pytest.mark.parametrize(
    ("column", "told"),
    [
        ({"description": "one and the same thing"}, "all items have the same text, and too few people"),
        ({"title": "?!"}, "a word"),
    ],
)
def test_texts_that_are_of_no_use_are_told_from_texts_that_are_not_there(column, told):
    table = pa.table({name: [text] * DATA.n_items for name, text in column.items()})
    if "title" in column:  # words elsewhere, or no text would have any
        table = table.append_column("brand", pa.array([*[None] * (DATA.n_items - 1), "acme"]))
    with pytest.raises(DataError, match=told) as caught:
        RLMRec(**SMALL).fit(DATA.derive({"step": "alike"}, items=replace(DATA.items, attributes=table)))
    assert "give items a text," not in str(caught.value)


LACKING = [({"eps": 0.1}, "eps"), ({"backbone": "sgl", "eps": 0.1}, "eps"), ({"cl_weight": 1.0}, "cl_weight")]


@pytest.mark.parametrize(("settings", "told_of"), LACKING)
def test_settings_that_the_backbone_lacks_are_refused(settings, told_of):
    with pytest.raises(ConfigError, match=told_of):
        RLMRec(**settings)
    RLMRec(backbone="simgcl", eps=0.1, cl_weight=1.0, cl_temperature=0.3)


def test_controls_keep_what_has_no_text():
    rng = np.random.default_rng(0)
    x = np.vstack([np.zeros((2, 5)), rng.standard_normal((30, 5))]).astype(np.float32)
    shuffled, noise = (controlled(x, control, np.random.default_rng(1)) for control in ("shuffled", "random"))
    assert not shuffled[:2].any() and not noise[:2].any()
    np.testing.assert_array_equal(np.sort(shuffled, axis=0), np.sort(x, axis=0))
    assert (shuffled != x).any() and np.allclose(np.linalg.norm(noise[2:], axis=1), 1)


def test_wide_texts_keep_their_main_directions():
    rng = np.random.default_rng(0)
    x = (rng.standard_normal((40, 3)) @ rng.standard_normal((3, 10))).astype(np.float32)
    x = x / np.linalg.norm(x, axis=1, keepdims=True)
    narrow = main_directions(x, 3)
    np.testing.assert_allclose(narrow @ narrow.T, x @ x.T, atol=1e-4)
    assert main_directions(x, 10) is x


def test_a_language_model_writes_profiles_once(tmp_path, monkeypatch):
    """Its answers are kept: the second fit asks for nothing; a refused answer leaves the template."""
    from palate.language.model import Answer, LanguageModel

    asked = []

    class Scripted(LanguageModel):
        name = fingerprint = "script"

        def answer(self, call):
            asked.append(call.text)
            return Answer("They would also love Paddington." if len(asked) == 1 else "They enjoy what is described.")

    monkeypatch.setattr("palate.recommend.rlmrec.open_model", lambda spec: Scripted())
    given = {**SMALL, "profile_model": "script", "profile_cache": str(tmp_path / "answers.sqlite")}
    first = RLMRec(**given).fit(DATA, seed=1)
    notes = first.record_.notes
    items = notes["profiles of items"]
    titles = DATA.items.attributes.column("title").to_pylist()
    alike = titles.count(next(title for title in titles if title))  # one question, one answer
    assert items["refused"] == items["template"] == alike and items["model"] == DATA.n_items - 2 - alike
    assert notes["profiles of people"]["model"] == DATA.n_users - 1
    # People are told with the profiles of their items, written first.
    assert "They enjoy what is described." in asked[-1]
    count = len(asked)
    again = RLMRec(**given).fit(DATA, seed=1)
    assert len(asked) == count
    np.testing.assert_array_equal(first.item_vectors, again.item_vectors)
