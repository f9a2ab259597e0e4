"""Random numbers as a pure function of (key, step, unit), so that noise is part of the state.

A key is drawn once per run from an explicit generator; from then on any step of any run gives the
same numbers on every device, and a run split in two gives those of the whole.
"""

import hashlib
import math
from collections.abc import Sequence

import torch
from torch import Tensor

_STEP = -7046029254386353131  # 0x9E3779B97F4A7C15, the increment of splitmix64
_FIRST = -4658895280553007687  # 0xBF58476D1CE4E5B9
_SECOND = -7723592293110705685  # 0x94D049BB133111EB


class PartGenerator(torch.Generator):
    """A generator of a run whose examples are a part of a batch that several processes share.

    first: number in the batch of the first of them; the others follow. Noise goes by the numbers in the batch.
    """

    first: int = 0


def part_of(generator: torch.Generator, first: int) -> PartGenerator:
    """A generator in the same state, of a run whose first example has this number in its batch."""
    part = PartGenerator()
    part.set_state(generator.get_state())
    part.first = first
    return part


class NotingGenerator(torch.Generator):
    """A generator of a run that notes who asks it for a key.

    asked: what was random, in order.
    """

    asked: list[str]


def noting(generator: torch.Generator) -> NotingGenerator:
    """A generator in the same state that notes who asks."""
    notes = NotingGenerator()
    notes.set_state(generator.get_state())
    notes.asked = []
    return notes


class KeyPlaces(torch.Generator):
    """A generator of a run that is taken down once and replayed: each finds its keys in their places.

    asked: what is random in such a run, in order.
    places: of the keys, int64 [how many].
    given: how many have been asked for.
    """

    asked: Sequence[str] = ()
    places: Tensor
    given: int = 0

    def fill(self, generator: torch.Generator) -> None:
        """Put the keys of the next replay in their places, as its run would draw them."""
        for place, what in zip(self.places, self.asked, strict=True):
            place.fill_(_drawn(generator, what))

    def key(self, what: str) -> Tensor:
        """The place of the next key, [].

        Raises:
            RuntimeError: if another run asked for something else.
        """
        if what not in self.asked[self.given : self.given + 1]:
            raise RuntimeError(f"{what} draws a key that it did not draw in the batch before")
        self.given += 1
        return self.places[self.given - 1]


def key_places(asked: Sequence[str], device: torch.device) -> KeyPlaces:
    """Places for the keys of a run on a device."""
    found = KeyPlaces()
    found.asked, found.places = asked, torch.zeros(len(asked), dtype=torch.int64, device=device)
    return found


def new_key(generator: torch.Generator | None, what: str, device: torch.device) -> Tensor:
    """A key drawn from the generator of the run: [], or of a part of a batch [2], with the number of its first example.

    Args:
        generator: of the run; populations of one network draw from it one after another.
        what: the kind of part that is random, as in 'an escape neuron'. It is part of the key, so parts of two kinds
            whose generators have one seed draw different numbers; two of one kind draw the same.
        device: of the key.
    Raises:
        ValueError: if there is no generator.
    """
    if generator is None:
        raise ValueError(f"{what} is random: give the run a torch.Generator")
    if isinstance(generator, KeyPlaces):
        return generator.key(what)
    if isinstance(generator, NotingGenerator):
        generator.asked.append(what)
    key = _placed(_drawn(generator, what), device)
    return torch.stack((key, _placed(generator.first, device))) if isinstance(generator, PartGenerator) else key


def _drawn(generator: torch.Generator, what: str) -> int:
    """The next key of a generator, 0..2^62 - 1."""
    return int(torch.randint(2**62, (), generator=generator)) ^ _salt(what)


def _placed(number: int, device: torch.device) -> Tensor:
    """A number on a device, int64 []; part of the launch of a kernel, since the host would wait for a copy."""
    return torch.full((), number, dtype=torch.int64, device=device)


def _salt(what: str) -> int:
    """62 bits that stand for a purpose; none for escape neurons, which had their numbers before purposes had any."""
    digest = hashlib.sha256(what.encode()).digest()
    return 0 if what == "an escape neuron" else int.from_bytes(digest[:8], "little") >> 2


def _mixed(bits: Tensor) -> Tensor:
    """Finaliser of splitmix64; int64 arithmetic wraps, shifts are made logical by a mask."""
    bits = (bits ^ ((bits >> 30) & ((1 << 34) - 1))) * _FIRST
    bits = (bits ^ ((bits >> 27) & ((1 << 37) - 1))) * _SECOND
    return bits ^ ((bits >> 31) & ((1 << 33) - 1))


def uniform(key: Tensor, step: Tensor, like: Tensor) -> Tensor:
    """Independent numbers in 0 <= u < 1, one per element of `like`: multiples of 2^-24, those below 2^-12 of 2^-48.

    P(u < p) is p within a share of 2^-12 of it, and within one of 1e-3 for p as small as 1e-11.

    Args:
        key: of the run, see `new_key`.
        step: int64 [], advanced by whoever owns the state.
        like: gives shape, dtype and device; of a part of a batch its first axis counts examples.
    Source: Steele, Lea, Flood 2014, OOPSLA (splitmix64), used as a counter-based generator.
    """
    counter = torch.arange(like.numel(), device=like.device, dtype=torch.int64)
    if key.numel() > 1:
        key, first = key.unbind()
        counter = counter + first * math.prod(like.shape[1:])
    start = _mixed(_mixed(key + step * _STEP))
    return _unit(_mixed(start + counter * _STEP), like.dtype).view(like.shape)


def uniforms(key: Tensor, first: int, steps: int, like: Tensor) -> Tensor:
    """What `uniform` gives at so many steps from `first` on, at once, [steps, *like.shape]."""
    step = torch.arange(first, first + steps, device=like.device, dtype=torch.int64)
    start = _mixed(_mixed(key + step * _STEP))
    counter = torch.arange(like.numel(), device=like.device, dtype=torch.int64)
    return _unit(_mixed(start[:, None] + counter * _STEP), like.dtype).view(steps, *like.shape)


def normal(key: Tensor, step: Tensor, like: Tensor) -> Tensor:
    """Independent standard normal numbers, one per element of `like`, none beyond 6 in float32.

    Args:
        key: int64 [], of a whole run.
        step: int64 [], >= 0, advanced by whoever owns the state.
        like: gives shape, dtype and device.
    Source: Box, Muller 1958, Ann. Math. Stat. 29.
    """
    half = like.new_empty((like.numel() + 1) // 2)
    length, angle = (uniform(key, 2 * step + part, half) for part in (0, 1))
    return _paired(length, angle)[: like.numel()].view(like.shape)


def normals(key: Tensor, first: int, steps: int, like: Tensor) -> Tensor:
    """What `normal` gives at so many steps from `first` on, at once, [steps, *like.shape]."""
    half = like.new_empty((like.numel() + 1) // 2)
    both = uniforms(key, 2 * first, 2 * steps, half).view(steps, 2, -1)
    return _paired(both[:, 0], both[:, 1])[:, : like.numel()].view(steps, *like.shape)


def _paired(length: Tensor, angle: Tensor) -> Tensor:
    """Twice as many normal numbers as there are pairs of uniform ones, along the last axis."""
    length, angle = (-2 * torch.log1p(-length)).sqrt_(), angle * (2 * math.pi)
    return torch.cat((length * torch.cos(angle), length * torch.sin(angle)), -1)


def normal_by_place(key: Tensor, step: Tensor, like: Tensor) -> Tensor:
    """As `normal`, but every number depends on its place alone, not on how many follow, at twice the cost.

    So an example has the noise of its place in the batch, however many there are.
    """
    length, angle = (uniform(key, 2 * step + part, like) for part in (0, 1))
    return (-2 * torch.log1p(-length)).sqrt_().mul_(angle.mul_(2 * math.pi).cos_())


def _unit(bits: Tensor, dtype: torch.dtype) -> Tensor:
    """The first 48 of 64 bits as a number in 0 <= u < 1.

    float32 holds 24 bits. With the first 24 alone no probability between two multiples of 2^-24 would be met: one of
    1e-7, a unit of 1e-3 Hz in a step of 0.1 ms, would be 19 % too large. Small numbers keep the bits that follow.
    """
    bits = (bits >> 16) & ((1 << 48) - 1)
    return torch.where(bits < 1 << 36, bits, bits & (-1 << 24)).to(dtype).mul_(2.0**-48)


def happens(probability: Tensor, generator: torch.Generator | None) -> Tensor:
    """Which of some independent events happen: True with the probability of each.

    Args:
        probability: 0..1, any shape. If one is below 2^-12 all are drawn in float64, whose 53 bits such events need.
        generator: on the device of the probabilities; none: that of torch.
    """
    rare = bool(((probability > 0) & (probability < 2.0**-12)).any())
    dtype = torch.float64 if rare else probability.dtype
    return torch.rand(probability.shape, dtype=dtype, device=probability.device, generator=generator) < probability
