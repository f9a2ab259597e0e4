"""Constants of every entry of every table: numbers of any kind are taken, what is none is refused by name."""

import ast
import inspect
import math
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Annotated, Any, cast, get_args, get_type_hints

import numpy as np
import pytest
import torch
from pydantic import TypeAdapter, ValidationError
from torch import Tensor

from neurosbd.cli.catalogue import show
from neurosbd.config.wiring import NESTED
from neurosbd.connections import CONNECTIONS, INITIALISERS, POOLINGS, WIRINGS, Dense
from neurosbd.constraints import CONSTRAINTS
from neurosbd.datasets.processes import PROCESSES
from neurosbd.distributions import DISTRIBUTIONS, sample_constants
from neurosbd.encoders import ENCODERS
from neurosbd.errors import UsageWarning
from neurosbd.expansions import EXPANSIONS
from neurosbd.learning.optimizers import OPTIMIZERS
from neurosbd.learning.schedules import SCHEDULES
from neurosbd.losses import LOSSES
from neurosbd.network.network import Connection, Network, Population
from neurosbd.neuromodulators import LAYOUTS, NEUROMODULATORS
from neurosbd.neurons import LIF, NEURONS, AdEx, Escape, Izhikevich
from neurosbd.neurons.escape import EscapeState
from neurosbd.plasticity import PLASTICITIES
from neurosbd.regularisers import HOMEOSTASES, UPKEEPS
from neurosbd.rules import RULES
from neurosbd.schema.constants import Range
from neurosbd.schema.kinds import declared
from neurosbd.schema.schema import Entry, OneOf, parameters
from neurosbd.surrogates import SURROGATES
from neurosbd.tasks import PROTOCOLS, TASKS
from tests.contracts.tables import CONSTANTS

TABLES: list[Mapping[str, Callable[..., Any]]] = [
    NEURONS, ENCODERS, RULES, PROTOCOLS, TASKS, SURROGATES, LAYOUTS, EXPANSIONS, HOMEOSTASES, UPKEEPS, OPTIMIZERS,
    DISTRIBUTIONS, CONSTRAINTS, LOSSES, CONNECTIONS, INITIALISERS, POOLINGS, NEUROMODULATORS, PLASTICITIES,
    SCHEDULES, PROCESSES, WIRINGS,
]  # fmt: skip
ROOT = Path(__file__).resolve().parents[2]


def _numbers() -> list[Any]:
    """(entry with what it must be given, parameter, its kinds) of every constant that is a number."""
    found = []
    for table in TABLES:
        for entry, make in table.items():
            hints = get_type_hints(make.__init__ if isinstance(make, type) else make)
            for name in inspect.signature(make).parameters:
                kinds = get_args(hints[name]) or (hints[name],)
                if (float in kinds or int in kinds) and ... not in kinds:
                    given = partial(make, **CONSTANTS.get(entry, {}))
                    found.append(pytest.param(given, name, kinds, id=f"{entry}.{name}"))
    return found


NUMBERS = pytest.mark.parametrize(("make", "name", "kinds"), _numbers())


@NUMBERS
def test_what_is_no_number_is_refused_by_name(make: Callable[..., Any], name: str, kinds: Any) -> None:
    """Must fail for a constant that no check sees (tried: v_leak, w_min, tau_dopamine)."""
    bad: list[Any] = [
        True,
        "1.0",
        "fast",
        math.nan,
        math.inf,
        np.float64("nan"),
        torch.tensor(math.nan),
        {},
        10**400,
        10**5000,
    ]
    bad += [[math.nan, 1.0], ["a"], [True], torch.tensor([math.inf]), []] if Tensor in kinds else [[1.0], torch.ones(2)]
    for value in bad:
        try:
            make(**{name: value})
        except ValueError as problem:
            assert "must be" in str(problem), (value, str(problem))
        else:
            raise AssertionError(f"{name} = {value!r} was taken")


@NUMBERS
def test_a_number_of_any_kind_is_the_same_constant(make: Callable[..., Any], name: str, kinds: Any) -> None:
    """numpy scalars, arrays without axes, integers for reals. Must fail when one is kept as it came (tried)."""
    plain = getattr(make(), name, None)
    if not isinstance(plain, int | float) or isinstance(plain, bool) or not math.isfinite(plain):
        return
    kinds_of = (np.float64, np.asarray) if isinstance(plain, float) else (np.int64, np.asarray)
    for kind in kinds_of:
        taken = getattr(make(**{name: kind(plain)}), name)
        assert type(taken) is type(plain) and taken == plain
    if isinstance(plain, float) and plain.is_integer():
        assert type(getattr(make(**{name: int(plain)}), name)) is float


def _marked() -> list[Any]:
    """(entry, what it must be given, parameter, mark) of every constant with a range."""
    return [
        pytest.param(make, name, mark, id=f"{entry}.{name}")
        for table in TABLES
        for entry, make in table.items()
        for name, (hint, _) in parameters(make).items()
        for mark in declared(hint)[1]
        if isinstance(mark, Range)
    ]


@pytest.mark.parametrize(("make", "name", "mark"), _marked())
def test_a_default_is_in_its_range(make: Callable[..., Any], name: str, mark: Range) -> None:
    """Nobody looks at defaults when an item is made. Must fail for a `rate: Fraction = 2.0` (tried)."""
    default = parameters(make)[name][1]
    assert default in (..., None) or mark.admits(default)


@pytest.mark.parametrize(("make", "name", "mark"), _marked())
def test_files_and_python_refuse_the_same_numbers_in_the_same_words(
    make: Callable[..., Any], name: str, mark: Range
) -> None:
    """One declaration for both. Must fail when the schema lets the marks go (tried)."""
    table, kind = next((table, entry) for table in TABLES for entry, item in table.items() if item is make)
    given = CONSTANTS.get(kind, {})
    entry: TypeAdapter[Entry] = TypeAdapter(Annotated[Entry, OneOf(table, NESTED)])
    for value in [value for value in (-1, 10**7) if not mark.admits(value)]:
        with pytest.raises(ValueError, match=f"{name} must be") as python:
            make(**{**given, name: value})
        with pytest.raises(ValidationError) as file:
            entry.validate_python({"kind": kind, **given, name: value})
        (error,) = file.value.errors()
        assert error["loc"][-1] == name
        assert str(python.value).endswith(f".{name} {error['ctx']['error']}")  # type: ignore[typeddict-item]


def test_a_check_by_hand_relates_two_constants() -> None:
    """What a single constant can be is part of its type. Must fail for `if not self.tau > 0` (tried)."""
    for path in sorted((ROOT / "neurosbd").rglob("*.py")):
        for owner in ast.walk(ast.parse(path.read_text())):
            if isinstance(owner, ast.ClassDef) and any("constants" in ast.unparse(d) for d in owner.decorator_list):
                names = {ast.unparse(field.target) for field in owner.body if isinstance(field, ast.AnnAssign)}
                for body in owner.body:
                    if isinstance(body, ast.FunctionDef) and body.name == "__post_init__":
                        text = ast.unparse(body)
                        read = {name for name in names if f"self.{name}" in text or f"'{name}'" in text}
                        assert len(read) > 1, f"{path.name}: {owner.name} checks {read} by hand"


@pytest.mark.parametrize("threshold", [1, np.float32(1), [1, 3], torch.tensor([1.0, 3.0])])
def test_a_peak_below_the_reset_is_refused_in_every_kind(threshold: Any) -> None:
    """Integers passed by. Must fail when only floats are compared (tried)."""
    for reset in (2, [2, 2], np.array([2.0, 2.0])):
        with pytest.raises(ValueError, match=r"AdEx\.v_threshold must lie above v_reset"):
            AdEx(v_threshold=threshold, v_reset=reset)  # type: ignore[arg-type]
        with pytest.raises(ValueError, match=r"Izhikevich\.v_threshold must lie above c"):
            Izhikevich(v_threshold=threshold, c=reset)  # type: ignore[arg-type]


def network(neuron: Any, size: tuple[int, ...] = (3,), dt: float = 1e-3) -> Network:
    populations = [Population("input", size, None), Population("out", size, neuron)]
    return Network(populations, [Connection("input", "out", Dense())], torch.Generator().manual_seed(0), dt)


def test_lists_keep_their_double_precision() -> None:
    """As given in a float64 network, also by way of float32 and half; float32 elsewhere.

    Must fail when they pass through float32 (tried).
    """
    given = [0.0101, 0.0203, 0.0307]
    for tau in (given, tuple(given), np.array(given), torch.tensor(given, dtype=torch.float64)):
        single = network(LIF(tau_mem=tau))  # type: ignore[arg-type]
        assert single.populations["out"].neuron.tau_mem.dtype == torch.float32  # type: ignore[union-attr]
        frame = single.step(single.init(torch.ones(1, 3)), torch.ones(1, 3))
        assert frame.activity["out"].potential.dtype == torch.float32
        for double in (single.double(), single.half().float().double()):
            assert double.populations["out"].neuron.tau_mem.tolist() == given  # type: ignore[union-attr]
            assert double.state_dict()["constant:out:tau_mem"].tolist() == given


def test_what_a_checkpoint_puts_into_a_constant_stays() -> None:
    one, other = network(LIF(tau_mem=[0.01, 0.02, 0.03])), network(LIF(tau_mem=[0.04, 0.05, 0.06]))  # type: ignore[arg-type]
    one.load_state_dict(other.state_dict())
    assert one.double().state_dict()["constant:out:tau_mem"].tolist() == pytest.approx([0.04, 0.05, 0.06], rel=1e-7)


@pytest.mark.parametrize("values", [[0.01] * 4, [0.01], torch.full((2, 2), 0.01)])
def test_a_wrong_number_of_values_names_both(values: Any) -> None:
    with pytest.raises(ValueError, match=r"population 'out': LIF.tau_mem has [14] val.* has 3 units"):
        network(LIF(tau_mem=values))


def test_values_of_another_layout_are_refused() -> None:
    """Six values as [3, 2] are not those of a map of [2, 3]. Must fail when they are laid out anew (tried)."""
    with pytest.raises(ValueError, match=r"6 values \(as \[3, 2\]\)"):
        sample_constants(LIF(tau_mem=torch.full((3, 2), 0.01)), (2, 3), torch.Generator())


@pytest.mark.parametrize("dt", [0, -1e-3, math.nan, math.inf, True, "1e-3", None])
def test_a_step_is_a_positive_time(dt: Any) -> None:
    with pytest.raises(ValueError, match="dt, the duration of a step in s, must be"):
        network(LIF(), dt=dt)


def test_times_that_steps_do_not_show_are_said() -> None:
    with pytest.warns(UsageWarning, match=r"population 'out': LIF.tau_mem = 0.02 s is short beside a step of dt = 1 s"):
        network(LIF(), dt=1.0)
    with pytest.warns(UsageWarning, match=r"refractory = 0.0025 s is no whole number of steps.*rounded to 2"):
        network(LIF(refractory=2.5e-3))
    with pytest.warns(UsageWarning, match=r"AdEx.tau_mem = 0.0008 s is short.*its Euler step overshoots"):
        network(AdEx(tau_mem=0.8e-3))
    network(LIF(refractory=5e-3, tau_mem=0.8e-3))


def test_two_populations_of_one_network_draw_different_noise() -> None:
    populations = [Population("input", (3,), None), Population("a", (3,), Escape()), Population("b", (3,), Escape())]
    net = Network(
        populations, [Connection("input", "a", Dense()), Connection("input", "b", Dense())], torch.Generator()
    )
    neurons = net.init(torch.ones(1, 3), torch.Generator().manual_seed(0)).state.neurons
    states = {name: cast(EscapeState, neurons[name]) for name in ("a", "b")}
    assert states["a"].key != states["b"].key
    encoder = ENCODERS["poisson"]().init(torch.ones(1, 3), torch.Generator().manual_seed(0))
    assert encoder.key not in (states["a"].key, states["b"].key)


def test_show_says_what_each_constant_can_be() -> None:
    """Must fail when only defaults are shown (tried)."""
    shown = [" ".join(line.split()) for line in show("lif").splitlines()]
    assert "tau_mem = 0.02 a positive time in s, numbers, one per unit, or a Distribution" in shown
    assert "reset = 'subtract' subtract | to_value | none" in shown and "refractory = 0.0 a time in s >= 0" in shown
    shown = [" ".join(line.split()) for line in show("rules/sbd").splitlines()]
    assert "rate_target = 10.0 a positive rate in Hz" in shown and "delay = 0 a number of steps >= 0" in shown
