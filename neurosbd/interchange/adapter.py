"""Any cell of snnTorch, Norse or SpikingJelly as the neuron of a population."""

import copy
import inspect
import math
from collections import namedtuple
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import lru_cache

import torch
from torch import Tensor, nn

from neurosbd.interchange.surrogates import Foreign
from neurosbd.neurons.neuron import Activity, Compartment, Flow

_PROBES = 24  # steps in which a cell must once let a drive through
_MEMBRANES = ("mem", "v")  # what the libraries call the potential
_ROOTS = {
    "snntorch": ("SpikingNeuron",),
    "norse": ("SNNCell", "SNNRecurrentCell"),
    "spikingjelly": ("BaseNode", "SimpleBaseNode"),
}


def family(module: nn.Module) -> str | None:
    """The library whose neuron a module is, itself or a class derived from one: a key of _ROOTS; else None."""
    for kind in type(module).__mro__:
        library = kind.__module__.partition(".")[0]
        if kind.__name__ in _ROOTS.get(library, ()):
            return library
    return None


@dataclass(frozen=True)
class Cell:
    """A cell of snnTorch, Norse or SpikingJelly: its own step, its own surrogate, one gain per step.

        value[t], state[t] = cell(drive[t], state[t-1]);    gate(signal) = (d value[t] / d drive[t])^T signal

    The derivative is a vector-Jacobian product through this one step, on detached tensors, taken when a third
    factor asks for it. Of the memory inside the cell an eligibility knows nothing: it is gain x pre of the same
    step, so what the drive of earlier steps left in the cell gets no credit. Where one of our own neurons
    expresses the same dynamics it learns better; `from_torch` picks it by itself.

    Args:
        cell: `cell(x, *state)` of snnTorch, `cell(x, state)` of Norse or `cell(x)` of SpikingJelly. A copy is kept:
            its parameters are constants here, and hidden state (`init_hidden=True`, memories) becomes explicit.
    Raises:
        ValueError: if it is no such cell; when it first runs, if it changes the number of units, or integrates with
            another dt; when a local rule is built on it, if its value does not depend on the drive of the same step.
    Source: Eshraghian et al. 2023, Proc. IEEE 111 (snnTorch); Pehle, Pedersen 2021 (Norse); Fang et al. 2023, Sci. Adv.
        9:eadi1480 (SpikingJelly).
    Differs: tensors that Norse keeps in a cell's `p` stay on their device when the network moves; scalars work
        anywhere.
    """

    cell: nn.Module
    _known: dict[str, Foreign] = field(default_factory=dict, init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        if family(self.cell) is None:
            raise ValueError(
                f"Cell.cell must be a neuron of snnTorch or SpikingJelly or a cell of Norse for one step, got "
                f"{type(self.cell).__name__}; for a sequence, loop over its cell (norse.torch.LIFCell, not LIF)"
            )
        object.__setattr__(self, "cell", _still(self.cell))

    @property
    def kind(self) -> str:
        """Name of the cell's class."""
        return type(self.cell).__name__

    def check(self, drive: Tensor, compartments: tuple[Compartment, ...], dt: float) -> None:
        """Raise ValueError unless the cell integrates with `dt` s and makes one value of each drive. What a cell of
        another library makes of its drive it does not declare, so it is tried here, once."""
        self._check_step(dt)
        self.init(drive)

    def init(self, drive: Tensor, generator: torch.Generator | None = None) -> Foreign:
        """State of the cell before its first step, a NamedTuple of tensors [B, *size] named as the cell names them."""
        with torch.no_grad():
            start, quiet = self._start(drive), torch.zeros_like(drive)
            value, after = self._call(quiet, start)
        self._check_shapes(drive, value, after)
        if "answers" not in self._known:
            self._known["answers"] = self._answers(quiet[:1], type(start)(*(part[:1] for part in start)))
        return start

    def step(self, state: object, drive: Tensor, dt: float) -> tuple[Activity, Foreign]:
        """What the cell returns, [B, *size], in the dtype of the drive."""
        self._check_step(dt)
        value, after = self._call(drive, state)
        shown = next((getattr(after, name) for name in _MEMBRANES if hasattr(after, name)), value)
        return Activity(value, shown, (state, drive)), after

    def gate(self, activity: Activity, third_factor: Tensor, dt: float) -> Tensor:
        """(d value / d drive)^T signal, by autograd through this step alone; 0 where nothing depends on the drive."""
        state, drive = activity.cache
        return self._pulled_back(type(state)(*(part.detach() for part in state)), drive, third_factor)

    @property
    def factorises(self) -> bool:
        """Gain x pre is all that is known."""
        return True

    def filters(self, dt: float) -> tuple[()]:
        """None that is known.

        Raises:
            ValueError: if the value does not depend on the drive of the same step, as in snnTorch's Alpha and Norse's
                LSNNCell, so that nothing could be learned.
        """
        if not self._known.get("answers", True):
            raise ValueError(
                f"the value of {self.kind} has no derivative by the drive of the same step (the drive is felt one "
                f"step later, or there is no surrogate), so its synapses cannot learn by a local rule; use another "
                f"neuron, or backprop"
            )
        return ()

    def flow(self, state: object, activity: Activity, dt: float) -> Flow:
        """Nothing of this step is known to reach the next."""
        return Flow(((0.0,),), (1.0,), (1.0,))

    def _start(self, drive: Tensor) -> Foreign:
        """State of a cell that nothing has happened to."""
        if family(self.cell) == "snntorch":
            size = (getattr(self.cell, "hidden_size", drive.shape[1]), *drive.shape[2:])
            silence = drive.new_zeros((len(drive), *size))
            return _record(tuple(self._arguments))(*(silence for _ in self._arguments))
        if family(self.cell) == "spikingjelly":
            fresh: Foreign = self.cell
            parts = [torch.zeros_like(drive) + value for value in fresh._memories_rv.values()]
            return _record(tuple(fresh._memories_rv))(*parts)
        nested = self._fresh(drive)
        parts = [part.detach().to(drive) for part in _leaves(nested)]
        parts = [(part if part.ndim == drive.ndim else part.expand(drive.shape)).clone() for part in parts]
        return _record(tuple(_paths(nested)))(*parts)

    @property
    def _arguments(self) -> list[str]:
        """What snnTorch calls the state of this cell."""
        return list(inspect.signature(self.cell.forward).parameters)[1:]

    def _fresh(self, drive: Tensor) -> Foreign:
        """What Norse starts from. It asks for gradients of its own constants; taken back."""
        fallback: Foreign = self.cell.state_fallback
        nested = fallback(drive.detach())
        for part in _leaves(nested):
            part.requires_grad_(False)
        self._known.setdefault("like", _skeleton(nested))
        return nested

    def _call(self, drive: Tensor, state: Foreign) -> tuple[Tensor, Foreign]:
        """One step. Whatever the cell writes into itself is taken back, so that it stays a constant."""
        before = [(m, dict(vars(m)), dict(m._buffers)) for m in self.cell.modules()]
        try:
            if family(self.cell) == "snntorch":
                names, out = self._arguments, self.cell(drive, *state)
                value, after = out[0], out[len(out) - len(names) :]
            elif family(self.cell) == "spikingjelly":
                names = list(state._fields)
                memories = vars(self.cell)["_memories"] = dict(zip(names, state, strict=True))
                value = self.cell(drive)
                after = list(memories.values())
            else:
                if "like" not in self._known:  # a state from elsewhere, such as a file
                    self._fresh(drive)
                value, nested = self.cell(drive, _rebuilt(self._known["like"], iter(state)))
                names, after = _paths(nested), _leaves(nested)
        finally:
            for module, attributes, buffers in before:
                vars(module).clear()
                vars(module).update(attributes)
                module._buffers.clear()
                module._buffers.update(buffers)
        return value.to(drive.dtype), _record(tuple(names))(*(part.to(drive.dtype) for part in after))

    def _pulled_back(self, state: object, drive: Tensor, third_factor: Tensor) -> Tensor:
        with torch.enable_grad():
            leaf = drive.detach().requires_grad_()
            value, _ = self._call(leaf, state)
            if not value.requires_grad:
                return torch.zeros_like(third_factor)
            (pulled,) = torch.autograd.grad(value, leaf, third_factor, allow_unused=True)
        return torch.zeros_like(third_factor) if pulled is None else pulled

    def _answers(self, quiet: Tensor, state: object) -> bool:
        """Whether the gain is ever above 0, over drives from small to large, since a surrogate may be narrow."""
        generator = torch.Generator().manual_seed(0)
        for step in range(_PROBES):
            noise = torch.randn(quiet.shape, generator=generator).to(quiet) * 2.0 ** (step / 2 - 4)
            if self._pulled_back(state, noise, torch.ones_like(noise)).any():
                return True
            with torch.no_grad():
                _, state = self._call(noise, state)
        return False

    def _check_step(self, dt: float) -> None:
        own = getattr(self.cell, "dt", dt)
        if not math.isclose(own, dt, rel_tol=1e-6):
            raise ValueError(
                f"{self.kind} integrates with dt = {own:g} s, the network with {dt:g} s; "
                f"build it with dt={dt:g}, or the network with dt={own:g}"
            )

    def _check_shapes(self, drive: Tensor, value: Tensor, after: Foreign) -> None:
        if value.shape != drive.shape:
            raise ValueError(
                f"{self.kind} makes {list(value.shape[1:])} of a drive of size {list(drive.shape[1:])}; "
                f"a neuron has one value per drive: give the cell as many outputs as inputs"
            )
        for name, part in after._asdict().items():
            if part.shape[:1] != drive.shape[:1]:
                raise ValueError(
                    f"{self.kind}: its state '{name}' has shape {list(part.shape)}; needed is [batch, ...] with a "
                    f"batch of {len(drive)}"
                )


def _still(cell: nn.Module) -> nn.Module:
    """A copy whose parameters are buffers, without hidden state and without the graph of earlier use."""
    graphs = {id(t): t.detach().clone() for m in cell.modules() for t in _tensors(m) if not t.is_leaf}
    cell = copy.deepcopy(cell, graphs)
    for module in cell.modules():
        for name, parameter in list(module._parameters.items()):
            del module._parameters[name]
            module.register_buffer(name, None if parameter is None else parameter.detach())
    own: Foreign = cell
    for constant in getattr(own, "p", ()):
        if isinstance(constant, Tensor):
            constant.requires_grad_(False)
    if family(cell) == "spikingjelly":
        own.step_mode, own.backend = "s", "torch"
        own.reset()
    if family(cell) == "snntorch":
        own.init_hidden = own.output = False
        for name in list(inspect.signature(cell.forward).parameters)[1:]:
            hidden = getattr(cell, name, None)
            if isinstance(hidden, Tensor):
                setattr(cell, name, hidden.new_zeros(0))
    return cell


def _tensors(module: nn.Module) -> list[Tensor]:
    return [t for t in (*vars(module).values(), *module._buffers.values()) if isinstance(t, Tensor)]


@lru_cache
def _record(names: tuple[str, ...]) -> Foreign:
    """A NamedTuple class for a state."""
    return namedtuple("CellState", names)  # the names are known at run time only


def _parts(state: Foreign) -> Sequence[tuple[str, Foreign]]:
    return list(zip(getattr(state, "_fields", map(str, range(len(state)))), state, strict=True))


def _paths(state: object) -> list[str]:
    """Names of the tensors of a nested state, outer_inner where they nest."""
    names = []
    for name, part in _parts(state):
        names += [name] if isinstance(part, Tensor) else [f"{name}_{inner}" for inner in _paths(part)]
    return names


def _leaves(state: object) -> list[Foreign]:
    """Its tensors in that order."""
    leaves = []
    for _, part in _parts(state):
        leaves += _leaves(part) if isinstance(part, tuple) else [part]
    return leaves


def _skeleton(state: Foreign) -> Foreign:
    """The nesting alone, without tensors."""
    return type(state), tuple(_skeleton(part) if isinstance(part, tuple) else None for part in state)


def _rebuilt(skeleton: Foreign, leaves: Foreign) -> Foreign:
    kind, inner = skeleton
    parts = [next(leaves) if part is None else _rebuilt(part, leaves) for part in inner]
    return kind(*parts) if hasattr(kind, "_fields") else kind(parts)
