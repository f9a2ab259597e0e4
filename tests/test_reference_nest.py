"""Synapses that learn or tire against NEST 3.10.0, whose figures are in benchmarks/nest_plasticity.json: it is not
needed to run this.

`python benchmarks/nest_plasticity.py` makes them, and says how a step of NEST and one of ours belong together.
"""

import math
from types import ModuleType

import numpy as np
import pytest

from tests.synthetic import loaded


@pytest.fixture(scope="module")
def nest() -> ModuleType:
    """The script that made the figures; it imports NEST only where it runs it."""
    return loaded("benchmarks/nest_plasticity.py")


def test_weights_over_ten_seconds_are_those_of_nest(nest: ModuleType) -> None:
    """Pairs of every scheme and dependence on the weight, triplets and inhibitory plasticity, side by side in one run
    in float64: to 1e-10 at its end, and to the float32 of recordings after every quarter.

    Must fail when arrivals find the spikes that end with their own step, when triplets count the spike that looks for
    them, or when nn_restr pairs across another spike (tried: all three).
    """
    theirs = nest.kept()
    found = nest.here({name: rule for name, rule in nest.RULES.items() if name != "dopamine"})
    assert len(found) == 8
    for name, (quarters, end) in found.items():
        np.testing.assert_allclose(quarters, theirs[name], rtol=1e-6, err_msg=name)
        np.testing.assert_allclose(end, theirs[name][-1], rtol=1e-10, err_msg=name)


def test_dopamine_moves_weights_as_in_nest(nest: ModuleType) -> None:
    """14 spikes of dopamine in 10 s: what it does within steps is in the third factor.

    Must fail when dopamine comes a step late, or acts on the eligibility of the step before (tried: both).
    """
    theirs = nest.kept()["dopamine"]
    quarters, end = nest.rewarded()
    np.testing.assert_allclose(quarters, theirs, rtol=1e-6)
    np.testing.assert_allclose(end, theirs[-1], rtol=1e-10)


def test_a_post_spike_that_ends_as_another_arrives_is_a_pair_here_alone(nest: ModuleType) -> None:
    """Each of them adds a_plus to what NEST has, and nothing else differs.

    Must fail when a pair at lag 0 is left out here, too (tried).
    """
    steps = nest.STEPS // nest.ROWS
    found = nest.here({"pairs": nest.APART["coincident"]}, coincident=True, steps=steps)["pairs"].end
    pre, post = nest.trains(coincident=True)
    pairs = np.einsum("tj,ti->ij", pre[1:steps], post[: steps - 1])
    assert pairs.min() >= 1
    np.testing.assert_allclose(found - nest.kept()["coincident"][0], 1e-3 * pairs, rtol=1e-9)


def inhibition(nest: ModuleType, steps: int, twice: bool) -> np.ndarray:
    """The rule of Vogels et al. by hand, clipped once or twice as a spike arrives."""
    pre, post = nest.trains()
    eta, alpha, most, kept = 0.1, 1.1, 1.0, math.exp(-1 / 20)
    w, x, y = nest.start(), np.zeros(nest.PRES), np.zeros(nest.POSTS)
    for arriving, fired in zip(pre[:steps], np.concatenate((0 * post[:1], post))[:steps], strict=True):
        x, y = x * kept, y * kept
        more = w + eta * y[:, None] * arriving
        w = np.clip((more.clip(0, most) if twice else more) - eta * alpha * arriving, 0, most)
        x = x + arriving
        w = np.clip(w + eta * x * fired[:, None], 0, most)
        y = y + fired
    return w


def test_inhibition_at_its_ceiling_is_clipped_once_here_and_twice_in_nest(nest: ModuleType) -> None:
    """A loop by hand has the weights of either.

    Must fail when the sum is clipped after the post trace already (tried).
    """
    steps = nest.STEPS // nest.ROWS
    theirs = np.array(nest.kept()["ceiling"][0])
    found = nest.here({"inhibition": nest.APART["ceiling"]}, steps=steps)["inhibition"].end
    assert np.abs(found - theirs).max() > 0.05
    np.testing.assert_allclose(found, inhibition(nest, steps, twice=False), rtol=1e-10)
    np.testing.assert_allclose(theirs, inhibition(nest, steps, twice=True), rtol=1e-10)


@pytest.mark.parametrize("model", ["tsodyks_synapse", "tsodyks2_synapse"])
@pytest.mark.parametrize("name", ["depressing", "facilitating"])
def test_what_tired_synapses_send_is_that_of_nest(nest: ModuleType, name: str, model: str) -> None:
    """To 1e-12, the last 24 of some 300 spikes. Must fail when u decays from its value before the spike (tried)."""
    np.testing.assert_allclose(nest.tired(name).numpy(), nest.kept()[f"{name}, {model}"], rtol=1e-12)
