"""User models: which positions of a slate a person looked at, where the feedback doesn't say.

    cascade            up to and with the first click; all where nothing was clicked
    dependent_click    up to and with the last click; all where nothing was clicked
    all                every position

An item that was not looked at was not refused: to learn from it as if it had been lowers every estimate of what stands low.
A click is a reward above 0. Rewards that were not observed (NaN) are learnt from under no model.

Sources: N. Craswell, O. Zoeter, M. Taylor and B. Ramsey, WSDM 2008 (cascade); F. Guo, C. Liu and Y. Wang, WSDM 2009
(dependent clicks).
"""

from __future__ import annotations

from typing import Literal

import numpy as np

from palate.contracts.policy import Feedback

UserModel = Literal["cascade", "dependent_click", "all"]


def looked_at(feedback: Feedback, user_model: UserModel) -> np.ndarray:
    """Return ``bool[n, k]``: the positions that can be learnt from; what the feedback says of it goes first."""
    observed = ~np.isnan(feedback.rewards)
    known = (feedback.slate.items >= 0) & observed
    if feedback.examined is not None:
        return known & feedback.examined
    if user_model == "all":
        return known
    clicked = observed & (feedback.rewards > 0)
    before = np.cumsum(clicked, axis=1) - clicked
    if user_model == "cascade":
        return known & (before == 0)
    some = clicked.sum(axis=1, keepdims=True)
    return known & ((before < some) | (some == 0))
