"""Analyses of dimension, weights, receptive fields, eligibility and rasters, on traces with known answers."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from neurosbd import Connection, Network, Population, fit
from neurosbd.connections import Conv2d, Dense, Geometry, Local2d
from neurosbd.neurons import NEURONS
from neurosbd.tracefiles import NotRecorded
from tests.synthetic import Recorded, analysis, run_with

NAMES = ("dimension", "weights", "eligibility", "raster")


def drawn_whole(module: Any, result: Any) -> None:
    """The figure renders, and caption and advice are sentences."""
    module.figure(result).canvas.draw()
    assert module.caption(result).endswith(".") and "nan" not in module.caption(result)
    assert all(line.endswith(".") for line in module.advice(result))


@pytest.mark.parametrize("name", NAMES)
def test_says_what_to_record(name: str, tmp_path: Path) -> None:
    run = run_with(tmp_path, Recorded.trials("hidden.gain", np.zeros((2, 3, 4, 5))))
    with pytest.raises(NotRecorded, match="--record") as problem:
        analysis(name).analyse(run)
    assert problem.value.spec.startswith("*.")


# dimension


def activity(examples: np.ndarray, steps: int = 1, batch: int = 50) -> np.ndarray:
    """[trial, step, example, unit] out of [example, unit]."""
    return np.repeat(examples.reshape(-1, 1, batch, examples.shape[1]), steps, 1)


def test_isotropic_activity_in_d_of_n_units_has_dimension_d(tmp_path: Path) -> None:
    """Must fail when the mean is not subtracted (PR falls to about 1) or tr(C^2) is taken as (tr C)^2."""
    rng = np.random.default_rng(0)
    basis = np.linalg.qr(rng.standard_normal((30, 12)))[0]
    x = rng.standard_normal((20_000, 12)) @ basis.T + 5
    module = analysis("dimension")
    result = module.analyse(run_with(tmp_path, Recorded.trials("hidden.rate", activity(x), batches=400)))
    assert result.participation_ratio[0] == pytest.approx([12], rel=0.01)
    assert result.share[0] == pytest.approx([0.4], rel=0.01)
    assert result.examples[0] == [20_000]
    drawn_whole(module, result)


def test_activity_along_one_line_has_dimension_one(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    x = rng.standard_normal((200, 1)) * rng.standard_normal(20)
    module = analysis("dimension")
    result = module.analyse(run_with(tmp_path, Recorded.trials("hidden.rate", activity(x), batches=4)))
    assert result.participation_ratio[0] == pytest.approx([1], abs=1e-5)
    assert "collapsed onto 1.0 of 20" in " ".join(module.advice(result))


def test_correction_removes_the_bias_of_few_examples() -> None:
    """Plain PR of 40 isotropic dimensions from 20 examples is about 1 / (1/40 + 1/20) = 13; corrected about 40.

    Must fail when n is used for v = n - 1 (tested to 4 standard errors), or the - 2 tr(C^2) is left out (then a line
    has more than one dimension).
    """
    module, rng = analysis("dimension"), np.random.default_rng(0)
    plain, corrected = [], []
    for _ in range(400):
        moments = module.Moments(40)
        moments.add(rng.standard_normal((20, 40)))
        a, b = moments.dimensions()
        plain.append(a)
        corrected.append(b)
    assert np.mean(plain) == pytest.approx(1 / (1 / 40 + 1 / 19), rel=0.02)
    error = np.std(1 / np.array(corrected)) / 20
    assert abs(np.mean(1 / np.array(corrected)) - 1 / 40) < 4 * error
    assert error * 40 < 0.02
    line = module.Moments(3)
    line.add(np.outer(rng.standard_normal(5), [1, 2, 3]))
    assert line.dimensions() == pytest.approx((1, 1))


def test_streamed_moments_are_those_of_the_whole() -> None:
    """Must fail when pieces are centred on their own mean alone: the third piece is far away."""
    module, rng = analysis("dimension"), np.random.default_rng(0)
    x = np.concatenate([rng.standard_normal((n, 6)) + 1e4 * k for k, n in enumerate((7, 1, 30))])
    moments = module.Moments(6)
    for piece in np.split(x, (7, 8)):
        moments.add(piece)
    assert np.allclose(moments.scatter / (len(x) - 1), np.cov(x.T), rtol=1e-12)
    assert moments.count == 38


def test_steps_of_a_trial_are_averaged_and_empty_places_left_out(tmp_path: Path) -> None:
    """Spikes that only jitter within the trial have no variance between examples."""
    spikes = np.zeros((4, 10, 6, 3))
    spikes[:, ::2, ::2] = 1
    spikes[:, 1::2, 1::2] = 1  # every example: 5 spikes
    sample = np.tile(np.arange(6), (40, 1))
    spikes[:, :, 5] = 1  # 10 spikes, but there is no example at place 5
    sample[:, 5] = -1
    module = analysis("dimension")
    signal = Recorded.trials("hidden.spikes", spikes, batches=4, sample=sample)
    result = module.analyse(run_with(tmp_path, signal))
    assert result.examples[0, 0] == 20 and np.isnan(result.participation_ratio[0, 0])
    assert "did not vary" in module.advice(result)[0]


# weights


def test_drift_norm_and_spectra_of_known_matrices(tmp_path: Path) -> None:
    """Must fail when drift is taken against the previous snapshot, or kernels are flattened along the wrong axes."""
    start, end = np.diag([3.0, 4.0, 0.0]), np.diag([3.0, 4.0, 12.0])
    kernel = np.zeros((2, 3, 2, 2))
    kernel[0, 1], kernel[1, 2, 0, 1] = 1.0, 1.0  # rows are orthogonal, norms 2 and 1
    module = analysis("weights")
    run = run_with(
        tmp_path,
        Recorded.snapshots("fc->output.weight", [start, 2 * start, end]),
        Recorded.snapshots("input->conv1.weight", [kernel, kernel]),
        Recorded.snapshots("hidden.projection", [np.zeros((2, 4)), np.ones((2, 4))]),
        model="mnist-cnn",
    )
    result = module.analyse(run)
    assert result.drift[0] == pytest.approx([0, 1, 12 / 5])
    assert result.norm[0] == pytest.approx([5, 10, 13])
    assert result.progress[0] == pytest.approx([0, 1, 2])
    assert np.isnan(result.drift[1, 2]) and result.drift[1, 1] == 0
    assert result.singular[0, 1, :3] == pytest.approx([12, 4, 3])
    assert result.stable_rank[0] == pytest.approx([25 / 16, 169 / 144])
    assert result.singular[1, 0, :2] == pytest.approx([2, 1])
    assert np.isnan(result.drift[2]).all() and result.stable_rank[2, 1] == pytest.approx(1)
    assert "hardly moved" in " ".join(module.advice(result))
    drawn_whole(module, result)


def test_some_synapses_have_a_drift_but_no_spectrum(tmp_path: Path) -> None:
    w = np.random.default_rng(0).standard_normal((4, 5))
    whole = Recorded.snapshots("input->hidden.weight", [w, 2 * w])
    part = Recorded(
        "input->hidden.weight", whole.values[:, [1, 7]], whole.epoch, whole.batch, whole.step, (4, 5), (1, 7)
    )
    result = analysis("weights").analyse(run_with(tmp_path, part))
    assert result.drift[0] == pytest.approx([0, 1]) and np.isnan(result.singular).all()
    assert result.units[0] == 2


def test_a_weight_that_explodes_is_reported(tmp_path: Path) -> None:
    w = np.ones((10, 10))
    module = analysis("weights")
    still, grown = "input->hidden", "hidden->output"
    run = run_with(
        tmp_path, Recorded.snapshots(f"{grown}.weight", [w, 20 * w]), Recorded.snapshots(f"{still}.weight", [w, w])
    )
    assert [line.split(":")[0] for line in module.advice(module.analyse(run))] == [grown, still]
    assert "grew 20 times" in module.advice(module.analyse(run))[0]


# receptive fields


def test_fields_are_the_weights_of_the_largest_units(tmp_path: Path) -> None:
    """Must fail when rows and columns of the picture, or initial and final weights, are exchanged."""
    run = fit("digits-mlp", settings={"training.epochs": 1}, out=tmp_path / "run")
    module = analysis("receptive_fields")
    result = module.analyse(run)
    final = run.network().weights["input->hidden1"].detach().numpy()
    first = run.definition.network().weights["input->hidden1"].detach().numpy()
    assert result.field.shape == (64, 1, 8, 8) and result.units == len(final)
    largest = np.argmax(np.linalg.norm(final, axis=1))
    assert result.unit[0] == largest
    assert np.allclose(result.field[0, 0], final[largest].reshape(8, 8))
    assert np.allclose(result.change[0, 0], (final - first)[largest].reshape(8, 8))
    assert 0 < np.median(result.moved) < 10
    drawn_whole(module, result)


@pytest.mark.parametrize(
    ("geometry", "size", "field"),
    [
        (Dense(), (3,), (3, 2, 6, 6)),
        (Conv2d(3), (4, 4, 4), (4, 2, 3, 3)),
        (Local2d(3), (2, 4, 4), (32, 2, 3, 3)),
    ],
)
def test_a_kernel_is_its_own_field_and_a_unit_hears_all(
    geometry: Geometry, size: tuple[int, ...], field: tuple[int, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Must fail when a kernel is laid over all that arrives, or a unit is taken for a kernel (tried, both)."""
    population = Population("maps", size, NEURONS["relu"]())
    wires = [Connection("input", "maps", geometry)]
    network = Network([Population("input", (2, 6, 6), None), population], wires, torch.Generator().manual_seed(0))
    run: Any = SimpleNamespace(network=lambda: network)
    module = analysis("receptive_fields")
    monkeypatch.setattr(module, "_initial", lambda run, name, shape: np.zeros(shape))
    result = module.analyse(run)
    weight = network.weights["input->maps"].detach().numpy().reshape(field)
    assert result.field.shape == field and np.allclose(result.field, weight[result.unit])
    drawn_whole(module, result)


@pytest.mark.parametrize(("channels", "shape"), [(1, (9, 9)), (2, (9, 18)), (3, (9, 9, 3))])
def test_mosaics(channels: int, shape: tuple[int, ...]) -> None:
    """Four pictures of 4 x 4: grey and coloured ones two by two; two channels side by side, a gap between all."""
    fields = np.arange(4.0 * channels * 16).reshape(4, channels, 4, 4) - 20
    whole = analysis("receptive_fields")._mosaic(fields, float(np.abs(fields).max()))
    if channels == 2:
        assert whole.shape[0] * whole.shape[1] >= 4 * 4 * 9 and np.isnan(whole).any()
        assert np.array_equal(whole[:4, :4], fields[0, 0]) and np.array_equal(whole[:4, 5:9], fields[0, 1])
    else:
        assert whole.shape == shape
    if channels == 3:
        assert whole.min() >= 0 and whole.max() <= 1 and whole[0, 4].tolist() == [1, 1, 1]


# eligibility


def poisson_traces(tau: float, steps: int, count: int, before: int, rate: float = 0.02) -> np.ndarray:
    """Leaky sums of Poisson spikes [trial, step, example, synapse], recorded after `before` steps."""
    rng = np.random.default_rng(0)
    e, found = np.zeros(count), []
    for t in range(before + steps):
        e = e * np.exp(-1 / tau) + (rng.random(count) < rate)
        if t >= before:
            found.append(e)
    return np.array(found).reshape(1, steps, 4, -1)


@pytest.mark.parametrize("tau", [10.0, 30.0])
def test_half_life_of_filtered_poisson_spikes_is_tau_ln_2(tau: float, tmp_path: Path) -> None:
    """Must fail when the mean is not subtracted (far too long), or lags are counted from 1 (one step too long)."""
    module = analysis("eligibility")
    signal = Recorded.trials("input->hidden.eligibility", poisson_traces(tau, 1500, 400, 200))
    result = module.analyse(run_with(tmp_path, signal))
    known = tau * np.log(2) * 1e-3
    assert result.by_decay[0] == pytest.approx(known, rel=1e-4)
    assert result.by_fit[0] == pytest.approx(known, rel=0.06)
    assert result.by_interpolation[0] == pytest.approx(known, rel=0.1)
    assert result.window[0] == pytest.approx(1.5) and module.advice(result) == []
    drawn_whole(module, result)


def test_a_short_trial_shortens_the_interpolated_half_life_only(tmp_path: Path) -> None:
    """200 ms of traces with tau 100 ms: the autocorrelation falls early, the fit knows why, single decays do not care.

    Must fail when the fit is a plain exponential.
    """
    module = analysis("eligibility")
    signal = Recorded.trials("input->hidden.eligibility", poisson_traces(100.0, 200, 4000, 500, 0.05))
    result = module.analyse(run_with(tmp_path, signal))
    known = 100 * np.log(2) * 1e-3
    assert result.by_interpolation[0] < 0.5 * known
    assert result.by_fit[0] == pytest.approx(known, rel=0.2)
    assert result.by_decay[0] == pytest.approx(known, rel=1e-4)
    assert "trial" in module.advice(result)[0]


def test_expected_autocorrelation_is_that_of_the_centred_covariance() -> None:
    steps, decay = 40, np.exp(-1 / 7)
    covariance = decay ** np.abs(np.subtract.outer(np.arange(steps), np.arange(steps)))
    centring = np.eye(steps) - 1 / steps
    centred = centring @ covariance @ centring
    c = np.array([np.trace(centred, lag) / (steps - lag) for lag in range(20)])
    assert np.allclose(analysis("eligibility").expected(7.0, steps, 20), c / c[0], atol=1e-12)


def test_autocovariance_in_pieces_is_the_direct_sum() -> None:
    module, rng = analysis("eligibility"), np.random.default_rng(0)
    e = rng.standard_normal((300, 5000))
    x = e - e.mean(0)
    direct = [np.sum(x[: 300 - lag] * x[lag:]) / (300 - lag) for lag in (0, 1, 150)]
    assert module.autocovariance(e)[[0, 1, 150]] == pytest.approx(direct, rel=1e-9)


def test_silent_eligibility_is_reported(tmp_path: Path) -> None:
    module = analysis("eligibility")
    result = module.analyse(run_with(tmp_path, Recorded.trials("a->b.eligibility", np.zeros((2, 50, 1, 3)))))
    assert np.isnan(result.by_fit[0]) and np.isnan(result.by_decay[0])
    assert "never changed" in module.advice(result)[0]
    drawn_whole(module, result)


# raster


def test_raster_shows_the_first_whole_trial_of_the_last_epoch(tmp_path: Path) -> None:
    """Must fail when it takes another trial, example, or the cut-off batch at the end."""
    spikes = np.zeros((3, 20, 2, 5))
    spikes[1, 7, 0, 3] = spikes[1, 9, 0, 1] = spikes[1, 9, 1, 2] = 1
    spikes[2] = 1
    signal = Recorded.trials("hidden.spikes", spikes)
    cut = {name: getattr(signal, name)[:50] for name in ("values", "epoch", "batch", "step")}
    v = Recorded.trials("hidden.v", np.full((3, 20, 2, 2), 0.5))
    module = analysis("raster")
    result = module.analyse(run_with(tmp_path, Recorded("hidden.spikes", **cut, size=(5,)), v))
    assert result.spike_time == pytest.approx([7e-3, 9e-3]) and result.spike_neuron.tolist() == [3, 1]
    assert result.threshold == pytest.approx([0.915]) and result.voltage.shape == (1, 2, 20)
    assert result.rates[0].sum() / 20 == pytest.approx(2 / (5 * 20) / 1e-3, rel=0.01)
    drawn_whole(module, result)


@pytest.mark.parametrize(("share", "word"), [(0.0, "not one spike"), (0.9, "spikes in 9")])
def test_raster_reports_silent_and_busy_populations(share: float, word: str, tmp_path: Path) -> None:
    spikes = np.random.default_rng(0).random((1, 100, 1, 50)) < share
    module = analysis("raster")
    assert word in module.advice(module.analyse(run_with(tmp_path, Recorded.trials("hidden.spikes", spikes))))[0]


def test_rate_networks_are_heat_maps_of_a_batch(tmp_path: Path) -> None:
    rates = np.arange(24.0).reshape(2, 1, 4, 3)
    module = analysis("raster")
    result = module.analyse(run_with(tmp_path, Recorded.trials("hidden.rate", rates, batches=2)))
    assert np.array_equal(result.heat[0], rates[0, 0].T)
    drawn_whole(module, result)
