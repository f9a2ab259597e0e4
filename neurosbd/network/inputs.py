"""What a network can be shown: the size, type and place of its inputs, and what would make others fit."""

import math
from collections.abc import Iterable, Iterator, Sequence, Sized

from torch import Tensor

from neurosbd.errors import UsageError


class Frames(Iterator[Tensor]):
    """Inputs that are made when they are asked for, once, and whose number is known. Nothing that a network does
    changes them, so that those of several steps may be asked for ahead.

    Args:
        steps: how many there are.
        frames: [B, *input size] each.
    """

    def __init__(self, steps: int, frames: Iterable[Tensor]) -> None:
        self.steps = steps
        self.frames = iter(frames)

    def __len__(self) -> int:
        return self.steps

    def __next__(self) -> Tensor:
        return next(self.frames)


def gone_once_shown(inputs: object) -> bool:
    """Whether inputs come step by step, and only once."""
    return isinstance(inputs, Iterator) or not isinstance(inputs, Sized)


def first_step_only(lasting: Sequence[str]) -> str:
    """What to say of a network that was shown an example for one step, though populations, or delays, remember."""
    what = f"{', '.join(map(repr, lasting))} remember" if lasting else "delayed connections bring"
    return (
        f"network(x) took one step from rest, but {what} what was before: a run goes on for many steps. "
        f"run.predict(x) gives what a run says of raw examples, neurosbd.unroll(network, inputs) runs over "
        f"inputs [T, B, *size]"
    )


def moments_of_before(adaptive: Iterable[str]) -> str:
    """What to say where populations that measure their batches have not been told that one is over."""
    return (
        f"no after_step() followed the last batch, so that {', '.join(map(repr, adaptive))} act on moments of before "
        f"it; call learner.after_step() after every optimizer.step()"
    )


def check_inputs(x: object, size: tuple[int, ...], like: Tensor, steps: bool) -> None:
    """Refuse what cannot be shown to a network; the values are not looked at.

    Args:
        x: must be [B, *size], in the type and on the device of `like`.
        size: of the input population.
        like: of the type and on the device of the weights.
        steps: whether it has an axis of steps before: [T, B, *size].
    Raises:
        UsageError: with what is there, what is wanted, and how to get it.
    """
    leading = ("T", "B") if steps else ("B",)
    wanted = f"[{', '.join([*leading, *map(str, size)])}]"
    if not isinstance(x, Tensor):
        how = "; make it one with torch.as_tensor(x)" if hasattr(x, "__array__") or isinstance(x, list) else ""
        raise UsageError(f"inputs must be a tensor {wanted}, got {type(x).__name__}{how}")
    if x.shape[len(leading) :] != size or x.ndim != len(leading) + len(size):
        raise UsageError(f"inputs are {list(x.shape)}, but must be {wanted}{_mended(tuple(x.shape), size, leading)}")
    if x.dtype != like.dtype:
        raise UsageError(
            f"inputs are {x.dtype}, but the weights are {like.dtype}; use x.to({like.dtype}), "
            f"and normalise values such as grey levels 0..255 (run.predict does both)"
        )
    if x.device != like.device:
        raise UsageError(f"inputs are on {x.device}, but the weights are on {like.device}; use x.to(...)")


def _mended(shape: tuple[int, ...], size: tuple[int, ...], leading: tuple[str, ...]) -> str:
    """What would make the shape of an input fit, where one thing is the matter."""
    given = len(shape) - len(size)
    if given >= 0 and shape[given:] == size and given < len(leading):
        missing = "steps and of a batch: x[None, None]" if given == 0 and len(leading) == 2 else ""
        return f"; it lacks the axis of {missing or ('steps' if given else 'a batch') + ': x[None]'}"
    if given > len(leading) and shape[given:] == size and len(leading) == 1:
        return "; inputs over time go into neurosbd.unroll(network, x)"
    if math.prod(shape[len(leading) :]) == math.prod(size) and len(shape) > len(leading):
        return f"; x.reshape({', '.join(map(str, (*shape[: len(leading)], *size)))}) has that size"
    return ""
