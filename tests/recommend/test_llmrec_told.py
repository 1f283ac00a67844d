"""LLMRec with a language model: what it is asked, what it may answer, and what becomes of other answers."""

import json

import numpy as np
import pyarrow as pa
import pytest

from palate.contracts.conformance_bench import small_world
from palate.data.dataset import Entities
from palate.errors import ConfigError
from palate.extras import available
from palate.language.cache import AnswerCache
from palate.language.failures import LanguageModelError, TransientError
from palate.language.managed import ManagedModel
from palate.language.model import Answer, LanguageModel
from palate.language.texts import item_texts
from palate.recommend.llmrec import LLMRec
from palate.recommend.llmrec_augment import Candidates, LanguageAugmentor, pick_schema, picked, propose

needs_lm = pytest.mark.skipif(not all(map(available, ("tenacity", "jsonschema"))), reason="needs the extra lm")
SMALL = {"dim": 8, "epochs": 3, "batch_size": 64, "lr": 0.02, "text_dim": 16, "base": "item_knn"}
DATA = small_world()


class Speaker(LanguageModel):
    """Answers by a rule, counts its calls, and may fail from some call on."""

    kind = name = fingerprint = "speaker"

    def __init__(self, says, fails_after=10**9):
        self.says, self.fails_after, self.calls = says, fails_after, []

    def answer(self, call):
        if len(self.calls) >= self.fails_after:
            raise TransientError("the line is dead.")
        self.calls.append(call)
        return Answer(json.dumps(self.says(call)), tokens_in=1, tokens_out=1)


OFFERED = Candidates(np.arange(3, dtype=np.int32), np.array([[20, 21, 22], [1, 2, -1], [7, -1, -1]], np.int32))


@needs_lm
def test_a_pick_is_a_number_of_the_candidates():
    model = Speaker(lambda call: {"liked": 2, "disliked": 1})
    picks = picked(LanguageAugmentor(model), DATA, OFFERED)
    assert picks.liked.tolist() == [21, 2, -1] and picks.disliked.tolist() == [20, 1, -1] and picks.refused == 0
    told = [call.text for call in model.calls]
    names = item_texts(DATA)
    assert len(told) == 2 and names[1] in told[0] and names[2] in told[0] and names[20] in told[1]
    assert all(names[item] in told[1] for item in DATA.histories.take(np.array([0])).items)


@needs_lm
@pytest.mark.parametrize(
    "says", [{"liked": 9, "disliked": 1}, {"liked": 0, "disliked": 1}, {"liked": 1}, ["x"], {"liked": "1"}]
)
def test_other_answers_are_asked_again_and_then_counted(says):
    model = Speaker(lambda call: says)
    picks = picked(LanguageAugmentor(model), DATA, OFFERED)
    assert (picks.liked == -1).all() and picks.refused == 2 and len(model.calls) == 6


@needs_lm
def test_the_same_one_liked_and_disliked_is_no_pick():
    picks = picked(LanguageAugmentor(Speaker(lambda call: {"liked": 1, "disliked": 1})), DATA, OFFERED)
    assert (picks.liked == -1).all() and picks.refused == 2


def test_schemas_of_picks():
    value, fault = pick_schema(3).read('{"liked": 3, "disliked": 1}')
    assert fault is None and value.liked == 3
    assert pick_schema(3).read('{"liked": 4, "disliked": 1}')[1] and pick_schema(2).read('{"liked": 3, "disliked": 1}')[1]


@needs_lm
def test_attributes_are_told_or_empty():
    model = Speaker(lambda call: {"maker": "Anna" if "red thing" in call.text else None})
    found = LanguageAugmentor(model, attributes=("maker",)).item_attributes(DATA)
    assert found == {"maker": ["Anna" if "red thing" in text else "" for text in item_texts(DATA)]}
    for wrong in (("a", "a"), ("",)):
        with pytest.raises(ConfigError):
            LanguageAugmentor(model, attributes=wrong)
    with pytest.raises(ConfigError):
        LanguageAugmentor(model, most=0)


@needs_lm
def test_an_engine_that_fails_is_an_error_and_answers_are_kept(tmp_path):
    cache, settings = AnswerCache(tmp_path / "a.sqlite"), {"retries": 0, "backoff": 0.0}
    says = lambda call: {"maker": "Anna"}  # noqa: E731
    dying = Speaker(says, fails_after=4)
    with pytest.raises(LanguageModelError, match="run again"):
        LanguageAugmentor(ManagedModel(dying, cache=cache, **settings), attributes=("maker",)).item_attributes(DATA)
    alive = Speaker(says)
    found = LanguageAugmentor(ManagedModel(alive, cache=cache, **settings), attributes=("maker",)).item_attributes(DATA)
    texts = [text for text in item_texts(DATA) if text]
    assert found["maker"] == ["Anna" if text else "" for text in item_texts(DATA)]
    assert len(dying.calls) == 4 and len(alive.calls) == len(set(texts)) - 4 > 0


@needs_lm
def test_a_fit_with_a_language_model():
    def says(call):
        if "Candidates" in call.text:
            return {"liked": 1, "disliked": 2}
        if "attributes" in call.text:
            return {"maker": "Anna"}
        return "Likes quiet things."

    class Whole(Speaker):
        def answer(self, call):
            said = super().answer(call)
            return Answer(json.loads(said.text), tokens_in=1, tokens_out=1) if call.schema is None else said

    augmentor = LanguageAugmentor(Whole(says), attributes=("maker",))
    notes = LLMRec(**SMALL, augmentor=augmentor).fit(DATA).record_.notes["augmentation"]
    assert notes["augmentor"] == "language model" and notes["picked"] == notes["asked"] == DATA.n_users - 1
    offered, counts = propose(DATA, "item_knn", 10).items, DATA.item_counts
    for at, name in enumerate(("liked", "disliked")):  # the first and the second candidate of everybody
        ranks = [(counts > counts[item]).sum() + (counts[:item] == counts[item]).sum() for item in offered[:, at]]
        assert notes[f"median popularity rank of the {name}"] == np.median(ranks)
    assert notes["filled"]["maker"] == 1 - 1 / DATA.n_items  # of one item nothing is known
    assert 0.9 < notes["filled"]["profile"] < 1


@needs_lm
def test_calls_of_a_fit_have_a_limit_and_are_kept(monkeypatch, tmp_path):
    opened = []

    def open_one(name):
        opened.append(Speaker(lambda call: {"liked": 1, "disliked": 2}))
        return opened[-1]

    monkeypatch.setattr("palate.recommend.llmrec.open_model", open_one)
    settings = SMALL | {"augmentor": "language_model", "language_model": "x.gguf", "model_cache": str(tmp_path / "answers.db")}
    settings |= {"attribute_weight": 0, "profile_weight": 0}
    with pytest.raises(LanguageModelError, match="max_calls"):
        LLMRec(**settings, model_calls=3).fit(DATA)
    notes = LLMRec(**settings, model_workers=2).fit(DATA).record_.notes["augmentation"]
    assert [len(one.calls) for one in opened] == [3, notes["asked"] - 3]


@pytest.mark.parametrize("images", ["of all", "of some", "of none", "broken"])
def test_images_of_all_some_or_no_items_change_nothing(images):
    """Images are not read, so a row without one is an item as any other."""
    table = DATA.items.attributes
    vectors = {
        "of all": [[float(n), 1.0] for n in range(DATA.n_items)],
        "of some": [[float(n), 1.0] if n % 3 else None for n in range(DATA.n_items)],
        "of none": [None] * DATA.n_items,
        "broken": [[] if n % 2 else [float("nan"), 1.0] for n in range(DATA.n_items)],
    }[images]
    column = pa.array(vectors, pa.list_(pa.float32()))
    seen = DATA.derive({"step": "images"}, items=Entities(DATA.items.ids, table.append_column("image", column)))
    plain, mine = (LLMRec(**SMALL).fit(data, seed=1) for data in (DATA, seen))
    assert plain.record_.notes["augmentation"] == mine.record_.notes["augmentation"]
    for name, array in plain._state().items():
        np.testing.assert_array_equal(mine._state()[name], array)
