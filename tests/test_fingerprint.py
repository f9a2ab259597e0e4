"""The rule fingerprint against its oracles B1 to B6 (Portes, Schmid, Murray 2022), and on traces of known learning."""

from pathlib import Path

import numpy as np
import pytest

from neurosbd import UsageError
from neurosbd.tracefiles import NotRecorded
from tests.synthetic import Recorded, analysis, loaded, run_with

MODULE = analysis("rule_fingerprint")
UNITS, OUTPUTS = 20, 2


def cosine_of(w: np.ndarray, observed: np.ndarray, errors: np.ndarray, states: np.ndarray) -> float:
    """Corr(W), prediction and mean over the same states."""
    return MODULE.metric(MODULE.predicted(w, errors, states), observed, states)


def trajectories(
    f: np.ndarray, trials: int, steps: int, rng: np.random.Generator, noise: float = 0.0, spread: float = 1.0
) -> np.ndarray:
    """h(t + 1) = F h(t) + noise, from random starts, [trial, step, unit]."""
    h = [spread * rng.standard_normal((trials, len(f)))]
    for _ in range(steps - 1):
        h.append(h[-1] @ f.T + noise * rng.standard_normal(h[-1].shape))
    return np.stack(h, 1)


def stable(rng: np.random.Generator) -> np.ndarray:
    return 0.9 * np.linalg.qr(rng.standard_normal((UNITS, UNITS)))[0]


def test_b1_linear_data_give_back_their_flow_field() -> None:
    """Must fail when F is transposed, or the end of a trial is mapped onto the start of the next (both tried)."""
    rng = np.random.default_rng(0)
    f = stable(rng)
    assert np.abs(MODULE.flow_field(trajectories(f, 30, 6, rng)) - f).max() < 1e-13
    assert np.abs(MODULE.flow_field(5 + trajectories(f, 30, 6, rng)) - f).max() > 1e-3  # there is no intercept


def test_b2_proportional_changes_have_corr_one_and_independent_ones_none() -> None:
    """Must fail when the absolute cosine is taken, or one of the norms is left out (both tried)."""
    rng = np.random.default_rng(0)
    states = rng.standard_normal((50, 10, UNITS))
    change = rng.standard_normal((UNITS, UNITS))
    assert MODULE.metric(change, 3 * change, states) == pytest.approx(1, abs=1e-12)
    assert MODULE.metric(change, -0.2 * change, states) == pytest.approx(-1, abs=1e-12)
    others = [MODULE.metric(change, rng.standard_normal(change.shape), states) for _ in range(200)]
    assert abs(np.mean(others)) < 4 * np.std(others) / np.sqrt(200)
    assert np.std(others) < 2 / UNITS


def test_b3_the_same_hypothesis_twice_has_the_same_corr() -> None:
    """M = W_bmi1^T: identical, not nearly so. Must fail when errors or states are changed in place for the next
    (tried)."""
    rng = np.random.default_rng(0)
    w, errors = rng.standard_normal((OUTPUTS, UNITS)), rng.standard_normal((9, 5, OUTPUTS))
    states, observed = rng.standard_normal((9, 5, UNITS)), rng.standard_normal((UNITS, UNITS))
    m = np.ascontiguousarray(w.T)
    assert cosine_of(w, observed, errors, states) == cosine_of(m.T, observed, errors, states)


def test_b4_without_learning_corr_is_zero_on_average() -> None:
    """Early and late differ by the scatter of the estimate alone. Must fail when the flow field learns (checked below:
    the same numbers with a change along the prediction are far from 0)."""
    found, learned = [], []
    for seed in range(60):
        rng = np.random.default_rng(seed)
        f, w = stable(rng), rng.standard_normal((OUTPUTS, UNITS))
        early, session, late = (trajectories(f, 40, 10, rng, noise=0.3) for _ in range(3))
        errors = rng.standard_normal((40, 10, OUTPUTS)) + session[..., :OUTPUTS]
        observed = MODULE.flow_field(late) - MODULE.flow_field(early)
        found.append(cosine_of(w, observed, errors, session))
        change = MODULE.predicted(w, errors, session)
        learned.append(cosine_of(w, observed + change / np.linalg.norm(change), errors, session))
    assert abs(np.mean(found)) < 4 * np.std(found) / np.sqrt(60)
    assert np.std(found) < 0.25
    assert np.mean(learned) > 0.5


def test_b5_one_small_step_of_a_linear_network_is_predicted_exactly() -> None:
    """dF_obs = eta sum M err h^T. Must fail when errors are those of other moments (tried): another M has less."""
    rng = np.random.default_rng(0)
    f, m = stable(rng), rng.standard_normal((UNITS, OUTPUTS))
    session = trajectories(f, 30, 6, rng)
    errors = rng.standard_normal((30, 6, OUTPUTS)) + 0.5 * session[..., :OUTPUTS]
    changed = f + 1e-3 / 180 * np.einsum("io,kto,ktj->ij", m, errors, session)
    observed = MODULE.flow_field(trajectories(changed, 30, 6, rng)) - MODULE.flow_field(session)
    assert cosine_of(m.T, observed, errors, session) == pytest.approx(1, abs=1e-9)
    assert cosine_of(rng.standard_normal((OUTPUTS, UNITS)), observed, errors, session) < 0.8


def test_b6_corr_knows_no_scale() -> None:
    """Scaling of W, of the errors and of the change (eta). Must fail when one of the norms is left out (tried)."""
    rng = np.random.default_rng(0)
    w, errors = rng.standard_normal((OUTPUTS, UNITS)), rng.standard_normal((9, 5, OUTPUTS))
    states, observed = rng.standard_normal((9, 5, UNITS)), rng.standard_normal((UNITS, UNITS))
    plain = cosine_of(w, observed, errors, states)
    for scaled in (cosine_of(70 * w, observed, errors, states), cosine_of(w, 1e-6 * observed, 40 * errors, states)):
        assert scaled == pytest.approx(plain, abs=1e-12)
    assert cosine_of(-w, observed, errors, states) == pytest.approx(-plain, abs=1e-12)


def test_reward_learning_is_predicted_only_with_the_covariance_of_its_noise() -> None:
    """Under anisotropic noise a reward rule moves along Sigma W^T err. Must fail when sigma is ignored or transposed
    into the wrong side."""
    rng = np.random.default_rng(0)
    w, errors = rng.standard_normal((OUTPUTS, UNITS)), rng.standard_normal((40, OUTPUTS))
    states = rng.standard_normal((40, UNITS))
    sigma = np.diag(np.geomspace(1e-3, 1, UNITS))
    observed = sigma @ w.T @ errors.T @ states
    assert MODULE.metric(MODULE.predicted(w, errors, states, sigma), observed, states) == pytest.approx(1, abs=1e-12)
    assert MODULE.metric(MODULE.predicted(w, errors, states), observed, states) < 0.9


def test_closed_loop_sees_the_projected_state() -> None:
    """sum (W^T err)(D h)^T D, written out."""
    rng = np.random.default_rng(0)
    w, errors, h = rng.standard_normal((2, 5)), rng.standard_normal((7, 2)), rng.standard_normal((7, 5))
    d = rng.standard_normal((5, 5))
    direct = sum(np.outer(w.T @ e, d @ x) @ d for e, x in zip(errors, h, strict=True))
    assert np.allclose(MODULE.predicted(w, errors, h, seen=d), direct)


@pytest.mark.parametrize("trials", [2, 9, 40])
def test_halves_are_complements(trials: int) -> None:
    """Must fail with the authors' bitwise NOT of an index array, which mirrors it: about half is shared then."""
    train, test = MODULE.halves(trials, np.random.default_rng(0))
    assert sorted([*train, *test]) == list(range(trials))
    if trials == 40:
        assert set((~train) % trials) & set(train)


def test_overlap_is_the_absolute_cosine() -> None:
    a, b = np.array([[1.0, 0.0], [0.0, 0.0]]), np.array([[-1.0, 1.0], [0.0, 0.0]])
    assert MODULE.overlap(a, b) == pytest.approx(1 / np.sqrt(2))


# on traces


def learning_run(path: Path, kind: str = "rate", eta: float = 0.02, items: tuple[int, ...] | None = None) -> tuple:
    """A linear network of 12 units that learns through a projection M in the middle third of 60 batches."""
    rng = np.random.default_rng(3)
    units = 12
    f = 0.6 * np.linalg.qr(rng.standard_normal((units, units)))[0]
    m, readout = rng.standard_normal((1, units)), rng.standard_normal((1, units))
    states, scores = [], []
    for batch in range(60):
        h = trajectories(f, 16, 30, rng, noise=0.5)
        error = h[..., :1] + rng.standard_normal((16, 30, 1))
        if 20 <= batch < 40:
            f = f + eta / 480 * MODULE.predicted(m, error, h)
        states.append(h.swapaxes(0, 1))
        scores.append(-error.swapaxes(0, 1))
    chosen = slice(None) if items is None else list(items)
    values = np.array(states)[..., chosen]
    signals = [
        Recorded.trials(f"hidden.{kind}", values > 1 if kind == "spikes" else values, 20, size=(units,), items=items),
        Recorded.trials("score", np.array(scores), 20),
        Recorded.snapshots("hidden.projection", [m, m, m, m]),
        Recorded.snapshots("hidden->output.weight", [readout, readout, readout, readout]),
    ]
    return run_with(path, *signals), m, readout


@pytest.mark.parametrize("items", [None, (0, 2, 3, 7, 9, 11)])
def test_the_projection_that_taught_is_found(items: tuple[int, ...] | None, tmp_path: Path) -> None:
    """Must fail when the score is taken for the error (Corr -> -1), the thirds are exchanged, or the columns of W are
    not those of the recorded neurons."""
    run, m, readout = learning_run(tmp_path, items=items)
    result = MODULE.analyse(run)
    corr = dict(zip(result.hypothesis, result.corr, strict=True))
    assert corr["projection at the start"] > 0.8
    assert "projection in mid-session" not in corr  # it is the same matrix
    chosen = slice(None) if items is None else list(items)
    alike = (
        np.sum(m[:, chosen] * readout[:, chosen]) / np.linalg.norm(m[:, chosen]) / np.linalg.norm(readout[:, chosen])
    )
    assert corr["readout at the start"] == pytest.approx(alike * corr["projection at the start"], abs=0.15)
    assert abs(result.corr[-1]) < 0.25 and result.clarity > 2 and result.trials.tolist() == [320, 320, 320]
    MODULE.figure(result).canvas.draw()
    assert "hidden" in MODULE.caption(result)


def test_a_run_that_does_not_learn_is_reported(tmp_path: Path) -> None:
    result = MODULE.analyse(learning_run(tmp_path, eta=0.0)[0])
    assert result.clarity < 2 and "says little" in MODULE.advice(result)[0]


def test_spikes_are_filtered_as_their_membrane_does(tmp_path: Path) -> None:
    run = learning_run(tmp_path, "spikes")[0]
    states, score = MODULE._signals(run)
    early = MODULE._thirds(run, states, score)[0]
    decay = np.exp(-1 / 30)  # tau_mem of pattern-generation
    z = states[:30, 0].astype(float)
    direct = [sum((1 - decay) * decay ** (t - s) * z[s] for s in range(t + 1)) for t in range(30)]
    assert np.allclose(early.states[0], direct)


def test_says_what_it_needs(tmp_path: Path) -> None:
    h, score = np.zeros((6, 9, 2, 12)), np.zeros((6, 9, 2, 1))
    with pytest.raises(UsageError, match="no hidden population has a connection onto itself"):
        MODULE.analyse(run_with(tmp_path / "a", Recorded.trials("hidden.rate", h), model="digits-mlp"))
    with pytest.raises(NotRecorded) as problem:
        MODULE.analyse(run_with(tmp_path / "b", Recorded.trials("hidden.rate", h)))
    assert problem.value.spec == "score"
    with pytest.raises(NotRecorded) as problem:
        MODULE.analyse(run_with(tmp_path / "c", Recorded.trials("output.rate", h), Recorded.trials("score", score)))
    assert problem.value.spec == "hidden.rate"
    with pytest.raises(UsageError, match="too few"):
        MODULE.analyse(
            run_with(tmp_path / "d", Recorded.trials("hidden.rate", h[:2]), Recorded.trials("score", score[:2]))
        )
    with pytest.raises(UsageError, match="same examples and steps"):
        few = Recorded.trials("score", score[:, :, :1])
        MODULE.analyse(run_with(tmp_path / "e", Recorded.trials("hidden.rate", h), few))


@pytest.mark.slow
def test_supervised_learning_shows_its_signature() -> None:
    """The published simulation, shortened: a credit matrix of overlap 0.5 with the decoder predicts the change of the
    flow field better than the decoder does. Must fail when M and the decoder are exchanged in the learning."""
    module = loaded("benchmarks/rule_fingerprint.py")
    corr = module.experiment("sl", [0.5, 0.5, 0.5, 1.0], 1500, seed=0)
    assert corr[:3, 0].mean() > 0.45 and corr[:3, 0].mean() > corr[:3, 1].mean() + 0.15
    assert corr[3, 0] == corr[3, 1]
