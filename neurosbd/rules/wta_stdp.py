"""STDP by winners: channels of a map that spike first learn what they have seen, and nobody is told a label."""

from dataclasses import field

import torch
from torch import Tensor
from torch.nn import functional

from neurosbd.axes import is_map
from neurosbd.connections import Conv2d, Dense
from neurosbd.learning.batch import Batch, BatchResult
from neurosbd.learning.passes import Run
from neurosbd.learning.rule import TensorState
from neurosbd.losses import Loss
from neurosbd.network.network import Connection, Network
from neurosbd.noise import new_key, uniform
from neurosbd.rules.causal_window import CausalWindow
from neurosbd.rules.first_spike_rule import FirstSpikeRule
from neurosbd.rules.first_spikes import first_spikes, show, threshold_of
from neurosbd.rules.lateral_inhibition import LateralInhibition, Winners, receptive_fields
from neurosbd.rules.threshold_adaptation import TargetTime, ThresholdAdaptation
from neurosbd.schema.constants import Count, Fraction, NotNegative, Positive, Whole, constants


@constants(called="wta_stdp")
class WinnerSTDP(FirstSpikeRule):
    """Populations learn one after another, each for an equal share of the training, by the spikes of their winners.

        t[n] = first step with sum of w[c, i] over inputs i of unit n that have spiked > threshold, / steps
        d weight[c, i] = - mean_b sum over winners n of channel c of change(t[b, n], t[b, i])

    Args:
        window: what a winner does to the synapses of its channel.
        inhibition: who wins.
        adaptation: what every winner does to the thresholds of the channels.
    """

    window: CausalWindow = field(default_factory=CausalWindow)
    inhibition: LateralInhibition = field(default_factory=LateralInhibition)
    adaptation: ThresholdAdaptation = field(default_factory=ThresholdAdaptation)

    @property
    def hears_loss(self) -> bool:
        """Nor does the readout learn from it."""
        return False

    def check(self, network: Network, loss: Loss | None) -> None:
        """Integrate-and-fire units that only add up, behind dense or convolutional synapses."""
        for name in self.populations(network):
            self.check_onto(network, name)
            self._check_thresholds(network, name)
            for connection in network.incoming[name]:
                self._check(connection)

    def _check_thresholds(self, network: Network, name: str) -> None:
        rate = self.adaptation.threshold_rate
        if not rate:
            return
        if name not in network.adaptive:
            raise ValueError(
                f"population '{name}': rule.threshold_rate = {rate:g} moves its thresholds, which stay under neuron = "
                f"{{ kind = 'if' }}; set its kind to 'learned_threshold', or threshold_rate = 0"
            )
        if network.populations[name].size[0] < 2:
            raise ValueError(
                f"population '{name}': has one channel, and thresholds move by who wins of several; give it more "
                f"channels, or set rule.threshold_rate = 0"
            )
        lowest, (there,) = self.adaptation.lowest_threshold, network.moments(name)
        if (there.float() < lowest).any():  # or the first winner would lift them there without a word
            raise ValueError(
                f"population '{name}': has thresholds of {float(there.min()):g}, below rule.lowest_threshold = "
                f"{lowest:g}; raise its v_threshold, or lower lowest_threshold"
            )

    def begin(self, network: Network, loss: Loss | None, generator: torch.Generator) -> TensorState:
        """By what positions are drawn, how many batches there have been, and how much thresholds move."""
        some = next(network.parameters())
        batches = torch.zeros((), dtype=torch.int64, device=some.device)
        key = batches
        if self.inhibition.positions is not None:
            key = new_key(generator, "where units of a map may win", some.device)
        rate = some.new_full((), self.adaptation.threshold_rate).detach()
        return TensorState({"key": key.clone(), "batches": batches, "threshold_rate": rate})

    def _check(self, connection: Connection) -> None:
        geometry, where = connection.geometry, f"connection '{connection.name}'"
        if not isinstance(geometry, Dense | Conv2d) or geometry.bias:
            raise ValueError(
                f"{where}: this rule learns dense and convolutional connections without a bias; set kind = 'conv2d', "
                f"bias = false"
            )
        if isinstance(geometry, Conv2d) and geometry.pool_drive is not None:
            raise ValueError(
                f"{where}: this rule learns from the inputs of one winner, but pool_drive joins several positions; "
                f"set pool of the next connection instead"
            )

    def learn(self, state: TensorState, run: Run, batch: Batch) -> BatchResult:
        """Who spikes first in the population whose turn it is, and what that does to the weights of its channel."""
        network = run.network
        taught = self.populations(network)
        name = taught[min(int(run.progress.number * len(taught)), len(taught) - 1)]
        population = network.populations[name]
        showing = show(run, batch, 0, name)
        threshold = threshold_of(population).to(showing.potentials)
        spikes = first_spikes(showing.potentials, threshold)
        winners = self.inhibition.among(spikes, self._draw(state.tensors, batch, spikes.time))
        self._adapt(state.tensors, run, name, winners)
        error = functional.one_hot(winners.channel, population.size[0]).to(showing.potentials)
        time = winners.time[:, None].expand_as(error)
        examples = batch.examples(showing.potentials.shape[1])
        for connection in network.incoming[name]:
            seen = receptive_fields(connection.geometry, showing.arrived[connection.name], winners)
            self.leave(run, connection, error, time, seen, examples)
        return run.result()

    def _draw(self, tensors: dict[str, Tensor], batch: Batch, time: Tensor) -> Tensor | None:
        """A number for every position of each example, by its place in the whole batch; None: none is asked for."""
        if self.inhibition.positions is None:
            return None
        placed = torch.stack((tensors["key"], torch.full_like(tensors["key"], batch.first)))
        draw = uniform(placed, tensors["batches"], (time[:, 0] if is_map(time) else time[:, :1]).flatten(1))
        tensors["batches"] += 1
        return draw

    def _adapt(self, tensors: dict[str, Tensor], run: Run, name: str, winners: Winners) -> None:
        """Thresholds move, never below the lowest."""
        if not self.adaptation.threshold_rate:
            return
        (there,) = run.network.moments(name)
        (moves,) = run.ranks.total(self.adaptation.moves(winners, len(there), there))
        moved = there + (tensors["threshold_rate"] * moves).view_as(there)
        run.network.set_moments({name: (moved.clamp_(min=self.adaptation.lowest_threshold),)})

    def after_epoch(self, state: TensorState, network: Network, epochs: int) -> None:
        """Thresholds move less."""
        state.tensors["threshold_rate"] *= self.adaptation.annealing

    def schedules(self) -> str:
        """Who learns."""
        return "the turns of the populations"


def wta_stdp(
    a_plus: NotNegative = 0.1,
    a_minus: NotNegative = 0.1,
    slope: NotNegative = 0.0,
    w_min: float = 0.0,
    w_max: float = 1.0,
    winners: Count = 4,
    radius: Whole = 2,
    positions: Count | None = None,
    threshold_rate: NotNegative = 0.0,
    target_time: TargetTime = 0.75,
    lowest_threshold: Positive = 1.0,
    annealing: Fraction = 1.0,
) -> WinnerSTDP:
    """STDP by winners: the units of a map that spike first learn what made them spike, each for its whole channel.

        d weight[c, i] = -a_plus f_plus(w)     where input i of the winner of channel c spiked by the time of it
                          a_minus f_minus(w)   elsewhere, and of inputs that stay silent
        f_plus = exp(-slope (w - w_min) / (w_max - w_min)),   f_minus = exp(-slope (w_max - w) / (w_max - w_min))

    The first of all to spike wins; it silences its channel, and all channels within `radius` of it; then the first of
    the rest, up to `winners` of them. With a `threshold_rate` thresholds adapt, so that winners come to spike at
    `target_time` and all channels take turns; see `ThresholdAdaptation`. Without a teacher; a readout is taught
    afterwards, by s2_stdp say.

    Args:
        a_plus: size of potentiation, >= 0.
        a_minus: size of depression, >= 0.
        slope: how much less a weight moves near the bound it moves to, >= 0; 0: the same everywhere (additive).
        w_min: bound below, for `slope`.
        w_max: bound above, for `slope`.
        winners: most units that learn from an example, each of another channel.
        radius: rows and columns around a winner in which no other unit wins.
        positions: of a map at which units may win, drawn anew for every example; none: all.
        threshold_rate: how much thresholds move with a winner, in units of the potential, >= 0; 0: they stay.
        target_time: to which the spikes of winners are drawn, in trials, between 0 and 1.
        lowest_threshold: below which no threshold falls, in units of the potential, > 0.
        annealing: factor on threshold_rate after each epoch, 0..1.
    Source: Kheradpisheh, Ganjtabesh, Thorpe, Masquelier 2018, Neural Netw. 99, arXiv 1611.01421 (competition); Falez,
        Tirilly, Bilasco, Devienne, Boulet 2019, IJCNN, arXiv 1904.01908 (window with a slope, thresholds; there with
        one position and one winner).
    Differs: a batch is the mean over examples that all see one weight, and moves of thresholds add up over it; in the
        former a change goes with w (1 - w).
    """
    return WinnerSTDP(
        CausalWindow(a_plus, a_minus, slope, w_min, w_max),
        LateralInhibition(winners, radius, positions),
        ThresholdAdaptation(threshold_rate, target_time, lowest_threshold, annealing),
    )
