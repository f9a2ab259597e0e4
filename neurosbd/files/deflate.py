"""What packed bytes can hold at most, so that a size is refused before memory is asked for."""

_MOST = 1032  # to 1: what deflate, in zip, gzip and HDF5, can make of the shortest input


def unpacked_at_most(stored: int, deflated: bool) -> int:
    """Bytes that so many stored ones can stand for.

    >>> unpacked_at_most(100, deflated=False), unpacked_at_most(100, deflated=True)
    (100, 103200)
    """
    return stored * (_MOST if deflated else 1)
