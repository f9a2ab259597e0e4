"""Rules that learn online: one pass forward, every population by itself."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import ClassVar, Self

import torch
from torch import Tensor

from neurosbd.constraints import Held
from neurosbd.eligibility.factorised import Factorised
from neurosbd.learning.batch import Batch, BatchResult
from neurosbd.learning.composition import Composition
from neurosbd.learning.local_run import LocalRun
from neurosbd.learning.passes import Run
from neurosbd.learning.plans import check, check_waiting, plans, rule_bounds, ruled_populations
from neurosbd.learning.rule import Rule, RuleSignals
from neurosbd.learning.rule_state import LocalState, broadcastable, init_rule_state, widths
from neurosbd.losses import Loss
from neurosbd.network.blocks import Block
from neurosbd.network.network import Connection, Network
from neurosbd.neuromodulators import Forgetting, Prediction
from neurosbd.neuromodulators.neuromodulator import Broadcast, HasHead
from neurosbd.neuromodulators.side_by_side import FOR_ANY_AXES, WITHOUT_BASIS, SideBySide
from neurosbd.plasticity import ThreeFactor, Tracking
from neurosbd.plasticity.plasticity import Plasticity


@dataclass(frozen=True)
class LocalRule(Composition, Rule[LocalState]):
    """Learn online by a composition of plasticity, neuromodulator and eligibility.

    At each step the score of the readout (or a reward) is sent to every population; its neuromodulator makes the third
    factor, its incoming synapses change by the plasticity, and its activity is let go. What is kept from step to step
    does not grow with their number. Heads descend their own gradient; who they read hears nothing of it.
    """

    teaches_heads: ClassVar[bool] = True
    per_connection: ClassVar[bool] = True
    takes_lists: ClassVar[bool] = True
    transmits: ClassVar[bool] = True

    def check(self, network: Network, loss: Loss | None) -> None:
        """Whether it can follow every plastic synapse."""
        if loss is None and self.readout != "rule":
            raise ValueError(
                f"without a loss the readout learns by the rule or not at all: set rule.readout = 'rule', got "
                f"'{self.readout}'"
            )
        check(network, self)

    def begin(self, network: Network, loss: Loss | None, generator: torch.Generator) -> LocalState:
        """Projections are drawn, nothing has been learned."""
        state = init_rule_state(network, self, loss, generator)
        check_waiting(network, self, lambda name: name in self.projections(state))
        return state

    def learn(self, state: LocalState, run: Run, batch: Batch) -> BatchResult:
        """One showing, learned from step by step."""
        local = LocalRun(self, state, run)
        rewarded = run.scored[-1] if self.rewarded else None
        # Weights that move at the spikes are others at the next step.
        most = 1 if run.continuation.direct_updates else None
        for t, block in run.blocks(batch, most=most, alone=rewarded):
            local.learn(block, self._broadcast(run, batch, t, block))
        local.regularise_weights()
        run.continuation.traces = local.traces
        state.traces = local.traces.plasticity if self.acts_after_step else {}
        return run.result()

    def _broadcast(self, run: Run, batch: Batch, t: int, block: Block) -> Broadcast:
        """What the output sends to all at the steps of a block, its score not yet expanded."""
        output, steps = block.scans[run.network.readout].value, block.steps
        task = batch.task if batch.task is None or steps == 1 else batch.task.repeat(steps)
        reward = run.reward(batch, t, block.frames()[0]) if self.rewarded else None
        broadcast = Broadcast(
            output.new_empty((len(output), 0)), reward=reward, task=task, weight=batch.weights[t],
            step_share=1 / len(run.scored), progress=run.progress.tensor,
            batch_size=batch.examples(len(output) // steps), first=batch.first, steps=steps,
            last=t + steps == len(batch.weights),
        )  # fmt: skip
        if not batch.weights[t] or not batch.taught or run.loss is None:
            return broadcast
        target = batch.targets(t, steps)
        score = run.loss.score(output, target) / broadcast.examples
        # Only an expansion of the score looks at it; else it would outlive what is learned from it.
        shown = {name: scan.activity for name, scan in block.scans.items()} if self.expansion else {}
        activity = broadcastable(run.network, shown) if shown else {}
        return broadcast._replace(score=score, output=output, target=target, loss=run.loss, activity=activity)

    @property
    def hears_target(self) -> bool:
        """Whether its neuromodulator sends more than a score: a prediction of the target, say."""
        return isinstance(self.neuromodulator, Prediction) and self.neuromodulator.own > 0

    def after_step(self, state: LocalState, network: Network) -> None:
        """Move the weights that follow the activity."""
        if self.acts_after_step and isinstance(self.plasticity, Tracking):
            for name, traces in state.traces.items():
                weight = network.weights[name]
                weight.copy_(self.plasticity.track(traces, weight))
            state.traces = {}

    def why_alone(self) -> str | None:
        """What a third factor modulates is a sum over examples, and so are the statistics of neuromodulators."""
        if not self.regulated.modulated or isinstance(self.plasticity, Tracking):
            return f"what {type(self.regulated).__name__} changes is no sum over examples"
        return None

    def why_eager(self) -> str | None:
        """All that it computes is on the device, but rewards."""
        return "rewards are computed by the host" if self.rewarded else None

    def why_apart(self, network: Network) -> str | None:
        """A broadcast third factor per unit, and factorised eligibilities, are those of each network; a class derived
        from this one may do something else."""
        if type(self) is not LocalRule:
            return super().why_apart(network)
        parts = {"expansion": self.expansion, "homeostasis": self.homeostasis, "upkeep": self.upkeep,
                 "forward_broadcast": self.forward_broadcast}  # fmt: skip
        given = next((name for name, part in parts.items() if part), None)
        if given is not None:
            return f"rule.{given} is that of one network"
        modulator = self.neuromodulator
        if type(modulator) not in FOR_ANY_AXES or type(getattr(modulator, "layout", None)) not in WITHOUT_BASIS:
            return f"neuromodulator {type(modulator).__name__} takes one network at a time, or its layout does"
        for plan in (plan for each in plans(network, self).values() for plan in each):
            for part, kind in ((plan.plasticity, ThreeFactor), (plan.eligibility, Factorised)):
                if type(part) is not kind:
                    return f"{type(part).__name__} takes one network at a time"
        return None

    def side_by_side(self, networks: int) -> Self:
        """With the neuromodulator of each network."""
        assert self.neuromodulator is not None, "one without takes one network at a time"
        return replace(self, neuromodulator=SideBySide.of(self.neuromodulator, networks))

    @cached_property
    def acts_after_step(self) -> bool:  # type: ignore[override]
        """Whether weights follow the activity after every step of the optimizer."""
        return isinstance(self.plasticity, Tracking)

    def limits(self, network: Network) -> dict[str, Held]:
        """The bounds of its plasticity for the weights that follow it."""
        return rule_bounds(network, self)

    def direct_plasticities(self, network: Network) -> list[tuple[Connection, Plasticity]]:
        """All of them, unless something is added to their gradients at the end of a batch."""
        if self.upkeep:
            return []
        return [(plan.connection, plan.plasticity) for each in plans(network, self).values() for plan in each]

    def populations(self, network: Network) -> tuple[str, ...]:
        """Those with plastic synapses, without a readout that descends its own gradient."""
        return tuple(ruled_populations(network, self))

    def signals(self, network: Network) -> RuleSignals:
        """Third factors where there is a neuromodulator, eligibilities where one waits."""
        third_factors = ruled_populations(network, self) if self.neuromodulator is not None else []
        each = (plan for of_population in plans(network, self).values() for plan in of_population)
        waiting = [plan.connection.name for plan in each if plan.plasticity.waits]
        return RuleSignals(tuple(third_factors), tuple(waiting))

    def projections(self, state: LocalState) -> Mapping[str, Tensor]:
        """Those of the neuromodulator."""
        if self.neuromodulator is None:
            return {}
        found = {name: self.neuromodulator.projection(each) for name, each in state.modulators.items()}
        return {name: projection for name, projection in found.items() if projection is not None}

    def relative_rates(self, state: LocalState) -> Mapping[str, float]:
        """Those of the heads of the neuromodulator."""
        modulator = self.neuromodulator
        return dict.fromkeys(state.parameters, modulator.relative_rate) if isinstance(modulator, HasHead) else {}

    def notes(self, network: Network, loss: Loss, generator: torch.Generator) -> list[str]:
        """How many columns are broadcast and what they cost, if the score is expanded."""
        if not self.expansion:
            return []
        state = init_rule_state(network, self, loss, generator)
        score = math.prod(network.populations[network.readout].size)
        rows = sum(projection.shape[1] for projection in self.projections(state).values())
        blocks = zip(self.expansion, widths(network, self, loss), strict=True)
        return [
            "",
            f"score of {score} columns, expanded by {state.n_expanded}: "
            + ", ".join(f"{type(block).__name__.lower()} {width}" for block, width in blocks),
            f"  correlation and broadcast: {2 * (score + state.n_expanded) * rows:,} multiplications per example "
            f"in place of {2 * score * rows:,}",
        ]

    def n_expanded(self, state: LocalState) -> int:
        """Those of its expansion."""
        return state.n_expanded

    def schedules(self) -> str | None:
        """The schedules of the neuromodulator."""
        constants = {} if self.neuromodulator is None else vars(self.neuromodulator)
        moving = [name for name, value in constants.items() if isinstance(value, Forgetting) and value.end is not None]
        return f"the schedules of {', '.join(moving)}" if moving else None
