"""Neuromodulators: from the score of the loss to one third factor per unit."""

from collections.abc import Callable

from neurosbd.neuromodulators.activations import ACTIVATIONS, Activation, ActivationName
from neurosbd.neuromodulators.aligned import Aligned, overlapping
from neurosbd.neuromodulators.componentwise import Componentwise
from neurosbd.neuromodulators.decorrelation import Decorrelation, Feedback
from neurosbd.neuromodulators.direct_kolen_pollack import Descending, DirectKolenPollack
from neurosbd.neuromodulators.fixed_kernels import FixedKernels
from neurosbd.neuromodulators.fixed_random import FixedRandom, Frozen
from neurosbd.neuromodulators.forgetting import Forgetting, Shape
from neurosbd.neuromodulators.layouts import LAYOUTS, Full, Grid, Layout, LowRank, Patchwise, Shared
from neurosbd.neuromodulators.neuromodulator import HasHead, Neuromodulator
from neurosbd.neuromodulators.prediction import Predicting, Prediction
from neurosbd.neuromodulators.reward import Expectation, Reward
from neurosbd.neuromodulators.transposed import Followed, Following, Transposed
from neurosbd.schema.namespace import is_table

NEUROMODULATORS: dict[str, Callable[..., Neuromodulator]] = {
    "decorrelation": Decorrelation,
    "prediction": Prediction,
    "fixed_random": FixedRandom,
    "fixed_kernels": FixedKernels,
    "direct_kolen_pollack": DirectKolenPollack,
    "componentwise": Componentwise,
    "aligned": Aligned,
    "transposed": Transposed,
    "following": Following,
    "reward": Reward,
}
is_table(__name__, NEUROMODULATORS)

__all__ = [
    "ACTIVATIONS", "LAYOUTS", "NEUROMODULATORS", "Activation", "ActivationName", "Aligned", "Componentwise",
    "Decorrelation", "Descending", "DirectKolenPollack", "Expectation", "Feedback", "FixedKernels", "FixedRandom",
    "Followed", "Following", "Forgetting", "Frozen", "Full", "Grid", "HasHead", "Layout", "LowRank", "Patchwise",
    "Predicting", "Prediction", "Reward", "Shape", "Shared", "Transposed", "overlapping",
]  # fmt: skip
