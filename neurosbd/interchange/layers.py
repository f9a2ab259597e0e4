"""Single modules of torch as our geometries, poolings and rate neurons."""

from collections.abc import Callable

import torch
from torch import nn

from neurosbd.connections import Conv2d, Dense, Pooling
from neurosbd.connections.kernels import driven as sides
from neurosbd.connections.pooling import AveragePool, MaxPool
from neurosbd.interchange.surrogates import Foreign
from neurosbd.network.network import Connection
from neurosbd.neurons import HardSigmoid, LeakyReLU, ReLU, Sigmoid, Softplus, Tanh
from neurosbd.neurons.neuron import Neuron

TRANSLATES = (
    "Linear, Conv2d (square), AvgPool2d, MaxPool2d, Flatten, ReLU, LeakyReLU, Tanh, Sigmoid, Softplus, Hardtanh(0, 1), "
    "Identity, Dropout (as in eval), neurons of snnTorch and SpikingJelly, cells of Norse, nn.Sequential of these"
)
_DROPOUTS = ("Dropout", "Dropout1d", "Dropout2d", "AlphaDropout")


def work_of(module: nn.Module) -> type:
    """The class of torch whose work a module does: its own, or the one that SpikingJelly has derived it from."""
    own = type(module)
    if own.__module__.startswith("spikingjelly.activation_based.layer"):
        return next((kind for kind in own.__mro__ if kind.__module__.startswith("torch.nn.modules.")), own)
    return own


def passes_on(module: nn.Module) -> bool:
    """Whether a module does nothing in eval mode."""
    return isinstance(module, nn.Identity) or is_dropout(module)


def is_dropout(module: nn.Module) -> bool:
    """Of torch or SpikingJelly."""
    kind = type(module)
    return kind.__name__ in _DROPOUTS and kind.__module__.startswith(("torch.nn.", "spikingjelly."))


def activation(module: nn.Module) -> Neuron | None:
    """The rate neuron that an activation is; None if the module is no activation that we have."""
    make = _ACTIVATIONS.get(work_of(module))
    return None if make is None else make(module)


def _leaky_relu(module: Foreign) -> Neuron:
    return ReLU() if module.negative_slope == 0 else LeakyReLU(module.negative_slope)


def _softplus(module: Foreign) -> Neuron:
    if (module.beta, module.threshold) != (1, 20):
        raise ValueError(
            f"beta = {module.beta}, threshold = {module.threshold}; legal is beta = 1, threshold = 20: "
            f"move beta into the weights"
        )
    return Softplus()


def _hardtanh(module: Foreign) -> Neuron:
    if (module.min_val, module.max_val) != (0, 1):
        raise ValueError(f"clips to {module.min_val}..{module.max_val}; legal is 0..1: write nn.Hardtanh(0, 1)")
    return HardSigmoid()


_ACTIVATIONS: dict[type, Callable[[Foreign], Neuron]] = {
    nn.ReLU: lambda _: ReLU(),
    nn.LeakyReLU: _leaky_relu,
    nn.Tanh: lambda _: Tanh(),
    nn.Sigmoid: lambda _: Sigmoid(),
    nn.Softplus: _softplus,
    nn.Hardtanh: _hardtanh,
}


def pooling(module: nn.Module) -> Pooling | None:
    """The pooling that a module is; None if it is none.

    Raises:
        ValueError: if it is one that we cannot express.
    """
    if not isinstance(module, nn.AvgPool2d | nn.MaxPool2d):
        return None
    window, stride = _square(module.kernel_size, "kernel_size"), _square(module.stride, "stride")
    if _square(module.padding, "padding") != 0 or module.ceil_mode:
        raise ValueError("has padding or ceil_mode; legal is neither: pad before, or choose a window that fits")
    if isinstance(module, nn.AvgPool2d):
        if module.divisor_override is not None:
            raise ValueError("has divisor_override; legal is None: move the factor into the next weights")
        return AveragePool(window, stride)
    if module.return_indices or _square(module.dilation, "dilation") != 1:
        raise ValueError("has return_indices or dilation; legal is neither")
    return MaxPool(window, stride)


def geometry(module: nn.Linear | nn.Conv2d, pool: Pooling | None) -> Dense | Conv2d:
    """How a module with weights joins two populations.

    Raises:
        ValueError: if it is a convolution that we cannot express.
    """
    biased = module.bias is not None
    if isinstance(module, nn.Linear):
        return Dense(pool=pool, bias=biased)
    for key, legal in (("groups", 1), ("dilation", 1), ("padding_mode", "zeros")):
        found = getattr(module, key)
        if (_square(found, key) if key == "dilation" else found) != legal:
            raise ValueError(f"has {key} = {found!r}; legal is {key} = {legal!r}")
    kernel, stride = _square(module.kernel_size, "kernel_size"), _square(module.stride, "stride")
    if module.padding == "same" and kernel % 2 == 0:
        raise ValueError("pads an even kernel to 'same', more on one side; legal is an odd kernel, or padding a number")
    named = {"valid": 0, "same": kernel // 2}
    padding = named[module.padding] if isinstance(module.padding, str) else _square(module.padding, "padding")
    return Conv2d(kernel, stride, padding, pool=pool, bias=biased)


def driven(module: nn.Linear | nn.Conv2d, pool: Pooling | None, pre: tuple[int, ...], flat: bool) -> tuple[int, ...]:
    """Size of the population that a module with weights drives.

    Raises:
        ValueError: if what arrives does not fit.
    """
    arriving = pool.size(pre) if pool else pre
    if isinstance(module, nn.Linear):
        units = torch.Size(arriving).numel()
        if len(arriving) != 1 and not flat:
            raise ValueError(f"reads maps of size {list(arriving)} row by row; put nn.Flatten() before it")
        if units != module.in_features:
            raise ValueError(f"has in_features = {module.in_features}, but {units} units arrive")
        return (module.out_features,)
    if len(arriving) != 3 or flat:
        raise ValueError("reads maps of size [channels, height, width], but a vector arrives; check input_size")
    if arriving[0] != module.in_channels:
        raise ValueError(f"has in_channels = {module.in_channels}, but {arriving[0]} channels arrive")
    shape = geometry(module, None)
    assert isinstance(shape, Conv2d)
    size = (module.out_channels, *sides(shape, arriving))
    shape.weight_shape(arriving, size)
    return size


def check_weights(module: nn.Linear | nn.Conv2d) -> None:
    """ValueError unless weights and biases are there and finite."""
    for key in ("weight", "bias"):
        value = getattr(module, key)
        if value is None:
            continue
        if value.is_meta or not value.is_floating_point():
            raise ValueError(f"has a {key} of type {value.dtype} on '{value.device}'; legal are floating-point numbers")
        if not value.isfinite().all():
            raise ValueError(f"has a {key} with values that are not finite numbers (NaN or infinite)")


def onto_itself(module: nn.Linear | nn.Conv2d, name: str) -> Connection:
    """The recurrent connection that a cell has inside."""
    return Connection(name, name, geometry(module, None))


def _square(value: Foreign, name: str) -> int:
    first, *others = [value] if isinstance(value, int) else value
    if any(side != first for side in others):
        raise ValueError(f"has {name} = {(first, *others)}; legal is a square one")
    return int(first)
