"""Fields of a result, with their units: what turns a dataclass into tables and files."""

from dataclasses import field
from typing import Any


def quantity_field(unit: str, *axes: str) -> Any:
    """Declares a field of a result: `rate: np.ndarray = measured("Hz", "layer", "neuron")`.

    Args:
        unit: of its values; "1" for none.
        axes: names of the axes of an array; none for a number. An axis that is also the name of a field of the
            result is labelled by that field's values.
    """
    return field(metadata={"unit": unit, "axes": axes})
