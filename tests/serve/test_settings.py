"""``palate.toml``: what is right is read, what is wrong names its place and the nearest right key."""

from __future__ import annotations

from pathlib import Path

import pytest

from palate.errors import ConfigError
from palate.serve.pipeline.config import NewSource, TrendingSource
from palate.serve.settings import ServiceSettings

GOOD = """
[store]
url = "sqlite:///x.db"

[pipeline]
rule = "item.price < 10.0"
pinned = ["house-special"]

[[pipeline.sources]]
kind = "trending"
hours = 24

[[pipeline.sources]]
kind = "new"

[pipeline.explore]
kind = "epsilon"
epsilon = 0.1
"""


def test_a_file_is_read(tmp_path: Path) -> None:
    (tmp_path / "palate.toml").write_text(GOOD)
    settings = ServiceSettings.read(tmp_path / "palate.toml")
    assert settings.pipeline.sources == (TrendingSource(hours=24), NewSource())
    assert settings.pipeline.explore.epsilon == 0.1
    assert settings.server.host == "127.0.0.1"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[server]\nprot = 1", ["server.prot", "did you mean 'port'"]),
        ("[pipelin]\nx = 1", ["pipelin", "did you mean 'pipeline'"]),
        ("[[pipeline.sources]]\nkind = 'trending'\nhuors = 3", ["pipeline.sources.0.huors", "did you mean 'hours'"]),
        ("[search]\nencodre = 'off'", ["search.encodre", "did you mean 'encoder'"]),
        ("[search]\nleast = 2", ["search.least", "less than or equal to 1"]),
        ("[[pipeline.sources]]\nkind = 'meaning'\nquotta = 3", ["pipeline.sources.0.quotta", "did you mean 'quota'"]),
        ("[[pipeline.sources]]\nkind = 'content'\nonly = 'x'", ["pipeline.sources.0.only", "'strangers'"]),
        ("[retrieval]\nindxe = 'ann'", ["retrieval.indxe", "did you mean 'index'"]),
        ("[retrieval]\nindex = 'hnsw'", ["retrieval.index", "hnsw"]),
        ("[[pipeline.caps]]\nmost = 2\nfeild = 'x'", ["pipeline.caps.0.feild", "did you mean 'field'"]),
        ("[[pipeline.sources]]\nkind = 'nonsense'", ["pipeline.sources.0", "nonsense"]),
        ("[pipeline.explore]\nepsilon = 3", ["pipeline.explore.epsilon", "less than or equal to 1"]),
        ("[server]\ntrusted_proxies = ['*']", ["server.trusted_proxies", "name an address or a network"]),
        ("[server]\ntrusted_proxies = ['10.0.0.1/8']", ["server.trusted_proxies", "host bits"]),
        ("[server\n", ["not valid TOML"]),
    ],
)
def test_mistakes_name_their_place(tmp_path: Path, text: str, words: list[str]) -> None:
    (tmp_path / "palate.toml").write_text(text)
    with pytest.raises(ConfigError) as caught:
        ServiceSettings.read(tmp_path / "palate.toml")
    for word in words:
        assert word in str(caught.value)


def test_an_absent_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="can't be read"):
        ServiceSettings.read(tmp_path / "absent.toml")
