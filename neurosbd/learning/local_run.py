"""One run of a local rule: the traces that live as long as the run, and one step of learning."""

from collections import deque
from collections.abc import Callable, Iterator, Mapping
from copy import deepcopy
from dataclasses import dataclass, field
from functools import partial
from types import MappingProxyType
from typing import cast

from torch import Tensor
from torch.optim import Optimizer

from neurosbd.connections.sparse import Sparse
from neurosbd.connections.synapses import Synapses
from neurosbd.eligibility.local import Arrival, Eligible, Local, membrane_of
from neurosbd.learning.composition import Composition
from neurosbd.learning.events import DirectUpdate, move
from neurosbd.learning.optimizers import plain_rates
from neurosbd.learning.passes import LearningObserver, add_gradient
from neurosbd.learning.plans import NetworkPlan, Plan, sides_of
from neurosbd.learning.ranks import ALONE, Ranks
from neurosbd.learning.rule_state import LocalState
from neurosbd.learning.third_factors import ThirdFactors
from neurosbd.network.blocks import Block
from neurosbd.network.network import Connection, Network
from neurosbd.network.transmitting import leak_time
from neurosbd.neuromodulators.neuromodulator import Broadcast
from neurosbd.neurons.neuron import Activity, Neuron, NeuronState, Stochastic
from neurosbd.neurons.scan import Scan, apart
from neurosbd.plasticity.plasticity import Blockwise
from neurosbd.synapses import TransmissionState

Reached = tuple[Arrival, Tensor | None]  # what reaches a connection, and the third factor of its post population


@dataclass
class LocalTraces:
    """What a local rule follows in a run, and what goes on when the run goes on over several batches.

    eligibility, plasticity: states by connection.
    filtered: activity as the neuromodulator sees it, by population.
    underway: third factors on their way, by population.
    synapses: what arrived as their responses let it be felt, by connection with dynamics.
    """

    eligibility: dict[str, object] = field(default_factory=dict)
    plasticity: dict[str, object] = field(default_factory=dict)
    filtered: dict[str, Tensor] = field(default_factory=dict)
    underway: dict[str, deque[Tensor | None]] = field(default_factory=dict)
    synapses: dict[str, TransmissionState] = field(default_factory=dict)

    def copy(self, connection: Connection) -> "LocalTraces":
        """Those of a connection, for somebody who goes a step of their own from here."""
        name = connection.name
        eligibility, plasticity = (
            {name: deepcopy(kind[name])} if name in kind else {} for kind in (self.eligibility, self.plasticity)
        )
        return LocalTraces(eligibility, plasticity, synapses={k: v for k, v in self.synapses.items() if k == name})


class LocalRun:
    """The traces of one run and the order in which everything learns.

    Args:
        network: that runs.
        rule: what to carry out.
        rule_state: of the rule; brought up to date as it goes on.
        learning_observer: sees third factors and eligibilities; none: nobody does.
        traces: to go on from; none: nothing has happened yet.
        afterwards: takes what is to be shown of every step of a block.
        ranks: processes that share the batch.
        direct_updates: connections whose synapses move at the spikes, without a gradient.
        optimizer: that applies the gradients; none: one that takes them off the weights as they are.
    """

    def __init__(
        self,
        network: Network,
        rule: Composition,
        rule_state: LocalState,
        learning_observer: LearningObserver | None = None,
        traces: LocalTraces | None = None,
        afterwards: list[Callable[[int], None]] | None = None,
        ranks: Ranks = ALONE,
        direct_updates: Mapping[str, DirectUpdate] = MappingProxyType({}),
        optimizer: Optimizer | None = None,
    ) -> None:
        self.network = network
        self.rule = rule
        self.rule_state = rule_state
        self.ranks = ranks
        self.direct_updates = direct_updates
        self.rates = None if optimizer is None else plain_rates(optimizer)
        self.learning_observer = learning_observer
        if rule_state.network_plan is None or not rule_state.network_plan.holds(network):
            rule_state.network_plan = NetworkPlan.of(network, rule)
        self.network_plan = rule_state.network_plan
        self.traces = traces or LocalTraces()
        self.afterwards = [] if afterwards is None else afterwards
        self.third_factors = ThirdFactors(
            network, rule, rule_state, rule_state.network_plan, ranks, self.traces.filtered, self.traces.underway
        )

    def learn(self, block: Block, broadcast: Broadcast) -> None:
        """Learn from a block of steps; its activity leaves it.

        Args:
            block: of the network, just stepped.
            broadcast: the score or the reward of its steps, its score not yet expanded.
        """
        broadcast = self.third_factors.complete(broadcast, block)
        # From the input up: the largest maps go first, before the gradients pile up.
        for name, plans in self.network_plan.plans.items():
            scan = block.scans.pop(name)
            third_factor = self.third_factors.of(name, scan.value, broadcast)
            if self.learning_observer is not None:
                self._show(partial(self._show_third_factor, name, third_factor, block.steps), block.steps)
            for plan in plans:
                for gradient in self._follow(plan, scan, third_factor, block):
                    if gradient is not None:
                        add_gradient(self.network.synapses(plan.connection), gradient)

    def regularise_weights(self) -> None:
        """After the last step of a batch: what the weights ask for themselves; of several ranks one says it."""
        for name, states in self.rule_state.upkeep.items() if self.rule.upkeep else ():
            connection = self.network.connections[name]
            synapses, present = self.network.synapses(connection), self.network.present(connection)
            for number, upkeep in enumerate(self.rule.upkeep):
                pull, states[number] = upkeep.step(states[number], synapses, present)
                if self.ranks.rank:
                    continue
                for parameter, change in zip(synapses, pull or (), strict=pull is not None):
                    if parameter is not None and change is not None:  # the state's own, so nothing may be added to it
                        parameter.grad = change.clone() if parameter.grad is None else parameter.grad.add_(change)

    def _follow(
        self, plan: Plan, scan: Scan[NeuronState], third_factor: Tensor | None, block: Block
    ) -> Iterator[Synapses | None]:
        """Advance the traces of one connection; its gradients at these steps, or their sum."""
        connection = plan.connection
        pre, steps = block.carried.pop(connection.name), block.steps
        observer = self.learning_observer
        watched = observer is not None and observer.looks_at(connection.name)
        whole = steps > 1 and plan.in_blocks and scan.steps[0].cache is None
        parts = self._parts(connection, pre, scan, third_factor) if watched or not whole else []
        if watched and steps > 1:
            self._show(partial(self._show_eligibility, plan, parts, self.traces.copy(connection)), steps)
        if whole:
            arrival = self._arrival(connection, pre, scan.activity, scan.states[-1])._replace(states=scan.states)
            parts = [(arrival, third_factor)]
        for arrival, factor in parts:
            gradient, waiting = self._learned(plan, arrival, factor, self.traces)
            if observer is not None and watched and steps == 1:
                observer.on_eligibility(connection.name, waiting)
            yield gradient

    def _parts(
        self, connection: Connection, pre: Tensor, scan: Scan[NeuronState], third_factor: Tensor | None
    ) -> list[Reached]:
        """What reaches a connection at every step, and the third factor of its post population."""
        steps = len(scan.steps)
        factors = (None,) * steps if third_factor is None else apart(third_factor, steps)
        each = zip(apart(pre, steps), scan.steps, scan.states, factors, strict=True)
        return [(self._arrival(connection, arriving, post, state), factor) for arriving, post, state, factor in each]

    def _show(self, step: Callable[[int], None], steps: int) -> None:
        """Show something of every step, at once of one, afterwards of several."""
        if steps == 1:
            step(0)
        else:
            self.afterwards.append(step)

    def _show_third_factor(self, name: str, third_factor: Tensor | None, steps: int, k: int) -> None:
        assert self.learning_observer is not None
        shown = None if third_factor is None else apart(third_factor, steps)[k]
        self.learning_observer.on_third_factor(name, shown)

    def _show_eligibility(self, plan: Plan, parts: list[Reached], traces: LocalTraces, k: int) -> None:
        """What waits after step k of a block; the steps are gone through once more, with traces of their own."""
        assert self.learning_observer is not None
        _, waiting = self._learned(plan, *parts[k], traces)
        self.learning_observer.on_eligibility(plan.connection.name, waiting)

    def _arrival(self, connection: Connection, pre: Tensor, post: Activity, state: NeuronState) -> Arrival:
        """What reaches a connection."""
        geometry, synapses = connection.geometry, self.network.synapses(connection)
        neuron = self.network.populations[connection.post].neuron
        assert neuron is not None
        outer, each = partial(geometry.outer, synapses), partial(geometry.each, synapses)
        return Arrival(pre, neuron, state, post, synapses, outer, each, sides=sides_of(connection))

    def _learned(
        self, plan: Plan, arrival: Arrival, third_factor: Tensor | None, traces: LocalTraces
    ) -> tuple[Synapses | None, Callable[[Tensor], Tensor]]:
        """The gradient of a connection at a step, or of a whole block of them, and what waits then, of examples [E]."""
        name, dt, single = plan.connection.name, self.network.dt, arrival.steps == 1
        if name in self.direct_updates:
            return self._moved(plan, arrival, third_factor, traces)
        lasting = name in self.network.transmissions and plan.plasticity.eligibilities
        responding = self._responding(plan.connection, arrival, traces) if lasting else arrival
        if name not in traces.eligibility:
            traces.eligibility[name] = plan.eligibility.init(responding, dt)
        follow = plan.eligibility.step if single else plan.eligibility.block
        eligible, traces.eligibility[name] = follow(traces.eligibility[name], responding, dt)
        local = self._local(plan, arrival, third_factor, eligible)
        if name not in traces.plasticity:
            traces.plasticity[name] = plan.plasticity.init(local)
        change = plan.plasticity.step if single else cast(Blockwise, plan.plasticity).block
        gradient, traces.plasticity[name] = change(traces.plasticity[name], local, dt)
        after = traces.plasticity[name]
        return gradient, lambda examples: plan.plasticity.eligibility(after, local, examples)

    def _local(self, plan: Plan, arrival: Arrival, third_factor: Tensor | None, eligible: Eligible) -> Local:
        return Local(
            pre=arrival.pre, post=arrival.post, third_factor=third_factor, synapses=arrival.synapses, eligible=eligible,
            outer=arrival.outer, each=arrival.each, surprise=partial(_surprise, arrival.neuron, arrival.post),
            kappa=self.network_plan.kappa, compartment=plan.connection.compartment, steps=arrival.steps,
            membrane=membrane_of(arrival.state), sides=arrival.sides,
            rate=1.0 if self.rates is None else self.rates.get(id(arrival.synapses.weight)),
        )  # fmt: skip

    def _responding(self, connection: Connection, arrival: Arrival, traces: LocalTraces) -> Arrival:
        """The same arrival as the post neurons feel it. A response is linear and knows nothing of the weight, so that
        d drive / d weight is the response of what arrived."""
        name, transmission = connection.name, connection.transmission
        first = apart(arrival.pre, arrival.steps)[0]
        states = [traces.synapses.get(name) or transmission.init(first, first)]
        transmission.pass_on(states, arrival.pre, arrival.steps, self.network.dt, lambda sent: sent)
        traces.synapses[name] = states[-1]
        tau_mem = leak_time(self.network.populations[connection.post])
        return arrival._replace(pre=transmission.value(states[1:], self.network.dt, tau_mem))

    def _moved(
        self, plan: Plan, arrival: Arrival, third_factor: Tensor | None, traces: LocalTraces
    ) -> tuple[None, Callable[[Tensor], Tensor]]:
        """Move the synapses that this step changes; they leave no gradient, and nothing waits."""
        name, dt, geometry = plan.connection.name, self.network.dt, plan.connection.geometry
        assert isinstance(geometry, Sparse)
        # What is event-driven looks at no eligibility.
        local, before = self._local(plan, arrival, third_factor, cast(Eligible, None)), traces.plasticity[name]
        after = move(plan.plasticity, before, local, geometry, dt, self.direct_updates[name])
        traces.plasticity[name] = after
        return None, lambda examples: plan.plasticity.eligibility(after, local, examples)


def _surprise(neuron: Neuron, activity: Activity) -> Tensor:
    if not isinstance(neuron, Stochastic):
        raise ValueError(f"local.surprise() is of neurons that draw their spikes, such as 'escape', got {neuron!r}")
    return neuron.surprise(activity)
