"""What a local rule has learned outside the synapses: projections, expectations, running statistics."""

from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from neurosbd.expansions import Moments, silent_moments
from neurosbd.files.checkpoints import StateDict
from neurosbd.learning.composition import Composition
from neurosbd.learning.plans import NetworkPlan, outgoing, plastic, ruled_populations
from neurosbd.losses import Loss
from neurosbd.network.network import Network
from neurosbd.neuromodulators.neuromodulator import Broadcast, Receiver
from neurosbd.neurons.neuron import Activity

State = Any  # a NamedTuple of tensors, or ()


@dataclass
class LocalState:
    """States that outlive the runs of a rule and are checkpointed with the network. States are NamedTuples of tensors.

    Args:
        modulators: of the neuromodulator, by population.
        homeostasis: of every homeostasis of the rule, by hidden population.
        upkeep: of every upkeep of the rule, by connection onto a hidden population.
        expansion: of every block of the expansion of the score.
        moments: of every block, by which it is made as loud as the score.
        n_expanded: columns of that expansion.
        traces: of the last batch, for weights that follow the activity when the optimizer has moved; not kept.
        network_plan: how the connections of the network learn; not kept.
    """

    modulators: dict[str, State] = field(default_factory=dict)
    homeostasis: dict[str, list[State]] = field(default_factory=dict)
    upkeep: dict[str, list[State]] = field(default_factory=dict)
    expansion: list[State] = field(default_factory=list)
    moments: list[Moments] = field(default_factory=list)
    n_expanded: int = 0
    traces: dict[str, State] = field(default_factory=dict)
    network_plan: NetworkPlan | None = None

    def plan_for(self, network: Network, rule: Composition) -> NetworkPlan:
        """How the connections of the network learn, worked out anew where it has been wired anew."""
        if self.network_plan is None or not self.network_plan.holds(network):
            self.network_plan = NetworkPlan.of(network, rule)
        return self.network_plan

    @property
    def parameters(self) -> dict[str, nn.Parameter]:
        """Heads of the neuromodulator, 'population.field'."""
        return {
            f"{name}.{key}": value
            for name, state in self.modulators.items()
            for key, value in _fields(state).items()
            if isinstance(value, nn.Parameter)
        }

    def state_dict(self) -> StateDict:
        """Plain containers of tensors."""
        return {
            "modulators": {name: _plain(state) for name, state in self.modulators.items() if state},
            "homeostasis": {name: [_plain(s) for s in states] for name, states in self.homeostasis.items()},
            "upkeep": {name: [_plain(s) for s in states] for name, states in self.upkeep.items()},
            "expansion": [_plain(state) for state in self.expansion],
            "moments": [_plain(state) for state in self.moments],
        }

    def load_state_dict(self, saved: StateDict) -> None:
        """Put back what `state_dict` gave.

        Raises:
            ValueError: if a projection has another shape than here; how much a homeostasis has kept may differ.
        """
        for name, state in self.modulators.items():
            if state:
                _check_shapes(name, state, saved["modulators"][name])
                self.modulators[name] = _like(state, saved["modulators"][name])
        for kind in ("homeostasis", "upkeep"):
            kept: dict[str, list[State]] = getattr(self, kind)
            for name, states in kept.items():
                kept[name] = [_like(*pair) for pair in zip(states, saved[kind][name], strict=True)]
        self.expansion = [_like(*pair) for pair in zip(self.expansion, saved["expansion"], strict=True)]
        self.moments = [_like(*pair) for pair in zip(self.moments, saved["moments"], strict=True)]


def _fields(state: State) -> dict[str, Tensor]:
    return state._asdict() if state else {}


def _plain(state: State) -> dict[str, Tensor]:
    """What a checkpoint holds; a Parameter without its gradient."""
    return {key: value.detach() for key, value in _fields(state).items()}


def _like(present: State, saved: dict[str, Tensor]) -> State:
    """A state of the same type as the present one, on its device; its Parameters are the same, since an optimizer has
    them."""
    if not present:
        return present
    return type(present)(**{key: _taken(value, saved[key]) for key, value in present._asdict().items()})


@torch.no_grad()
def _taken(present: Tensor, saved: Tensor) -> Tensor:
    return present.copy_(saved) if isinstance(present, nn.Parameter) else saved.to(present)


def _check_shapes(name: str, present: State, saved: dict[str, Tensor]) -> None:
    for key, value in present._asdict().items():
        there, here = list(saved[key].shape), list(value.shape)
        if there != here:
            raise ValueError(
                f"population '{name}': '{key}' of its neuromodulator is {there} there, {here} here; give it the size "
                f"and the layout of then"
            )


def init_rule_state(network: Network, rule: Composition, loss: Loss | None, generator: torch.Generator) -> LocalState:
    """The state of a rule before any learning; projections are drawn from `generator`.

    Args:
        network: with its parameters on their device.
        rule: whose state it is.
        loss: whose score is expanded; None for rules that get no score.
        generator: source of everything random.
    Raises:
        ValueError: naming the population, if the rule cannot reach it.
    """
    rule_state = LocalState()
    some = next(network.parameters())
    score = some.new_zeros((1, *network.populations[network.readout].size))
    unexpanded = _silent(network, rule, loss, score) if rule.expansion else None
    if unexpanded is not None:
        rule_state.n_expanded = sum(block.width(unexpanded) for block in rule.expansion)
        score = torch.cat((score, score.new_zeros(1, rule_state.n_expanded)), 1)
    broadcast = Broadcast(score, n_expanded=rule_state.n_expanded)
    for name in ruled_populations(network, rule):
        silence = some.new_zeros((1, *network.populations[name].size))
        try:
            if rule.neuromodulator is not None:
                ahead = outgoing(network, name)
                receiver = Receiver(silence, None if ahead is None else network.weights[ahead])
                rule_state.modulators[name] = rule.neuromodulator.init(receiver, broadcast, generator)
            if name != network.readout:
                rule_state.homeostasis[name] = [each.init(silence, generator) for each in rule.homeostasis]
                for connection in plastic(network, name):
                    synapses = network.synapses(connection)
                    rule_state.upkeep[connection.name] = [each.init(synapses) for each in rule.upkeep]
        except ValueError as problem:
            raise ValueError(f"population '{name}': {problem}") from None
    if unexpanded is not None:  # last, so that the projection of the score is the one without an expansion
        rule_state.expansion = [block.init(unexpanded, generator) for block in rule.expansion]
        rule_state.moments = [silent_moments(unexpanded.score) for _ in rule.expansion]
    return rule_state


def widths(network: Network, rule: Composition, loss: Loss) -> list[int]:
    """How many columns every block of the expansion has."""
    some = next(network.parameters())
    silent = _silent(network, rule, loss, some.new_zeros((1, *network.populations[network.readout].size)))
    return [block.width(silent) for block in rule.expansion]


def _silent(network: Network, rule: Composition, loss: Loss | None, output: Tensor) -> Broadcast:
    """What an expansion gets while nothing happens."""
    if loss is None or rule.rewarded:
        raise ValueError("only a score can be expanded, and this rule gets none; leave rule.expansion out")
    values = output.shape[1] // getattr(loss, "parameters", 1)
    silence = {
        name: Activity(*(output.new_zeros((1, *population.size)),) * 2)
        for name, population in network.populations.items()
    }
    return Broadcast(output, output, output[:, :values], loss, activity=broadcastable(network, silence))


def broadcastable(network: Network, activity: dict[str, Activity]) -> dict[str, Activity]:
    """The activity that may be broadcast: without that of heads, that of the readout last."""
    readout = network.readout
    if not network.heads and next(reversed(activity)) == readout:
        return activity
    others = {n: a for n, a in activity.items() if n != readout and n not in network.heads}
    return others | {readout: activity[readout]}
