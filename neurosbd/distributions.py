"""Constants that differ between neurons: a number, one value per unit, or a distribution to draw from."""

import dataclasses
import math
from collections.abc import Container, Sequence
from typing import TypeVar

import numpy as np
import torch
from torch import Tensor

from neurosbd.errors import UsageError
from neurosbd.files.arrays import numbers, shaped
from neurosbd.schema.constants import Distribution, Positive, constants
from neurosbd.schema.namespace import is_table


@constants
class Uniform:
    """Equally likely between low and high.

    Args:
        low: smallest value.
        high: largest value, > low.
    Source: standard; per-neuron time constants as in Perez-Nieves et al. 2021, Nat. Commun. 12:5791.
    """

    low: float
    high: float

    def __post_init__(self) -> None:
        if not self.low < self.high:
            raise ValueError(f"Uniform needs low < high, got low = {self.low}, high = {self.high}")

    @property
    def least(self) -> float:
        """low."""
        return self.low

    def draw(self, shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
        """Values of `shape`."""
        return self.low + (self.high - self.low) * torch.rand(shape, generator=generator)


@constants
class Normal:
    """Gaussian, drawn again until it lies above `least`.

    Args:
        mean: of the untruncated Gaussian.
        std: of the untruncated Gaussian, > 0.
        least: draws below it are repeated; mean must lie above it.
    Source: standard (truncated normal).
    """

    mean: float
    std: Positive
    least: float = -math.inf

    def __post_init__(self) -> None:
        if not self.mean > self.least:
            raise ValueError(f"Normal.mean must be above least = {self.least}, got {self.mean}")

    def draw(self, shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
        """Values of `shape`."""
        values = self.mean + self.std * torch.randn(shape, generator=generator)
        while (low := values < self.least).any():
            again = self.mean + self.std * torch.randn(shape, generator=generator)
            values = torch.where(low, again, values)
        return values


@constants
class LogNormal:
    """median * exp(sigma n) with n a standard normal: positive, skewed to the right.

    Args:
        median: > 0.
        sigma: spread of the logarithm, > 0.
    Source: Buzsaki, Mizuseki 2014, Nat. Rev. Neurosci. 15 (log-normal rates and weights in cortex).
    """

    median: Positive
    sigma: Positive = 0.5

    @property
    def least(self) -> float:
        """The smallest number above 0."""
        return math.ulp(0.0)

    def draw(self, shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
        """Values of `shape`."""
        return self.median * torch.exp(self.sigma * torch.randn(shape, generator=generator))


@constants
class OppositeSigns:
    """-1 or 1, equally likely, and of the next unit the opposite: draw[2 m + 1] = -draw[2 m].

    Source: Clark, Abbott, Chung 2021, NeurIPS, arXiv 2106.04089 (directions of gates, one number per component).
    """

    @property
    def least(self) -> float:
        """-1."""
        return -1.0

    def draw(self, shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
        """Values of `shape`, whose first axis counts the units; of maps of vectors the same at all positions."""
        unit = shape[:2] if len(shape) == 4 else shape
        half = 2.0 * torch.randint(2, (-(-unit[0] // 2), *unit[1:]), generator=generator) - 1
        drawn = torch.stack((half, -half), 1).flatten(0, 1)[: unit[0]]
        return drawn if unit == shape else drawn[:, :, None, None].expand(shape).clone()


@constants(called="file")
class ConstantsFromFile:
    """The numbers of a file, in the unit of the constant: s, V, ...

    Args:
        file: .npy or .npz: one number per unit, in its shape or in a row; one per channel of a map; of a delay one for
            every weight, [post, pre, ..].
        array: which one of an .npz that has several.
    Raises:
        UsageError: when they are asked for, if there is no such file, or it does not fit.
    Source: standard.
    """

    file: str = ""
    array: str = ""

    @property
    def least(self) -> float:
        """The smallest."""
        found = numbers(self.file, self.array)
        if not found.size:
            raise UsageError(f"{self.file}: has no numbers")
        return float(found.min())

    def draw(self, shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
        """Values of `shape`, float64; the generator is not advanced."""
        return _laid_out(torch.from_numpy(numbers(self.file, self.array).astype(np.float64)), shape, self.file)

    def of_synapses(self, where: Sequence[Tensor], shape: tuple[int, ...]) -> Tensor:
        """Those of some synapses, float64 [n], of an array like their weight, [post, pre, ..], from their places along
        its axes, [n] each."""
        found = torch.from_numpy(shaped(self.file, self.array, shape, "[post, pre, ..]").astype(np.float64))
        return found[tuple(along.long() for along in where)]


DISTRIBUTIONS = {
    "uniform": Uniform, "normal": Normal, "log_normal": LogNormal, "opposite_signs": OppositeSigns,
    "file": ConstantsFromFile,
}  # fmt: skip
is_table(__name__, DISTRIBUTIONS)


def check_above(owner: object, upper: str, lower: str, unit: str = "") -> None:
    """Raise ValueError unless one constant lies above another in every unit; distributions are looked at when drawn."""
    high, low = getattr(owner, upper), getattr(owner, lower)
    if isinstance(high, Distribution) or isinstance(low, Distribution):
        return
    above, below = (torch.as_tensor(value, dtype=torch.float64) for value in (high, low))
    if above.ndim and below.ndim and above.shape != below.shape:
        return  # one of them is still per channel, or wrong, which drawing will say
    if not (above.to(below.device) > below).all():
        raise ValueError(f"{type(owner).__name__}.{upper} must lie above {lower} = {low}{unit}, got {high}")


def is_rounding(constant: Tensor | None, exact: Tensor) -> bool:
    """Whether a constant is an exact one in its own type; a checkpoint may have put another in its place."""
    return constant is not None and torch.equal(constant.cpu(), exact.to(constant.dtype).cpu())


T = TypeVar("T")


def sample_constants(
    owner: T,
    size: tuple[int, ...],
    generator: torch.Generator,
    dtype: torch.dtype | None = None,
    names: Container[str] | None = None,
) -> T:
    """The same constants with every distribution drawn, and every list of values a tensor [*size].

    Values for a map [channels, height, width] may be given one per channel.

    Args:
        owner: constants of a neuron.
        size: of its population.
        generator: of all draws, which are made in float32.
        dtype: of the tensors; none: torch's default.
        names: of the constants that units may differ in; none: all.
    Raises:
        ValueError: if the number of values fits neither the units nor the channels.
    """
    if not dataclasses.is_dataclass(owner) or isinstance(owner, type):
        return owner
    changed: dict[str, Tensor] = {}
    dtype = dtype or torch.get_default_dtype()
    for field in dataclasses.fields(owner):
        value = getattr(owner, field.name)
        if names is not None and field.name not in names:
            continue
        if isinstance(value, Distribution):
            changed[field.name] = value.draw(size, generator).to(dtype)
        elif isinstance(value, tuple | list | Tensor):
            values = torch.as_tensor(value, dtype=dtype)
            changed[field.name] = _laid_out(values, size, f"{type(owner).__name__}.{field.name}")
    return dataclasses.replace(owner, **changed) if changed else owner


def _laid_out(values: Tensor, size: tuple[int, ...], name: str) -> Tensor:
    laid = [length for length in values.shape if length != 1]
    if values.numel() == math.prod(size) and (len(laid) < 2 or laid == [length for length in size if length != 1]):
        return values.reshape(size).clone()
    if values.numel() == size[0] and len(laid) < 2:
        return values.reshape(size[0], *(1 for _ in size[1:])).expand(size).clone()
    shape = f"{values.numel()} values" + (f" (as {list(values.shape)})" if len(laid) > 1 else "")
    raise ValueError(
        f"{name} has {shape}, but the population has {math.prod(size)} units "
        f"(size {list(size)}); give one value, one per unit or one per channel"
    )
