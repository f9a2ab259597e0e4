"""Numbers that a user gives in a file in place of a rule to draw them: weights, synapses, constants, delays."""

from pathlib import Path

import numpy as np

from neurosbd.errors import UsageError, nearest
from neurosbd.files import npz
from neurosbd.files.writing import legal_path, regular

_LARGEST = float(np.finfo(np.float32).max)


def numbers(file: str, array: str = "") -> np.ndarray:
    """The numbers of a file, in its own shape and type.

    Args:
        file: .npy, or .npz.
        array: which one of an .npz that has several.
    Raises:
        UsageError: if there is no such file or array, or it holds anything else than finite numbers.
    """
    if not file:
        raise UsageError("a 'file' needs the name of one, such as { kind = 'file', file = 'weights.npy' }")
    path = regular(legal_path(file))
    if path.suffix == ".npy":
        if array:
            raise UsageError(f"{path}: a .npy holds one array, without a name; leave out array = '{array}'")
        found = _plain(path)
    elif path.suffix == ".npz":
        found = _named(path, array)
    else:
        raise UsageError(f"{path}: arrays are read from .npy and .npz files, got '{path.suffix}'")
    where = f"{path}: '{array}'" if array else str(path)
    if found.dtype.kind not in "biuf":
        raise UsageError(f"{where} holds {found.dtype}; needed are numbers")
    legal = np.abs(found) <= _LARGEST if found.dtype.kind == "f" else np.True_
    if not legal.all():
        wrong = np.argwhere(~legal)[0].tolist()
        raise UsageError(f"{where} is {found[tuple(wrong)]} at {wrong}; all its numbers must be finite in float32")
    return found


def shaped(file: str, array: str, shape: tuple[int, ...], what: str) -> np.ndarray:
    """The same where one shape is legal.

    Args:
        file, array: as above.
        shape: that is needed.
        what: its axes, 'post units, pre units', for the message.
    Raises:
        UsageError: besides, if it has another shape.
    """
    found = numbers(file, array)
    if found.shape != shape:
        turned = "; transpose it" if found.T.shape == shape else ""
        raise UsageError(f"{file}: is {list(found.shape)}; needed are {list(shape)}, {what}{turned}")
    return found


def _plain(path: Path) -> np.ndarray:
    try:
        return np.load(path, mmap_mode="r", allow_pickle=False)  # a size that is not there cannot be mapped
    except npz.DAMAGED as problem:
        raise UsageError(f"{path}: not a readable .npy file of plain numbers ({str(problem)[:100]})") from None


def _named(path: Path, array: str) -> np.ndarray:
    there = npz.keys(path)
    if not array and len(there) > 1:
        raise UsageError(f"{path}: has {len(there)} arrays; name one of them: array = '{there[0]}', say")
    if array and there and array not in there:
        raise UsageError(f"{path}: no array '{array}'{nearest(array, there[:50])}")
    wanted = array or (there[0] if there else "array")
    return npz.load(path, (wanted,))[wanted]
