"""Constants of neurons with a value per unit: drawn once, moved with the weights, kept as they were given."""

from dataclasses import replace

import torch
from torch import Tensor, nn

from neurosbd.distributions import is_rounding, sample_constants
from neurosbd.network.populations import Population


class UnitConstants:
    """The constants of a network that are tensors: buffers of it, known in float64 as well.

    Args:
        owner: the network; modules among the constants become its submodules.
    """

    def __init__(self, owner: nn.Module) -> None:
        self._buffers, self._add, self._register = owner._buffers, owner.add_module, owner.register_buffer
        self._exact: dict[str, Tensor] = {}

    def drawn(self, population: Population, generator: torch.Generator) -> Population:
        """The population with the constants of its neuron drawn.

        Raises:
            ValueError: naming the population, if they do not fit its size.
        """
        try:
            neuron = sample_constants(population.neuron, population.size, generator, torch.float64)
        except ValueError as problem:
            raise ValueError(f"population '{population.name}': {problem}") from None
        rounded = {}
        for field, value in vars(neuron).items() if neuron is not None else ():
            key = f"constant:{population.name}:{field}"
            if isinstance(value, Tensor):
                self._exact[key], rounded[field] = value, value.to(torch.get_default_dtype())
                self._register(key, rounded[field])
            elif isinstance(value, nn.Module):
                self._add(key, value)
        if rounded and neuron is not None:
            neuron = replace(neuron, **rounded)  # type: ignore[type-var]
        return replace(population, neuron=neuron)

    def unrounded(self) -> list[str]:
        """Buffers that are still what they were given as, but for rounding."""
        return [key for key, exact in self._exact.items() if is_rounding(self._buffers[key], exact)]

    def restore(self, keys: list[str]) -> None:
        """Buffers that have moved to another type are again what they were given as."""
        for key in keys:
            self._buffers[key] = self._exact[key].to(self._buffers[key])  # type: ignore[arg-type]

    def moved(self, population: Population) -> Population:
        """The population with the buffers as they are now."""
        prefix = f"constant:{population.name}:"
        found = {key.removeprefix(prefix): v for key, v in self._buffers.items() if key.startswith(prefix)}
        if not found or population.neuron is None:
            return population
        return replace(population, neuron=replace(population.neuron, **found))  # type: ignore[type-var]
