"""The contract of a rule carries the rules of the field: each here has at most 45 lines and works as shipped ones."""

import inspect
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, ClassVar

import pytest
import torch
from torch import Tensor, nn

import neurosbd
from neurosbd.connections import Dense
from neurosbd.errors import RunError, UsageError
from neurosbd.learning.batch import Batch, BatchResult
from neurosbd.learning.learner import Learner
from neurosbd.learning.passes import Run
from neurosbd.learning.rule import Rule, TensorState
from neurosbd.losses import LOSSES, Loss
from neurosbd.network.network import INPUT, Connection, Frame, Network, Population
from neurosbd.neurons import NEURONS
from neurosbd.rules import RULES
from neurosbd.runs.loggers import NullLogger
from neurosbd.schema import plugins
from neurosbd.tables import register
from neurosbd.testing.networks import cnn, lc, mlp
from neurosbd.testing.rules import RULE_CHECKS
from tests.contracts.tables import seeded


@dataclass(frozen=True)
class FeedbackAlignment(Rule[TensorState]):
    """From the output down: every signal goes back through fixed weights in place of the transposed ones."""

    transposed: bool = False  # the true weights, which is backprop

    def begin(self, network: Network, loss: Loss | None, generator: torch.Generator) -> TensorState:
        drawn = {name: torch.randn(w.shape, generator=generator).to(w) / 4 for name, w in network.weights.items()}
        return TensorState(dict(network.weights) if self.transposed else drawn)

    def learn(self, state: TensorState, run: Run, batch: Batch) -> BatchResult:
        network = run.network
        for p in run(batch):
            signals = {network.readout: p.score() * p.weight}
            for name in reversed(network.incoming):
                gated = p.gate(name, signals.pop(name))
                for connection in network.incoming[name]:
                    p.deposit(connection, gated)
                    if connection.pre != INPUT:
                        signal = p.back(connection, gated, state.tensors[connection.name])
                        signals[connection.pre] = signals.get(connection.pre, 0) + signal
        return run.result()


@dataclass(frozen=True)
class Hasty(Rule[TensorState]):
    """It leaves a showing at the first pass."""

    def learn(self, state: TensorState, run: Run, batch: Batch) -> BatchResult:
        for p in run(batch):
            p.deposit(run.network.incoming[run.network.readout][0], p.score() * p.weight)
            break
        return run.result()


def test_a_showing_that_is_left_is_told() -> None:
    """Its loss would be that of fewer steps. Must fail when only the steps that were seen are counted (tried)."""
    learner, x = Learner(mlp([3, 4, 2]), Hasty(), LOSSES["cross_entropy"](), seeded()), torch.ones(4, 2, 3).double()
    learner.learn(Batch(x[:1], torch.tensor([0, 1])))
    with pytest.raises(RunError, match="left its first showing after 1 of 4 steps"):
        learner.learn(Batch(x, torch.tensor([0, 1])))


@dataclass(frozen=True)
class Pepita(Rule[TensorState]):
    """Two passes: what the error, sent to the input, changes there (Dellaferrera, Kreiman 2022)."""

    scale: float = 0.05
    showings: ClassVar[int] = 2

    def begin(self, network: Network, loss: Loss | None, generator: torch.Generator) -> TensorState:
        pre, post = (network.populations[name].size for name in (INPUT, network.readout))
        drawn = torch.randn(*post, *pre, generator=generator) * self.scale
        return TensorState({"feedback": drawn.to(next(network.parameters()))})

    def learn(self, state: TensorState, run: Run, batch: Batch) -> BatchResult:
        network, first = run.network, next(iter(run(batch)))
        error = first.score() * len(batch.target)
        moved = first.value(INPUT) - torch.tensordot(error, state.tensors["feedback"], 1)
        for p in run(Batch(moved[None], batch.target)):
            for name, connections in network.incoming.items():
                last = name == network.readout
                signal = first.score() if last else (first.value(name) - p.value(name)) / len(error)
                for connection in connections:
                    p.deposit(connection, signal)
        return run.result()


@dataclass(frozen=True)
class MonoForward(Rule[TensorState]):
    """Every population descends the loss of a head of its own, whose weights the optimizer moves (Gong et al. 2025)."""

    @property
    def hears_target(self) -> bool:
        return True

    def begin(self, network: Network, loss: Loss | None, generator: torch.Generator) -> TensorState:
        classes, some = network.populations[network.readout].size[0], next(network.parameters())
        sizes = {name: network.populations[name].size for name in network.incoming if name != network.readout}
        heads = {n: torch.randn(classes, *s, generator=generator).to(some) * 0.02 for n, s in sizes.items()}
        return TensorState(parameters={name: nn.Parameter(head) for name, head in heads.items()})

    def learn(self, state: TensorState, run: Run, batch: Batch) -> BatchResult:
        for p in run(batch):
            for name, connections in run.network.incoming.items():
                signal = p.score() * p.weight
                if name in state.parameters:
                    head, value = state.parameters[name], p.value(name)
                    score = p.score_of(value.flatten(1) @ head.flatten(1).t()) * p.weight
                    slope = torch.tensordot(score.t(), value, 1)
                    head.grad = slope if head.grad is None else head.grad + slope
                    signal = torch.tensordot(score, head, 1)
                for connection in connections:
                    p.deposit(connection, p.gate(name, signal))
        return run.result()


@dataclass(frozen=True)
class ContrastiveHebbian(Rule[TensorState]):
    """Two phases of a network that relaxes: free, then nudged to the target (Scellier, Bengio 2017)."""

    nudge: float = 0.1
    showings: ClassVar[int] = 2

    def learn(self, state: TensorState, run: Run, batch: Batch) -> BatchResult:
        network, free = run.network, None
        for free in run(batch):  # noqa: B007, the last one is at rest
            pass
        assert free is not None

        def drives(t: int, frame: Frame | None) -> dict[str, Tensor]:
            assert frame is not None and run.loss is not None
            output = frame.activity[network.readout].value
            return {network.readout: -self.nudge * run.loss.score(output, batch.target)}

        for nudged in run(batch, drives, start=free.frame):
            if nudged.last:
                for sign, phase in ((1, free), (-1, nudged)):
                    for name, connections in network.incoming.items():
                        for connection in connections:
                            phase.deposit(connection, phase.value(name) * sign / self.nudge / len(batch.target))
        return run.result()


@dataclass(frozen=True)
class NodePerturbation(Rule[TensorState]):
    """A second pass with noise in every drive: what it does to the loss times the noise is the gradient, on average."""

    size: float = 1e-4
    showings: ClassVar[int] = 2
    estimates: ClassVar[bool] = True

    def begin(self, network: Network, loss: Loss | None, generator: torch.Generator) -> TensorState:
        return TensorState({"key": torch.randint(2**31, (1,), generator=generator)})

    def learn(self, state: TensorState, run: Run, batch: Batch) -> BatchResult:
        network, loss = run.network, run.loss
        generator = torch.Generator().manual_seed(int(state.tensors["key"]))
        state.tensors["key"] = torch.randint(2**31, (1,), generator=generator)
        sizes = {name: (len(batch.target), *network.populations[name].size) for name in network.incoming}
        some = next(network.parameters())
        noise = {n: torch.randn(s, generator=generator).to(some) for n, s in sizes.items()}
        (calm,) = run(batch)
        (shaken,) = run(batch, lambda t, frame: {name: self.size * each for name, each in noise.items()})
        assert loss is not None
        before, after = (loss.per_example(p.value(network.readout), batch.target) for p in (calm, shaken))
        worse = (after - before) / self.size / len(before)
        for name, connections in network.incoming.items():
            for connection in connections:
                calm.deposit(connection, noise[name] * worse.view(-1, *(1,) * (noise[name].ndim - 1)))
        return run.result()


OWN = {
    "own_fa": FeedbackAlignment, "own_pepita": Pepita, "own_monoforward": MonoForward, "own_chl": ContrastiveHebbian,
    "own_perturbation": NodePerturbation,
}  # fmt: skip


@pytest.fixture(autouse=True)
def registered() -> Iterator[None]:
    for name, rule in OWN.items():
        register("rules", name, rule)
    yield
    for name in OWN:
        plugins.remove("rules", name)


def gradients(network: Network, rule: Rule, batch: Batch) -> dict[str, Tensor]:
    network.zero_grad()
    Learner(network, rule, LOSSES["cross_entropy"](), seeded()).learn(batch)
    return {
        name: parameter.grad.clone() for name, parameter in network.named_parameters() if parameter.grad is not None
    }


@pytest.mark.parametrize("rule", OWN.values())
def test_no_rule_takes_more_than_45_lines(rule: type) -> None:
    assert len(inspect.getsource(rule).splitlines()) <= 45


@pytest.mark.parametrize("name", OWN)
@pytest.mark.parametrize("check", RULE_CHECKS, ids=lambda check: check.__name__)
def test_they_keep_the_contract_of_every_rule(name: str, check: Any) -> None:
    if (name, check.__name__) in SPARED:
        pytest.skip(SPARED[name, check.__name__])
    check(OWN[name])


SPARED = {
    ("own_pepita", "silent_inputs_change_nothing"): "its second pass wakes silent inputs",
    ("own_chl", "silent_inputs_change_nothing"): "without a way back from the readout nothing moves the hidden units",
}


@pytest.mark.parametrize("make", [lambda: mlp([5, 7, 6, 3]), cnn, lc])
def test_feedback_through_the_true_weights_is_backprop(make: Any) -> None:
    """Oracle: autograd. Must fail when the order is not from the output down, or a gate is left out (tried)."""
    network = make()
    x = torch.randn(1, 4, *network.populations[INPUT].size, dtype=torch.float64)
    batch = Batch(x, torch.tensor([0, 2, 1, 1]))
    ours, exact = (gradients(network, rule, batch) for rule in (FeedbackAlignment(True), RULES["bp"]()))
    torch.testing.assert_close(ours, exact, rtol=1e-10, atol=1e-12)
    wrong = gradients(network, FeedbackAlignment(False), batch)
    assert not all(torch.allclose(wrong[name], exact[name], rtol=1e-3) for name in exact)


def test_perturbation_is_the_gradient_on_average() -> None:
    """1,500 draws against autograd: cosine above 0.95. Must fail when the sign of the noise is turned (tried)."""
    network = mlp([4, 5, 3])
    batch = Batch(torch.randn(1, 4, 4, dtype=torch.float64), torch.tensor([0, 2, 1, 1]))
    exact = gradients(network, RULES["bp"](), batch)
    learner = Learner(network, NodePerturbation(), LOSSES["cross_entropy"](), seeded())
    network.zero_grad()
    for _ in range(1500):
        learner.learn(batch)
    found = {name: parameter.grad for name, parameter in network.named_parameters()}
    cosines = {
        n: torch.cosine_similarity(g.flatten(), exact[n].flatten(), 0).item() for n, g in found.items() if g is not None
    }
    assert min(cosines.values()) > 0.95, cosines


def relaxing() -> Network:
    """4 - 6 - 3 tanh units that hear each other both ways, with transposed weights, as energies want them."""
    leaky = NEURONS["tanh"]()
    populations = [
        Population("input", (4,), None),
        Population("hidden", (6,), leaky),
        Population("output", (3,), leaky, role="readout"),
    ]
    connections = [
        Connection("input", "hidden", Dense()), Connection("hidden", "output", Dense()),
        Connection("output", "hidden", Dense(), plastic=False),
    ]  # fmt: skip
    network = Network(populations, connections, seeded()).double()
    tied(network)
    return network


@torch.no_grad()
def tied(network: Network) -> None:
    network.weights["output->hidden"].copy_(network.weights["hidden->output"].t())


def test_two_phases_teach_a_network_that_relaxes() -> None:
    """The loss at rest falls to a third. Must fail when both phases are nudged alike (tried)."""
    network, x = relaxing(), torch.randn(3, 4, dtype=torch.float64).repeat(4, 1)
    batch = Batch(x.expand(12, 12, 4), torch.arange(12) % 3, (0.0,) * 11 + (1.0,))
    learner = Learner(network, ContrastiveHebbian(), LOSSES["cross_entropy"](), seeded())
    optimizer = torch.optim.SGD([p for p in network.parameters() if p.requires_grad], 0.5)
    losses = []
    for _ in range(150):
        optimizer.zero_grad()
        losses.append(learner.learn(batch).loss.item())
        optimizer.step()
        tied(network)
        learner.after_step()
    assert losses[-1] < losses[0] / 3, (losses[0], losses[-1])


@pytest.mark.parametrize("name", ["own_fa", "own_pepita", "own_monoforward", "own_perturbation"])
def test_they_train_from_a_model_and_are_resumed_bit_for_bit(name: str, tmp_path: Any) -> None:
    """Heads and keys are in the checkpoint. Must fail when parameters are left out of the state (tried)."""
    settings = {"training.epochs": 2, "data.subset": 20, "training.batch_size": 20}
    whole = neurosbd.fit("digits-mlp", rule=name, settings=settings, out=tmp_path / "whole")
    lines = whole.metrics
    assert lines[-1]["train_loss"] < lines[0]["train_loss"] or name == "own_perturbation"
    part = neurosbd.fit("digits-mlp", rule=name, settings=settings, out=tmp_path / "part", loggers=[_Stops()])
    assert part.result["status"] == "interrupted"
    rest = neurosbd.fit("digits-mlp", rule=name, settings=settings, out=tmp_path / "part", resume=True)
    one, two = (run.network().state_dict() for run in (whole, rest))
    assert all(torch.equal(one[key], two[key]) for key in one)


class _Stops(NullLogger):
    """A logger that presses Ctrl-C in the second epoch."""

    def on_batch(self, event: Any) -> None:
        if event["epoch"] == 1 and event["batch"] == 3:
            import signal

            signal.raise_signal(signal.SIGINT)


@dataclass(frozen=True)
class Repeats(Rule[TensorState]):
    """It shows every batch several times, to learn and to answer, and learns nothing."""

    def learn(self, state: TensorState, run: Run, batch: Batch) -> BatchResult:
        run.show(batch)
        return self.answer(state, run, batch)

    def answer(self, state: TensorState, run: Run, batch: Batch) -> BatchResult:
        run.show(batch)
        run.show(batch)
        return run.result()


@dataclass(frozen=True)
class SaysHowOften(Repeats):
    """And says so."""

    showings: ClassVar[int] = 3


def test_inputs_that_come_step_by_step_are_kept_for_a_rule_that_says_so() -> None:
    """To learn and to answer. Must fail when `answer` does not keep them (tried)."""
    network, x = mlp([4, 5, 3]), torch.randn(1, 2, 4, dtype=torch.float64)
    for verb in ("learn", "answer"):
        learner = Learner(network, SaysHowOften(), LOSSES["cross_entropy"](), seeded())
        getattr(learner, verb)(Batch(iter(x), torch.tensor([0, 1]), (1.0,)))
        forgetful = Learner(network, Repeats(), LOSSES["cross_entropy"](), seeded())
        with pytest.raises(UsageError, match=r"shows a batch again.*declare how often it does, showings = 2"):
            getattr(forgetful, verb)(Batch(iter(x), torch.tensor([0, 1]), (1.0,)))
