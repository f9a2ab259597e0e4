"""What every neuromodulator keeps: one third factor per unit, made of what it declares to look at."""

import copy
import dataclasses
from collections.abc import Iterator
from typing import NamedTuple, TypeVar

import torch
from torch import Tensor

from neurosbd.losses import LOSSES
from neurosbd.neuromodulators import LAYOUTS, Neuromodulator
from neurosbd.neuromodulators.neuromodulator import Broadcast, HasHead, Receiver
from neurosbd.testing.judging import Check, Make, close, demand, drawn, identical, no_values, seeded

S = TypeVar("S")  # the state of a neuromodulator
SIZES = ((6,), (3, 4, 5), (5, 4))
BATCH, OUTPUTS = 7, 4


class Scene(NamedTuple):
    """A neuromodulator before any learning, a population, and what reaches it."""

    modulator: Neuromodulator[tuple[Tensor, ...]]
    state: tuple[Tensor, ...]
    receiver: Receiver
    broadcast: Broadcast


@torch.no_grad()
def sent(modulator: Neuromodulator[S], state: S, receiver: Receiver, broadcast: Broadcast) -> tuple[Tensor, S]:
    """The third factor of one step, and the state after it: the one place that knows by which verbs it is made."""
    if isinstance(modulator, HasHead):
        receiver = receiver._replace(reading=modulator.read(state, receiver, broadcast))
    state = modulator.update(state, modulator.statistics(state, receiver, broadcast), broadcast)
    return modulator.third_factor(state, receiver, broadcast), state


def scenes(make: Make, dtype: torch.dtype = torch.float64) -> Iterator[Scene]:
    """On units and on a map, with every layout if it has one; a ValueError of `init` refuses a population."""
    modulator, refusals, accepted = make(), [], False
    constants = getattr(modulator, "__dataclass_fields__", ())
    layouts: list[dict[str, object]] = [{"layout": LAYOUTS[n]()} for n in LAYOUTS] if "layout" in constants else [{}]
    for size in SIZES:
        receiver = Receiver(drawn(BATCH, *size, dtype=dtype), drawn(OUTPUTS, *size, seed=5, dtype=dtype))
        for changes in layouts:
            each = dataclasses.replace(modulator, **changes) if changes else modulator
            broadcast = _broadcast(each, dtype)
            receiver = receiver if len(size) == 1 else receiver._replace(readout_weight=None)
            try:
                state = each.init(receiver, broadcast, seeded())
            except ValueError as problem:
                refusals.append(str(problem))
                continue
            accepted = True
            scene = Scene(each, state, receiver, broadcast)
            _check_sent(scene)
            yield scene
    demand(accepted, f"`init` refuses a population of units, a map and vectors; the last reason: {refusals[-1:]}")


def _check_sent(scene: Scene) -> None:
    """It can make something of what it declares to want."""
    try:
        sent(scene.modulator, copy.deepcopy(scene.state), scene.receiver, scene.broadcast)
    except Exception as problem:
        given = "a reward and no score" if scene.modulator.rewarded else "a score and no reward"
        raise AssertionError(
            f"`rewarded` is {scene.modulator.rewarded}, so it is sent {given}; of that it makes no third factor "
            f"({type(problem).__name__}: {problem})"
        ) from problem


def _broadcast(modulator: Neuromodulator, dtype: torch.dtype) -> Broadcast:
    """A score or a reward of a batch, whichever it declares to want."""
    if modulator.rewarded:
        reward = torch.rand(BATCH, generator=seeded(3), dtype=dtype)
        return Broadcast(drawn(BATCH, 0, dtype=dtype), reward=reward, progress=0.5)
    loss, output = LOSSES["squared_error"](), drawn(BATCH, OUTPUTS, seed=1, dtype=dtype)
    target = drawn(BATCH, OUTPUTS, seed=2, dtype=dtype)
    score = loss.score(output, target) / BATCH
    return Broadcast(score, output, target, loss, output_drive_score=0.5 * score, progress=0.5)


def every_unit_is_sent_a_third_factor(make: Make) -> None:
    """Finite, of the shape and dtype of the activity; nothing is written in place, the state keeps its form.

    Must fail when a step writes into the state that it was given (tried).
    """
    for dtype in (torch.float32, torch.float64):
        for modulator, state, receiver, broadcast in scenes(make, dtype):
            before, inputs = copy.deepcopy(state), (receiver.value.clone(), broadcast.score.clone())
            one, after = sent(modulator, state, receiver, broadcast)
            two, _ = sent(modulator, state, receiver, broadcast)
            identical(one, two, "Two steps from the same state send different third factors")
            size = list(receiver.value.shape)
            sentence = f"The third factor has shape {list(one.shape)}, not that of the activity, {size}"
            demand(one.shape == receiver.value.shape, sentence)
            demand(one.dtype == dtype, f"The third factor is {one.dtype}, the activity {dtype}")
            demand(torch.isfinite(one).all(), "The third factor is not finite")
            demand(one.any(), "No unit is sent anything, whatever the score or reward")
            for a, b in zip((receiver.value, broadcast.score), inputs, strict=True):
                identical(a, b, "A step changes the activity or the score that it was given")
            _check_state(before, state, after)


def _check_state(before: tuple[Tensor, ...], state: tuple[Tensor, ...], after: tuple[Tensor, ...]) -> None:
    demand(type(after) is type(state), f"The state after a step is a {type(after).__name__}, not what `init` gave")
    for old, now, new in zip(before, state, after, strict=True):
        identical(old, now, "A step changes the state that it was given; it must return a new one")
        same = new.shape == now.shape and new.dtype == now.dtype and new.device == now.device
        demand(same, "A step changes the shape, dtype or device of the state, so no checkpoint could be resumed")


def silence_sends_nothing(make: Make) -> None:
    """A score of 0 without a target, or a reward of 0 where nothing was expected, is no third factor."""
    for modulator, state, receiver, broadcast in scenes(make):
        reward = None if broadcast.reward is None else torch.zeros_like(broadcast.reward)
        silence = Broadcast(torch.zeros_like(broadcast.score), broadcast.output, reward=reward)
        third_factor, _ = sent(modulator, state, receiver, silence)
        demand(not third_factor.any(), "A score or reward of 0 is sent on as a third factor that is not 0")


def the_batch_is_a_mean(make: Make) -> None:
    """Every example twice, each with half the score: half the third factor, and the same from the next step on.

    Must fail when what is learned is summed without the 1/B of the score (tried).
    """
    for modulator, state, receiver, broadcast in scenes(make):
        twice, other = state, Receiver(receiver.value.repeat(2, *(1,) * (receiver.value.ndim - 1)), *receiver[1:])
        doubled = _doubled(broadcast)
        for _ in range(2):
            one, state = sent(modulator, state, receiver, broadcast)
            two, twice = sent(modulator, twice, other, doubled)
            sentence = "With every example twice, the third factor of each is not half of what it was: the score of B "
            sentence += "examples carries 1/B, a reward must be divided by B, and what is learned is a mean"
            close(two, torch.cat((one, one)) / 2, sentence, rtol=1e-7, atol=1e-9)


def _doubled(broadcast: Broadcast) -> Broadcast:
    """Every example twice; scores are of a mean, so each is half."""
    score, drive_score = broadcast.score, broadcast.output_drive_score
    return broadcast._replace(
        score=torch.cat((score, score)) / 2,
        output=torch.cat((broadcast.output, broadcast.output)),
        target=torch.cat((broadcast.target, broadcast.target)),
        output_drive_score=None if drive_score is None else torch.cat((drive_score, drive_score)) / 2,
        reward=None if broadcast.reward is None else torch.cat((broadcast.reward, broadcast.reward)),
    )


def statistics_are_sums(make: Make) -> None:
    """Those of two parts of a batch, whose scores carry the 1/B of the whole, add up to those of the whole, whatever
    was learned before. Must fail when a sum is taken of R (tried).
    """
    for modulator, state, receiver, broadcast in scenes(make):
        whole = modulator.statistics(state, receiver, broadcast)
        demand(isinstance(whole, tuple), f"`statistics` must return a tuple of tensors, got {type(whole).__name__}")
        parts = [
            modulator.statistics(state, receiver._replace(value=receiver.value[rows]), _part(broadcast, rows))
            for rows in (slice(0, 3), slice(3, None))
        ]
        sentence = "The statistics of two parts of a batch do not add up to those of the whole: they must be sums over "
        sentence += "the examples at hand, of scores that carry their 1/B, or be divided by `broadcast.examples`"
        for all_of_it, one, other in zip(whole, *parts, strict=True):
            close(one + other, all_of_it, sentence, rtol=1e-9, atol=1e-12)
        later = modulator.statistics(modulator.update(state, whole, broadcast), receiver, broadcast)
        for before, after in zip(whole, later, strict=True):
            identical(before, after, "The statistics depend on what `update` changes; a block measures all steps first")


def _part(broadcast: Broadcast, rows: slice) -> Broadcast:
    """Some examples of a batch."""
    cut = {
        name: value[rows]
        for name, value in broadcast._asdict().items()
        if isinstance(value, Tensor) and len(value) == BATCH
    }
    return broadcast._replace(**cut, batch_size=BATCH)


def steady_is_true(make: Make) -> None:
    """What declares to be steady measures nothing and stays as it is; then steps can be sent at once. Only then."""
    moves, declared = False, make().steady
    for modulator, state, receiver, broadcast in scenes(make):
        sums = modulator.statistics(state, receiver, broadcast)
        after = modulator.update(state, sums, broadcast)
        moves = moves or bool(sums) or any(not torch.equal(a, b) for a, b in zip(state, after, strict=True))
    sentence = (
        "the state changes, or something is measured" if moves else "the state never changes, nothing is measured"
    )
    demand(moves != declared, f"`steady` is {declared}, but {sentence}")


def reads_activity_is_true(make: Make) -> None:
    """What it sends depends on the activity of the receiver if it declares so, and only then."""
    differs, declared = False, make().reads_activity
    for modulator, state, receiver, broadcast in scenes(make):
        other, after = receiver._replace(value=drawn(*receiver.value.shape, seed=9)), state
        for _ in range(2):
            one, state = sent(modulator, state, receiver, broadcast)
            two, after = sent(modulator, after, other, broadcast)
            differs = differs or not torch.equal(one, two)
    sentence = "another activity of the receiver changes the third factor" if differs else (
        "the third factor is the same whatever the activity of the receiver"
    )  # fmt: skip
    demand(differs == declared, f"`reads_activity` is {declared}, but {sentence}")


def a_projection_is_linear(make: Make) -> None:
    """What projects the score, looking at nothing else, sends twice as much for twice the score."""
    for modulator, state, receiver, broadcast in scenes(make):
        third_factor, after = sent(modulator, state, receiver, broadcast)
        projection = modulator.projection(after)
        if projection is None:
            continue
        shape = list(projection.shape)
        rows = OUTPUTS if broadcast.scored else shape[0]
        demand(projection.ndim == 2 and shape[0] == rows, f"`projection` must be [{rows}, units or channels]: {shape}")
        if modulator.reads_activity or not broadcast.scored:
            continue
        drive_score = broadcast.output_drive_score
        assert drive_score is not None
        loud = broadcast._replace(score=2 * broadcast.score, output_drive_score=2 * drive_score)
        louder, _ = sent(modulator, state, receiver, loud)
        sentence = "Twice the score is not sent as twice the third factor, so `projection` must return None: the score "
        close(louder, 2 * third_factor, sentence + "is not only projected", rtol=1e-7, atol=1e-9)


def neuromodulator_looks_at_no_value(make: Make) -> None:
    """So a step never waits for the device; tensors without data tell."""
    for modulator, state, receiver, broadcast in scenes(make):
        far = type(state)(*(tensor.to("meta") for tensor in state)) if state else state
        there = Receiver(*(None if tensor is None else tensor.to("meta") for tensor in receiver))  # type: ignore[arg-type]
        moved = {
            name: value.to("meta") for name, value in broadcast._asdict().items() if isinstance(value, Tensor)
        }  # fmt: skip
        with no_values("neuromodulator"):
            third_factor, _ = sent(modulator, far, there, broadcast._replace(**moved))
        demand(third_factor.device.type == "meta", "The third factor must stay on the device of the activity")


NEUROMODULATOR_CHECKS: tuple[Check, ...] = (
    every_unit_is_sent_a_third_factor, silence_sends_nothing, the_batch_is_a_mean, statistics_are_sums,
    steady_is_true, reads_activity_is_true, a_projection_is_linear, neuromodulator_looks_at_no_value,
)  # fmt: skip


def check_neuromodulator(make: Make) -> None:
    """Everything that the contract of a neuromodulator promises; see `check_neuron`."""
    for check in NEUROMODULATOR_CHECKS:
        check(make)
