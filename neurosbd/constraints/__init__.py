"""Constraints: what the weights of a connection obey, whatever learns them."""

from collections.abc import Callable

from neurosbd.constraints.bounds import Bounds
from neurosbd.constraints.constraint import Constraint, Held, Nothing, check_together
from neurosbd.constraints.dale import Dale
from neurosbd.constraints.holding import buffer_name, change_mask, hold, obey, with_mask
from neurosbd.constraints.mask import Mask
from neurosbd.constraints.nonnegative import Nonnegative
from neurosbd.constraints.norm import Norm
from neurosbd.schema.namespace import is_table

CONSTRAINTS: dict[str, Callable[..., Constraint]] = {
    "nonnegative": Nonnegative,
    "dale": Dale,
    "bounds": Bounds,
    "norm": Norm,
    "mask": Mask,
}
is_table(__name__, CONSTRAINTS)

__all__ = [
    "CONSTRAINTS", "Bounds", "Constraint", "Dale", "Held", "Mask", "Nonnegative", "Norm", "Nothing", "buffer_name",
    "change_mask", "check_together", "hold", "obey", "with_mask",
]  # fmt: skip
