"""What every encoder keeps: frames like the values, from its state and its noise alone."""

import copy
from collections.abc import Iterator

import torch
from torch import Tensor

from neurosbd.encoders import Encoder, encode
from neurosbd.testing.judging import DT, Check, Make, close, demand, drawn, identical, no_values, seeded

STEPS = 30


def _values(encoder: Encoder, dtype: torch.dtype) -> Tensor:
    """A batch of pictures [3, 2, 5, 5]: intensities 0..1, or normalised values, whichever it wants."""
    if encoder.intensity:
        return torch.rand(3, 2, 5, 5, generator=seeded(), dtype=dtype)
    return drawn(3, 2, 5, 5, dtype=dtype)


def _frames(encoder: Encoder, value: Tensor, seed: int = 0) -> Tensor:
    return torch.stack(list(encode(encoder, value, STEPS, DT, seeded(seed))))


def _cases(make: Make) -> Iterator[tuple[Encoder, Tensor]]:
    for dtype in (torch.float32, torch.float64):
        encoder = make()
        demand(isinstance(encoder.intensity, bool), "`intensity` must be True (values 0..1) or False (normalised ones)")
        yield encoder, _values(encoder, dtype)


def frames_are_like_the_values(make: Make) -> None:
    """Shape, dtype, finite, not all 0; what an example alone is shown as, it is shown as in a batch.

    The last only of those that draw nothing. Must fail when examples are normalised by their batch (tried).
    """
    for encoder, value in _cases(make):
        before = value.clone()
        frames = _frames(encoder, value)
        sentence = f"Values {list(value.shape)} are shown as frames {list(frames.shape[1:])}; they must be of one shape"
        demand(frames.shape[1:] == value.shape, sentence)
        demand(frames.dtype == value.dtype, f"Values of {value.dtype} are shown in {frames.dtype}")
        demand(torch.isfinite(frames).all(), "A frame is not finite")
        demand(frames.any(), f"All frames of {STEPS} steps are 0")
        identical(value, before, "A step of the encoder changes the values that it was given")
        if torch.equal(_frames(encoder, value, seed=1), frames):
            alone = _frames(encoder, value[1:2])
            close(alone, frames[:, 1:2], "An example alone is shown in another way than in a batch", 1e-6, 1e-6)


def encoder_goes_on_where_it_was(make: Make) -> None:
    """The state is all there is: repeated bitwise from the same generator, whatever the order in memory."""
    for encoder, value in _cases(make):
        there = torch.get_rng_state()
        whole = _frames(encoder, value)
        sentence = "Two runs of the same generator show different frames; randomness must come from `init` alone"
        identical(_frames(encoder, value), whole, sentence)
        identical(torch.get_rng_state(), there, "The encoder draws from the global generator, not from its own")
        state, frames = encoder.init(value, seeded()), []
        for t in range(STEPS):
            before = copy.deepcopy(state)
            shown = value.contiguous(memory_format=torch.channels_last) if t > STEPS // 2 else value
            frame, after = encoder.step(state, shown, DT)
            for a, b in zip(before, state, strict=True):
                identical(a, b, "A step changes the state that it was given; it must return a new one")
            state = after
            frames.append(frame)
        identical(torch.stack(frames), whole, "Frames depend on the order of the values in memory")


def encoder_looks_at_no_value(make: Make) -> None:
    """So a step never waits for the device; tensors without data tell."""
    encoder = make()
    value = _values(encoder, torch.float32).to("meta")
    with no_values("encoder"):
        frame, _ = encoder.step(encoder.init(value, seeded()), value, DT)
    demand(frame.device.type == "meta", "A frame must stay on the device of the values")


ENCODER_CHECKS: tuple[Check, ...] = (
    frames_are_like_the_values, encoder_goes_on_where_it_was, encoder_looks_at_no_value,
)  # fmt: skip


def check_encoder(make: Make) -> None:
    """Everything that the contract of an encoder promises; see `check_neuron`."""
    for check in ENCODER_CHECKS:
        check(make)
