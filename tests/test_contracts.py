"""Contracts over every table: a new entry is tested here without touching a test."""

import copy
import dataclasses
import inspect
import itertools
import math
from typing import Any

import pytest
import torch
from torch import Tensor

from neurosbd.catalogue import catalogue
from neurosbd.connections import CONNECTIONS, INITIALISERS, POOLINGS, Dense
from neurosbd.datasets.processes import PROCESSES
from neurosbd.distributions import DISTRIBUTIONS
from neurosbd.eligibility import ELIGIBILITIES
from neurosbd.encoders import ENCODERS
from neurosbd.errors import UsageError
from neurosbd.expansions import EXPANSIONS
from neurosbd.homeostasis import HOMEOSTASES
from neurosbd.learners import Trial, learner_of
from neurosbd.losses import LOSSES
from neurosbd.losses.admissibility import admissible
from neurosbd.losses.targets import BINARY, CLASSES
from neurosbd.network import Connection, Network, Population
from neurosbd.neuromodulators import ACTIVATIONS, LAYOUTS, NEUROMODULATORS, Decorrelation, Forgetting
from neurosbd.neurons import NEURONS
from neurosbd.optimizers import OPTIMIZERS, SCHEDULES
from neurosbd.process import Adaptive, Coupled, Heard, Synapses, gain
from neurosbd.rules import RULES, LocalRule
from neurosbd.simulation import simulate
from neurosbd.surrogates import SURROGATES
from neurosbd.upkeep import UPKEEPS
from tests.conditional import scored
from tests.conftest import cnn, lc, mlp
from tests.targets import differences, example, slope

TABLES = [
    NEURONS, ELIGIBILITIES, ENCODERS, SURROGATES, DISTRIBUTIONS, CONNECTIONS, POOLINGS, INITIALISERS, LOSSES,
    NEUROMODULATORS, LAYOUTS, EXPANSIONS, RULES, OPTIMIZERS, SCHEDULES, HOMEOSTASES, UPKEEPS, PROCESSES,
]  # fmt: skip
REQUIRED: dict[str, dict[str, Any]] = {
    "weight_entropy": {"on": "all"},
    "conv2d": {"kernel": 3, "padding": 1},
    "local2d": {"kernel": 3, "padding": 1},
    "steps": {"epochs": (1, 3)},
    "uniform": {"low": 1.0, "high": 2.0},
    "normal": {"mean": 1.0, "std": 0.5},
    "log_normal": {"median": 1.0},
}
DT = 1e-3


def made(table: Any, name: str) -> Any:
    return table[name](**REQUIRED.get(name, {}))


def every(table: Any) -> Any:
    return pytest.mark.parametrize("name", list(table))


def seeded() -> torch.Generator:
    return torch.Generator().manual_seed(0)


def test_tables_are_not_empty() -> None:
    assert all(TABLES)


@pytest.mark.parametrize(("table", "name"), [(t, n) for t in TABLES for n in t])
def test_every_entry_is_documented_and_reproducible(table: Any, name: str) -> None:
    doc = inspect.getdoc(table[name]) or ""
    assert len(doc.splitlines()[0]) > 10
    unsourced = (ELIGIBILITIES, ENCODERS, SURROGATES, DISTRIBUTIONS, LAYOUTS, OPTIMIZERS, SCHEDULES)
    if not any(table is other for other in unsourced):
        assert "Source:" in doc
    entry = made(table, name)
    assert entry == made(table, name)  # frozen constants compare by value
    if dataclasses.is_dataclass(entry):
        field = next(iter(dataclasses.fields(entry)), None)
        if field is not None:
            with pytest.raises(dataclasses.FrozenInstanceError):
                setattr(entry, field.name, None)


@pytest.mark.parametrize("kind", ["models", "data", "rules", "neurons", "losses"])
def test_every_list_names_a_line_and_a_source(kind: str) -> None:
    rows = catalogue(kind)
    assert rows
    for row in rows:
        assert row.about and row.source, row


# Neurons ------------------------------------------------------------------------------------------


@every(NEURONS)
def test_gain_is_the_derivative_of_the_value(name: str) -> None:
    """Oracle: autograd, for any signal. Must fail when the gain is taken at the wrong side of a kink (tried: `>=`), or
    when a normalised drive is taken for one divided by a constant (tried)."""
    neuron = made(NEURONS, name)
    drive = torch.cat((torch.linspace(-3, 3, 60), torch.tensor([0.0, 1.0]))).double().reshape(2, 31).requires_grad_()
    activity, _ = neuron.step(neuron.init(drive, seeded()), drive, 1e-3)
    signal = torch.randn_like(drive)
    (exact,) = torch.autograd.grad(activity.value, drive, signal)
    torch.testing.assert_close(neuron.gate(activity, signal, DT), exact, rtol=1e-10, atol=1e-13)


SPIKING = [name for name in NEURONS if hasattr(made(NEURONS, name), "v_threshold")]


@pytest.mark.parametrize("name", [name for name in NEURONS if name not in SPIKING])
def test_gain_by_finite_differences(name: str) -> None:
    neuron = made(NEURONS, name)
    drive = torch.tensor([[-2.3, -0.7, 0.4, 0.9, 1.7], [0.3, 2.1, -0.6, -1.4, 0.8]], dtype=torch.float64)
    step = 1e-6

    def value(u: Tensor) -> Tensor:
        return neuron.step(neuron.init(u, seeded()), u, 1e-3)[0].value

    signal = torch.tensor([[0.3, -1.1, 0.7, 1.3, -0.2], [0.9, 0.4, -0.8, 0.1, 1.2]], dtype=torch.float64)
    moves = step * torch.eye(drive.numel()).double().view(-1, *drive.shape)
    slope = torch.stack([(signal * (value(drive + move) - value(drive - move))).sum() for move in moves]) / (2 * step)
    activity, _ = neuron.step(neuron.init(drive, seeded()), drive, 1e-3)
    torch.testing.assert_close(neuron.gate(activity, signal, DT), slope.view_as(drive), rtol=1e-8, atol=1e-9)


@every(NEURONS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_neurons_are_pure_and_keep_shape_and_dtype(name: str, dtype: torch.dtype) -> None:
    neuron = made(NEURONS, name)
    drive = torch.randn(3, 4, 2, 2, dtype=dtype)
    before = drive.clone()
    state = neuron.init(drive, seeded())
    first, _ = neuron.step(state, drive, 1e-3)
    again, _ = neuron.step(state, drive, 1e-3)
    signal = torch.randn_like(drive)
    kept = signal.clone()
    gated = neuron.gate(first, signal, DT)
    assert torch.equal(drive, before) and torch.equal(signal, kept)
    assert torch.equal(first.value, again.value)
    assert first.value.shape == gated.shape == drive.shape and first.value.dtype == gated.dtype == dtype
    alone, _ = neuron.step(neuron.init(drive[:1], seeded()), drive[:1], 1e-3)
    if not isinstance(neuron, Adaptive):
        torch.testing.assert_close(alone.value, first.value[:1])  # batch independence
    if not isinstance(neuron, Coupled):
        torch.testing.assert_close(gated, signal * gain(neuron, first, DT))


# Connections --------------------------------------------------------------------------------------


def _wired(name: str, pool: Any, bias: bool) -> tuple[Any, Synapses, Tensor, tuple[int, ...]]:
    pre: tuple[int, ...] = (2, 6, 6)
    geometry = dataclasses.replace(made(CONNECTIONS, name), pool=pool, bias=bias)
    side = 6 if pool is None else 3
    post = (7,) if name == "dense" else (5, side, side)
    start = geometry.start(geometry.weight_shape(pre, post), seeded())
    assert (start.bias is not None) == bias
    synapses = Synapses(*(None if s is None else torch.randn_like(s, dtype=torch.float64) for s in start))  # type: ignore
    return geometry, synapses, torch.randn(4, *pre, dtype=torch.float64), post


WIRINGS = list(itertools.product(CONNECTIONS, [None, *POOLINGS], [False, True]))


@pytest.mark.parametrize(("name", "pool", "bias"), WIRINGS)
def test_outer_is_the_adjoint_of_drive(name: str, pool: str | None, bias: bool) -> None:
    """<outer(p, x), w> = <p, drive(w, x)>. Must fail when the kernel is flipped (tried)."""
    geometry, synapses, x, post = _wired(name, POOLINGS[pool]() if pool else None, bias)
    factor = torch.randn(4, *post, dtype=torch.float64)
    arriving = geometry.carry(x)
    outer = geometry.outer(synapses, factor, arriving)
    left = sum((a * b).sum() for a, b in zip(outer, synapses, strict=True) if a is not None and b is not None)
    right = (factor * geometry.drive(synapses, arriving)).sum()
    torch.testing.assert_close(torch.as_tensor(left), right, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize(("name", "pool", "bias"), WIRINGS)
def test_outer_equals_autograd(name: str, pool: str | None, bias: bool) -> None:
    geometry, synapses, x, post = _wired(name, POOLINGS[pool]() if pool else None, bias)
    factor = torch.randn(4, *post, dtype=torch.float64)
    leaves = [s.requires_grad_() for s in synapses if s is not None]
    exact = torch.autograd.grad((geometry.drive(synapses, geometry.carry(x)) * factor).sum(), leaves)
    with torch.no_grad():
        outer = geometry.outer(synapses, factor, geometry.carry(x))
    for got, want in zip([o for o in outer if o is not None], exact, strict=True):
        torch.testing.assert_close(got, want, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("name", ["conv2d", "local2d"])
def test_strided_outer_equals_autograd(name: str) -> None:
    geometry = CONNECTIONS[name](kernel=2, stride=2, padding=1, bias=True)
    start = geometry.start(geometry.weight_shape((3, 7, 7), (4, 4, 4)), seeded())
    synapses = Synapses(*(torch.randn_like(s).double().requires_grad_() for s in start if s is not None))
    x, factor = torch.randn(2, 3, 7, 7).double(), torch.randn(2, 4, 4, 4).double()
    leaves = [s for s in synapses if s is not None]
    exact = torch.autograd.grad((geometry.drive(synapses, geometry.carry(x)) * factor).sum(), leaves)
    with torch.no_grad():
        outer = geometry.outer(synapses, factor, geometry.carry(x))
    for got, want in zip(outer, exact, strict=True):
        assert got is not None
        torch.testing.assert_close(got, want, rtol=1e-10, atol=1e-12)


@every(POOLINGS)
@pytest.mark.parametrize(("window", "stride"), [(2, 0), (3, 2), (2, 1)])
def test_pooling_says_its_size(name: str, window: int, stride: int) -> None:
    pooling = POOLINGS[name](window, stride)
    assert pooling.pool(torch.randn(2, 3, 9, 7)).shape[1:] == pooling.size((3, 9, 7))


@every(INITIALISERS)
def test_initialisers_have_the_stated_scale(name: str) -> None:
    """Standard deviation over 200,000 draws, within 1 % (its own spread is 0.16 %)."""
    fan_in, fan_out = 25 * 20, 25 * 16
    weight = made(INITIALISERS, name).draw((16, 20, 5, 5), torch.Generator().manual_seed(0))
    weight = torch.stack(
        [weight] + [made(INITIALISERS, name).draw((16, 20, 5, 5), torch.Generator().manual_seed(i)) for i in range(24)]
    )
    expected = {
        "kaiming": math.sqrt(2 / fan_in),
        "xavier": math.sqrt(2 / (fan_in + fan_out)),
        "zeros": 0.0,
        "constant": 0.0,
        "diagonal": math.sqrt((1 / fan_in) * (1 - 1 / fan_in)),  # 16 ones in [16, 20, 5, 5]
    }[name.split("_")[0]]
    assert weight.std().item() == pytest.approx(expected, rel=1e-2, abs=1e-9)
    one, two = (made(INITIALISERS, name).draw((3, 4), torch.Generator().manual_seed(5)) for _ in range(2))
    assert torch.equal(one, two) and one.dtype == torch.float32


# Losses -------------------------------------------------------------------------------------------


@every(LOSSES)
@pytest.mark.parametrize("form", ["as they come", "vectors", "labels"])
def test_score_is_the_derivative_of_the_loss(name: str, form: str) -> None:
    """A8 (1). Oracles: autograd and finite differences. Must fail when the score is divided by B (tried)."""
    loss = made(LOSSES, name)
    output, target = example(loss, 6)
    if form == "labels":
        if loss.targets not in (CLASSES, BINARY) and name != "squared_error":
            with pytest.raises(ValueError, match=r"\[6\].*\[6, \d\]"):
                loss.score(output, torch.arange(6) % 3)
            return
        target = torch.arange(6) % 3
    if form == "vectors" and loss.targets is CLASSES:
        target = torch.rand(6, 3, dtype=torch.float64)
    with torch.no_grad():
        score = loss.score(output, target)
        torch.testing.assert_close(score, slope(loss, output, target), rtol=1e-10, atol=1e-12)
        torch.testing.assert_close(score, differences(loss, output, target), rtol=1e-6, atol=1e-8)


@every(LOSSES)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_losses_are_per_example_pure_and_keep_the_dtype(name: str, dtype: torch.dtype) -> None:
    loss = made(LOSSES, name)
    output, target = example(loss, 5)
    output = output.to(dtype)
    kept = output.clone(), target.clone()
    value, score = loss.per_example(output, target), loss.score(output, target)
    drawn = loss.sample(output, seeded())
    assert torch.equal(output, kept[0]) and torch.equal(target, kept[1])
    assert value.shape == (5,) and score.shape == output.shape and value.dtype == score.dtype == dtype
    assert value.device == score.device == output.device == drawn.device
    torch.testing.assert_close(loss.per_example(output[3:4], target[3:4]), value[3:4])
    torch.testing.assert_close(loss.score(output[3:4], target[3:4]), score[3:4])
    assert drawn.dtype == (torch.long if loss.targets is CLASSES else dtype)
    assert loss.score(output, drawn).shape == output.shape  # legal targets
    assert torch.equal(drawn, loss.sample(output, seeded()))


@every(LOSSES)
def test_losses_look_at_no_value_on_an_accelerator(name: str) -> None:
    """So a step never waits for the device. Tensors without data tell: must fail when values are checked (tried)."""
    loss = made(LOSSES, name)
    output, target = (tensor.to("meta") for tensor in example(loss, 5))
    assert loss.per_example(output, target).device.type == loss.score(output, target).device.type == "meta"
    assert loss.score(output, target).shape == output.shape


@every(LOSSES)
def test_losses_refuse_other_shapes(name: str) -> None:
    loss = made(LOSSES, name)
    output, _ = example(loss, 5)
    legal = rf"\[5, 2\].*\[5, {output.shape[1]}\]"
    for reading in (loss.per_example, loss.score):
        with pytest.raises(UsageError, match=legal):
            reading(output, torch.rand(5, 2))


@every(LOSSES)
def test_every_loss_is_admissible(name: str) -> None:
    """The score averages to 0 at the minimiser, over random conditional distributions of legal targets."""
    found = admissible(name)
    assert found and found.minimiser == "interior", found.message


# Neuromodulators ----------------------------------------------------------------------------------


@every(NEUROMODULATORS)
@pytest.mark.parametrize("layout", list(LAYOUTS))
@pytest.mark.parametrize("size", [(6,), (3, 4, 5)])
def test_neuromodulators_are_pure_and_signal_every_unit(name: str, layout: str, size: tuple[int, ...]) -> None:
    wants = inspect.signature(NEUROMODULATORS[name]).parameters
    modulator = NEUROMODULATORS[name](**({"layout": LAYOUTS[layout]()} if "layout" in wants else {}))
    heard = Heard(torch.randn(7, *size), torch.randn(7, 4) / 7, 0.5, reward=torch.rand(7), judge=lambda z: (z - 1) / 7)
    if name in ("transposed", "following"):
        if len(size) == 3:
            with pytest.raises(ValueError, match="dense connection"):
                modulator.init(heard, torch.Generator())
            return
        heard = heard._replace(outgoing=torch.randn(4, *size))
    state = modulator.init(heard, torch.Generator().manual_seed(0))
    before = copy.deepcopy(state)
    one, after = modulator.step(state, heard, 1e-3)
    two, _ = modulator.step(state, heard, 1e-3)
    assert torch.equal(one, two) and one.shape == heard.value.shape
    projection = modulator.projection(after)
    if name not in ("transposed", "reward"):
        assert projection is not None and projection.shape[0] == 4
        told = LAYOUTS[layout if "layout" in wants else "full"]()
        assert projection.shape[1] == told.summary(heard.value, told.init(heard.value, seeded())).shape[1]
    assert all(torch.equal(a, b) for a, b in zip(state, before, strict=True))
    assert [t.dtype for t in after] == [torch.float32] * len(after)
    silence = heard._replace(score=torch.zeros(7, 4), reward=torch.zeros(7), judge=torch.zeros_like)
    silent, _ = modulator.step(state, silence, 1e-3)
    assert not silent.any()


@every(LAYOUTS)
@pytest.mark.parametrize("size", [(6,), (3, 4, 5)])
def test_layouts_depend_on_neither_memory_order_nor_the_batch(name: str, size: tuple[int, ...]) -> None:
    layout, value = LAYOUTS[name](), torch.randn(2, *size)
    basis = layout.init(value, seeded())
    assert torch.equal(basis, layout.init(value[:1], seeded())) and basis.dtype == value.dtype
    summary = layout.summary(value, basis)
    torch.testing.assert_close(layout.summary(value[1:], basis), summary[1:])
    if value.ndim == 4:
        other = value.contiguous(memory_format=torch.channels_last)
        torch.testing.assert_close(layout.summary(other, basis), summary)
    assert layout.spread(summary, value, basis).shape == value.shape
    if name == "full":
        assert torch.equal(layout.spread(summary, value, basis), value)


@every(LAYOUTS)
@pytest.mark.parametrize("size", [(6,), (3, 4, 5)])
def test_every_layout_tells_every_unit_a_signal_of_the_same_variance(name: str, size: tuple[int, ...]) -> None:
    """Over 40,000 projections, within 5 %, seven times its own spread. Must fail when the directions of low_rank are
    not of length 1 (tried: sqrt(2))."""
    layout, like = LAYOUTS[name](), torch.zeros(40_000, *size)
    basis = layout.init(like, seeded())
    coordinates = torch.randn(40_000, layout.summary(like[:1], basis).shape[1], generator=seeded())
    variance = layout.spread(coordinates, like, basis).var(0)
    torch.testing.assert_close(variance, torch.ones(size), rtol=5e-2, atol=0)


@every(LAYOUTS)
@pytest.mark.parametrize("size", [(6,), (3, 4, 5)])
def test_what_a_layout_has_learned_is_told_with_the_right_strength(name: str, size: tuple[int, ...]) -> None:
    """One score, activity the same for all positions: spread(summary(h)) = h, in the mean over bases. Must fail when a
    patch is summed and not averaged (tried)."""
    layout = LAYOUTS[name]()
    value = torch.randn(1, size[0], *(1,) * (len(size) - 1), dtype=torch.float64).expand(1, *size)
    bases, told = 400 if name == "low_rank" else 1, torch.zeros_like(value)
    for seed in range(bases):
        basis = layout.init(value, torch.Generator().manual_seed(seed))
        told = told + layout.spread(layout.summary(value, basis), value, basis) / bases
    torch.testing.assert_close(told, value, rtol=1e-12, atol=0.7 if name == "low_rank" else 1e-12)


# Homeostases and upkeeps --------------------------------------------------------------------------

SIZES = pytest.mark.parametrize("size", [(6,), (3, 4, 5)], ids=["units", "map"])


def _eager(homeostasis: Any, **constants: Any) -> Any:
    """The same with a weight that tolerances can see, all examples heard, and all renewed at every batch."""
    fields = {field.name for field in dataclasses.fields(homeostasis)}
    whole = {name: value for name, value in {"refresh": 1, "examples": 100}.items() if name in fields}
    return dataclasses.replace(homeostasis, **({"weight": 1.0} | whole | constants))


def _alike(one: Any, two: Any) -> None:
    for a, b in zip(one, two, strict=True):
        torch.testing.assert_close(a, b)


@every(HOMEOSTASES)
@SIZES
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_homeostases_are_pure_and_pull_every_unit(name: str, size: tuple[int, ...], dtype: torch.dtype) -> None:
    homeostasis, value = _eager(made(HOMEOSTASES, name)), torch.randn(7, *size, dtype=dtype)
    state = homeostasis.init(value[:1], seeded())
    before, kept = copy.deepcopy(state), value.clone()
    one, after = homeostasis.step(state, value, 1.0)
    two, again = homeostasis.step(state, value, 1.0)
    assert torch.equal(one, two) and one.shape == value.shape and one.dtype == dtype and one.any()
    assert all(torch.equal(a, b) for a, b in zip((*state, value), (*before, kept), strict=True))
    assert all(torch.equal(a, b) for a, b in zip(after, again, strict=True))
    assert [t.shape for t in after] == [t.shape for t in state] and [t.dtype for t in after] == [t.dtype for t in state]


@every(HOMEOSTASES)
@SIZES
def test_homeostases_grow_with_their_weight_and_leave_silence_alone(name: str, size: tuple[int, ...]) -> None:
    homeostasis, value = _eager(made(HOMEOSTASES, name)), torch.randn(7, *size).double()
    state = homeostasis.init(value, seeded())
    one, _ = homeostasis.step(state, value, 1.0)
    for factor in (0.0, 3.0):
        scaled, _ = _eager(homeostasis, weight=factor * homeostasis.weight).step(state, value, 1.0)
        torch.testing.assert_close(scaled, factor * one)
    assert not homeostasis.step(state, torch.zeros_like(value), 1.0)[0].any()
    with pytest.raises(ValueError, match=r"weight must be a number >= 0, got -1"):
        dataclasses.replace(homeostasis, weight=-1.0)


@every(HOMEOSTASES)
@SIZES
def test_homeostases_descend_a_mean_over_the_batch(name: str, size: tuple[int, ...]) -> None:
    """Every example twice: half the pull on each. Must fail when 1/B is left out (tried)."""
    homeostasis, value = _eager(made(HOMEOSTASES, name)), torch.randn(7, *size).double()
    state = homeostasis.init(value, seeded())
    once, after = homeostasis.step(state, value, 1.0)
    twice, same = homeostasis.step(state, torch.cat((value, value)), 1.0)
    torch.testing.assert_close(twice, torch.cat((once, once)) / 2)
    _alike(after, same)


@every(HOMEOSTASES)
@SIZES
def test_homeostases_remember_a_batch_however_many_steps_it_takes(name: str, size: tuple[int, ...]) -> None:
    """Four quarters of a batch are the whole. Must fail when lam is taken per step (tried)."""
    homeostasis, value = _eager(made(HOMEOSTASES, name)), torch.randn(7, *size).double()
    state = homeostasis.init(value, seeded())
    _, whole = homeostasis.step(state, value, 1.0)
    for _ in range(4):
        _, state = homeostasis.step(state, value, 0.25)
    _alike(state, whole)


@every(HOMEOSTASES)
@SIZES
def test_homeostases_look_at_no_value_on_an_accelerator(name: str, size: tuple[int, ...]) -> None:
    """Tensors without data tell: must fail when a running moment is asked for its value (tried)."""
    homeostasis, value = _eager(made(HOMEOSTASES, name)), torch.empty(7, *size, device="meta")
    pull, after = homeostasis.step(homeostasis.init(value, seeded()), value, 1.0)
    assert pull.shape == value.shape and pull.device.type == "meta"
    homeostasis.step(after, value, 1.0)


@every(UPKEEPS)
@pytest.mark.parametrize("shape", [(4, 9), (9, 4), (4, 3, 3, 3), (4, 2, 2, 3, 3, 3)])
def test_upkeeps_are_pure_and_pull_the_synapses_that_are_there(name: str, shape: tuple[int, ...]) -> None:
    upkeep: Any = made(UPKEEPS, name)
    present = (torch.rand(shape) < 0.7).double()
    synapses = Synapses(torch.randn(shape).double() * present, torch.randn(shape[0]).double())
    state, kept = upkeep.init(synapses), copy.deepcopy(synapses)
    before = copy.deepcopy(state)
    one, after = upkeep.step(state, synapses, present)
    two, _ = upkeep.step(state, synapses, present)
    assert torch.equal(one.weight, two.weight) and one.weight.shape == shape and one.weight.any()
    assert not one.weight[present == 0].any()
    assert all(torch.equal(a, b) for a, b in zip((*state, synapses.weight), (*before, kept.weight), strict=True))
    strong, _ = dataclasses.replace(upkeep, weight=3 * upkeep.weight).step(state, synapses, present)
    torch.testing.assert_close(strong.weight, 3 * one.weight)
    empty = Synapses(torch.empty(shape, device="meta"), None)
    upkeep.step(upkeep.init(empty), empty, None)  # looks at no value
    assert [t.shape for t in after] == [t.shape for t in state]


@every(ACTIVATIONS)
@pytest.mark.parametrize("layout", list(LAYOUTS))
@pytest.mark.parametrize("size", [(6,), (3, 4, 5)])
@pytest.mark.parametrize("others", [(), ("identity",)])
def test_signal_is_the_derivative_of_the_squared_correlation(
    name: str, layout: str, size: tuple[int, ...], others: tuple[Any, ...]
) -> None:
    """lam = 0, no frozen part: signal = g'(h) d 1/2 sum_g ||mean s m_g^T||^2 / d m_g at fixed score, by finite
    differences, where m_g is g(h) in the coordinates of the layout.

    Must fail when g' is taken of another g, or R holds the batch before (tried).
    """
    names: tuple[Any, ...] = tuple(dict.fromkeys((*others, name)))
    made_layout = LAYOUTS[layout]()
    decorrelation = Decorrelation(made_layout, 0.0, forgetting=Forgetting(0.0), activations=names)
    value, score = torch.randn(4, *size, dtype=torch.float64), torch.randn(4, 3, dtype=torch.float64) / 4
    heard, small = Heard(value, score), 1e-5
    state = decorrelation.init(heard, seeded())
    signal, _ = decorrelation.step(state, heard, DT)
    expected = torch.zeros_like(value)
    for each in names:
        g = ACTIVATIONS[each].value
        summary = made_layout.summary(g(value), state.basis)
        moves = small * torch.eye(summary.numel(), dtype=torch.float64).view(-1, *summary.shape)
        costs = [(score.t() @ (summary + sign * moves)).square().sum((1, 2)) / 2 for sign in (1, -1)]
        slope = ((costs[0] - costs[1]) / (2 * small)).view(summary.shape)
        own = (g(value + small) - g(value - small)) / (2 * small)
        expected += own * made_layout.spread(slope, value, state.basis)
    torch.testing.assert_close(signal, expected, rtol=1e-6, atol=1e-8)


# Expansions ---------------------------------------------------------------------------------------


def _heard(name: str, dtype: torch.dtype = torch.float64) -> tuple[Any, Any]:
    """An expansion and what it hears, of the first loss that it accepts."""
    block = EXPANSIONS[name]()
    for loss in LOSSES:
        made_loss = made(LOSSES, loss)
        output, target = example(made_loss, 6, 5)
        heard = scored(made_loss, output.to(dtype), target)
        try:
            block.init(heard, seeded())
        except ValueError:
            continue
        return block, heard
    raise AssertionError(f"no loss is good enough for the expansion {name}")


@every(EXPANSIONS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_expansions_are_pure_and_as_wide_as_they_say(name: str, dtype: torch.dtype) -> None:
    block, heard = _heard(name, dtype)
    assert block.weight == 1.0
    state = block.init(heard, seeded())
    before = copy.deepcopy(state)
    columns, after = block.step(state, heard, DT)
    again, _ = block.step(state, heard, DT)
    assert torch.equal(columns, again) and columns.dtype == dtype
    assert columns.shape == (6, block.width(heard)) and torch.isfinite(columns).all() and columns.any()
    assert all(torch.equal(a, b) for a, b in zip(state, before, strict=True)) and type(after) is type(state)
    alone = heard._replace(
        score=heard.score[2:3] * 6,  # which carries 1/B
        output=heard.output[2:3],
        target=heard.target[2:3],
        activity={n: a._replace(value=a.value[2:3], potential=a.potential[2:3]) for n, a in heard.activity.items()},
    )
    torch.testing.assert_close(block.step(state, alone, DT)[0][0] / 6, columns[2])


@every(EXPANSIONS)
def test_expansions_look_at_no_value_on_an_accelerator(name: str) -> None:
    """So a step never waits for the device; tensors without data tell."""
    block, heard = _heard(name)
    state = block.init(heard, seeded())
    far = type(state)(*(tensor.to("meta") for tensor in state))
    activity = {n: a._replace(value=a.value.to("meta")) for n, a in heard.activity.items()}
    moved = heard._replace(
        score=heard.score.to("meta"), output=heard.output.to("meta"), target=heard.target.to("meta"), activity=activity
    )
    columns, _ = block.step(far, moved, DT)
    assert columns.device.type == "meta" and columns.shape == (6, block.width(heard))


# Rules --------------------------------------------------------------------------------------------


# Rules that say they need a dense connection; that they say so is tested.
DENSE_ONLY = {"eprop"}
SPIKE_TIMED = {"stdp", "rstdp"}


def _learns_from_the_score(name: str) -> bool:
    rule = RULES[name]()
    return not isinstance(rule, LocalRule) or (rule.neuromodulator is not None and not rule.rewarded)


SCORED = [name for name in RULES if _learns_from_the_score(name)]
SMOOTH = [name for name in RULES if name != "rmax"]  # rules that need no neurons that draw their spikes


def _grown(rule: str, network: Network, target: Tensor, x: Tensor) -> dict[str, Tensor]:
    made_rule = RULES[rule]()
    loss = LOSSES[made_rule.loss or "cross_entropy"]()
    learner_of(made_rule, network, loss, torch.Generator().manual_seed(3)).learn(Trial(x[None], target))
    return {name: weight.grad.clone() for name, weight in network.weights.items() if weight.grad is not None}


def _lies_like(gradient: Tensor, parameter: Tensor) -> bool:
    """Same order in memory: torch's fused optimizers read a gradient without looking at its strides."""
    return all(
        g == p for g, p, size in zip(gradient.stride(), parameter.stride(), gradient.shape, strict=True) if size > 1
    )


@every(SMOOTH)
@pytest.mark.parametrize("make", [lambda: mlp([5, 7, 6, 3]), cnn, lc], ids=["mlp", "cnn", "lc"])
def test_rules_fill_grad_of_every_parameter_and_change_nothing_else(name: str, make: Any) -> None:
    network = make()
    if name in DENSE_ONLY and len(network.populations["input"].size) == 3:
        with pytest.raises(ValueError, match=r"input->.*dense"):
            learner_of(RULES[name](), network, LOSSES["cross_entropy"](), seeded())
        return
    before = copy.deepcopy(network.state_dict())
    size = network.populations["input"].size
    x, target = torch.randn(9, *size, dtype=torch.float64), torch.randint(0, 3, (9,))
    kept = x.clone()
    grads = _grown(name, network, target, x)
    assert set(grads) == set(network.weights)
    biased = network.parameters() if name not in SPIKE_TIMED else network.weights.values()  # stdp leaves biases alone
    assert all(p.grad is not None and p.grad.shape == p.shape for p in biased)
    assert all(p.grad is None or _lies_like(p.grad, p) for p in network.parameters())
    assert all(torch.equal(v, before[k]) for k, v in network.state_dict().items()) and torch.equal(x, kept)
    again = make()
    repeat = _grown(name, again, target, x)
    assert all(torch.equal(grads[k], repeat[k]) for k in grads)


@every(SMOOTH)
def test_gradients_accumulate_and_absent_synapses_stay_absent(name: str) -> None:
    network = mlp([5, 8, 3], sparsity=0.5)
    x, target = torch.randn(4, 5, dtype=torch.float64), torch.randint(0, 3, (4,))
    once = _grown(name, network, target, x)
    for connection in network.connections.values():
        present = network.present(connection)
        assert present is not None and 0 < present.mean() < 1
        absent = present == 0
        assert not once[connection.name][absent].any() and not network.weights[connection.name][absent].any()
    twice = _grown(name, network, target, x)
    for key in once:
        torch.testing.assert_close(twice[key], 2 * once[key])


@every(SMOOTH)
def test_pre_silence_means_no_change(name: str) -> None:
    """Synapses from silent units keep their weight under every rule."""
    network = mlp([4, 6, 3])
    x = torch.randn(5, 4, dtype=torch.float64)
    x[:, 1] = 0
    grads = _grown(name, network, torch.randint(0, 3, (5,)), x)
    assert not grads["input->hidden1"][:, 1].any()
    assert grads["input->hidden1"][:, 0].any() or name in SPIKE_TIMED  # in one step no two spikes follow each other


@every(SCORED)
def test_every_rule_learns_a_small_task(name: str) -> None:
    """Two noisy clusters per class; training accuracy above 95 %, chance is 33 %.

    The readout learns ten times faster than the hidden layer, as in every model that ships: at equal
    rates a quickly forgetting projection can fail here where DFA does not.
    """
    torch.manual_seed(0)
    centres = 3 * torch.randn(6, 8, dtype=torch.float64)
    label = torch.randint(0, 6, (300,))
    x, target = centres[label] + 0.5 * torch.randn(300, 8, dtype=torch.float64), label % 3
    network = mlp([8, 32, 3])
    rule = RULES[name]()
    learner = learner_of(rule, network, LOSSES[rule.loss or "cross_entropy"](), torch.Generator().manual_seed(0))
    rate = {"input->hidden1": 1.0, "hidden1->output": 10.0}
    groups = [{"params": [p], "lr": 5e-3 * rate[n.split(".")[1]]} for n, p in network.named_parameters()]
    optimizer = torch.optim.Adam(groups)
    for _ in range(150):
        optimizer.zero_grad()
        learner.learn(Trial(x[None], target))
        optimizer.step()
    with torch.no_grad():
        accuracy = (network(x).argmax(1) == target).double().mean().item()
    assert accuracy > 0.95


# Optimizers and schedules -------------------------------------------------------------------------


@every(OPTIMIZERS)
def test_optimizers_descend_with_the_rates_of_their_groups(name: str) -> None:
    slow, fast = torch.nn.Parameter(torch.ones(3)), torch.nn.Parameter(torch.ones(3))
    optimizer = made(OPTIMIZERS, name).build([{"params": [slow], "lr": 1e-3}, {"params": [fast], "lr": 1e-2}])
    for parameter in (slow, fast):
        parameter.grad = torch.ones(3)
    optimizer.step()
    assert (1 - slow[0]).item() > 0 and (1 - fast[0]).item() == pytest.approx(10 * (1 - slow[0]).item(), rel=1e-3)


@every(SCHEDULES)
def test_schedules_run_to_the_end_and_keep_the_ratio_of_groups(name: str) -> None:
    a, b = torch.nn.Parameter(torch.ones(1)), torch.nn.Parameter(torch.ones(1))
    optimizer = OPTIMIZERS["sgd"]().build([{"params": [a], "lr": 0.1}, {"params": [b], "lr": 1.0}])
    schedule = made(SCHEDULES, name).build(optimizer, 4, 5)
    rates = []
    for _ in range(20):
        optimizer.step()
        rates.append([group["lr"] for group in optimizer.param_groups])
        schedule.step()
    assert all(0 <= r[0] <= 0.1 + 1e-9 and r[1] == pytest.approx(10 * r[0]) for r in rates)
    if name == "exponential":
        assert rates[5][0] == pytest.approx(0.097) and rates[4][0] == pytest.approx(0.1)


@every(NEURONS)
def test_network_step_is_one_graph(name: str) -> None:
    """No Python branch on values: the step traces whole."""
    populations = [Population("input", (3,), None), Population("out", (2,), made(NEURONS, name))]
    network = Network(populations, [Connection("input", "out", Dense(bias=True))], torch.Generator())
    x = torch.randn(4, 3)
    torch._dynamo.reset()  # each neuron is a compilation of its own
    compiled = torch.compile(network.step, backend="eager", fullgraph=True)
    frame = compiled(network.init(x, seeded()), x)
    assert torch.equal(
        frame.activity["out"].value, simulate(network, x[None], generator=seeded()).activity["out"].value
    )
