"""Expansions of the score: conditional mean zero by enumeration and quadrature, closed forms, matching, learning."""

import math
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

import neurosbd
from neurosbd.cli.catalogue import show
from neurosbd.errors import UsageError
from neurosbd.expansions import (
    EXPANSIONS,
    Bartlett,
    Coarse,
    CompanionScore,
    Gated,
    Moments,
    Waves,
    loudness,
    match_loudness,
    silent_moments,
    update_moments,
)
from neurosbd.files import checkpoints
from neurosbd.learning.batch import Batch
from neurosbd.learning.learner import Learner
from neurosbd.losses import LOSSES, HasDistribution, from_function
from neurosbd.losses.targets import CLASSES
from neurosbd.neuromodulators import Decorrelation
from neurosbd.plasticity import ThreeFactor
from neurosbd.rules import RULES, LocalRule
from neurosbd.testing.expansions import expanded
from tests.compositions import rule_of, state_of
from tests.conditional import accepted, conditional, outputs, scored
from tests.conftest import mlp

BLOCKS = {
    **{name: make() for name, make in EXPANSIONS.items()},
    "gated by the input": Gated("input", 3),
    "gated by maps": Gated("conv", 2),
    "gated by the forecast": Gated("forecast", 0),
    "gated by features of the forecast": Gated("forecast", 3),
    "random forms": Bartlett(features=5),
    "another, spherical": CompanionScore("spherical"),
    "another, ranked": CompanionScore("ranked_probability"),
    "another, likelihood": CompanionScore("cross_entropy"),
    "another, poisson": CompanionScore("poisson"),
    "another, negative binomial": CompanionScore("negative_binomial"),
    "one grouping": Coarse(1, 2),
    "slow waves": Waves((0.3,)),
}
FORMS = {
    **{name: make() for name, make in LOSSES.items()},
    "smoothed": LOSSES["cross_entropy"](label_smoothing=0.2),
    "weighed": LOSSES["cross_entropy"](0.1, (1.0, 2.0, 0.5, 1.5)),
    "weighed yes": LOSSES["bernoulli"](0.1, (1.0, 2.0, 0.5, 1.5)),
    "quartiles": LOSSES["pinball"](levels=(0.25, 0.5, 0.75)),
    "gamma of shape 3": LOSSES["gamma"](shape=3.0),
    "counts that spread": LOSSES["negative_binomial"](r=2.5),
}
PAIRS = [(b, f) for b in BLOCKS for f in FORMS if accepted(BLOCKS[b], FORMS[f]) is not None]


def named(entry: Any, table: dict[str, Any]) -> str:
    """Its name in a table, whatever its constants."""
    return next(name for name, make in table.items() if type(make()) is type(entry))


def documented(block: Any, loss: Any, losses: dict[str, str]) -> bool:
    """Whether the table of docs/expansions.md names a loss beside a block: all, or families between semicolons."""
    kind, name = named(block, EXPANSIONS), named(loss, LOSSES)
    if losses[kind].startswith("all"):
        return hasattr(loss, "probabilities") or getattr(block, "source", None) != "forecast"
    if name == "cross_entropy" and loss != LOSSES[name]():
        return False  # no options
    families = [set(re.findall(r"\w+", family)) for family in losses[kind].split(";")]
    other = getattr(block, "loss", None)  # of the same family, and not the one in use
    return any(name in family and (other is None or other in family - {name}) for family in families)


def test_what_is_accepted_is_what_the_documentation_says() -> None:
    """Else a pair that is refused by mistake is tested no more. Must fail when coarse refuses brier, or another takes a
    smoothed loss (both tried)."""
    page = (Path(__file__).parents[1] / "docs" / "expansions.md").read_text()
    losses = dict(re.findall(r"^\| `(\w+)` \|.*\| (.+) \|$", page.split("## How loud")[0], re.M))
    losses["coarse"] = losses["coarse"].replace("the same four", losses["another"].split(";")[0])
    assert set(losses) == set(EXPANSIONS)
    assert set(PAIRS) == {(b, f) for b in BLOCKS for f in FORMS if documented(BLOCKS[b], FORMS[f], losses)}


def means(columns: Tensor, weights: Tensor) -> tuple[Tensor, Tensor]:
    """Conditional mean of every column, and of its absolute value; the 1/B of a batch taken off."""
    columns = columns * len(columns)
    return weights @ columns, weights @ columns.abs()


@pytest.mark.parametrize(("block", "form"), PAIRS)
@pytest.mark.parametrize("seed", [0, 1])
def test_conditional_mean_is_zero(block: str, form: str, seed: int) -> None:
    """A8 (7): over all targets that the model allows, float64, 1e-12.

    Must fail when the mean of s s^T is left out, a wave has another frequency than its mean, the share within a group
    is of other logits, or another loss is smoothed (all tried).
    """
    loss = FORMS[form]
    output = outputs(loss, seed)
    target, weights = conditional(loss, output)
    assert abs(weights.sum().item() - 1) < 1e-13
    heard = scored(loss, output.expand(len(target), -1), target)
    state = BLOCKS[block].init(heard, torch.Generator().manual_seed(3))
    _, state = expanded(BLOCKS[block], state, heard)  # so that running means are not 0
    columns, _ = expanded(BLOCKS[block], state, heard)
    mean, size = means(columns, weights)
    assert columns.shape == (len(target), BLOCKS[block].width(heard)) and size.max() > 1e-3
    assert (mean.abs() <= 1e-12 * size.clamp_min(1.0)).all(), (mean.abs() / size).max()


@pytest.mark.parametrize("form", list(FORMS))
def test_functions_of_the_score_alone_are_no_expansions(form: str) -> None:
    """The control: squares and signs of the score are far from 0 in the mean, for every loss."""
    loss = FORMS[form]
    worst = []
    for seed in range(3):
        output = outputs(loss, seed)
        target, weights = conditional(loss, output)
        score = loss.score(output.expand(len(target), -1), target)
        mean, size = means(score / len(score), weights)
        assert (mean.abs() <= 1e-12 * size.clamp_min(1.0)).all()  # that of the score is 0
        assert (weights @ score.square()).min() > 1e-3
        worst.append((weights @ torch.sign(score)).abs().max())
    # a median, and the mean of a CRPS or Gaussian, is the one place where signs balance: the other rows do not
    assert max(worst) > 1e-2 or form in ("pinball", "squared_error")


def test_bartlett_of_one_hot_targets_needs_no_model() -> None:
    """Squared error and one against the rest, with labels: diag p - p p^T at their optimum, whatever p."""
    chance = torch.tensor([0.1, 0.2, 0.3, 0.4], dtype=torch.float64)
    for name, output in (("squared_error", chance), ("bernoulli", torch.logit(chance))):
        loss, target = LOSSES[name](), torch.arange(4)
        heard = scored(loss, output.expand(4, -1), target)
        columns, _ = expanded(Bartlett(), Bartlett().init(heard, torch.Generator()), heard)
        mean, size = means(columns, chance)
        assert mean.abs().max() < 1e-15 and size.min() > 1e-2


def test_bartlett_of_softmax_is_the_symmetric_part_of_forecast_times_score() -> None:
    """s_i s_j - I_ij = p_i s_j + p_j s_i - [i = j] s_i. Must fail for targets that are not one-hot."""
    loss, output = LOSSES["cross_entropy"](), torch.randn(6, 5, dtype=torch.float64)
    target = torch.randint(0, 5, (6,))
    heard = scored(loss, output, target)
    columns, _ = expanded(Bartlett(), (), heard)
    s, p = loss.score(output, target), torch.softmax(output, 1)
    i, j = torch.triu_indices(5, 5)
    expected = p[:, i] * s[:, j] + p[:, j] * s[:, i] - (i == j) * s[:, i]
    torch.testing.assert_close(columns * 6, expected, rtol=1e-12, atol=1e-14)


def test_bartlett_refuses_targets_that_are_probabilities() -> None:
    loss, output = LOSSES["cross_entropy"](), torch.randn(6, 4, dtype=torch.float64)
    with pytest.raises(UsageError, match="wants labels"):
        expanded(Bartlett(), (), scored(loss, output, torch.softmax(output, 1)))


def test_coarse_columns_are_the_score_of_the_groups() -> None:
    """Oracle: autograd of -log P_g(y). Linear in the score they are not: their matrix changes with the forecast."""
    block, loss = Coarse(2, 3), LOSSES["cross_entropy"]()
    output = torch.randn(6, 7, dtype=torch.float64).requires_grad_()
    target = torch.randint(0, 7, (6,))
    heard = scored(loss, output.detach(), target)
    state = block.init(heard, torch.Generator().manual_seed(1))
    columns, _ = expanded(block, state, heard)
    for number, together in enumerate(state.together.view(2, 7, 7)):
        assert (together.sum(1) >= 2).all() and torch.equal(together, together.t())
        group = (torch.softmax(output, 1) @ together)[torch.arange(6), target]
        (exact,) = torch.autograd.grad(-group.log().sum(), output)
        torch.testing.assert_close(6 * columns[:, 7 * number : 7 * number + 7], exact, rtol=1e-10, atol=1e-12)


def test_coarse_columns_survive_groups_that_are_ruled_out() -> None:
    """exp(-400) in place of the shares would be 0 / 0."""
    output = torch.tensor([[0.0, -1.0, -400.0, -401.0]], dtype=torch.float32)
    heard = scored(LOSSES["cross_entropy"](), output, torch.tensor([3]))
    block = Coarse(3, 2)
    columns, _ = expanded(block, block.init(heard, torch.Generator().manual_seed(0)), heard)
    assert torch.isfinite(columns).all()


def test_gates_are_bounded_and_know_no_scale() -> None:
    """Gates of the activity times 1000 are the same; must fail without the norm (tried)."""
    loss = LOSSES["cross_entropy"]()
    output, target = torch.randn(5, 4), torch.tensor([0, 1, 2, 3, 0])
    heard = scored(loss, output, target)
    block = Gated("fc", 3)
    state = block.init(heard, torch.Generator().manual_seed(0))
    columns, after = expanded(block, state, heard)
    fc = heard.activity["fc"]
    louder = {**heard.activity, "fc": fc._replace(value=fc.value * 1000)}
    again, _ = expanded(block, state, heard._replace(activity=louder))
    torch.testing.assert_close(columns, again)
    gates = columns.view(5, 3, 4) / heard.score[:, None]
    assert gates.abs().max() <= 1 and (gates - gates[:, :, :1]).abs().max() < 1e-5
    torch.testing.assert_close(after.mean, 0.01 * gates[..., 0].mean(0))


@pytest.mark.parametrize(
    ("block", "loss", "reason"),
    [
        (Bartlett(), from_function(lambda z, y: (z - y).square().sum(1)), "no model of its targets"),
        (Gated("fd"), LOSSES["cross_entropy"](), "did you mean 'fc'"),
        (Gated("forecast"), LOSSES["squared_error"](), "forecasts no probabilities"),
        (CompanionScore("brier"), LOSSES["cross_entropy"](label_smoothing=0.1), "same optimum"),
        (CompanionScore("brier"), LOSSES["brier"](), "adds nothing"),
        (CompanionScore("poisson"), LOSSES["cross_entropy"](), "legal here: cross_entropy, brier"),
        (Coarse(), LOSSES["poisson"](), "softmax"),
        (Coarse(groups=4), LOSSES["cross_entropy"](), "fewer than the 4 classes"),
        (Waves(), LOSSES["cross_entropy"](), "linear in the score already"),
        (Waves(), LOSSES["bernoulli"](), "linear in the score already"),
        (Waves(), LOSSES["pinball"](), "distribution of values or counts"),
    ],
)
def test_what_would_not_average_to_zero_or_adds_nothing_is_refused(block: Any, loss: Any, reason: str) -> None:
    output = torch.randn(3, 4, dtype=torch.float64)
    target = torch.rand(3, 4).double() if loss.targets is not CLASSES else torch.arange(3)
    with pytest.raises(ValueError, match=reason):
        block.init(scored(loss, output, target), torch.Generator())


def test_constants_out_of_range_are_refused() -> None:
    for make in (
        lambda: Gated(features=0), lambda: Gated(weight=-1.0), lambda: Bartlett(features=-1), lambda: Coarse(0),
        lambda: Coarse(groups=1), lambda: Waves(()), lambda: Waves((0.0,)), lambda: CompanionScore("hinge"),  # type: ignore[arg-type]
        lambda: Bartlett(weight=math.nan),
    ):  # fmt: skip
        with pytest.raises(ValueError, match=r"must be|wants|there is no"):
            make()


# Distributions ------------------------------------------------------------------------------------


@pytest.mark.parametrize("form", [name for name, loss in FORMS.items() if isinstance(loss, HasDistribution)])
def test_distributions_are_those_of_the_model(form: str) -> None:
    """Mean, spread and waves by quadrature. Must fail when the spread is the variance (tried)."""
    loss: Any = FORMS[form]
    output = outputs(loss)
    target, weights = conditional(loss, output)
    distribution = loss.distribution(output[None])
    torch.testing.assert_close(weights @ target, distribution.mean[0], rtol=1e-11, atol=1e-12)
    torch.testing.assert_close(
        weights @ (target - distribution.mean).square(), distribution.spread[0].square(), rtol=1e-11, atol=1e-12
    )
    residual = (target - distribution.mean) / distribution.spread
    for frequency in (0.5, 1.0, 2.0):
        cosine, sine = distribution.characteristic(frequency)
        torch.testing.assert_close(weights @ torch.cos(frequency * residual), cosine[0], rtol=0, atol=1e-12)
        torch.testing.assert_close(weights @ torch.sin(frequency * residual), sine[0], rtol=0, atol=1e-12)


# Matching -----------------------------------------------------------------------------------------


def test_a_block_becomes_as_loud_as_the_score() -> None:
    torch.manual_seed(0)
    moments, score, louder = silent_moments(torch.zeros(1, 3)), torch.zeros(0), torch.zeros(0)
    for number in range(400):
        score, block = torch.randn(50, 3), 7 * torch.randn(50, 8)
        louder, moments = match_loudness(moments, block, 0.5), update_moments(moments, loudness(score, block), 1.0)
        assert (number > 0) == bool(louder.any())  # before anything is known, silence
    assert louder.square().sum() / score.square().sum() == pytest.approx(0.25, rel=0.2)
    assert moments.block / moments.score == pytest.approx(49 * 8 / 3, rel=0.1)


def test_the_scale_is_that_of_earlier_batches() -> None:
    """Else labels of this one were in it, and a mean of 0 would not survive."""
    moments, block = Moments(torch.tensor(2.0), torch.tensor(3.0)), torch.randn(5, 4)
    torch.testing.assert_close(match_loudness(moments, block, 1.0), block * (2 / 3) ** 0.5)


def test_the_columns_of_a_first_batch_are_silent() -> None:
    """Its labels would be in their scale. Must fail when moments are followed before they are used (tried)."""
    network, loss = mlp([6, 7, 3]), LOSSES["cross_entropy"]()
    learner = Learner(network, LocalRule(ThreeFactor(), Decorrelation(), expansion=(Gated(),)), loss, torch.Generator())
    for number in range(2):
        learner.learn(Batch(torch.randn(1, 5, 6, dtype=torch.float64), torch.tensor([0, 1, 2, 1, 0])))
        assert bool(state_of(learner).modulators["hidden1"].learned[3:].any()) == (number > 0)


def test_steps_of_a_batch_count_as_parts_of_it() -> None:
    score, block = torch.ones(1, 1), torch.ones(1, 1)
    sums = loudness(score, block)
    whole = update_moments(silent_moments(score), sums, 1.0)
    torch.testing.assert_close(update_moments(update_moments(silent_moments(score), sums, 0.5), sums, 0.5), whole)


def test_matching_is_finite_when_nothing_is_wrong_any_more() -> None:
    tiny = Moments(torch.tensor(0.0), torch.tensor(1e-38))
    assert torch.isfinite(match_loudness(tiny, torch.zeros(2, 3), 1.0)).all()


# In a network -------------------------------------------------------------------------------------


def learner(network: Any, loss: Any, *blocks: Any, seed: int = 3) -> Learner:
    made = Learner(network, RULES["sbd"](expansion=blocks), loss, torch.Generator().manual_seed(seed))
    assert isinstance(made, Learner)
    return made


def gradients(network: Any, learns: Learner, trial: Batch) -> dict[str, Tensor]:
    network.zero_grad()
    learns.learn(trial)
    return {n: p.grad.clone() for n, p in network.named_parameters()}


def test_an_expansion_starts_from_the_rule_without_it() -> None:
    """Its rows of R0 are 0 and its first batch silent: bit for bit. Weight 0 stays so; another weight does not."""
    network = mlp([5, 7, 3])
    x, target = torch.randn(2, 8, 5, dtype=torch.float64), torch.randint(0, 3, (8,))
    trials = [Batch(x[i][None], target) for i in (0, 1)]
    loss = LOSSES["cross_entropy"]()
    plain = learner(network, loss)
    before = [gradients(network, plain, trial) for trial in trials]
    for block, same in ((Bartlett(), False), (Bartlett(weight=0.0), True), (Gated("input", 2), False)):
        expanded = learner(network, loss, block)
        assert state_of(expanded).modulators["hidden1"].frozen[3:].abs().sum() == 0
        after = [gradients(network, expanded, trial) for trial in trials]
        for old, new in zip(before[0].values(), after[0].values(), strict=True):
            torch.testing.assert_close(old, new, rtol=1e-14, atol=0)
        weight = "weights.input->hidden1"
        assert torch.allclose(before[1][weight], after[1][weight], rtol=1e-12, atol=0) == same


def test_rows_of_the_projection_belong_to_the_blocks_in_turn() -> None:
    network, loss = mlp([5, 7, 3]), LOSSES["cross_entropy"]()
    made = learner(network, loss, Gated("top", 2), Bartlett(), CompanionScore())
    assert state_of(made).n_expanded == 2 * 3 + 6 + 3
    assert state_of(made).modulators["hidden1"].learned.shape == (3 + 15, 7)


def test_what_an_expansion_costs_is_shown() -> None:
    text = show("digits-mlp", "sbd", {"rule.expansion": ("bartlett", "gated")})
    assert "score of 10 columns, expanded by 95: bartlett 55, gated 40" in text
    assert f"{2 * 105 * 192:,} multiplications per example in place of {2 * 10 * 192:,}" in text
    assert "expanded" not in show("digits-mlp", "sbd").splitlines()[-1]


def test_rules_without_a_score_cannot_be_expanded() -> None:
    rule = replace(rule_of("rstdp"), expansion=(Bartlett(),))
    with pytest.raises(ValueError, match="only a score can be expanded"):
        Learner(mlp([5, 7, 3]), rule, LOSSES["cross_entropy"](), torch.Generator())


def test_what_an_expansion_remembers_is_checkpointed_bitwise(tmp_path: Path) -> None:
    """Must fail when the moments or the running means stay behind (tried)."""
    loss = LOSSES["cross_entropy"]()
    blocks = (Gated("top", 2), Bartlett(features=4), Coarse(1, 2), CompanionScore())
    torch.manual_seed(0)
    x, target = torch.randn(6, 8, 5, dtype=torch.float64), torch.randint(0, 3, (6, 8))
    trials = [Batch(x[i][None], target[i]) for i in range(6)]
    network = mlp([5, 7, 3])
    through = learner(network, loss, *blocks)
    for trial in trials[:3]:
        gradients(network, through, trial)
    checkpoints.save(tmp_path / "c.pt", through.state_dict())
    resumed = learner(network, loss, *blocks, seed=99)
    resumed.load_state_dict(checkpoints.load(tmp_path / "c.pt"))
    for trial in trials[3:]:
        one, two = gradients(network, through, trial), gradients(network, resumed, trial)
        assert all(torch.equal(a, b) for a, b in zip(one.values(), two.values(), strict=True))


@pytest.mark.parametrize("name", [name for name in EXPANSIONS if name != "waves"])
def test_a_network_learns_with_every_block(name: str, tmp_path: Path) -> None:
    settings = {"rule.expansion": (name,), "training.epochs": 12, "data.subset": 100}
    run = neurosbd.fit("digits-mlp", rule="sbd", settings=settings, out=tmp_path / "run", device="cpu")
    assert run.metrics[-1]["test_accuracy"] > 0.85


@pytest.mark.parametrize("name", ["waves", "gated", "bartlett"])
def test_count_regression_learns_with_every_block(name: str) -> None:
    """Poisson counts of a nonlinear function: most of the way from the first loss to that of the true rate."""
    torch.manual_seed(0)
    x = torch.randn(512, 4, dtype=torch.float64)
    rate = torch.sin(2 * x[:, :1]) + 0.5 * x[:, 1:2].abs()
    target, loss, network = torch.poisson(torch.exp(rate)), LOSSES["poisson"](), mlp([4, 32, 1])
    learns = learner(network, loss, EXPANSIONS[name]())
    optimizer = torch.optim.Adam(network.parameters(), 1e-2)
    start, best = (loss.per_example(z, target).mean() for z in (network(x).detach(), rate))
    for _ in range(300):
        optimizer.zero_grad()
        learns.learn(Batch(x[None], target))
        optimizer.step()
    end = loss.per_example(network(x).detach(), target).mean()
    assert end - best < 0.4 * (start - best)
