"""The validation split: training examples that are held out, so that nothing need ever be chosen on the test set."""

import numpy as np

from neurosbd.datasets.samples import S
from neurosbd.errors import UsageError, warn
from neurosbd.seeds import generator


def legal_share(value: object) -> object:
    """How much is held out: a fraction of the training examples, or how many of them; none: nothing.

    Raises:
        ValueError: if it is neither.
    """
    whole = isinstance(value, int) and not isinstance(value, bool) and value >= 1
    if value is None or whole or (isinstance(value, float) and 0 < value < 1):
        return value
    raise ValueError(
        f"must be a fraction of the training examples, such as 0.1, or how many of them, such as 500, got {value!r}"
    )


def hold_out(
    samples: S, amount: float | int | None, seed: int, name: str, classes: tuple[str, ...]
) -> tuple[S, S | None]:
    """Training examples, and those of the validation split that were among them.

    Args:
        samples: of the training split, as many as are left of it by `data.subset`.
        amount: see `legal_share`. With classes every class gives its share, to within an example.
        seed: which examples.
        name: of the data set, for messages.
        classes: their names; none where values are to be predicted.

    Raises:
        UsageError: if there are not so many, or a class would be left without a training example.
    """
    if amount is None:
        return samples, None
    count, key = len(samples), f"{name}: data.validation"
    wanted = amount if isinstance(amount, int) else round(amount * count)
    if not 1 <= wanted < count:
        raise UsageError(
            f"{key} is {amount}, which is {wanted:,} of {count:,} training examples; legal are 1 to {count - 1:,}"
        )
    order = np.random.default_rng(generator(seed, "validation", name).initial_seed()).permutation(count)
    held = _of_each_class(samples.labels, order, wanted, key, name, classes) if classes else order[:wanted]
    out = np.zeros(count, bool)
    out[held] = True
    return samples.take(np.flatnonzero(~out)), samples.take(np.flatnonzero(out))


def _of_each_class(
    labels: np.ndarray, order: np.ndarray, wanted: int, key: str, name: str, names: tuple[str, ...]
) -> np.ndarray:
    """The share of every class, rounded so that they add up: the largest remainders are rounded up."""
    classes, counts = np.unique(labels, return_counts=True)
    exact = wanted * counts / len(labels)
    shares = np.floor(exact).astype(int)
    shares[np.argsort(shares - exact, kind="stable")[: wanted - shares.sum()]] += 1
    for i in np.flatnonzero(shares >= counts)[:1]:
        all_of = "the only example" if counts[i] == 1 else f"all {counts[i]} examples"
        raise UsageError(
            f"{key} would hold out {all_of} of class '{names[classes[i]]}' and leave none to learn from; choose "
            f"less, or more of the data"
        )
    empty = [names[c] for c in classes[shares == 0]]
    if empty:
        warn(
            f"{name}: the validation split has no example of {len(empty)} of {len(classes)} classes "
            f"({', '.join(empty[:5])}); hold out more"
        )
    return np.concatenate([order[labels[order] == c][:share] for c, share in zip(classes, shares, strict=True)])
