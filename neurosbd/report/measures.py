"""What runs are judged by, as reports name it: every measure of the test, and its loss."""

from neurosbd.measures import MEASURES, title

KEYS = {f"test {title(name)}": f"test_{name}" for name in MEASURES} | {"test loss": "test_loss"}  # in the metrics
_PERCENT = {f"test {title(name)}" for name in MEASURES if MEASURES[name].percent}


def is_percent(quantity: str) -> bool:
    """Whether a quantity is a share, shown as a percentage."""
    return quantity in _PERCENT
