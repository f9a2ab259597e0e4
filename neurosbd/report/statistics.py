"""What a few seeds say about a mean: deviation and bootstrap interval, or why there is none."""

import warnings
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

LEVEL = 0.95
RESAMPLES = 9999
FEWEST = 3  # values for an interval


@dataclass(frozen=True)
class Estimate:
    """A mean over n values.

    n: number of values.
    mean: of them; none if n = 0.
    std: with n - 1 in the denominator; none if n < 2.
    low, high: ends of the 95 % interval of the mean; none if `remark` says why.
    remark: how the interval was made, or why there is none.
    """

    n: int
    mean: float | None
    std: float | None
    low: float | None
    high: float | None
    remark: str


def estimate(values: Sequence[float]) -> Estimate:
    """Mean, standard deviation and bias-corrected accelerated (BCa) bootstrap interval of the mean.

    Args:
        values: one per seed, finite.

    Returns:
        The estimate. The resampling has a fixed seed: the same values give the same interval. With few values the
        interval is too narrow: with n = 3 there are only 10 different resamples.

    Source: Efron 1987, "Better bootstrap confidence intervals"; as in scipy.stats.bootstrap. Where BCa does not
    exist (all resampled means on one side) the percentile interval stands in for it and `remark` says so.
    """
    data = np.asarray(values, float)
    n = len(data)
    if n == 0:
        return Estimate(0, None, None, None, None, "no value")
    mean = float(data.mean())
    std = float(data.std(ddof=1)) if n > 1 else None
    if n < FEWEST:
        return Estimate(n, mean, std, None, None, f"no interval: n < {FEWEST}")
    if np.ptp(data) <= 1e-12 * max(1e-300, float(np.abs(data).max())):
        return Estimate(n, mean, std, None, None, "no interval: all values are the same")
    for method in ("BCa", "percentile"):
        low, high = _bootstrap(data, method)
        if np.isfinite([low, high]).all():
            return Estimate(n, mean, std, low, high, method)
    return Estimate(n, mean, std, None, None, "no interval: the bootstrap is degenerate")


def _bootstrap(data: np.ndarray, method: str) -> tuple[float, float]:
    from scipy.stats import bootstrap

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of degenerate data: then the ends are NaN
        found = bootstrap(
            (data,), np.mean, n_resamples=RESAMPLES, confidence_level=LEVEL, method=method,
            rng=np.random.default_rng(0),
        )  # fmt: skip
    return float(found.confidence_interval.low), float(found.confidence_interval.high)
