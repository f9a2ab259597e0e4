"""Learning rules by name."""

from collections.abc import Callable

from neurosbd.learning.online import LocalRule
from neurosbd.learning.rule import Rule
from neurosbd.rules.backprop import Backprop, bp, bptt
from neurosbd.rules.broadcast import dfa, dkp, ebd, gevb, local, sbd, sbp
from neurosbd.rules.corinfomax import corinfomax
from neurosbd.rules.corinfomax_ep import CorInfoMaxEP
from neurosbd.rules.direct_random_target import DirectRandomTarget
from neurosbd.rules.eprop import eprop
from neurosbd.rules.feedback_alignment import FeedbackAlignment
from neurosbd.rules.first_spike_readout import rstdp_readout, s2_stdp, sstdp
from neurosbd.rules.forward_forward import ForwardForward
from neurosbd.rules.kolen_pollack import KolenPollack
from neurosbd.rules.mono_forward import MonoForward
from neurosbd.rules.pepita import Pepita
from neurosbd.rules.perturbation import NodePerturbation, WeightPerturbation
from neurosbd.rules.reward import reinforce, rmax, rstdp, stdp
from neurosbd.rules.rflo import rflo
from neurosbd.rules.sign_symmetry import SignSymmetry
from neurosbd.rules.wta_stdp import wta_stdp
from neurosbd.schema.namespace import is_table

RULES: dict[str, Callable[..., Rule]] = {
    "sbd": sbd,
    "ebd": ebd,
    "sbp": sbp,
    "dfa": dfa,
    "dkp": dkp,
    "drtp": DirectRandomTarget,
    "fa": FeedbackAlignment,
    "sign_symmetry": SignSymmetry,
    "kolen_pollack": KolenPollack,
    "corinfomax": corinfomax,
    "corinfomax_ep": CorInfoMaxEP,
    "eprop": eprop,
    "rflo": rflo,
    "pepita": Pepita,
    "gevb": gevb,
    "mono_forward": MonoForward,
    "forward_forward": ForwardForward,
    "rstdp": rstdp,
    "rmax": rmax,
    "reinforce": reinforce,
    "stdp": stdp,
    "s2_stdp": s2_stdp,
    "sstdp": sstdp,
    "rstdp_readout": rstdp_readout,
    "wta_stdp": wta_stdp,
    "local": local,
    "node_perturbation": NodePerturbation,
    "weight_perturbation": WeightPerturbation,
    "bp": bp,
    "bptt": bptt,
}
is_table(__name__, RULES)

__all__ = ["RULES", "Backprop", "LocalRule", "Rule"]
