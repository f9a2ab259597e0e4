"""The contracts that every part keeps, as plain functions: for parts of one's own, and in this project's own tests.

A check takes a function that makes the part and raises AssertionError with a sentence about what does not hold:

>>> from neurosbd.neurons import LIF
>>> check_neuron(lambda: LIF(tau_mem=30e-3))

`python -m neurosbd.testing [KIND [NAME ...]] [--plugin FILE.py]` runs them on whatever is in the tables.
"""

from collections.abc import Mapping
from functools import partial

from neurosbd.tables import table
from neurosbd.testing.answers import ANSWER_CHECKS, check_answer
from neurosbd.testing.connections import (
    CONNECTION_CHECKS,
    INITIALISER_CHECKS,
    POOLING_CHECKS,
    WIRING_CHECKS,
    check_connection,
    check_initialiser,
    check_pooling,
    check_wiring,
)
from neurosbd.testing.constraints import CONSTRAINT_CHECKS, check_constraint
from neurosbd.testing.encoders import ENCODER_CHECKS, check_encoder
from neurosbd.testing.expansions import EXPANSION_CHECKS, check_expansion
from neurosbd.testing.judging import Check, Make
from neurosbd.testing.layouts import LAYOUT_CHECKS, check_layout
from neurosbd.testing.losses import LOSS_CHECKS, check_loss
from neurosbd.testing.neuromodulators import NEUROMODULATOR_CHECKS, check_neuromodulator
from neurosbd.testing.neurons import (
    DISTRIBUTION_CHECKS,
    NEURON_CHECKS,
    SURROGATE_CHECKS,
    check_distribution,
    check_neuron,
    check_surrogate,
)
from neurosbd.testing.optimizers import OPTIMIZER_CHECKS, SCHEDULE_CHECKS, check_optimizer, check_schedule
from neurosbd.testing.plasticities import PLASTICITY_CHECKS, check_plasticity
from neurosbd.testing.processes import PROCESS_CHECKS, check_process
from neurosbd.testing.regularisers import HOMEOSTASIS_CHECKS, UPKEEP_CHECKS, check_homeostasis, check_upkeep
from neurosbd.testing.rewards import REWARD_CHECKS, check_contingency
from neurosbd.testing.rules import RULE_CHECKS, check_rule
from neurosbd.testing.stimuli import STIMULUS_CHECKS, check_stimulus
from neurosbd.testing.synapses import SHORT_TERM_CHECKS, SYNAPSE_CHECKS, check_short_term, check_synapse
from neurosbd.testing.tasks import PROTOCOL_CHECKS, TASK_CHECKS, check_protocol, check_task

CHECKS: Mapping[str, tuple[Check, ...]] = {
    "rules": RULE_CHECKS, "neurons": NEURON_CHECKS, "losses": LOSS_CHECKS, "connections": CONNECTION_CHECKS,
    "constraints": CONSTRAINT_CHECKS, "poolings": POOLING_CHECKS, "initialisers": INITIALISER_CHECKS,
    "wirings": WIRING_CHECKS,
    "plasticities": PLASTICITY_CHECKS, "neuromodulators": NEUROMODULATOR_CHECKS, "layouts": LAYOUT_CHECKS,
    "expansions": EXPANSION_CHECKS, "homeostases": HOMEOSTASIS_CHECKS, "upkeeps": UPKEEP_CHECKS,
    "encoders": ENCODER_CHECKS, "stimuli": STIMULUS_CHECKS, "rewards": REWARD_CHECKS,
    "answers": ANSWER_CHECKS, "synapses": SYNAPSE_CHECKS, "short_terms": SHORT_TERM_CHECKS,
    "surrogates": SURROGATE_CHECKS, "distributions": DISTRIBUTION_CHECKS, "optimizers": OPTIMIZER_CHECKS,
    "schedules": SCHEDULE_CHECKS, "tasks": TASK_CHECKS, "protocols": PROTOCOL_CHECKS, "processes": PROCESS_CHECKS,
}  # fmt: skip
CONSTANTS: Mapping[str, Mapping[str, object]] = {  # of shipped parts: those without a default, and a shorter experiment
    "weight_entropy": {"on": "all"},
    "conv2d": {"kernel": 3, "padding": 1},
    "local2d": {"kernel": 3, "padding": 1},
    "vector_conv2d": {"kernel": 3, "padding": 1},
    "vector_local2d": {"kernel": 3, "padding": 1},
    "steps": {"epochs": (1, 3)},
    "uniform": {"low": 1.0, "high": 2.0},
    "bounds": {"lower": -0.5, "upper": 1.0},
    "normal": {"mean": 1.0, "std": 0.5},
    "log_normal": {"median": 1.0},
    "spikes": {"times": (1e-3, 3e-3, 20e-3), "units": (0, 1, 49)},
    "pairing": {"longest": 4e-3, "every": 4e-3, "period": 20e-3},
}
READ = frozenset({"file"})  # shipped parts without a contract of their own: they give what lies in a file


def maker(kind: str, name: str) -> Make:
    """What makes an item of a table with its defaults."""
    return partial(table(kind)[name], **CONSTANTS.get(name, {}))


__all__ = [
    "CHECKS", "CONSTANTS", "READ", "Check", "Make", "check_answer", "check_connection", "check_constraint",
    "check_contingency", "check_distribution",
    "check_encoder", "check_expansion", "check_homeostasis", "check_initialiser", "check_layout", "check_loss",
    "check_neuromodulator", "check_neuron", "check_optimizer", "check_plasticity", "check_pooling", "check_process",
    "check_protocol", "check_rule", "check_schedule", "check_short_term", "check_stimulus", "check_surrogate",
    "check_synapse", "check_task", "check_upkeep", "check_wiring", "maker",
]  # fmt: skip
