"""One run of a local rule: the traces that live as long as the run, and one step of learning. Layer 3."""

from collections import deque
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple, Protocol, cast

import torch
from torch import Tensor

from neurosbd.eligibility import ELIGIBILITIES, EligibilityName
from neurosbd.expansions import matched
from neurosbd.filters import decay
from neurosbd.losses.curvature import curved
from neurosbd.network import INPUT, Connection, Frame, Network
from neurosbd.process import Activity, Arrival, Correlating, Coupled, Heard, Local, Neuron, Scored, Stochastic, Synapses
from neurosbd.rule_state import RuleState, outgoing, plastic
from neurosbd.rules import LocalRule, ThreeFactor


class _Plan(NamedTuple):
    """How a population learns: which plasticity and eligibility its plastic synapses follow."""

    plasticity: Any
    eligibility: Any
    connections: list[Connection]


class _Told(NamedTuple):
    """What everyone is told at a step."""

    score: Tensor | None  # and its expansion, [B, C + D]
    output_drive_score: Tensor | None  # score times the gain of the readout, [B, C]
    reward: Tensor | None  # [B]
    weight: float  # of this step in the loss
    share: float  # of the batch that this step stands for
    score_of: Callable[[Tensor], Tensor]  # score that another output would have, [B, C] -> [B, C]


class LearningObserver(Protocol):
    """Whoever watches the learning itself; it changes nothing."""

    def on_third_factor(self, population: str, third_factor: Tensor | None) -> None:
        """The third factor of a population at this step, [B, *size]; None: silence."""
        ...

    def on_eligibility(self, connection: str, eligibility: Callable[[Tensor], Tensor]) -> None:
        """A connection has learned from this step; `eligibility` gives what waits there, of examples [E]."""
        ...


class LocalRun:
    """The traces of one run and the order in which everything learns.

    Args:
        network: that runs.
        rule: what to carry out.
        rule_state: of the rule; brought up to date as it goes on.
        progress: of the training, 0..1.
        task: of each example, [B].
        learning_observer: watches; none: nobody.
    """

    def __init__(
        self,
        network: Network,
        rule: LocalRule,
        rule_state: RuleState,
        progress: float,
        task: Tensor | None,
        learning_observer: LearningObserver | None = None,
    ) -> None:
        self.network = network
        self.rule = rule
        self.rule_state = rule_state
        self.progress = progress
        self.task = task
        self.learning_observer = learning_observer
        self.kappa = _kappa(network)
        self.plans: dict[str, _Plan] = {}
        for name in network.incoming:
            connections = plastic(network, name)
            by_gradient = name == network.readout and rule.readout == "gradient"
            # The readout's own gradient needs no waiting: its eligibility is filtered by its own leak already.
            plasticity = ThreeFactor() if by_gradient else rule.plasticity
            asked = "exact" if by_gradient else rule.eligibility
            if connections:
                _check_coupled(network, name, plasticity)
                self.plans[name] = _Plan(plasticity, _eligibility(network, name, asked), connections)
        self.eligibility: dict[str, Any] = {}
        self.plasticity_state: dict[str, Any] = {}
        self.activity_filter: dict[str, Tensor] = {}
        self.underway: dict[str, deque[Tensor | None]] = {}
        self.correlated: Tensor | None = None  # activity of this step through the correlations with it, [B, C + D]

    def step(self, frame: Frame, scored: Scored | None, reward: Tensor | None, weight: float, share: float) -> None:
        """Learn from one frame; its activity leaves it.

        Args:
            frame: of the network, just stepped.
            scored: the score of the step and where it comes from; None where there is none.
            reward: [B]; None where there is none.
            weight: of this step in the loss.
            share: of the batch that this step's score or reward stands for.
        """
        score = None if scored is None else scored.score
        output_drive_score = self._output_drive_score(
            frame, score
        )  # by the activity of the readout, before anything leaves the frame
        score_of = torch.zeros_like if scored is None else scored.score_of
        told = _Told(
            None if scored is None else self._expanded(scored), output_drive_score, reward, weight, share, score_of
        )
        self.correlated = None
        # From the input up: the largest maps go first, before the gradients pile up.
        for name, plan in self.plans.items():
            activity = frame.activity.pop(name)
            if name == self.network.readout and self.rule.readout != "rule":
                third_factor = None if scored is None else self._own_gradient(scored) * weight
            else:
                third_factor = self._third_factor(name, activity, told)
            if self.learning_observer is not None:
                self.learning_observer.on_third_factor(name, third_factor)
            for connection in plan.connections:
                gradient = self.follow(connection, plan, activity, third_factor, frame)
                if gradient is not None:
                    _add(self.network.synapses(connection), gradient, self.network.present(connection))

    def regularise_weights(self) -> None:
        """After the last step of a batch: what the weights ask for themselves."""
        for name, states in self.rule_state.upkeep.items():
            connection = self.network.connections[name]
            synapses, present = self.network.synapses(connection), self.network.present(connection)
            for number, upkeep in enumerate(self.rule.upkeep):
                pull, states[number] = upkeep.step(states[number], synapses, present)
                for parameter, change in zip(synapses, pull or (), strict=pull is not None):
                    if parameter is not None and change is not None:  # the state's own, so nothing may be added to it
                        parameter.grad = change.clone() if parameter.grad is None else parameter.grad.add_(change)

    def _own_gradient(self, scored: Scored) -> Tensor:
        """d loss / d output and, if that is broadcast forward, d sum of 1/2 ||R||^2 / d output; [B, C]."""
        score = scored.score
        if self.correlated is None:
            return score
        direction = self.correlated[:, : score.shape[1]]  # the rows of an expansion are left alone
        moved = curved(scored.loss.per_example, scored.output, scored.target, direction)
        return torch.add(score, moved, alpha=self.rule.forward_broadcast / len(score))

    def _third_factor(self, name: str, activity: Activity, told: _Told) -> Tensor | None:
        heard = self._hear(name, activity)
        modulator, rule_state = self.rule.neuromodulator, self.rule_state
        third_factor = None
        if modulator is not None and (told.reward if self.rule.rewarded else told.score) is not None:
            hearing = Heard(
                value=heard,
                score=activity.value.new_zeros((len(activity.value), 0)) if told.score is None else told.score,
                progress=self.progress,
                share=told.share,
                output_drive_score=told.output_drive_score,
                outgoing=outgoing(self.network, name),
                reward=told.reward,
                task=self.task,
                n_expanded=rule_state.n_expanded,
                score_of=told.score_of,
            )
            third_factor, rule_state.modulators[name] = modulator.step(
                rule_state.modulators[name], hearing, self.network.dt
            )
            if self.rule.forward_broadcast:
                through = cast(Correlating, modulator).correlated(rule_state.modulators[name], hearing)
                self.correlated = through if self.correlated is None else self.correlated + through
            if not self.rule.rewarded and told.weight != 1:
                third_factor = _scaled(third_factor, told.weight)
        if self.rule.delay:
            queue = self.underway.setdefault(name, deque([None] * self.rule.delay))
            queue.append(third_factor)
            third_factor = queue.popleft()
        return third_factor if told.score is None else self._add_homeostasis(name, activity, third_factor, told)

    def _add_homeostasis(
        self, name: str, activity: Activity, third_factor: Tensor | None, told: _Told
    ) -> Tensor | None:
        """The third factor and what the activity of a hidden population asks for itself, undelayed."""
        states = self.rule_state.homeostasis.get(name, [])
        for number, homeostasis in enumerate(self.rule.homeostasis[: len(states)]):
            pull, states[number] = homeostasis.step(states[number], activity.value, told.share)
            pull = pull if told.weight == 1 else _scaled(pull, told.weight)
            third_factor = pull if third_factor is None else _sum(third_factor, pull)
        return third_factor

    def _expanded(self, scored: Scored) -> Tensor:
        """The score and all blocks of its expansion, each as loud as it, side by side, [B, C + D]."""
        if not self.rule.expansion:
            return scored.score
        columns, states, moments = [scored.score], self.rule_state.expansion, self.rule_state.moments
        for number, block in enumerate(self.rule.expansion):
            own, states[number] = block.step(states[number], scored, self.network.dt)
            own, moments[number] = matched(moments[number], scored.score, own, block.weight, scored.share)
            columns.append(own)
        return torch.cat(columns, 1)

    def _output_drive_score(self, frame: Frame, score: Tensor | None) -> Tensor | None:
        """d loss / d drive of the readout."""
        if score is None or self.rule.neuromodulator is None or self.rule.rewarded:
            return None
        neuron = self.network.populations[self.network.readout].neuron
        assert neuron is not None
        return neuron.gate(frame.activity[self.network.readout], score, self.network.dt)

    def _hear(self, name: str, activity: Activity) -> Tensor:
        """The activity as the neuromodulator hears it: (1 - a) filtered with decay a, or as it is."""
        if self.rule.activity_filter is None:
            return activity.value
        factor = decay(self.rule.activity_filter, self.network.dt)
        before = self.activity_filter.get(name)
        before = torch.zeros_like(activity.value) if before is None else before
        self.activity_filter[name] = torch.lerp(activity.value, before, factor)
        return self.activity_filter[name]

    def follow(
        self, connection: Connection, plan: _Plan, activity: Activity, third_factor: Tensor | None, frame: Frame
    ) -> Synapses | None:
        """Advance the traces of one connection; its gradient at this step."""
        network, name, dt = self.network, connection.name, self.network.dt
        synapses, neuron = network.synapses(connection), network.populations[connection.post].neuron
        assert neuron is not None

        def outer(post: Tensor, pre: Tensor) -> Synapses:
            return connection.geometry.outer(synapses, post, pre)

        pre = frame.carried.pop(name)
        arrival = Arrival(pre, neuron, frame.state.neurons[connection.post], activity, synapses, outer)
        if name not in self.eligibility:
            self.eligibility[name] = plan.eligibility.init(arrival, dt)
        eligible, self.eligibility[name] = plan.eligibility.step(self.eligibility[name], arrival, dt)
        each, kappa = partial(connection.geometry.each, synapses), self.kappa
        local = Local(
            pre, activity, third_factor, synapses, eligible, outer, each, lambda: _surprise(neuron, activity), kappa,
            connection.compartment,
        )  # fmt: skip
        if name not in self.plasticity_state:
            self.plasticity_state[name] = plan.plasticity.init(local)
        gradient, self.plasticity_state[name] = plan.plasticity.step(self.plasticity_state[name], local, dt)
        if self.learning_observer is not None:
            waiting = self.plasticity_state[name]
            self.learning_observer.on_eligibility(
                name, lambda examples: plan.plasticity.eligibility(waiting, local, examples)
            )
        return gradient


def check(network: Network, rule: LocalRule) -> None:
    """Raise ValueError, naming the connection, unless the rule can follow every plastic synapse of the network."""
    x = next(network.parameters()).new_zeros((1, *network.populations[INPUT].size))
    with torch.no_grad():
        run = LocalRun(network, rule, RuleState(), 0.0, None)
        frame = network.step(network.init(x, torch.Generator()), x)
        for name, plan in run.plans.items():
            for connection in plan.connections:
                activity = frame.activity[name]
                silence = activity.value.new_zeros(()).expand_as(activity.value)  # as a reward spreads
                try:
                    run.follow(connection, plan, activity, silence, frame)
                except ValueError as problem:
                    raise ValueError(f"connection '{connection.name}': {problem}") from None


def _scaled(third_factor: Tensor, weight: float) -> Tensor:
    """third factor * weight; what is shared between positions stays shared, as one value in memory."""
    once = tuple(slice(1) if stride == 0 else slice(None) for stride in third_factor.stride())
    return (third_factor[once] * weight).expand(third_factor.shape)


def _sum(one: Tensor, other: Tensor) -> Tensor:
    """one + other; what both share between positions stays shared, as one value in memory."""
    strides = zip(one.stride(), other.stride(), strict=True)
    once = tuple(slice(1) if not (a or b) else slice(None) for a, b in strides)
    return (one[once] + other[once]).expand(one.shape)


def _check_coupled(network: Network, name: str, plasticity: Any) -> None:
    """Raise ValueError if a plasticity wants the gain of every unit by itself and there is none."""
    neuron = network.populations[name].neuron
    if isinstance(neuron, Coupled) and not isinstance(plasticity, ThreeFactor):
        raise ValueError(
            f"population '{name}': the units of a {type(neuron).__name__} share {neuron.coupled}, so that none has an "
            f"eligibility of its own; use rule 'sbd', 'ebd', 'sbp' or 'dfa' without rate_cost, or 'bp'"
        )


def _surprise(neuron: Neuron, activity: Activity) -> Tensor:
    if not isinstance(neuron, Stochastic):
        raise ValueError(
            f"a policy gradient needs neurons that draw their spikes, such as 'escape', got {type(neuron).__name__}"
        )
    return neuron.surprise(activity)


def _kappa(network: Network) -> float | None:
    """Decay of the readout per step; 0 for one that forgets at once, None where there is not one for all."""
    neuron = network.populations[network.readout].neuron
    assert neuron is not None
    try:
        filters = neuron.filters(network.dt)
    except ValueError:
        return None
    return (0.0, *filters)[-1] if len(filters) < 2 else None


def _eligibility(network: Network, name: str, asked: EligibilityName) -> Any:
    """What was asked for; where the factors are exact already, they are enough."""
    neuron = network.populations[name].neuron
    assert neuron is not None
    return ELIGIBILITIES["factorised" if neuron.factorises else asked]()


def _add(synapses: Synapses, gradient: Synapses, present: Tensor | None) -> None:
    """Add a gradient to `.grad`, leaving absent synapses alone.

    It lies in memory as its parameter does, since torch's fused optimizers do not look at the strides of a gradient.
    """
    if present is not None:
        gradient.weight.mul_(present)
    for parameter, change in zip(synapses, gradient, strict=True):
        if parameter is not None and change is not None:
            if parameter.grad is not None:
                parameter.grad.add_(change)
            elif change.stride() == parameter.stride():
                parameter.grad = change
            else:  # fused optimizers walk through both by their memory
                parameter.grad = torch.empty_like(parameter).copy_(change)
