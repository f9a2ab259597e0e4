"""How weights start: drawn by name from an explicit generator, always on the CPU and in float32.

The draw does not depend on the device, so a network starts the same on a CPU and on a GPU.
"""

import math
from dataclasses import dataclass
from typing import ClassVar, Protocol

import numpy as np
import torch
from torch import Tensor

from neurosbd.files.arrays import shaped
from neurosbd.schema.constants import NotNegative, Positive, constants


class Initialiser(Protocol):
    """Draws a weight tensor of a given shape [post, pre, ...].

    One that draws post unit after post unit, whatever their number, may declare `by_rows = True`: of a large connection
    that is stored sparsely it is then asked for parts.
    """

    def draw(self, shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
        """Weight of `shape`, float32, from `generator` alone."""
        ...


def _fans(shape: tuple[int, ...]) -> tuple[int, int]:
    """Synapses onto one unit, and from one unit: (fan_in, fan_out)."""
    field = math.prod(shape[2:])
    return shape[1] * field, shape[0] * field


@constants
class KaimingNormal:
    """weight ~ N(0, gain^2 / fan_in).

    Args:
        gain: > 0; sqrt(2) keeps the power of relu activity from layer to layer.
    Source: He et al. 2015, ICCV, equation 10.
    """

    gain: Positive = math.sqrt(2)

    by_rows: ClassVar[bool] = True

    def draw(self, shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
        """Weight of `shape`."""
        return torch.randn(shape, generator=generator) * (self.gain / math.sqrt(_fans(shape)[0]))


@constants
class KaimingUniform:
    """weight ~ U(-a, a) with a = gain sqrt(3 / fan_in), so the standard deviation is gain / sqrt(fan_in).

    Args:
        gain: > 0; sqrt(1/3) is the default of `torch.nn.Linear`.
    Source: He et al. 2015, ICCV.
    """

    gain: Positive = math.sqrt(2)

    by_rows: ClassVar[bool] = True

    def draw(self, shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
        """Weight of `shape`."""
        bound = self.gain * math.sqrt(3 / _fans(shape)[0])
        return (2 * torch.rand(shape, generator=generator) - 1) * bound


@constants
class XavierNormal:
    """weight ~ N(0, gain^2 * 2 / (fan_in + fan_out)).

    Args:
        gain: > 0.
    Source: Glorot, Bengio 2010, AISTATS, equation 12.
    """

    gain: Positive = 1.0

    def draw(self, shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
        """Weight of `shape`."""
        return torch.randn(shape, generator=generator) * (self.gain * math.sqrt(2 / sum(_fans(shape))))


@constants
class XavierUniform:
    """weight ~ U(-a, a) with a = gain sqrt(6 / (fan_in + fan_out)).

    Args:
        gain: > 0.
    Source: Glorot, Bengio 2010, AISTATS, equation 16.
    """

    gain: Positive = 1.0

    def draw(self, shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
        """Weight of `shape`."""
        bound = self.gain * math.sqrt(6 / sum(_fans(shape)))
        return (2 * torch.rand(shape, generator=generator) - 1) * bound


@constants
class Normal:
    """weight ~ N(mean, std^2), whatever the number of synapses.

    Args:
        mean: of all weights.
        std: standard deviation, >= 0.
    Source: Goupy, Tirilly, Bilasco 2024, Front. Neurosci. 18:1401690 (weights between 0 and 1 that start alike).
    """

    mean: float = 0.0
    std: NotNegative = 0.01

    by_rows: ClassVar[bool] = True

    def draw(self, shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
        """Weight of `shape`."""
        return torch.randn(shape, generator=generator) * self.std + self.mean


@constants
class Uniform:
    """weight ~ U(low, high).

    Args:
        low: smallest weight.
        high: largest, > low.
    Raises:
        ValueError: if low is not below high.
    Source: Brian2 and PyNN, whose weights are given by such bounds.
    """

    low: float = 0.0
    high: float = 0.1

    by_rows: ClassVar[bool] = True

    def __post_init__(self) -> None:
        if not self.low < self.high:
            raise ValueError(f"uniform weights need low < high, got low = {self.low} and high = {self.high}")

    def draw(self, shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
        """Weight of `shape`."""
        return torch.rand(shape, generator=generator) * (self.high - self.low) + self.low


@constants
class LogNormal:
    """weight = median exp(sigma n), n ~ N(0, 1): positive and skewed to the right, as weights in cortex are.

    Args:
        median: half of the weights are below it, > 0.
        sigma: spread of the logarithm, >= 0.
    Source: Song, Sjostrom, Reigl, Nelson, Chklovskii 2005, PLoS Biol. 3:e68.
    """

    median: Positive = 0.05
    sigma: NotNegative = 0.9

    by_rows: ClassVar[bool] = True

    def draw(self, shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
        """Weight of `shape`."""
        return torch.randn(shape, generator=generator).mul_(self.sigma).exp_().mul_(self.median)


@dataclass(frozen=True)
class Zeros:
    """weight = 0; broadcast rules escape it, backprop does not.

    Source: Nokland 2016, NeurIPS, section 4 (direct feedback alignment from zero weights).
    """

    by_rows: ClassVar[bool] = True

    def draw(self, shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
        """Zeros of `shape`; the generator is not advanced."""
        return torch.zeros(shape)


@constants
class Constant:
    """weight = value for every synapse.

    Args:
        value: any finite number.
    Source: standard.
    """

    value: float = 1.0

    by_rows: ClassVar[bool] = True

    def draw(self, shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
        """Weight of `shape`; the generator is not advanced."""
        return torch.full(shape, self.value)


@constants
class Diagonal:
    """weight = value from each unit to the one of the same number, else 0; of a kernel at its centre.

    Args:
        value: any finite number.
    Source: standard; the inverse correlation of uncorrelated units of power 1 / value (Erdogan et al. 2025, EBD, I.2.3,
        start from a random matrix times its transpose, of the same mean).
    """

    value: float = 1.0

    def draw(self, shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
        """Weight of `shape`; the generator is not advanced."""
        weight = torch.zeros(shape)
        centre = weight[(..., *(extent // 2 for extent in shape[2:]))]
        centre.diagonal().fill_(self.value)
        return weight


@constants
class Paired:
    """weight ~ N(0, gain^2 / fan_in), and of the next post unit the opposite: weight[2 m + 1] = -weight[2 m].

    Args:
        gain: > 0.
    Source: Clark, Abbott, Chung 2021, NeurIPS, arXiv 2106.04089 (ON/OFF initialisation, first layer).
    """

    gain: Positive = 1.0

    def draw(self, shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
        """Weight of `shape`."""
        half = torch.randn((-(-shape[0] // 2), *shape[1:]), generator=generator) * (
            self.gain / math.sqrt(_fans(shape)[0])
        )
        return torch.stack((half, -half), 1).flatten(0, 1)[: shape[0]]


@constants
class OnOff:
    """Weights >= 0 between pairs of opposite units that act like one of both signs, A ~ N(0, 2 gain^2 / fan_in):

        weight[2a, 2b] = weight[2a + 1, 2b + 1] = max(A[a, b], 0)
        weight[2a, 2b + 1] = weight[2a + 1, 2b] = max(-A[a, b], 0)

    Behind a `paired` first layer a network computes at the start what one of half the width with the weights A does.

    Args:
        gain: > 0; sqrt(2) as in the source.
    Source: Clark, Abbott, Chung 2021, NeurIPS, arXiv 2106.04089 (ON/OFF initialisation).
    """

    gain: Positive = math.sqrt(2)

    def draw(self, shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
        """Weight of `shape`."""
        post, pre, *kernel = shape
        a = torch.randn((-(-post // 2), -(-pre // 2), *kernel), generator=generator)
        a = a * (self.gain * math.sqrt(2 / _fans(shape)[0]))
        on, off = a.clamp(min=0), (-a).clamp(min=0)
        even, odd = torch.stack((on, off), 2).flatten(1, 2), torch.stack((off, on), 2).flatten(1, 2)
        return torch.stack((even, odd), 1).flatten(0, 1)[:post, :pre].contiguous()


@constants
class DifferenceOfGaussians:
    """Kernels of retinal ganglion cells: a narrow Gaussian minus a wide one, and the next post unit the opposite.

        weight[2 m] = value (G(centre) - G(surround)) / pre units,   weight[2 m + 1] = -weight[2 m]

    G(s) is exp(-r^2 / (2 s^2)) over the kernel, scaled to a sum of 1, so that an even picture drives nobody.

    Args:
        centre: standard deviation of the narrow one, pixels, > 0.
        surround: of the wide one, pixels, > centre.
        value: any finite number.
    Raises:
        ValueError: if a constant is out of range, or the weight is that of no kernel.
    Source: Rodieck 1965, Vision Res. 5; with 1 and 2 pixels in kernels of 7: Kheradpisheh et al. 2018, Neural Netw. 99.
    """

    centre: Positive = 1.0
    surround: Positive = 2.0
    value: float = 1.0

    def __post_init__(self) -> None:
        if not self.centre < self.surround:
            raise ValueError(
                f"difference_of_gaussians needs centre < surround, got centre = {self.centre} and surround = "
                f"{self.surround}"
            )

    def draw(self, shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
        """Weight of `shape`, [post, pre, kernel, kernel]; the generator is not advanced."""
        if len(shape) != 4:
            raise ValueError(
                f"difference_of_gaussians is a kernel of conv2d, got a weight {list(shape)}; set kind = 'conv2d'"
            )
        distance = [torch.arange(side) - (side - 1) / 2 for side in shape[2:]]
        square = distance[0][:, None] ** 2 + distance[1] ** 2
        centre, surround = (torch.exp(-square / (2 * s * s)) for s in (self.centre, self.surround))
        on = (centre / centre.sum() - surround / surround.sum()) * (self.value / shape[1])
        sign = 1 - 2 * (torch.arange(shape[0]) % 2).to(on)
        return (sign[:, None, None, None] * on).expand(shape).contiguous()


@constants(called="file")
class WeightsFromFile:
    """weight = the numbers of a file.

    Args:
        file: .npy or .npz of the shape of the weight: [post, pre] of a dense connection; whatever has no synapse is not
            looked at.
        array: which one of an .npz that has several.
    Raises:
        UsageError: when they are drawn, if there is no such file, or its numbers do not fit.
    Source: standard.
    """

    file: str = ""
    array: str = ""

    def draw(self, shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
        """Weight of `shape`; the generator is not advanced."""
        return torch.from_numpy(shaped(self.file, self.array, shape, "[post, pre, ..]").astype(np.float32))


INITIALISERS = {
    "kaiming_normal": KaimingNormal,
    "kaiming_uniform": KaimingUniform,
    "xavier_normal": XavierNormal,
    "xavier_uniform": XavierUniform,
    "normal": Normal,
    "uniform": Uniform,
    "log_normal": LogNormal,
    "zeros": Zeros,
    "constant": Constant,
    "diagonal": Diagonal,
    "paired": Paired,
    "on_off": OnOff,
    "difference_of_gaussians": DifferenceOfGaussians,
    "file": WeightsFromFile,
}
