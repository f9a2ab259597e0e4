"""Neuron models: what turns the drive of a population into its activity. Layer 1."""

from collections.abc import Callable

from neurosbd.neurons.rate import HardSigmoid, Identity, LeakyReLU, ReLU, Sigmoid, Softplus, Tanh
from neurosbd.process import Neuron

NEURONS: dict[str, Callable[..., Neuron]] = {
    "relu": ReLU,
    "leaky_relu": LeakyReLU,
    "tanh": Tanh,
    "sigmoid": Sigmoid,
    "softplus": Softplus,
    "hard_sigmoid": HardSigmoid,
    "identity": Identity,
}
