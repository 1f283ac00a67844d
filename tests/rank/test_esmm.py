"""ESMM: chances of a funnel never rise; the product without small differences; labels; the whole space against clicked rows."""

from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch

from palate.contracts.ranker import Rows
from palate.errors import ConfigError, DataError
from palate.rank.esmm import ESMM, both, joint_labels
from palate.rank.mmoe import MMoE

QUICK: dict[str, Any] = {"dim": 4, "batch_size": 256, "lr": 0.02, "epochs": 12, "hidden": (16,)}
CLICK, BUY = np.array([0.1, 0.6, 0.3, 0.8]), np.array([0.8, 0.2, 0.5, 0.5])


def funnel(n: int = 4_000, seed: int = 0, *, hidden: bool = False) -> tuple[Rows, np.ndarray]:
    """Rows of four items, with a purchase after a click only (``hidden``: not observed without one), and the items."""
    rng = np.random.default_rng(seed)
    item = rng.integers(4, size=n)
    click = rng.random(n) < CLICK[item]
    buy = np.where(click, (rng.random(n) < BUY[item]).astype(np.float32), np.nan if hidden else 0.0)
    labels = {"click": click.astype(np.float32), "buy": buy.astype(np.float32)}
    return Rows(pa.table({"item": [f"i{i}" for i in item]}), labels), item


@pytest.mark.parametrize("hidden", [False, True])
def test_chances_of_each_step_and_of_all(hidden: bool) -> None:
    rows, item = funnel(hidden=hidden)
    model = ESMM(**{**QUICK, "epochs": 30}).fit(rows)
    found, after = model.predict(rows), model.after(rows)
    for at in range(4):
        own = item == at
        np.testing.assert_allclose(found.values[own][0], [CLICK[at], CLICK[at] * BUY[at]], atol=0.05)
        np.testing.assert_allclose(after.values[own][0], [CLICK[at], BUY[at]], atol=0.08)
    assert (found.task("buy") <= found.task("click")).all()
    np.testing.assert_allclose(found.task("buy"), after.values.prod(1), rtol=1e-4)


def test_the_product_in_log_odds() -> None:
    a, b = torch.meshgrid(*[torch.linspace(-30, 30, 61, dtype=torch.float64)] * 2, indexing="ij")
    product = torch.sigmoid(a) * torch.sigmoid(b)
    rest = torch.sigmoid(-a) + torch.sigmoid(a) * torch.sigmoid(-b)  # 1 - product, without cancellation
    torch.testing.assert_close(both(a, b), product.log() - rest.log(), rtol=1e-9, atol=1e-9)
    wide = torch.tensor([-200.0, -90.0, 0.0, 90.0, 200.0]).requires_grad_()
    for other in (-200.0, 0.0, 200.0):
        found = both(wide, torch.full((5,), other))
        assert found.isfinite().all() and (found <= wide).all()
        (slope,) = torch.autograd.grad(found.sum(), wide)
        assert slope.isfinite().all()


def test_a_later_chance_is_never_higher() -> None:
    rows, _ = funnel(200)
    labels = {**rows.labels, "keep": rows.labels["buy"]}
    model = ESMM(**{**QUICK, "epochs": 1}).fit(Rows(rows.features, labels))
    with torch.no_grad():
        for parameter in model.net_.parameters():
            parameter.normal_(0, 3, generator=torch.Generator().manual_seed(0))
    found = model.predict(rows).values
    assert (np.diff(found, axis=1) <= 0).all() and found.shape == (200, 3)


def test_labels_are_joint() -> None:
    nan = float("nan")
    click = np.array([0, 0, 1, 1, 1, nan, nan], np.float32)
    buy = np.array([0, nan, 0, 1, nan, 0, 1], np.float32)
    rows = Rows(pa.table({"item": list("abcdefg")}), {"buy": buy, "click": click})
    found = joint_labels(rows, ("click", "buy")).labels
    assert list(found) == ["click", "buy"]
    np.testing.assert_array_equal(found["click"], click)
    np.testing.assert_array_equal(found["buy"], [0, 0, 0, 1, nan, 0, nan])


def test_what_is_no_funnel_is_refused() -> None:
    table = pa.table({"item": ["a", "b"]})
    zero, one = np.array([0, 1], np.float32), np.array([1, 1], np.float32)
    with pytest.raises(DataError, match="without the one before"):
        ESMM(**QUICK).fit(Rows(table, {"click": zero, "buy": one}))
    with pytest.raises(DataError, match="happened"):
        ESMM(**QUICK).fit(Rows(table, {"click": zero, "stars": np.array([0, 4], np.float32)}))
    for wrong in (("click", "cart"), ("click",), ("click", "click", "buy")):
        with pytest.raises(ConfigError):
            ESMM(**QUICK, funnel=wrong).fit(Rows(table, {"click": zero, "buy": zero}))


def test_clicked_rows_alone_mislead_elsewhere() -> None:
    """Rows seldom clicked, where a purchase would follow: the product over all rows meets what happens, one by one."""
    rows, item = funnel(hidden=True)
    apart = MMoE(dim=4, batch_size=256, lr=0.02, epochs=12, hidden=(16,)).fit(rows).predict(rows)
    whole = ESMM(**QUICK).fit(rows).predict(rows)
    truth = (CLICK * BUY)[item]
    assert np.abs(whole.task("buy") - truth).mean() < 0.03 < np.abs(apart.task("buy") - truth).mean()
