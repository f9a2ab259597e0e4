"""A rate neuron whose drive is normalised across its population, example by example."""

from dataclasses import field
from typing import Literal, NamedTuple

import torch
from torch import Tensor

from neurosbd.axes import whole
from neurosbd.neurons.neuron import Activity, Flow
from neurosbd.neurons.rate import RateNeuron, ReLU
from neurosbd.schema.constants import Positive, constants

By = Literal["deviation", "power"]
Over = Literal["population", "channels"]


class Scaling(NamedTuple):
    """What the gate of a normalised neuron needs."""

    normal: Tensor  # normalised drive n, [B, *size]
    factor: Tensor  # 1 / divisor, [B] with ones for the axes that share it
    cache: object  # of the neuron within


@constants
class Normalised:
    """value = f(n), where n is the drive u divided by how strong the drives of its pool are.

        by 'deviation': n = (u - mean u) / sqrt(var u + epsilon)          layer normalisation
        by 'power':     n = u / sqrt(mean u^2 + epsilon)                  divisive normalisation

    The means run over one example, so the test needs nothing that training has to remember. All units of a pool are
    divided by the same number, so the derivative is a matrix. `gate` is its transpose times the third factor, exactly,

        gate(s) = (g - mean(g) - n mean(g n)) / divisor,   g = f'(n) s    ('power': without mean(g))

    which takes two more sums over the pool, like those that the drive itself is normalised by: one interneuron each.
    So with the true derivative as third factor the update is the true gradient; what is not local to a synapse is local
    to its population. There is no eligibility of one unit, and the rules that want one refuse.

    Args:
        neuron: f, a rate neuron.
        by: what the drives are divided by.
        over: the pool: the whole 'population', or in a map all 'channels' at one position (else it is the same).
        epsilon: added under the root, in units of drive^2, > 0.
    Raises:
        ValueError: if `neuron` is no rate neuron, or `epsilon` is not positive.
    Source: Ba, Kiros, Hinton 2016, arXiv 1607.06450 (deviation); Carandini, Heeger 2012, Nat. Rev. Neurosci. 13:51, and
        Zhang, Sennrich 2019, arXiv 1910.07467 (power).
    Differs: no gains and biases of its own: the bias of the connection comes before the division.
    """

    neuron: RateNeuron = field(default_factory=ReLU)
    by: By = "deviation"
    over: Over = "population"
    epsilon: Positive = 1e-5

    def init(self, drive: Tensor, generator: torch.Generator | None = None) -> tuple[()]:
        """Nothing to remember."""
        return ()

    def step(self, state: tuple[()], drive: Tensor, dt: float) -> tuple[Activity, tuple[()]]:
        """value = f(n), [B, *size]."""
        centred = drive - self._mean(drive) if self.by == "deviation" else drive
        factor = torch.rsqrt(self._mean(centred.square()) + self.epsilon)
        normal = centred * factor
        inner, _ = self.neuron.step((), normal, dt)
        return Activity(inner.value, inner.potential, Scaling(normal, factor, inner.cache)), state

    def gate(self, activity: Activity, third_factor: Tensor, dt: float) -> Tensor:
        """(g - mean(g) - n mean(g n)) / divisor, with g = f'(n) signal."""
        normal, factor, cache = activity.cache
        g = self.neuron.gate(Activity(activity.value, activity.potential, cache), third_factor, dt)
        rest = torch.addcmul(g, normal, self._mean(g * normal), value=-1)
        return (rest - self._mean(g) if self.by == "deviation" else rest) * factor

    def _mean(self, value: Tensor) -> Tensor:
        """Over the pool."""
        return value.mean(1 if self.over == "channels" else whole(value), keepdim=True)

    @property
    def coupled(self) -> str:
        """What they are divided by."""
        return f"the {self.by} of their drives"

    @property
    def factorises(self) -> bool:
        """Gate x pre is the whole derivative."""
        return True

    def filters(self, dt: float) -> tuple[()]:
        """No filter between drive and value."""
        return ()

    def flow(self, state: tuple[()], activity: Activity, dt: float) -> Flow:
        """Nothing of this step reaches the next."""
        return Flow(((0.0,),), (1.0,), (1.0,))
