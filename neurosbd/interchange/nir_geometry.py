"""Weights and poolings of NIR as our geometries, and the sizes they ask for."""

import math

import numpy as np

from neurosbd.connections import Conv2d, Dense, Pooling
from neurosbd.connections.pooling import AveragePool, SumPool
from neurosbd.errors import UsageError
from neurosbd.interchange.nir_neurons import noted, numbers
from neurosbd.interchange.surrogates import Foreign
from neurosbd.interchange.wiring import MOST_UNITS

_LARGEST = 2**20  # pixels: side of a kernel, stride, padding


def bounded(size: tuple[int, ...], where: str) -> tuple[int, ...]:
    """A size that a population can have: [n] or [channels, height, width], and no more units than memory holds.

    Raises:
        UsageError: saying what is there instead.
    """
    if len(size) not in (1, 3) or min(size) < 1:
        raise UsageError(f"{where}: its shape is {list(size)}; legal is [n] or [channels, height, width]")
    if math.prod(size) > MOST_UNITS:
        raise UsageError(f"{where}: its shape is {list(size)}, more than {MOST_UNITS:,} units; refused")
    return size


def declared(node: object, port: str, name: str) -> tuple[int, ...]:
    """The shape that an Input or Output states.

    Raises:
        UsageError: if it states none, or one that no population can have.
    """
    where, ports = f"node '{name}' ({type(node).__name__})", getattr(node, f"{port}_type", None)
    if not isinstance(ports, dict) or list(ports) != [port]:
        raise UsageError(f"{where}: has the ports {list(ports or ())}; legal is one, named '{port}', with a shape")
    if ports[port] is None:
        raise UsageError(f"{where}: states no shape; legal is [n] or [channels, height, width]")
    shape = tuple(_whole(n, where, "shape") for n in np.ravel(ports[port]))
    return bounded(shape[1:] if len(shape) in (2, 4) and shape[0] == 1 else shape, where)  # Norse keeps a batch of 1


def pooling(name: str, node: Foreign, average: bool) -> Pooling:
    """A pooling node; `average` if the 1 / k^2 of an average has gone into the next weights."""
    window, stride = (square(getattr(node, key), name, key, 1) for key in ("kernel_size", "stride"))
    if square(node.padding, name, "padding", 0) != 0:
        raise UsageError(f"node '{name}': pools with padding = {node.padding}; legal is 0")
    make = AveragePool if average or type(node).__name__ == "AvgPool2d" else SumPool
    return make(window, 0 if stride == window else stride)


def geometry(name: str, node: Foreign, pool: Pooling | None) -> Dense | Conv2d:
    """How a weight node joins two populations.

    Raises:
        UsageError: naming the node and its field, if it is none that we have.
    """
    kind, about = type(node).__name__, noted(node)
    where, weight = f"node '{name}' ({kind})", numbers(name, node, "weight")
    axes = ["out", "in", "height", "width"] if kind == "Conv2d" else ["post", "pre"]
    if weight.ndim != len(axes) or not weight.size:
        raise UsageError(f"{where}: its weight is {list(weight.shape)}; legal is [{', '.join(axes)}]")
    biased = kind != "Linear" and node.bias is not None
    if biased:
        bias = numbers(name, node, "bias")
        if bias.shape != weight.shape[:1]:
            raise UsageError(f"{where}: its bias is {list(bias.shape)}; legal is [{len(weight)}], as many as weights")
        biased = bool(about.get("bias", 1)) or bool(bias.any())
    sparsity, autapses = float(about.get("sparsity", 0.0)), bool(about.get("autapses", 1))
    if kind != "Conv2d":
        return Dense(pool, biased, sparsity, autapses)
    return _convolution(name, node, weight, Conv2d(1, 1, 0, pool, biased, sparsity))


def _convolution(name: str, node: Foreign, weight: np.ndarray, rest: Conv2d) -> Conv2d:
    kernel, stride = square(weight.shape[2:], name, "weight", 1), square(node.stride, name, "stride", 1)
    for key in ("groups", "dilation"):
        if square(getattr(node, key), name, key, 1) != 1:
            raise UsageError(f"node '{name}' (Conv2d): {key} = {getattr(node, key)}; legal is 1")
    if isinstance(node.padding, str):
        named = {"valid": 0, "same": kernel // 2} if kernel % 2 and stride == 1 else {"valid": 0}
        if node.padding not in named:
            raise UsageError(
                f"node '{name}' (Conv2d): padding = '{node.padding}' with kernel {kernel} and stride {stride}; legal "
                f"are a number of pixels, 'valid', and 'same' for an odd kernel with stride 1"
            )
        padding = named[node.padding]
    else:
        padding = square(node.padding, name, "padding", 0)
    return Conv2d(kernel, stride, padding, rest.pool, rest.bias, rest.sparsity)


def square(value: Foreign, name: str, key: str, least: int) -> int:
    """A whole number, or two that are the same.

    Raises:
        UsageError: naming the node and the field.
    """
    sides = np.ravel(value)
    whole = [_whole(side, f"node '{name}'", key) for side in sides]
    if not whole or len(set(whole)) > 1:
        raise UsageError(f"node '{name}': {key} = {sides.tolist()}; legal is a square one")
    if not least <= whole[0] <= _LARGEST:
        raise UsageError(f"node '{name}': {key} = {whole[0]}; legal is {least} to {_LARGEST:,}")
    return whole[0]


def _whole(value: Foreign, where: str, key: str) -> int:
    try:
        if float(value).is_integer():
            return int(value)
    except (TypeError, ValueError, OverflowError):
        pass
    raise UsageError(f"{where}: {key} = {value}; legal are whole numbers")
