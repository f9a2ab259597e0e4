"""Spike statistics: the values of Elephant, and closed forms."""

import math
from pathlib import Path

import numpy as np
import pytest

import neurosbd
from neurosbd.errors import UsageError
from neurosbd.spike_statistics import (
    SpikeTimes,
    autocorrelogram,
    binned,
    count_correlation,
    cross_correlogram,
    cv2,
    fano_factor,
    firing_rates,
    intervals,
    isi_cv,
    lv,
    psth,
    synchrony,
)

# Of the trains of `_trains`, by elephant 1.2.1 with neo 0.14.6 and numpy 2.4.6: mean_firing_rate, cv, cv2, lv of isi,
# fanofactor of pieces of 100 ms, correlation_coefficient in bins of 20 ms, cross_correlation_histogram without border
# correction in bins of 5 ms, time_histogram(output="rate") in bins of 100 ms.
ELEPHANT = {
    "rates": [26, 51, 9.5, 25],
    "cv": [0.7508144184, 0.937985016, 1.26903785, 0.1009867937],
    "cv2": [0.9337362598, 1.029460073, 1.028488902, 0.1340399651],
    "lv": [0.8455654593, 1.016915961, 1.018476567, 0.01885963354],
    "fano": [0.2846153846, 0.9196078431, 0.7868421053, 0.1],
    "correlation": [-0.01803523214, 0.003869569956, 0.08948249794, 0.01558790843, -0.2093023256, 0.2378413125],
    "cross": [15, 7, 10, 16, 13, 13, 11, 13, 11, 13, 14, 13, 17, 14, 16, 8, 11, 17, 9, 14, 12],
    "auto": [5, 9, 19, 13, 3, 0, 0, 0, 0, 0, 50, 0, 0, 0, 0, 0, 3, 13, 19, 9, 5],
    "psth": [30, 35, 22.5, 20, 32.5, 35, 22.5, 30, 25, 17.5, 20, 25, 27.5, 40, 32.5, 20, 27.5, 35, 40, 20],
}  # fmt: skip


def _trains() -> SpikeTimes:
    """Three trains at random and a jittered clock, over 2 s in steps of 1 ms."""
    rng = np.random.default_rng(0)
    steps = [np.flatnonzero(rng.random(2000) < p) for p in (0.02, 0.05, 0.01)]
    steps.append(np.arange(7, 2000, 40) + rng.integers(0, 9, 50))
    trains = np.concatenate([np.full(len(each), n) for n, each in enumerate(steps)])
    times = np.concatenate(steps) * 1e-3
    shuffled = rng.permutation(len(times))
    return SpikeTimes(times[shuffled], trains[shuffled], 4, 0.0, 2.0)


def test_statistics_are_those_of_elephant() -> None:
    """To 1e-9. Must fail for std with n - 1, and for CV2 over intervals of two trains (tried, both)."""
    spikes = _trains()
    for name, found in {
        "rates": firing_rates(spikes), "cv": isi_cv(spikes), "cv2": cv2(spikes), "lv": lv(spikes),
        "fano": fano_factor(spikes, 0.1),
        "correlation": count_correlation(spikes, 0.02)[np.triu_indices(4, 1)],
        "cross": cross_correlogram(spikes, 0, 1, 5e-3, 0.05).values,
        "auto": cross_correlogram(spikes, 3, 3, 5e-3, 0.05).values,
        "psth": psth(spikes, np.array([0.0]), 0.0, 2.0, 0.1).values,
    }.items():  # fmt: skip
        assert found == pytest.approx(ELEPHANT[name], rel=1e-9), name


def test_a_clock_and_copies_of_it() -> None:
    """CV, CV2 and LV of a clock are 0; copies have correlation and synchrony 1, independent trains 1 / sqrt(n)."""
    times = np.arange(100) * 0.02
    clock = SpikeTimes(np.tile(times, 3), np.repeat(np.arange(3), 100), 4, 0.0, 2.0)
    for statistic in (isi_cv, cv2, lv):
        found = statistic(clock)
        assert found[:3] == pytest.approx(0, abs=1e-12) and np.isnan(found[3])
    assert (binned(clock, 0.02)[:3] == 1).all() and (fano_factor(clock, 0.02)[:3] == 0).all()
    assert np.isnan(fano_factor(clock, 0.02)[3])
    assert synchrony(SpikeTimes(clock.times, clock.trains, 3, 0.0, 2.0), 5e-3) == pytest.approx(1)
    assert count_correlation(clock, 5e-3)[:3, :3] == pytest.approx(1)
    rng = np.random.default_rng(1)
    step, train = np.nonzero(rng.random((20_000, 50)) < 0.02)
    many = SpikeTimes(step * 1e-3, train, 50, 0.0, 20.0)
    assert synchrony(many, 0.01) == pytest.approx(1 / math.sqrt(50), rel=0.1)
    assert np.mean(isi_cv(many)) == pytest.approx(math.sqrt(1 - 0.02), abs=0.02)  # geometric intervals
    assert np.mean(fano_factor(many, 0.05)) == pytest.approx(1 - 0.02, abs=0.03)
    assert np.bincount(intervals(many).trains).sum() == len(step) - 50
    lags, pairs = autocorrelogram(clock, 0.01, 0.04)
    assert lags == pytest.approx([-0.04, -0.03, -0.02, -0.01, 0, 0.01, 0.02, 0.03, 0.04])
    assert pairs.tolist() == [3 * 98, 0, 3 * 99, 0, 0, 0, 3 * 99, 0, 3 * 98]


def test_a_histogram_around_events_counts_what_is_around_them() -> None:
    """Events whose window is not recorded are left out. Must fail when they count (tried)."""
    events = np.array([0.005, 0.5, 1.0, 1.99])
    spikes = SpikeTimes(np.concatenate([events[:3] + 0.01, events[1:3] - 0.02]), np.zeros(5, int), 2, 0.0, 2.0)
    lags, rates = psth(spikes, events, 0.05, 0.05, 0.01)
    assert lags == pytest.approx(np.arange(10) * 0.01 - 0.05)
    assert rates == pytest.approx(np.array([0, 0, 0, 1, 0, 0, 1, 0, 0, 0]) / (2 * 0.01))


def test_recorded_spikes_are_trains_of_examples_and_neurons(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    settings = {
        "simulation.duration": 0.2,
        "simulation.report": 0.1,
        "record.signals": ["exc.spikes", "exc.v[neurons=0]"],
    }
    trace = neurosbd.simulate("balanced-network", settings=settings).trace
    signal = trace["exc.spikes"]
    spikes = neurosbd.SpikeTimes.of(signal)
    assert (spikes.counts == signal[:].reshape(200, -1).sum(0)).all() and spikes.stop == pytest.approx(0.2)
    assert firing_rates(spikes).mean() == pytest.approx(signal[:].mean() / trace.dt)
    late = SpikeTimes.of(signal, start=0.05, stop=0.1)
    assert (late.counts == signal[50:100].reshape(50, -1).sum(0)).all()
    assert (late.start, late.stop) == pytest.approx((0.05, 0.1))
    with pytest.raises(UsageError, match="no recording of spikes"):
        SpikeTimes.of(trace["exc.v"])
    trace.close()


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        (lambda: SpikeTimes(np.array([0.1]), np.array([3]), 3, 0.0, 1.0), "numbered 3 to 3, but there are 3: 0 to 2"),
        (lambda: SpikeTimes(np.array([1.0]), np.array([0]), 1, 0.0, 1.0), "must be in start <= t < stop"),
        (lambda: SpikeTimes(np.array([0.5]), np.array([0.0]), 1, 0.0, 1.0), "a whole number of a train each"),
        (lambda: SpikeTimes(np.array([]), np.array([], int), 1, 1.0, 1.0), "start < stop"),
        (lambda: binned(_trains(), 3.0), "a bin must be above 0 s and at most the 2 s"),
        (lambda: cross_correlogram(_trains(), 0, 4, 1e-3, 0.01), "no train 4; there are 4: 0 to 3"),
        (lambda: autocorrelogram(_trains(), 1e-3, 2.0), "longest = 2 s must be less than the 2 s"),
        (lambda: psth(_trains(), np.array([5.0]), 0.1, 0.1, 0.01), "got 1 events, 0 of them inside"),
    ],
)
def test_wrong_input_is_said(wrong: object, said: str) -> None:
    with pytest.raises(UsageError, match=said):
        wrong()  # type: ignore[operator]
