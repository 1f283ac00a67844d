"""Results of benchmarks: one JSON file each, with all that is needed to run it again."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from palate.runtime import machine, versions

RESULTS = Path(__file__).parent / "results"
#: Software whose version every result tells.
SOFTWARE = ("palate", "numpy", "scipy", "numba", "pyarrow", "polars", "torch")


def record(
    name: str,
    rows: Sequence[Mapping[str, Any]] | Mapping[str, Any],
    *,
    what: str | None = None,
    peers: Mapping[str, str] | None = None,
    seeds: Sequence[int] = (),
    notes: Mapping[str, Any] | None = None,
) -> Path:
    """Write ``results/NAME.json`` (a temporary file, then a rename) and return its path.

    Parameters
    ----------
    name
        Name of the benchmark, as that of its program.
    rows
        What was measured; units stand in the keys.
    what
        What is measured and how, in a sentence or two.
    peers
        Versions of the software it is held against.
    seeds
        Seeds of every random choice.
    notes
        Anything else a reader must know, such as goals.
    """
    content = {
        "name": name,
        "what": " ".join((what or "").split()),
        "command": " ".join(["python", f"benchmarks/{Path(sys.argv[0]).name}", *sys.argv[1:]]),
        "seeds": list(seeds),
        "versions": {**versions(*SOFTWARE), **(peers or {})},
        "machine": machine(),
        "notes": dict(notes or {}),
        "rows": [dict(rows)] if isinstance(rows, Mapping) else [dict(row) for row in rows],
    }
    RESULTS.mkdir(exist_ok=True)
    path = RESULTS / f"{name}.json"
    draft = path.with_suffix(".tmp")
    draft.write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    draft.replace(path)
    print(f"wrote {path}", file=sys.stderr)
    return path


def data_folder(name: str) -> Path:
    """Return the folder of a public data set: from ``PALATE_DATA`` where it is there, else fetched into the cache."""
    home = os.environ.get("PALATE_DATA")
    if home and (Path(home) / name).is_dir():
        return Path(home) / name
    from palate.data import public

    return Path(public.get(name))
