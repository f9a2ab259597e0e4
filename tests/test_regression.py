"""Values to predict: what fits what, measures, and oracles of whole trainings."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from scipy.optimize import minimize

import neurosbd
from neurosbd.cli.main import main
from neurosbd.config.compatibility import fitting
from neurosbd.config.resolve import load_model
from neurosbd.datasets.load import Dataset, load_data
from neurosbd.errors import UsageError
from neurosbd.files.library import names
from neurosbd.learning.batch import Batch, BatchResult
from neurosbd.losses import LOSSES, NegativeBinomial, Pinball, Poisson, PredictsMean, SquaredError
from neurosbd.losses.deviance import Deviance
from neurosbd.measures import MEASURES, Accuracy, measures_of, right_class, shown, title
from neurosbd.runs.batches import DatasetBatches
from neurosbd.runs.prediction import predicted
from neurosbd.training.session import Session
from tests.synthetic import analysis
from tests.targets import example
from tests.values import SHIPPED, generator

MODELS = ("diabetes-mlp", "doctor-visits-mlp", "heteroscedastic-mlp", "spike-counts-mlp")


# What fits what -----------------------------------------------------------------------------------


def settings_for(data: Dataset, loss: str) -> dict[str, Any]:
    size = LOSSES[loss]().parameters * data.outputs
    return {
        "data.name": data.name, "loss": loss, "population.output.size": [size], "training.epochs": 1,
        "population.input.size": list(data.size), "data.subset": 20 if data.kind == "classes" else 100,
    }  # fmt: skip


PAIRS = [(name, loss) for name in ("digits", *SHIPPED) for loss in fitting(load_data(name))]


def test_which_losses_fit() -> None:
    """Must fail when a loss takes targets that are not legal for it."""
    found = {name: {loss for n, loss in PAIRS if n == name} for name in ("digits", *SHIPPED)}
    values = {"squared_error", "gaussian", "crps", "pinball"}
    classes = {"cross_entropy", "bernoulli", "brier", "spherical", "ranked_probability", "squared_error"}
    counts = values | {"poisson", "negative_binomial"}
    assert found["heteroscedastic"] == values and found["digits"] == classes
    assert found["doctor-visits"] == found["spike-counts"] == counts
    assert found["diabetes"] == counts | {"gamma"}  # all are whole and above 0


@pytest.mark.filterwarnings("ignore:.* the same in all")  # of so few examples
@pytest.mark.parametrize(("name", "loss"), PAIRS)
def test_every_set_trains_under_every_loss_that_fits(name: str, loss: str, tmp_path: Path) -> None:
    data = load_data(name)
    run = neurosbd.fit("digits-mlp", settings=settings_for(data, loss), out=tmp_path / "run")
    (line,) = run.metrics
    merit = measures_of(LOSSES[loss](), torch.from_numpy(data.train.targets))[0].name
    assert run.result["status"] == "finished" and np.isfinite(line["test_loss"]) and np.isfinite(line[f"test_{merit}"])
    assert run.result["best"] == {"epoch": 1, f"test_{merit}": line[f"test_{merit}"]}
    assert (merit == "accuracy") == (name == "digits")


@pytest.mark.parametrize(
    ("model", "settings", "message"),
    [
        ("digits-mlp", {"loss": "gaussian"}, "wants finite real values .*'digits' has classes; losses that fit: cross"),
        ("diabetes-mlp", {"loss": "cross_entropy"}, "has values to predict .*losses that fit: squared_error, gaussian"),
        ("heteroscedastic-mlp", {"loss": "gamma"}, "'gamma' wants finite values > 0"),
        ("diabetes-mlp", {"loss": "squared_error"}, r"readout has size \[2\].*set population.output.size = \[1\]"),
        ("diabetes-mlp", {"population.output.size": [1]}, r"needs 2 outputs; set population.output.size = \[2\]"),
        ("diabetes-mlp", {"data.flip": True}, "data.flip and data.crop keep the class"),
        ("spike-counts-mlp", {"data.crop": 1}, "data.flip and data.crop keep the class"),
        ("digits-mlp", {"loss": {"kind": "cross_entropy", "class_weights": [1.0, 2.0]}}, "class_weights has 2 values"),
        ("diabetes-mlp", {"rule": "rstdp"}, "rewarded for the right class"),
    ],
)  # fmt: skip
def test_what_does_not_fit_is_refused_before_anything_is_written(
    model: str, settings: dict[str, Any], message: str, tmp_path: Path
) -> None:
    rule = settings.pop("rule", None)
    with pytest.raises(UsageError, match=message):
        neurosbd.fit(model, rule=rule, settings=settings, out=tmp_path / "run")
    assert not (tmp_path / "run").exists()


# Measures -----------------------------------------------------------------------------------------


def whole(measure: Any, output: torch.Tensor, target: torch.Tensor, parts: int = 1) -> float:
    """The measure of a split, summed over so many batches."""
    zero = torch.zeros((), dtype=output.dtype)
    sums = [
        measure.sums(Batch(o[None], y), BatchResult(zero, o))
        for o, y in zip(output.tensor_split(parts), target.tensor_split(parts), strict=True)
    ]
    values = 1 if target.ndim == 1 else target.shape[1]
    assert all(s.shape == (measure.width(values),) and s.dtype == torch.float64 for s in sums)
    return measure.value(torch.stack(sums).sum(0).tolist())


def made(name: str) -> list[tuple[Any, torch.Tensor, torch.Tensor]]:
    """Every measure of this name that some loss has, with outputs and targets."""
    found = []
    losses = [make() for make in LOSSES.values()] + [Pinball((0.1, 0.5, 0.9))]
    for loss in losses:
        output, target = example(loss, 60)
        found += [(m, output, target) for m in measures_of(loss, target) if m.name == name]
    return found


@pytest.mark.parametrize("name", list(MEASURES))
def test_measures_do_not_depend_on_the_batches(name: str) -> None:
    """Must fail for a mean of batches: they are of unequal size here."""
    assert made(name)
    for measure, output, target in made(name):
        assert measure.name == name and title(name) and shown(name, 0.5)
        once = whole(measure, output, target)
        assert once == pytest.approx(whole(measure, output, target, 7), rel=1e-9) and np.isfinite(once)
        assert np.isnan(measure.value([0.0] * measure.width(1 if target.ndim == 1 else target.shape[1])))


@pytest.mark.parametrize("name", [n for n, make in LOSSES.items() if isinstance(make(), PredictsMean)])
def test_deviance_is_twice_the_loss_above_that_of_the_target_itself(name: str) -> None:
    """Oracle: the likelihood, d(y, m) = 2 (loss(m) - loss(y)) at a fixed spread. Must fail without the factor."""
    loss: Any = LOSSES[name]()
    if loss.parameters > 1:
        pytest.skip("the spread is an output too; its mean is judged by the squared error")
    output, target = example(loss, 40)
    target = target.double().clamp(1e-9, 1 - 1e-9) if name == "bernoulli" else target.double()
    inverse = {"squared_error": lambda y: y, "bernoulli": torch.logit}.get(name, lambda y: y.clamp_min(1e-30).log())
    excess = loss.per_example(output, target) - loss.per_example(inverse(target), target)
    torch.testing.assert_close(loss.deviance(target, loss.mean(output)).sum(1), 2 * excess, rtol=1e-6, atol=1e-6)
    assert isinstance(loss.deviance, Deviance)


@pytest.mark.parametrize("name", [n for n, make in LOSSES.items() if isinstance(make(), PredictsMean)])
def test_mean_is_that_of_the_draws(name: str) -> None:
    """Must fail when the link is left out."""
    loss: Any = LOSSES[name]()
    output = 0.3 * torch.randn(1, 3 * loss.parameters, dtype=torch.float64, generator=generator())
    draws = loss.sample(output.expand(100_000, -1), generator(1))
    assert (draws.mean(0) - loss.mean(output)[0]).abs().max() < 5 * draws.std(0).max() / 300


def test_explained_shares_against_their_definitions() -> None:
    """Oracle: two passes over the data in numpy. 1 for a perfect, 0 for a constant prediction."""
    y = torch.poisson(torch.tensor([[3.0, 0.5]]).expand(200, 2), generator=generator()).double()
    z = torch.randn(200, 2, dtype=torch.float64, generator=generator(1))
    (measure,) = measures_of(Poisson(), y)
    mean, counts = y.mean(0), y.numpy()
    log = np.log(np.maximum(counts, 1))
    spent = [2 * (counts * (log - np.log(m)) - (counts - m)).sum() for m in (np.exp(z.numpy()), mean.numpy())]
    assert whole(measure, z, y, 3) == pytest.approx(1 - float(spent[0]) / float(spent[1]), rel=1e-9)
    assert whole(measure, mean.log().expand(200, 2), y) == pytest.approx(0, abs=1e-9)
    (square,) = measures_of(SquaredError(), y)
    expected = 1 - ((y - z) ** 2).sum() / ((y - mean) ** 2).sum()
    assert whole(square, z, y, 3) == pytest.approx(expected.item()) and whole(square, y, y) == 1
    levels = Pinball((0.25, 0.5))
    explained, _ = measures_of(levels, y)
    quantiles = torch.tensor(np.quantile(y.numpy(), [0.25, 0.5], axis=0)).reshape(1, 4)
    assert whole(explained, quantiles.expand(200, 4), y) == pytest.approx(0, abs=1e-12)


@pytest.mark.parametrize("loss", ["gaussian", "crps"])
def test_coverage_of_the_true_model_is_nominal(loss: str) -> None:
    """Must fail with the reach of another level."""
    made_loss: Any = LOSSES[loss]()
    output = torch.randn(20_000, 2, dtype=torch.float64, generator=generator())
    y = made_loss.sample(output, generator(1))
    coverage = measures_of(made_loss, y)[-1]
    assert whole(coverage, output, y, 4) == pytest.approx(0.9, abs=0.008) and not coverage.higher_is_better
    assert whole(Accuracy(right_class), output, torch.zeros(20_000, dtype=torch.long)) == pytest.approx(0.5, abs=0.02)


# Oracles of whole trainings -----------------------------------------------------------------------

LINEAR = """
[data]
name = "PATH"
[training]
epochs = 1
batch_size = 1000
optimizer = { kind = "adam", lr = 0.05 }
[population]
input = { size = [3] }
output = { size = [SIZE], neuron = "identity" }
[[connection]]
pre = "input"
post = "output"
kind = "dense"
bias = true
"""


def linear(tmp_path: Path, loss: str, y: np.ndarray, x: np.ndarray, steps: int = 1500) -> Any:
    """A linear readout trained by score broadcast with full batches until it stands still."""
    keys = {"values": x, "targets": y}
    np.savez(tmp_path / "set.npz", **{f"{s}_{k}": v for s in ("train", "test") for k, v in keys.items()})  # type: ignore[arg-type]
    text = LINEAR.replace("PATH", str(tmp_path / "set.npz")).replace("SIZE", str(y.shape[1]))
    (tmp_path / "linear.toml").write_text(f'loss = "{loss}"\nrule = "sbd"\n{text}')
    experiment, cpu = load_model(tmp_path / "linear.toml").build(), torch.device("cpu")
    data = load_data(tmp_path / "set.npz")
    session = Session(experiment, DatasetBatches(experiment, data, cpu), cpu)
    for step in range(steps):
        session.number = 0
        for group in session.optimizer.param_groups:
            group["lr"] = 0.05 * (1 - step / steps) ** 2
        session.step()
        for group in session.optimizer.param_groups:
            group["lr"] = 0.05
    with torch.no_grad():
        output = torch.cat([session.network(next(iter(trial.inputs))) for trial in session.batches.tests()])
    return data, output.double().numpy(), session.evaluate()


def test_linear_network_with_squared_error_is_least_squares(tmp_path: Path) -> None:
    """Oracle: numpy.linalg.lstsq. Must fail when targets are scaled back by another deviation."""
    rng = np.random.default_rng(0)
    x = rng.normal(2, 3, (200, 3))
    y = x @ rng.normal(size=(3, 2)) * [1, 40] + [5, -300] + rng.normal(size=(200, 2)) * [1, 20]
    data, output, told = linear(tmp_path, "squared_error", y, x)
    design = np.column_stack((x, np.ones(200)))
    fitted = design @ np.linalg.lstsq(design, y, rcond=None)[0]
    found = output * data.target_std + data.target_mean
    np.testing.assert_allclose(found, fitted, atol=2e-3 * y.std(0).max())
    left, total = (((y - m) / y.std(0)) ** 2 for m in (fitted, y.mean(0)))
    assert told["r_squared"] == pytest.approx(1 - left.sum() / total.sum(), abs=1e-5)


def test_linear_network_with_poisson_is_the_generalised_linear_model(tmp_path: Path) -> None:
    """Oracle: the maximum of the likelihood by scipy. Must fail when counts are standardised."""
    rng = np.random.default_rng(1)
    x = rng.normal(size=(300, 3))
    y = rng.poisson(np.exp(0.5 + x @ [0.4, -0.3, 0.0]))[:, None]
    _, output, told = linear(tmp_path, "poisson", y, x)
    design = np.column_stack((x, np.ones(300)))

    def risk(w: np.ndarray) -> float:
        return float((np.exp(design @ w) - y[:, 0] * (design @ w)).sum())

    optimum = design @ minimize(risk, np.zeros(4), method="BFGS", options={"gtol": 1e-6}).x
    np.testing.assert_allclose(output[:, 0], optimum, atol=2e-3)
    assert 0.1 < told["explained_deviance"] < 0.6


# Reports ------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def learned(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The heteroscedastic sine, learned by backprop in a few epochs."""
    out = tmp_path_factory.mktemp("regression") / "run"
    settings = {"training.epochs": 12, "training.optimizer.lr": 4e-3}
    neurosbd.fit("heteroscedastic-mlp", rule="bp", settings=settings, out=out)
    return out


def test_the_learned_spread_is_the_true_one(learned: Path, tmp_path: Path) -> None:
    """Must fail when variance is taken for deviation, or units are forgotten: then the ratio is far from 1."""
    calibration = analysis("calibration")
    result = calibration.analyse(neurosbd.open_run(learned))
    assert result.spread_ratio == pytest.approx(1, abs=0.12) and result.spread_correlation > 0.9
    assert result.mean_error < 0.5 and np.abs(result.covered - result.level).max() < 0.06
    assert np.mean(result.pit) == pytest.approx(1) and len(result.target) == 250
    calibration.figure(result).savefig(tmp_path / "figure.png")
    assert "90% hold" in calibration.caption(result) and not calibration.advice(result)


def test_a_forecast_that_is_too_sure_is_told(learned: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same with draws half as wide. Must fail when coverage is that of the targets among themselves."""
    calibration = analysis("calibration")
    run = neurosbd.open_run(learned)
    real = calibration._draws

    def narrow(found: Any) -> Any:
        draws, target = real(found)
        return draws.mean(0) + 0.5 * (draws - draws.mean(0)), target

    monkeypatch.setattr(calibration, "_draws", narrow)
    result = calibration.analyse(run)
    assert result.covered[-1] == pytest.approx(0.59, abs=0.06) and "too sure" in calibration.advice(result)[0]


def test_calibration_is_for_distributions_of_values(tmp_path: Path) -> None:
    settings = {"training.epochs": 1, "loss": "squared_error", "population.output.size": [1]}
    run = neurosbd.fit("diabetes-mlp", settings=settings, out=tmp_path / "means")
    with pytest.raises(UsageError, match="predicts means alone"):
        analysis("calibration").analyse(run)
    found = predicted(run)
    assert found.output.shape == found.target.shape == (88, 1)
    np.testing.assert_allclose(found.offset + found.scale * found.target, found.data.test.targets, atol=1e-3)
    run = neurosbd.fit("digits-mlp", settings={"training.epochs": 1, "data.subset": 20}, out=tmp_path / "classes")
    with pytest.raises(UsageError, match="calibration is for values"):
        analysis("calibration").analyse(run)


def test_everything_names_the_measure_and_shows_its_value(
    learned: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Must fail when a share explained is shown as an accuracy, or as a percentage."""
    run = neurosbd.open_run(learned)
    last = run.metrics[-1]
    assert {"test_r_squared", "train_r_squared", "test_coverage"} <= set(last) and "test_accuracy" not in last
    assert main(["fit", "diabetes-mlp", "--set", "training.epochs=2", "--out", str(tmp_path / "other")]) == 0
    said = capsys.readouterr().out
    assert "test R² " in said and "coverage" in said and "accuracy" not in said
    other = json.loads((tmp_path / "other" / "result.json").read_text())
    assert set(other["best"]) == {"epoch", "test_r_squared"}
    report = neurosbd.analyse(learned, out=tmp_path / "page")
    page = report.path.read_text()
    assert "test R²" in page and f"{last['test_r_squared']:.3f}" in page and "test accuracy" not in page
    assert not report.failed and {"calibration", "learning_curves"} <= {result.name for result in report.shown}
    found = neurosbd.compare([learned], tmp_path / "compare")
    assert "test R²" in found.quantities and "test coverage" in found.quantities and "test accuracy" not in found.table
    assert f"{last['test_r_squared']:.4g}" in found.table and f"{100 * last['test_coverage']:.2f} %" in found.table


# Models -------------------------------------------------------------------------------------------


def test_regression_models_ship() -> None:
    assert set(MODELS) <= set(names("models"))


@pytest.mark.filterwarnings("ignore:.* the same in all")  # of so few examples
@pytest.mark.parametrize("rule", ["sbd", "ebd", "dfa", "bp"])
@pytest.mark.parametrize("model", MODELS)
def test_models_run_under_every_rule(model: str, rule: str, tmp_path: Path) -> None:
    settings = {"training.epochs": 1, "data.subset": 64, "data.test_subset": 40}
    run = neurosbd.fit(model, rule=rule, settings=settings, out=tmp_path / "run")
    assert run.result["status"] == "finished" and np.isfinite(run.metrics[0]["test_loss"])


def test_spikes_predict_counts(tmp_path: Path) -> None:
    """A leaky readout of log-rates, averaged over the steps: their geometric mean; learned online by SBD.

    Must fail when the measure is taken of the last step, or of the exponential of each: explained deviance is
    that of the mean output, which for a convex loss is no worse than the mean loss.
    """
    text = """
    loss = "poisson"
    rule = { kind = "sbd", neuromodulator = { scale = 0.2 } }
    [data]
    name = "spike-counts"
    subset = 300
    test_subset = 100
    [time]
    steps = 8
    warmup = 2
    [training]
    epochs = 2
    rates = { output = 10.0 }
    [population]
    input = { size = [1, 8, 8] }
    hidden = { size = [64], neuron = "lif" }
    output = { size = [8], neuron = "li" }
    [[connection]]
    pre = "input"
    post = "hidden"
    kind = "dense"
    [[connection]]
    pre = "hidden"
    post = "output"
    kind = "dense"
    bias = true
    """
    (tmp_path / "spiking.toml").write_text(text)
    run = neurosbd.fit(tmp_path / "spiking.toml", out=tmp_path / "run")
    found = predicted(run)
    mean_loss = Poisson().per_example(found.output, found.target).mean().item()
    assert mean_loss <= run.metrics[-1]["test_loss"] + 1e-5
    (measure,) = measures_of(Poisson(), found.target)
    told = run.metrics[-1]["test_explained_deviance"]
    assert whole(measure, found.output, found.target, 3) == pytest.approx(told, abs=1e-6)


def test_negative_binomial_deviance_tends_to_poissons() -> None:
    y, m = torch.tensor([0.0, 3.0, 9.0]).double(), torch.tensor([0.5, 2.0, 12.0]).double()
    torch.testing.assert_close(NegativeBinomial(1e7).deviance(y, m), Poisson().deviance(y, m), rtol=1e-4, atol=1e-5)
