"""Neurons as nodes of NIR and back, so that decays per step are equal.

NIR states differential equations and no step. Its readers integrate them by forward Euler, ours are
exact decays; both agree if 1 - dt / tau (theirs) = exp(-dt / tau_mem) (ours). What a drive of 1 adds
is fixed in NIR, so our `r` goes into the incoming weights, and is noted for the way back.
"""

import dataclasses
from typing import Literal, NamedTuple

import numpy as np
import torch
from torch import Tensor

from neurosbd.errors import UsageError, warn
from neurosbd.interchange.adapter import Cell
from neurosbd.interchange.nir_files import nir_package
from neurosbd.interchange.surrogates import Foreign, ForeignSurrogate
from neurosbd.neurons import IF, LI, LIF, CubaLIF, Identity
from neurosbd.neurons.neuron import Neuron
from neurosbd.surrogates import SURROGATES, Surrogate

Resets = Literal["loop", "to_value"]
NEURON_NODES = ("LIF", "CubaLIF", "IF", "LI")
_LEGAL = "legal are LIF, CubaLIF and IF with reset = 'to_value' and no refractory period, LI, and identity"


class Exported(NamedTuple):
    """A neuron in NIR."""

    node: Foreign  # None for an identity, which is no node
    factor: np.ndarray  # what the incoming weights are multiplied with, one per unit, [*size]
    fires: np.ndarray | None = None  # thresholds of a membrane whose reset has to be spelt out, [*size]
    rise: np.ndarray | None = None  # of that membrane in one step under a drive of 1, [*size]


class Imported(NamedTuple):
    """A node of NIR as a neuron."""

    neuron: Neuron
    factor: np.ndarray  # what the incoming weights are multiplied with, one per unit, [*size], or one for all, []


def exported(name: str, neuron: Neuron, size: tuple[int, ...], dt: float, resets: Resets | None) -> Exported:
    """The node that steps like a neuron.

    Args:
        name: of the population, for messages.
        neuron: with its constants drawn.
        size: of the population.
        dt: step at which both agree, s.
        resets: how a reset is written that no neuron of NIR has; None: not at all.
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
    _check_dynamics(name, neuron, resets)
    r = _full(neuron.r, size)
    about: dict[str, Foreign] = {"population": name, "r": _plain(neuron.r)}
    zero = np.zeros(size, np.float32)
    if isinstance(neuron, LI):
        tau, share = _euler(neuron.tau_mem, size, dt)
        return Exported(nir.LI(tau=tau, r=_single(one), v_leak=zero, metadata={"neurosbd": about}), r / share)
    about["surrogate"] = _described(neuron.surrogate)
    if neuron.reset != "to_value" and resets == "loop":
        return _membrane(neuron, size, dt, about)
    spiking = {
        "v_threshold": _single(_full(neuron.v_threshold, size)),
        "v_reset": _single(_full(neuron.v_reset, size)),
        "metadata": {"neurosbd": about},
    }
    if isinstance(neuron, IF):  # Norse takes r as 1 per step, NIR as 1 per second: both hold with r = 1 / dt
        return Exported(nir.IF(r=_single(one / dt), **spiking), r)
    tau, share = _euler(neuron.tau_mem, size, dt)
    leak = _single(_full(neuron.v_leak, size))
    if isinstance(neuron, LIF):
        return Exported(nir.LIF(tau=tau, r=_single(one), v_leak=leak, **spiking), r / share)
    tau_syn, share_syn = _euler(neuron.tau_syn, size, dt)
    node = nir.CubaLIF(
        tau_mem=tau, tau_syn=tau_syn, r=_single(1 / share), w_in=_single(1 / share_syn), v_leak=leak, **spiking
    )
    return Exported(node, r)


def _membrane(neuron: LIF | CubaLIF | IF, size: tuple[int, ...], dt: float, about: dict[str, Foreign]) -> Exported:
    """What is under the spikes of a LIF or IF."""
    nir, one, r = nir_package(), np.ones(size), _full(neuron.r, size)
    level, kept = _full(neuron.v_threshold, size), {"neurosbd": about}
    if isinstance(neuron, IF):
        return Exported(nir.I(r=_single(one / dt), metadata=kept), r, level, one)
    assert isinstance(neuron, LIF)
    tau, share = _euler(neuron.tau_mem, size, dt)
    leak = _single(_full(neuron.v_leak, size))
    return Exported(nir.LI(tau=tau, r=_single(one), v_leak=leak, metadata=kept), r / share, level, share)


def imported(name: str, node: object, size: tuple[int, ...], dt: float, second: float = 1.0) -> Imported:
    """The neuron that steps like a node.

    Args:
        name: of the node, for messages.
        node: LIF, CubaLIF, IF or LI.
        size: of its population, to which its constants are spread.
        dt: step at which both agree, s.
        second: what the graph writes for a time constant of a second.
    Raises:
        UsageError: naming the node and its constant.
    """
    kind, about = type(node).__name__, noted(node)
    where = f"node '{name}' ({kind})"
    values = {key: _spread(numbers(name, node, key), size) for key in CONSTANTS[kind]}
    for key in TIMES & values.keys():
        values[key] = values[key] / second
    for key in ("r", "w_in"):
        if key in values and not (values[key] > 0).all():
            raise UsageError(
                f"{where}: {key} = {_short(values[key])}; legal is > 0: put a sign into the weights before it"
            )
    taus = {key: _tau(where, key, value, dt) for key, value in values.items() if key in TIMES}
    gain = values["r"] * (dt if kind == "IF" else dt / values[_MEMBRANE[kind]])
    if kind == "CubaLIF":
        gain = gain * values["w_in"] * dt / values["tau_syn"]
    own = gain if "r" not in about else _noted_r(where, about["r"], size)
    constants = {"tau_mem" if key == "tau" else key: _drawn(tau) for key, tau in taus.items()}
    if kind == "LI" and values["v_leak"].any():
        raise UsageError(f"{where}: v_leak = {_short(values['v_leak'])}; legal is 0, use a LIF")
    if kind in ("LIF", "CubaLIF"):
        constants["v_leak"] = _drawn(values["v_leak"])
    if kind != "LI":
        constants["v_threshold"], constants["v_reset"] = (_drawn(values[k]) for k in ("v_threshold", "v_reset"))
        constants |= {"reset": getattr(node, "reset", "to_value"), "surrogate": _restored(name, about)}
    make: Foreign = {"LIF": LIF, "CubaLIF": CubaLIF, "IF": IF, "LI": LI}[kind]
    try:
        return Imported(make(r=_drawn(own), **constants), _whole(gain / own))
    except ValueError as problem:
        raise UsageError(f"{where}: {problem}") from None


def shape_of(name: str, node: object) -> tuple[int, ...]:
    """The shape that all constants of a neuron fit into; () or (1,) if each is one value for all units.

    Raises:
        UsageError: naming the node and the shapes, if they do not fit together.
    """
    shapes = {key: numbers(name, node, key).shape for key in CONSTANTS[type(node).__name__]}
    try:
        return np.broadcast_shapes(*shapes.values())
    except ValueError:
        listed = ", ".join(f"{key} {list(shape)}" for key, shape in shapes.items())
        raise UsageError(
            f"node '{name}' ({type(node).__name__}): its constants have different shapes: {listed}; legal is one value "
            f"per unit, or one for all"
        ) from None


def numbers(name: str, node: object, key: str) -> np.ndarray:
    """A field of a node in float64.

    Raises:
        UsageError: naming node and field, if it holds anything but finite numbers.
    """
    where, value = f"node '{name}' ({type(node).__name__})", np.asarray(getattr(node, key, None))
    if value.dtype.kind not in "iufb":
        raise UsageError(f"{where}: its {key} is no array of numbers, but {_told(getattr(node, key, None))}")
    value = value.astype(np.float64)
    if not np.isfinite(value).all():
        raise UsageError(f"{where}: {key} has values that are not finite numbers")
    return value


CONSTANTS = {
    "LIF": ("tau", "r", "v_leak", "v_threshold", "v_reset"),
    "CubaLIF": ("tau_mem", "tau_syn", "r", "w_in", "v_leak", "v_threshold", "v_reset"),
    "IF": ("r", "v_threshold", "v_reset"),
    "LI": ("tau", "r", "v_leak"),
}
TIMES = {"tau", "tau_mem", "tau_syn"}
_MEMBRANE = {"LIF": "tau", "CubaLIF": "tau_mem", "LI": "tau"}


def noted(node: Foreign) -> dict[str, Foreign]:
    """What we once noted at a node or graph; nothing if it comes from elsewhere."""
    about = node.metadata.get("neurosbd") if isinstance(node.metadata, dict) else None
    return about if isinstance(about, dict) else {}


def scaled(weight: np.ndarray, bias: np.ndarray | None, factor: np.ndarray, where: str) -> tuple[Foreign, Foreign]:
    """Weight and bias times one factor per post unit, or one for all.

    Raises:
        UsageError: if the factor differs within a map, whose weights are shared.
    """
    if not factor.ndim:
        return weight * factor, None if bias is None else bias * factor
    rows = factor.reshape(len(weight), -1)
    if (rows != rows[:, :1]).any():
        raise UsageError(
            f"{where}: time constants or r differ within a map, but its positions share their weights, into which "
            f"they would have to go; use one value per channel"
        )
    row = rows[:, 0]
    return weight * row.reshape(-1, *(1 for _ in weight.shape[1:])), None if bias is None else bias * row


def _check_dynamics(name: str, neuron: LIF | CubaLIF | IF | LI, resets: Resets | None) -> None:
    if isinstance(neuron, LI):
        return
    if neuron.reset != "to_value" and (resets is None or (resets == "loop" and isinstance(neuron, CubaLIF))):
        spelt = (
            "resets='loop' spells it out as LI, Threshold and Scale, which from_nir reads, snnTorch and Norse do not"
        )
        raise UsageError(
            f"population '{name}': reset = '{neuron.reset}', but a neuron of NIR is put to v_reset by its spike. "
            f"Exact: {'nothing' if isinstance(neuron, CubaLIF) else spelt}. Exact only up to the first spike of each "
            f"neuron: resets='to_value'. Give it to to_nir, or as --resets to neurosbd export; or use "
            f"reset = 'to_value' and train with it"
        )
    if neuron.refractory > 0:
        raise UsageError(
            f"population '{name}': refractory = {neuron.refractory} s, which NIR does not have; use refractory = 0"
        )


def _full(value: Foreign, size: tuple[int, ...]) -> np.ndarray:
    """One value per unit."""
    value = value.detach().cpu().double().numpy() if isinstance(value, Tensor) else np.float64(value)
    return np.broadcast_to(value, size)


def _single(value: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(value, np.float32)


def _euler(tau: object, size: tuple[int, ...], dt: float) -> tuple[np.ndarray, np.ndarray]:
    """Euler's time constant with the same decay per step, and the share dt / tau of a step."""
    share = -np.expm1(-dt / _full(tau, size))
    return _single(dt / share), share


def _plain(value: Foreign) -> Foreign:
    return _single(value.detach().cpu().numpy()) if isinstance(value, Tensor) else float(value)


def _described(surrogate: Surrogate) -> dict[str, Foreign]:
    kinds = {made: kind for kind, made in SURROGATES.items()}
    if isinstance(surrogate, ForeignSurrogate) or type(surrogate) not in kinds:
        return {"kind": getattr(surrogate, "__qualname__", type(surrogate).__name__)}
    fields: dict[str, Foreign] = dataclasses.asdict(surrogate)  # type: ignore[call-overload]
    return {"kind": kinds[type(surrogate)], **fields}


def _restored(name: str, about: dict[str, Foreign]) -> Surrogate:
    told = about.get("surrogate")
    if not told:
        return SURROGATES["triangle"]()
    if not isinstance(told, dict) or not isinstance(told.get("kind"), str):
        raise UsageError(f"node '{name}': the surrogate in its metadata is {_told(told)}; legal is a kind, constants")
    told = dict(told)
    kind = told.pop("kind")
    if kind not in SURROGATES:
        warn(
            f"node '{name}': its surrogate '{kind}' is none of ours ({', '.join(SURROGATES)}); it gets a triangle",
            stacklevel=8,
        )
        return SURROGATES["triangle"]()
    try:
        return SURROGATES[kind](**{key: float(value) for key, value in told.items()})
    except (TypeError, ValueError) as problem:
        raise UsageError(f"node '{name}': its surrogate '{kind}' has illegal constants: {problem}") from None


def _noted_r(where: str, r: object, size: tuple[int, ...]) -> np.ndarray:
    """The r that `to_nir` has noted."""
    try:
        own = _spread(np.asarray(r, np.float64), size)
    except (TypeError, ValueError):
        own = np.zeros(1)
    if not ((own > 0) & np.isfinite(own)).all():
        raise UsageError(f"{where}: the r in its metadata is {_told(r)}; legal is > 0, one value per unit or for all")
    return own


def _tau(where: str, key: str, tau: np.ndarray, dt: float) -> np.ndarray:
    if not (tau > dt).all():
        raise UsageError(
            f"{where}: {key} = {_short(tau)} s is no longer than the step dt = {dt:g} s; choose a shorter dt"
        )
    return -dt / np.log1p(-dt / tau)


def _spread(values: np.ndarray, size: tuple[int, ...]) -> np.ndarray:
    """One value per unit without a copy; one for all stays one."""
    return values.reshape(()) if values.size == 1 else np.broadcast_to(values, size)


def _whole(values: np.ndarray) -> np.ndarray:
    """One value where all units share it, [], else all."""
    return np.array(values.flat[0]) if (values == values.flat[0]).all() else values


def _drawn(values: np.ndarray) -> float | Tensor:
    """A number where all units share it."""
    values = _whole(values)
    return torch.from_numpy(np.array(values, np.float32)) if values.ndim else float(values)


def _told(value: object) -> str:
    """A value in a message, however long it is."""
    return f"{type(value).__name__} {str(value)[:40]!r}"


def _short(values: np.ndarray) -> str:
    return f"{values.min():g}" if values.min() == values.max() else f"{values.min():g} to {values.max():g}"
