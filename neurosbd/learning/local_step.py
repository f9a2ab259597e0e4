"""One step of the synapses of a connection: what arrived, what it did to the post units, what the plasticity makes of
it."""

from collections.abc import Callable, Mapping
from functools import partial
from typing import NamedTuple, cast

from torch import Tensor

from neurosbd.connections.sparse import Sparse
from neurosbd.connections.synapses import Synapses
from neurosbd.eligibility.local import Arrival, Eligible, Local, membrane_of
from neurosbd.learning.events import DirectUpdate, move
from neurosbd.learning.local_traces import LocalTraces
from neurosbd.learning.plans import Plan, sides_of
from neurosbd.network.network import Connection, Network
from neurosbd.network.transmitting import leak_time
from neurosbd.neurons.neuron import Activity, Neuron, NeuronState, Stochastic
from neurosbd.neurons.scan import Scan, apart
from neurosbd.plasticity.plasticity import Blockwise


class StepResult(NamedTuple):
    """What the synapses of a connection have made of a step, or of a block of steps."""

    gradient: Synapses | None  # to be descended, summed over examples and steps; None: there is none
    eligibility: Callable[[Tensor], Tensor]  # what waits now, of examples [E] -> [E, *weight]


class LocalStep:
    """How the synapses of every connection learn from a step, or from a block of K steps, in four stages:

        response      what arrived, as synapses with dynamics let it be felt
        eligibility   what the synapse did to the value of its post unit
        local         these, the third factor, and whatever else is there
        plasticity    local -> gradient

    All but the second and the fourth, whose states are in the traces, look at this step alone.

    Args:
        network: whose connections learn.
        kappa: decay of the readout per step, see `NetworkPlan`.
        rates: learning rates of the weights, by their `id`, see `plain_rates`; None: a gradient is what comes off.
        direct_updates: connections whose synapses move at the spikes, without a gradient.
    """

    def __init__(
        self,
        network: Network,
        kappa: float | None,
        rates: Mapping[int, float | Tensor] | None,
        direct_updates: Mapping[str, DirectUpdate],
    ) -> None:
        self.network = network
        self.kappa = kappa
        self.rates = rates
        self.direct_updates = direct_updates

    def arrivals(self, connection: Connection, pre: Tensor, scan: Scan[NeuronState]) -> list[Arrival]:
        """What reached a connection at every step of a block.

        Args:
            connection: onto the population.
            pre: what arrived, [K B, *arriving].
            scan: of its post population.
        """
        each = zip(apart(pre, len(scan.steps)), scan.steps, scan.states, strict=True)
        return [self._arrival(connection, arriving, post, state) for arriving, post, state in each]

    def arrival(self, connection: Connection, pre: Tensor, scan: Scan[NeuronState]) -> Arrival:
        """The same of all steps at once."""
        return self._arrival(connection, pre, scan.activity, scan.states[-1])._replace(states=scan.states)

    def _arrival(self, connection: Connection, pre: Tensor, post: Activity, state: NeuronState) -> Arrival:
        geometry, synapses = connection.geometry, self.network.synapses(connection)
        neuron = self.network.populations[connection.post].neuron
        assert neuron is not None
        outer, each = partial(geometry.outer, synapses), partial(geometry.each, synapses)
        return Arrival(pre, neuron, state, post, synapses, outer, each, sides=sides_of(connection))

    def learn(self, plan: Plan, arrival: Arrival, third_factor: Tensor | None, traces: LocalTraces) -> StepResult:
        """What the synapses make of what arrived; the traces go on.

        Args:
            plan: of the connection.
            arrival: at it.
            third_factor: of its post population, [K B, *size]; None: there is none at this step.
            traces: of the run, as the step finds them.
        """
        name, dt, single = plan.connection.name, self.network.dt, arrival.steps == 1
        if name in self.direct_updates:
            return self._move(plan, arrival, third_factor, traces)
        lasting = name in self.network.transmissions and plan.plasticity.eligibilities
        response = self._response(plan.connection, arrival, traces) if lasting else arrival
        if name not in traces.eligibility:
            traces.eligibility[name] = plan.eligibility.init(response, dt)
        follow = plan.eligibility.step if single else plan.eligibility.block
        eligible, traces.eligibility[name] = follow(traces.eligibility[name], response, dt)
        local = self._local(plan, arrival, third_factor, eligible)
        if name not in traces.plasticity:
            traces.plasticity[name] = plan.plasticity.init(local)
        change = plan.plasticity.step if single else cast(Blockwise, plan.plasticity).block
        gradient, after = change(traces.plasticity[name], local, dt)
        traces.plasticity[name] = after
        return StepResult(gradient, lambda examples: plan.plasticity.eligibility(after, local, examples))

    def _move(self, plan: Plan, arrival: Arrival, third_factor: Tensor | None, traces: LocalTraces) -> StepResult:
        """Move the synapses that this step changes; they leave no gradient, and nothing waits."""
        name, dt, geometry = plan.connection.name, self.network.dt, plan.connection.geometry
        assert isinstance(geometry, Sparse)
        # What is event-driven looks at no eligibility.
        local, before = self._local(plan, arrival, third_factor, cast(Eligible, None)), traces.plasticity[name]
        after = move(plan.plasticity, before, local, geometry, dt, self.direct_updates[name])
        traces.plasticity[name] = after
        return StepResult(None, lambda examples: plan.plasticity.eligibility(after, local, examples))

    def _response(self, connection: Connection, arrival: Arrival, traces: LocalTraces) -> Arrival:
        """The same arrival as the post neurons feel it. A response is linear and knows nothing of the weight, so that
        d drive / d weight is the response of what arrived."""
        name, transmission = connection.name, connection.transmission
        first = apart(arrival.pre, arrival.steps)[0]
        states = [traces.synapses.get(name) or transmission.init(first, first)]
        transmission.pass_on(states, arrival.pre, arrival.steps, self.network.dt, lambda sent: sent)
        traces.synapses[name] = states[-1]
        tau_mem = leak_time(self.network.populations[connection.post])
        return arrival._replace(pre=transmission.value(states[1:], self.network.dt, tau_mem))

    def _local(self, plan: Plan, arrival: Arrival, third_factor: Tensor | None, eligible: Eligible) -> Local:
        """All that a plasticity may look at."""
        return Local(
            pre=arrival.pre, post=arrival.post, third_factor=third_factor, synapses=arrival.synapses, eligible=eligible,
            outer=arrival.outer, each=arrival.each, surprise=partial(_surprise, arrival.neuron, arrival.post),
            kappa=self.kappa, compartment=plan.connection.compartment, steps=arrival.steps,
            membrane=membrane_of(arrival.state), sides=arrival.sides,
            rate=1.0 if self.rates is None else self.rates.get(id(arrival.synapses.weight)),
        )  # fmt: skip


def _surprise(neuron: Neuron, activity: Activity) -> Tensor:
    """d log P(spikes) / d drive, [B, *size]."""
    if not isinstance(neuron, Stochastic):
        raise ValueError(f"local.surprise() is of neurons that draw their spikes, such as 'escape', got {neuron!r}")
    return neuron.surprise(activity)
