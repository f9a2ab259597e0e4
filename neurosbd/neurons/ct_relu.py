"""A neuron whose value is a vector, open or shut as a whole."""

from typing import cast

from torch import Tensor

from neurosbd.axes import components
from neurosbd.neurons.membrane import number
from neurosbd.neurons.neuron import Activity
from neurosbd.neurons.rate import forgetful, stateless, unfiltered
from neurosbd.schema.constants import Constant, constants


@constants
class CtReLU:
    """value = drive where direction . drive >= 0, else 0; the gain is 1 or 0 of all components alike.

    Units of one value have a gate each: with direction = 1 they are those of relu, with -1 they pass what is negative.

    Args:
        direction: t of each unit, one number per component; 'opposite_signs' draws them as the source does.
    Source: Clark, Abbott, Chung 2021, NeurIPS, arXiv 2106.04089 (ctReLU; aReLU of units of one value).
    Differs: from relu at a drive of exactly 0, which is open, as there.
    """

    direction: Constant = 1.0

    init, filters, flow = stateless, unfiltered, forgetful

    def step(self, state: tuple[()], drive: Tensor, dt: float) -> tuple[Activity, tuple[()]]:
        """Open units as they are driven, [B, *size]."""
        along = drive.detach() * number(self.direction)
        axis = components(drive)
        is_open = ((along.sum(axis, keepdim=True) if axis else along) >= 0).to(drive.dtype)
        value = drive * is_open
        return Activity(value, value, is_open), state

    def gate(self, activity: Activity, third_factor: Tensor, dt: float) -> Tensor:
        """third factor of open units."""
        return third_factor * cast(Tensor, activity.cache)

    @property
    def factorises(self) -> bool:
        """Gain x pre is the whole derivative."""
        return True
