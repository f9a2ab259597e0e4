"""A broken part of every kind is found by the checks of `neurosbd.testing`, in a sentence that names what it breaks."""

from typing import Any

import pytest

from neurosbd.testing import CHECKS
from neurosbd.testing.neurons import step_is_pure
from tests.contracts.broken import learning, network, showing
from tests.contracts.broken.network import Noisy

FAULTS = [*network.FAULTS, *learning.FAULTS, *showing.FAULTS]


@pytest.mark.parametrize(("kind", "make", "sentence"), FAULTS, ids=lambda v: getattr(v, "__name__", ""))
def test_what_is_wrong_is_found_and_said(kind: str, make: Any, sentence: str) -> None:
    """Must fail for a part that keeps its contract (tried)."""
    with pytest.raises(AssertionError, match=sentence):
        for check in CHECKS[kind]:
            check(make)


def test_noise_of_a_neuron_is_found() -> None:
    with pytest.raises(AssertionError, match="Two steps from the same state give different values"):
        step_is_pure(Noisy)


def test_every_kind_has_a_broken_part() -> None:
    """Must fail for a kind whose checks nobody has seen failing (tried)."""
    assert {kind for kind, _, _ in FAULTS} == set(CHECKS)
