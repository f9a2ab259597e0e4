"""What every plasticity keeps: a gradient like the synapses, of what is local to them, as it declares."""

import copy
from collections.abc import Iterator
from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor

from neurosbd.connections import CONNECTIONS, Geometry
from neurosbd.connections.synapses import Synapses
from neurosbd.eligibility import Factorised
from neurosbd.eligibility.local import Arrival, Local, Selective, Site, membrane_of
from neurosbd.neurons import Escape
from neurosbd.neurons.escape import EscapeState
from neurosbd.neurons.neuron import Activity
from neurosbd.plasticity import Bounded, Plasticity, Tracking
from neurosbd.testing.judging import DT, Check, Make, close, demand, drawn, identical, no_values, seeded

STEPS, BATCH = 12, 4
KAPPA = 0.9  # decay of a readout per step


class Instant(NamedTuple):
    """What happens at a connection in one step."""

    pre: Tensor
    activity: Activity
    neuron_state: EscapeState
    third_factor: Tensor


class Scene(NamedTuple):
    """A plasticity at one connection onto neurons that draw their spikes, and a short run of both sides."""

    plasticity: Plasticity
    geometry: Geometry
    neuron: Escape
    synapses: Synapses
    run: list[Instant]


def scenes(make: Make) -> Iterator[Scene]:
    """At a dense connection and at a convolution; `check` may refuse one of them, and must where it does not work."""
    reasons: list[str] = []
    for kind, constants, pre, post in (("dense", {}, (5,), (3,)), ("conv2d", {"kernel": 3}, (2, 4, 4), (3, 2, 2))):
        scene = _scene(make(), CONNECTIONS[kind](**constants, bias=True), pre, post)
        if isinstance(scene.plasticity, Selective):
            try:
                scene.plasticity.check(Site(scene.synapses, post, scene.neuron, "soma", KAPPA, DT))
            except ValueError as problem:
                reasons.append(f"{kind}: {problem}")
                continue
        try:
            gradients(scene)
        except Exception as problem:
            raise AssertionError(
                f"At a {kind} connection a run fails, which `check(site)` does not refuse beforehand: "
                f"{type(problem).__name__}: {problem}"
            ) from problem
        yield scene
    demand(len(reasons) < 2, f"`check` refuses every connection: {'; '.join(reasons)}")


def _scene(plasticity: Plasticity, geometry: Geometry, pre: tuple[int, ...], post: tuple[int, ...]) -> Scene:
    start = geometry.start(geometry.weight_shape(pre, post), post, seeded())
    synapses = Synapses(*(None if s is None else 0.3 * drawn(*s.shape, seed=2) for s in start))  # type: ignore[arg-type]
    neuron, run = Escape(), []
    state = neuron.init(torch.zeros(BATCH, *post, dtype=torch.float64), seeded(4))
    for t in range(STEPS):
        arriving = geometry.carry((drawn(BATCH, *pre, seed=10 + t) > 0).double())
        activity, state = neuron.step(state, geometry.drive(synapses, arriving), DT)
        run.append(Instant(arriving, activity, state, _shared(drawn(BATCH, *post, seed=50 + t) / BATCH)))
    return Scene(plasticity, geometry, neuron, synapses, run)


def _shared(third_factor: Tensor) -> Tensor:
    """On a map one third factor per example, one value in memory too, as a reward spreads."""
    return third_factor if third_factor.ndim == 2 else third_factor[:, :1, :1, :1].expand_as(third_factor)


def _locals(scene: Scene, third_factors: bool = True) -> Iterator[Local]:
    """Step by step what the synapses see, as the online learner shows it."""
    neuron, geometry, synapses = scene.neuron, scene.geometry, scene.synapses
    outer, each = partial(geometry.outer, synapses), partial(geometry.each, synapses)
    eligibility, state = Factorised(), None
    for now in scene.run:
        arrival = Arrival(now.pre, neuron, now.neuron_state, now.activity, synapses, outer, each)
        state = eligibility.init(arrival, DT) if state is None else state
        eligible, state = eligibility.step(state, arrival, DT)
        local = Local(
            now.pre, now.activity, now.third_factor if third_factors else None, synapses, eligible, outer, each,
            partial(neuron.surprise, now.activity), KAPPA, membrane=membrane_of(now.neuron_state),
        )  # fmt: skip
        yield local


def gradients(scene: Scene, third_factors: bool = True) -> list[Synapses | None]:
    """Of every step of a run."""
    made: list[Synapses | None] = []
    state: object = None
    for number, local in enumerate(_locals(scene, third_factors)):
        state = scene.plasticity.init(local) if number == 0 else state
        gradient, state = scene.plasticity.step(state, local, DT)
        made.append(copy.deepcopy(gradient))  # which may be written over later
    return made


def _total(steps: list[Synapses | None]) -> Tensor:
    """All weights and biases of all steps in one row; nothing where there is no gradient."""
    parts = [part.flatten() for gradient in steps for part in (gradient or ()) if part is not None]
    return torch.cat(parts) if parts else torch.zeros(0)


def gradient_is_like_the_synapses(make: Make) -> None:
    """Shape, dtype, finite, the same twice; what is local is left as it was.

    Must fail when a step moves the weights itself (tried).
    """
    for scene in scenes(make):
        tensors = [scene.synapses.weight, *(t for now in scene.run for t in (now.pre, now.activity.value))]
        before = [tensor.clone() for tensor in tensors]
        steps = gradients(scene)
        for a, b in zip(tensors, before, strict=True):
            identical(a, b, "A step changes the weights, or the activity on either side; it may only return a gradient")
        for gradient in steps:
            for name, part, own in zip(("weight", "bias"), gradient or (), scene.synapses, strict=gradient is not None):
                if part is None or own is None:
                    demand(name == "bias" and part is None, f"The gradient has no {name} where the synapses have one")
                    continue
                shape = f"{list(part.shape)}, the {name} {list(own.shape)}"
                demand(part.shape == own.shape, f"The gradient of the {name} is {shape}")
                demand(part.dtype == own.dtype, f"The gradient of the {name} is {part.dtype}, it {own.dtype}")
                demand(torch.isfinite(part).all(), f"The gradient of the {name} is not finite")
        demand(_total(steps).any(), f"No synapse changes in {STEPS} steps of spikes on both sides")
        identical(_total(steps), _total(gradients(scene)), "The same run gives another gradient the second time")


def modulated_is_true(make: Make) -> None:
    """Without a third factor it changes nothing if it declares so; else the third factor makes no difference."""
    for scene in scenes(make):
        silent, told = _total(gradients(scene, third_factors=False)), _total(gradients(scene))
        if scene.plasticity.modulated:
            demand(not silent.any(), "`modulated` is True, but there is a gradient without a third factor")
        else:
            identical(silent, told, "`modulated` is False, but a third factor changes the gradient")


def the_batch_is_a_mean(make: Make) -> None:
    """Every example twice, each with half the third factor, is the same gradient.

    Must fail when the mean over the batch is a sum (tried).
    """
    for scene in scenes(make):
        twice = scene._replace(run=[_doubled(now) for now in scene.run])
        sentence = "With every example twice, and half the third factor each, the gradient is another: it must be "
        sentence += "summed over third factors, which carry 1/B, and a mean of all else"
        close(_total(gradients(twice)), _total(gradients(scene)), sentence, rtol=1e-9, atol=1e-12)


def _doubled(now: Instant) -> Instant:
    activity = now.activity
    twice = activity._replace(value=_twice(activity.value), potential=_twice(activity.potential))
    state = now.neuron_state
    state = type(state)(*(_twice(part) if part.dim() else part for part in state))
    third_factor = _shared(_twice(now.third_factor) / 2)
    return now._replace(pre=_twice(now.pre), activity=twice, neuron_state=state, third_factor=third_factor)


def _twice(value: Tensor) -> Tensor:
    return torch.cat((value, value))


def eligibility_is_what_the_third_factor_meets(make: Make) -> None:
    """More third factor by p at the last step is more gradient by sum_b p[b] e[b], for the e that can be recorded."""
    for scene in scenes(make):
        if not scene.plasticity.modulated:
            continue
        more = drawn(BATCH, seed=7)
        last = scene.run[-1]
        risen = _shared(last.third_factor + more.view(-1, *(1,) * (last.third_factor.ndim - 1)))
        risen = scene._replace(run=[*scene.run[:-1], last._replace(third_factor=risen)])
        low, high = gradients(scene)[-1], gradients(risen)[-1]
        demand(low is not None and high is not None, "A third factor at the last step of a run makes no gradient")
        assert low is not None and high is not None
        eligibility = _eligibility(scene)
        shape = [BATCH, *scene.synapses.weight.shape]
        demand(list(eligibility.shape) == shape, f"`eligibility` of all examples is {list(eligibility.shape)}: {shape}")
        met, sentence = torch.einsum("b,b...->...", more, eligibility), "`eligibility` is not what a third factor meets"
        close(high.weight - low.weight, met, f"{sentence}: the gradient changes by something else", 1e-7, 1e-10)


def _eligibility(scene: Scene) -> Tensor:
    """After the last step, of all examples."""
    state: object = None
    made = torch.zeros(0)
    for number, local in enumerate(_locals(scene)):
        state = scene.plasticity.init(local) if number == 0 else state
        _, state = scene.plasticity.step(state, local, DT)
        if number == STEPS - 1:
            made = scene.plasticity.eligibility(state, local, torch.arange(BATCH))
    return made


def plasticity_looks_at_no_value(make: Make) -> None:
    """So a step never waits for the device; tensors without data tell."""
    for scene in scenes(make):
        far = [
            Instant(
                now.pre.to("meta"), now.activity._replace(**_moved(now.activity)),
                type(now.neuron_state)(*(tensor.to("meta") for tensor in now.neuron_state)),
                _shared(now.third_factor.to("meta")),
            )
            for now in scene.run
        ]  # fmt: skip
        synapses = Synapses(*(None if part is None else part.to("meta") for part in scene.synapses))  # type: ignore[arg-type]
        with no_values("plasticity"):
            steps = gradients(scene._replace(run=far, synapses=synapses))
        for gradient in steps:
            there = gradient is None or gradient.weight.device.type == "meta"
            demand(there, "The gradient must stay on the device of the weights")


def _moved(activity: Activity) -> dict[str, Tensor]:
    return {"value": activity.value.to("meta"), "potential": activity.potential.to("meta")}


def bounds_and_statistics_fit(make: Make) -> None:
    """Of those that have any: a lower bound below the upper one, and a tracked weight of the same shape."""
    for scene in scenes(make):
        plasticity, state = scene.plasticity, None
        if isinstance(plasticity, Bounded):
            low, high = plasticity.bounds
            demand(low < high, f"`bounds` = ({low:g}, {high:g}); the lower one must come first")
        if isinstance(plasticity, Tracking):
            for number, local in enumerate(_locals(scene)):
                state = plasticity.init(local) if number == 0 else state
                _, state = plasticity.step(state, local, DT)
            weight = scene.synapses.weight
            demand(plasticity.track(state, weight).shape == weight.shape, "`track` changes the shape of the weight")


PLASTICITY_CHECKS: tuple[Check, ...] = (
    gradient_is_like_the_synapses, modulated_is_true, the_batch_is_a_mean, eligibility_is_what_the_third_factor_meets,
    plasticity_looks_at_no_value, bounds_and_statistics_fit,
)  # fmt: skip


def check_plasticity(make: Make) -> None:
    """Everything that the contract of a plasticity promises; see `check_neuron`."""
    for check in PLASTICITY_CHECKS:
        check(make)
