"""A readout that learns when to spike first, with competing units of a class: S2-STDP, SSTDP, reward-modulated STDP."""

from dataclasses import field, replace
from typing import ClassVar

import torch
from torch import Tensor

from neurosbd.connections import Dense
from neurosbd.learning.batch import Batch, BatchResult
from neurosbd.learning.passes import Run
from neurosbd.learning.rule import TensorState
from neurosbd.losses import Loss
from neurosbd.network.network import Network
from neurosbd.rules.causal_window import CausalWindow
from neurosbd.rules.competition import Competition, Gap, Rewarded, Roles, Satisfied, Stabilised, Teacher
from neurosbd.rules.first_spike_rule import FirstSpikeRule
from neurosbd.rules.first_spikes import answer_of, first_spikes, show, threshold_of, winners
from neurosbd.schema.constants import Count, Fraction, NotNegative, Whole, constants


@constants(called="first_spike_readout")
class FirstSpikeReadout(FirstSpikeRule):
    """Every class has units that are to spike first where it is shown; what lies below the readout stays as it is.

        t[n] = first step with sum of w[n, i] over inputs i that have spiked > threshold[n], / steps; 1 if there is none
        d weight[n, i] = - mean_b change(error[b, n], t[b, n], t[b, i])

    Args:
        teacher: error of a unit.
        window: what an error does to its synapses.
        competition: among the units of one class.
    """

    labelled: ClassVar[bool] = True

    teacher: Teacher
    window: CausalWindow = field(default_factory=CausalWindow)
    competition: Competition = field(default_factory=Competition)
    loss: str | None = "cross_entropy"

    @property
    def units_per_class(self) -> int:
        """Those that compete."""
        return self.competition.units_per_class

    def check(self, network: Network, loss: Loss | None) -> None:
        """A readout of integrate-and-fire units that only add up, behind synapses that do not learn."""
        readout = network.populations[network.readout]
        units = self.units_per_class
        for connection in network.connections.values():
            where, onto = f"connection '{connection.name}'", connection.post == readout.name
            if connection.plastic and not onto:
                raise ValueError(
                    f"{where}: this rule teaches the readout alone; choose a model such as mnist-s2stdp, or set "
                    f"plastic = false where the network is to stay as it is"
                )
            if onto and (not isinstance(connection.geometry, Dense) or connection.geometry.bias):
                raise ValueError(f"{where}: this rule learns dense connections without a bias; set bias = false")
        self.check_onto(network, readout.name)
        if readout.size[0] % units:
            raise ValueError(
                f"population '{readout.name}': rule.units_per_class = {units} does not divide its {readout.size[0]} "
                f"units; set its size to classes x {units}"
            )

    def populations(self, network: Network) -> tuple[str, ...]:
        """The readout."""
        return (network.readout,)

    def begin(self, network: Network, loss: Loss | None, generator: torch.Generator) -> TensorState:
        """Thresholds as the model has them, and what is counted over an epoch."""
        some = next(network.parameters())
        threshold = some.new_empty(network.populations[network.readout].size).detach()
        threshold.copy_(_threshold(network))
        one = some.new_ones(()).detach()
        chance = self.units_per_class / len(threshold)
        return TensorState(
            {
                "threshold": threshold,
                "threshold_rate": one * self.competition.threshold_rate,
                "accuracy": one * chance,
                "right": one * 0,
                "seen": one * 0,
            }
        )

    def learn(self, state: TensorState, run: Run, batch: Batch) -> BatchResult:
        """Who spikes when, and what that does to the thresholds and the weights."""
        labels, network, tensors = batch.target, run.network, state.tensors
        showing = show(run, batch, len(labels), network.readout)
        steps, _, count = showing.potentials.shape
        of_class, target = self.competition.of_class(count, labels)
        threshold = torch.where(target, tensors["threshold"], _threshold(network).to(tensors["threshold"]))
        spikes = first_spikes(showing.potentials, threshold)
        roles = Roles(winners(spikes, self.units_per_class), target, of_class)
        error = self.teacher.error(spikes, roles, tensors["accuracy"])
        answer = answer_of(spikes, self.units_per_class, steps)
        self._count(tensors, run, self.competition.moves(spikes, target), answer.argmax(1) == labels)
        for connection in network.incoming[network.readout]:
            arrived = showing.arrived[connection.name]
            self.leave(run, connection, error, spikes.time, arrived, batch.examples(len(labels)))
        return run.judged(answer)

    def answer(self, state: TensorState, run: Run, batch: Batch) -> BatchResult:
        """The class whose units spike first, at the thresholds of the model."""
        examples = len(batch.target) if batch.taught else 0
        showing = show(run, batch, examples, run.network.readout)
        spikes = first_spikes(showing.potentials, _threshold(run.network).to(showing.potentials))
        return run.judged(answer_of(spikes, self.units_per_class, len(showing.potentials)))

    def _count(self, tensors: dict[str, Tensor], run: Run, moves: Tensor, right: Tensor) -> None:
        """Thresholds move, never below those of the model; hits are counted for a teacher that wants them."""
        if self.competition.threshold_rate:
            (moved,) = run.ranks.total(moves.sum(0) * tensors["threshold_rate"])
            lowest = _threshold(run.network).to(moved)
            tensors["threshold"].copy_(torch.maximum(tensors["threshold"] + moved, lowest))
        if self.teacher.heeds_accuracy:
            hits, seen = run.ranks.total(right.sum().to(moves), moves.new_tensor(float(len(right))))
            tensors["right"] += hits
            tensors["seen"] += seen

    def after_epoch(self, state: TensorState, network: Network, epochs: int) -> None:
        """Thresholds start again at those of the model, and move less."""
        tensors = state.tensors
        tensors["threshold"].copy_(_threshold(network))
        tensors["threshold_rate"] *= self.competition.annealing
        if self.teacher.heeds_accuracy and tensors["seen"] > 0:
            tensors["accuracy"].copy_(tensors["right"] / tensors["seen"])
            tensors["right"].zero_()
            tensors["seen"].zero_()


def _threshold(network: Network) -> Tensor:
    """Of the readout, as the model has it, [] or [n]."""
    return threshold_of(network.populations[network.readout])


def s2_stdp(
    gap: Gap = 0.05,
    a_plus: NotNegative = 0.1,
    a_minus: NotNegative = 0.1,
    slope: NotNegative = 0.0,
    w_min: float = 0.0,
    w_max: float = 1.0,
    units_per_class: Count = 1,
    others: Whole = 0,
    threshold_rate: NotNegative = 0.0,
    annealing: Fraction = 1.0,
) -> FirstSpikeReadout:
    """S2-STDP: units of a readout are drawn to spike at desired times around the mean of all, the right class first.

        error[n] = t[n] - t*[n],   t* = base - gap (1 - 1 / C) of the right class, base + gap / C of all others
        d weight[n, i] = -error[n] a_plus    where input i spiked by t[n];    error[n] a_minus    elsewhere

    With `units_per_class` > 1 units of a class compete, and the first to spike learns for its class: two, one of them
    for `others`, are paired competing neurons (PCN), more with a `threshold_rate` a neuronal competition group (NCG).

    Args:
        gap: between the times of the right class and of others, in trials, 0..1.
        a_plus: size of potentiation, >= 0.
        a_minus: size of depression, >= 0.
        slope: how much less a weight moves near the bound it moves to, >= 0; 0: the same everywhere.
        w_min: bound below, for `slope`.
        w_max: bound above, for `slope`.
        units_per_class: that compete; the readout has classes x units_per_class units, those of a class side by side.
        others: how many of these are trained to be late, as units of a wrong class are.
        threshold_rate: of the thresholds of competing units while they learn, in units of the potential, >= 0.
        annealing: factor on that after each epoch, 0..1.
    Source: Goupy, Tirilly, Bilasco 2024, Front. Neurosci. 18:1401690 (S2-STDP, PCN); arXiv 2410.17066 (NCG).
    Differs: the last input to spike can make a unit spike; a batch is the mean over examples that all see one weight.
    """
    competition = Competition(units_per_class, others, threshold_rate, annealing)
    return FirstSpikeReadout(Stabilised(gap), CausalWindow(a_plus, a_minus, slope, w_min, w_max), competition)


def sstdp(
    gap: Gap = 0.05,
    a_plus: NotNegative = 0.1,
    a_minus: NotNegative = 0.1,
    slope: NotNegative = 0.0,
    w_min: float = 0.0,
    w_max: float = 1.0,
    units_per_class: Count = 1,
    others: Whole = 0,
    threshold_rate: NotNegative = 0.0,
    annealing: Fraction = 1.0,
) -> FirstSpikeReadout:
    """SSTDP: as s2_stdp, but nobody learns who is on the right side of its desired time.

        error[n] = max(t[n] - t*[n], 0) of the right class, min(t[n] - t*[n], 0) of all others

    Args: as of s2_stdp.
    Source: Liu, Zhao, Chen, Wang, Jiang 2021, Front. Neurosci. 15:756876; as in Goupy, Tirilly, Bilasco 2024.
    Differs: as s2_stdp.
    """
    competition = Competition(units_per_class, others, threshold_rate, annealing)
    return FirstSpikeReadout(Satisfied(gap), CausalWindow(a_plus, a_minus, slope, w_min, w_max), competition)


def rstdp_readout(
    a_plus: NotNegative = 0.1,
    a_minus: NotNegative = 0.1,
    slope: NotNegative = 0.0,
    w_min: float = 0.0,
    w_max: float = 1.0,
    units_per_class: Count = 1,
    anti_plus: NotNegative | None = None,
    anti_minus: NotNegative | None = None,
) -> FirstSpikeReadout:
    """Reward-modulated STDP of a readout: the first unit to spike is rewarded if its class is right, else punished.

        error[n] = 1 - accuracy if right, -accuracy if wrong;  the accuracy is that of the epoch before

    A punishment has to weaken a unit. Most inputs are not in time, so with `anti_minus` as large as `anti_plus` it
    would make the sum of the weights larger, and one unit would go on spiking first, whatever is shown.

    Args: as of s2_stdp; units of a class do not compete, each stands for it.
        anti_plus: how much a punished synapse from an input in time loses, >= 0; None: a_plus.
        anti_minus: how much one from any other input gains, >= 0; None: an eighth of anti_plus, as in the source.
    Source: Mozafari et al. 2018, IEEE Trans. Neural Netw. Learn. Syst. 29; as in Goupy, Tirilly, Bilasco 2024.
    Differs: the accuracy before the first epoch is that of a guess, and later that of an epoch; changes go with
        w (1 - w) in the former; and as s2_stdp.
    """
    anti_plus = a_plus if anti_plus is None else anti_plus
    window = CausalWindow(a_plus, a_minus, slope, w_min, w_max, anti_plus, 0.0 if anti_minus is None else anti_minus)
    if anti_minus is None:  # by now it is known that anti_plus is a number
        window = replace(window, anti_minus=anti_plus / 8)
    return FirstSpikeReadout(Rewarded(), window, Competition(units_per_class))
