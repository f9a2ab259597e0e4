"""Torch modules come in: same output, own neurons where exact, foreign cells behind the adapter, and learning."""

import copy
import gc
import warnings
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import neurosbd
from neurosbd.connections import Dense
from neurosbd.errors import UsageError
from neurosbd.interchange.adapter import Cell
from neurosbd.interchange.surrogates import ForeignSurrogate, surrogate_of
from neurosbd.learning.batch import Batch
from neurosbd.learning.learner import Learner
from neurosbd.learning.simulation import unroll
from neurosbd.losses import LOSSES
from neurosbd.network.network import Connection, Network, Population
from neurosbd.neurons import IF, LI, LIF, CubaLIF, Identity
from neurosbd.neurons.neuron import gain
from neurosbd.rules import RULES, LocalRule
from neurosbd.surrogates import ArcTan, FastSigmoid, Triangle

with warnings.catch_warnings():  # of third parties, as they are imported
    warnings.simplefilter("ignore")
    snn: Any = pytest.importorskip("snntorch")
    norse: Any = pytest.importorskip("norse.torch")

DT = 1e-3
STEPS = 150


def sbd() -> LocalRule:
    rule = RULES["sbd"]()
    assert isinstance(rule, LocalRule)
    return rule


def size_of(size: int | tuple[int, ...]) -> tuple[int, ...]:
    return (size,) if isinstance(size, int) else size


# Rate networks ------------------------------------------------------------------------------------

MAPS = (2, 8, 8)
RATE: dict[str, tuple[Callable[[], nn.Module], int | tuple[int, ...]]] = {
    "mlp": (lambda: nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 3)), 4),
    "linear alone": (lambda: nn.Linear(4, 2), 4),
    "two linear": (lambda: nn.Sequential(nn.Linear(4, 5), nn.Identity(), nn.Linear(5, 2, bias=False)), 4),
    "cnn": (
        lambda: nn.Sequential(
            nn.Sequential(nn.Conv2d(2, 4, 3, padding=1), nn.ReLU(), nn.AvgPool2d(2)),
            nn.Conv2d(4, 5, 3, padding="same", bias=False),
            nn.Tanh(),
            nn.MaxPool2d(2),
            nn.Flatten(),
            nn.Sequential(nn.Linear(20, 7), nn.Dropout(0.5), nn.Softplus()),
            nn.Linear(7, 3),
        ),
        MAPS,
    ),
    "strided, pooled before the activation": (
        lambda: nn.Sequential(
            nn.Conv2d(2, 4, 3, stride=2), nn.MaxPool2d(2, 1), nn.LeakyReLU(0.1), nn.Flatten(), nn.Linear(16, 3)
        ),
        MAPS,
    ),
    "average before the activation": (
        lambda: nn.Sequential(nn.Conv2d(2, 4, 3), nn.AvgPool2d(2), nn.ReLU(), nn.Flatten(), nn.Linear(36, 3)),
        MAPS,
    ),
    "ends in pooling": (lambda: nn.Sequential(nn.Conv2d(2, 4, 3), nn.Sigmoid(), nn.AvgPool2d(6), nn.Flatten()), MAPS),
    "starts with an activation": (lambda: nn.Sequential(nn.Flatten(), nn.Hardtanh(0, 1), nn.Linear(128, 3)), MAPS),
    "flatten before the activation": (
        lambda: nn.Sequential(nn.Conv2d(2, 4, 3), nn.Flatten(), nn.ReLU(), nn.Sigmoid(), nn.Linear(144, 3)),
        MAPS,
    ),
}


@pytest.mark.parametrize("name", list(RATE))
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_rate_networks_give_the_output_of_the_module_in_one_step(name: str, dtype: torch.dtype) -> None:
    make, size = RATE[name]
    torch.manual_seed(0)
    module = make().eval().to(dtype)
    network = neurosbd.from_torch(module, size)
    x = torch.randn(6, *size_of(size), dtype=dtype)
    with torch.no_grad():
        torch.testing.assert_close(network(x), module(x), rtol=1e-6, atol=1e-6)
    assert next(iter(network.populations)) == "input" and network.readout == "output"


def test_weights_are_copied_and_the_module_is_left_alone() -> None:
    module = louder(nn.Sequential(nn.Linear(4, 3), snn.Leaky(0.9, init_hidden=True)), 2)
    before = copy.deepcopy(module.state_dict())
    network = neurosbd.from_torch(module, 4)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(1)
    assert all(torch.equal(v, before[k]) for k, v in module.state_dict().items())
    assert all(p.requires_grad for p in module.parameters())


# Spiking networks ---------------------------------------------------------------------------------


def leaky(**constants: Any) -> nn.Module:
    return snn.Leaky(**{"beta": 0.9, "init_hidden": True, **constants})


SPIKING: dict[str, tuple[Callable[[], nn.Module], int | tuple[int, ...], list[type]]] = {
    "leaky": (lambda: nn.Sequential(nn.Linear(4, 8), leaky(), nn.Linear(8, 3), leaky(output=True)), 4, [LIF, LIF]),
    "leaky per unit": (
        lambda: nn.Sequential(nn.Linear(4, 8), leaky(beta=torch.linspace(0.3, 0.99, 8), learn_beta=True)),
        4,
        [LIF],
    ),
    "no reset, no leak": (
        lambda: nn.Sequential(nn.Linear(4, 8), leaky(reset_mechanism="none"), nn.Linear(8, 5), leaky(beta=1.0)),
        4,
        [LIF, IF],
    ),
    "synaptic": (
        lambda: nn.Sequential(
            nn.Linear(4, 8),
            snn.Synaptic(0.8, 0.9, init_hidden=True, threshold=0.7),
            nn.Linear(8, 5),
            snn.Synaptic(0.8, 0.9, init_hidden=True, reset_mechanism="zero"),
        ),
        4,
        [CubaLIF, Cell],
    ),
    "lapicque": (
        lambda: nn.Sequential(
            nn.Linear(4, 8),
            snn.Lapicque(R=5.0, C=4.0, init_hidden=True, threshold=0.2),
            nn.Linear(8, 5),
            snn.Lapicque(beta=0.9, init_hidden=True, threshold=0.05, reset_mechanism="zero"),
        ),
        4,
        [LIF, Cell],
    ),
    "recurrent": (
        lambda: nn.Sequential(
            nn.Linear(4, 8),
            snn.RLeaky(0.9, linear_features=8, init_hidden=True),
            nn.Linear(8, 6),
            snn.RSynaptic(0.6, 0.9, linear_features=6, init_hidden=True),
            nn.Linear(6, 6),
            snn.RLeaky(0.9, all_to_all=False, V=0.4, init_hidden=True),
        ),
        4,
        [LIF, CubaLIF, Cell],
    ),
    "alpha, slstm": (
        lambda: nn.Sequential(
            nn.Linear(4, 6),
            snn.Alpha(0.9, 0.8, init_hidden=True, threshold=0.5),
            nn.Linear(6, 4),
            snn.SLSTM(4, 4, init_hidden=True, threshold=0.05),
        ),
        4,
        [Cell, Cell],
    ),
    "reset at once": (lambda: nn.Sequential(nn.Linear(4, 8), leaky(reset_delay=False)), 4, [Cell]),
    "cnn": (
        lambda: nn.Sequential(
            nn.Conv2d(2, 4, 3),
            nn.MaxPool2d(2),
            leaky(threshold=0.4),
            nn.Conv2d(4, 4, 2),
            snn.RLeaky(0.9, conv2d_channels=4, kernel_size=3, init_hidden=True),
            nn.AvgPool2d(2),
            nn.Flatten(),
            nn.Linear(4, 5),
            leaky(threshold=0.3),
        ),
        MAPS,
        [LIF, LIF, LIF],
    ),
    "linear readout": (
        lambda: nn.Sequential(nn.Conv2d(2, 4, 3), nn.Flatten(), leaky(threshold=0.5), nn.Linear(144, 5)),
        MAPS,
        [LIF, Identity],
    ),
    "norse": (
        lambda: norse.SequentialState(
            nn.Linear(4, 8),
            norse.LIFCell(),
            nn.Linear(8, 8),
            norse.LIFBoxCell(norse.LIFBoxParameters(v_leak=torch.tensor(0.2), v_reset=torch.tensor(-0.1))),
            nn.Linear(8, 8),
            norse.IAFCell(),
            nn.Linear(8, 5),
            norse.LIBoxCell(),
        ),
        4,
        [CubaLIF, LIF, IF, LI],
    ),
    "norse adapters": (
        lambda: norse.SequentialState(
            nn.Linear(4, 8),
            norse.LIFAdExCell(),
            nn.Linear(8, 8),
            norse.LIFRefracCell(),
            nn.Linear(8, 6),
            norse.LSNNCell(),
            nn.Linear(6, 5),
            norse.LICell(),
        ),
        4,
        [Cell, Cell, Cell, Cell],
    ),
}


def louder(module: nn.Module, factor: float) -> nn.Module:
    with torch.no_grad():
        for layer in module.modules():
            if isinstance(layer, nn.Linear | nn.Conv2d):
                layer.weight.mul_(factor)
    return module


def outputs_of_module(module: nn.Module, x: Tensor) -> Tensor:
    shown, state = [], None
    with torch.no_grad():
        for now in x:
            if isinstance(module, norse.SequentialState):
                value, state = module(now, state)
            else:
                value = module(now)
                value = value[0] if isinstance(value, tuple) else value
            shown.append(value)
    return torch.stack(shown)


def outputs(network: Network, x: Tensor) -> Tensor:
    shown: list[Tensor] = []
    with torch.no_grad():
        unroll(network, x, [lambda t, frame: shown.append(frame.activity["output"].value)])
    return torch.stack(shown)


@pytest.mark.parametrize("name", list(SPIKING))
def test_spiking_networks_go_spike_for_spike(name: str) -> None:
    """150 steps. Must fail when the reset or a decay is another (tried: 'to_value' for 'subtract')."""
    make, size, kinds = SPIKING[name]
    torch.manual_seed(0)
    module = louder(make(), 6.0 if "norse" in name else 2.0)
    network = neurosbd.from_torch(module, size)
    neurons = [p.neuron for p in network.populations.values()][1:]
    assert len(neurons) == len(kinds) and all(isinstance(n, k) for n, k in zip(neurons, kinds, strict=True))
    x = torch.rand(STEPS, 5, *size_of(size))
    theirs, mine = outputs_of_module(module, x), outputs(network, x)
    assert theirs.abs().mean() > 0.005
    if isinstance(neurons[-1], LIF | IF | CubaLIF) or (isinstance(neurons[-1], Cell) and "norse" not in name):
        assert torch.equal(mine, theirs) and 0 < theirs.mean() < 1
    else:
        torch.testing.assert_close(mine, theirs, rtol=1e-5, atol=1e-5)


def test_a_recurrent_cell_becomes_a_population_with_a_recurrent_connection() -> None:
    cell = snn.RLeaky(0.9, linear_features=6, init_hidden=True)
    network = neurosbd.from_torch(nn.Sequential(nn.Linear(4, 6), cell), 4, dt=2e-3)
    assert list(network.connections) == ["input->output", "output->output"] and network.dt == 2e-3
    own, their = network.weights["output->output"], cell.recurrent.weight
    assert own is not their and torch.equal(own, their) and own.requires_grad


def test_sbd_fills_every_gradient_and_leaves_no_graph() -> None:
    torch.manual_seed(0)
    module = nn.Sequential(
        nn.Linear(4, 8),
        leaky(),
        nn.Linear(8, 6),
        snn.Synaptic(0.8, 0.9, init_hidden=True, reset_mechanism="zero"),
        nn.Linear(6, 6),
        snn.RLeaky(0.9, linear_features=6, init_hidden=True),
        nn.Linear(6, 3),
    )
    network = neurosbd.from_torch(louder(module, 2), 4)
    learner = Learner(network, sbd(), LOSSES["cross_entropy"](), torch.Generator().manual_seed(0))
    frames = []
    trial = Batch(torch.rand(20, 7, 4), torch.randint(0, 3, (7,)), (0.05,) * 20)
    learner.learn(trial, (lambda t, frame: frames.append(frame),))
    for name, parameter in network.named_parameters():
        assert parameter.grad is not None and parameter.grad.abs().sum() > 0, name
        assert not parameter.grad.requires_grad
    states = [part for frame in frames for state in frame.state.neurons.values() for part in state if part is not None]
    assert states and not any(part.requires_grad for part in states)
    for module in network.modules():
        kept = [t for t in (*vars(module).values(), *module._buffers.values()) if isinstance(t, Tensor)]
        assert not any(t.requires_grad for t in kept if not isinstance(t, nn.Parameter))


def test_backprop_goes_through_foreign_cells() -> None:
    """Oracle: autograd through the module itself, with the cells of the library."""
    torch.manual_seed(0)
    module = louder(nn.Sequential(nn.Linear(4, 6), snn.Alpha(0.9, 0.8, init_hidden=True), nn.Linear(6, 3)), 2)
    network = neurosbd.from_torch(module, 4)
    loss, x, target = LOSSES["cross_entropy"](), torch.rand(12, 5, 4), torch.randint(0, 3, (5,))
    Learner(network, RULES["bp"](), loss, torch.Generator()).learn(Batch(x, target, (1 / 12,) * 12))
    torch.stack([loss.per_example(module(now), target).mean() / 12 for now in x]).sum().backward()
    grads = [p.grad for p in module.parameters()]
    mine = [network.weights["input->hidden1"], network.biases["input->hidden1"],
            network.weights["hidden1->output"], network.biases["hidden1->output"]]  # fmt: skip
    for own, their in zip(mine, grads, strict=True):
        torch.testing.assert_close(own.grad, their, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize(
    ("make", "size", "message"),
    [
        (lambda: nn.Sequential(nn.Linear(4, 3), nn.GELU()), 4, r"module '1' \(GELU\).*Translated are: Linear"),
        (lambda: nn.Sequential(nn.Linear(4, 3), nn.Sequential(nn.BatchNorm1d(3))), 4, r"'1.0' .*fuse_conv_bn_eval"),
        (lambda: nn.Sequential(nn.Linear(4, 3), norse.LIF()), 4, r"whole sequence.*LIFCell"),
        (lambda: nn.Sequential(nn.Linear(4, 3), norse.LIFBoxCell(dt=2e-3)), 4, r"dt = 0.002 s.*0.001 s"),
        (lambda: nn.Sequential(nn.Linear(4, 3)), MAPS, r"'0' \(Linear\).*\[2, 8, 8\].*Flatten"),
        (lambda: nn.Sequential(nn.Linear(4, 3)), 5, "in_features = 4, but 5"),
        (lambda: nn.Sequential(nn.Conv2d(2, 3, (3, 2))), MAPS, r"kernel_size = \(3, 2\).*square"),
        (lambda: nn.Sequential(nn.Conv2d(2, 4, 3, groups=2)), MAPS, "groups = 1"),
        (lambda: nn.Sequential(nn.Conv2d(1, 4, 3)), MAPS, "in_channels = 1, but 2"),
        (lambda: nn.Sequential(nn.Conv2d(2, 4, 3)), 128, "a vector arrives"),
        (lambda: nn.Sequential(nn.AvgPool2d(2, padding=1)), MAPS, "padding"),
        (lambda: nn.Sequential(nn.Linear(4, 3), nn.Hardtanh(-1, 1)), 4, r"-1..*legal is 0..1"),
        (lambda: nn.Sequential(nn.Linear(4, 3), nn.Softplus(2)), 4, "beta = 2"),
        (lambda: nn.Sequential(nn.Flatten(2)), MAPS, "flattens 2"),
        (lambda: nn.Sequential(nn.Linear(4, 3), snn.SLSTM(3, 4)), 4, r"\[4\] of a drive of size \[3\]"),
        (lambda: nn.Sequential(nn.Linear(4, 3), snn.RLeaky(0.9, linear_features=5)), 4, r"size \[3\]"),
        (lambda: nn.Sequential(nn.Linear(4, 3)), (4, 4), "input_size"),
        (lambda: nn.Sequential(nn.Flatten(), nn.ReLU(), nn.Linear(8192, 2)), (2, 64, 64), "8192 x 8192"),
    ],
)
def test_what_cannot_be_translated_is_named(make: Any, size: Any, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        neurosbd.from_torch(make(), size)


# The adapter --------------------------------------------------------------------------------------

CELLS: dict[str, Callable[[], nn.Module]] = {
    "Leaky zero": lambda: snn.Leaky(0.9, reset_mechanism="zero"),
    "Leaky hidden": lambda: snn.Leaky(0.9, init_hidden=True, learn_beta=True, learn_threshold=True),
    "Leaky at once": lambda: snn.Leaky(0.9, reset_delay=False),
    "Leaky graded": lambda: snn.Leaky(0.9, graded_spikes_factor=0.5),
    "Synaptic": lambda: snn.Synaptic(0.8, 0.9, reset_mechanism="zero"),
    "Alpha": lambda: snn.Alpha(0.9, 0.8),
    "Lapicque": lambda: snn.Lapicque(beta=0.9, reset_mechanism="zero"),
    "RLeaky one to one": lambda: snn.RLeaky(0.9, all_to_all=False, V=0.3),
    "RLeaky": lambda: snn.RLeaky(0.9, linear_features=5),
    "RSynaptic": lambda: snn.RSynaptic(0.8, 0.9, linear_features=5),
    "SLSTM": lambda: snn.SLSTM(5, 5, threshold=0.1),
    "LIFCell": lambda: norse.LIFCell(),
    "LIFBoxCell": lambda: norse.LIFBoxCell(),
    "LIFAdExCell": lambda: norse.LIFAdExCell(),
    "LIFExCell": lambda: norse.LIFExCell(),
    "LIFRefracCell": lambda: norse.LIFRefracCell(),
    "LIFAdExRefracCell": lambda: norse.LIFAdExRefracCell(),
    "IAFCell": lambda: norse.IAFCell(),
    "LSNNCell": lambda: norse.LSNNCell(),
    "LICell": lambda: norse.LICell(),
    "LIBoxCell": lambda: norse.LIBoxCell(),
    "IzhikevichCell": lambda: norse.IzhikevichCell(norse.tonic_spiking),
    "LIFRecurrentCell": lambda: norse.LIFRecurrentCell(5, 5),
}
every_cell = pytest.mark.parametrize("name", list(CELLS))
MIXING = ("SLSTM", "LIFRecurrentCell")  # a drive moves more values than its own
LATE = ("LSNNCell", "Alpha")  # the drive is felt one step later


def translated(name: str, dtype: torch.dtype = torch.float64) -> Cell:
    torch.manual_seed(0)
    neuron = Cell(CELLS[name]())
    neuron.cell.to(dtype)
    return neuron


def moved(neuron: Cell, drive: Tensor, steps: int = 6) -> Any:
    """The state after some steps with spikes."""
    state = neuron.init(drive)
    generator = torch.Generator().manual_seed(1)
    for _ in range(steps):
        noise = 3 * torch.rand(drive.shape, generator=generator, dtype=drive.dtype)
        _, state = neuron.step(state, noise, DT)
    return state


@every_cell
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_adapter_is_pure_and_keeps_shape_and_dtype(name: str, dtype: torch.dtype) -> None:
    neuron, drive = translated(name, dtype), torch.randn(3, 5).to(dtype)
    before = copy.deepcopy(neuron.cell.state_dict())
    state = moved(neuron, drive)
    kept = [part.clone() for part in state]
    first, after = neuron.step(state, drive, DT)
    again, _ = neuron.step(state, drive, DT)
    signal = torch.randn_like(drive)
    gated = neuron.gate(first, signal, DT)
    assert torch.equal(first.value, again.value) and torch.equal(neuron.gate(first, signal, DT), gated)
    assert all(torch.equal(a, b) for a, b in zip(state, kept, strict=True))
    assert first.value.shape == gated.shape == drive.shape and first.value.dtype == gated.dtype == dtype
    assert all(part.dtype == dtype and len(part) == 3 for part in after) and hasattr(after, "_fields")
    assert all(torch.equal(v, before[k]) for k, v in neuron.cell.state_dict().items())


@every_cell
def test_the_adapter_treats_examples_apart(name: str) -> None:
    neuron, drive = translated(name), torch.randn(3, 5, dtype=torch.float64)
    state = moved(neuron, drive)
    whole, _ = neuron.step(state, drive, DT)
    alone, _ = neuron.step(type(state)(*(part[1:2] for part in state)), drive[1:2], DT)
    torch.testing.assert_close(alone.value, whole.value[1:2])
    signal = torch.randn_like(drive)
    torch.testing.assert_close(neuron.gate(alone, signal[1:2], DT), neuron.gate(whole, signal, DT)[1:2])


@every_cell
@pytest.mark.parametrize("steps", [0, 6])
def test_the_gain_of_the_adapter_is_the_derivative_of_the_step(name: str, steps: int) -> None:
    """Oracle: autograd through the step. Must fail when the gate starts from the state after the step (tried)."""
    neuron, drive = translated(name), torch.randn(3, 5, dtype=torch.float64)
    state = moved(neuron, drive, steps)
    leaf = drive.clone().requires_grad_()
    value = neuron.step(state, leaf, DT)[0].value
    activity, _ = neuron.step(state, drive, DT)
    if name in LATE:
        assert not gain(neuron, activity, DT).any()
        return
    (exact,) = torch.autograd.grad(value.sum(), leaf, retain_graph=True)
    torch.testing.assert_close(gain(neuron, activity, DT), exact, rtol=1e-12, atol=1e-14)
    assert steps > 0 or exact.abs().max() > 0  # later a cell may be refractory
    signal = torch.randn_like(drive)
    gated = neuron.gate(activity, signal, DT)
    (pulled,) = torch.autograd.grad(value, leaf, signal)
    torch.testing.assert_close(gated, pulled, rtol=1e-12, atol=1e-14)
    if name not in MIXING:  # snnTorch's spikes are float32, and so is what comes back through them
        torch.testing.assert_close(gated, signal * exact, rtol=1e-6, atol=1e-9)


@every_cell
def test_no_graph_stays_behind_and_no_cell_is_made(name: str) -> None:
    neuron, drive = translated(name), torch.randn(3, 5, dtype=torch.float64)
    made = len(snn.SpikingNeuron.instances)
    state = moved(neuron, drive, 3)
    activity, state = neuron.step(state, drive, DT)
    gated = neuron.gate(activity, torch.ones_like(drive), DT)
    found = [gated, activity.value, activity.potential, *state]
    found += [t for m in neuron.cell.modules() for t in (*vars(m).values(), *m._buffers.values())]
    assert not any(isinstance(t, Tensor) and (t.grad_fn is not None or t.requires_grad) for t in found)
    assert not list(neuron.cell.parameters()) and len(snn.SpikingNeuron.instances) == made


@every_cell
def test_the_adapter_goes_as_the_cell_goes(name: str) -> None:
    """200 steps of the cell itself, called as its library calls it."""
    torch.manual_seed(0)
    cell = CELLS[name]()
    neuron = Cell(cell)
    x = (30 if name == "IzhikevichCell" else 2) * torch.rand(200, 3, 5)
    mine, state, theirs = neuron.init(x[0]), None, []
    with torch.no_grad():
        for t, now in enumerate(x):
            if name == "Leaky hidden":
                out = cell(now)
            elif isinstance(cell, snn.SpikingNeuron):
                out, *state = _called(cell, now, state)
            else:
                out, state = cell(now, state)
            activity, mine = neuron.step(mine, now, DT)
            assert torch.equal(activity.value, out), t
            theirs.append(out)
    assert torch.stack(theirs).abs().sum() > 0


def _called(cell: Any, now: Tensor, state: Any) -> Any:
    out = cell(now, *(state or ()))
    recurrent = isinstance(cell, snn.RLeaky | snn.RSynaptic)
    return (out[0], *out) if recurrent else out


def test_the_adapter_knows_nothing_of_what_came_before() -> None:
    neuron, drive = translated("Synaptic"), torch.randn(3, 5, dtype=torch.float64)
    state = neuron.init(drive)
    assert type(state)._fields == ("syn", "mem")
    activity, state = neuron.step(state, drive, DT)
    flow = neuron.flow(state, activity, DT)
    assert neuron.filters(DT) == () and neuron.factorises and flow.jacobian == ((0.0,),)


@pytest.mark.parametrize("name", LATE)
def test_a_cell_that_feels_its_drive_late_is_refused_by_local_rules(name: str) -> None:
    network = neurosbd.from_torch(nn.Sequential(nn.Linear(4, 5), CELLS[name](), nn.Linear(5, 3)), 4)
    with pytest.raises(ValueError, match=rf"input->hidden1.*{type(CELLS[name]()).__name__}.*one step later"):
        Learner(network, sbd(), LOSSES["cross_entropy"](), torch.Generator())


def test_what_is_no_cell_is_refused() -> None:
    with pytest.raises(ValueError, match=r"Cell.cell.*got Linear"):
        Cell(nn.Linear(3, 3))


def test_a_cell_in_use_is_copied_without_its_graph() -> None:
    cell = snn.Leaky(0.9, init_hidden=True, learn_beta=True)
    cell(torch.rand(2, 3, requires_grad=True))
    neuron = Cell(cell)
    assert cell.mem.requires_grad and not neuron.init(torch.zeros(2, 3)).mem.any()
    gc.collect()
    assert isinstance(cell.beta, nn.Parameter)


def test_a_network_moves_its_cells_along() -> None:
    populations = [Population("input", (4,), None), Population("output", (5,), Cell(snn.SLSTM(5, 5)))]
    network = Network(populations, [Connection("input", "output", Dense())], torch.Generator().manual_seed(0)).double()
    x = torch.rand(3, 2, 4, dtype=torch.float64)
    assert outputs(network, x).dtype == torch.float64 and len(list(network.parameters())) == 1
    copied = copy.deepcopy(network)
    assert torch.equal(outputs(copied, x), outputs(network, x)) and torch.equal(
        copied.state_dict()[KEY], network.state_dict()[KEY]
    )


KEY = "constant:output:cell.lstm_cell.weight_ih"


# Surrogates ---------------------------------------------------------------------------------------


def test_surrogates_are_recognised_or_borrowed() -> None:
    foreign = snn.surrogate
    assert surrogate_of(foreign.atan(alpha=3.0), 1.0) == ArcTan(3.0)
    assert surrogate_of(foreign.atan(alpha=3.0), 0.5) == ArcTan(1.5)
    assert surrogate_of(foreign.fast_sigmoid(slope=10), 1.0) == FastSigmoid(10.0)
    triangle = norse.triangle_fn
    assert surrogate_of(lambda x: triangle(x, 0.4), 1.0) == Triangle(0.4, 1.0)
    borrowed = surrogate_of(foreign.fast_sigmoid(slope=10), 0.5)
    assert isinstance(borrowed, ForeignSurrogate)
    distance = torch.tensor([-1.0, -0.2, 0.0, 0.3, 2.0])
    expected = 0.5 / (1 + 10 * (0.5 * distance).abs()).square()
    torch.testing.assert_close(borrowed.derivative(distance.clone()), expected)
    assert not ForeignSurrogate(lambda x: (x > 0).float()).derivative(distance).any()


def test_own_neurons_keep_the_pseudo_derivative_of_the_cell() -> None:
    """Gain of the translated neuron = gain of the cell behind the adapter, at every threshold."""
    for cell in (snn.Leaky(0.9, threshold=0.6), snn.Leaky(0.9, threshold=0.6, spike_grad=snn.surrogate.sigmoid(5))):
        network = neurosbd.from_torch(nn.Sequential(nn.Linear(4, 5), copy.deepcopy(cell)), 4)
        own, foreign = network.populations["output"].neuron, Cell(cell)
        assert isinstance(own, LIF)
        drive = torch.linspace(-1, 2, 15).reshape(3, 5)
        mine, _ = own.step(own.init(drive), drive, DT)
        theirs, _ = foreign.step(foreign.init(drive), drive, DT)
        torch.testing.assert_close(gain(own, mine, DT), gain(foreign, theirs, DT), rtol=1e-4, atol=1e-6)
