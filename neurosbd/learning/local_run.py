"""A local rule in one showing of a batch: in which order everything learns, and what is shown of it."""

from collections.abc import Iterator
from typing import cast

from torch import Tensor

from neurosbd.connections.synapses import Synapses
from neurosbd.learning.composition import Composition
from neurosbd.learning.local_step import LocalStep, StepResult
from neurosbd.learning.local_traces import LocalTraces
from neurosbd.learning.observers import LearningObserver
from neurosbd.learning.optimizers import plain_rates
from neurosbd.learning.passes import Run, add_gradient
from neurosbd.learning.plans import Plan
from neurosbd.learning.rule_state import LocalState
from neurosbd.learning.third_factors import ThirdFactors
from neurosbd.network.blocks import Block
from neurosbd.neuromodulators.neuromodulator import Broadcast
from neurosbd.neurons.neuron import NeuronState
from neurosbd.neurons.scan import Scan, apart


class LocalRun:
    """Population after population learns from a block of steps, from the input up.

    Args:
        rule: what to carry out.
        rule_state: of the rule; brought up to date as it goes on.
        run: of the batch, with who watches it, what it goes on from, and who shares it.
    """

    def __init__(self, rule: Composition, rule_state: LocalState, run: Run) -> None:
        self.rule = rule
        self.rule_state = rule_state
        self.run = run
        self.network = run.network
        self.network_plan = rule_state.plan_for(run.network, rule)
        self.traces = cast(LocalTraces | None, run.continuation.traces) or LocalTraces()
        self.third_factors = ThirdFactors(run.network, rule, rule_state, self.network_plan, run.ranks, self.traces)
        rates = None if run.optimizer is None else plain_rates(run.optimizer)
        self.step = LocalStep(run.network, self.network_plan.kappa, rates, run.continuation.direct_updates)

    def learn(self, block: Block, broadcast: Broadcast) -> None:
        """Learn from a block of steps; its activity leaves it.

        Args:
            block: of the network, just stepped.
            broadcast: the score or the reward of its steps, its score not yet expanded.
        """
        broadcast, observer = self.third_factors.complete(broadcast, block), self.run.learning_observer
        # From the input up: the largest maps go first, before the gradients pile up.
        for name, plans in self.network_plan.plans.items():
            scan = block.scans.pop(name)
            third_factor = self.third_factors.of(name, scan.value, broadcast)
            if observer is not None:
                self._show_third_factor(observer, name, third_factor, block.steps)
            for plan in plans:
                for gradient in self._gradients(plan, scan, third_factor, block):
                    if gradient is not None:
                        add_gradient(self.network.synapses(plan.connection), gradient)

    def regularise_weights(self) -> None:
        """After the last step of a batch: what the weights ask for themselves; of several ranks one says it."""
        for name, states in self.rule_state.upkeep.items() if self.rule.upkeep else ():
            connection = self.network.connections[name]
            synapses, present = self.network.synapses(connection), self.network.present(connection)
            for number, upkeep in enumerate(self.rule.upkeep):
                pull, states[number] = upkeep.step(states[number], synapses, present)
                if self.run.ranks.rank:
                    continue
                for parameter, change in zip(synapses, pull or (), strict=pull is not None):
                    if parameter is not None and change is not None:  # the state's own, so nothing may be added to it
                        parameter.grad = change.clone() if parameter.grad is None else parameter.grad.add_(change)

    def _gradients(
        self, plan: Plan, scan: Scan[NeuronState], third_factor: Tensor | None, block: Block
    ) -> Iterator[Synapses | None]:
        """Of one connection at every step of a block, or their sum where all are taken at once; its traces go on."""
        connection, steps = plan.connection, block.steps
        pre, observer = block.carried.pop(connection.name), self.run.learning_observer
        watched = observer is not None and observer.looks_at(connection.name)
        if observer is not None and watched and steps > 1:
            # Asked for when the block is shown: its steps are gone through once more, with traces of their own.
            again = self._each(plan, pre, scan, third_factor, self.traces.copy(connection))
            self.run.afterwards.append(lambda k: observer.on_eligibility(connection.name, next(again).eligibility))
        if steps > 1 and plan.in_blocks and scan.steps[0].cache is None:
            arrival = self.step.arrival(connection, pre, scan)
            yield self.step.learn(plan, arrival, third_factor, self.traces).gradient
            return
        for gradient, eligibility in self._each(plan, pre, scan, third_factor, self.traces):
            if observer is not None and watched and steps == 1:
                observer.on_eligibility(connection.name, eligibility)
            yield gradient

    def _each(
        self, plan: Plan, pre: Tensor, scan: Scan[NeuronState], third_factor: Tensor | None, traces: LocalTraces
    ) -> Iterator[StepResult]:
        """What a connection makes of the steps of a block, one after another."""
        arrivals = self.step.arrivals(plan.connection, pre, scan)
        factors = (None,) * len(arrivals) if third_factor is None else apart(third_factor, len(arrivals))
        for arrival, factor in zip(arrivals, factors, strict=True):
            yield self.step.learn(plan, arrival, factor, traces)

    def _show_third_factor(
        self, observer: LearningObserver, name: str, third_factor: Tensor | None, steps: int
    ) -> None:
        """That of one step at once, those of several when the block is shown."""
        if steps == 1:
            observer.on_third_factor(name, third_factor)
            return
        each = (None,) * steps if third_factor is None else apart(third_factor, steps)
        self.run.afterwards.append(lambda k: observer.on_third_factor(name, each[k]))
