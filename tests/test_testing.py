"""The checks of `neurosbd.testing` find what is wrong with a part, in a sentence; their command says a line each."""

import dataclasses
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from neurosbd import plugins, testing
from neurosbd.connections import Dense
from neurosbd.connections.initialisers import KaimingNormal
from neurosbd.connections.pooling import AveragePool
from neurosbd.expansions import Gated
from neurosbd.learning.optimizers import Adam, Constant
from neurosbd.losses import SquaredError
from neurosbd.neuromodulators import Full
from neurosbd.neurons import ReLU, Tanh
from neurosbd.plasticity import ThreeFactor
from neurosbd.regularisers import Power
from neurosbd.rules import RULES, LocalRule
from neurosbd.testing import __main__ as command
from neurosbd.testing.neurons import step_is_pure


@dataclass(frozen=True)
class WrongGain(Tanh):
    """Its gain is that of a linear unit."""

    def gate(self, activity: Any, third_factor: Tensor, dt: float) -> Tensor:
        return third_factor.clone()


@dataclass(frozen=True)
class Noisy(ReLU):
    """It draws from the global generator."""

    def step(self, state: Any, drive: Tensor, dt: float) -> Any:
        return super().step(state, drive + torch.rand_like(drive), dt)


@dataclass(frozen=True)
class Averaged(SquaredError):
    """Its score carries a 1/B that is the caller's."""

    def score(self, output: Tensor, target: Tensor) -> Tensor:
        return super().score(output, target) / len(output)


@dataclass(frozen=True)
class Unbounded(SquaredError):
    """Its score is its derivative, and nowhere 0."""

    def per_example(self, output: Tensor, target: Tensor) -> Tensor:
        return 0 * super().per_example(output, target) + output.sum(1)

    def score(self, output: Tensor, target: Tensor) -> Tensor:
        return 0 * super().score(output, target) + 1


@dataclass(frozen=True)
class Doubled(Dense):
    """Its change is twice the adjoint of its drive."""

    def outer(self, synapses: Any, post_factor: Tensor, pre_factor: Tensor) -> Any:
        return type(synapses)(*(None if s is None else 2 * s for s in super().outer(synapses, post_factor, pre_factor)))


@dataclass(frozen=True)
class Forgetful(Dense):
    """It keeps nothing of an eligibility."""

    def each(self, synapses: Any, posts: Tensor, pres: Tensor, e: Tensor | None = None, kept: float = 0.0) -> Tensor:
        return super().each(synapses, posts, pres)


@dataclass(frozen=True)
class Meddling(ThreeFactor):
    """It changes weights itself."""

    def step(self, state: Any, local: Any, dt: float) -> Any:
        local.synapses.weight.data.mul_(0.9)
        return super().step(state, local, dt)


@dataclass(frozen=True)
class Upwards(Adam):
    """It climbs."""

    def build(self, groups: Any) -> torch.optim.Optimizer:
        return torch.optim.SGD(groups, lr=1e-3, maximize=True)


@dataclass(frozen=True)
class Rising(Constant):
    """Its rates grow."""

    def build(self, optimizer: Any, epochs: int, steps: int) -> Any:
        return torch.optim.lr_scheduler.ExponentialLR(optimizer, 1.1)


@dataclass(frozen=True)
class Summed(Power):
    """A sum over the batch, not a mean."""

    def step(self, state: Any, value: Tensor, share: float) -> Any:
        pull, after = super().step(state, value, share)
        return pull * len(value), after


@dataclass(frozen=True)
class Careless(KaimingNormal):
    """It draws from the global generator."""

    def draw(self, shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
        return torch.randn(shape)


@dataclass(frozen=True)
class Loud(Full):
    """It tells every unit twice what it should."""

    def spread(self, third_factor: Tensor, like: Tensor, basis: Tensor) -> Tensor:
        return 2 * super().spread(third_factor, like, basis)


@dataclass(frozen=True)
class Narrow(Gated):
    """It says that it has one column less."""

    def width(self, broadcast: Any) -> int:
        return super().width(broadcast) - 1


@dataclass(frozen=True)
class Small(AveragePool):
    """It says that the map is smaller than it is."""

    def size(self, size: tuple[int, ...]) -> tuple[int, ...]:
        return (size[0], 1, 1)


def meddling() -> LocalRule:
    return dataclasses.replace(RULES["dfa"](), plasticity=Meddling())  # type: ignore[type-var]


FAULTS: list[tuple[Callable[[Any], None], Callable[[], Any], str]] = [
    (
        testing.check_neuron,
        WrongGain,
        r"The gain is not the derivative of the value by autograd\. Tensor-likes are not",
    ),
    (step_is_pure, Noisy, "Two steps from the same state give different values"),
    (testing.check_loss, Averaged, "The score is not the derivative of the loss by autograd"),
    (testing.check_loss, Unbounded, "The loss is not admissible"),
    (testing.check_connection, Doubled, "`outer` is not the adjoint of `drive`"),
    (testing.check_connection, Forgetful, "`each` does not keep the share of e that it is told to"),
    (testing.check_rule, meddling, "Learning changes 'weights.input->hidden1' of the network; only .grad may change"),
    (testing.check_initialiser, Careless, "Two draws of the same seed differ"),
    (testing.check_layout, Loud, "Coordinates of variance 1 do not reach every unit with variance 1"),
    (testing.check_expansion, Narrow, "The columns are not as many as `width` says"),
    (testing.check_pooling, Small, r"is pooled to \[3, 4, 3\], but `size` says \(3, 1, 1\)"),
    (testing.check_optimizer, Upwards, "The optimizer does not go down a slope of 1"),
    (testing.check_schedule, Rising, "At step 1 the rate is 0.11, where it started at 0.1"),
    (testing.check_homeostasis, Summed, "The pull on an example is not 1/B of a mean over the batch"),
]


@pytest.mark.parametrize(("check", "make", "sentence"), FAULTS, ids=lambda v: getattr(v, "__name__", ""))
def test_what_is_wrong_is_found_and_said(check: Any, make: Any, sentence: str) -> None:
    with pytest.raises(AssertionError, match=sentence):
        check(make)


PLUGIN = """
from dataclasses import dataclass
import neurosbd
from neurosbd.neurons import Tanh

@dataclass(frozen=True)
class Good(Tanh):
    '''As tanh.'''

@dataclass(frozen=True)
class Bad(Tanh):
    '''As tanh, with the gain of a linear unit.'''
    def gate(self, activity, third_factor, dt):
        return third_factor.clone()

neurosbd.register("neurons", "good", Good)
neurosbd.register("neurons", "bad", Bad)
"""


@pytest.fixture
def plugin(tmp_path: Path) -> Iterator[Path]:
    path = tmp_path / "mine.py"
    path.write_text(PLUGIN)
    yield path
    for name in ("good", "bad"):
        plugins.remove("neurons", name)
    plugins._FILES.clear()


def test_the_command_says_a_line_for_each_part_of_a_plugin(plugin: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert command.main(["--plugin", str(plugin)]) == 1
    good, bad = capsys.readouterr().out.splitlines()
    assert good == "neurons/good: keeps its contract (4 checks)"
    assert bad.startswith("neurons/bad: FAILED gain_equals_autograd: The gain is not the derivative of the value")
    assert command.main(["neurons/good", "schedules/steps", "--plugin", str(plugin)]) == 0


@pytest.mark.parametrize(
    ("part", "message"),
    [
        ("neurons/tanhh", "did you mean 'neurons/tanh'"),
        ("neuron/tanh", "did you mean 'neurons'"),
        ("tanh", "there is no kind 'tanh'"),
        ("neurons", "there is no 'neurons'"),
    ],
)
def test_parts_that_are_none(part: str, message: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert command.main([part]) == 2 and message in capsys.readouterr().err


def test_it_needs_no_pytest() -> None:
    code = "import sys, neurosbd.testing.__main__; assert 'pytest' not in sys.modules"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True).returncode == 0
