"""What connections with square kernels share: how a kernel fits onto the map that arrives."""

from typing import Protocol

from neurosbd.connections.pooling import Pooling


class Kernel(Protocol):
    """Constants of a connection with square kernels, in pixels."""

    @property
    def kernel(self) -> int:
        """Side."""
        ...

    @property
    def stride(self) -> int:
        """Step."""
        ...

    @property
    def padding(self) -> int:
        """Zeros added on every side."""
        ...

    @property
    def pool(self) -> Pooling | None:
        """Of the pre map on the way."""
        ...


def check_kernel(owner: Kernel) -> None:
    """Raise ValueError unless kernel and stride are at least 1, and padding at least 0."""
    for name, least in (("kernel", 1), ("stride", 1), ("padding", 0)):
        if getattr(owner, name) < least:
            raise ValueError(f"{type(owner).__name__}.{name} must be at least {least}, got {getattr(owner, name)}")


def fitted(owner: Kernel, pre: tuple[int, ...], post: tuple[int, ...]) -> int:
    """Channels that arrive, if the kernel leads from maps of size `pre` to maps of size `post`.

    Raises:
        ValueError: if it does not; says what it would deliver.
    """
    kind = type(owner).__name__.lower()
    arriving = owner.pool.size(pre) if owner.pool else pre
    if len(arriving) != 3:
        raise ValueError(f"a {kind} connection reads maps of size [channels, height, width], got {list(arriving)}")
    if min(arriving[1:]) + 2 * owner.padding < owner.kernel:
        raise ValueError(f"a kernel of {owner.kernel} does not fit into the map {list(arriving)}")
    maps = [(n + 2 * owner.padding - owner.kernel) // owner.stride + 1 for n in arriving[1:]]
    if len(post) != 3 or list(post[1:]) != maps:
        channels = post[0] if post else "channels"
        raise ValueError(
            f"{kind} with kernel {owner.kernel}, stride {owner.stride}, padding {owner.padding} over "
            f"{list(arriving)} delivers maps of {maps[0]}x{maps[1]}, but the size is {list(post)}; "
            f"write size = [{channels}, {maps[0]}, {maps[1]}]"
        )
    return arriving[0]
