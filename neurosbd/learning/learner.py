"""A learner carries out a rule on a network: it fills `Parameter.grad`, and any torch optimizer applies it.

What is left in `.grad` is a loss gradient, as autograd would leave it. While a local rule learns no autograd graph
exists, and what it keeps from step to step does not grow with their number.
"""

from collections.abc import Mapping
from dataclasses import replace

import torch
from torch import Tensor, nn

from neurosbd.errors import UsageError, warn
from neurosbd.files.checkpoints import StateDict
from neurosbd.learning.batch import START, Batch, BatchResult, Progress, check_start
from neurosbd.learning.events import DirectUpdate, direct_updates
from neurosbd.learning.observers import LearningObserver, Watchers
from neurosbd.learning.passes import Continuation, Run
from neurosbd.learning.ranks import ALONE, Ranks
from neurosbd.learning.reminders import Reminders
from neurosbd.learning.rule import Rule
from neurosbd.learning.simulation import Observer
from neurosbd.learning.suited import check_suited
from neurosbd.losses import Loss
from neurosbd.network.checks import check_generator
from neurosbd.network.inputs import gone_once_shown
from neurosbd.network.network import Network


class Learner:
    """A rule at work on a network.

    Bounds that hold within a step (`stdp` and its like) go by the learning rates of the plain SGD in `optimizer`, which
    whoever steps one says; until then a gradient is taken for what comes off the weight, and other optimizers leave
    weights to the bounds after the step alone.

    Args:
        network: with its parameters on their device.
        rule: an entry of RULES, or one of your own.
        loss: whose score is sent; None where the rule is sent rewards and nobody judges the output.
        generator: source of random projections.
        ranks: processes that share every batch. Each leaves the gradients of its own examples; whoever steps the
            optimizer adds them up.
    Raises:
        UsageError: if one of them is of another kind.
        ValueError: if the rule cannot be carried out on this network.
    """

    def __init__(
        self,
        network: Network,
        rule: Rule,
        loss: Loss | None,
        generator: torch.Generator,
        ranks: Ranks = ALONE,
    ) -> None:
        _check_parts(network, rule, loss, generator)
        check_suited(network, rule, loss)
        self.network = network
        self.rule = rule
        self.loss = loss
        self.ranks = ranks
        if ranks.size > 1:
            network.share(ranks.total)
        self._progress = START._replace(tensor=START.tensor.clone())
        self.state = rule.begin(network, loss, generator)
        self._moments: Mapping[str, tuple[Tensor, ...]] = {}
        self._limits = rule.limits(network)
        self._direct_updates: Mapping[str, DirectUpdate] = {}  # that the last batch made, within bounds
        self.optimizer: torch.optim.Optimizer | None = None  # that applies the gradients; None: not said
        self._reminders = Reminders(network, rule.acts_after_step or bool(self._limits), rule.schedules())

    @torch.no_grad()
    def say_outside(self) -> None:
        """Warn of weights outside of the bounds of their plasticity, where its first update would bring them."""
        for name, held in self._limits.items():
            weight, present = self.network.weights[name], self.network.present(self.network.connections[name])
            within = weight.clone()
            held.apply(within)
            there = torch.ones_like(weight) if present is None else present
            moved = int((~torch.isclose(weight, within) & (there > 0)).sum())
            if moved:
                warn(
                    f"connection '{name}': {moved:,} of {int(there.sum()):,} initial weights were outside of "
                    f"{held.constraint}, which its plasticity has; its first update brings them to the edge. Choose "
                    f"an initialiser whose weights lie within, or other bounds"
                )

    def __repr__(self) -> str:
        parts = [type(part).__name__ for items in self.rule.parts().values() for part in items]
        loss = [] if self.loss is None else [type(self.loss).__name__]
        return f"Learner({', '.join([*(parts or [type(self.rule).__name__]), *loss])}; {self.network.summary().line})"

    @property
    def progress(self) -> float:
        """How much of the training is done, 0..1; whoever drives it says so before every batch."""
        return self._progress.number

    @progress.setter
    def progress(self, done: float) -> None:
        self._progress = Progress(float(done), self._now().tensor.fill_(done))

    def _now(self) -> Progress:
        """The progress where the network is."""
        number, tensor = self._progress
        if tensor.device != self.network.like.device:
            self._progress = Progress(number, tensor.to(self.network.like.device))
        return self._progress

    @property
    def parameters(self) -> dict[str, nn.Parameter]:
        """Weights that the rule learns by a gradient beside the synapses: heads, by name."""
        return dict(self.state.parameters)

    @property
    def relative_rates(self) -> dict[str, float]:
        """Of those that learn as the readout does: the factor on the learning rate of the readout."""
        return dict(self.rule.relative_rates(self.state))

    def learn(
        self,
        batch: Batch,
        observers: tuple[Observer, ...] = (),
        noise: torch.Generator | None = None,
        learning_observer: LearningObserver | None = None,
        continuation: Continuation | None = None,
    ) -> BatchResult:
        """Run a trial and add a gradient to every plastic parameter's `.grad`.

        Args:
            batch: what to learn from.
            observers: see every step of the network.
            noise: source of the noise of this run.
            learning_observer: sees third factors and eligibilities, of rules that have any.
            continuation: of a run that goes on over several batches; none: the trial starts at rest and ends.
        """
        check_start(self.network, batch, self.rule.rewarded, self.rule.scored, self.rule.labelled)
        self._reminders.begin()
        self._reminders.check_heads(self.parameters)
        batch, watchers = self._showable(batch), Watchers(observers, learning_observer)
        now = self._now()
        run = Run(self.network, self.loss, batch, watchers, noise, now, continuation, self.ranks, self.optimizer)
        self._direct_updates = run.continuation.direct_updates
        with torch.no_grad():
            result = self.rule.learn(self.state, run, batch)
        self.network.mask_gradients()
        self._moments = run.adaptation.moments
        self._reminders.due()
        return result

    @property
    def measured(self) -> Mapping[str, tuple[Tensor, ...]]:
        """What adaptive neurons have measured since the last `after_step`, by population."""
        return self._moments

    def learned(self, measured: Mapping[str, tuple[Tensor, ...]]) -> None:
        """A batch has been learned from in another way than by `learn`, and adaptive neurons have measured this."""
        self._reminders.begin()
        self._moments = measured
        self._reminders.due()

    @torch.no_grad()
    def answer(
        self, batch: Batch, observers: tuple[Observer, ...] = (), noise: torch.Generator | None = None
    ) -> BatchResult:
        """What the network says of a batch, and its loss; nothing is learned."""
        batch = self._showable(batch)
        run = Run(self.network, self.loss, batch, Watchers(observers), noise, self._now())
        return self.rule.answer(self.state, run, batch)

    def _showable(self, batch: Batch) -> Batch:
        """The batch as often as the rule shows it: inputs that come step by step are kept for more than once."""
        again = self.rule.showings > 1 and gone_once_shown(batch.inputs)
        return replace(batch, inputs=list(batch.inputs)) if again else batch

    @torch.no_grad()
    def after_step(self) -> None:
        """After the optimizer's step: weights that follow a statistic move, all go back to where their constraints and
        those of the rule allow them, adaptive neurons remember what they saw."""
        self._reminders.done(self.progress)
        self.network.set_moments(self._moments)
        self.rule.after_step(self.state, self.network)
        if self.rule.acts_after_step:
            self.network.constrain(self._limits)
        else:
            self.network.constrain_step(self._limits, self._direct_updates)

    def direct_updates(self, optimizer: torch.optim.Optimizer) -> dict[str, DirectUpdate]:
        """Connections whose synapses may move at the spikes, as `Continuation.direct_updates` takes them."""
        return direct_updates(self.network, self.rule.direct_plasticities(self.network), self._limits, optimizer)

    @torch.no_grad()
    def after_epoch(self, epochs: int) -> None:
        """After an epoch, with how many there have been."""
        self.rule.after_epoch(self.state, self.network, epochs)

    def state_dict(self) -> StateDict:
        """Everything learned outside the network (projections, expectations, heads)."""
        return self.state.state_dict()

    def load_state_dict(self, saved: StateDict) -> None:
        """Put back what `state_dict` gave; shapes must be those of this network."""
        self.state.load_state_dict(saved)


def _check_parts(network: object, rule: Rule, loss: object, generator: object) -> None:
    """Refuse names, classes and seeds where what they stand for is meant."""
    if not isinstance(network, Network):
        raise UsageError(f"network must be a neurosbd.Network, such as load_model(...).network(), got {network!r:.100}")
    if callable(getattr(rule, "build", None)):
        raise UsageError("rule is how a model file writes it; give the rule itself, definition.build().rule")
    if isinstance(rule, type) or not callable(getattr(rule, "learn", None)):
        raise UsageError(f"rule must be made from an entry of RULES, such as RULES['sbd'](), got {rule!r}")
    if loss is None and not rule.scored:
        return check_generator(generator)
    if isinstance(loss, type) or not (callable(getattr(loss, "score", None)) and hasattr(loss, "per_example")):
        raise UsageError(
            f"loss must be made from an entry of LOSSES, such as LOSSES['cross_entropy'](), or be one of your own, "
            f"such as from_function(...), got {loss!r}"
        )
    check_generator(generator)
