"""Units of quantities: '20 ms', '10 Hz' or '-65 mV' as the number that a constant of a known unit keeps."""

import re
from collections.abc import Mapping
from decimal import Decimal

from neurosbd.errors import nearest

_DIMENSIONS: Mapping[str, Mapping[str, int]] = {  # unit -> power of ten of the SI unit, the first one
    "time": {"s": 0, "ms": -3, "us": -6, "µs": -6, "μs": -6, "ns": -9},
    "rate": {"Hz": 0, "kHz": 3, "MHz": 6, "mHz": -3},
    "potential": {"V": 0, "mV": -3, "uV": -6, "µV": -6, "μV": -6},
    "current": {"A": 0, "mA": -3, "uA": -6, "µA": -6, "μA": -6, "nA": -9, "pA": -12},
    "conductance": {"S": 0, "mS": -3, "uS": -6, "µS": -6, "μS": -6, "nS": -9, "pS": -12},
    "capacitance": {"F": 0, "uF": -6, "µF": -6, "μF": -6, "nF": -9, "pF": -12},
    "resistance": {"Ohm": 0, "kOhm": 3, "MOhm": 6, "GOhm": 9},
}
_EXAMPLES = {"time": "'20 ms'", "rate": "'10 Hz'", "potential": "'-65 mV'", "current": "'100 pA'"} | {
    "conductance": "'2 nS'", "capacitance": "'200 pF'", "resistance": "'100 MOhm'",
}  # fmt: skip
_FIGURES: Mapping[str, tuple[tuple[str, float], ...]] = {  # unit -> those that a figure may show it in, finest first
    "V": (("mV", 1e3),),
    "A": (("pA", 1e12), ("nA", 1e9), ("µA", 1e6)),
    "S": (("nS", 1e9), ("µS", 1e6)),
    "V/s": (("mV/ms", 1.0),),
}
_LARGEST = 1e4  # of numbers on an axis
_UNITS = {unit: (dimension, power) for dimension, units in _DIMENSIONS.items() for unit, power in units.items()}
_QUANTITY = re.compile(r"\s*([+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d{1,3})?)\s*([A-Za-zµμ%/]+)\s*")


def quantity(text: str, unit: str) -> float | None:
    """The number that a text with a unit means, in another unit of the same dimension.

    The number is shifted in decimal, so that '35 ms' is the very float that 35e-3 is.

    Args:
        text: as a user writes it, '20 ms'.
        unit: that the number shall be in; '' for what has none.

    Returns:
        The number; None if the text is no number with letters behind it.
    Raises:
        ValueError: if the unit is unknown, or of another dimension.

    >>> quantity("20 ms", "s"), quantity("0.5 s", "ms"), quantity("-65mV", "V"), quantity("fast", "s")
    (0.02, 500.0, -0.065, None)
    >>> quantity("20 mV", "s")
    Traceback (most recent call last):
    ValueError: must be a time, such as '20 ms', got the potential '20 mV'
    """
    found = _QUANTITY.fullmatch(text)
    if found is None:
        return None
    number, given = found.groups()
    if given not in _UNITS:
        raise ValueError(f"there is no unit '{given}' in '{text}'{nearest(given, _of_dimension(unit))}")
    dimension, power = _UNITS[given]
    if unit not in _UNITS:
        what = f"a number of {unit}" if unit else "a bare number, which has no unit"
        raise ValueError(f"must be {what}, got the {dimension} '{text}'")
    wanted, base = _UNITS[unit]
    if dimension != wanted:
        raise ValueError(f"must be a {wanted}, such as {_EXAMPLES[wanted]}, got the {dimension} '{text}'")
    return float(Decimal(number).scaleb(power - base))


def dimension_of(text: str) -> str | None:
    """'time', 'conductance', ..: what a text with a known unit is; None if it is something else."""
    found = _QUANTITY.fullmatch(text)
    return _UNITS[found[2]][0] if found is not None and found[2] in _UNITS else None


def shown_unit(unit: str, largest: float = 0.0) -> tuple[str, float]:
    """The unit that electrophysiologists would read a signal in, and what its values are multiplied by.

    Args:
        unit: of the signal.
        largest: magnitude of its values; beyond 10,000 pA, say, they are in nA.

    >>> shown_unit("V"), shown_unit("S", 2e-9), shown_unit("A", 3e-8), shown_unit("threshold")
    (('mV', 1000.0), ('nS', 1000000000.0), ('nA', 1000000000.0), ('threshold', 1.0))
    """
    choices = _FIGURES.get(unit, ((unit, 1.0),))
    return next((choice for choice in choices if largest * choice[1] < _LARGEST), choices[-1])


def _of_dimension(unit: str) -> list[str]:
    """Units that may have been meant; each in letters that a keyboard has."""
    units = _DIMENSIONS[_UNITS[unit][0]] if unit in _UNITS else _UNITS
    return [name for name in units if name.isascii()]
