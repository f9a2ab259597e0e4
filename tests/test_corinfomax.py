"""CorInfoMax-EBD: the network settles where a solver says, climbs its objective, and learns what the paper writes."""

import copy
import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

import neurosbd
from neurosbd.connections import Dense
from neurosbd.connections.initialisers import Diagonal, XavierUniform
from neurosbd.errors import UsageError
from neurosbd.learning.batch import Batch
from neurosbd.learning.learner import Learner
from neurosbd.learning.simulation import unroll
from neurosbd.losses import LOSSES
from neurosbd.network.network import Connection, Frame, Network, Population
from neurosbd.neurons import NEURONS, CorInfoMax
from neurosbd.plasticity.correlative import update_inverse
from neurosbd.rules import RULES
from tests.compositions import rule_of
from tests.conftest import mlp

CELL = CorInfoMax(epsilon=0.15, gamma=0.4, leak=0.5)
STEPS = 12
LAYERS = {"hidden1": 7, "hidden2": 5, "output": 3}


@pytest.fixture(autouse=True)
def _same_numbers() -> None:
    torch.manual_seed(0)


def recurrent(cell: Any = CELL, gain: float = 1.0) -> Network:
    """input -> hidden1 <-> hidden2 <-> output, lateral connections in each layer; float64."""
    names = list(LAYERS)
    populations = [Population("input", (6,), None)]
    populations += [Population(n, (s,), cell, role="readout" if n == "output" else None) for n, s in LAYERS.items()]
    wide, start = Dense(weight=XavierUniform(gain)), Dense(weight=Diagonal())
    connections = []
    for below, name, above in zip(["input", *names], names, [*names[1:], None], strict=False):
        connections.append(Connection(below, name, wide, compartment="basal"))
        if above is not None:
            connections.append(Connection(above, name, wide, compartment="apical"))
        connections.append(Connection(name, name, start, compartment="lateral"))
    network = Network(populations, connections, torch.Generator().manual_seed(0)).double()
    with torch.no_grad():
        for name in names:  # any positive definite B
            weight = network.weights[f"{name}->{name}"]
            factor = torch.randn_like(weight)
            weight.copy_(torch.eye(len(weight), dtype=weight.dtype) + factor @ factor.t() / len(weight))
    return network


def batch(count: int = 4) -> tuple[Tensor, Tensor]:
    return torch.rand(count, 6, dtype=torch.float64), torch.randint(0, 3, (count,))


def slopes(network: Network, x: Tensor, rates: Tensor) -> Tensor:
    """d J_k / d r_k of all layers for one example, written out again: x [6], rates [15]."""
    cell: Any = network.populations["output"].neuron
    r = dict(zip(["input", *LAYERS], [x, *rates.split(list(LAYERS.values()))], strict=True))
    found = []
    for name in LAYERS:
        slope, neighbours = torch.zeros_like(r[name]), 0
        for connection in network.incoming[name]:
            if connection.compartment != "lateral":
                predicted = network.weights[connection.name] @ r[connection.pre]
                slope, neighbours = slope - (r[name] - predicted) / cell.epsilon, neighbours + 1
        found.append(slope + neighbours * cell.gamma * network.weights[f"{name}->{name}"] @ r[name])
    return torch.cat(found)


def equilibrium(network: Network, x: Tensor) -> Tensor:
    """Where every slope is 0 or points out of 0..1: linear solves over the free units, one unit freed or bound at a
    time, the first that is wrong (Murty's least-index rule)."""
    zero = torch.zeros(sum(LAYERS.values()), dtype=torch.float64)
    offset = slopes(network, x, zero)
    matrix: Any = torch.func.jacrev(lambda r: slopes(network, x, r))(zero)
    low, high = torch.zeros_like(zero, dtype=torch.bool), torch.zeros_like(zero, dtype=torch.bool)
    for _ in range(2000):
        rates, free = high.double(), ~(low | high)
        rates[free] = torch.linalg.solve(matrix[free][:, free], -(offset + matrix @ rates)[free])
        slope = matrix @ rates + offset
        wrong = (free & ((rates < 0) | (rates > 1))) | (low & (slope > 0)) | (high & (slope < 0))
        if not wrong.any():
            return rates
        unit = wrong.nonzero()[0].item()
        low[unit], high[unit] = free[unit] & (rates[unit] < 0), free[unit] & (rates[unit] > 1)
    raise AssertionError("no equilibrium found")


@pytest.mark.parametrize("gain", [0.3, 0.7, 1.0])
def test_the_network_settles_where_a_solver_says(gain: float) -> None:
    """Must fail when the lateral drive counts once per layer instead of once per neighbour (tried)."""
    network = recurrent(gain=gain)
    x, _ = batch()
    with torch.no_grad():
        frame = unroll(network, x.expand(3000, *x.shape))
        rates = torch.cat([frame.activity[name].value for name in LAYERS], 1)
        for settled, example in zip(rates, x, strict=True):
            torch.testing.assert_close(settled, equilibrium(network, example), rtol=1e-10, atol=1e-12)
    assert ((rates > 0) & (rates < 1)).any() and (rates == 0).any()


def objective(cell: CorInfoMax, r: Tensor, basal: Tensor, apical: Tensor | None, inverse: Tensor) -> Tensor:
    """J of one layer, [B]."""
    there = [v for v in (basal, apical) if v is not None]
    spread = 0.5 * len(there) * cell.gamma * torch.einsum("bi,ij,bj->b", r, inverse, r)
    return spread - sum(((r - v) ** 2).sum(1) for v in there) / (2 * cell.epsilon)


@pytest.mark.parametrize("top", [False, True])
def test_the_velocity_is_the_slope_of_the_objective(top: bool) -> None:
    """Oracle: finite differences, and at rest no leak. Must fail when epsilon multiplies only one dendrite (tried)."""
    inverse = torch.eye(5, dtype=torch.float64) + 0.1
    u = 0.2 + 0.6 * torch.rand(3, 5, dtype=torch.float64)
    basal, apical = torch.rand(2, 3, 5, dtype=torch.float64)
    above = None if top else apical
    drives = {"basal": basal, "lateral": u @ inverse} | ({} if top else {"apical": apical})
    _, after = CELL.step(CELL.init(u)._replace(u=u), drives, 1e-3)
    velocity = (after.u - u) * CELL.tau_mem / 1e-3
    for unit in range(5):
        move = torch.zeros_like(u)
        move[:, unit] = 1e-5
        up, down = (objective(CELL, u + sign * move, basal, above, inverse) for sign in (1, -1))
        torch.testing.assert_close(velocity[:, unit], (up - down) / 2e-5, rtol=1e-7, atol=1e-7)


def test_settling_climbs_the_objective() -> None:
    """From any start, bounds and leak included, for neighbours that stand still."""
    inverse = torch.eye(5, dtype=torch.float64) + 0.1
    basal, apical = 2 * torch.randn(2, 8, 5, dtype=torch.float64)
    state = CELL.init(basal)._replace(u=torch.randn(8, 5, dtype=torch.float64))
    r, heights = state.u.clamp(0, 1), []
    for _ in range(300):
        activity, state = CELL.step(state, {"basal": basal, "apical": apical, "lateral": r @ inverse}, 1e-3)
        r = activity.value
        heights.append(objective(CELL, r, basal, apical, inverse))
    climbed = torch.stack(heights).diff(dim=0)
    assert (climbed > -1e-12).all() and climbed[0].max() > 0 and climbed[-1].abs().max() < 1e-12


# Learning -----------------------------------------------------------------------------------------


def trial(x: Tensor, target: Tensor, steps: int = STEPS) -> Batch:
    return Batch(x.expand(steps, *x.shape), target, (*(0.0,) * (steps - 1), 1.0))


def learner_on(network: Network, **constants: Any) -> Learner:
    learner = Learner(network, rule_of("corinfomax", **constants), LOSSES["squared_error"](), torch.Generator())
    assert isinstance(learner, Learner)
    return learner


def test_lateral_weights_are_the_inverse_correlation() -> None:
    """Over 40 batches, the layer's own activity. Must fail for the first order in 1 - lam (tried: no H^T Z)."""
    network, lam = recurrent(), 0.95
    correlation = {n: torch.linalg.inv(network.weights[f"{n}->{n}"].detach().clone()) for n in LAYERS}
    learner = learner_on(network, memory=lam)
    seen: dict[str, Tensor] = {}

    def look(t: int, frame: Frame) -> None:
        if t == STEPS - 2:  # what reaches the lateral synapses in the last step
            seen.update({n: frame.activity[n].value for n in LAYERS})

    for _ in range(40):
        learner.learn(trial(*batch(6)), (look,))
        learner.after_step()
        for name, h in seen.items():
            correlation[name] = lam * correlation[name] + (1 - lam) * h.t() @ h / len(h)
    for name, r in correlation.items():
        lateral = network.weights[f"{name}->{name}"]
        torch.testing.assert_close(lateral.detach(), torch.linalg.inv(r), rtol=1e-10, atol=1e-10)
        assert lateral.grad is None  # nothing for an optimizer to touch


def test_a_batch_is_its_examples_in_turn() -> None:
    """Woodbury = Sherman-Morrison one by one, so no example has to know another: one number, h . z, per layer."""
    inverse, h, lam = torch.eye(4, dtype=torch.float64) + 0.2, torch.rand(5, 4, dtype=torch.float64), 0.9
    together, one_by_one = update_inverse(inverse, h, lam), inverse / lam
    for example in h:
        z = one_by_one @ example
        share = (1 - lam) / len(h)
        one_by_one = one_by_one - torch.outer(z, z) * (share / (1 + share * example @ z))
    torch.testing.assert_close(together, one_by_one, rtol=1e-12, atol=1e-12)
    nearly = (inverse - 1e-6 / (1 - 1e-6) * (inverse @ h.t()) @ (inverse @ h.t()).t() / 5) / (1 - 1e-6)
    # the papers' first order
    torch.testing.assert_close(update_inverse(inverse, h, 1 - 1e-6), nearly, rtol=1e-9, atol=1e-9)


def test_an_inverse_that_is_not_symmetric_is_followed_too() -> None:
    """A third factor at lateral synapses makes it so. Must fail with Z on both sides (tried)."""
    inverse, h, lam = (
        torch.eye(4, dtype=torch.float64) + 0.2 * torch.rand(4, 4).double(),
        torch.rand(5, 4).double(),
        0.9,
    )
    direct = torch.linalg.inv(lam * torch.linalg.inv(inverse) + (1 - lam) * h.t() @ h / len(h))
    torch.testing.assert_close(update_inverse(inverse, h, lam), direct, rtol=1e-12, atol=1e-12)


def test_two_steps_worked_out_by_hand() -> None:
    """One unit per layer, so every number fits a line. Must fail when e_f is v - r, or Phi is added (both tried)."""
    cell = CorInfoMax(epsilon=0.1, gamma=0.0, leak=0.0, tau_mem=20e-3)  # a step moves half of the way per dendrite
    populations = [Population("input", (1,), None), Population("hidden", (1,), cell)]
    populations.append(Population("output", (1,), cell, role="readout"))
    connections = [
        Connection("input", "hidden", Dense(), compartment="basal"),
        Connection("output", "hidden", Dense(), compartment="apical"),
        Connection("hidden", "hidden", Dense(weight=Diagonal()), compartment="lateral"),
        Connection("hidden", "output", Dense(), compartment="basal"),
    ]
    network = Network(populations, connections, torch.Generator()).double()
    start = {"input->hidden": 0.4, "output->hidden": 0.2, "hidden->output": 0.5, "hidden->hidden": 1.0}
    with torch.no_grad():
        for name, value in start.items():
            network.weights[name].fill_(value)
    rule = dict(scale=0.0, forgetting=0.0, forward=0.1, backward=0.3, apical=2.0, lateral=0.7, memory=0.5)
    learner = learner_on(network, **rule)
    one = torch.ones(1, 1, dtype=torch.float64)
    learner.learn(trial(one, one, 2))
    h1, o1 = 0.5 * 0.4, 0.5 * 0.5 * 0.2  # first step, from rest; nothing has come back yet
    h2 = 0.5 * (0.4 + 0.2 * o1)  # both dendrites pull half: nothing is kept
    o2 = 0.5 * o1 + 0.5 * (0.5 * h2)
    score = o2 - 1
    phi = 0.5 * (score * h2) * score  # gain, R, score
    expected = {
        "input->hidden": phi - 0.1 * (h2 - 0.4),
        "output->hidden": 2.0 * phi * o1 - 0.3 * (h2 - 0.2 * o1) * o1,
        "hidden->output": 0.5 * score * h2 - 0.1 * (o2 - 0.5 * h2) * h2,
    }
    for name, value in expected.items():
        gradient = network.weights[name].grad
        assert gradient is not None and gradient.item() == pytest.approx(value, rel=1e-12)
    learner.after_step()
    followed_by_hand = 1 / (0.5 * 1 + 0.5 * h1 * h1) - 0.7 * phi * h1
    assert network.weights["hidden->hidden"].item() == pytest.approx(followed_by_hand, rel=1e-12)


def test_without_prediction_the_update_is_the_slope_of_the_correlation() -> None:
    """Phi: with lam = 0, d 1/2 |R|^2 at fixed score by finite differences of the last step, basal and apical.

    Must fail when the eligibility is not that of the last step (tried), or R does not hold the batch (tried).
    """
    network = recurrent(CorInfoMax(gamma=0.05))
    x, target = batch()
    learner = learner_on(network, scale=0.0, forgetting=0.0)
    learner.learn(trial(x, target))
    with torch.no_grad():
        before = unroll(network, x.expand(STEPS - 1, *x.shape))
        output = network.step(before, x).activity["output"].value
        score = LOSSES["squared_error"]().score(output, target) / len(x)

        def half(population: str) -> Tensor:
            return 0.5 * (score.t() @ network.step(before, x).activity[population].value).square().sum()

        for name in ("input->hidden1", "hidden2->hidden1", "hidden1->hidden2", "output->hidden2"):
            weight, post = network.weights[name], network.connections[name].post
            slope = torch.zeros_like(weight)
            for i in range(weight.numel()):
                place = weight.view(-1)[i]
                place.add_(1e-6)
                up = half(post)
                place.sub_(2e-6)
                slope.view(-1)[i] = (up - half(post)) / 2e-6
                place.add_(1e-6)
            assert weight.grad is not None and weight.grad.abs().max() > 1e-6
            torch.testing.assert_close(weight.grad, slope, rtol=1e-6, atol=1e-9)


def test_on_neurons_without_compartments_it_is_ebd_bitwise() -> None:
    one, two = mlp([6, 7, 5, 3]), mlp([6, 7, 5, 3])
    x, target = batch()
    for network, rule in ((one, "corinfomax"), (two, "ebd")):
        learner = Learner(network, RULES[rule](), LOSSES["squared_error"](), torch.Generator().manual_seed(0))
        learner.learn(Batch(x[None], target))
        learner.after_step()
    for name, parameter in one.named_parameters():
        assert torch.equal(parameter.grad, dict(two.named_parameters())[name].grad)  # type: ignore[arg-type]


def test_a_neuron_without_compartments_adds_them_up_bitwise() -> None:
    """The same wiring on hard sigmoids, with and without the names of compartments."""
    marked = recurrent(NEURONS["hard_sigmoid"]())
    plain = copy.deepcopy(marked)
    for name, connections in plain.incoming.items():
        plain.incoming[name] = [dataclasses.replace(c, compartment="soma") for c in connections]
    x, _ = batch()
    one, two = (unroll(net, x.expand(STEPS, *x.shape)).activity["output"].value for net in (marked, plain))
    assert torch.equal(one, two) and one.any()


def test_what_does_not_fit_is_refused() -> None:
    cell = [Population("input", (3,), None), Population("output", (2,), dataclasses.replace(CELL))]
    relu = [Population("input", (3,), None), Population("output", (2,), NEURONS["relu"]())]
    spine: Any = "spine"
    with pytest.raises(ValueError, match=r"input->output.*CorInfoMax, has no compartment 'spine'.*apical"):
        Network(cell, [Connection("input", "output", Dense(), compartment=spine)], torch.Generator())
    basal = [Connection("input", "output", Dense(), compartment="basal")]
    with pytest.raises(ValueError, match=r"input->output.*neuron 'corinfomax', or compartment = 'soma'"):
        learner_on(Network(relu, basal, torch.Generator()))
    lateral = [*basal, Connection("input", "output", Dense(), compartment="lateral")]
    with pytest.raises(ValueError, match="declared twice"):
        Network(cell, lateral, torch.Generator())
    biased = [*basal, Connection("output", "output", Dense(bias=True), compartment="lateral")]
    with pytest.raises(ValueError, match=r"output->output.*without a bias"):
        learner_on(Network(cell, biased, torch.Generator()))
    fast = [Population("input", (3,), None), Population("output", (2,), CorInfoMax(tau_mem=5e-3))]
    with pytest.raises(ValueError, match=r"overshoots.*at least 0.00717"):
        Network(fast, basal, torch.Generator())(torch.zeros(1, 3))
    with pytest.raises(ValueError, match="settled"):
        Learner(recurrent(), RULES["sbd"](), LOSSES["squared_error"](), torch.Generator())
    for constants in ({"epsilon": 0.0}, {"gamma": -1.0}, {"leak": float("nan")}, {"tau_mem": 0.0}):
        with pytest.raises(ValueError, match=rf"CorInfoMax\.{next(iter(constants))}"):
            CorInfoMax(**constants)
    for constants in ({"forward": -1.0}, {"memory": 0.0}, {"memory": 1.5}, {"lateral": float("inf")}):
        with pytest.raises(ValueError, match=rf"corinfomax\.{next(iter(constants))}"):
            rule_of("corinfomax", **constants)


def test_a_wrong_compartment_in_a_model_file_names_the_legal_ones(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"connection.0.*'basel'.*did you mean 'basal'"):
        neurosbd.load_model("digits-corinfomax", settings={"connection.0.compartment": "basel"})


# The shipped model --------------------------------------------------------------------------------

SHORT = {"training.epochs": 2, "data.subset": 20, "data.test_subset": 5, "time.steps": 6}


def test_a_run_resumes_to_the_same_weights(tmp_path: Path) -> None:
    """B included, which no optimizer holds. Must fail when what B follows waits for the next batch (tried)."""
    from neurosbd.runs.batches import DatasetBatches
    from neurosbd.training.session import Session

    definition = neurosbd.load_model("digits-corinfomax", settings=SHORT)
    data = neurosbd.load_data("digits", subset=20, test_subset=5)

    def session() -> Session:
        experiment, cpu = definition.build(), torch.device("cpu")
        return Session(experiment, DatasetBatches(experiment, data, cpu), cpu)

    whole, first, second = session(), session(), session()
    for _ in range(6):
        whole.step()
    for _ in range(3):
        first.step()
    second.load_state_dict(copy.deepcopy(first.state_dict()), Path("here"))
    for _ in range(3):
        second.step()
    for name, parameter in whole.network.named_parameters():
        assert torch.equal(parameter, dict(second.network.named_parameters())[name]), name
    assert not torch.equal(whole.network.weights["hidden1->hidden1"], torch.eye(128))


def test_its_signals_can_be_recorded(tmp_path: Path) -> None:
    """rate = clip(u); basal = W r below; and the weights of B move without a gradient."""
    record = ["hidden2.u", "hidden2.basal", "hidden2.lateral", "*.rate", "*.weight[every=1 batches]", "*.third_factor"]
    run = neurosbd.fit("digits-corinfomax", settings=SHORT, record=record, out=tmp_path / "run")
    u, rate, basal = (run.trace[f"hidden2.{what}"][0] for what in ("u", "rate", "basal"))
    assert np.allclose(np.clip(u, 0, 1), rate, atol=1e-7)
    weight = run.trace["hidden1->hidden2.weight"]
    assert np.allclose(run.trace["hidden1.rate"][0] @ weight[0].reshape(64, 128).T, basal, atol=1e-5)
    lateral = run.trace["hidden1->hidden1.weight"]
    assert np.array_equal(lateral[0].reshape(128, 128), np.eye(128)) and not np.array_equal(lateral[1], lateral[0])
