"""The row store: the same rows in memory and in a file, each once an epoch, in batches that the seed fixes."""

import tracemalloc
from collections.abc import Callable, Iterable

import numpy as np
import pyarrow as pa
import pytest

from palate.contracts.ranker import Rows
from palate.data.row_encoder import RowEncoder
from palate.data.row_fields import RowField
from palate.errors import DataError
from palate.training import row_store
from palate.training.row_store import CHUNK, WINDOW, RowStore, labels_of

FIELDS = (RowField("item", "category"), RowField("tags", "list", max_length=3), RowField("price", "number", scale="none"))


def some_rows(n: int = 1_000, *, weights: bool = True, groups: bool = False) -> Rows:
    """Rows whose price is their number, so that each can be told."""
    rng = np.random.default_rng(0)
    table = pa.table(
        {
            "item": [f"i{i}" for i in rng.integers(50, size=n)],
            "tags": [[f"t{t}" for t in rng.integers(9, size=rng.integers(0, 4))] for _ in range(n)],
            "price": np.arange(n, dtype=float),
        }
    )
    labels = {"click": (rng.random(n) < 0.3).astype(np.float32), "stars": rng.normal(size=n).astype(np.float32)}
    labels["stars"][::3] = np.nan
    each = rng.random(n).astype(np.float32) if weights else None
    return Rows(table, labels, each, np.repeat(np.arange(n // 10), 10).astype(np.int32) if groups else None)


def blocks_of(rows: Rows, size: int = 130) -> Callable[[], Iterable[Rows]]:
    return lambda: [rows.slice(at, min(at + size, len(rows))) for at in range(0, len(rows), size)]


def stores(rows: Rows) -> tuple[RowStore, RowStore]:
    """The same rows in memory and in a file."""
    encoder = RowEncoder.learn(FIELDS, lambda: [rows.features])
    made = [RowStore.gather(blocks_of(rows), encoder, ("click", "stars"), memory_mb=mb) for mb in (100, 0)]
    return made[0], made[1]


def test_a_file_holds_the_rows_that_memory_would() -> None:
    rows = some_rows()
    memory, mapped = stores(rows)
    assert mapped.mapped and not memory.mapped and isinstance(mapped.rows.codes, np.memmap)
    assert len(memory) == len(mapped) == 1_000
    for name in ("codes", "numbers"):
        np.testing.assert_array_equal(getattr(memory.rows, name), getattr(mapped.rows, name))
    np.testing.assert_array_equal(memory.labels, mapped.labels)
    np.testing.assert_array_equal(memory.weights, mapped.weights)
    np.testing.assert_array_equal(memory.rows.numbers[:, 0], np.arange(1_000))
    np.testing.assert_array_equal(memory.weights, rows.weights)
    assert memory.fingerprint == mapped.fingerprint


def test_the_file_goes_with_the_store() -> None:
    _, mapped = stores(some_rows())
    folder = row_store.Path(mapped._home.name)
    assert sorted(path.name for path in folder.iterdir()) == ["codes", "numbers"]
    del mapped
    assert not folder.exists()


def test_rows_without_numbers_are_mapped_too() -> None:
    rows = some_rows(300)
    encoder = RowEncoder.learn(FIELDS[:2], lambda: [rows.features])
    mapped = RowStore.gather(blocks_of(rows), encoder, ("click",), memory_mb=0)
    assert mapped.mapped and mapped.rows.numbers.shape == (300, 0)
    assert mapped.take(slice(0, 5)).rows.numbers.shape == (5, 0)


@pytest.mark.parametrize("which", [0, 1], ids=["memory", "file"])
@pytest.mark.parametrize("size", [64, 100, 1_000, 5_000])
def test_every_row_once_an_epoch(which: int, size: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(row_store, "CHUNK", 96)
    monkeypatch.setattr(row_store, "WINDOW", 3)
    store = stores(some_rows())[which]
    plan = store.batches(np.random.default_rng(1), size)
    batches = list(plan)
    assert len(batches) == len(plan) == -(-1_000 // size)
    assert all(len(batch) == size for batch in batches[:-1])
    seen = np.concatenate([batch.rows.numbers[:, 0] for batch in batches])
    assert sorted(seen.tolist()) == list(range(1_000))
    assert seen.tolist() != list(range(1_000)), "rows are not shuffled"
    for batch in batches:  # labels and weights stay with their rows
        at = batch.rows.numbers[:, 0].astype(int)
        np.testing.assert_array_equal(batch.labels, store.labels[at])
        np.testing.assert_array_equal(batch.weights, store.weights[at])


@pytest.mark.parametrize("which", [0, 1], ids=["memory", "file"])
def test_the_seed_fixes_the_order(which: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(row_store, "CHUNK", 96)
    store = stores(some_rows())[which]

    def order(seed: int) -> list[float]:
        return [x for batch in store.batches(np.random.default_rng(seed), 64) for x in batch.rows.numbers[:, 0].tolist()]

    assert order(1) == order(1) != order(2)


@pytest.mark.parametrize("changed", ["codes", "labels", "weights"])
def test_the_fingerprint_tells_other_content(changed: str) -> None:
    first, second = stores(some_rows())[0], stores(some_rows())[0]
    assert first.fingerprint == second.fingerprint
    array = second.rows.codes if changed == "codes" else getattr(second, changed)
    array[5] = array[5] + 1
    assert first.fingerprint != second.fingerprint


def test_requests_of_two_blocks_stay_apart() -> None:
    rows = some_rows(200, groups=True)
    encoder = RowEncoder.learn(FIELDS, lambda: [rows.features])
    store = RowStore.gather(blocks_of(rows, 50), encoder, ("click",), memory_mb=100)
    assert store.groups is not None
    assert (np.diff(store.groups) != 0).sum() == 19
    assert len(np.unique(store.groups)) == 20


def test_bad_rows_are_refused() -> None:
    rows = some_rows(50)
    encoder = RowEncoder.learn(FIELDS, lambda: [rows.features])
    with pytest.raises(DataError, match="no rows"):
        RowStore.gather(lambda: [rows.slice(0, 0)], encoder, ("click",))
    with pytest.raises(DataError, match="no label of a task"):
        labels_of(rows, ("bought",))
    assert RowStore.gather(lambda: [rows], encoder, ("click",)).weights.sum() == pytest.approx(float(rows.weights.sum()))
    assert (RowStore.gather(lambda: [some_rows(50, weights=False)], encoder, ("click",)).weights == 1).all()


def test_memory_stays_within_its_bound_while_rows_are_gathered_and_dealt() -> None:
    """Rows of 24 MB with a bound of 2: what Python holds stays near the bound and the labels; without it, it holds them all."""
    block = Rows(pa.table({f"c{at}": pa.array(np.arange(20_000) % (at + 2)) for at in range(12)}), {"click": np.ones(20_000)})
    encoder = RowEncoder.learn(tuple(RowField(f"c{at}", "category") for at in range(12)), lambda: [block.features])

    def peak_mb(memory_mb: int) -> float:
        tracemalloc.start()
        store = RowStore.gather(lambda: (block for _ in range(25)), encoder, ("click",), memory_mb=memory_mb)
        seen = sum(len(batch) for batch in store.batches(np.random.default_rng(0), 4_096))
        peak = tracemalloc.get_traced_memory()[1] / 2**20
        tracemalloc.stop()
        assert seen == len(store) == 500_000 and store.mapped == (memory_mb < 24)
        return peak

    labels = 8 * 500_000 / 2**20  # and weights; put together from parts, they stand twice for a moment
    window = 8 * CHUNK * WINDOW / 2**20  # numbers of rows that are shuffled together
    assert peak_mb(2) < 2 + 2 * labels + 3 * window < 24 < peak_mb(100)
