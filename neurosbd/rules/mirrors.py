"""Mirrors: weights that learn to be those of a chain of connections, backwards, from noise alone."""

import math
from collections.abc import Mapping
from typing import NamedTuple

import torch
from torch import Tensor

from neurosbd.network.network import Connection, Network


class Mirrors(NamedTuple):
    """B[l], one for each connection of a chain, input first; F = B[1] B[2] ... B[L] leads from the output to the input.

        B[l] <- B[l] + rate (mean_b xi[b] h[b](xi)^T - decay B[l]),    xi ~ sigma N(0, 1) less its mean

    where h(xi) is what the connection and its post population make of noise. For relu units the mean of the product is
    sigma^2 / 2 W^T (Stein), so that B follows W^T.

    Args:
        weights: by connection, [pre values, post units].
        spread: standard deviation that F is brought back to, [].
        key: of the noise, int64 [].
    Source: Akrout et al. 2019, NeurIPS, arXiv 1904.05391; of PEPITA Srinivasan et al. 2024, ICLR, arXiv 2302.05440.
    Differs: the last population is the readout itself; there a softmax, whose derivative mixes the outputs.
    """

    weights: Mapping[str, Tensor]
    spread: Tensor
    key: Tensor

    @classmethod
    def draw(cls, network: Network, spread: float, generator: torch.Generator) -> "Mirrors":
        """Gaussian, so that F has the standard deviation `spread`; ValueError unless the network is a dense chain."""
        chain, some = _chain(network), next(network.parameters())
        widths = [network.weights[c.name].shape[::-1] for c in chain]
        hidden = math.prod(post for _, post in widths[:-1])
        sigma = (spread / math.sqrt(hidden)) ** (1 / len(chain))
        weights = {
            c.name: torch.randn(*width, generator=generator).to(some) * sigma
            for c, width in zip(chain, widths, strict=True)
        }
        return cls(weights, some.new_tensor(spread), torch.randint(2**31, (), generator=generator))

    @classmethod
    def of(cls, tensors: Mapping[str, Tensor]) -> "Mirrors":
        """Those that `tensors` gave."""
        weights = {n.removeprefix("mirror:"): w for n, w in tensors.items() if n.startswith("mirror:")}
        return cls(weights, tensors["spread"], tensors["key"])

    def tensors(self) -> dict[str, Tensor]:
        """What a checkpoint keeps, by name."""
        mirrors = {f"mirror:{name}": weight for name, weight in self.weights.items()}
        return {**mirrors, "spread": self.spread, "key": self.key}

    def feedback(self, size: tuple[int, ...]) -> Tensor:
        """F transposed, over an input of this size: [outputs, *size]."""
        product, *rest = self.weights.values()
        for weight in rest:
            product = product @ weight
        return product.t().reshape(product.shape[1], *size)

    def learn(self, network: Network, examples: int, rate: float, decay: float, sigma: float = 0.1) -> None:
        """One step of every mirror from `examples` noises of the deviation sigma, in place."""
        generator = torch.Generator().manual_seed(int(self.key))
        self.key.copy_(torch.randint(2**31, (), generator=generator))
        for name, mirror in self.weights.items():
            connection = network.connections[name]
            size = (examples, *network.populations[connection.pre].size)
            noise = torch.randn(size, generator=generator).to(mirror) * sigma
            noise -= noise.mean()
            product = noise.flatten(1).t() @ _response(network, connection, noise) / examples
            mirror.add_(rate * (product - decay * mirror))

    def keep_size(self) -> None:
        """All mirrors by one factor, so that F has the standard deviation that it is to have."""
        size = self.feedback((-1,)).std(correction=0)
        for mirror in self.weights.values():
            mirror.mul_((self.spread / size) ** (1 / len(self.weights)))


def _chain(network: Network) -> list[Connection]:
    """The connections of a network that is a chain of dense layers."""
    chain = [connection for connections in network.incoming.values() for connection in connections]
    for connection in chain:
        size = math.prod(network.populations[connection.pre].size)
        alone = len(network.incoming[connection.post]) == 1
        if not alone or network.weights[connection.name].shape[1:] != (size,):
            raise ValueError(
                f"connection '{connection.name}': mirrors follow a chain of dense connections without pooling; set "
                f"rule.mirror = 0, or take a model such as digits-mlp"
            )
    return chain


def _response(network: Network, connection: Connection, noise: Tensor) -> Tensor:
    """What a post population makes of noise at one connection, without biases, [examples, units]."""
    neuron = network.populations[connection.post].neuron
    assert neuron is not None
    synapses = network.synapses(connection)._replace(bias=None)
    drive = connection.geometry.drive(synapses, connection.geometry.carry(noise))
    return neuron.step(neuron.init(drive), drive, network.dt)[0].value
