"""Lists of synapses as matrices, for what is said of a matrix alone: its singular values, a picture of it."""

import numpy as np


def matrix_of_list(weight: np.ndarray, post: np.ndarray, pre: np.ndarray, units: tuple[int, int]) -> np.ndarray:
    """Listed synapses in their places among all pairs of units, 0 elsewhere; several of a pair add up.

    Args:
        weight: of each synapse, [synapses].
        post: unit onto which it leads, int [synapses].
        pre: unit from which it comes, or what arrives of a map that is pooled, int [synapses].
        units: how many there are, (post, pre).
    Returns:
        float64 [post, pre].
    """
    matrix = np.zeros(units)
    np.add.at(matrix, (post, pre), weight)
    return matrix
