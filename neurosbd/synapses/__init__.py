"""Synapses: how long what arrives is felt, as what, and how much of it the spikes before have left."""

from collections.abc import Callable

from neurosbd.schema.namespace import is_table
from neurosbd.synapses.conductances import NMDA, Conductance
from neurosbd.synapses.responses import Alpha, Delta, DoubleExponential, Exponential
from neurosbd.synapses.short_term import ShortTerm, TsodyksMarkram
from neurosbd.synapses.synapse import Blocked, Conductive, Response, Synapse
from neurosbd.synapses.transmission import Transmission, TransmissionState

RESPONSES: dict[str, Callable[..., Response]] = {
    "exponential": Exponential,
    "alpha": Alpha,
    "double_exponential": DoubleExponential,
}
SYNAPSES: dict[str, Callable[..., Synapse]] = {
    "delta": Delta,
    **RESPONSES,
    "conductance": Conductance,
    "nmda": NMDA,
}
SHORT_TERMS: dict[str, Callable[..., ShortTerm]] = {"tsodyks_markram": TsodyksMarkram}
is_table(__name__, SYNAPSES)

__all__ = [
    "NMDA",
    "RESPONSES",
    "SHORT_TERMS",
    "SYNAPSES",
    "Alpha",
    "Blocked",
    "Conductance",
    "Conductive",
    "Delta",
    "DoubleExponential",
    "Exponential",
    "Response",
    "ShortTerm",
    "Synapse",
    "Transmission",
    "TransmissionState",
    "TsodyksMarkram",
]  # fmt: skip
