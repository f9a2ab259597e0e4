"""Neurons as nodes of NIR and back, so that decays per step are equal.

NIR states differential equations and no step. Its readers integrate them by forward Euler, ours are
exact decays; both agree if 1 - dt / tau (theirs) = exp(-dt / tau_mem) (ours). What a drive of 1 adds
is fixed in NIR, so our `r` goes into the incoming weights, and is noted for the way back.
"""

import dataclasses
import math
import warnings
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from neurosbd.errors import UsageError
from neurosbd.interchange.borrowed import Borrowed
from neurosbd.interchange.cell import Cell
from neurosbd.interchange.nir_files import nir_package
from neurosbd.neurons import IF, LI, LIF, CubaLIF, Identity
from neurosbd.process import Neuron
from neurosbd.surrogates import SURROGATES, Surrogate

NEURON_NODES = ("LIF", "CubaLIF", "IF", "LI")
_LEGAL = "legal are LIF, CubaLIF and IF with reset = 'to_value' and no refractory period, LI, and identity"


class Exported(NamedTuple):
    """A neuron in NIR."""

    node: Any  # None for an identity, which is no node
    factor: np.ndarray  # what the incoming weights are multiplied with, one per unit, [*size]


class Imported(NamedTuple):
    """A node of NIR as a neuron."""

    neuron: Neuron
    size: tuple[int, ...]
    factor: np.ndarray  # what the incoming weights are multiplied with, one per unit, [*size]


def exported(name: str, neuron: Neuron, size: tuple[int, ...], dt: float) -> Exported:
    """The node that steps like a neuron.

    Args:
        name: of the population, for messages.
        neuron: with its constants drawn.
        size: of the population.
        dt: step at which both agree, s.
    Raises:
        UsageError: naming the population and the constant that NIR cannot say.
    """
    nir = nir_package()
    one = np.ones(size)
    if isinstance(neuron, Identity):
        return Exported(None, one)
    if not isinstance(neuron, LIF | CubaLIF | IF | LI):
        what = neuron.kind if isinstance(neuron, Cell) else type(neuron).__name__
        raise UsageError(f"population '{name}': NIR has no {what} neuron; {_LEGAL}")
    _check_dynamics(name, neuron)
    r = _full(neuron.r, size)
    about: dict[str, Any] = {"population": name, "r": _plain(neuron.r)}
    zero = np.zeros(size, np.float32)
    if isinstance(neuron, LI):
        tau, share = _euler(neuron.tau_mem, size, dt)
        return Exported(nir.LI(tau=tau, r=_single(one), v_leak=zero, metadata={"neurosbd": about}), r / share)
    about["surrogate"] = _described(neuron.surrogate)
    spiking = {
        "v_threshold": _single(_full(neuron.v_threshold, size)),
        "v_reset": _single(_full(neuron.v_reset, size)),
        "metadata": {"neurosbd": about},
    }
    if isinstance(neuron, IF):  # Norse takes r as 1 per step, NIR as 1 per second: both hold with r = 1 / dt
        return Exported(nir.IF(r=_single(one / dt), **spiking), r)
    tau, share = _euler(neuron.tau_mem, size, dt)
    if isinstance(neuron, LIF):
        leak = _single(_full(neuron.v_leak, size))
        return Exported(nir.LIF(tau=tau, r=_single(one), v_leak=leak, **spiking), r / share)
    tau_syn, share_syn = _euler(neuron.tau_syn, size, dt)
    node = nir.CubaLIF(
        tau_mem=tau, tau_syn=tau_syn, r=_single(1 / share), w_in=_single(1 / share_syn), v_leak=zero, **spiking
    )
    return Exported(node, r)


def imported(name: str, node: Any, dt: float) -> Imported:
    """The neuron that steps like a node.

    Args:
        name: of the node, for messages.
        node: LIF, CubaLIF, IF or LI.
        dt: step at which both agree, s.
    Raises:
        UsageError: naming the node and its constant.
    """
    kind = type(node).__name__
    about = noted(node)
    values = {key: _values(name, node, key) for key in _CONSTANTS[kind]}
    size = np.shape(values["r"])
    r = about.get("r")
    gain = values["r"] * (dt if kind == "IF" else dt / values[_MEMBRANE[kind]])
    if kind == "CubaLIF":
        gain = gain * values["w_in"] * dt / values["tau_syn"]
    own = gain if r is None else np.broadcast_to(np.asarray(r, np.float64), size)
    if not ((own > 0) & np.isfinite(own)).all() or len(size) not in (1, 3):
        raise UsageError(
            f"node '{name}' ({kind}): r = {_short(values['r'])} of shape {list(size)}; legal is > 0, one per unit of "
            f"[n] or [channels, height, width]: put a sign into the weights before it"
        )
    constants = {key: _drawn(_tau(name, key, values[key], dt)) for key in values if key.startswith("tau")}
    if "tau" in constants:
        constants["tau_mem"] = constants.pop("tau")
    if kind in ("LI", "CubaLIF") and values["v_leak"].any():
        raise UsageError(f"node '{name}' ({kind}): v_leak = {_short(values['v_leak'])}; legal is 0, use a LIF")
    if kind == "LIF":
        constants["v_leak"] = _drawn(values["v_leak"])
    if kind != "LI":
        constants["v_threshold"], constants["v_reset"] = (_drawn(values[k]) for k in ("v_threshold", "v_reset"))
        constants |= {"reset": "to_value", "surrogate": _restored(name, about)}
    make: Any = {"LIF": LIF, "CubaLIF": CubaLIF, "IF": IF, "LI": LI}[kind]
    try:
        return Imported(make(r=_drawn(own), **constants), size, gain / own)
    except ValueError as problem:
        raise UsageError(f"node '{name}': {problem}") from None


_CONSTANTS = {
    "LIF": ("tau", "r", "v_leak", "v_threshold", "v_reset"),
    "CubaLIF": ("tau_mem", "tau_syn", "r", "w_in", "v_leak", "v_threshold", "v_reset"),
    "IF": ("r", "v_threshold", "v_reset"),
    "LI": ("tau", "r", "v_leak"),
}
_MEMBRANE = {"LIF": "tau", "CubaLIF": "tau_mem", "LI": "tau"}


def noted(node: Any) -> dict[str, Any]:
    """What we once noted at a node or graph; nothing if it comes from elsewhere."""
    about = node.metadata.get("neurosbd") if isinstance(node.metadata, dict) else None
    return about if isinstance(about, dict) else {}


def scaled(weight: np.ndarray, bias: np.ndarray | None, factor: np.ndarray, where: str) -> tuple[Any, Any]:
    """Weight and bias times one factor per post unit.

    Raises:
        UsageError: if the factor differs within a map, whose weights are shared.
    """
    rows = factor.reshape(len(weight), -1)
    if (rows != rows[:, :1]).any():
        raise UsageError(
            f"{where}: time constants or r differ within a map, but its positions share their weights, into which "
            f"they would have to go; use one value per channel"
        )
    row = rows[:, 0]
    return weight * row.reshape(-1, *(1 for _ in weight.shape[1:])), None if bias is None else bias * row


def _check_dynamics(name: str, neuron: LIF | CubaLIF | IF | LI) -> None:
    if isinstance(neuron, LI):
        return
    if neuron.reset != "to_value":
        raise UsageError(
            f"population '{name}': reset = '{neuron.reset}', but a neuron of NIR is put to v_reset by its spike; "
            f"use reset = 'to_value'"
        )
    if neuron.refractory > 0:
        raise UsageError(
            f"population '{name}': refractory = {neuron.refractory} s, which NIR does not have; use refractory = 0"
        )


def _full(value: Any, size: tuple[int, ...]) -> np.ndarray:
    """One value per unit."""
    value = value.detach().cpu().double().numpy() if isinstance(value, Tensor) else np.float64(value)
    return np.broadcast_to(value, size)


def _single(value: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(value, np.float32)


def _euler(tau: Any, size: tuple[int, ...], dt: float) -> tuple[np.ndarray, np.ndarray]:
    """Euler's time constant with the same decay per step, and the share dt / tau of a step."""
    share = -np.expm1(-dt / _full(tau, size))
    return _single(dt / share), share


def _plain(value: Any) -> Any:
    return _single(value.detach().cpu().numpy()) if isinstance(value, Tensor) else float(value)


def _described(surrogate: Surrogate) -> dict[str, Any]:
    kinds = {made: kind for kind, made in SURROGATES.items()}
    if isinstance(surrogate, Borrowed) or type(surrogate) not in kinds:
        return {"kind": getattr(surrogate, "__qualname__", type(surrogate).__name__)}
    fields: dict[str, Any] = dataclasses.asdict(surrogate)  # type: ignore[call-overload]
    return {"kind": kinds[type(surrogate)], **fields}


def _restored(name: str, about: dict[str, Any]) -> Surrogate:
    told = dict(about.get("surrogate", {}))
    if not told:
        return SURROGATES["triangle"]()
    kind = told.pop("kind", None)
    if kind not in SURROGATES:
        warnings.warn(
            f"node '{name}': its surrogate '{kind}' is none of ours ({', '.join(SURROGATES)}); it gets a triangle",
            stacklevel=2,
        )
        return SURROGATES["triangle"]()
    try:
        return SURROGATES[kind](**{key: float(value) for key, value in told.items()})
    except (TypeError, ValueError) as problem:
        raise UsageError(f"node '{name}': its surrogate '{kind}' has illegal constants: {problem}") from None


def _values(name: str, node: Any, key: str) -> np.ndarray:
    values = np.asarray(getattr(node, key), np.float64)
    if not np.isfinite(values).all():
        raise UsageError(f"node '{name}' ({type(node).__name__}): {key} has values that are not finite numbers")
    return values


def _tau(name: str, key: str, tau: np.ndarray, dt: float) -> np.ndarray:
    if not (tau > dt).all():
        raise UsageError(
            f"node '{name}': {key} = {_short(tau)} s is no longer than the step dt = {dt:g} s; choose a shorter dt"
        )
    return -dt / np.log1p(-dt / tau)


def _drawn(values: np.ndarray) -> float | Tensor:
    """A number where all units share it."""
    first = values.flat[0] if values.size else math.nan
    return float(first) if (values == first).all() else torch.from_numpy(np.array(values, np.float32))


def _short(values: np.ndarray) -> str:
    return f"{values.min():g}" if values.min() == values.max() else f"{values.min():g} to {values.max():g}"
