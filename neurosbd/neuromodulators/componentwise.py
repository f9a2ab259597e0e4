"""The score itself, component by component: global error vector broadcasting."""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from neurosbd.axes import components, per_component
from neurosbd.neuromodulators.neuromodulator import Broadcast, Receiver, no_statistics, unchanged


@dataclass(frozen=True)
class Componentwise:
    """third_factor[b, i, k] = score[b, k]: every unit hears the whole score, a value for each component of its vector.

    There is no projection and no weight on the way back. With weights that are not negative behind the first layer, the
    true derivative by the activity of a unit is the score times a number that is not negative, so that signs agree.

    Source: Clark, Abbott, Chung 2021, NeurIPS, arXiv 2106.04089 (global error vector broadcasting, GEVB).
    """

    rewarded: ClassVar[bool] = False
    reads_activity: ClassVar[bool] = False
    steady: ClassVar[bool] = True
    statistics = no_statistics
    update = unchanged

    def init(self, receiver: Receiver, broadcast: Broadcast, generator: torch.Generator) -> tuple[()]:
        """Nothing is kept; ValueError unless units have a component for each output."""
        _, *size = receiver.value.shape
        outputs = broadcast.score.shape[1]
        if not components(receiver.value) or size[1] != outputs:
            raise ValueError(
                f"the score has {outputs} values, one for each component of a unit, but the size is {size}; give "
                f"it size = [units, {outputs}] and axes = ['units', 'components'], as model mnist-vnn does, or "
                f"[channels, {outputs}, height, width] as mnist-vnn-cnn, or choose a rule for units of one value: "
                f"'sbd', 'dfa'"
            )
        return ()

    def third_factor(self, state: tuple[()], receiver: Receiver, broadcast: Broadcast) -> Tensor:
        """The score, [B, units, C], at every position of a map; an expanded view, nothing is written."""
        return per_component(broadcast.score, receiver.value)

    def projection(self, state: tuple[()]) -> None:
        """By nothing."""
        return None
