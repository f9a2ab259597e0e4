"""Cells of other libraries that one of our own neurons expresses exactly, found by name and proven by a trial."""

import math
from collections.abc import Callable
from typing import NamedTuple, cast

import torch
from torch import Tensor, nn

from neurosbd.distributions import sample_constants
from neurosbd.interchange.adapter import Cell, family
from neurosbd.interchange.surrogates import Foreign, surrogate_of
from neurosbd.neurons import IF, LI, LIF, CubaLIF
from neurosbd.neurons.membrane import Reset
from neurosbd.neurons.neuron import Neuron
from neurosbd.surrogates import Surrogate

_STEPS = 50  # of the trial; cells that reset in another way part at the first spikes
_RESETS: dict[str, Reset] = {"subtract": "subtract", "zero": "to_value", "none": "none"}


class Translated(NamedTuple):
    """What a cell becomes: a neuron, and the module of a recurrent connection if the cell had one inside."""

    neuron: Neuron
    recurrent: nn.Linear | nn.Conv2d | None = None


class _Other(Exception):
    """The cell says something that no neuron of ours does."""


def translated(cell: nn.Module, size: tuple[int, ...], dt: float) -> Translated:
    """One of our neurons where it does the same in every step, else the cell itself behind an adapter.

    Args:
        cell: of snnTorch, Norse or SpikingJelly.
        size: of its population.
        dt: step of the network, s.
    Raises:
        ValueError: if the cell cannot be a neuron at all.
    """
    own = Cell(cell)
    some = next((t for t in own.cell.buffers() if t.is_floating_point()), torch.zeros(()))
    quiet = some.new_zeros((1, *size))
    try:
        own.step(own.init(quiet), quiet, dt)
    except RuntimeError as problem:
        raise ValueError(f"cannot take a drive of size {list(size)}: {problem}") from None
    find = _KNOWN.get(type(cell).__name__)
    if find is not None and type(cell).__module__.startswith(f"{family(cell)}."):
        try:
            found = find(cell, size, dt)
        except _Other:
            found = None
        if found is not None and _agree(own, found, size, dt):
            return found
    return Translated(own)


def _agree(cell: Cell, found: Translated, size: tuple[int, ...], dt: float) -> bool:
    """Whether both give the same over a trial with many spikes; in float64, so that rounding decides nothing."""
    generator = torch.Generator().manual_seed(0)
    neuron = sample_constants(found.neuron, size, generator)
    cell = Cell(cell.cell)  # a copy, since it changes its type here
    cell.cell.to("cpu", torch.float64)
    recurrent = None if found.recurrent is None else cell.cell.get_submodule("recurrent")
    scale = _number(getattr(neuron, "v_threshold", 1.0)) / _number(getattr(neuron, "r", 1.0))
    value, spikes = torch.zeros((2, *size), dtype=torch.float64), 0.0
    mine, theirs = neuron.init(value), cell.init(value)
    with torch.no_grad():
        for _ in range(_STEPS):
            drive = scale * (torch.randn(value.shape, generator=generator, dtype=torch.float64) + 0.3)
            whole = drive if recurrent is None else drive + recurrent(value)
            activity, mine = neuron.step(mine, whole, dt)
            other, theirs = cell.step(theirs, drive, dt)
            value = activity.value
            spikes += value.abs().sum().item()
            if not torch.allclose(value, other.value, rtol=1e-5, atol=1e-6):
                return False
    return spikes > 0


def _number(value: object) -> float:
    return torch.as_tensor(value).double().mean().item()


def _shared(value: object) -> float:
    """A constant that all units share."""
    if isinstance(value, int | float):
        return float(value)
    value = torch.as_tensor(value).detach().cpu().double()
    if value.numel() > 1 and not torch.equal(value, value.flatten()[0].expand_as(value)):
        raise _Other
    return value.flatten()[0].item()


def _per_unit(value: object, size: tuple[int, ...]) -> float | Tensor:
    """A number, or one per unit if they differ."""
    value = torch.as_tensor(value).detach().cpu().double()
    try:
        return _shared(value)
    except _Other:
        return value.broadcast_to(size).clone().to(torch.get_default_dtype())


def _tau(alpha: float | Tensor, dt: float) -> float | Tensor:
    """The time constant of a decay per step."""
    inside = torch.as_tensor(alpha)
    if not ((inside > 0) & (inside < 1)).all():
        raise _Other
    return -dt / torch.log(alpha) if isinstance(alpha, Tensor) else -dt / math.log(alpha)


# snnTorch -----------------------------------------------------------------------------------------


def _threshold(cell: Foreign) -> tuple[float, Surrogate, Reset]:
    if cell.state_quant or cell.inhibition or _shared(cell.graded_spikes_factor) != 1:
        raise _Other
    threshold = _shared(cell.threshold)
    if not threshold > 0:
        raise _Other
    return threshold, surrogate_of(cell.spike_grad, threshold), _RESETS[cell.reset_mechanism]


def _clamped(factor: Tensor, size: tuple[int, ...]) -> float | Tensor:
    return _per_unit(factor.detach().clamp(0, 1), size)


def _leaky(cell: Foreign, size: tuple[int, ...], dt: float) -> Translated:
    threshold, surrogate, reset = _threshold(cell)
    beta = _clamped(cell.beta, size)
    if isinstance(beta, float) and beta == 1:
        return Translated(IF(threshold, reset=reset, surrogate=surrogate))
    return Translated(LIF(_tau(beta, dt), threshold, reset=reset, surrogate=surrogate))


def _lapicque(cell: Foreign, size: tuple[int, ...], dt: float) -> Translated:
    threshold, surrogate, reset = _threshold(cell)
    leaked = cell.time_step / (cell.R * cell.C)
    r = _shared(cell.R * (1 / (cell.R * cell.C)) * cell.time_step)
    return Translated(LIF(_tau(_per_unit(1 - leaked, size), dt), threshold, reset=reset, r=r, surrogate=surrogate))


def _synaptic(cell: Foreign, size: tuple[int, ...], dt: float) -> Translated:
    threshold, surrogate, reset = _threshold(cell)
    tau_mem, tau_syn = _tau(_clamped(cell.beta, size), dt), _tau(_clamped(cell.alpha, size), dt)
    return Translated(CubaLIF(tau_mem, tau_syn, threshold, reset=reset, surrogate=surrogate))


def _recurrent(cell: Foreign) -> nn.Linear | nn.Conv2d:
    if not isinstance(cell.recurrent, nn.Linear | nn.Conv2d):
        raise _Other  # one weight per unit: no connection of ours has that
    return cell.recurrent


def _rleaky(cell: object, size: tuple[int, ...], dt: float) -> Translated:
    return Translated(_leaky(cell, size, dt).neuron, _recurrent(cell))


def _rsynaptic(cell: object, size: tuple[int, ...], dt: float) -> Translated:
    return Translated(_synaptic(cell, size, dt).neuron, _recurrent(cell))


# Norse --------------------------------------------------------------------------------------------


def _norse(cell: Foreign) -> tuple[float, float, Surrogate]:
    from norse.torch.functional.threshold import threshold as norse_spike

    p = cell.p
    level = _shared(p.v_th)
    if not level > 0 or p.method == "logistic":
        raise _Other
    return level, _shared(p.v_reset), surrogate_of(lambda x: norse_spike(x, p.method, p.alpha), level)


def _euler(rate: object, size: tuple[int, ...], dt: float) -> tuple[float | Tensor, float | Tensor]:
    """Time constant and share of the drive of a forward Euler step, v <- v + dt rate (drive - v)."""
    share = _per_unit(torch.as_tensor(rate) * dt, size)  # rounded as Norse rounds it
    return _tau(1 - share, dt), share


def _lif_box(cell: Foreign, size: tuple[int, ...], dt: float) -> Translated:
    level, v_reset, surrogate = _norse(cell)
    tau, share = _euler(cell.p.tau_mem_inv, size, dt)
    leak = _per_unit(cell.p.v_leak, size)
    return Translated(LIF(tau, level, leak, v_reset, "to_value", share, surrogate=surrogate))


def _lif(cell: Foreign, size: tuple[int, ...], dt: float) -> Translated:
    level, v_reset, surrogate = _norse(cell)
    tau_mem, share = _euler(cell.p.tau_mem_inv, size, dt)
    tau_syn, _ = _euler(cell.p.tau_syn_inv, size, dt)
    if _shared(cell.p.v_leak) != 0:
        raise _Other
    return Translated(CubaLIF(tau_mem, tau_syn, level, v_reset, "to_value", share, surrogate=surrogate))


def _iaf(cell: Foreign, size: tuple[int, ...], dt: float) -> Translated:
    level, v_reset, surrogate = _norse(cell)
    if v_reset != 0:
        raise _Other  # it starts there, ours at 0
    return Translated(IF(level, v_reset, "to_value", surrogate=surrogate))


def _li_box(cell: Foreign, size: tuple[int, ...], dt: float) -> Translated:
    if _shared(cell.p.v_leak) != 0:
        raise _Other
    tau, share = _euler(cell.p.tau_mem_inv, size, dt)
    return Translated(cast(Neuron, LI(tau, share)))


# SpikingJelly -------------------------------------------------------------------------------------


def _reset(node: Foreign) -> tuple[float, float, Reset, Surrogate]:
    """Threshold, resting and reset potential, reset and surrogate; without a reset potential, what a spike takes."""
    level = _shared(node.v_threshold)
    if not level > 0:
        raise _Other
    v_reset, kind = (0.0, "subtract") if node.v_reset is None else (_shared(node.v_reset), "to_value")
    return level, v_reset, cast(Reset, kind), surrogate_of(node.surrogate_function, level)


def _if_node(node: Foreign, size: tuple[int, ...], dt: float) -> Translated:
    level, v_reset, kind, surrogate = _reset(node)
    if v_reset != 0:
        raise _Other  # it starts there, ours at 0
    return Translated(IF(level, v_reset, kind, surrogate=surrogate))


def _leaking(node: Foreign, lost: float, dt: float) -> Translated:
    """A node that loses a share of what it has in a step; its drive may be multiplied with that share, too."""
    level, v_reset, kind, surrogate = _reset(node)
    r = lost if node.decay_input else 1.0
    return Translated(LIF(_tau(1 - lost, dt), level, v_reset, v_reset, kind, r, surrogate=surrogate))


def _lif_node(node: Foreign, size: tuple[int, ...], dt: float) -> Translated:
    return _leaking(node, 1 / node.tau, dt)


def _plif_node(node: Foreign, size: tuple[int, ...], dt: float) -> Translated:
    return _leaking(node, torch.sigmoid(node.w.detach().double()).item(), dt)


_KNOWN: dict[str, Callable[[Foreign, tuple[int, ...], float], Translated]] = {
    "Leaky": _leaky,
    "Lapicque": _lapicque,
    "Synaptic": _synaptic,
    "RLeaky": _rleaky,
    "RSynaptic": _rsynaptic,
    "LIFBoxCell": _lif_box,
    "LIFCell": _lif,
    "IAFCell": _iaf,
    "LIBoxCell": _li_box,
    "IFNode": _if_node,
    "LIFNode": _lif_node,
    "ParametricLIFNode": _plif_node,
}
