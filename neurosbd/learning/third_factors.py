"""What every population is sent in one run of a local rule: its third factors, block by block."""

from collections import deque
from functools import partial
from itertools import chain, islice
from typing import cast

import torch
from torch import Tensor, nn

from neurosbd.connections.synapses import is_matrix
from neurosbd.expansions import loudness, match_loudness, update_moments
from neurosbd.filters import decay
from neurosbd.learning.composition import Composition
from neurosbd.learning.local_traces import LocalTraces
from neurosbd.learning.plans import NetworkPlan
from neurosbd.learning.ranks import Ranks
from neurosbd.learning.rule_state import LocalState
from neurosbd.losses.curvature import curved
from neurosbd.network.blocks import Block
from neurosbd.network.network import Network
from neurosbd.neuromodulators.neuromodulator import Broadcast, Correlating, HasHead, Neuromodulator, Reading, Receiver
from neurosbd.neurons.neuron import gated
from neurosbd.neurons.scan import apart, together
from neurosbd.regularisers import Part

_MODULATOR = -1  # in the place of the number of a homeostasis


class ThirdFactors:
    """From the broadcast of a block to the third factors of all populations, asked for from the input up.

    Args:
        network: that runs.
        rule: what to carry out.
        rule_state: of the rule; brought up to date as it goes on.
        network_plan: which populations follow it, and which of them the readout hears.
        ranks: processes that share the batch.
        traces: of the run, of which `filtered` and `underway` are brought up to date.
    """

    def __init__(
        self,
        network: Network,
        rule: Composition,
        rule_state: LocalState,
        network_plan: NetworkPlan,
        ranks: Ranks,
        traces: LocalTraces,
    ) -> None:
        self.network = network
        self.rule = rule
        self.rule_state = rule_state
        self.ranks = ranks
        self.traces = traces
        self.network_plan = network_plan
        self.correlated: list[Tensor] = []  # of every step, activity through the correlations with it, [B, C + D]
        self.seen: dict[str, Tensor] = {}  # activity of a block as the neuromodulator sees it, by population
        self.receivers: dict[str, list[Receiver]] = {}  # of every step, by population that a neuromodulator measures
        self.sums: dict[tuple[str, int, int], tuple[Tensor, ...]] = {}  # by population, who measures, and step

    def complete(self, broadcast: Broadcast, block: Block) -> Broadcast:
        """The broadcast of a block with the expansion of the score and the score at the drive of the readout, where
        there are any. What is learned from its steps is measured, and summed over all ranks at once."""
        self.correlated = []
        if broadcast.scored:
            drive_score = self._drive_score(broadcast, block)
            score = self._expanded(broadcast)
            broadcast = broadcast._replace(
                score=score, output_drive_score=drive_score, n_expanded=self.rule_state.n_expanded
            )
        self._measure(broadcast, block)
        return broadcast

    def _drive_score(self, broadcast: Broadcast, block: Block) -> Tensor | None:
        """Score times the gain of the readout, [K B, C], where somebody is sent it."""
        if self.rule.neuromodulator is None or self.rule.rewarded:
            return None
        neuron, scan = self.network.populations[self.network.readout].neuron, block.scans[self.network.readout]
        assert neuron is not None
        scores = zip(scan.steps, apart(broadcast.score, block.steps), strict=True)
        return together([gated(neuron, step, score, self.network.dt) for step, score in scores])

    def _expanded(self, broadcast: Broadcast) -> Tensor:
        """The score and all blocks of its expansion, each as loud as it, side by side, [B, C + D]."""
        if not self.rule.expansion:
            return broadcast.score
        states, moments, scores = self.rule_state.expansion, self.rule_state.moments, []
        for step in broadcast.each():
            columns = [step.score]
            for number, block in enumerate(self.rule.expansion):
                column = block.columns(states[number], step)
                columns.append(match_loudness(moments[number], column, block.weight))
                measured = (*loudness(step.score, column), *block.statistics(states[number], step))
                score_power, power, *sums = self.ranks.total(*measured)
                moments[number] = update_moments(moments[number], (score_power, power), step.step_share)
                states[number] = block.update(states[number], tuple(sums), step)
            scores.append(torch.cat(columns, 1))
        return together(scores)

    def _measure(self, broadcast: Broadcast, block: Block) -> None:
        """The statistics of every population at every step, of its neuromodulator and of its homeostasis."""
        modulator, part, own = self.rule.neuromodulator, Part(broadcast.examples, broadcast.first), {}
        for name in self.network_plan.ruled:
            value, steps = block.scans[name].value, broadcast.steps
            self.seen[name] = self._filtered(name, value, steps)
            if modulator is not None and not modulator.steady and self._sends(broadcast):
                state, receivers = self.rule_state.modulators[name], self.receivers.setdefault(name, [])
                for k, (shown, step) in enumerate(zip(apart(self.seen[name], steps), broadcast.each(), strict=True)):
                    receivers.append(self._receiver(modulator, name, shown, step))
                    own[name, _MODULATOR, k] = modulator.statistics(state, receivers[k], step)
            for number, state in enumerate(self.rule_state.homeostasis.get(name, ()) if broadcast.scored else ()):
                measure = partial(self.rule.homeostasis[number].statistics, state, part=part)
                own |= {(name, number, k): measure(shown) for k, shown in enumerate(apart(value, steps))}
        totals = iter(self.ranks.total(*chain.from_iterable(own.values())))
        self.sums = {key: tuple(islice(totals, len(measured))) for key, measured in own.items()}

    def _sends(self, broadcast: Broadcast) -> bool:
        """Whether there is anything for the neuromodulator to send at these steps."""
        return broadcast.reward is not None if self.rule.rewarded else broadcast.scored

    def of(self, name: str, value: Tensor, broadcast: Broadcast) -> Tensor | None:
        """The third factor of a population with this activity, [K B, *size]; None: there is none at these steps."""
        if name in self.network.heads:
            return broadcast.score_of(value) * broadcast.weight if broadcast.scored else None
        if name == self.network.readout and self.rule.readout != "rule":
            return self._output_score(broadcast) * broadcast.weight if broadcast.scored else None
        return self._third_factor(name, value, broadcast)

    def _output_score(self, broadcast: Broadcast) -> Tensor:
        """d loss / d output and, if that is broadcast forward, d sum of 1/2 ||R||^2 / d output; [B, C]."""
        score = broadcast.score[:, : broadcast.outputs]
        if not self.correlated:
            return score
        direction = together(self.correlated)[:, : broadcast.outputs]  # the rows of an expansion are left alone
        assert broadcast.loss is not None
        moved = curved(broadcast.loss.per_example, broadcast.output, broadcast.target, direction)
        return torch.add(score, moved, alpha=self.rule.forward_broadcast / broadcast.examples)

    def _third_factor(self, name: str, value: Tensor, broadcast: Broadcast) -> Tensor | None:
        """Of a population that follows the rule, [K B, *size]; None: there is none at these steps."""
        modulator = self.rule.neuromodulator
        third_factor, seen = None, self.seen.pop(name)
        if modulator is not None and self._sends(broadcast):
            third_factor = self._sent(modulator, name, seen, broadcast)
            if not self.rule.rewarded and broadcast.weight != 1:
                third_factor = _scaled(third_factor, broadcast.weight)
        if self.rule.delay:
            third_factor = self._delayed(name, third_factor, value, broadcast.steps)
        return self._add_homeostasis(name, value, third_factor, broadcast) if broadcast.scored else third_factor

    def _sent(self, modulator: Neuromodulator, name: str, value: Tensor, broadcast: Broadcast) -> Tensor:
        """What the neuromodulator of a population sends at these steps, [K B, *size], once it has learned from each."""
        states = self.rule_state.modulators
        if modulator.steady:
            return modulator.third_factor(states[name], self._receiver(modulator, name, value, broadcast), broadcast)
        sent = []
        for k, (step, receiver) in enumerate(zip(broadcast.each(), self.receivers.pop(name), strict=True)):
            states[name] = modulator.update(states[name], self.sums[name, _MODULATOR, k], step)
            sent.append(modulator.third_factor(states[name], receiver, step))
            if self.rule.forward_broadcast:
                self._correlate(k, cast(Correlating, modulator).correlated(states[name], receiver))
        return together(sent)

    def _receiver(self, modulator: Neuromodulator, name: str, value: Tensor, broadcast: Broadcast) -> Receiver:
        """A population as its neuromodulator sees it; its head, if there is one, reads it and gets its gradient."""
        ahead, state = self.network_plan.outgoing.get(name), self.rule_state.modulators[name]
        receiver = Receiver(value, None if ahead is None else self.network.weights[ahead])
        if not self.rule.has_heads:
            return receiver
        reader = cast(HasHead, modulator)
        reading = reader.read(state, receiver, broadcast)
        _teach(reader.head(state), reading, broadcast.weight)
        return receiver._replace(reading=reading)

    def _correlate(self, step: int, through: Tensor) -> None:
        """Add what one population has of the cost 1/2 ||R||^2."""
        if step == len(self.correlated):
            self.correlated.append(through)
        else:
            self.correlated[step] = self.correlated[step] + through

    def _delayed(self, name: str, third_factor: Tensor | None, like: Tensor, steps: int) -> Tensor | None:
        """The third factors that arrive at these steps, and 0 where there is none as long as there is any."""
        queue = self.traces.underway.setdefault(name, deque([None] * self.rule.delay))
        queue.extend([None] * steps if third_factor is None else apart(third_factor, steps))
        arriving = [queue.popleft() for _ in range(steps)]
        if all(each is None for each in arriving):
            return None
        silence = torch.zeros_like(apart(like, steps)[0])
        return together([silence if each is None else each for each in arriving])

    def _add_homeostasis(
        self, name: str, value: Tensor, third_factor: Tensor | None, broadcast: Broadcast
    ) -> Tensor | None:
        """The third factor and what the activity of a hidden population asks for itself, undelayed."""
        states = self.rule_state.homeostasis.get(name, [])
        for number, homeostasis in enumerate(self.rule.homeostasis[: len(states)]):
            pulls, part = [], Part(broadcast.examples, broadcast.first)
            for k, shown in enumerate(apart(value, broadcast.steps)):
                states[number] = homeostasis.update(states[number], self.sums[name, number, k], broadcast.step_share)
                pull = homeostasis.apply(states[number], shown, part)
                pulls.append(pull if broadcast.weight == 1 else _scaled(pull, broadcast.weight))
            pull = together(pulls)
            third_factor = pull if third_factor is None else _sum(third_factor, pull)
        return third_factor

    def _filtered(self, name: str, value: Tensor, steps: int) -> Tensor:
        """The activity as the neuromodulator sees it: (1 - a) filtered with decay a, or as it is."""
        if self.rule.activity_filter is None:
            return value
        factor, seen = decay(self.rule.activity_filter, self.network.dt), []
        for shown in apart(value, steps):
            before = self.traces.filtered.get(name)
            before = torch.zeros_like(shown) if before is None else before
            self.traces.filtered[name] = torch.lerp(shown, before, factor)
            seen.append(self.traces.filtered[name])
        return together(seen)


def _teach(head: nn.Parameter, reading: Reading, weight: float) -> None:
    """Add the gradient of a head's own loss at a step of some weight to its `.grad`."""
    if head.grad is None:
        head.grad = torch.zeros_like(head)
    add_product = head.grad.addmm_ if is_matrix(head) else head.grad.baddbmm_  # one head for each of several networks
    add_product(reading.score.mT, reading.activity, alpha=weight)


def _scaled(third_factor: Tensor, weight: float) -> Tensor:
    """third factor * weight; what is shared between positions stays shared, as one value in memory."""
    once = tuple(slice(1) if stride == 0 else slice(None) for stride in third_factor.stride())
    return (third_factor[once] * weight).expand(third_factor.shape)


def _sum(one: Tensor, other: Tensor) -> Tensor:
    """one + other; what both share between positions stays shared, as one value in memory."""
    strides = zip(one.stride(), other.stride(), strict=True)
    once = tuple(slice(1) if not (a or b) else slice(None) for a, b in strides)
    return (one[once] + other[once]).expand(one.shape)
