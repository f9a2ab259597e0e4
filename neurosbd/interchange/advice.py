"""What to do about a module that cannot be translated, and about a network that came in silent."""

import importlib

import torch
from torch import nn

from neurosbd.errors import warn
from neurosbd.interchange.adapter import Cell
from neurosbd.learning.simulation import unroll
from neurosbd.network.network import Frame, Network
from neurosbd.neurons import IF, LIF, CubaLIF

_TRIAL = 50  # steps
_EXAMPLES = 2
_WHOLE_SEQUENCES = {"snntorch": "snntorch.Leaky", "spikingjelly": "spikingjelly.activation_based.neuron.LIFNode"}


def advice(module: nn.Module) -> str:
    """How to say the same in another way, '; ...'; empty if there is none."""
    kind = type(module)
    library = kind.__module__.partition(".")[0]
    if "BatchNorm" in kind.__name__:
        return (
            "; fold it into the weights before it (torch.nn.utils.fusion.fuse_conv_bn_eval, fuse_linear_bn_eval), or "
            "build the network with standardised units, which do the same: neurosbd.neurons.NEURONS['standardised']"
        )
    if kind.__name__ == "LILinearCell" and library == "norse":
        return "; write its two parts: nn.Linear(..., bias=False), norse.torch.LICell()"
    if library == "norse" and hasattr(importlib.import_module("norse.torch"), f"{kind.__name__}Cell"):
        return f"; it runs a whole sequence: use norse.torch.{kind.__name__}Cell, which takes one step"
    if library in _WHOLE_SEQUENCES:
        return f"; a neuron that takes one step can be, such as {_WHOLE_SEQUENCES[library]}{_by_nir(library)}"
    if any(True for _ in module.children()):
        return "; a forward of one's own cannot be read: write its layers in their order as nn.Sequential(...)"
    return ""


def _by_nir(library: str) -> str:
    if library != "spikingjelly":
        return ""
    return ", or go by spikingjelly.activation_based.nir_exchange.export_to_nir and neurosbd.from_nir"


def warn_of_silence(network: Network) -> None:
    """Name the spiking populations that never spike in a trial: what never spikes says nothing and hardly learns."""
    spiking = [name for name, p in network.populations.items() if _spikes(p.neuron)]
    if not spiking:
        return
    some = next(network.parameters(), torch.zeros(()))
    size = network.input_size
    generator = torch.Generator().manual_seed(0)
    x = torch.rand((_EXAMPLES, *size), generator=generator).to(some)
    heard = dict.fromkeys(spiking, False)

    def listen(t: int, frame: Frame) -> None:
        for name in spiking:
            heard[name] = heard[name] or bool(frame.activity[name].value.any())

    with torch.no_grad():
        unroll(network, x.expand(_TRIAL, *x.shape), [listen])
    silent = [f"'{name}'" for name, spoke in heard.items() if not spoke]
    if silent:
        warn(
            f"from_torch: {', '.join(silent)} never spiked in {_TRIAL} steps of constant inputs between 0 and 1, and "
            f"what is silent hardly learns. If the module is new, this is its initial scale: multiply its weights by 2 "
            f"to 5, lower the thresholds, or show inputs as large as it needs",
            stacklevel=4,
        )


def _spikes(neuron: object) -> bool:
    return isinstance(neuron, IF | LIF | CubaLIF | Cell)
