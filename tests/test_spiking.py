"""Spiking neurons against closed forms: firing rates, spike times, decay, refractoriness, order of convergence."""

import dataclasses
import itertools
import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from neurosbd.neurons import ALIF, IF, LIF, NEURONS, AdEx, CubaLIF, Izhikevich
from neurosbd.neurons.neuron import Neuron, gain
from neurosbd.surrogates import Boxcar

DT = 1e-3


@pytest.fixture(autouse=True)
def _same_numbers() -> None:
    torch.manual_seed(0)


def run(neuron: Neuron, inputs: Tensor, dt: float = DT) -> tuple[Tensor, Tensor]:
    """Value and potential of every step, [T, B, units]."""
    state, seen = neuron.init(inputs[0]), []
    for drive in inputs:
        activity, state = neuron.step(state, drive, dt)
        seen.append(activity)
    return torch.stack([a.value for a in seen]), torch.stack([a.potential for a in seen])


def held(drives: Tensor, steps: int) -> Tensor:
    """The same drives at every step."""
    return drives.expand(steps, 1, -1)


def slope(x: list[float], y: list[float]) -> float:
    """Of log y on log x, by least squares."""
    a, b = torch.tensor(x).log(), torch.tensor(y).log()
    return (((a - a.mean()) * (b - b.mean())).sum() / (a - a.mean()).square().sum()).item()


# Firing rates and spike times ---------------------------------------------------------------------


@pytest.mark.parametrize("refractory", [0, 7])
def test_firing_rate_is_the_closed_form(refractory: int) -> None:
    """LIF reset to 0, constant drive I: v after k steps is I (1 - alpha^k), so it spikes every k_min steps.

    k_min is the smallest k > (tau / dt) ln(I / (I - 1)), the textbook's interval rounded up to a step, and the
    refractory time runs while the membrane integrates. Must fail when the reset costs a step (tried: zeroing
    the drive of the step after a spike).
    """
    tau, steps = 20e-3, 2000
    drives = torch.linspace(1.003, 6.0, 400, dtype=torch.float64)
    neuron = LIF(tau, reset="to_value", r=1 - math.exp(-DT / tau), refractory=refractory * DT)
    spikes, _ = run(neuron, held(drives, steps))
    exact = tau / DT * torch.log(drives / (drives - 1))
    first = torch.floor(exact) + 1
    interval = first.clamp(min=refractory)
    torch.testing.assert_close(spikes.sum((0, 1)), torch.floor((steps - first) / interval) + 1, rtol=0, atol=0)


def test_a_perfect_integrator_counts_its_input() -> None:
    """IF, soft reset, drive I <= 1: after T steps the largest integer below I T, ties to threshold excluded.

    The drives are multiples of 1/64, so every sum is exact. Must fail for `>=` at threshold (tried).
    """
    drives = torch.arange(1, 65, dtype=torch.float64) / 64
    spikes, _ = run(IF(), held(drives, 640))
    assert torch.equal(spikes.sum((0, 1)), torch.ceil(drives * 640) - 1)


@pytest.mark.parametrize("v_leak", [0.0, 0.4])
def test_first_spike_time(v_leak: float) -> None:
    """LIF: v[k] = v_leak + I (1 - alpha^k) / (1 - alpha), from rest. Must fail when it starts at 0 (tried)."""
    alpha = math.exp(-DT / 10e-3)
    drives = torch.linspace(0.101, 0.9, 200, dtype=torch.float64)
    spikes, _ = run(LIF(10e-3, v_leak=v_leak), held(drives, 200))
    ratio = 1 - (1 - v_leak) * (1 - alpha) / drives
    first = torch.floor(torch.log(ratio) / math.log(alpha)) + 1
    assert torch.equal(spikes[:, 0].argmax(0) + 1, first.long()) and spikes.any(0).all()


def test_membranes_and_synapses_decay_as_exponentials() -> None:
    """Impulse responses: LIF v_leak + alpha^k, CubaLIF (mem^(k+1) - syn^(k+1)) / (mem - syn).

    Must fail when the membrane of CubaLIF reads the current one step late (tried).
    """
    impulse = torch.zeros(60, 1, 1, dtype=torch.float64)
    impulse[0] = 0.5
    k = torch.arange(60, dtype=torch.float64)
    mem, syn = math.exp(-DT / 20e-3), math.exp(-DT / 5e-3)
    _, potential = run(LIF(20e-3, v_leak=-0.25), impulse)
    torch.testing.assert_close(potential[:, 0, 0], -0.25 + 0.5 * mem**k, rtol=1e-12, atol=1e-12)
    _, potential = run(CubaLIF(20e-3, 5e-3, v_threshold=10.0), impulse)
    expected = 0.5 * (mem ** (k + 1) - syn ** (k + 1)) / (mem - syn)
    torch.testing.assert_close(potential[:, 0, 0], expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("r", [1.0, 0.3])
def test_soft_reset_takes_one_threshold_per_spike(r: float) -> None:
    """Summed over a run: r sum I = threshold sum z + v_end + leak. Must fail for a reset to a value (checked)."""
    alpha = math.exp(-DT / 20e-3)
    inputs = torch.rand(500, 1, 30, dtype=torch.float64)
    resets: list[Any] = ["subtract", "to_value"]
    for reset, same in zip(resets, (True, False), strict=True):
        spikes, potential = run(LIF(20e-3, 0.8, reset=reset, r=r), inputs)
        taken = 0.8 * spikes[:-1].sum(0) + potential[-1] + (1 - alpha) * potential[:-1].sum(0)
        assert torch.allclose(taken, r * inputs.sum(0), rtol=1e-10) == same and spikes.sum() > 100


def test_adaptation_shrinks_the_rate_to_the_closed_form() -> None:
    """ALIF, IF-like membrane (tau_mem huge): threshold after n spikes is 1 + beta sum of rho^age.

    The spike train itself gives the threshold of every step. Must fail when the rise is felt a step late (tried).
    """
    rho, beta = math.exp(-DT / 50e-3), 0.3
    inputs = torch.rand(400, 1, 10, dtype=torch.float64)
    spikes, shown = run(ALIF(20e-3, 50e-3, beta, reset="none"), inputs)
    _, plain = run(LIF(20e-3, reset="none"), inputs)
    for t in (1, 17, 399):
        age = torch.arange(t - 1, -1, -1, dtype=torch.float64)[:, None, None]
        torch.testing.assert_close(shown[t], plain[t] - beta * (rho**age * spikes[:t]).sum(0), rtol=1e-10, atol=1e-10)


RESETS = ["subtract", "to_value", "none"]


@pytest.mark.parametrize(("reset", "refractory"), list(itertools.product(RESETS, [0.0, 3e-3])))
def test_alif_without_adaptation_is_lif_bitwise(reset: Any, refractory: float) -> None:
    """E4. Must fail with beta > 0 (checked)."""
    inputs = torch.rand(300, 2, 20)
    shared: dict[str, Any] = {"v_threshold": 0.9, "reset": reset, "r": 0.4, "refractory": refractory}
    plain = run(LIF(**shared), inputs)
    assert all(torch.equal(a, b) for a, b in zip(plain, run(ALIF(beta=0.0, **shared), inputs), strict=True))
    assert not torch.equal(plain[0], run(ALIF(beta=0.2, **shared), inputs)[0])


# Refractoriness -----------------------------------------------------------------------------------

RESTING = [n for n in NEURONS if any(f.name == "refractory" and f.init for f in dataclasses.fields(NEURONS[n]()))]  # type: ignore[arg-type]


def test_a_threshold_that_does_not_relax_draws_every_unit_to_its_rate() -> None:
    """beta a is then all spikes less rate t, whatever the drive: every unit ends near 20 Hz.

    Must fail when the threshold sinks by rate in place of rate dt, or not at all (tried, each).
    """
    neuron = ALIF(tau_adapt=1e9, beta=0.05, rate=20.0)
    drives = torch.tensor([[0.06, 0.1, 0.2]], dtype=torch.float64)
    state, spikes = neuron.init(drives), torch.zeros_like(drives)
    for t in range(8000):
        if t == 4000:
            spikes.zero_()
        activity, state = neuron.step(state, drives, 1e-3)
        spikes += activity.value
    torch.testing.assert_close(spikes, torch.full_like(spikes, 80.0), atol=3, rtol=0)


@pytest.mark.parametrize("name", RESTING)
def test_a_refractory_neuron_rests_for_whole_steps(name: str) -> None:
    """Spikes under a strong drive are n steps apart, as measured in Brian2 2.9.0; no gain in between.

    NeuronGroup(1, "dv/dt = (100 - v) / (20 * ms) : 1", threshold="v > 1", reset="v = 0", refractory=5 * ms), dt 1 ms:
    intervals of 5 ms, and 1 and 2 for 1 and 2 ms. NEST 3.10.0: eprop_iaf_bsshslm_2020 with t_ref = 5 the same,
    iaf_psc_delta 6, since it integrates for a step once t_ref is over. Must fail when a step is lost or won (tried:
    refractory counts to 1).
    """
    neuron = NEURONS[name](refractory=5e-3, surrogate=Boxcar(width=1e9))
    inputs = torch.full((60, 1, 3), 5.0, dtype=torch.float64)
    state, gains, spikes = neuron.init(inputs[0]), [], []
    for drive in inputs:
        activity, state = neuron.step(state, drive, DT)
        spikes.append(activity.value)
        gains.append(gain(neuron, activity, DT))
    train = torch.stack(spikes)[:, 0, 0]
    assert train.nonzero().flatten().tolist() == list(range(0, 60, 5))
    free = torch.stack(gains)[:, 0, 0] != 0
    assert torch.equal(free, train > 0)


@pytest.mark.parametrize("name", RESTING)
def test_refractory_membranes_go_on_integrating(name: str) -> None:
    """So a rest shorter than the intervals leaves the spikes where they were. Must fail when it is held (tried)."""
    inputs = torch.full((300, 1, 1), 0.02, dtype=torch.float64)
    spikes, _ = run(NEURONS[name](reset="to_value", r=3.0), inputs)
    interval = spikes.flatten().nonzero().flatten().diff().min().item()
    rested, _ = run(NEURONS[name](reset="to_value", r=3.0, refractory=interval * DT), inputs)
    later, _ = run(NEURONS[name](reset="to_value", r=3.0, refractory=(interval + 1) * DT), inputs)
    assert interval > 2 and torch.equal(spikes, rested) and not torch.equal(spikes, later)


@pytest.mark.parametrize("name", [n for n in NEURONS if hasattr(NEURONS[n](), "reset")])
def test_illegal_constants_are_refused(name: str) -> None:
    fields = {f.name: f for f in dataclasses.fields(NEURONS[name]()) if f.init}  # type: ignore[arg-type]
    for field, bad in (("reset", "soft"), ("refractory", -1e-3), ("tau_mem", 0.0), ("r", -1.0), ("beta", -0.1)):
        if field in fields:
            with pytest.raises(ValueError, match=rf"\.{field} "):
                NEURONS[name](**{field: bad})


# Order of convergence -----------------------------------------------------------------------------

STEPS_PER_MS = [1, 2, 4, 8]


def _runge_kutta(slopes: Callable[[float, Tensor], Tensor], start: Tensor, end: float, count: int) -> Tensor:
    """The classical fourth-order method, as a second simulator."""
    h, y = end / count, start
    for i in range(count):
        t = i * h
        k1 = slopes(t, y)
        k2 = slopes(t + h / 2, y + h / 2 * k1)
        k3 = slopes(t + h / 2, y + h / 2 * k2)
        k4 = slopes(t + h, y + h * k3)
        y = y + h / 6 * (k1 + 2 * k2 + 2 * k3 + k4)
    return y


def _adex(n: Any, drive: float) -> Callable[[float, Tensor], Tensor]:
    def slopes(t: float, y: Tensor) -> Tensor:
        v, w = y
        rise = n.sharpness * torch.exp((v - n.v_rheobase) / n.sharpness)
        return torch.stack(((n.v_leak - v + rise - w + drive) / n.tau_mem, (n.a * (v - n.v_leak) - w) / n.tau_adapt))

    return slopes


def _izhikevich(n: Any, drive: float) -> Callable[[float, Tensor], Tensor]:
    def slopes(t: float, y: Tensor) -> Tensor:
        v, u = y
        return 1e3 * torch.stack((0.04 * v * v + 5 * v + 140 - u + drive, n.a * (n.b * v - u)))

    return slopes


def _lif(n: Any, drive: float) -> Callable[[float, Tensor], Tensor]:
    return lambda t, y: (n.v_leak - y + drive * math.sin(400 * t)) / n.tau_mem


CONVERGING = [
    ("adex", AdEx(a=0.5), _adex, [0.0, 0.0], 0.3),
    ("izhikevich", Izhikevich(), _izhikevich, [-65.0, -13.0], 3.5),
    ("lif", LIF(), _lif, [0.0], 0.8),
]


@pytest.mark.parametrize(("name", "neuron", "slopes", "start", "drive"), CONVERGING, ids=[c[0] for c in CONVERGING])
def test_trajectories_converge_with_the_first_order_in_dt(
    name: str, neuron: Any, slopes: Any, start: list[float], drive: float
) -> None:
    """Error after 20 ms below threshold, against fourth order. Must fail when a term forgets dt (tried: tau_adapt).

    The order comes out as 1 within 0.1, since the second-order term is still felt at 1 ms.
    """
    end, errors, widths = 20e-3, [], []
    exact = _runge_kutta(slopes(neuron, drive), torch.tensor(start, dtype=torch.float64), end, 1000)[0].item()
    for per_ms in STEPS_PER_MS:
        dt = 1e-3 / per_ms
        inputs = torch.full((20 * per_ms, 1, 1), drive, dtype=torch.float64)
        if name == "lif":
            inputs *= torch.sin(400 * dt * torch.arange(20 * per_ms, dtype=torch.float64))[:, None, None]
            neuron = dataclasses.replace(neuron, r=1 - math.exp(-dt / neuron.tau_mem))
        spikes, potential = run(neuron, inputs, dt)
        assert not spikes.any()
        errors.append(abs(potential[-1].item() - exact))
        widths.append(dt)
    assert slope(widths, errors) == pytest.approx(1, abs=0.1) and errors[-1] < 0.02 * max(abs(exact), 1)


def test_spike_times_converge_with_the_first_order_in_dt() -> None:
    """LIF under constant drive: late by half a step in the mean, over 2,000 drives (spread of the mean 0.7 %).

    Must fail when alpha is 1 - dt / tau (tried).
    """
    tau, late = 20e-3, []
    drives = torch.linspace(1.5, 4.0, 2000, dtype=torch.float64)
    exact = tau * torch.log(drives / (drives - 1))
    for per_ms in STEPS_PER_MS:
        dt = 1e-3 / per_ms
        spikes, _ = run(LIF(tau, r=1 - math.exp(-dt / tau)), held(drives, 30 * per_ms), dt)
        when = dt * (spikes[:, 0].argmax(0) + 1)
        assert ((when - exact > 0) & (when - exact <= dt)).all()
        late.append((when - exact).mean().item())
    assert late[0] == pytest.approx(0.5e-3, rel=0.05)
    assert slope([1 / n for n in STEPS_PER_MS], late) == pytest.approx(1, abs=0.05)
