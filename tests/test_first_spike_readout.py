"""S2-STDP, SSTDP and reward-modulated STDP of a readout, against their equations in float64."""

import copy
import itertools
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

import neurosbd
from neurosbd.config.resolve import load_model
from neurosbd.connections import Conv2d, Dense
from neurosbd.connections.initialisers import Normal
from neurosbd.constraints import Bounds, Norm
from neurosbd.errors import UsageError
from neurosbd.learning.batch import Batch
from neurosbd.learning.learner import Learner
from neurosbd.network.network import Connection, Frame, Network, Population
from neurosbd.neurons import IF, LIF
from neurosbd.rules import RULES
from neurosbd.rules.causal_window import CausalWindow
from neurosbd.rules.competition import Competition
from neurosbd.rules.first_spikes import Spikes, answer_of, desired_times, first_spikes, winners
from tests.contracts.tables import seeded
from tests.test_fit import StopAfter

STEPS = 8


def readout(
    units: int = 3, inputs: int = 12, std: float = 0.1, constraints: tuple[Any, ...] = (), neuron: Any = None
) -> Network:
    """Inputs and a readout that adds them up."""
    populations = [
        Population("input", (inputs,), None),
        Population("output", (units,), neuron or IF(v_threshold=1.0, reset="none")),
    ]
    connection = Connection("input", "output", Dense(weight=Normal(0.3, std)), constraints=constraints)
    return Network(populations, [connection], seeded()).double()


def made(network: Network, rule: str, **constants: Any) -> Learner:
    return neurosbd.learner(network, RULES[rule](**constants), "cross_entropy")


def shown(step: Tensor) -> Tensor:
    """Spikes [T, B, n] of inputs that spike once, in these steps [B, n]; T: never."""
    return (torch.arange(STEPS)[:, None, None] == step).double()


def drawn_steps(examples: int, inputs: int = 12) -> Tensor:
    return torch.randint(0, STEPS + 1, (examples, inputs), generator=seeded())


def changes(learner: Learner, step: Tensor, labels: Tensor, observers: tuple[Any, ...] = ()) -> Tensor:
    """What one batch adds to the weights at a learning rate of 1."""
    learner.network.zero_grad()
    learner.learn(Batch(shown(step), labels), observers)
    gradient = learner.network.weights["input->output"].grad
    assert gradient is not None
    return -gradient


def by_hand(network: Network, step: Tensor, label: int, gap: float, a_plus: float, a_minus: float) -> Tensor:
    """S2-STDP of one example and one unit per class, event by event, as the published loop has it."""
    weight, threshold = network.weights["input->output"].detach(), 1.0
    time, change = [], torch.zeros_like(weight)
    for n in range(len(weight)):
        v, spike = 0.0, STEPS
        for at in range(STEPS):
            v += sum(weight[n, i].item() for i in range(len(step)) if step[i] == at)
            if v > threshold:
                spike = at
                break
        time.append(spike / STEPS)
    spiked = [t for t in time if t < 1]
    count = len(time)
    base = min(sum(spiked) / len(spiked), 1 - gap / count) if spiked else 1 - gap / count
    for n, t in enumerate(time):
        wanted = base - gap * (count - 1) / count if n == label else base + gap / count
        for i in range(len(step)):
            causal = step[i] / STEPS <= t
            change[n, i] = (t - wanted) * (a_plus if causal else -a_minus)
    return change


def test_one_example_is_the_published_loop() -> None:
    """A golden case: 20 examples, each against a loop over events, 1e-12.

    Must fail when silent inputs count as in time (tried), or depression has the other sign (tried).
    """
    network, steps = readout(), drawn_steps(20)
    learner = made(network, "s2_stdp", gap=0.2, a_plus=0.3, a_minus=0.1)
    for step, label in zip(steps, torch.arange(20) % 3, strict=True):
        expected = by_hand(network, step, int(label), 0.2, 0.3, 0.1)
        torch.testing.assert_close(changes(learner, step[None], label[None]), expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize("rule", ["s2_stdp", "sstdp", "rstdp_readout"])
def test_events_blocks_and_batches_are_one(rule: str) -> None:
    """One example by events = the same by the network in blocks, watched step by step; a batch is the mean over its
    examples. 1e-12.

    Must fail when a batch is the sum (tried), or an input that comes in a later block counts from its start (tried).
    """
    network, steps, labels = readout(6), drawn_steps(5), torch.tensor([0, 2, 1, 1, 0])
    learner = made(network, rule, units_per_class=2, **({} if rule == "rstdp_readout" else {"gap": 0.5}))
    seen: list[int] = []

    def look(t: int, frame: Frame) -> None:
        seen.append(t)

    alone = [changes(learner, step[None], label[None]) for step, label in zip(steps, labels, strict=True)]
    for length in (1, 3, None):
        network.block = length
        for step, label, expected in zip(steps, labels, alone, strict=True):
            watched = changes(learner, step[None], label[None], (look,))
            torch.testing.assert_close(watched, expected, rtol=0, atol=1e-12)
        whole = changes(learner, steps, labels)
        torch.testing.assert_close(whole, torch.stack(alone).mean(0), rtol=0, atol=1e-12)
    assert seen == list(range(STEPS)) * 15
    assert all(change.any() for change in alone)


def test_units_that_spike_when_they_should_change_nothing() -> None:
    """S1: the gap and times fit, so that t = t* of all units. Must fail when targets go by another share (tried)."""
    gap, time = 0.25, torch.tensor([[0.25, 0.5, 0.5, 0.5]], dtype=torch.float64)
    everyone, target = torch.ones(1, 4, dtype=torch.bool), torch.tensor([[True, False, False, False]])
    wanted = desired_times(time, everyone, target, gap)
    torch.testing.assert_close(wanted, time, rtol=0, atol=1e-15)
    change = CausalWindow().change(time - wanted, time, torch.rand(1, 5).double(), torch.rand(4, 5).double())
    assert change.abs().max() < 1e-15


@pytest.mark.parametrize(("targets", "others"), [(1, 1), (1, 9), (2, 3), (5, 5)])
def test_offsets_add_up_to_0_and_are_a_gap_apart(targets: int, others: int) -> None:
    """S2, for any number of targets and units. Must fail when both offsets are half a gap (tried)."""
    count, gap = targets + others, 0.03
    time = torch.full((1, count), 0.5, dtype=torch.float64)
    target = torch.arange(count)[None] < targets
    offsets = desired_times(time, torch.ones_like(target), target, gap, targets) - 0.5
    assert abs(offsets.sum().item()) < 1e-12
    assert (offsets[~target][0] - offsets[target][0]).item() == pytest.approx(gap, abs=1e-12)


def test_the_base_leaves_room_for_the_gap_and_takes_units_that_spiked_alone() -> None:
    """By hand. Must fail when silent units count in the mean (tried), or losers do (tried)."""
    time = torch.tensor([[0.2, 0.4, 1.0], [1.0, 1.0, 1.0], [1.0, 0.99, 1.0]], dtype=torch.float64)
    everyone, target = torch.ones(3, 3, dtype=torch.bool), torch.tensor([[True, False, False]] * 3)
    wanted = desired_times(time, everyone, target, 0.3)
    torch.testing.assert_close(wanted[:, 1], torch.tensor([0.3 + 0.1, 1.0, 1.0]).double())
    torch.testing.assert_close(wanted[:, 0], torch.tensor([0.3 - 0.2, 0.7, 0.7]).double())
    without = desired_times(time, torch.tensor([[True, False, True]] * 3), target, 0.3)
    assert without[0, 0].item() == pytest.approx(0.2 - 0.15, abs=1e-12)


def test_the_first_to_spike_wins_and_the_potential_decides() -> None:
    """By hand: earlier, then higher; a class whose units are silent has a winner, too.

    Must fail when a silent unit of a high potential wins against one that has spiked (tried).
    """
    potentials = torch.zeros(4, 1, 6)
    potentials[1:, 0, 0] = 2.0  # spikes in step 1
    potentials[2:, 0, 1] = 9.0  # later and higher
    potentials[2:, 0, 2] = 2.0
    potentials[2:, 0, 3] = 3.0  # as early as 2, and higher
    potentials[3, 0, 4], potentials[3, 0, 5] = 0.5, 1.0  # at the threshold, which is not above it
    spikes = first_spikes(potentials, torch.tensor(1.0))
    assert spikes.time[0].tolist() == [0.25, 0.5, 0.5, 0.5, 1.0, 1.0]
    assert winners(spikes, 2)[0].tolist() == [True, False, False, True, False, True]
    answer = answer_of(spikes, 2, 4)[0]
    assert answer.argsort(descending=True).tolist() == [0, 1, 2]
    assert (answer + torch.tensor([0.25, 0.5, 1.0])).abs().max() < 0.25
    assert answer_of(Spikes(spikes.time[:, 2:4], spikes.potential[:, 2:4]), 1, 4).argmax().item() == 1


def test_larger_weights_never_delay_a_spike() -> None:
    """S7. Must fail when a weight shrinks instead (tried)."""
    weight, x = readout().weights["input->output"].detach(), shown(drawn_steps(30))
    larger = weight + 0.1 * torch.rand(3, 12, generator=seeded()).double()
    before, after = (first_spikes((x @ w.t()).cumsum(0), torch.tensor(1.0)).time for w in (weight, larger))
    assert (after <= before).all() and (after < before).any()


def test_sstdp_rests_when_both_inequalities_hold_and_s2_stdp_does_not() -> None:
    """S8: the target is early and all others are late. Must fail when both rules have one error (tried)."""
    network = readout(3, 3)
    with torch.no_grad():
        network.weights["input->output"].copy_(2 * torch.eye(3))
    step, label = torch.tensor([[0, 6, 6]]), torch.tensor([0])
    assert not changes(made(network, "sstdp", gap=0.1), step, label).any()
    assert changes(made(network, "s2_stdp", gap=0.1), step, label).any()
    assert changes(made(network, "sstdp", gap=0.1), step, torch.tensor([1])).any()


def test_groups_of_one_are_s2_stdp() -> None:
    """S6: the competition of one unit per class decides nothing, thresholds stay. Bitwise. Must fail when the threshold
    of a unit without rivals moves (tried: no balance within a group)."""
    step, label = drawn_steps(6), torch.tensor([0, 1, 2, 0, 1, 2])
    plain = made(readout(), "s2_stdp")
    grouped = made(readout(), "s2_stdp", units_per_class=1, others=0, threshold_rate=0.5)
    assert torch.equal(changes(plain, step, label), changes(grouped, step, label))
    assert grouped.state_dict()["tensors"]["threshold"].tolist() == [1.0] * 3


def test_only_winners_learn_and_the_label_decides_for_what() -> None:
    """Two units per class, one of them for others: only the first of each to spike learns, early if it is the target of
    the right class, else late. Must fail when the unit for others is a target of its own class (tried)."""
    network = readout(4, 4)
    with torch.no_grad():
        network.weights["input->output"].copy_(2 * torch.eye(4))
    learner = made(network, "s2_stdp", units_per_class=2, others=1, gap=0.4, a_plus=1.0, a_minus=0.0)
    step = torch.tensor([[3, 4, 5, 3]])  # in class 0 the unit for others is first, in class 1 the target
    change = changes(learner, step, torch.tensor([1])).sum(1)
    assert change[1] == 0 and change[2] == 0  # losers
    assert change[3] > 0 and change[0] < 0  # the target is to be earlier, the other later
    assert (changes(learner, step, torch.tensor([0])).sum(1)[[0, 3]] < 0).all()  # the unit for others is no target


def test_thresholds_of_competing_targets_move_and_come_back() -> None:
    """S4: the moves of a group add up to 0; by hand over two examples, never below the threshold of the model, which is
    that of every answer; an epoch starts anew with a smaller rate. Must fail without the clamp (tried)."""
    spikes = Spikes(torch.tensor([[0.1, 0.5, 0.3, 0.4, 0.2, 0.2]]), torch.tensor([[1.0, 2, 3, 4, 5, 6]]))
    competition = Competition(units_per_class=3, others=1, threshold_rate=1.0)
    _, target = competition.of_class(6, torch.tensor([0]))
    moves = competition.moves(spikes, target)
    assert moves[0].tolist() == [0, -0.5, 0.5, 0, 0, 0] and moves.sum() == 0
    assert not Competition(units_per_class=2, others=1, threshold_rate=1.0).moves(spikes, target).any()

    network = readout(6, 6)
    with torch.no_grad():
        network.weights["input->output"].copy_(2 * torch.eye(6))
    learner = made(network, "s2_stdp", units_per_class=3, others=1, threshold_rate=0.8, annealing=0.5)
    step = torch.tensor([[5, 2, 3, 5, 5, 5]])
    before = learner.answer(Batch(shown(step), torch.tensor([0]))).output
    for expected in ([1.0, 1.4, 1.0, 1.0, 1.0, 1.0], [1.0, 1.8, 1.0, 1.0, 1.0, 1.0]):
        changes(learner, step, torch.tensor([0]))
        assert learner.state_dict()["tensors"]["threshold"].tolist() == pytest.approx(expected)
    assert torch.equal(learner.answer(Batch(shown(step), torch.tensor([0]))).output, before)
    changes(learner, step, torch.tensor([0]))  # at 2.2 unit 1 is silent, so that the other target wins
    changes(learner, step, torch.tensor([0]))
    assert learner.state_dict()["tensors"]["threshold"][[1, 2]].tolist() == pytest.approx([1.8, 1.4])
    learner.after_epoch(1)
    tensors = learner.state_dict()["tensors"]
    assert tensors["threshold"].tolist() == [1.0] * 6 and tensors["threshold_rate"].item() == pytest.approx(0.4)


def test_weights_are_clipped_first_and_then_rescaled() -> None:
    """S5: the sum of the weights of a unit after every step is that of the start, 1e-12, and the order is that of the
    source: clipped weights may exceed the bound once they are rescaled. Must fail in the other order (tried)."""
    network = readout(std=0.01, constraints=(Bounds(0.0, 0.35), Norm("l1")))
    start = network.held("input->output")[1].state.target[:, 0]
    learner = made(network, "s2_stdp", a_plus=1.0, a_minus=0.5, gap=0.3)
    optimizer = torch.optim.SGD(network.parameters(), 1.0)
    for step, label in zip(drawn_steps(20), torch.arange(20) % 3, strict=True):
        weight = network.weights["input->output"].detach() + changes(learner, step[None], label[None])
        optimizer.step()
        learner.after_step()
        clipped = weight.clamp(0, 0.35)
        torch.testing.assert_close(network.weights["input->output"], clipped * (start / clipped.sum(1))[:, None])
        torch.testing.assert_close(network.weights["input->output"].sum(1), start, rtol=0, atol=1e-12)
    assert network.weights["input->output"].max() > 0.35


def test_changes_near_a_bound_are_smaller() -> None:
    """Golden: slope 2, at both bounds and half way. Must fail when the bounds are swapped (tried)."""
    error, time = torch.ones(1, 1).double(), torch.full((1, 1), 0.5).double()
    arrived = torch.tensor([[0.0] * 3 + [1.0] * 3])
    weight = torch.tensor([[0.0, 0.5, 1.0, 0.0, 0.5, 1.0]]).double()
    change = CausalWindow(0.3, 0.1, slope=2.0).change(error, time, arrived.double(), weight)
    e = torch.exp(-torch.tensor([0.0, 1.0, 2.0]).double())
    torch.testing.assert_close(change[0], torch.cat([0.3 * e, -0.1 * e.flip(0)]))


def test_a_reward_teaches_the_first_unit_alone_by_how_often_it_was_right() -> None:
    """R-STDP: 1 - accuracy of the epoch before if right, - accuracy if wrong; nobody learns where nobody spikes.

    Must fail when the accuracy is that of now (tried).
    """
    network = readout(3, 3)
    with torch.no_grad():
        network.weights["input->output"].copy_(2 * torch.eye(3))
    learner = made(network, "rstdp_readout", a_plus=1.0, a_minus=0.0)
    step = torch.tensor([[2, 3, 4]])
    right, wrong = (changes(learner, step, torch.tensor([label])) for label in (0, 1))
    assert right[0, 0].item() == pytest.approx(2 / 3) and wrong[0, 0].item() == pytest.approx(-1 / 3)
    assert not right[1:].any() and not wrong[1:].any()
    for label in (0, 0):
        changes(learner, step, torch.tensor([label]))
    learner.after_epoch(1)
    assert learner.state_dict()["tensors"]["accuracy"].item() == 0.75
    assert changes(learner, step, torch.tensor([0]))[0, 0].item() == pytest.approx(0.25)
    assert not changes(learner, torch.full((1, 3), STEPS), torch.tensor([0])).any()


def test_a_punishment_has_sizes_of_its_own() -> None:
    """What was in time loses anti_plus, the rest gains anti_minus, by itself an eighth of that; a reward has the sizes
    that it had. Must fail when both are taken for a reward (tried), or the rest gains a_minus (tried).
    """
    network = readout(3, 3)
    with torch.no_grad():
        network.weights["input->output"].copy_(2 * torch.eye(3))
    learner = made(network, "rstdp_readout", a_plus=1.0, a_minus=0.5, anti_plus=3.0, anti_minus=0.25)
    right, wrong = (changes(learner, torch.tensor([[2, 3, 4]]), torch.tensor([label])) for label in (0, 1))
    torch.testing.assert_close(right[0], right.new_tensor([1.0, -0.5, -0.5]) * 2 / 3)
    torch.testing.assert_close(wrong[0], wrong.new_tensor([-3.0, 0.25, 0.25]) / 3)
    plain = made(network, "rstdp_readout", a_plus=1.0, a_minus=0.5)
    wrong = changes(plain, torch.tensor([[2, 3, 4]]), torch.tensor([1]))
    torch.testing.assert_close(wrong[0], wrong.new_tensor([-1.0, 0.125, 0.125]) / 3)


SMALL: dict[str, Any] = {
    "data.name": "digits", "data.subset": 10, "data.test_subset": 10, "population.input.size": [1, 8, 8],
    "time.steps": 17, "data.encoder": {"kind": "latency", "duration": 17e-3}, "training.epochs": 2,
    "population.output.neuron.v_threshold": 2.0,
}  # fmt: skip


GROUP = {
    "population.output.size": [50], "rule.units_per_class": 5, "rule.others": 1, "rule.threshold_rate": 0.5,
    "rule.annealing": 0.5,
}  # fmt: skip


@pytest.mark.parametrize(("rule", "more"), [("s2_stdp", GROUP), ("rstdp_readout", {"seed": 1})])
def test_a_run_is_resumed_bit_for_bit_and_recording_changes_nothing(
    tmp_path: Path, rule: str, more: dict[str, Any]
) -> None:
    """With the model's batches of one example; recorded ones go through blocks, whose sums have another order.

    Must fail when thresholds (tried) or the accuracy of the epoch (tried) are not in the checkpoint.
    """
    runs, settings = {}, SMALL | more
    for name, record in (("plain", ()), ("recorded", ("output.spikes[examples=0]",))):
        runs[name] = neurosbd.fit("mnist-s2stdp", rule=rule, settings=settings, out=tmp_path / name, record=record)
    stop = StopAfter(150)  # in the second epoch of 100 examples
    neurosbd.fit("mnist-s2stdp", rule=rule, settings=settings, out=tmp_path / "half", loggers=[stop])
    runs["resumed"] = neurosbd.fit("mnist-s2stdp", rule=rule, settings=settings, out=tmp_path / "half", resume=True)
    whole = runs["plain"].network().weights["input->output"]
    assert torch.equal(whole, runs["resumed"].network().weights["input->output"])
    torch.testing.assert_close(runs["recorded"].network().weights["input->output"], whole, rtol=1e-4, atol=1e-5)
    said = runs["plain"].predict(neurosbd.load_data("digits", test_subset=10).test.values).argmax(1)
    right = said == torch.from_numpy(neurosbd.load_data("digits", test_subset=10).test.targets)
    assert right.double().mean().item() == pytest.approx(runs["plain"].metrics[-1]["test_accuracy"])
    assert not torch.equal(whole, load_model("mnist-s2stdp", rule, settings).network().weights["input->output"])


def test_digits_are_told_apart_by_first_spikes(tmp_path: Path) -> None:
    """One unit per class, 300 images, 2 epochs: far above chance, 10 %."""
    settings = {k: v for k, v in SMALL.items() if not k.startswith("data.subset")} | {"training.batch_size": 1}
    run = neurosbd.fit("mnist-s2stdp", settings=settings | {"data.subset": 30}, out=tmp_path / "one")
    assert run.metrics[-1]["test_accuracy"] > 0.5


CONV = Network(
    [
        Population("input", (1, 4, 4), None),
        Population("map", (3, 2, 2), IF(reset="none")),
        Population("output", (3,), IF(reset="none")),
    ],
    [Connection("input", "map", Conv2d(3)), Connection("map", "output", Dense())],
    seeded(),
)  # fmt: skip
REFUSED: list[tuple[Network, dict[str, Any], str]] = [
    (readout(neuron=LIF()), {}, r"'output': .*kind = 'if', reset = 'none'.*got LIF.*mnist-s2stdp"),
    (readout(neuron=IF()), {}, r"'output': .*reset = 'none'"),
    (readout(4), {"units_per_class": 3}, r"'output': rule.units_per_class = 3 does not divide its 4 units"),
    (CONV, {}, r"'input->map': this rule teaches the readout alone"),
]


@pytest.mark.parametrize(("network", "constants", "message"), REFUSED)
def test_networks_that_do_not_suit_are_refused(network: Network, constants: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        made(copy.deepcopy(network), "s2_stdp", **constants)


@pytest.mark.parametrize(
    ("constants", "message"),
    [
        ({"gap": 0.0}, "gap must be above 0 and below 1"),
        ({"gap": 1.0}, "gap must be above 0 and below 1"),
        ({"threshold_rate": -1.0}, r"threshold_rate must be a number >= 0"),
        ({"units_per_class": 2, "others": 2}, r"rule.others is 2.*at most 1"),
        ({"w_min": 1.0}, "w_min < w_max"),
    ],
)
def test_constants_out_of_range_are_refused(constants: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        RULES["s2_stdp"](**constants)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"time.steps": 1}, r"'s2_stdp' goes by the steps.*time.steps is 1"),
        ({"data.encoder": "constant"}, r"data.encoder is 'constant'.*kind = 'latency', duration = 0.017"),
        ({"rule.units_per_class": 3}, r"with rule.units_per_class = 3 each; set population.output.size = \[30\]"),
        ({"rule.gap": 2.0}, r"rule.gap"),
        ({"data.name": "diabetes", "population.input.size": [10], "population.output.size": [1]}, r"classes|loss"),
    ],
)
def test_settings_that_do_not_suit_are_refused(tmp_path: Path, settings: Mapping[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        neurosbd.fit("mnist-s2stdp", settings={**SMALL, **settings}, out=tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_targets_that_are_no_labels_are_refused() -> None:
    learner = made(readout(), "s2_stdp")
    with pytest.raises(UsageError, match=r"learns from labels of classes.*got a target \[1, 3\]"):
        learner.learn(Batch(shown(drawn_steps(1)), torch.rand(1, 3)))
    with pytest.raises(UsageError, match=r"learns from labels of classes.*got no target"):
        learner.learn(Batch(shown(drawn_steps(1)), reward=lambda t, frame: None))


def test_two_ranks_are_one(tmp_path: Path) -> None:
    """The sums of two halves of a batch, weights and thresholds, are those of the whole."""
    steps, labels = drawn_steps(6), torch.tensor([0, 1, 2, 2, 1, 0])
    constants = {"units_per_class": 3, "others": 1, "threshold_rate": 0.1}
    whole = made(readout(9), "s2_stdp", **constants)
    expected = changes(whole, steps, labels)
    parts = [made(readout(9), "s2_stdp", **constants) for _ in range(2)]
    halves = []
    for learner, rows in zip(parts, (slice(0, 4), slice(4, 6)), strict=True):
        learner.learn(Batch(shown(steps[rows]), labels[rows], batch_size=6, first=rows.start))
        halves.append(-learner.network.weights["input->output"].grad)
    torch.testing.assert_close(sum(halves), expected, rtol=0, atol=1e-12)
    for one, other in itertools.pairwise(parts):
        assert one.rule.why_alone() is None and other.rule.why_alone() is None
