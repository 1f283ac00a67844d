"""Which positions were looked at, by hand."""

from __future__ import annotations

import numpy as np
import pytest

from palate.contracts.policy import Feedback, Slate
from palate.explore.user_models import looked_at

NAN = np.nan
ITEMS = np.array([[0, 1, 2, 3], [0, 1, 2, 3], [0, 1, 2, 3], [0, 1, -1, -1], [0, 1, 2, 3]])
REWARDS = np.array([[0, 1, 0, 0], [0, 0, 0, 0], [1, 0, 1, 0], [0, 1, 0, 0], [NAN, 0, 1, 0]])


def feedback(examined: np.ndarray | None = None) -> Feedback:
    return Feedback(Slate(ITEMS, np.ones(ITEMS.shape)), REWARDS, examined)


@pytest.mark.parametrize(
    ("model", "wanted"),
    [
        ("cascade", [[1, 1, 0, 0], [1, 1, 1, 1], [1, 0, 0, 0], [1, 1, 0, 0], [0, 1, 1, 0]]),
        ("dependent_click", [[1, 1, 0, 0], [1, 1, 1, 1], [1, 1, 1, 0], [1, 1, 0, 0], [0, 1, 1, 0]]),
        ("all", [[1, 1, 1, 1], [1, 1, 1, 1], [1, 1, 1, 1], [1, 1, 0, 0], [0, 1, 1, 1]]),
    ],
)
def test_by_hand(model, wanted) -> None:
    np.testing.assert_array_equal(looked_at(feedback(), model), np.array(wanted, bool))


@pytest.mark.parametrize("model", ["cascade", "dependent_click", "all"])
def test_what_is_told_goes_first(model) -> None:
    examined = np.zeros(ITEMS.shape, bool)
    examined[:, 3] = True
    examined[4, 0] = True  # its reward is not observed
    wanted = examined & (ITEMS >= 0) & ~np.isnan(REWARDS)
    np.testing.assert_array_equal(looked_at(feedback(examined), model), wanted)
