"""Neuron models: what turns the drive of a population into its activity."""

from collections.abc import Callable

from neurosbd.neurons.adex import AdEx
from neurosbd.neurons.alif import ALIF
from neurosbd.neurons.corinfomax import CorInfoMax
from neurosbd.neurons.ct_relu import CtReLU
from neurosbd.neurons.cubalif import CubaLIF
from neurosbd.neurons.escape import Escape
from neurosbd.neurons.hodgkin_huxley import HodgkinHuxley
from neurosbd.neurons.integrate_and_fire import IF
from neurosbd.neurons.intrinsic_plasticity import IntrinsicPlasticity
from neurosbd.neurons.izhikevich import Izhikevich
from neurosbd.neurons.leaky_integrator import LI
from neurosbd.neurons.leaky_rate import LeakyRate
from neurosbd.neurons.learned_threshold import LearnedThreshold
from neurosbd.neurons.lif import LIF
from neurosbd.neurons.neuron import Neuron
from neurosbd.neurons.normalised import Normalised
from neurosbd.neurons.rate import RATES, HardSigmoid, Identity, LeakyReLU, ReLU, Sigmoid, Softplus, Tanh
from neurosbd.neurons.relay import Relay
from neurosbd.neurons.standardised import Standardised
from neurosbd.neurons.unit_power import UnitPower
from neurosbd.schema.namespace import is_table

NEURONS: dict[str, Callable[..., Neuron]] = {
    **RATES,
    "normalised": Normalised,
    "standardised": Standardised,
    "unit_power": UnitPower,
    "intrinsic_plasticity": IntrinsicPlasticity,
    "ct_relu": CtReLU,
    "corinfomax": CorInfoMax,
    "leaky_rate": LeakyRate,
    "if": IF,
    "learned_threshold": LearnedThreshold,
    "lif": LIF,
    "alif": ALIF,
    "cubalif": CubaLIF,
    "li": LI,
    "izhikevich": Izhikevich,
    "adex": AdEx,
    "hodgkin_huxley": HodgkinHuxley,
    "escape": Escape,
    "relay": Relay,
}
is_table(__name__, NEURONS)

__all__ = [
    "ALIF", "IF", "LI", "LIF", "NEURONS", "RATES", "AdEx", "CorInfoMax", "CtReLU", "CubaLIF", "Escape", "HardSigmoid",
    "HodgkinHuxley", "Identity", "IntrinsicPlasticity", "Izhikevich", "LeakyRate", "LeakyReLU", "LearnedThreshold",
    "Normalised", "ReLU", "Relay", "Sigmoid", "Softplus", "Standardised", "Tanh", "UnitPower",
]  # fmt: skip
