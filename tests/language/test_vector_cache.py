"""The cache of vectors: exact, bounded, shared by processes, and never in the way."""

from __future__ import annotations

import signal
import sqlite3
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest

from palate.errors import ConfigError
from palate.language import vector_cache
from palate.language.vector_cache import VectorCache


def vectors_of(n: int, dim: int = 4, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal((n, dim), np.float32)


def test_vectors_come_back_to_the_bit_and_unknown_ones_are_zero(tmp_path: Path) -> None:
    cache, texts = VectorCache(tmp_path), [f"text {n}" for n in range(1200)]
    known, found = cache.get("e", texts, 4)
    assert not known.any() and not found.any() and len(cache) == 0 and cache.nbytes == 0
    cache.put("e", texts, vectors_of(1200))
    known, found = cache.get("e", ["no", *texts[::-1], "text 5", "text 5"], 4)
    assert known.tolist() == [False] + [True] * 1202
    assert np.array_equal(found[1:1201], vectors_of(1200)[::-1]) and np.array_equal(found[-2], found[-1])
    assert np.array_equal(found[-1], vectors_of(1200)[5]) and len(cache) == 1200


def test_encoders_and_lengths_are_kept_apart_and_the_first_writing_stays(tmp_path: Path) -> None:
    cache = VectorCache(tmp_path)
    cache.put("a", ["x"], np.ones((1, 3), np.float32))
    cache.put("a", ["x"], np.zeros((1, 3), np.float32))
    assert cache.get("a", ["x"], 3)[1].tolist() == [[1, 1, 1]]
    assert not cache.get("b", ["x"], 3)[0].any()
    assert not cache.get("a", ["x"], 4)[0].any()
    assert not cache.get("", ["a\0x"], 3)[0].any()


def test_texts_are_not_kept_and_others_can_not_read_the_file(tmp_path: Path) -> None:
    cache = VectorCache(tmp_path)
    cache.put("e", ["what a person wrote"], vectors_of(1))
    assert all(b"person" not in path.read_bytes() for path in tmp_path.iterdir())
    assert cache.path.stat().st_mode & 0o077 == 0


def test_the_size_is_bounded_and_what_was_read_last_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cache = VectorCache(tmp_path, max_bytes=1_000_000)
    monkeypatch.setattr(vector_cache, "_today", lambda: 100)
    cache.put("e", ["favourite"], vectors_of(1, 256))
    cache.put("e", [f"old {n}" for n in range(400)], vectors_of(400, 256))
    monkeypatch.setattr(vector_cache, "_today", lambda: 101)
    assert cache.get("e", ["favourite"], 256)[0].all()
    for part in range(3):
        cache.put("e", [f"new {part} {n}" for n in range(200)], vectors_of(200, 256))
        assert cache.nbytes <= 1_000_000
    assert cache.get("e", ["favourite"], 256)[0].all()
    assert cache.get("e", [f"new {part} {n}" for part in range(3) for n in range(200)], 256)[0].all()
    assert cache.get("e", [f"old {n}" for n in range(400)], 256)[0].mean() < 0.6
    assert cache.path.stat().st_size < 1_600_000


def test_clear_and_bad_bounds(tmp_path: Path) -> None:
    cache = VectorCache(tmp_path)
    cache.put("e", ["a"], vectors_of(1))
    cache.clear()
    assert len(cache) == 0 and not cache.get("e", ["a"], 4)[0].any() and list(tmp_path.iterdir()) == []
    with pytest.raises(ConfigError):
        VectorCache(tmp_path, max_bytes=10)


def test_a_damaged_file_is_put_aside_with_a_warning(tmp_path: Path) -> None:
    cache = VectorCache(tmp_path)
    cache.path.write_bytes(b"this is no database, and long enough to be looked at" * 100)
    with pytest.warns(RuntimeWarning, match="put aside"):
        assert not cache.get("e", ["a"], 4)[0].any()
    cache.put("e", ["a"], vectors_of(1))
    assert np.array_equal(cache.get("e", ["a"], 4)[1], vectors_of(1))
    assert any("damaged" in path.name for path in tmp_path.iterdir())


def test_a_page_that_was_overwritten_costs_a_warning_not_an_answer(tmp_path: Path) -> None:
    cache, texts = VectorCache(tmp_path), [f"t{n}" for n in range(3000)]
    cache.put("e", texts, vectors_of(3000))
    size = cache.path.stat().st_size
    with cache.path.open("r+b") as stream:
        stream.seek(8192)
        stream.write(b"\xff" * (size - 8192))
    with pytest.warns(RuntimeWarning, match="can't be used"):
        known, found = cache.get("e", texts, 4)
    assert np.array_equal(found[known], vectors_of(3000)[known])
    cache.put("e", texts, vectors_of(3000))
    assert cache.get("e", texts, 4)[0].all()


def test_a_place_that_can_not_be_written_costs_a_warning(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    cache = VectorCache(tmp_path / "file" / "below")
    with pytest.warns(RuntimeWarning, match="can't be used to write"):
        cache.put("e", ["a"], vectors_of(1))


WRITER = """
import sys, numpy as np
from palate.language.vector_cache import VectorCache
folder, name, parts = sys.argv[1], sys.argv[2], int(sys.argv[3])
print("ready", flush=True)
for part in range(parts):
    texts = [f"{name} {part} {n}" for n in range(50)] + [f"common {part} {n}" for n in range(50)]
    rows = np.array([[len(t), part, int(t.split()[2]), 7] for t in texts], np.float32)
    VectorCache(folder).put("e", texts, rows)
    print(part, flush=True)
"""


def start(folder: Path, name: str, parts: int) -> subprocess.Popen:
    command = [sys.executable, "-W", "error", "-c", WRITER, str(folder), name, str(parts)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


def test_two_processes_write_at_once(tmp_path: Path) -> None:
    both = [start(tmp_path, name, 20) for name in ("a", "b")]
    assert [process.wait(60) for process in both] == [0, 0]
    for process in both:
        process.stdout.close()
    texts = [f"{name} {part} {n}" for name in ("a", "b", "common") for part in range(20) for n in range(50)]
    known, found = VectorCache(tmp_path).get("e", texts, 4)
    assert known.all() and len(VectorCache(tmp_path)) == 3000
    assert np.array_equal(found[:, 0], [len(text) for text in texts])


def test_a_kill_in_the_middle_leaves_whole_vectors(tmp_path: Path) -> None:
    process = start(tmp_path, "a", 100_000)
    for line in process.stdout:
        if line.strip() == "3":
            break
    time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait(10)
    process.stdout.close()
    with sqlite3.connect(VectorCache(tmp_path).path) as base:
        assert base.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    base.close()
    texts = [f"a {part} {n}" for part in range(4) for n in range(50)]
    known, found = VectorCache(tmp_path).get("e", texts, 4)
    assert known.all() and np.array_equal(found[:, 2], [int(text.split()[2]) for text in texts])


def test_many_threads(tmp_path: Path) -> None:
    cache, wrong = VectorCache(tmp_path), []

    def work(seed: int) -> None:
        texts = [f"{seed} {n}" for n in range(100)]
        cache.put("e", texts, vectors_of(100, seed=seed))
        known, found = cache.get("e", texts, 4)
        if not known.all() or not np.array_equal(found, vectors_of(100, seed=seed)):
            wrong.append(seed)

    crowd = [threading.Thread(target=work, args=(seed,)) for seed in range(6)]
    for thread in crowd:
        thread.start()
    for thread in crowd:
        thread.join()
    assert not wrong and len(cache) == 600
