"""The approximate index: recall as measured, exact scores, filters obeyed, files checked before they are read."""

from __future__ import annotations

import json
import threading
from pathlib import Path

import numpy as np
import pytest

from palate.data.ragged import Ragged
from palate.errors import BundleError, ConfigError, DataError, UnsupportedError
from palate.kernels.inner import inner_pairs
from palate.retrieval import ann
from palate.retrieval.ann import AnnIndex, choose_index
from palate.retrieval.exact import ExactIndex
from palate.retrieval.index import unit_rows

pytest.importorskip("faiss")


def clustered(n: int, d: int = 24, centres: int = 60, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    middle = np.random.default_rng(99).normal(size=(centres, d))
    table = middle[rng.integers(0, centres, n)] + 0.6 * rng.normal(size=(n, d))
    return (table * rng.lognormal(0, 0.25, (n, 1))).astype(np.float32)


@pytest.fixture(scope="module")
def vectors() -> np.ndarray:
    return clustered(12_000)


@pytest.fixture(scope="module")
def people() -> np.ndarray:
    return clustered(400, seed=1)


@pytest.fixture(scope="module")
def index(vectors: np.ndarray, people: np.ndarray) -> AnnIndex:
    return AnnIndex.build(vectors, queries=people[:200])


def test_recall_is_what_was_asked_for(index: AnnIndex, people: np.ndarray) -> None:
    assert index.recall(people[200:], 10) >= 0.98
    assert min(index.facts["recalls"].values()) >= 0.97 and index.facts["queries"] == "given"
    assert list(index.facts["efforts"]) == ["10", "30", "100", "300"]
    efforts = list(index.facts["efforts"].values())
    assert efforts == sorted(efforts) and efforts[0] < index.facts["lists"] // 2


def test_less_recall_costs_less(vectors: np.ndarray, people: np.ndarray, index: AnnIndex) -> None:
    rough = AnnIndex.build(vectors, queries=people[:200], recall=0.7)
    assert rough.facts["efforts"]["10"] < index.facts["efforts"]["10"]
    assert rough.recall(people[200:], 10) < index.recall(people[200:], 10)


def test_scores_are_exact_and_in_order(index: AnnIndex, people: np.ndarray, vectors: np.ndarray) -> None:
    items, scores = index.search(people, 10)
    np.testing.assert_array_equal(scores, inner_pairs(people, vectors, items))
    assert (np.diff(scores, axis=1) <= 0).all()
    assert all(len(set(row)) == 10 for row in items.tolist())


def test_hnsw(vectors: np.ndarray, people: np.ndarray) -> None:
    few = vectors[:3000]
    graph = AnnIndex.build(few, kind="hnsw", queries=people[:200], recall=0.95)
    items, scores = graph.search(people[200:], 10)
    np.testing.assert_array_equal(scores, inner_pairs(people[200:], few, items))
    assert graph.recall(people[200:], 10) >= 0.93 and graph.facts["links"] == 32


def test_cosine(vectors: np.ndarray, people: np.ndarray) -> None:
    near = AnnIndex.build(vectors, metric="cosine")
    items, scores = near.search(people * 37, 10)
    wanted = ExactIndex(unit_rows(vectors)).search(unit_rows(people * 37), 10)
    hits = np.mean([len(set(a) & set(b)) / 10 for a, b in zip(items.tolist(), wanted[0].tolist(), strict=True)])
    assert hits > 0.95 and scores.max() <= 1 + 1e-6
    assert near.facts["queries"] == "drawn from the item vectors"


def test_excluded_items_never_come_back_and_the_rest_moves_up(index: AnnIndex, people: np.ndarray) -> None:
    best = index.exact.search(people, 60)[0]
    exclude = Ragged.from_rows(best[:, :50])
    items, scores = index.search(people, 10, exclude=exclude)
    assert not any(set(a) & set(b) for a, b in zip(items.tolist(), best[:, :50].tolist(), strict=True))
    assert (items >= 0).all() and np.isfinite(scores).all()
    assert index.recall(people, 10, exclude=exclude) >= 0.97


def test_a_history_deeper_than_any_depth_is_answered_exactly(index: AnnIndex, people: np.ndarray) -> None:
    exclude = index.exact.search(people[:5], 400)[0]
    rows = Ragged.from_rows(exclude)
    np.testing.assert_array_equal(
        index.search(people[:5], 10, exclude=rows)[0], index.exact.search(people[:5], 10, exclude=rows)[0]
    )


@pytest.mark.parametrize("share", [0.5, 0.2, 0.05])
def test_filters(index: AnnIndex, people: np.ndarray, share: float) -> None:
    allowed = np.random.default_rng(5).random(len(index)) < share
    items, _ = index.search(people, 10, allowed=allowed)
    assert allowed[items].all()
    least = 1.0 if share < ann.SHARE else 0.97
    assert index.recall(people, 10, allowed=allowed) >= least


def test_a_filter_against_the_query_goes_on_until_enough_is_found(index: AnnIndex, people: np.ndarray) -> None:
    # The nearest 40 % of the catalogue are shut out: no cell nearby holds anything allowed.
    query = people[7]
    order = np.argsort(-(index.exact.vectors @ query))
    allowed = np.ones(len(index), bool)
    allowed[order[: int(0.4 * len(index))]] = False
    items, _ = index.search(query, 10, allowed=allowed)
    np.testing.assert_array_equal(items, index.exact.search(query, 10, allowed=allowed)[0])


def test_the_levels_are_really_climbed(index: AnnIndex, people: np.ndarray, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[int, int]] = []
    plain = AnnIndex._candidates

    def spy(self: AnnIndex, queries: np.ndarray, depth: int, effort: int) -> np.ndarray:
        asked.append((depth, len(queries)))
        return plain(self, queries, depth, effort)

    monkeypatch.setattr(AnnIndex, "_candidates", spy)
    index.search(people, 10)
    assert asked == [(10, 400)]
    asked.clear()
    best = index.exact.search(people[:2], 300)[0]
    rows = Ragged.from_rows([best[0, :15], best[1, :0]])
    index.search(people[:2], 10, exclude=rows)
    assert asked == [(10, 1), (30, 1)]
    asked.clear()
    blocked = np.ones(len(index), bool)
    blocked[best[0, :200]] = False
    index.search(people[:1], 10, allowed=blocked)
    assert [depth for depth, _ in asked] == [30, 100, 300]


def test_a_query_of_zeros_and_short_catalogues(index: AnnIndex) -> None:
    zero = np.zeros(24, np.float32)
    np.testing.assert_array_equal(index.search(zero, 5)[0], index.exact.search(zero, 5)[0])
    allowed = np.zeros(len(index), bool)
    allowed[:3] = True
    items, scores = index.search(index.exact.vectors[0], 5, allowed=allowed)
    assert (items[0, 3:] == -1).all() and np.isneginf(scores[0, 3:]).all()
    assert set(items[0, :3]) == {0, 1, 2}
    assert (index.search(zero, 5, allowed=np.zeros(len(index), bool))[0] == -1).all()


def test_many_threads_at_once(index: AnnIndex, people: np.ndarray) -> None:
    wanted = index.search(people[:80], 10)[0]
    found = np.empty_like(wanted)

    def work(start: int) -> None:
        for row in range(start, 80, 4):
            found[row] = index.search(people[row], 10)[0][0]

    workers = [threading.Thread(target=work, args=(start,)) for start in range(4)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    np.testing.assert_array_equal(found, wanted)


def test_threads_of_faiss_are_left_as_they_were(index: AnnIndex, people: np.ndarray) -> None:
    import faiss

    before = faiss.omp_get_max_threads()
    index.search(people[:3])
    assert faiss.omp_get_max_threads() == before


def test_the_same_seed_gives_the_same_index(vectors: np.ndarray, people: np.ndarray) -> None:
    first, second = (AnnIndex.build(vectors[:2000], recall=0.8, seed=3) for _ in range(2))
    assert first.facts == second.facts
    np.testing.assert_array_equal(first.search(people)[0], second.search(people)[0])


@pytest.mark.parametrize("kind", ["ivf", "hnsw"])
def test_saved_and_loaded(kind: str, vectors: np.ndarray, people: np.ndarray, tmp_path: Path) -> None:
    made = AnnIndex.build(vectors[:2000], kind=kind, queries=people, recall=0.8)
    folder = made.save(tmp_path / "index")
    again = AnnIndex.load(folder)
    assert again.facts == made.facts and len(again) == 2000
    for a, b in zip(made.search(people), again.search(people), strict=True):
        np.testing.assert_array_equal(a, b)
    made.save(folder)  # a second time over the first


@pytest.mark.parametrize("name", ["index.faiss", "vectors.safetensors"])
def test_faiss_never_sees_a_changed_file(index: AnnIndex, tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    import faiss

    folder = index.save(tmp_path / "index")
    content = bytearray((folder / name).read_bytes())
    content[len(content) // 2] ^= 1
    (folder / name).write_bytes(content)
    monkeypatch.setattr(faiss, "deserialize_index", lambda *_: pytest.fail("read before it was checked"))
    with pytest.raises(BundleError, match="changed or cut short"):
        AnnIndex.load(folder)
    (folder / name).unlink()
    with pytest.raises(BundleError, match="missing"):
        AnnIndex.load(folder)


def test_a_changed_manifest_or_another_folder_is_refused(index: AnnIndex, tmp_path: Path) -> None:
    with pytest.raises(BundleError, match="no saved index"):
        AnnIndex.load(tmp_path)
    folder = index.save(tmp_path / "index")
    path = folder / "index.json"
    manifest = json.loads(path.read_text())
    manifest["facts"]["efforts"]["10"] = 1
    path.write_text(json.dumps(manifest))
    with pytest.raises(BundleError, match="manifest was changed"):
        AnnIndex.load(folder)
    path.write_text("{}")
    with pytest.raises(BundleError, match="can't be read"):
        AnnIndex.load(folder)


def test_vectors_and_index_of_different_builds_are_refused(vectors: np.ndarray, tmp_path: Path) -> None:
    made = AnnIndex.build(vectors[:2000], recall=0.8)
    made.exact = ExactIndex(vectors[:1500])
    with pytest.raises(BundleError, match="belong together"):
        AnnIndex.load(made.save(tmp_path / "index"))


def test_what_can_not_be_built_is_refused(vectors: np.ndarray) -> None:
    with pytest.raises(ConfigError, match="kind"):
        AnnIndex.build(vectors, kind="pq")  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="recall"):
        AnnIndex.build(vectors, recall=99)
    with pytest.raises(DataError, match="needs items"):
        AnnIndex.build(vectors[:0])
    with pytest.raises(DataError, match="two queries"):
        AnnIndex.build(vectors[:100], queries=np.zeros((5, 24)))
    noise = np.random.default_rng(0).normal(size=(400, 24))
    with pytest.raises(UnsupportedError, match="largest effort"):
        AnnIndex.build(noise, recall=1.0)


def test_the_exact_index_is_chosen_unless_the_other_is_well_faster(
    vectors: np.ndarray, people: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    for times, kind in ((5.0, AnnIndex), (1.5, ExactIndex)):
        monkeypatch.setattr(AnnIndex, "speedup", lambda *_, times=times: times)
        index, why = choose_index(vectors, people, recall=0.9)
        assert type(index) is kind and f"{times} times as fast" in why
    noise = np.random.default_rng(0).normal(size=(400, 24))
    index, why = choose_index(noise, people, recall=1.0)
    assert type(index) is ExactIndex and "largest effort" in why
    with pytest.raises(DataError, match="four queries"):
        choose_index(vectors, people[:3])


def test_speed_is_measured(index: AnnIndex, people: np.ndarray) -> None:
    assert 0 < index.speedup(people[:20]) < 1000
