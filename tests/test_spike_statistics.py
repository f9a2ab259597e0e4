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


def _cut(spikes: SpikeTimes, length: float) -> SpikeTimes:
    """The same spikes in segments of `length` s, one after another."""
    number = round(float(spikes.duration / length))
    start = np.arange(number) * length
    segments = np.floor(spikes.times / length + 1e-6).astype(int)
    return SpikeTimes(spikes.times, spikes.trains, spikes.count, start, start + length, segments)


def test_segments_without_a_gap_have_the_counts_of_elephant() -> None:
    """Pieces of 100 ms are what its Fano factor is of. Must fail when bins are counted from the start of the first
    segment in all of them (tried)."""
    for length, name, found in (
        (0.1, "rates", firing_rates),
        (0.1, "fano", lambda spikes: fano_factor(spikes, 0.1)),
        (0.5, "correlation", lambda spikes: count_correlation(spikes, 0.02)[np.triu_indices(4, 1)]),
    ):
        assert found(_cut(_trains(), length)) == pytest.approx(ELEPHANT[name], rel=1e-9), name  # type: ignore[operator]


def _trials(count: int = 3, jitter: float = 0.013) -> tuple[SpikeTimes, list[SpikeTimes]]:
    """Three trains in trials of unlike length, in one, and each trial by itself; some trials are of the same time."""
    rng = np.random.default_rng(2)
    start = np.array([0.0, 0.0, 0.5, 0.9, 1.4])
    stop = start + 0.3 + jitter * np.arange(5)
    found = []
    for low, high in zip(start, stop, strict=True):
        step, train = np.nonzero(rng.random((round((high - low) * 1e3), count)) < 0.08)
        found.append(SpikeTimes(low + step * 1e-3, train, count, low, high))
    times, trains = (np.concatenate([getattr(each, name) for each in found]) for name in ("times", "trains"))
    segments = np.concatenate([np.full(len(each.times), i) for i, each in enumerate(found)])
    order = rng.permutation(len(times))
    return SpikeTimes(times[order], trains[order], count, start, stop, segments[order]), found


def test_statistics_of_segments_are_pooled_over_them() -> None:
    """Against each trial by itself, in float64. Must fail when an interval, a bin or a pair reaches from one trial into
    the next one (tried, each), and does fail for the control that takes all trials for one piece of time."""
    spikes, trials = _trials()
    each = [intervals(trial) for trial in trials]
    pools = [np.concatenate([one.seconds[one.trains == n] for one in each]) for n in range(3)]
    assert sorted(intervals(spikes).seconds) == pytest.approx(sorted(np.concatenate(pools)), abs=1e-12)
    assert isi_cv(spikes) == pytest.approx([pool.std() / pool.mean() for pool in pools], rel=1e-12)
    successive = [[i[one.trains == n] for one in each for i in [one.seconds]] for n in range(3)]
    for statistic, power, factor in ((cv2, 1, 2), (lv, 2, 3)):
        terms = [np.concatenate([np.abs(np.diff(i) / (i[1:] + i[:-1])) ** power for i in one]) for one in successive]
        assert statistic(spikes) == pytest.approx([factor * one.mean() for one in terms], rel=1e-12)
    counts = np.concatenate([binned(trial, 0.02) for trial in trials], 1)
    assert (binned(spikes, 0.02) == counts).all()
    assert fano_factor(spikes, 0.02) == pytest.approx(counts.var(1) / counts.mean(1), rel=1e-12)
    assert count_correlation(spikes, 0.02) == pytest.approx(np.corrcoef(counts), rel=1e-9)
    assert synchrony(spikes, 0.02) == pytest.approx(np.sqrt(counts.mean(0).var() / counts.var(1).mean()), rel=1e-12)
    assert firing_rates(spikes) == pytest.approx(spikes.counts / sum(trial.duration for trial in trials), rel=1e-12)
    for correlogram in (lambda s: autocorrelogram(s, 5e-3, 0.1), lambda s: cross_correlogram(s, 2, 0, 5e-3, 0.1)):
        assert (correlogram(spikes).values == sum(correlogram(trial).values for trial in trials)).all()
    alone = [psth(trial, trial.start, 0.0, 0.3, 0.01).values for trial in trials]  # type: ignore[arg-type]
    assert psth(spikes, None, 0.0, 0.3, 0.01).values == pytest.approx(np.mean(alone, 0), rel=1e-12)
    one = SpikeTimes(spikes.times, spikes.trains, 3, 0.0, 2.0)
    assert len(intervals(one).seconds) > len(intervals(spikes).seconds) and (isi_cv(one) > isi_cv(spikes)).all()
    assert autocorrelogram(one, 5e-3, 0.1).values.sum() > autocorrelogram(spikes, 5e-3, 0.1).values.sum()


def test_the_order_of_segments_changes_no_pool() -> None:
    spikes, _ = _trials()
    order = np.random.default_rng(0).permutation(5)
    start, stop = np.asarray(spikes.start), np.asarray(spikes.stop)
    moved = SpikeTimes(spikes.times, spikes.trains, 3, start[order], stop[order], np.argsort(order)[spikes.segments])
    assert sorted(intervals(moved).seconds) == sorted(intervals(spikes).seconds)
    assert isi_cv(moved) == pytest.approx(isi_cv(spikes), rel=1e-12)
    assert fano_factor(moved, 0.02) == pytest.approx(fano_factor(spikes, 0.02), rel=1e-12)


def test_an_event_is_one_in_each_segment_that_has_its_window() -> None:
    """Two segments of the same time hear it; one that ends within it does not. Must fail when all do (tried)."""
    times, segments = np.array([0.51, 0.51, 0.52]), np.array([0, 1, 2])
    spikes = SpikeTimes(times, np.zeros(3, int), 1, np.zeros(3), np.array([1.0, 1.0, 0.55]), segments)
    lags, rates = psth(spikes, np.array([0.5]), 0.0, 0.1, 0.01)
    assert rates == pytest.approx(np.eye(10)[1] / 0.01) and lags[1] == pytest.approx(0.01)


def test_spikes_of_trials_are_in_a_segment_for_each_example(tmp_path: Path) -> None:
    """Of a training whose last batch is short. Must fail when its empty places are segments, or all trials are one
    (tried, both)."""
    settings = {"training.epochs": 2, "data.subset": 1, "training.batch_size": 4, "time.steps": 6}
    run = neurosbd.fit("digits-snn", settings=settings, record="hidden1.spikes", out=tmp_path / "run")
    signal = run.trace["hidden1.spikes"]
    spikes = SpikeTimes.of(signal)
    shown = [values[:, signal.sample[rows.start] >= 0] for rows, values in signal.trials()]
    assert [each.shape[1] for each in shown] == [4, 4, 2] * 2
    apart = [each[:, i] for each in shown for i in range(each.shape[1])]
    assert spikes.durations == pytest.approx([0.006] * len(apart)) and len(apart) == 20
    found = np.zeros((20, 6, 128), int)
    np.add.at(found, (np.asarray(spikes.segments), np.round(spikes.since / 1e-3).astype(int), spikes.trains), 1)
    assert (found == np.stack(apart)).all() and found.any()
    last = SpikeTimes.of(signal, epoch=2)
    assert (last.counts == sum(each.sum((0, 1), int) for each in shown[3:])).all() and len(last.durations) == 10
    part = SpikeTimes.of(signal, start=0.002, stop=0.010)  # the end of a trial and the beginning of the next one
    assert part.durations == pytest.approx([0.004] * 8)
    with pytest.raises(UsageError, match=r"of epoch 3; it has 0 to .* epochs 1 to 2"):
        SpikeTimes.of(signal, epoch=3)
    run.trace.close()


def test_spikes_of_a_free_run_are_in_one_segment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    settings = {
        "simulation.duration": 0.2,
        "simulation.report": 0.1,
        "record.signals": ["exc.spikes", "exc.v[neurons=0]"],
    }
    trace = neurosbd.simulate("balanced-network", settings=settings).trace
    signal = trace["exc.spikes"]
    spikes = neurosbd.SpikeTimes.of(signal)
    assert (spikes.counts == signal[:].sum((0, 1))).all() and spikes.stop == pytest.approx(0.2)
    assert firing_rates(spikes).mean() == pytest.approx(signal[:].mean() / trace.dt)
    late = SpikeTimes.of(signal, start=0.05, stop=0.1)
    assert (late.counts == signal[50:100].sum((0, 1))).all()
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
        (lambda: SpikeTimes(np.array([0.1]), np.array([0]), 1, [0.0, 1.0], [1.0, 2.0]), "give `segments`"),
        (
            lambda: SpikeTimes(np.zeros(0), np.zeros(0, int), 1, [0.0, 1.0], [1.0], np.zeros(0, int)),
            "as many starts as stops",
        ),
        (lambda: binned(_trains(), 3.0), "a bin must be above 0 s and at most the 2 s"),
        (lambda: cross_correlogram(_trains(), 0, 4, 1e-3, 0.01), "no train 4; there are 4: 0 to 3"),
        (
            lambda: autocorrelogram(_trains(), 1e-3, 2.0),
            "longest = 2 s must be less than the 2 s that were recorded in one",
        ),
        (lambda: psth(_trains(), np.array([5.0]), 0.1, 0.1, 0.01), "got 1 events, 0 of them inside"),
    ],
)
def test_wrong_input_is_said(wrong: object, said: str) -> None:
    with pytest.raises(UsageError, match=said):
        wrong()  # type: ignore[operator]
