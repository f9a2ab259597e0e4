"""Constraints of connections: in force after every step of any optimizer, under any rule, and in what is resumed."""

import dataclasses
from pathlib import Path
from typing import Any

import pytest
import torch

import neurosbd
from neurosbd.cli.main import main
from neurosbd.connections import Conv2d, Dense, Local2d
from neurosbd.connections.initialisers import Constant
from neurosbd.constraints import CONSTRAINTS, Bounds, Constraint, Dale, Mask, Nonnegative, Norm
from neurosbd.errors import UsageError, UsageWarning
from neurosbd.learning.batch import Batch
from neurosbd.learning.learner import Learner
from neurosbd.losses import LOSSES
from neurosbd.network.network import Connection, Network, Population
from neurosbd.neurons import NEURONS
from neurosbd.rules import RULES
from neurosbd.testing.networks import deep, mlp
from tests.test_homeostasis import Interrupted, _same

OPTIMIZERS: dict[str, Any] = {
    "adam": lambda p: torch.optim.Adam(p, 0.05),
    "adamw": lambda p: torch.optim.AdamW(p, 0.05, weight_decay=0.1),
    "momentum": lambda p: torch.optim.SGD(p, 0.05, momentum=0.9, weight_decay=0.1),
}


def constrained(network: Network, *constraints: Constraint) -> Network:
    """The same network with these constraints on every connection."""
    connections = [dataclasses.replace(c, constraints=constraints) for c in network.connections.values()]
    populations = list(network.populations.values())
    return Network(populations, connections, torch.Generator().manual_seed(0), network.dt).double()


def follow(network: Network, rule: str, optimizer: str = "adam", steps: int = 8) -> Any:
    """Train on noise; yields after every step."""
    learner = Learner(network, RULES[rule](), LOSSES["cross_entropy"](), torch.Generator().manual_seed(1))
    apply, generator = (
        OPTIMIZERS[optimizer]([*network.parameters(), *learner.parameters.values()]),
        torch.Generator().manual_seed(2),
    )
    size, classes = network.populations["input"].size, network.populations[network.readout].size[0]
    for step in range(steps):
        learner.progress = step / steps
        x = torch.randn(6, *size, generator=generator, dtype=torch.float64)
        apply.zero_grad()
        learner.learn(Batch(x[None], torch.randint(classes, (6,), generator=generator)))
        apply.step()
        learner.after_step()
        yield step


@pytest.mark.parametrize("rule", ["sbd", "sbp", "dfa", "bp", "eprop"])
@pytest.mark.parametrize("kind", ["dense", "conv2d", "local2d"])
def test_dale_holds_after_every_step_under_every_rule(rule: str, kind: str) -> None:
    """Signs per presynaptic unit or channel. Must fail when `after_step` does not constrain (tried, both learners)."""
    if rule == "eprop" and kind != "dense":
        return  # it is for dense connections
    network, moved = constrained(deep(kind), Dale(0.5)), False
    first = network.weights["input->first"]
    before = first.detach().clone()
    axis, half = {"dense": (1, 16), "conv2d": (1, 1), "local2d": (3, 1)}[kind]
    for _ in follow(network, rule):
        moved = moved or not torch.equal(first.detach(), before)
        excites, inhibits = first.detach().split([half, first.shape[axis] - half], axis)
        assert (excites >= 0).all() and (inhibits <= 0).all() and excites.any() and inhibits.any()
    assert moved


def test_a_unit_has_one_sign_in_every_connection() -> None:
    """The channels of a map, read by a convolution and, flattened, by a dense connection.

    Must fail when a dense connection counts units in place of channels (tried: 3 channels, share 0.5).
    """
    populations = [
        Population("input", (3, 4, 4), None),
        Population("maps", (2, 4, 4), NEURONS["relu"]()),
        Population("output", (4,), NEURONS["identity"]()),
    ]
    connections = [
        Connection("input", "maps", Conv2d(3, padding=1), constraints=(Dale(0.5),)),
        Connection("input", "output", Dense(), constraints=(Dale(0.5),)),
        Connection("maps", "output", Dense()),
    ]
    network = Network(populations, connections, torch.Generator().manual_seed(0))
    kernels, rows = network.weights["input->maps"], network.weights["input->output"]
    for channel, sign in enumerate((1, 1, -1)):
        assert (sign * kernels[:, channel] > 0).all() and (sign * rows.view(4, 3, 16)[:, channel] > 0).all()


@pytest.mark.parametrize("optimizer", list(OPTIMIZERS))
@pytest.mark.parametrize("rule", ["sbd", "bp"])
def test_absent_synapses_stay_exactly_zero(rule: str, optimizer: str) -> None:
    """Also those that are pruned on the way, whose momentum pushes on. Must fail when `prune` does not
    note that the mask has changed (tried: momentum moves what was pruned)."""
    network = constrained(mlp([5, 8, 3], sparsity=0.3), Mask())
    name = "input->hidden1"
    weight, connection = network.weights[name], network.connections[name]
    fixed = network.present(connection) == 0  # type: ignore[operator]
    kept = torch.rand(weight.shape, generator=torch.Generator().manual_seed(3)) < 0.5
    assert fixed.any()
    for step in follow(network, rule, optimizer):
        assert weight.grad is not None and not weight.grad[network.present(connection) == 0].any()
        if step == 3:
            network.prune(name, kept & ~fixed)
        if step >= 3:
            fixed = ~kept | fixed
        assert (weight[fixed] == 0).all() and weight[~fixed].all()
    network.prune(name, torch.ones_like(kept))  # what comes back starts at 0
    assert (weight[fixed] == 0).all()


def test_a_mask_that_is_loaded_holds_against_the_momentum_that_comes_with_it() -> None:
    """Must fail when only `prune` is taken for a change of a mask (tried: momentum moves what is absent)."""
    pruned, fresh = (constrained(mlp([5, 8, 3]), Mask()) for _ in range(2))
    adam, again = (torch.optim.Adam(network.parameters(), 0.1) for network in (pruned, fresh))
    for weight in pruned.parameters():
        weight.grad = torch.ones_like(weight)
    adam.step()
    kept = torch.arange(40).view(8, 5) % 2 == 0
    pruned.prune("input->hidden1", kept)
    fresh.load_state_dict(pruned.state_dict())
    again.load_state_dict(adam.state_dict())
    for weight in fresh.parameters():
        weight.grad = torch.zeros_like(weight)
    again.step()
    assert fresh.weights["input->hidden1"][~kept].all()
    fresh.constrain_step()
    assert not fresh.weights["input->hidden1"][~kept].any() and fresh.weights["input->hidden1"][kept].all()


@pytest.mark.parametrize("size", ["l1", "l2", "fan_in"])
@pytest.mark.parametrize("rule", ["sbd", "bp"])
def test_norms_stay_what_they_are(size: Any, rule: str) -> None:
    """Per postsynaptic unit, with a target and without one, among absent synapses and behind another constraint."""
    network = constrained(mlp([5, 8, 3], sparsity=0.3), Nonnegative(), Norm(size, 2.0))
    weight = network.weights["input->hidden1"]
    present = network.present(network.connections["input->hidden1"])
    assert present is not None and present.min() == 0
    for _ in follow(network, rule):
        assert (weight >= 0).all() and not weight[present == 0].any()
        now = {"l1": weight.sum(1), "l2": weight.square().sum(1).sqrt(), "fan_in": weight.sum(1) / present.sum(1)}
        torch.testing.assert_close(now[size].detach(), torch.full((8,), 2.0, dtype=torch.float64))
    free = constrained(deep("local2d"), Norm("l2"))
    own = free.weights["input->first"].detach().square().sum((3, 4, 5))
    for _ in follow(free, rule, steps=3):
        torch.testing.assert_close(
            free.weights["input->first"].detach().square().sum((3, 4, 5)), own, rtol=1e-6, atol=0
        )


def test_bounds_per_synapse_and_above_zero_spare_what_is_absent() -> None:
    lower = torch.zeros(8, 5)
    lower[0] = 0.1
    with pytest.warns(
        UsageWarning, match=r"connection 'input->hidden1': \d+ of 40 initial weights were outside.*Bounds"
    ):
        network = Network(
            [Population("input", (5,), None), Population("hidden1", (8,), NEURONS["tanh"]())],
            [Connection("input", "hidden1", Dense(sparsity=0.3), constraints=(Bounds(lower, 0.5),))],
            torch.Generator().manual_seed(0),
        )
    weight, present = network.weights["input->hidden1"], network.present(network.connections["input->hidden1"])
    assert present is not None and (weight[0] >= 0.1 * present[0]).all() and weight.max() == 0.5
    assert not weight[present == 0].any() and weight.min() == 0


def test_constraints_hold_through_a_free_run(tmp_path: Path) -> None:
    """Rewarded STDP in large steps, within bounds that are tighter than those of its window, and with signs.

    Must fail when a free run does not constrain (tried).
    """
    settings = {
        "simulation": {"duration": 1.0, "update": 0.1, "report": 0.1, "examples": 2}, "training.optimizer.lr": 1.0,
        "reward.0": {"kind": "poisson", "rate": 50.0}, "stimulus.0.rate": 50.0,
        "connection.0.constraints": [{"kind": "bounds", "lower": 0.19, "upper": 0.21}],
        "connection.1.constraints": [{"kind": "dale", "excitatory": 0.5}],
        "rule.plasticity.window.w_min": -0.5,
    }  # fmt: skip
    record = ["*.weight[every=1 epoch]"]
    run = neurosbd.simulate("dopamine-conditioning", settings=settings, record=record, out=tmp_path / "run")
    bounded, signed = (run.trace[f"{name}->output.weight"][:] for name in ("rewarded", "others"))
    assert (abs(bounded - 0.2) < 0.01 + 1e-7).all() and (bounded[1:] != bounded[0]).any()
    half = signed.shape[1] // 2
    assert (signed[:, :half] >= 0).all() and (signed[:, half + 1 :] <= 0).all() and (signed[1:] != signed[0]).any()


CONSTRAINED = {
    "training.epochs": 2,
    "data.subset": 20,
    "training.optimizer": {"kind": "adam", "lr": 0.01},
    "connection.0.constraints": [{"kind": "dale", "excitatory": 1.0}, {"kind": "norm", "size": "l1"}],
    "connection.0.sparsity": 0.2,
    "connection.1.constraints": ["nonnegative", {"kind": "bounds", "upper": 0.1}, "mask"],
}


@pytest.mark.filterwarnings("ignore:.*initial weights were outside:neurosbd.UsageWarning")
def test_a_run_with_constraints_resumes_bit_for_bit(tmp_path: Path) -> None:
    """In the middle of an epoch. Must fail when what a constraint keeps is not saved (tried)."""
    whole = neurosbd.fit("digits-mlp", settings=CONSTRAINED, out=tmp_path / "whole")
    neurosbd.fit("digits-mlp", settings=CONSTRAINED, out=tmp_path / "parts", loggers=[Interrupted(3)])
    parts = neurosbd.fit("digits-mlp", settings=CONSTRAINED, out=tmp_path / "parts", resume=True)
    assert _same(whole.checkpoint(), parts.checkpoint())
    weights = whole.checkpoint()["network"]
    assert (weights["weights.input->hidden1"] >= 0).all() and weights["weights.input->hidden1"].any()
    assert (weights["weights.hidden1->hidden2"] >= 0).all() and weights["weights.hidden1->hidden2"].max() <= 0.1
    assert "constraint:input->hidden1:2:target" in weights and "present:hidden1->hidden2" in weights


def test_a_model_shows_its_constraints(capsys: pytest.CaptureFixture[str]) -> None:
    """With where each of them comes from. Must fail when a list of names has no origin (tried)."""
    for asked in ('["nonnegative"]', '["nonnegative", {kind="norm", size="l2"}]', '[{kind="nonnegative"}]'):
        assert main(["show", "digits-mlp", "--set", f"connection.0.constraints={asked}"]) == 0
        lines = [line.split() for line in capsys.readouterr().out.splitlines() if ".constraints.0." in line]
        assert lines == [["connection.0.constraints.0.kind", "nonnegative", "setting"]]
    assert main(["list", "constraints"]) == 0
    assert [line.split()[0] for line in capsys.readouterr().out.splitlines() if line[:1].strip()] == list(CONSTRAINTS)


CONTRADICTIONS = [
    ((Nonnegative(), Bounds(upper=-1.0)), "Nonnegative keeps weights in 0..inf and Bounds in -inf..-1, which leaves"),
    ((Nonnegative(), Bounds(upper=0.0)), "leaves them no room to learn in; move bounds, or leave one out"),
    ((Nonnegative(), Dale(0.8)), "Nonnegative keeps weights in 0..inf and Dale in -inf..0"),
    ((Dale(0.8), Bounds(lower=0.0)), "Dale keeps weights in -inf..0 and Bounds in 0..inf"),
    ((Norm(), Norm("l2")), "two constraints are Norm; leave one of them out"),
    ((Mask(torch.ones(2, 2)),), r"Mask.present has shape \[2, 2\], but the weight has \[8, 5\]; give one 0 or 1 per"),
    ((Bounds(torch.zeros(5), 1.0),), r"Bounds.lower has shape \[5\], but the weight has \[8, 5\]; give a number"),
    ((Nonnegative,), r"its constraint is the class Nonnegative itself; give an instance, Nonnegative\(...\)"),
    (("nonnegative",), r"give an instance, neurosbd.constraints.CONSTRAINTS\['nonnegative'\]\(\)"),
]


@pytest.mark.parametrize(("constraints", "message"), CONTRADICTIONS)
def test_what_cannot_hold_is_refused_with_the_fix(constraints: Any, message: str) -> None:
    with pytest.raises(ValueError, match=rf"connection 'input->hidden1'.*{message}"):
        constrained(mlp([5, 8, 3]), *constraints)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Bounds(), "Bounds needs a lower or an upper bound, or both"),
        (lambda: Bounds(1.0, 0.0), "Bounds.lower must be at most Bounds.upper, got 1.0 and 0.0"),
        (lambda: Mask(torch.full((2, 2), 0.5)), "Mask.present must be 0 and 1 only"),
        (lambda: Dale(1.5), "Dale.excitatory must be in 0..1, got 1.5"),
        (lambda: Norm(target=0.0), "Norm.target must be a positive number, got 0"),
    ],
)
def test_constants_out_of_range_are_refused(make: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()


@pytest.mark.parametrize(
    ("constraints", "message"),
    [
        ('["nonegative"]', r"connection.0.constraints.0.*'nonnegative'"),
        ('[{kind="bounds", lower=0, uper=1}]', r"connection.0.constraints.0.*uper"),
        ('["nonnegative", {kind="bounds", upper=-1}]', r"Nonnegative keeps weights in 0..inf and Bounds in -inf..-1"),
        ('["bounds"]', r"Bounds needs a lower or an upper bound"),
    ],
)
def test_a_file_with_impossible_constraints_is_one_line(
    constraints: str, message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    status = main(
        ["fit", "digits-mlp", "--set", f"connection.0.constraints={constraints}", "--out", str(tmp_path / "r")]
    )
    told = capsys.readouterr().err
    import re

    assert status == 2 and re.search(message, told) and "Traceback" not in told and not (tmp_path / "r").exists()


def test_pruning_says_what_is_wrong() -> None:
    network = mlp([5, 8, 3])
    with pytest.raises(UsageError, match=r"no connection 'input->hiden1'.*'input->hidden1'"):
        network.prune("input->hiden1", torch.ones(8, 5))
    with pytest.raises(UsageError, match=r"has no mask to prune; give it constraints = "):
        network.prune("input->hidden1", torch.ones(8, 5))
    masked = constrained(network, Mask())
    before = masked.weights["input->hidden1"].detach().clone()
    for wrong in (torch.ones(5, 8), torch.full((8, 5), 2.0)):
        with pytest.raises(UsageError, match=r"connection 'input->hidden1': Mask.present"):
            masked.prune("input->hidden1", wrong)
    assert torch.equal(masked.weights["input->hidden1"], before)


def test_a_loop_that_forgets_after_step_is_told() -> None:
    network = constrained(mlp([5, 8, 3]), Nonnegative())
    learner = Learner(network, RULES["bp"](), LOSSES["cross_entropy"](), torch.Generator())
    optimizer, batch = (
        torch.optim.SGD(network.parameters(), 0.1),
        Batch(torch.ones(1, 2, 5).double(), torch.zeros(2).long()),
    )
    learner.learn(batch)
    optimizer.step()
    with pytest.warns(UsageWarning, match=r"no after_step\(\) followed"):
        learner.learn(batch)


def test_a_start_within_is_left_alone() -> None:
    """Constant weights inside of all constraints are the weights of a network without them, bit for bit."""
    geometry = Local2d(3, padding=1, weight=Constant(0.25))
    sizes = [Population("input", (2, 4, 4), None), Population("out", (3, 4, 4), NEURONS["relu"]())]
    for constraint in (Nonnegative(), Dale(1.0), Bounds(0.0, 1.0), Norm("l2"), Mask()):
        connection = Connection("input", "out", geometry, constraints=(constraint,))
        network = Network(sizes, [connection], torch.Generator())
        network.constrain()
        assert (network.weights["input->out"] == 0.25).all()
