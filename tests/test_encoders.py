"""Encoders and the noise behind them: statistics within four standard errors, exact times, reconstruction."""

import math
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

import neurosbd
from neurosbd.config.compatibility import check_fit
from neurosbd.datasets.load import load_data
from neurosbd.datasets.stream import as_intensities
from neurosbd.encoders import ENCODERS, Delta, Latency, Poisson, encode
from neurosbd.errors import UsageWarning
from neurosbd.neurons import Escape
from neurosbd.noise import _unit, happens, new_key, uniform

DT = 1e-3


@pytest.fixture(autouse=True)
def _same_numbers() -> None:
    torch.manual_seed(0)


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def frames(encoder: Any, value: Tensor, steps: int, dt: float = DT, seed: int = 0) -> Tensor:
    return torch.stack(list(encode(encoder, value, steps, dt, seeded(seed))))


def correlation(a: Tensor, b: Tensor) -> float:
    return torch.corrcoef(torch.stack((a.flatten(), b.flatten())))[0, 1].item()


# What they are shown ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("values", "said"),
    [
        (np.eye(8, dtype=np.uint8)[None].repeat(40, 0), "takes 255 for full intensity, .* is 1, .* by 255"),
        (np.full((40, 8, 8), 25, np.uint8), "is 25, .* by 10.2"),
        (np.zeros((40, 8, 8), np.uint8), "is 0, so that hardly anything spikes$"),
        (np.linspace(0, 0.05, 160).reshape(40, 4), "takes 1 for full intensity, .* is 0.05, .* by 20"),
        (np.full((40, 8, 8), 26, np.uint8), None),
        (np.linspace(0, 0.5, 160).reshape(40, 4), None),
    ],
)
def test_dark_examples_are_said(tmp_path: Path, values: np.ndarray, said: str | None) -> None:
    """Must fail without the warning, or where it looks at floats or at pictures alone (tried)."""
    labels = np.arange(40) % 2
    file = tmp_path / "mine.npz"
    np.savez(file, train_values=values, train_labels=labels, test_values=values, test_labels=labels)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # columns that count the rows
        data = load_data(file)
    if said is None:
        as_intensities(data)  # a warning would be an error
    else:
        with pytest.warns(UsageWarning, match=said) as warned:
            as_intensities(data)
        assert len(warned) == 1


def test_ordinary_pictures_are_not_called_dark() -> None:
    with warnings.catch_warnings(record=True) as said:
        as_intensities(load_data("digits"))
    assert not said


def test_the_real_pictures_are_not_called_dark(real_data: Path) -> None:
    with warnings.catch_warnings(record=True) as said:
        for name in ("mnist", "cifar10"):
            as_intensities(load_data(name, real_data))
    assert not said


# Noise --------------------------------------------------------------------------------------------


def draws(steps: int, units: int, seed: int = 0) -> Tensor:
    key, like = new_key(seeded(seed), "a test", torch.device("cpu")), torch.zeros(units, dtype=torch.float64)
    return torch.stack([uniform(key, torch.tensor(t), like) for t in range(steps)])


def test_noise_is_uniform() -> None:
    """Mean, variance, and chi-square over 16 bins of a million draws, within four standard errors.

    Must fail for u^1.01 (tried).
    """
    u = draws(1000, 1000)
    assert u.min() >= 0 and u.max() < 1
    assert abs(u.mean().item() - 1 / 2) < 4 * math.sqrt(1 / 12 / 1e6)
    assert abs(u.var().item() - 1 / 12) < 4 * math.sqrt(1 / 180 / 1e6)
    for values in (u.flatten(), u[:, 0:1].flatten(), u[0]):
        expected = len(values) / 16
        chi = ((torch.histc(values, 16, 0, 1) - expected).square() / expected).sum().item()
        assert abs(chi - 15) < 4 * math.sqrt(30)  # 15 degrees of freedom


@pytest.mark.parametrize(("step_lag", "unit_lag"), [(1, 0), (2, 0), (0, 1), (0, 2), (1, 1), (1, -1), (7, 3), (0, 64)])
def test_noise_is_independent_across_steps_and_units(step_lag: int, unit_lag: int) -> None:
    """Must fail when the step only shifts the counter, or without the last mixing (tried)."""
    u = draws(600, 600)
    one = u[: 600 - step_lag, max(0, -unit_lag) : 600 - max(0, unit_lag)]
    two = u[step_lag:, max(0, unit_lag) : 600 + min(0, unit_lag)]
    assert abs(correlation(one, two)) < 4 / math.sqrt(one.numel())


def test_noise_differs_between_runs_and_repeats_within_one() -> None:
    """The 24 bits are the same in every precision."""
    one, again, other = draws(50, 400), draws(50, 400), draws(50, 400, seed=1)
    assert torch.equal(one, again) and abs(correlation(one, other)) < 4 / math.sqrt(20_000)
    key = new_key(seeded(), "a test", torch.device("cpu"))
    assert torch.equal(uniform(key, torch.tensor(3), torch.zeros(20, 20)).double().flatten(), one[3])
    with pytest.raises(ValueError, match=r"a test is random: give the run a torch\.Generator"):
        new_key(None, "a test", torch.device("cpu"))


def test_neighbouring_keys_give_other_numbers() -> None:
    like = torch.zeros(10_000, dtype=torch.float64)
    one, two = (uniform(torch.tensor(key), torch.tensor(0), like) for key in (41, 42))
    assert abs(correlation(one, two)) < 4 / 100


def probability_below(p: float, dtype: torch.dtype) -> float:
    """P(uniform < p), exactly: the numbers grow with their 48 bits, so the first that is not below p tells."""
    low, high = 0, 2**48
    limit = torch.tensor(p, dtype=dtype)
    while low < high:
        middle = (low + high) // 2
        below = bool(_unit(torch.tensor([(middle << 16) - (middle >> 47 << 64)]), dtype)[0] < limit)
        low, high = (middle + 1, high) if below else (low, middle)
    return low / 2**48


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_small_probabilities_are_met(dtype: torch.dtype) -> None:
    """1e-3 Hz at a step of 0.1 ms is 1e-7 per step. Must fail with the first 24 bits alone (tried: 1.19e-7)."""
    for p in (1e-11, 1e-9, 1e-7, 3.3e-6, 2e-4):
        assert probability_below(p, dtype) == pytest.approx(p, rel=1e-3 if p < 1e-9 else 1e-5)
    for p in (3e-4, 0.02, 0.3, 0.999):
        assert probability_below(p, dtype) == pytest.approx(p, rel=2.5e-4)
    assert probability_below(1.0, dtype) == 1 and probability_below(0.0, dtype) == 0


def test_numbers_that_are_not_small_are_multiples_of_2_to_the_minus_24() -> None:
    """So that what is drawn for probabilities above 2^-12 does not depend on the bits of smaller ones."""
    u = draws(100, 10_000)
    multiple = (u * 2**24).frac() == 0
    assert multiple[u >= 2**-12].all() and (u < 2**-12).sum() > 150 and not multiple[u < 2**-12].any()


def test_rare_events_are_drawn_with_the_bits_they_need() -> None:
    """In float64, whose grid is 2^-53; all others as torch.rand draws them. Must fail when all are drawn in float32."""
    p = torch.tensor([0.1, 2e-3, 1.0, 0.0]).repeat(1000)
    assert torch.equal(happens(p, seeded()), torch.rand(4000, generator=seeded()) < p)
    rare = torch.full((4000,), 1e-5)
    assert torch.equal(happens(rare, seeded()), torch.rand(4000, dtype=torch.float64, generator=seeded()) < rare)


# Poisson ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("rate", "dt"), [(200.0, 1e-3), (50.0, 5e-4), (2000.0, 1e-3)])
def test_poisson_rate_is_the_closed_form(rate: float, dt: float) -> None:
    """P = 1 - exp(-rate x dt) for each value. Must fail for rate x dt (tried: 2 kHz would be certain)."""
    value = torch.tensor([[-0.5, 0.0, 0.1, 0.5, 1.0]]).repeat(500, 1)
    count = frames(Poisson(rate), value, 400, dt).sum((0, 1)).double()
    p = 1 - torch.exp(-rate * dt * value[0].double().clamp(min=0))
    assert ((count / 200_000 - p).abs() <= 4 * torch.sqrt(p * (1 - p) / 200_000)).all()


def test_poisson_intervals_are_geometric() -> None:
    """Mean 1 / p and variance (1 - p) / p^2 of the intervals: no memory from step to step."""
    train = frames(Poisson(100.0), torch.ones(1, 50), 4000)[:, 0].T
    gaps = torch.cat([t.nonzero().flatten().diff() for t in train]).double()
    p = 1 - math.exp(-0.1)
    spread = math.sqrt((1 - p) / p**2)
    assert abs(gaps.mean().item() - 1 / p) < 4 * spread / math.sqrt(len(gaps))
    assert gaps.std().item() == pytest.approx(spread, rel=4 * 1.5 / math.sqrt(len(gaps)))  # kurtosis 9, nearly


@pytest.mark.parametrize(("dim", "lag"), [(0, 1), (0, 5), (1, 1), (2, 1), (3, 1)])
def test_poisson_spikes_are_independent(dim: int, lag: int) -> None:
    """Across steps, examples, rows and columns. Must fail when examples share their noise (tried)."""
    spikes = frames(Poisson(300.0), torch.full((20, 20, 20), 0.7), 200).double()
    one, two = spikes.narrow(dim, 0, spikes.shape[dim] - lag), spikes.narrow(dim, lag, spikes.shape[dim] - lag)
    assert abs(correlation(one, two)) < 4 / math.sqrt(one.numel())


@pytest.mark.parametrize("name", list(ENCODERS))
def test_only_the_poisson_encoder_is_random(name: str) -> None:
    value = torch.rand(3, 2, 5, 5)
    one, other = (frames(ENCODERS[name](), value, 30, seed=seed) for seed in (0, 1))
    assert torch.equal(one, other) == (name != "poisson")


# Latency ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_latency_is_exact(dtype: torch.dtype) -> None:
    """Value x spikes once, at step (1 - x) duration / dt. Must fail when the quotient is cut off (tried)."""
    steps = torch.arange(21)
    value = (1 - steps.to(dtype) / 20)[None]
    spikes = frames(Latency(20e-3, least=0.0), value, 25)[:, 0]
    assert torch.equal(spikes.argmax(0), steps) and torch.equal(spikes.sum(0), torch.ones(21, dtype=dtype))


GREY = torch.arange(256)


@pytest.mark.parametrize(
    "value",
    [GREY / 255, GREY * torch.tensor(1 / 255), GREY.double() / 255, GREY.double() * (1 / 255)],
    ids=["quotient", "scaled", "quotient, float64", "scaled, float64"],
)
def test_every_grey_value_falls_into_its_step(value: Tensor) -> None:
    """Oracle: rational arithmetic, (255 - k) steps // 255, for durations of 1 to 10,000 steps, whole and not.

    Must fail when the product is taken in float32 with a slack of 1e-6 (tried: 127 values at 255 steps).
    """
    for steps in (*range(1, 300), 510, 765, 999, 1000, 2550, 4096, 9999, 10_000):
        exact = (255 - GREY) * steps // 255
        assert torch.equal(Latency(steps * 1e-3).when(value, DT).long(), exact), steps
    for steps, dt in ((255, 3e-4), (850, 3e-3)):  # 85000/3, 850/3 steps
        exact = (255 - GREY) * steps * 10 // (255 * round(dt * 1e4))
        assert torch.equal(Latency(steps * 1e-3).when(value, dt).long(), exact)
    spikes = frames(Latency(0.255, least=0.0), value[None], 256)[:, 0]
    assert torch.equal(spikes.argmax(0), 255 - GREY) and (spikes.sum(0) == 1).all()


def test_latency_keeps_faint_units_silent_and_bright_ones_first() -> None:
    spikes = frames(Latency(10e-3, least=0.2), torch.tensor([[0.0, 0.19, 0.21, 1.0, 1.7]]), 20)[:, 0]
    assert spikes.sum(0).tolist() == [0, 0, 1, 1, 1] and spikes.argmax(0).tolist()[2:] == [7, 0, 0]
    between = torch.rand(1, 1000, dtype=torch.float64)
    when = frames(Latency(50e-3, least=0.0), between, 60)[:, 0].argmax(0) * DT
    exact = (1 - between[0]) * 50e-3
    assert (exact - when >= -1e-9).all() and (exact - when < DT).all()  # in the step that holds its time


def test_latency_takes_the_times_once() -> None:
    """What is shown later changes no time. Must fail when times are made up anew at every step (tried)."""
    encoder, value = Latency(5e-3, least=0.0), torch.tensor([[1.0, 0.5, 0.0]])
    state, spikes = encoder.init(value), []
    for _ in range(6):
        spike, state = encoder.step(state, torch.ones_like(value), DT)
        spikes.append(spike[0])
    assert torch.stack(spikes).argmax(0).tolist() == [0, 2, 5]


@pytest.mark.parametrize(
    ("model", "settings", "said"),
    [
        ("digits-mlp", {"time.steps": 5}, True),
        ("digits-mlp", {}, False),
        ("digits-mlp", {"time.steps": 5, "data.encoder": "poisson"}, False),
        ("digits-snn", {"data.encoder": "constant"}, False),
    ],
)
def test_steps_in_which_nothing_changes_are_said(model: str, settings: dict[str, Any], said: bool) -> None:
    """Must fail when nobody asks whether the network remembers, or the examples stand still (tried)."""
    experiment, digits = neurosbd.load_model(model, settings=settings).build(), load_data("digits")
    with warnings.catch_warnings(record=True) as heard:
        warnings.simplefilter("always")
        check_fit(experiment, digits)
    assert any("all steps are alike" in str(w.message) for w in heard) == said


def test_latency_beyond_the_trial_is_said() -> None:
    """Must fail when nothing is said, or of times that just fit (tried)."""
    digits = load_data("digits")
    for duration, said in ((20e-3, 0), (50e-3, 1)):
        settings = {"data.encoder": {"kind": "latency", "duration": duration}, "time.steps": 20}
        with warnings.catch_warnings(record=True) as heard:
            warnings.simplefilter("always")
            check_fit(neurosbd.load_model("digits-snn", settings=settings).build(), digits)
        told = [str(w.message) for w in heard if "make no spike" in str(w.message)]
        assert len(told) == said
    assert "inputs below 0.6 of the largest" in told[0] and "time.steps = 50" in told[0]


# Delta --------------------------------------------------------------------------------------------


def test_delta_reconstructs_a_signal_within_its_threshold() -> None:
    """Slower than a threshold per step, up and down. Must fail when it reports the value, not what it sent (tried)."""
    encoder, threshold = Delta(0.1), 0.1
    t = torch.arange(400, dtype=torch.float64)[:, None, None]
    signal = torch.cat((t * 4e-3, torch.sin(t / 40), torch.cos(t / 25) - 1, -t * 9e-3), 2)
    state, sent = encoder.init(signal[0], None), torch.zeros(1, 4, dtype=torch.float64)
    for value in signal:
        shown, state = encoder.step(state, value, DT)
        assert set(shown.unique().tolist()) <= {-1.0, 0.0, 1.0}
        sent = sent + threshold * shown
        assert ((value - sent).abs() < threshold).all()
    assert sent[0, 0].item() == pytest.approx(1.5, abs=0.1) and sent[0, 3].item() == pytest.approx(-3.5, abs=0.1)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("thresholds", [1, 3, 5, 10, 17, 50, 100, 255])
def test_delta_sends_whole_thresholds(dtype: torch.dtype, thresholds: int) -> None:
    """k / 255 sends floor(k thresholds / 255) spikes of 1 / thresholds; the way back as many of the other sign.

    Oracle: integers. Must fail when the reported value is a running sum (tried: 9 spikes for a step of 1 at 0.1).
    """
    encoder, value = Delta(1 / thresholds), (GREY.to(dtype) / 255)[None]
    state, sent = encoder.init(value), torch.zeros_like(value)
    for _ in range(thresholds + 5):
        shown, state = encoder.step(state, value, DT)
        sent += shown
    assert sent[0].tolist() == (GREY * thresholds // 255).tolist()
    for _ in range(thresholds + 5):
        shown, state = encoder.step(state, torch.zeros_like(value), DT)
        sent += shown
    assert not sent.any()


def test_delta_falls_silent_on_a_picture_that_stays() -> None:
    """Each unit sends value / threshold spikes, one per step, then none."""
    shown = frames(Delta(0.1), torch.tensor([[0.04, 0.35, -0.35, 0.99]]), 30)[:, 0]
    assert shown.sum(0).tolist() == [0, 3, -3, 9] and not shown[9:].any()
    assert shown.abs().sum(0).tolist() == [0, 3, 3, 9]


@pytest.mark.parametrize(
    ("name", "field", "bad"),
    [
        ("poisson", "rate", 0.0),
        ("latency", "duration", -1.0),
        ("latency", "least", 1.5),
        ("delta", "threshold", math.inf),
    ],
)
def test_illegal_constants_are_refused(name: str, field: str, bad: float) -> None:
    with pytest.raises(ValueError, match=rf"\.{field} must be"):
        ENCODERS[name](**{field: bad})


# Escape noise -------------------------------------------------------------------------------------


def test_escape_neurons_spike_with_their_probability() -> None:
    """Frequency of each unit's potential within four standard errors; surprise is d log P / d drive by autograd.

    Must fail when the surprise forgets r (tried).
    """
    neuron = Escape(reset="none", tau_mem=1e-6, width=0.3, r=0.5)
    drive = torch.linspace(0, 4, 9, dtype=torch.float64).expand(40_000, 9).clone().requires_grad_()
    activity, _ = neuron.step(neuron.init(drive, seeded()), drive, DT)
    p = torch.sigmoid((0.5 * drive - 1) / 0.3)
    frequency, exact = activity.value.mean(0), p[0]
    assert ((frequency - exact).abs() < 4 * torch.sqrt(exact * (1 - exact) / 40_000)).all()
    z = activity.value.detach()
    log = z * torch.log(p) + (1 - z) * torch.log(1 - p)
    (slope,) = torch.autograd.grad(log.sum(), drive)
    torch.testing.assert_close(neuron.surprise(activity), slope, rtol=1e-10, atol=1e-12)


def test_escape_neurons_meet_small_probabilities_in_float32() -> None:
    """At 1e-6 per step, 30 million draws hold 30 spikes, within four standard errors; 24-bit numbers alone give 36.

    Must fail for a probability that is far off (tried: twice); the grid itself is tested with the noise.
    """
    width = 0.1
    level = 1.0 + width * math.log(1e-6 / (1 - 1e-6))
    neuron, drive = Escape(reset="none", tau_mem=1e-6, width=width), torch.full((1, 1_000_000), level)
    state, count = neuron.init(drive, seeded()), 0.0
    for _ in range(30):
        activity, state = neuron.step(state, drive, DT)
        count += activity.value.detach().sum().item()
    assert abs(count - 30) < 4 * math.sqrt(30)
