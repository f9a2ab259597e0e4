"""All rewards of a free run: what is earned arrives late and fades."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from neurosbd.errors import UsageError
from neurosbd.filters import decay, whole_steps
from neurosbd.noise import new_key, uniform
from neurosbd.rewards.contingency import Reinforcement
from neurosbd.seeds import generator
from neurosbd.stimuli.stimulus import Span, warn_of_late

_MOST_UNDERWAY = 10_000_000  # numbers: examples times steps of the longest delay


class Underway(NamedTuple):
    """A reinforcement between what earns it and its decay."""

    contingency: object  # its state
    key: Tensor  # of the delays
    due: Tensor  # what arrives in the next steps, in a ring, [D, B]
    level: Tensor  # [B]
    done: int  # steps


class Delivery:
    """The reward of every step, the sum over all reinforcements.

    Args:
        reinforcements: what is given for what.
        sizes: of all populations, by name.
        like: in whose type and on whose device rewards are.
        examples: side by side; each earns its own.
        dt: s.
        seed: of whatever is random.
    Raises:
        UsageError: naming the reward, if it cannot be earned or waited for.
    """

    def __init__(
        self,
        reinforcements: Sequence[Reinforcement],
        sizes: Mapping[str, tuple[int, ...]],
        like: Tensor,
        examples: int,
        dt: float,
        seed: int,
    ) -> None:
        self.reinforcements, self.dt = tuple(reinforcements), dt
        self.spans: list[Span] = []
        self.states: list[Underway] = []
        for number, given in enumerate(self.reinforcements):
            source, reward = generator(seed, "reward", number), like.new_zeros(examples)
            try:
                given.contingency.check(sizes, dt)
                longest = given.latest / dt
                if longest * examples > _MOST_UNDERWAY:
                    raise ValueError(
                        f"{given.latest:g} s are {longest:.3g} steps, for each of which "
                        f"{examples:,} examples keep a number; legal are {_MOST_UNDERWAY:,} in all: make delay and "
                        f"longest shorter, or examples fewer"
                    )
                steps = round(longest) + 1
                stop = None if given.stop is None else whole_steps(given.stop, dt, "stop")
                self.spans.append(Span(whole_steps(given.start, dt, "start"), stop))
                earned = given.contingency.init(reward, dt, source)
            except ValueError as problem:
                raise UsageError(f"reward {number}: {problem}") from None
            key = new_key(source, "the delay of a reward", like.device)
            self.states.append(Underway(earned, key, like.new_zeros((steps, examples)), reward, 0))

    def after(self, activity: Mapping[str, Tensor]) -> Tensor:
        """The reward of a step with this activity, {population: [B, *size]}; steps follow one another. [B]"""
        parts = zip(self.reinforcements, self.spans, self.states, strict=True)
        self.states = [self._next(given, span, state, activity) for given, span, state in parts]
        return torch.stack([state.level for state in self.states]).sum(0)

    def warn_of_late(self, steps: int) -> None:
        """Say which rewards a run of so many steps is over before."""
        for number, (given, span) in enumerate(zip(self.reinforcements, self.spans, strict=True)):
            warn_of_late(f"reward {number}", given.contingency, span, steps, self.dt)

    def _next(self, given: Reinforcement, span: Span, state: Underway, activity: Mapping[str, Tensor]) -> Underway:
        earned, contingency = given.contingency.step(state.contingency, activity, self.dt)  # type: ignore[arg-type]
        due, done = state.due, state.done
        low, high = span.within(done, done + 1)
        if low < high:
            self._put_off(given, state, earned * given.amplitude)
        now = due[done % len(due)]
        level = now.clone() if given.tau == 0 else state.level * decay(given.tau, self.dt) + now
        now.zero_()
        return Underway(contingency, state.key, due, level, done + 1)

    def _put_off(self, given: Reinforcement, state: Underway, earned: Tensor) -> None:
        """Note what is earned in the step in which it arrives."""
        due, done = state.due, state.done
        if given.latest == given.delay:
            due[(done + len(due) - 1) % len(due)] += earned
            return
        drawn = uniform(state.key, torch.tensor(done, device=due.device), earned)
        wait = (given.delay + drawn * (given.latest - given.delay)).div(self.dt).round().long()
        examples = torch.arange(len(earned), device=due.device)
        due.index_put_(((done + wait) % len(due), examples), earned, accumulate=True)
