"""The sizes of a fixed random projection, one matrix for all populations, and signs in place of the score."""

import math
from itertools import product
from typing import Any

import pytest
import torch
from torch import Tensor

import neurosbd
from neurosbd.learning.batch import Batch
from neurosbd.learning.learner import Learner
from neurosbd.losses import LOSSES
from neurosbd.network.network import Network
from neurosbd.neuromodulators import LAYOUTS, FixedRandom, Full
from neurosbd.neuromodulators.projection import first_columns
from neurosbd.rules import RULES
from neurosbd.testing.networks import cnn, mlp
from neurosbd.testing.neuromodulators import check_neuromodulator
from tests.compositions import state_of
from tests.contracts.tables import seeded

CHOICES: list[dict[str, Any]] = [
    dict(zip(("per", "entries", "matrix", "sent"), values, strict=True))
    for values in product(("entry", "projection"), ("normal", "uniform"), ("own", "shared"), ("score", "sign"))
]


def projections(network: Network, **constants: Any) -> dict[str, Tensor]:
    rule = RULES["dfa"](neuromodulator=FixedRandom(**constants))
    learner = Learner(network, rule, LOSSES["cross_entropy"](), seeded())
    return {name: state.frozen for name, state in state_of(learner).modulators.items()}


@pytest.mark.parametrize("constants", CHOICES, ids=lambda constants: "-".join(constants.values()))
def test_every_choice_keeps_the_contract(constants: Any) -> None:
    check_neuromodulator(lambda: FixedRandom(**constants))


@pytest.mark.parametrize("entries", ["normal", "uniform"])
@pytest.mark.parametrize("layout", list(LAYOUTS))
def test_launays_projections_have_norm_1_on_average(layout: str, entries: Any) -> None:
    """D4: E |R0|^2 = 1 for populations of every size, of which 7 x 10 numbers come within 5 standard errors. Must fail
    when rows or columns are left out of the count (tried)."""
    sizes: dict[str, list[Tensor]] = {}
    for seed in range(200):
        network = cnn()
        rule = RULES["dfa"](neuromodulator=FixedRandom(LAYOUTS[layout](), 1.0, "projection", entries))
        learner = Learner(network, rule, LOSSES["cross_entropy"](), torch.Generator().manual_seed(seed))
        for name, state in state_of(learner).modulators.items():
            sizes.setdefault(name, []).append(state.frozen.double().square().sum())
    for name, found in sizes.items():
        squares = torch.stack(found)
        assert abs(squares.mean() - 1) < 5 * squares.std() / math.sqrt(200), name


def test_uniform_entries_have_the_same_variance_and_end_where_they_should() -> None:
    (drawn,) = projections(mlp([5, 5000, 3]), scale=1 / math.sqrt(3), entries="uniform").values()
    assert drawn.min() >= -1 and drawn.max() < 1 and drawn.abs().max() > 0.999
    assert drawn.double().std().item() == pytest.approx(1 / math.sqrt(3), rel=0.03)


@pytest.mark.parametrize("entries", ["normal", "uniform"])
def test_all_populations_take_the_first_columns_of_one_matrix(entries: Any) -> None:
    """Whatever their number. Must fail for numbers that torch does not draw in whole blocks (tried: no rounding up)."""
    whole = first_columns(3, entries, 10, 700)
    for count in (1, 2, 3, 7, 8, 15, 16, 17, 33, 699):
        assert torch.equal(first_columns(3, entries, 10, count), whole[:, :count]), count
    one, two = projections(mlp([5, 9, 6, 3]), layout=Full(), entries=entries, matrix="shared").values()
    assert torch.equal(one[:, :6], two)
    apart = projections(mlp([5, 9, 6, 3]), layout=Full(), entries=entries)
    assert not torch.equal(apart["hidden1"][:, :6], apart["hidden2"])


def test_chance_alignment_is_1_over_the_root_of_the_units() -> None:
    """D4: cosine of two projected scores that know nothing of each other: mean 0, deviation 1 / sqrt(n).

    Must fail when both go through one projection: they are then as far apart as in 10 dimensions (tried: below)."""
    score = torch.randn(20_000, 10, generator=seeded())
    one, two = (first_columns(seed, "normal", 10, 400) for seed in (1, 2))
    cosines = torch.cosine_similarity(score[:10_000] @ one, score[10_000:] @ two)
    assert abs(cosines.mean()) < 0.005 and cosines.std().item() == pytest.approx(1 / math.sqrt(400), rel=0.35)
    shared = torch.cosine_similarity(score[:10_000] @ one, score[10_000:] @ one)
    assert shared.std().item() == pytest.approx(1 / math.sqrt(10), rel=0.1)


def test_signs_are_signs_of_every_example() -> None:
    """third factor = sign(score) R0 / B, by hand. Must fail when the sign is that of the projected score (tried)."""
    network = mlp([5, 7, 3])
    x, target = torch.randn(1, 6, 5, dtype=torch.float64), torch.randint(0, 3, (6,))
    rule = RULES["dfa"](neuromodulator=FixedRandom(sent="sign"))
    learner = Learner(network, rule, LOSSES["cross_entropy"](), seeded())
    learner.learn(Batch(x, target))
    with torch.no_grad():
        frame = network.step(network.init(x[0]), x[0])
        score = LOSSES["cross_entropy"]().score(frame.activity["output"].value, target)
        sent = score.sign() @ state_of(learner).modulators["hidden1"].frozen / 6
        value = frame.activity["hidden1"].value
        expected = (sent * (1 - value.square())).t() @ x[0]
    torch.testing.assert_close(network.weights["input->hidden1"].grad, expected, rtol=1e-10, atol=1e-14)


def test_a_model_file_reaches_all_of_it() -> None:
    settings = {f"rule.neuromodulator.{key}": value for key, value in CHOICES[-1].items()}
    rule = neurosbd.load_model("digits-mlp", "dfa", settings).rule.build()
    assert rule.neuromodulator == FixedRandom(scale=rule.neuromodulator.scale, **CHOICES[-1])
    with pytest.raises(neurosbd.UsageError, match=r"rule.neuromodulator.sent: .*did you mean 'sign'"):
        neurosbd.load_model("digits-mlp", "dfa", {"rule.neuromodulator.sent": "signs"})
