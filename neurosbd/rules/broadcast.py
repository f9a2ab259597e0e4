"""Rules that broadcast the score, as it is or projected: sbd, ebd, sbp, dfa, dkp, gevb; and one of one's own."""

from typing import Unpack

from neurosbd.learning.online import LocalRule
from neurosbd.neuromodulators import Componentwise, Decorrelation, DirectKolenPollack, FixedRandom, Prediction
from neurosbd.plasticity import ThreeFactor
from neurosbd.rules.composed import Parts, composed


def sbd(**parts: Unpack[Parts]) -> LocalRule:
    """Score broadcast and decorrelation: EBD with the score of any admissible loss.

        R <- lam R + (1 - lam) mean score h^T;  d weight = ((R0 + learned R)^T score) e

    where e is the eligibility: gain x pre for rate neurons, gain x filtered pre for spiking ones, and h the activity,
    through `activity_filter` if there is one.

    Source: Uzun, Erdogan, Pehlevan, Erdogan 2026, arXiv 2605.30638 (abstract only), on Erdogan et al. 2025.
    Differs: everything beyond EBD's equations with the score for the error is this project's own reading,
        and so is all of it for spiking neurons.
    """
    return composed(parts, {"plasticity": ThreeFactor(), "neuromodulator": Decorrelation()})


def ebd(**parts: Unpack[Parts]) -> LocalRule:
    """Error broadcast and decorrelation: sbd with the squared error, whose score is output - target.

    Source: Erdogan, Pehlevan, Erdogan 2025, NeurIPS, arXiv 2504.11558.
    Differs: shared projection by default; R0 stays unless `fading` of its neuromodulator is set to `forgetting`.
    """
    return composed(parts, {"plasticity": ThreeFactor(), "neuromodulator": Decorrelation()}, loss="squared_error")


def sbp(**parts: Unpack[Parts]) -> LocalRule:
    """Score broadcast and prediction: the score through weights with which each population predicts the target itself.

        V descends l(V h, y);  d weight = (V^T score) e

    Where sbd projects by the correlation R of score and activity, which fades as both decorrelate, sbp projects by what
    brings the correlation of the population's own score with its activity to zero, which stays.

    Source: this project; kin and differences at `neurosbd.neuromodulators.Prediction`.
    """
    return composed(parts, {"plasticity": ThreeFactor(), "neuromodulator": Prediction()})


def dfa(**parts: Unpack[Parts]) -> LocalRule:
    """Direct feedback alignment: the score through a fixed random projection.

        d weight = (R0^T score) e

    Source: Nokland 2016, NeurIPS, arXiv 1609.01596.
    Differs: injected before pooling, as in EBD.
    """
    return composed(parts, {"plasticity": ThreeFactor(), "neuromodulator": FixedRandom()})


def dkp(**parts: Unpack[Parts]) -> LocalRule:
    """Direct Kolen-Pollack: dfa whose projection descends as a readout of the population would.

        d weight = (B^T score) e;   d B = mean score h^T

    Source: Webster, Choi, Ahn 2021, Learning the connections in direct feedback alignment, OpenReview.
    Differs: see `neurosbd.neuromodulators.DirectKolenPollack`.
    """
    return composed(parts, {"plasticity": ThreeFactor(), "neuromodulator": DirectKolenPollack()})


def gevb(**parts: Unpack[Parts]) -> LocalRule:
    """Global error vector broadcasting: units whose values are vectors hear the score itself, without any weights back.

        d weight[i, j] = sum_b open[b, i] (score[b] . v[b, j]);    d bias[i] = sum_b open[b, i] score[b]

    The presynaptic vector along the score, wherever the postsynaptic unit is open (neuron `ct_relu`). The readout
    learns by the gradient of the loss. For networks of vectors, whose weights behind the first layer are to be
    nonnegative: model mnist-vnn.

    Source: Clark, Abbott, Chung 2021, NeurIPS, arXiv 2106.04089.
    """
    return composed(parts, {"plasticity": ThreeFactor(), "neuromodulator": Componentwise()})


def local(**parts: Unpack[Parts]) -> LocalRule:
    """A composition of one's own: any plasticity with any neuromodulator; what is not given is that of sbd.

    Source: this project.
    """
    return composed(parts, {"plasticity": ThreeFactor(), "neuromodulator": Decorrelation()})
