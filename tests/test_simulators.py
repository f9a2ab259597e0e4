"""Spiking neurons against other people's simulators: snnTorch and Norse, spike for spike in float64."""

import importlib
import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from neurosbd.neurons import ALIF, IF, LI, LIF, AdEx, CubaLIF, Izhikevich
from neurosbd.neurons.neuron import Neuron

DT, STEPS, UNITS = 1e-3, 1000, 20
LEAK, SYNAPSE, ADAPTATION = 0.1, 0.25, 0.02  # what is lost per step: dt / tau of the Euler step of Norse


def imported(name: str) -> Any:
    """A module of another simulator, which may warn while it is imported."""
    pytest.importorskip(name.split(".")[0], reason=f"compares with {name}", exc_type=ImportError)
    return importlib.import_module(name)


def tau(lost: float) -> float:
    """The time constant that loses this share in one exact step."""
    return -DT / math.log(1 - lost)


def constants(**values: Any) -> dict[str, Any]:
    """In float64: the defaults of Norse are float32."""
    return {k: torch.tensor(v, dtype=torch.float64) if isinstance(v, float) else v for k, v in values.items()}


def drives(mean: float, spread: float) -> Tensor:
    noise = torch.randn(STEPS, 1, UNITS, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    return mean + spread * noise


def run(neuron: Neuron, inputs: Tensor) -> tuple[Tensor, Tensor]:
    """Value and potential of every step, [T, 1, units]."""
    state, seen = neuron.init(inputs[0]), []
    for drive in inputs:
        activity, state = neuron.step(state, drive, DT)
        seen.append(activity)
    return torch.stack([a.value for a in seen]), torch.stack([a.potential for a in seen])


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("cell", ["Leaky", "Synaptic"])
@pytest.mark.parametrize("threshold", [1.0, 0.75])  # 0.75 is the same number in its float32
def test_subtracting_neurons_are_those_of_snntorch(cell: str, threshold: float) -> None:
    """Must fail when the reset leaks with the membrane (tried: alpha (v - threshold))."""
    theirs = getattr(imported("snntorch"), cell)
    beta, alpha = (torch.tensor(math.exp(-DT / t), dtype=torch.float64) for t in (10e-3, 4e-3))
    kept = {"beta": beta} if cell == "Leaky" else {"alpha": alpha, "beta": beta}
    module = theirs(**kept, threshold=torch.tensor(threshold, dtype=torch.float64), reset_mechanism="subtract")
    ours = LIF(10e-3, threshold) if cell == "Leaky" else CubaLIF(10e-3, 4e-3, threshold)
    inputs = drives(0.1, 0.4)
    spikes, potential = run(ours, inputs)
    state = (torch.zeros(1, UNITS, dtype=torch.float64),) * (1 if cell == "Leaky" else 2)
    for t, x in enumerate(inputs):
        spike, *state = module(x, *state)
        assert torch.equal(spike, spikes[t])
        torch.testing.assert_close(potential[t], state[-1], rtol=1e-12, atol=1e-12)  # rounding, which the leak forgets
    assert spikes.sum() > STEPS


def lif_box(norse: Callable[[str], Any]) -> Any:
    module = norse("lif_box")
    fixed = constants(tau_mem_inv=LEAK / DT, v_leak=0.3, v_th=1.0, v_reset=-0.2)
    state = module.LIFBoxFeedForwardState(torch.full((1, UNITS), 0.3, dtype=torch.float64))
    return module.lif_box_feed_forward_step, module.LIFBoxParameters(**fixed), state


def lif(norse: Callable[[str], Any]) -> Any:
    """Its current decays after the membrane has read it, ours before it is added to: the same sequence."""
    module = norse("lif")
    fixed = constants(tau_mem_inv=LEAK / DT, tau_syn_inv=SYNAPSE / DT, v_leak=0.0, v_th=1.0, v_reset=-0.2)
    zero = torch.zeros(1, UNITS, dtype=torch.float64)
    return module.lif_feed_forward_step, module.LIFParameters(**fixed), module.LIFFeedForwardState(zero, zero)


def iaf(norse: Callable[[str], Any]) -> Any:
    module = norse("iaf")
    fixed = module.IAFParameters(**constants(v_th=1.0, v_reset=0.1))
    return module.iaf_feed_forward_step, fixed, module.IAFFeedForwardState(torch.zeros(1, UNITS, dtype=torch.float64))


def lsnn(norse: Callable[[str], Any]) -> Any:
    """Its threshold jumps before it decays, ours after; its current arrives one step late and is gone at once."""
    module = norse("lsnn")
    fixed = constants(
        tau_mem_inv=LEAK / DT, tau_syn_inv=1 / DT, tau_adapt_inv=ADAPTATION / DT, v_leak=0.0, v_th=1.0, v_reset=0.0,
        beta=0.4,
    )  # fmt: skip
    zero = torch.zeros(1, UNITS, dtype=torch.float64)
    return (
        module.lsnn_feed_forward_step,
        module.LSNNParameters(**fixed),
        module.LSNNFeedForwardState(zero, zero, zero + 1),
    )


def izhikevich(norse: Callable[[str], Any]) -> Any:
    module = norse("izhikevich")
    fixed = constants(
        a=0.02,
        b=0.2,
        c=-65.0,
        d=8.0,
        sq=0.04,
        mn=5.0,
        bias=140.0,
        v_th=30.0,
        tau_inv=1 / DT,
        method="super",
        alpha=100.0,
    )
    v = torch.full((1, UNITS), -65.0, dtype=torch.float64)
    return module.izhikevich_feed_forward_step, module.IzhikevichParameters(**fixed), module.IzhikevichState(v, 0.2 * v)


def adex(norse: Callable[[str], Any]) -> Any:
    """Its take-off is its peak, so ours is moved there; its current is gone at once."""
    module = norse("lif_adex")
    fixed = constants(
        tau_mem_inv=LEAK / DT, tau_syn_inv=1 / DT, tau_ada_inv=ADAPTATION / DT, v_leak=0.0, v_th=1.0, v_reset=0.0,
        delta_T=0.5, adaptation_current=0.3, adaptation_spike=0.05,
    )  # fmt: skip
    zero = torch.zeros(1, UNITS, dtype=torch.float64)
    return (
        module.lif_adex_feed_forward_step,
        module.LIFAdExParameters(**fixed),
        module.LIFAdExFeedForwardState(zero, zero, zero),
    )


PAIRS = [
    (lif_box, LIF(tau(LEAK), v_leak=0.3, v_reset=-0.2, reset="to_value", r=LEAK), drives(0.6, 2.0), 0),
    (lif, CubaLIF(tau(LEAK), tau(SYNAPSE), v_reset=-0.2, reset="to_value", r=LEAK), drives(0.2, 1.5), 0),
    (iaf, IF(v_reset=0.1, reset="to_value"), drives(0.05, 0.2), 0),
    (lsnn, ALIF(tau(LEAK), tau(ADAPTATION), 0.4 * (1 - ADAPTATION), reset="to_value", r=LEAK), drives(1.2, 2.0), 1),
    (izhikevich, Izhikevich(), drives(6.0, 8.0), 0),
    (adex, AdEx(DT / LEAK, DT / ADAPTATION, 0.3, 0.05, v_rheobase=1.0, sharpness=0.5), drives(0.7, 1.0), 0),
]


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(("build", "ours", "inputs", "late"), PAIRS, ids=[p[0].__name__ for p in PAIRS])
def test_neurons_with_a_reset_to_a_value_are_those_of_norse(
    build: Any, ours: Neuron, inputs: Tensor, late: int
) -> None:
    """Must fail when a reset skips the leak of the next step (tried: v_reset added after it)."""
    step, fixed, state = build(lambda name: imported(f"norse.torch.functional.{name}"))
    spikes, _ = run(ours, inputs)
    theirs = []
    for x in inputs:
        spike, state = step(x, state, fixed, DT)
        theirs.append(spike)
    assert torch.equal(torch.stack(theirs[late:]), spikes[: STEPS - late])
    assert spikes.sum() > 200 and spikes.mean() < 0.5


@pytest.mark.filterwarnings("ignore")
def test_the_leaky_integrator_is_that_of_norse() -> None:
    """Must fail when the drive is not scaled by r (tried)."""
    module = imported("norse.torch.functional.leaky_integrator_box")
    fixed = module.LIBoxParameters(**constants(tau_mem_inv=LEAK / DT, v_leak=0.0))
    state = module.LIBoxState(torch.zeros(1, UNITS, dtype=torch.float64))
    inputs = drives(0.2, 1.0)
    values, _ = run(LI(tau(LEAK), LEAK), inputs)
    for x, value in zip(inputs, values, strict=True):
        theirs, state = module.li_box_feed_forward_step(x, state, fixed, DT)
        torch.testing.assert_close(value, theirs, rtol=1e-12, atol=1e-12)
