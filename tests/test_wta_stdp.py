"""STDP by winners: who wins, what a winner does to its channel, and how a model learns features without labels."""

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

import neurosbd
from neurosbd.connections import INITIALISERS, Conv2d, Dense
from neurosbd.connections.initialisers import Normal
from neurosbd.errors import UsageWarning
from neurosbd.learning.batch import UNTAUGHT, Batch
from neurosbd.learning.learner import Learner
from neurosbd.network.network import Connection, Frame, Network, Population
from neurosbd.neurons import IF, LIF, LearnedThreshold
from neurosbd.noise import uniform
from neurosbd.rules import RULES
from neurosbd.rules.first_spikes import Spikes
from neurosbd.rules.lateral_inhibition import LateralInhibition, Winners
from neurosbd.rules.threshold_adaptation import ThresholdAdaptation
from tests.contracts.tables import seeded
from tests.test_fit import StopAfter

STEPS = 8


def maps(padding: int = 0, stride: int = 1, channels: int = 3, neuron: Any = None) -> Network:
    """Inputs 2 x 6 x 6 and maps that add them up."""
    side = (6 + 2 * padding - 3) // stride + 1
    populations = [
        Population("input", (2, 6, 6), None),
        Population("features", (channels, side, side), neuron or IF(v_threshold=1.5, reset="none")),
        Population("output", (4,), IF(reset="none")),
    ]
    kernels = Conv2d(3, stride=stride, padding=padding, weight=Normal(0.4, 0.2))
    connections = [
        Connection("input", "features", kernels),
        Connection("features", "output", Dense(), plastic=False),
    ]
    return Network(populations, connections, seeded()).double()


def made(network: Network, **constants: Any) -> Learner:
    return neurosbd.learner(network, RULES["wta_stdp"](**constants), "cross_entropy")


def drawn_steps(examples: int) -> Tensor:
    return torch.randint(0, STEPS + 3, (examples, 2, 6, 6), generator=seeded()).clamp(max=STEPS)


def shown(step: Tensor) -> Tensor:
    """Spikes [T, B, *size] of inputs that spike once, in these steps; T: never."""
    return (torch.arange(STEPS).view(-1, *(1,) * step.dim()) == step).double()


def changes(learner: Learner, step: Tensor, observers: tuple[Any, ...] = ()) -> Tensor:
    """What one batch adds to the kernels at a learning rate of 1."""
    learner.network.zero_grad()
    learner.learn(Batch(shown(step), torch.zeros(len(step), dtype=torch.int64)), observers)
    gradient = learner.network.weights["input->features"].grad
    assert gradient is not None
    return -gradient


def by_hand(network: Network, step: Tensor, most: int, radius: int, slope: float) -> Tensor:
    """One example, event by event: spikes arrive in the order of time, a unit that crosses its threshold wants to win,
    and wins unless its channel or one near it has won."""
    geometry = network.connections["input->features"].geometry
    assert isinstance(geometry, Conv2d)
    kernel, padding, stride = geometry.kernel, geometry.padding, geometry.stride
    weight = network.weights["input->features"].detach()
    channels, side, _ = network.populations["features"].size
    change, won = torch.zeros_like(weight), []
    potential = torch.zeros(channels, side, side, dtype=torch.float64)
    fired = torch.zeros_like(potential, dtype=torch.bool)

    def field(r: int, q: int) -> list[tuple[int, int, int, int]]:
        """(input channel, row and column of the kernel, step of the input) of a unit."""
        found = []
        for i in range(2):
            for y in range(kernel):
                for x in range(kernel):
                    row, column = stride * r + y - padding, stride * q + x - padding
                    inside = 0 <= row < 6 and 0 <= column < 6
                    found.append((i, y, x, int(step[i, row, column]) if inside else STEPS))
        return found

    for now in range(STEPS):
        new = []
        for c in range(channels):
            for r in range(side):
                for q in range(side):
                    potential[c, r, q] += sum(weight[c, i, y, x].item() for i, y, x, at in field(r, q) if at == now)
                    if potential[c, r, q] > 1.5 and not fired[c, r, q]:
                        fired[c, r, q] = True
                        new.append((-potential[c, r, q].item(), c, r, q))
        for _, c, r, q in sorted(new):
            near = any(c == d or max(abs(r - s), abs(q - p)) <= radius for d, s, p in won)
            if near or len(won) == most:
                continue
            won.append((c, r, q))
            for i, y, x, at in field(r, q):
                w = weight[c, i, y, x].item()
                change[c, i, y, x] = 0.3 * math.exp(-slope * w) if at <= now else -0.1 * math.exp(-slope * (1 - w))
    return change


@pytest.mark.parametrize(
    ("padding", "stride", "winners", "radius", "slope"),
    [(0, 1, 3, 1, 0.0), (1, 1, 2, 0, 1.5), (1, 2, 3, 1, 0.0), (1, 2, 1, 0, 0.0)],
)
def test_an_example_is_a_loop_over_events(padding: int, stride: int, winners: int, radius: int, slope: float) -> None:
    """A golden case: 3 examples, each against a loop over events, 1e-12, alone, watched, in blocks and as one batch.

    Must fail when inputs beyond the border count as in time (tried), a channel wins twice (tried), or the neighbours of
    a winner win (tried).
    """
    network, steps = maps(padding, stride), drawn_steps(3)
    constants = {"a_plus": 0.3, "a_minus": 0.1, "slope": slope, "winners": winners, "radius": radius}
    learner, seen = made(network, **constants), []

    def look(t: int, frame: Frame) -> None:
        seen.append(t)

    alone = [by_hand(network, step, winners, radius, slope) for step in steps]
    for length in (3, None):
        network.block = length
        for step, expected in zip(steps, alone, strict=True):
            torch.testing.assert_close(changes(learner, step[None]), expected, rtol=0, atol=1e-12)
            torch.testing.assert_close(changes(learner, step[None], (look,)), expected, rtol=0, atol=1e-12)
        torch.testing.assert_close(changes(learner, steps), torch.stack(alone).mean(0), rtol=0, atol=1e-12)
    assert all(change.any() for change in alone) and len(seen) == 6 * STEPS


def test_a_winner_silences_its_channel_and_its_neighbours() -> None:
    """By hand: earlier, then higher; silent units never win; a vector has channels of one position.

    Must fail when the radius counts from the border of the neighbourhood (tried), or silent units win (tried).
    """
    time = torch.ones(1, 3, 4, 4)
    potential = torch.full((1, 3, 4, 4), 9.0)
    for channel, row, column, at, height in ((0, 0, 0, 0.25, 2.0), (0, 3, 3, 0.25, 1.5), (1, 1, 1, 0.25, 1.8)):
        time[0, channel, row, column], potential[0, channel, row, column] = at, height
    for channel, row, column in ((1, 3, 3), (2, 2, 3)):
        time[0, channel, row, column], potential[0, channel, row, column] = 0.5, 1.0
    spikes = Spikes(time, potential)
    wide, narrow = (LateralInhibition(3, radius).among(spikes) for radius in (1, 0))
    assert list(zip(wide.channel.tolist(), wide.place.tolist(), strict=True)) == [(0, 0), (1, 15)]
    assert list(zip(narrow.channel.tolist(), narrow.place.tolist(), strict=True)) == [(0, 0), (1, 5), (2, 11)]
    assert narrow.time.tolist() == [0.25, 0.25, 0.5]
    flat = LateralInhibition(2, 5).among(Spikes(torch.tensor([[0.5, 0.25, 0.25]]), torch.tensor([[3.0, 1.0, 2.0]])))
    assert flat.channel.tolist() == [2, 1]
    assert not len(LateralInhibition(2).among(Spikes(torch.ones(2, 3), torch.full((2, 3), 5.0))).example)


ADAPTING: dict[str, Any] = {
    "a_plus": 0.1, "a_minus": 0.1, "slope": 1.0, "winners": 1, "radius": 0, "positions": 1, "threshold_rate": 0.5,
    "target_time": 0.1, "lowest_threshold": 1.0, "annealing": 0.5,
}  # fmt: skip


def adapted_by_hand(weight: Tensor, threshold: Tensor, step: Tensor, row: int, column: int, rate: float) -> None:
    """One example as the published simulator has it, in place: the spikes of one patch in the order of time, the first
    channel above its threshold moves all thresholds and its own kernel."""
    patch = step[:, row : row + 3, column : column + 3]
    for now in range(STEPS):
        potential = (weight * (patch <= now)).sum((1, 2, 3))
        above = potential > threshold
        if not above.any():
            continue
        winner = int(potential.masked_fill(~above, -math.inf).argmax())
        for c in range(len(threshold)):
            threshold[c] -= rate * (now / STEPS - 0.1)
            threshold[c] += rate if c == winner else -rate / (len(threshold) - 1)
            threshold[c] = max(1.0, threshold[c].item())
        w = weight[winner]
        weight[winner] = torch.where(patch <= now, w + 0.1 * torch.exp(-w), w - 0.1 * torch.exp(w - 1)).clamp(0, 1)
        return


def test_thresholds_adapt_as_in_the_published_loop() -> None:
    """A golden case: 40 examples at one random position each, half at a smaller rate: kernels and thresholds against a
    loop over the spikes of a patch, float64, 1e-12.

    Must fail when losers keep their thresholds (tried), the target time counts for the winner alone (tried), thresholds
    fall below the lowest (tried), or the rate stays as it is after an epoch (tried).
    """
    network = maps(channels=5, neuron=LearnedThreshold(1.5))
    learner = made(network, **ADAPTING)
    weight, bounds = network.weights["input->features"], []
    weight.data.clamp_(0, 1)
    expected, threshold = weight.detach().clone(), torch.full((5,), 1.5, dtype=torch.float64)
    key = learner.state_dict()["tensors"]["key"]
    for number, step in enumerate(drawn_steps(40)):
        learner.progress = (number + 1) / 40
        if number == 20:
            learner.after_epoch(1)
        place = int(uniform(key, torch.tensor(number), torch.zeros(16, dtype=torch.float64)).argmin())
        adapted_by_hand(expected, threshold, step, place // 4, place % 4, 0.5 if number < 20 else 0.25)
        with torch.no_grad():
            weight.add_(changes(learner, step[None])).clamp_(0, 1)
        learner.after_step()
        torch.testing.assert_close(weight.detach(), expected, rtol=0, atol=1e-12)
        found = network.moments("features").threshold
        torch.testing.assert_close(found.flatten(), threshold, rtol=0, atol=1e-12)
        bounds.append(found.min().item())
    assert min(bounds) == 1.0 and threshold.std() > 0.1


def test_moves_of_thresholds_add_up_over_a_batch() -> None:
    """By hand: two winners of channel 0, one of channel 2; at the target time all moves together are 0. Must fail when
    the mean over winners is taken (tried)."""
    example, channel, place = torch.tensor([[0, 0, 1], [0, 0, 2], [3, 4, 5]])
    winners = Winners(example, channel, place, torch.full((3,), 0.75))
    adaptation, like = ThresholdAdaptation(threshold_rate=1.0, target_time=0.75), torch.zeros(3, dtype=torch.float64)
    assert adaptation.moves(winners, 3, like).tolist() == [2 - 0.5, -1.5, 1 - 1.0]
    late = winners._replace(time=torch.tensor([1.0, 0.75, 0.75]))
    assert adaptation.moves(late, 3, like).sum().item() == pytest.approx(-0.75)
    none = torch.zeros(0, dtype=torch.int64)
    nobody = Winners(none, none, none, torch.zeros(0))
    assert not adaptation.moves(nobody, 3, like).any()


def test_units_win_at_drawn_positions_alone() -> None:
    """Those of the smallest numbers, each example its own; over many batches all positions alike, and a part of a batch
    as in the whole. Must fail when all examples have one position (tried), or a batch has those of the last (tried)."""
    spikes = Spikes(torch.full((2, 3, 2, 2), 0.5), torch.rand(2, 3, 2, 2, generator=seeded()))
    draw = torch.tensor([[0.1, 0.9, 0.2, 0.8], [0.9, 0.1, 0.8, 0.7]])
    found = LateralInhibition(3, 0, positions=2).among(spikes, draw)
    places = {(int(b), int(p)) for b, p in zip(found.example, found.place, strict=True)}
    assert places == {(0, 0), (0, 2), (1, 1), (1, 3)}

    learner, part = (made(maps(neuron=LearnedThreshold(0.1)), **ADAPTING | {"lowest_threshold": 0.1}) for _ in range(2))
    step = torch.zeros(6, 2, 6, 6, dtype=torch.int64)
    seen: list[Tensor] = []
    among = LateralInhibition.among

    def noted(self: LateralInhibition, spikes: Spikes, draw: Tensor | None = None) -> Winners:
        assert draw is not None
        seen.append(draw)
        return among(self, spikes, draw)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(LateralInhibition, "among", noted)
        for number in range(50):
            learner.progress = (number + 1) / 50
            changes(learner, step)
            learner.after_step()
        part.learn(Batch(shown(step[4:]), torch.zeros(2, dtype=torch.int64), batch_size=6, first=4))
    assert torch.equal(seen[-1], seen[0][4:])
    where = torch.cat(seen[:-1]).argmin(1)
    assert torch.bincount(where, minlength=16).min() > 5  # of 300 examples at 16 positions, 19 expected


def test_learned_thresholds_are_those_of_the_network() -> None:
    """A unit at learned thresholds is an `if` at them, in each step and in blocks, in any type, and its network keeps
    them with the weights. Must fail when the network goes on with the thresholds of the start (tried)."""
    network, step = maps(channels=2, neuron=LearnedThreshold(1.5)), drawn_steps(3)
    network.set_moments({"features": (torch.tensor([1.0, 2.5]).view(2, 1, 1).double(),)})
    for block in (1, 3, None):
        network.block = block
        spikes, expected = [], []
        plain = maps(channels=2, neuron=IF(v_threshold=torch.tensor([1.0, 2.5]).view(2, 1, 1), reset="none"))
        plain.weights["input->features"].data.copy_(network.weights["input->features"])
        for there, into in ((network, spikes), (plain, expected)):
            neurosbd.unroll(there, shown(step), [lambda t, f, into=into: into.append(f.activity["features"].value)])
        assert torch.equal(torch.stack(spikes), torch.stack(expected)) and torch.stack(spikes).any()
    other = maps(channels=2, neuron=LearnedThreshold(1.5))
    other.load_state_dict(network.state_dict())
    neuron = other.float().populations["features"].neuron
    assert isinstance(neuron, IF) and torch.as_tensor(neuron.v_threshold).flatten().tolist() == [1.0, 2.5]


@pytest.mark.parametrize(
    ("constants", "message"),
    [
        ({"threshold_rate": -0.1}, "threshold_rate must be a number >= 0"),
        ({"target_time": 0.0}, "target_time must be above 0 and below 1"),
        ({"target_time": 1.0}, "target_time must be above 0 and below 1"),
        ({"lowest_threshold": 0.0}, "lowest_threshold must be a positive number"),
        ({"annealing": 1.5}, r"annealing must be in 0\.\.1"),
        ({"positions": 0}, "positions must be"),
        ({"threshold_rate": 0.5}, r"population 'features': rule.threshold_rate = 0.5.*kind to 'learned_threshold'"),
    ],
)
def test_adaptation_that_makes_no_sense_is_refused(constants: dict[str, Any], message: str) -> None:
    """With the constant, and the neuron that would do. Must fail when thresholds that start below the lowest are lifted
    to it by the first winner (tried)."""
    with pytest.raises(ValueError, match=message):
        made(maps(), **constants)
    with pytest.raises(ValueError, match="one channel"):
        made(maps(channels=1, neuron=LearnedThreshold()), threshold_rate=0.5)
    with pytest.raises(ValueError, match=r"thresholds of 0\.5, below rule.lowest_threshold = 1; raise its v_threshold"):
        made(maps(channels=2, neuron=LearnedThreshold(0.5)), threshold_rate=0.5)
    with pytest.raises(ValueError, match="v_threshold must be a positive number"):
        LearnedThreshold(0.0)


def test_populations_learn_one_after_another() -> None:
    """Two layers, half of the training each, whatever lies between them. Must fail when all learn at once (tried)."""
    populations = [
        Population("input", (4,), None),
        Population("first", (3,), IF(v_threshold=0.5, reset="none")),
        Population("once", (3,), IF(v_threshold=0.5, reset="none", refractory=1.0)),
        Population("second", (3,), IF(v_threshold=0.5, reset="none")),
    ]
    one = Dense(weight=INITIALISERS["diagonal"]())
    connections = [
        Connection("input", "first", Dense(weight=Normal(0.4, 0.1))),
        Connection("first", "once", one, plastic=False),
        Connection("once", "second", Dense(weight=Normal(0.4, 0.1))),
    ]
    network = Network(populations, connections, seeded()).double()
    learner = made(network)
    step = torch.tensor([[0, 1, 2, 3], [3, 2, 1, 0]])
    for progress, taught in (
        (0.0, "input->first"),
        (0.49, "input->first"),
        (0.5, "once->second"),
        (1.0, "once->second"),
    ):
        learner.progress = progress
        network.zero_grad()
        learner.learn(Batch(shown(step), torch.zeros(2, dtype=torch.int64)))
        assert [name for name, weight in network.weights.items() if weight.grad is not None] == [taught]


@pytest.mark.parametrize(
    ("neuron", "geometry", "said"),
    [
        (LIF(), Conv2d(3), r"population 'features'.*add up what arrives.*got LIF"),
        (IF(reset="none", refractory=1.0), Conv2d(3), r"population 'features'.*without refractoriness"),
        (IF(reset="none"), Conv2d(3, bias=True), r"input->features.*without a bias"),
        (IF(reset="none"), Conv2d(2, pool_drive=neurosbd.poolings["max"](2, 1)), r"input->features.*pool_drive"),
    ],
)
def test_networks_without_winners_are_refused(neuron: Any, geometry: Any, said: str) -> None:
    """With what would do."""
    populations = [Population("input", (2, 6, 6), None), Population("features", (3, 4, 4), neuron)]
    with pytest.raises(ValueError, match=said):
        made(Network(populations, [Connection("input", "features", geometry)], seeded()))


def test_a_difference_of_gaussians_by_hand() -> None:
    """The value at its centre and the sum of 0, ON and OFF; must fail when the two Gaussians have one size (tried)."""
    weight = INITIALISERS["difference_of_gaussians"](value=3.0).draw((4, 2, 7, 7), seeded()).double()
    square = torch.tensor([[(y - 3) ** 2 + (x - 3) ** 2 for x in range(7)] for y in range(7)]).double()
    narrow, wide = torch.exp(-square / 2), torch.exp(-square / 8)
    expected = 1.5 * (narrow / narrow.sum() - wide / wide.sum())
    for row in range(4):
        torch.testing.assert_close(weight[row, 1], (1, -1)[row % 2] * expected, rtol=1e-5, atol=1e-7)
    assert weight.sum((1, 2, 3)).abs().max() < 1e-6
    with pytest.raises(ValueError, match="centre < surround"):
        INITIALISERS["difference_of_gaussians"](centre=2.0)
    with pytest.raises(ValueError, match="kind = 'conv2d'"):
        INITIALISERS["difference_of_gaussians"]().draw((4, 2), seeded())


SMALL: dict[str, Any] = {
    "data.name": "digits", "data.subset": 8, "data.test_subset": 2, "population.input.size": [1, 8, 8],
    "population.retina.size": [2, 6, 6], "population.retina.neuron.v_threshold": 3.0,
    "connection.0.kernel": 3, "population.features.size": [8, 4, 4],
    "connection.1.kernel": 3, "population.pooled.size": [8, 1, 1], "connection.2.pool.window": 4,
    "population.features.neuron.v_threshold": 3.0, "population.output.neuron.v_threshold": 1.0,
    "training.batch_size": 20, "training.epochs": 2,
}  # fmt: skip


def test_labels_change_nothing() -> None:
    """Bitwise, whatever they are and without any. Must fail when a winner is rewarded for the right class (tried)."""
    learner, steps, found = made(maps()), drawn_steps(4), []
    for target in (torch.tensor([0, 0, 0, 0]), torch.tensor([3, 1, 2, 0]), UNTAUGHT):
        learner.network.zero_grad()
        learner.learn(Batch(shown(steps), target))
        found.append(learner.network.weights["input->features"].grad)
    assert all(torch.equal(one, found[0]) for one in found) and found[0].any()


def moved(run: neurosbd.Run, start: Network) -> list[str]:
    """Connections whose weights a run has changed."""
    return [name for name, weight in run.network().weights.items() if not torch.equal(weight, start.weights[name])]


def test_features_learn_alone_and_a_readout_on_top_of_them(tmp_path: Path) -> None:
    """A run that is resumed moves kernels and thresholds alone, bit for bit; a readout of any size starts from it and
    moves its own synapses alone. Must fail when the readout of the run is taken for that of another size."""
    late = SMALL | {"rule.target_time": 0.9}  # so that no threshold ends at the lowest
    whole = neurosbd.fit("mnist-stdp-features", settings=late, out=tmp_path / "features")
    kernels, start = whole.network().weights["retina->features"], whole.definition.network()
    assert moved(whole, start) == ["retina->features"]
    assert not whole.result["warnings"] and "rule 'wta_stdp' hears no loss" in whole.unjudged["output"]
    assert kernels.min() >= 0 and kernels.max() <= 1 and kernels.std() > 1.2 * start.weights["retina->features"].std()
    part = neurosbd.fit("mnist-stdp-features", settings=late, out=tmp_path / "part", loggers=[StopAfter(3)])
    assert part.result["status"] == "interrupted"
    rest = neurosbd.fit("mnist-stdp-features", settings=late, out=tmp_path / "part", resume=True)
    assert torch.equal(rest.network().weights["retina->features"], kernels)
    threshold, *others = (each.network().moments("features").threshold for each in (whole, rest))
    assert torch.equal(others[0], threshold) and threshold.std() > 0.01

    readout: dict[str, Any] = {"training.epochs": 3}
    same = neurosbd.fit("mnist-stdp-readout", settings=SMALL | readout, start=whole, out=tmp_path / "readout")
    assert moved(same, whole.network()) == ["pooled->output"]
    pairs = {"population.output.size": [20], "rule.units_per_class": 2, "rule.others": 1}
    with pytest.warns(UsageWarning, match=r"readout has 10 units, and 'output' has 20: weights.pooled->output start"):
        other = neurosbd.fit("mnist-stdp-readout", settings=SMALL | readout | pairs, start=whole, out=tmp_path / "20")
    assert torch.equal(other.network().weights["retina->features"], kernels)
    assert torch.equal(other.network().moments("features").threshold, threshold)
    assert len(other.network().weights["pooled->output"]) == 20
