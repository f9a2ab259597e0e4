"""Labels of a user's own: which classes there are, and which of them have examples."""

from collections.abc import Sequence

import numpy as np

from neurosbd.errors import UsageError

_MANY = 10  # classes, of which there may be as many as examples
_UNEVEN = 100  # times the examples of the smallest class: then accuracy says little about it


def numbered(
    train: np.ndarray, test: np.ndarray, source: str
) -> tuple[np.ndarray, np.ndarray, tuple[str, ...], tuple[str, ...]]:
    """Labels as numbers of classes 0 to C - 1, the names of the classes, and what to say about them.

    The classes are the labels that occur, in ascending order. Nothing as long as the largest label is ever made.

    Args:
        train, test: integers [N].
        source: the file, for messages.

    Raises:
        UsageError: if a label is negative, or if there are nearly as many labels as examples.
    """
    found = np.unique(np.concatenate((train, test)))
    if not len(found):
        return train, test, (), ()
    low, high, count = int(found[0]), int(found[-1]), len(found)
    if low < 0:
        raise UsageError(
            f"{source}: labels go from {low} to {high}; give integers from 0 (a negative label often marks an example "
            f"that has none: leave it out)"
        )
    if count > _MANY and 2 * count > len(train):
        raise UsageError(
            f"{source}: {count:,} different labels, from {low} to {high}, for {len(train):,} training examples; labels "
            f"are classes. Are they numbers of the examples, or values to predict, which are called targets?"
        )
    names = tuple(map(str, found.tolist()))
    if high == count - 1:
        return train, test, names, ()
    first = next(i for i, label in enumerate(found) if label != i)
    remark = (
        f"{source}: no example has the label {first}, so the {count} labels that occur ({_few(names)}) are the "
        f"classes, in this order; if there are more classes, name them all in a .toml: classes = [...]"
    )
    return np.searchsorted(found, train), np.searchsorted(found, test), names, (remark,)


def coverage(train: np.ndarray, test: np.ndarray, classes: tuple[str, ...], source: str) -> list[str]:
    """What to say about classes without an example, and about very few of one.

    Args:
        train, test: numbers of classes [N].
        classes: their names.
        source: of the examples, for messages.

    Raises:
        UsageError: if all training examples are of one class.
    """
    learned, tested = (np.bincount(labels, minlength=len(classes)) for labels in (train, test))
    if (learned > 0).sum() < 2:
        raise UsageError(
            f"{source}: all {len(train):,} training examples are of class '{classes[int(learned.argmax())]}'; there is "
            f"nothing to learn from a single class"
        )

    def named(which: np.ndarray) -> str:
        names = [classes[c] for c in np.flatnonzero(which)]
        return f"{len(names)} of {len(classes)} classes ({_few(names)})"

    remarks = []
    if (alone := (learned == 0) & (tested > 0)).any():
        remarks.append(
            f"{source}: {named(alone)} have no training example, but {tested[alone].sum():,} in the test, none of "
            f"which can be told"
        )
    if (nowhere := (learned == 0) & (tested == 0)).any():
        remarks.append(f"{source}: {named(nowhere)} have no example at all")
    if (untested := (learned > 0) & (tested == 0)).any():
        remarks.append(
            f"{source}: {named(untested)} have no test example, so that nothing is known about how they are told"
        )
    few = learned[learned > 0]
    if few.min() * _UNEVEN < few.max():
        rare, common = (classes[int(np.flatnonzero(learned == n)[0])] for n in (few.min(), few.max()))
        remarks.append(
            f"{source}: class '{rare}' has {few.min():,} training examples, '{common}' {few.max():,}; accuracy says "
            f"little about the rare one, which loss.class_weights of cross_entropy makes count"
        )
    return remarks


def _few(names: Sequence[str]) -> str:
    return ", ".join(names[:5]) + (", ..." if len(names) > 5 else "")
