"""One run of a local rule: the traces that live as long as the run, and one step of learning."""

from collections import deque
from dataclasses import dataclass, field
from functools import partial
from typing import Any, NamedTuple, cast

import torch
from torch import Tensor, nn

from neurosbd.connections.synapses import Synapses
from neurosbd.eligibility import ELIGIBILITIES, EligibilityName
from neurosbd.eligibility.local import Arrival, Local, Selective, Site
from neurosbd.expansions import matched
from neurosbd.filters import decay
from neurosbd.learning.composition import Composition
from neurosbd.learning.passes import LearningObserver, add_gradient
from neurosbd.learning.ranks import ALONE, Ranks
from neurosbd.learning.rule_state import LocalState, outgoing, plastic
from neurosbd.losses.curvature import curved
from neurosbd.network import Connection, Frame, Network
from neurosbd.neuromodulators.neuromodulator import Broadcast, Correlating, HasHead, Reading, Receiver
from neurosbd.neurons.neuron import Activity, Coupled, Neuron, Stochastic, gated
from neurosbd.plasticity import ThreeFactor


class Plan(NamedTuple):
    """How a population learns: which plasticity and eligibility its plastic synapses follow."""

    plasticity: Any
    eligibility: Any
    connections: list[Connection]


@dataclass
class LocalTraces:
    """What a local rule follows in a run, and what goes on when the run goes on over several batches.

    eligibility, plasticity: states by connection.
    filtered: activity as the neuromodulator sees it, by population.
    underway: third factors on their way, by population.
    """

    eligibility: dict[str, object] = field(default_factory=dict)
    plasticity: dict[str, object] = field(default_factory=dict)
    filtered: dict[str, Tensor] = field(default_factory=dict)
    underway: dict[str, deque[Tensor | None]] = field(default_factory=dict)


class LocalRun:
    """The traces of one run and the order in which everything learns.

    Args:
        network: that runs.
        rule: what to carry out.
        rule_state: of the rule; brought up to date as it goes on.
        learning_observer: sees third factors and eligibilities; none: nobody does.
        traces: to go on from; none: nothing has happened yet.
        ranks: processes that share the batch.
    """

    def __init__(
        self,
        network: Network,
        rule: Composition,
        rule_state: LocalState,
        learning_observer: LearningObserver | None = None,
        traces: LocalTraces | None = None,
        ranks: Ranks = ALONE,
    ) -> None:
        self.network = network
        self.rule = rule
        self.rule_state = rule_state
        self.ranks = ranks
        self.learning_observer = learning_observer
        self.kappa = _kappa(network)
        self.plans = plans(network, rule)
        self.traces = traces or LocalTraces()
        self.correlated: Tensor | None = None  # activity of this step through the correlations with it, [B, C + D]

    def step(self, frame: Frame, broadcast: Broadcast) -> None:
        """Learn from one frame; its activity leaves it.

        Args:
            frame: of the network, just stepped.
            broadcast: the score or the reward of the step, its score not yet expanded.
        """
        broadcast = self._complete(broadcast, frame)  # by the activity of the readout, before it leaves the frame
        self.correlated = None
        # From the input up: the largest maps go first, before the gradients pile up.
        for name, plan in self.plans.items():
            activity = frame.activity.pop(name)
            if name in self.network.heads:
                judged = broadcast.score_of(activity.value) if broadcast.scored else None
                third_factor = None if judged is None else judged * broadcast.weight
            elif name == self.network.readout and self.rule.readout != "rule":
                third_factor = self._output_score(broadcast) * broadcast.weight if broadcast.scored else None
            else:
                third_factor = self._third_factor(name, activity, broadcast)
            if self.learning_observer is not None:
                self.learning_observer.on_third_factor(name, third_factor)
            for connection in plan.connections:
                gradient = self.follow(connection, plan, activity, third_factor, frame)
                if gradient is not None:
                    add_gradient(self.network.synapses(connection), gradient)

    def regularise_weights(self) -> None:
        """After the last step of a batch: what the weights ask for themselves; of several ranks one says it."""
        for name, states in self.rule_state.upkeep.items():
            connection = self.network.connections[name]
            synapses, present = self.network.synapses(connection), self.network.present(connection)
            for number, upkeep in enumerate(self.rule.upkeep):
                pull, states[number] = upkeep.step(states[number], synapses, present)
                if self.ranks.rank:
                    continue
                for parameter, change in zip(synapses, pull or (), strict=pull is not None):
                    if parameter is not None and change is not None:  # the state's own, so nothing may be added to it
                        parameter.grad = change.clone() if parameter.grad is None else parameter.grad.add_(change)

    def _complete(self, broadcast: Broadcast, frame: Frame) -> Broadcast:
        """With the expansion of the score and the score at the drive of the readout, where there are any."""
        if not broadcast.scored:
            return broadcast
        drive_score = None
        if self.rule.neuromodulator is not None and not self.rule.rewarded:
            neuron = self.network.populations[self.network.readout].neuron
            assert neuron is not None
            drive_score = gated(neuron, frame.activity[self.network.readout], broadcast.score, self.network.dt)
        return broadcast._replace(
            score=self._expanded(broadcast), output_drive_score=drive_score, n_expanded=self.rule_state.n_expanded
        )

    def _expanded(self, broadcast: Broadcast) -> Tensor:
        """The score and all blocks of its expansion, each as loud as it, side by side, [B, C + D]."""
        if not self.rule.expansion:
            return broadcast.score
        columns, states, moments = [broadcast.score], self.rule_state.expansion, self.rule_state.moments
        for number, block in enumerate(self.rule.expansion):
            column, states[number] = block.step(states[number], broadcast, self.network.dt)
            column, moments[number] = matched(
                moments[number], broadcast.score, column, block.weight, broadcast.step_share
            )
            columns.append(column)
        return torch.cat(columns, 1)

    def _output_score(self, broadcast: Broadcast) -> Tensor:
        """d loss / d output and, if that is broadcast forward, d sum of 1/2 ||R||^2 / d output; [B, C]."""
        outputs = broadcast.score.shape[1] - broadcast.n_expanded
        score = broadcast.score[:, :outputs]
        if self.correlated is None:
            return score
        direction = self.correlated[:, :outputs]  # the rows of an expansion are left alone
        moved = curved(broadcast.loss.per_example, broadcast.output, broadcast.target, direction)
        return torch.add(score, moved, alpha=self.rule.forward_broadcast / broadcast.examples)

    def _third_factor(self, name: str, activity: Activity, broadcast: Broadcast) -> Tensor | None:
        """Of a population that follows the rule, [B, *size]; None: there is none at this step."""
        modulator, states = self.rule.neuromodulator, self.rule_state.modulators
        receiver = Receiver(self._filtered(name, activity), outgoing(self.network, name))
        third_factor = None
        if modulator is not None and (broadcast.reward is not None if self.rule.rewarded else broadcast.scored):
            if isinstance(modulator, HasHead):
                reading = modulator.read(states[name], receiver, broadcast)
                _teach(modulator.head(states[name]), reading, broadcast.weight)
                receiver = receiver._replace(reading=reading)
            sums = self.ranks.total(*modulator.statistics(states[name], receiver, broadcast))
            states[name] = modulator.update(states[name], sums, broadcast)
            third_factor = modulator.third_factor(states[name], receiver, broadcast)
            if self.rule.forward_broadcast:
                through = cast(Correlating, modulator).correlated(states[name], receiver)
                self.correlated = through if self.correlated is None else self.correlated + through
            if not self.rule.rewarded and broadcast.weight != 1:
                third_factor = _scaled(third_factor, broadcast.weight)
        if self.rule.delay:
            queue = self.traces.underway.setdefault(name, deque([None] * self.rule.delay))
            queue.append(third_factor)
            third_factor = queue.popleft()
        return self._add_homeostasis(name, activity, third_factor, broadcast) if broadcast.scored else third_factor

    def _add_homeostasis(
        self, name: str, activity: Activity, third_factor: Tensor | None, broadcast: Broadcast
    ) -> Tensor | None:
        """The third factor and what the activity of a hidden population asks for itself, undelayed."""
        states = self.rule_state.homeostasis.get(name, [])
        for number, homeostasis in enumerate(self.rule.homeostasis[: len(states)]):
            pull, states[number] = homeostasis.step(states[number], activity.value, broadcast.step_share)
            pull = pull if broadcast.weight == 1 else _scaled(pull, broadcast.weight)
            third_factor = pull if third_factor is None else _sum(third_factor, pull)
        return third_factor

    def _filtered(self, name: str, activity: Activity) -> Tensor:
        """The activity as the neuromodulator sees it: (1 - a) filtered with decay a, or as it is."""
        if self.rule.activity_filter is None:
            return activity.value
        factor = decay(self.rule.activity_filter, self.network.dt)
        before = self.traces.filtered.get(name)
        before = torch.zeros_like(activity.value) if before is None else before
        self.traces.filtered[name] = torch.lerp(activity.value, before, factor)
        return self.traces.filtered[name]

    def follow(
        self, connection: Connection, plan: Plan, activity: Activity, third_factor: Tensor | None, frame: Frame
    ) -> Synapses | None:
        """Advance the traces of one connection; its gradient at this step."""
        network, name, dt = self.network, connection.name, self.network.dt
        synapses, neuron = network.synapses(connection), network.populations[connection.post].neuron
        assert neuron is not None

        def outer(post: Tensor, pre: Tensor) -> Synapses:
            return connection.geometry.outer(synapses, post, pre)

        pre = frame.carried.pop(name)
        arrival = Arrival(pre, neuron, frame.state.neurons[connection.post], activity, synapses, outer)
        if name not in self.traces.eligibility:
            self.traces.eligibility[name] = plan.eligibility.init(arrival, dt)
        eligible, self.traces.eligibility[name] = plan.eligibility.step(self.traces.eligibility[name], arrival, dt)
        each, kappa = partial(connection.geometry.each, synapses), self.kappa
        local = Local(
            pre, activity, third_factor, synapses, eligible, outer, each, lambda: _surprise(neuron, activity), kappa,
            connection.compartment,
        )  # fmt: skip
        if name not in self.traces.plasticity:
            self.traces.plasticity[name] = plan.plasticity.init(local)
        gradient, self.traces.plasticity[name] = plan.plasticity.step(self.traces.plasticity[name], local, dt)
        if self.learning_observer is not None:
            pending = self.traces.plasticity[name]
            self.learning_observer.on_eligibility(
                name, lambda examples: plan.plasticity.eligibility(pending, local, examples)
            )
        return gradient


def plans(network: Network, rule: Composition) -> dict[str, Plan]:
    """How every population with plastic synapses learns.

    Raises:
        ValueError: naming the population, if it cannot.
    """
    found: dict[str, Plan] = {}
    for name in network.incoming:
        connections = plastic(network, name)
        by_gradient = name in network.heads or (name == network.readout and rule.readout == "gradient")
        # The readout's own gradient needs no waiting: its eligibility is filtered by its own leak already.
        plasticity = ThreeFactor() if by_gradient else rule.regulated
        asked = "exact" if by_gradient else rule.eligibility
        if connections:
            _check_coupled(network, name, plasticity)
            found[name] = Plan(plasticity, _eligibility(network, name, asked), connections)
    return found


def check(network: Network, rule: Composition) -> None:
    """Raise ValueError, naming the connection, unless the rule can follow every plastic synapse of the network."""
    kappa = _kappa(network)
    for name, plan in plans(network, rule).items():
        population = network.populations[name]
        assert population.neuron is not None
        for connection in plan.connections:
            place, synapses = connection.compartment, network.synapses(connection)
            site = Site(synapses, population.size, population.neuron, place, kappa, network.dt)
            try:
                for part in (plan.eligibility, plan.plasticity):
                    if isinstance(part, Selective):
                        part.check(site)
            except ValueError as problem:
                raise ValueError(f"connection '{connection.name}': {problem}") from None


def _teach(head: nn.Parameter, reading: Reading, weight: float) -> None:
    """Add the gradient of a head's own loss at a step of some weight to its `.grad`."""
    if head.grad is None:
        head.grad = torch.zeros_like(head)
    head.grad.addmm_(reading.score.t(), reading.activity, alpha=weight)


def _scaled(third_factor: Tensor, weight: float) -> Tensor:
    """third factor * weight; what is shared between positions stays shared, as one value in memory."""
    once = tuple(slice(1) if stride == 0 else slice(None) for stride in third_factor.stride())
    return (third_factor[once] * weight).expand(third_factor.shape)


def _sum(one: Tensor, other: Tensor) -> Tensor:
    """one + other; what both share between positions stays shared, as one value in memory."""
    strides = zip(one.stride(), other.stride(), strict=True)
    once = tuple(slice(1) if not (a or b) else slice(None) for a, b in strides)
    return (one[once] + other[once]).expand(one.shape)


def _check_coupled(network: Network, name: str, plasticity: object) -> None:
    """Raise ValueError if a plasticity wants the gain of every unit by itself and there is none."""
    neuron = network.populations[name].neuron
    if isinstance(neuron, Coupled) and not isinstance(plasticity, ThreeFactor):
        raise ValueError(
            f"population '{name}': the units of a {type(neuron).__name__} share {neuron.coupled}, so that none has an "
            f"eligibility of its own; use rule 'sbd', 'ebd', 'sbp' or 'dfa' without rate_cost, or 'bp'"
        )


def _surprise(neuron: Neuron, activity: Activity) -> Tensor:
    if not isinstance(neuron, Stochastic):
        raise ValueError(f"local.surprise() is of neurons that draw their spikes, such as 'escape', got {neuron!r}")
    return neuron.surprise(activity)


def _kappa(network: Network) -> float | None:
    """Decay of the readout per step; 0 for one that forgets at once, None where there is not one for all."""
    neuron = network.populations[network.readout].neuron
    assert neuron is not None
    filters = neuron.filters(network.dt)
    return (0.0, *filters)[-1] if filters is not None and len(filters) < 2 else None


def _eligibility(network: Network, name: str, asked: EligibilityName) -> Any:
    """What was asked for; where the factors are exact already, they are enough."""
    neuron = network.populations[name].neuron
    assert neuron is not None
    return ELIGIBILITIES["factorised" if neuron.factorises else asked]()
