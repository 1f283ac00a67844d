"""Business: what people did and paid, from counts and plain arrays; and the arithmetic of experiments.

Rates of nothing are NaN. Amounts of money are in the caller's currency, times in the caller's unit unless a name says
otherwise.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from palate.errors import DataError

__all__ = [
    "add_to_cart_rate",
    "adoption_rate",
    "average_order_value",
    "bounce_rate",
    "catalogue_turnover",
    "churn",
    "click_through_conversion_rate",
    "click_through_rate",
    "conversion_rate",
    "cost_per_thousand",
    "cuped",
    "gross_merchandise_value",
    "hide_rate",
    "latency",
    "lifetime_value",
    "mean_dwell",
    "mean_session_length",
    "recommendation_share",
    "retention",
    "return_rate",
    "revenue_per",
    "revenue_per_mille",
    "sales_gini",
    "sales_tail_share",
    "sample_ratio_mismatch",
    "sample_size",
    "sessions_per_user",
    "take_rate",
    "units_per_order",
    "uplift",
]


def click_through_rate(clicks: float, impressions: float) -> float:
    """Click-through rate (CTR): ``clicks / impressions``."""
    return _share(clicks, impressions)


def conversion_rate(orders: float, clicks: float) -> float:
    """Conversion rate (CVR): ``orders / clicks``."""
    return _share(orders, clicks, capped=False)


def click_through_conversion_rate(orders: float, impressions: float) -> float:
    """CTCVR: ``orders / impressions``, which is CTR · CVR."""
    return _share(orders, impressions)


def adoption_rate(engagement: ArrayLike, threshold: float, impressions: int | None = None) -> float:
    """Adoption: share of impressions with an engagement (watch or read time) of ``threshold`` or more.

    ``engagement`` holds one value an impression, or only those of clicks where ``impressions`` is given.
    """
    values = _amounts(engagement, "engagement")
    return _share(float((values >= threshold).sum()), len(values) if impressions is None else impressions)


def add_to_cart_rate(carts: float, clicks: float) -> float:
    """Add-to-cart rate: ``carts / clicks``."""
    return _share(carts, clicks, capped=False)


def gross_merchandise_value(price: ArrayLike, units: ArrayLike | None = None) -> float:
    """Gross merchandise value (GMV): ``Σ price · units`` of what was ordered."""
    prices = _amounts(price, "price")
    return float(prices.sum() if units is None else (prices * _amounts(units, "units")).sum())


def revenue_per(revenue: float, count: float) -> float:
    """Revenue per session, per user or per order: ``revenue / count``."""
    return _share(revenue, count, capped=False)


def revenue_per_mille(revenue: float, impressions: float) -> float:
    """Revenue per mille (RPM): ``1000 · revenue / impressions``."""
    return 1000 * _share(revenue, impressions, capped=False)


def average_order_value(revenue: float, orders: float) -> float:
    """Average order value (AOV): ``revenue / orders``."""
    return _share(revenue, orders, capped=False)


def units_per_order(units: float, orders: float) -> float:
    """Units per order: ``units / orders``."""
    return _share(units, orders, capped=False)


def return_rate(returned: float, sold: float) -> float:
    """Return rate: ``units sent back / units sold``."""
    return _share(returned, sold)


def take_rate(commission: float, gmv: float) -> float:
    """Take rate: ``commission / GMV``."""
    return _share(commission, gmv)


def hide_rate(hides: float, impressions: float) -> float:
    """Complaint or hide rate: ``hides / impressions``."""
    return _share(hides, impressions)


def churn(active_before: ArrayLike, active_now: ArrayLike) -> float:
    """Churn: share of the users active in one period who are not active in the next."""
    before, now = np.unique(np.asarray(active_before)), np.unique(np.asarray(active_now))
    return _share(len(np.setdiff1d(before, now)), len(before))


def retention(user: ArrayLike, day: ArrayLike, after: int) -> float:
    """Retention on day ``after`` (D1, D7, D30): share of users active again exactly ``after`` days past their first.

    Users whose first day is less than ``after`` days before the last day of the log are left out: their day has not come.
    """
    users, days = np.asarray(user), np.asarray(day, np.int64)
    if len(users) != len(days) or after < 1:
        raise DataError("one day is needed for each user, and after is at least 1.", value=[len(users), len(days), after])
    if not len(users):
        return float("nan")
    _, code = np.unique(users, return_inverse=True)
    first = np.full(code.max() + 1, np.iinfo(np.int64).max)
    np.minimum.at(first, code, days)
    known = first + after <= days.max()
    back = np.zeros(len(first), bool)
    back[code[days == first[code] + after]] = True
    return _share(float((back & known).sum()), float(known.sum()))


def mean_dwell(seconds: ArrayLike) -> float:
    """Dwell time: mean of the times spent on an item."""
    values = _amounts(seconds, "seconds")
    return float(values.mean()) if len(values) else float("nan")


def mean_session_length(session: ArrayLike) -> float:
    """Session length: ``events / sessions``, from the session of each event."""
    sessions = np.asarray(session)
    return _share(len(sessions), len(np.unique(sessions)), capped=False)


def sessions_per_user(user: ArrayLike, session: ArrayLike) -> float:
    """Sessions per user: different (user, session) pairs over users, from the events."""
    pairs = np.unique(np.stack([np.unique(np.asarray(c), return_inverse=True)[1] for c in (user, session)], 1), axis=0)
    return _share(len(pairs), len(np.unique(np.asarray(user))), capped=False)


def bounce_rate(session: ArrayLike) -> float:
    """Bounce rate: share of sessions with one event, from the session of each event."""
    counts = np.unique(np.asarray(session), return_counts=True)[1]
    return _share(float((counts == 1).sum()), len(counts))


def recommendation_share(from_recommendations: float, sales: float) -> float:
    """Share of sales that came from recommendations: ``sales through a recommendation / sales``."""
    return _share(from_recommendations, sales)


def sales_gini(units: ArrayLike) -> float:
    """Gini index of sales over the catalogue: ``Σ_i (2i - n - 1) x_(i) / (n Σ x)``, ascending; unsold items count as 0."""
    x = np.sort(_amounts(units, "units"))
    if not len(x) or x.sum() == 0:
        return float("nan")
    return float(((2 * np.arange(1, len(x) + 1) - len(x) - 1) * x).sum() / (len(x) * x.sum()))


def sales_tail_share(units: ArrayLike, head: float = 0.2) -> float:
    """Long-tail share of sales: units sold outside the ``head`` share of best-selling items, over all units."""
    x = np.sort(_amounts(units, "units"))[::-1]
    return _share(float(x[int(np.ceil(head * len(x))) :].sum()), float(x.sum()))


def catalogue_turnover(sold_items: float, catalogue: float) -> float:
    """Catalogue turnover: different items sold in a period, over the catalogue."""
    return _share(sold_items, catalogue)


def lifetime_value(margin: float, retained: float, discount: float = 0.0) -> float:
    """Lifetime value: ``Σ_{t>=0} m r^t / (1 + d)^t = m (1 + d) / (1 + d - r)``.

    ``m`` is the margin of a period, ``r`` the share of users retained each period, ``d`` the discount of a period.
    Infinite where ``r = 1`` and ``d = 0``.
    """
    if not (0 <= retained <= 1 and discount >= 0):
        raise DataError("retained lies between 0 and 1, discount is not below 0.", value=[retained, discount])
    gap = 1 + discount - retained
    return margin * (1 + discount) / gap if gap > 0 else float("inf") * np.sign(margin)


def latency(seconds: ArrayLike) -> dict[str, float]:
    """Latency percentiles ``p50``, ``p95``, ``p99`` (linear between samples), in the unit given."""
    values = _amounts(seconds, "seconds")
    if not len(values):
        return dict.fromkeys(("p50", "p95", "p99"), float("nan"))
    return {f"p{q}": float(np.percentile(values, q)) for q in (50, 95, 99)}


def cost_per_thousand(cost: float, requests: float) -> float:
    """Cost of 1,000 requests: ``1000 · cost / requests``."""
    return 1000 * _share(cost, requests, capped=False)


class Uplift(NamedTuple):
    """Relative change of a ratio, with its standard error and 95% interval."""

    value: float
    standard_error: float
    low: float
    high: float


def uplift(
    treated: ArrayLike, control: ArrayLike, treated_base: ArrayLike | None = None, control_base: ArrayLike | None = None
) -> Uplift:
    """Uplift: ``(T - C) / C`` of two means, or of two ratios of sums where bases are given, with delta-method variance.

    One value a randomised unit (a user). For a ratio ``R = Σ x / Σ b``: ``Var R = Var(x - R b) / (n b̄²)``; for the uplift
    ``Var(T/C) = Var T / C² + T² Var C / C⁴``. At least two units an arm.
    """
    one, spread_one = _ratio(treated, treated_base)
    two, spread_two = _ratio(control, control_base)
    if two == 0:
        return Uplift(*[float("nan")] * 4)
    value = one / two - 1
    error = float(np.sqrt(spread_one / two**2 + one**2 * spread_two / two**4))
    return Uplift(value, error, value - 1.959964 * error, value + 1.959964 * error)


def cuped(outcome: ArrayLike, before: ArrayLike) -> np.ndarray:
    """CUPED: ``Y - θ (X - X̄)``, ``θ = cov(X, Y) / var(X)``; the same mean, less variance.

    ``X`` is known before the experiment; give both arms together, so that θ is one. Source: Deng et al., WSDM 2013.
    """
    y, x = np.asarray(outcome, np.float64), np.asarray(before, np.float64)
    if y.shape != x.shape or y.ndim != 1 or len(y) < 2:
        raise DataError("one outcome and one earlier value a unit are needed, at least two units.", value=[y.shape, x.shape])
    centred = x - x.mean()
    spread = centred @ centred
    return y - (centred @ y / spread if spread > 0 else 0.0) * centred


def sample_ratio_mismatch(counts: ArrayLike, expected: ArrayLike | None = None) -> tuple[float, bool]:
    """Sample ratio mismatch: the p value of a χ² test of the arm counts against ``expected`` shares (equal ones by default).

    Returns
    -------
    p, alarm
        Alarm means ``p < 0.001``: don't read the experiment's results.
    """
    from scipy import stats

    seen = _amounts(counts, "counts")
    shares = np.ones(len(seen)) if expected is None else _amounts(expected, "expected")
    if len(seen) < 2 or seen.sum() == 0 or len(shares) != len(seen) or not (shares > 0).all():
        raise DataError("two arms or more with people, and shares above 0, are needed.", value=seen.tolist())
    p = float(stats.chisquare(seen, seen.sum() * shares / shares.sum()).pvalue)
    return p, p < 0.001


def sample_size(deviation: float, effect: float, power: float = 0.8, level: float = 0.05) -> int:
    """Units an arm: ``2 (z_{1-level/2} + z_power)² σ² / δ²``, close to ``16 σ² / δ²`` at 80% and 5%."""
    from scipy import stats

    if not (effect != 0 and deviation >= 0 and 0 < power < 1 and 0 < level < 1):
        raise DataError("effect is not 0, power and level lie between 0 and 1.", value=[deviation, effect, power, level])
    z = stats.norm.ppf(1 - level / 2) + stats.norm.ppf(power)
    return int(np.ceil(2 * z**2 * deviation**2 / effect**2))


def _ratio(values: ArrayLike, base: ArrayLike | None) -> tuple[float, float]:
    """Return a mean or a ratio of sums, and its variance."""
    x = np.asarray(values, np.float64)
    b = np.ones(len(x)) if base is None else np.asarray(base, np.float64)
    if len(x) < 2 or len(b) != len(x) or b.sum() == 0:
        raise DataError("an arm needs two units or more, and a base that is not 0.", value=[len(x), len(b)])
    ratio = float(x.sum() / b.sum())
    return ratio, float((x - ratio * b).var(ddof=1) / (len(x) * b.mean() ** 2))


def _share(part: float, whole: float, *, capped: bool = True) -> float:
    if not (part >= 0 and whole >= 0) or (capped and part > whole * (1 + 1e-12)):
        raise DataError("a part is not below 0 and not above its whole.", value=[part, whole])
    return part / whole if whole else float("nan")


def _amounts(values: ArrayLike, name: str) -> np.ndarray:
    array = np.asarray(values, np.float64).ravel()
    if not (np.isfinite(array) & (array >= 0)).all():
        raise DataError("amounts are finite and not below 0.", where=name)
    return array
