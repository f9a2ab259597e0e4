"""Analyses of how learning went and how the layers fare, on traces whose answers are known in closed form."""

import dataclasses
import importlib.util
import math
import sys
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest

import neurosbd
from neurosbd.tracefiles import Clock, NotRecorded, Rows, Series, TraceWriter, open_trace
from neurosbd.tracefiles.series import Contents

FOLDER = Path(__file__).resolve().parents[1] / "analysis"
NAMES = ("learning_curves", "decorrelation", "alignment", "hebbian_alignment", "layer_health")
DT = 1e-3


def load(name: str) -> Any:
    spec = importlib.util.spec_from_file_location(f"analysis_{name}", FOLDER / f"{name}.py")
    assert spec is not None and spec.loader is not None
    module: ModuleType = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


learning_curves, decorrelation, alignment, hebbian_alignment, layer_health = map(load, NAMES)
weight_changes = load("weight_changes")


@dataclass
class Taken:
    """Rows of one clock; epoch, batch and step per row, signals: (what, where, values, size of the population)."""

    epoch: np.ndarray
    batch: np.ndarray
    step: np.ndarray
    signals: list[tuple[str, str, np.ndarray, tuple[int, ...]]]
    clock: Clock = field(default_factory=Clock)
    time: np.ndarray | None = None
    sample: np.ndarray | None = None


def write(path: Path, taken: list[Taken]) -> Path:
    """A trace of these rows, in blocks as a recorder would hand them over."""
    axes = {"score": "output", "alignment": "measure", "hebbian": "measure"}
    series = []
    for number, part in enumerate(taken):
        for what, where, values, size in part.signals:
            name = f"{where}.{what}".lstrip(".") + ("@test" if part.clock.on == "test" else "")
            plain = name.replace("->", "_to_")
            place = f"{'/neurosbd/spikes' if what == 'spikes' else '/processing/learning'}/{plain}/data"
            middle = ("example",) if part.clock.per == "step" else ()
            series.append(
                Series(
                    name=name, what=what, where=where, unit="1", path=place, clock=number, size=size,
                    axes=("row", *middle, axes.get(what, "neuron")), columns=values.shape[1:],
                    dtype="uint8" if what == "spikes" else "float32",
                )
            )  # fmt: skip
    steps = 1 + max(int(part.step.max(initial=0)) for part in taken)
    contents = Contents(
        clocks=tuple(part.clock for part in taken), series=tuple(series), dt=DT, batch_size=4, steps=steps
    )
    writer = TraceWriter.create(path, contents, "{}", "synthetic")
    for number, part in enumerate(taken):
        length = contents.block_rows(number)
        for start in range(0, len(part.step), length):
            writer.append(number, _rows(part, [s for s in series if s.clock == number], slice(start, start + length)))
    return writer.close(complete=True)


def _rows(part: Taken, series: list[Series], at: slice) -> Rows:
    examples = len(part.clock.examples)
    sample = np.zeros((len(part.step), examples), np.int64) if part.sample is None else part.sample
    time = np.arange(len(part.step)) * DT if part.time is None else part.time
    values = {s.name: signal[2][at].astype(s.dtype) for s, signal in zip(series, part.signals, strict=True)}
    whole = (part.step.astype(np.int32), part.batch.astype(np.int32), part.epoch.astype(np.int32))
    step, batch, epoch = (column[at] for column in whole)
    return Rows(time[at].astype(float), step, batch, epoch, sample[at], values)


def a_run(path: Path, taken: list[Taken], model: str = "digits-mlp", settings: dict[str, Any] | None = None) -> Any:
    definition = neurosbd.load_model(model, None, settings or {})
    return SimpleNamespace(
        path=path, trace=open_trace(write(path / "trace.h5", taken)), metrics=[], definition=definition
    )


def trials(epochs: int, batches: int, steps: int) -> dict[str, np.ndarray]:
    """Coordinates of the rows of so many full epochs."""
    epoch, batch, step = np.meshgrid(*map(np.arange, (epochs, batches, steps)), indexing="ij")
    return {"epoch": 1 + epoch.ravel(), "batch": batch.ravel(), "step": step.ravel()}


def drawn(module: Any, result: Any, path: Path) -> None:
    """The figure can be rendered, the caption says something."""
    module.figure(result).savefig(path / "figure.png")
    assert (path / "figure.png").stat().st_size > 5000
    assert len(module.caption(result)) > 40 and "nan" not in module.caption(result)


# weight_changes


def changes(*lines: dict[str, float]) -> Any:
    return SimpleNamespace(path=Path("run"), metrics=[{"epoch": e + 1, **line} for e, line in enumerate(lines)])


def test_changes_are_those_of_the_lines(tmp_path: Path) -> None:
    """By what they are of, in the order of the epochs, with what does not move told. Must fail when the names are taken
    for one kind (tried)."""
    first = {"a->b.weight_change": 0.2, "b->c.weight_change": 0.0, "b.rate": 30.0, "c.activity": 0.5}
    result = weight_changes.analyse(changes(first, first | {"a->b.weight_change": 0.1, "b.rate": 20.0}))
    assert (result.spiking, result.graded, result.connection) == (("b",), ("c",), ("a->b", "b->c"))
    np.testing.assert_array_equal(result.change, [[0.2, 0.1], [0.0, 0.0]])
    np.testing.assert_array_equal(result.rate, [[30.0, 20.0]])
    np.testing.assert_array_equal(result.activity, [[0.5, 0.5]])
    assert "a->b by 0.1 (at first 0.2)" in (text := weight_changes.caption(result)) and "b 20 Hz" in text
    (told,) = weight_changes.advice(result)
    assert told.startswith("the weights of 'b->c' are plastic and did not change at all")
    drawn(weight_changes, result, tmp_path)


def test_a_run_that_is_judged_has_no_such_changes() -> None:
    with pytest.raises(neurosbd.UsageError, match="for trainings that nothing judges"):
        weight_changes.analyse(changes({"test_loss": 1.0}))


# learning_curves


def metrics(**columns: list[float | None]) -> Any:
    length = len(next(iter(columns.values())))
    flat: dict[str, list[Any]] = {
        "train_loss": [1 / (1 + e) for e in range(length)], "test_loss": [1.1 / (1 + e) for e in range(length)],
        "train_accuracy": [0.9] * length, "test_accuracy": [0.88] * length, "seconds": [2.0] * length,
        "samples_per_second": [100.0] * length, "peak_memory_bytes": [5_000_000] * length, **columns,
    }  # fmt: skip
    lines = [{"epoch": e + 1} | {name: values[e] for name, values in flat.items()} for e in range(length)]
    return SimpleNamespace(path=Path("run"), metrics=lines, definition=neurosbd.load_model("digits-mlp"))


def test_curves_are_the_metrics_and_null_is_nan(tmp_path: Path) -> None:
    """Must fail when a missing value becomes 0 or a column is taken for another."""
    result = learning_curves.analyse(metrics(test_loss=[3.0, None, 1.0], test_accuracy=[0.2, 0.7, 0.6]))
    np.testing.assert_array_equal(result.epoch, [1, 2, 3])
    np.testing.assert_array_equal(result.test_loss, [3.0, np.nan, 1.0])
    np.testing.assert_array_equal(result.train_loss, [1, 1 / 2, 1 / 3])
    assert result.chance == 0.1 and result.peak_memory == 5.0
    assert "60.0%" in (text := learning_curves.caption(result)) and "70.0% after epoch 2" in text and "6.0 s" in text
    drawn(learning_curves, result, tmp_path)


def test_curves_without_accuracies(tmp_path: Path) -> None:
    result = learning_curves.analyse(metrics(train_accuracy=[None] * 3, test_accuracy=[None] * 3))
    assert len(learning_curves.figure(result).axes) == 2
    drawn(learning_curves, result, tmp_path)


@pytest.mark.parametrize(
    ("word", "columns"),
    [
        ("", {"train_accuracy": [0.5, 0.8, 0.9, 0.9], "test_accuracy": [0.5, 0.8, 0.85, 0.88]}),
        ("NaN", {"train_loss": [1.0, 0.5, None, 0.4]}),
        ("chance", {"train_accuracy": [0.1, 0.12, 0.15, 0.15], "test_accuracy": [0.1, 0.1, 0.11, 0.12]}),
        ("training loss rises", {"train_loss": [1.0, 0.3, 0.5, 0.6]}),
        ("over-fitting", {"train_accuracy": [0.5, 0.8, 0.99, 1.0]}),
        ("over-fitting", {"test_loss": [1.0, 0.5, 0.6, 0.7]}),
        ("still rising", {"test_accuracy": [*[0.1 * n for n in range(1, 9)], 0.85, 0.89]}),
    ],
)
def test_each_unhealthy_curve_has_its_advice(word: str, columns: dict[str, Any]) -> None:
    """Must fail when a threshold points the wrong way: the healthy curve gets none, every other exactly its own."""
    found = learning_curves.advice(learning_curves.analyse(metrics(**columns)))
    assert len(found) == (1 if word else 0) and all(word in text for text in found), found


def test_curves_need_an_epoch() -> None:
    with pytest.raises(neurosbd.UsageError, match="no epoch was finished"):
        learning_curves.analyse(SimpleNamespace(path=Path("run"), metrics=[]))


# decorrelation


def scored(
    h: np.ndarray, s: np.ndarray, batches: int, on: Any = "test", what: str = "rate", sample: Any = None
) -> list[Taken]:
    """Activity of 'hidden1' and score, [epochs x batches x steps, example, ...], with one clock."""
    steps = 1
    while h.shape[0] % (batches * (steps + 1)) == 0 and what == "spikes":
        steps += 1
    clock = Clock(on=on, examples=tuple(range(h.shape[1])))
    rows = trials(h.shape[0] // (batches * steps), batches, steps)
    signals = [(what, "hidden1", h, h.shape[2:]), ("score", "", s, s.shape[2:])]
    return [Taken(**rows, clock=clock, sample=sample, signals=signals)]


def test_correlation_is_that_of_all_examples_of_an_epoch_at_once(tmp_path: Path) -> None:
    """Trials of 3 steps, a mean 1000 times the deviation, a short last batch full of NaN: numpy's own corrcoef.

    Must fail when epochs mix, absent examples count, the mean is not removed, or single steps are correlated.
    """
    random = np.random.default_rng(0)
    rows = trials(2, 7, 3)
    size = len(rows["step"])
    h = 1000 + random.normal(size=(size, 4, 5)).astype(np.float32)
    s = random.normal(size=(size, 4, 3)).astype(np.float32)
    h[:, :, 0] += 2 * s[:, :, 0]
    sample = np.zeros((size, 4), np.int64)
    sample[rows["batch"] == 6, 2:] = -1
    h[sample < 0] = s[sample < 0] = np.nan
    clock = Clock(on="test", examples=(0, 1, 2, 3))
    signals = [("rate", "hidden2", h, (5,)), ("score", "", s, (3,))]
    result = decorrelation.analyse(a_run(tmp_path, [Taken(**rows, clock=clock, sample=sample, signals=signals)]))
    for epoch in (1, 2):
        mean_h, mean_s = (
            x[rows["epoch"] == epoch].astype(float).reshape(7, 3, 4, -1).mean(1).reshape(28, -1)[:26] for x in (h, s)
        )
        rho = np.corrcoef(mean_h.T, mean_s.T)[:5, 5:]
        np.testing.assert_allclose(result.correlation[0, epoch - 1], np.abs(rho).mean(), rtol=1e-9)
    assert result.layer == ("hidden2",) and result.on == "test"
    np.testing.assert_array_equal(result.epoch, [1, 2])
    np.testing.assert_array_equal(result.samples, [26, 26])
    np.testing.assert_allclose(result.share.sum(-1), 1)
    drawn(decorrelation, result, tmp_path)


@pytest.mark.parametrize("rho", [0.3, -0.8])
def test_a_known_correlation_is_found(tmp_path: Path, rho: float) -> None:
    """h = rho s + sqrt(1 - rho^2) noise. Must fail when the covariance is not divided by both deviations."""
    random = np.random.default_rng(1)
    s = random.normal(size=(200, 50, 1))
    h = 5 * (rho * s + math.sqrt(1 - rho**2) * random.normal(size=(200, 50, 4)))
    result = decorrelation.analyse(a_run(tmp_path, scored(h, s, 200)))
    assert result.correlation[0, 0] == pytest.approx(abs(rho), abs=0.02)


def test_independent_activity_reaches_the_dashed_line(tmp_path: Path) -> None:
    """Must fail when the level is 1 / sqrt(n) (25 % too high) or examples are counted as rows."""
    random = np.random.default_rng(2)
    result = decorrelation.analyse(
        a_run(tmp_path, scored(random.normal(size=(8, 50, 300)), random.normal(size=(8, 50, 10)), 4))
    )
    np.testing.assert_allclose(result.correlation[0], result.independent, rtol=0.05)
    assert decorrelation.advice(result) == []


def test_constant_units_are_left_out_and_counted(tmp_path: Path) -> None:
    """Must fail when they count as uncorrelated: half of the units equal the score, half are 0 or 0.1."""
    s = np.random.default_rng(3).normal(size=(6, 20, 1))
    h = np.concatenate([s, -s, 0 * s, 0 * s + 0.1], 2)
    result = decorrelation.analyse(a_run(tmp_path, scored(h, s, 3)))
    np.testing.assert_allclose(result.correlation, 1)
    np.testing.assert_array_equal(result.constant, 0.5)
    assert result.share[0, 0, -1] == 1
    drawn(decorrelation, result, tmp_path)


def test_correlation_that_stays_gets_advice_and_one_that_falls_does_not(tmp_path: Path) -> None:
    random = np.random.default_rng(4)
    s, noise = random.normal(size=(2, 400, 1)), random.normal(size=(2, 400, 4))
    for name, kept in (("stays", (1, 1)), ("falls", (1, 0))):
        h = np.stack([k * s[e] + noise[e] for e, k in enumerate(kept)])
        (tmp_path / name).mkdir()
        found = decorrelation.advice(decorrelation.analyse(a_run(tmp_path / name, scored(h, s, 1))))
        assert ["did not fall" in text for text in found] == ([True] if name == "stays" else [])


def test_correlation_says_what_is_missing(tmp_path: Path) -> None:
    h, s = np.zeros((4, 2, 3)), np.zeros((4, 2, 1))
    both = scored(h, s, 4)[0]
    alone = Taken(both.epoch, both.batch, both.step, both.signals[:1], both.clock)
    elsewhere = Taken(both.epoch, both.batch, both.step, both.signals[1:], Clock(on="test", examples=(5, 6)))
    outside = Taken(both.epoch, both.batch, both.step, [("rate", "output", h, (3,)), both.signals[1]], both.clock)
    cases = {
        "score": ("digits-mlp", [alone], "score[on=test]"),
        "filters": ("digits-mlp", [alone, elsewhere], "score[on=test]"),
        "rates": ("digits-mlp", [outside], "*.rate[on=test]"),
        "spikes": ("digits-snn", [outside], "*.spikes[on=test]"),
    }
    for name, (model, taken, spec) in cases.items():
        (tmp_path / name).mkdir()
        with pytest.raises(NotRecorded, match="same filters") as caught:
            decorrelation.analyse(a_run(tmp_path / name, taken, model))
        assert caught.value.spec == spec


# alignment, hebbian_alignment


def probed(what: str, measured: dict[str, np.ndarray], every: int = 20, first: int = 20, steps: int = 4) -> Taken:
    """Rows [cosine, second] of some connections, one every so many batches of 46 per epoch."""
    done = first + every * np.arange(len(next(iter(measured.values()))))
    return Taken(
        epoch=1 + (done - 1) // 46, batch=(done - 1) % 46, step=np.full(len(done), steps - 1), time=done * steps * DT,
        clock=Clock(per="batch", batches=every), signals=[(what, where, v, (2,)) for where, v in measured.items()],
    )  # fmt: skip


def test_alignment_has_angles_and_counts_batches_over_epochs(tmp_path: Path) -> None:
    """Must fail when batches are counted within the epoch, degrees are radians, or two clocks are laid side by side."""
    half = math.sqrt(0.5)
    one = probed("alignment", {"input->hidden1": np.array([[0.0, 2.0], [half, 1.0], [1.0, 0.5]])})
    other = probed("alignment", {"hidden1->hidden2": np.array([[-1.0, 3.0], [np.nan, np.nan]])}, every=40, first=40)
    result = alignment.analyse(a_run(tmp_path, [one, other]))
    np.testing.assert_array_equal(result.batch, [20, 40, 60, 80])
    np.testing.assert_array_equal(result.epoch, [1, 1, 2, 2])
    expected = [[90, 45, 0, np.nan], [np.nan, 180, np.nan, np.nan]]
    np.testing.assert_allclose(result.angle, expected, atol=0.05)
    np.testing.assert_allclose(result.ratio[0], [2, 1, 0.5, np.nan])
    assert result.connection == ("input->hidden1", "hidden1->hidden2") and result.adaptive
    drawn(alignment, result, tmp_path)


def test_alignment_advises_where_an_update_does_not_descend(tmp_path: Path) -> None:
    """Must fail when the beginning is judged: 'a' starts aligned and ends across, 'b' the other way round."""
    fall, rise = np.linspace(0.9, 0.0, 12), np.linspace(-0.9, 0.9, 12)
    measured = {n: np.stack([c, np.full(12, r)], 1) for n, c, r in (("a", fall, 1.0), ("b", rise, 500.0))}
    sgd = {"training.optimizer": {"kind": "sgd", "lr": 0.1}}
    for name, settings, words in (("adam", {}, ["'a'"]), ("sgd", sgd, ["'a'", "500 times longer"])):
        (tmp_path / name).mkdir()
        found = alignment.advice(
            alignment.analyse(a_run(tmp_path / name, [probed("alignment", measured)], settings=settings))
        )
        assert len(found) == len(words) and all(word in text for word, text in zip(words, found, strict=True)), found


def test_hebbian_alignment_leaves_out_a_vanished_descent_and_tells_what_is_needed(tmp_path: Path) -> None:
    """Oracle H3: at an interior optimum the cosine is rounding. Must fail when it is kept, or the caution is gone."""
    values = np.array([[0.5, 1.0], [-0.5, 1e-2], [0.9, 1e-8], [np.nan, 0.0]])
    settings = {"training.optimizer": {"kind": "adamw", "weight_decay": 0.003}, "training.batch_size": 48}
    result = hebbian_alignment.analyse(a_run(tmp_path, [probed("hebbian", {"a": values})], settings=settings))
    np.testing.assert_allclose(result.cosine, [[0.5, -0.5, np.nan, np.nan]])
    np.testing.assert_allclose(result.norm, [[1, 1e-2, 1e-8, 0]])
    text = hebbian_alignment.caption(result)
    for word in ("decay 0.003", "size 48", "epochs 1 to 2 of 40", "does not identify a Hebbian mechanism", "+0.50"):
        assert word in text
    drawn(hebbian_alignment, result, tmp_path)


@pytest.mark.parametrize("what", ["alignment", "hebbian"])
def test_probes_say_what_is_missing(tmp_path: Path, what: str) -> None:
    run = a_run(tmp_path, [probed("hebbian" if what == "alignment" else "alignment", {"a": np.ones((2, 2))})])
    with pytest.raises(NotRecorded) as caught:
        load("alignment" if what == "alignment" else "hebbian_alignment").analyse(run)
    assert caught.value.spec == f"*.{what}"
    (tmp_path / "early").mkdir()
    run = a_run(tmp_path / "early", [probed(what, {"a": np.ones((0, 2))})])
    with pytest.raises(NotRecorded, match="no batch was measured") as caught:
        load("alignment" if what == "alignment" else "hebbian_alignment").analyse(run)
    assert caught.value.spec == f"*.{what}[every=1 batch]"


# layer_health


def spiking(path: Path, spikes: np.ndarray, stride: int = 1, batches: int = 1, sample: Any = None) -> Any:
    """A run of spikes [step, example, unit] of 'hidden1'; the steps fall into so many trials."""
    rows = trials(1, batches, len(spikes) // batches)
    rows["step"] = rows["step"] * stride
    clock = Clock(examples=tuple(range(spikes.shape[1])), steps=stride)
    signals = [("spikes", "hidden1", spikes, spikes.shape[2:])]
    return a_run(path, [Taken(**rows, clock=clock, signals=signals, sample=sample)], "digits-snn")


def test_poisson_spikes_are_irregular_and_independent(tmp_path: Path) -> None:
    """CV sqrt(1 - p), chi 1 / sqrt(units), rate p / dt. Must fail when one is off by more than its sampling error."""
    p = 0.05
    spikes = np.random.default_rng(0).random((20_000, 2, 16)) < p
    result = layer_health.analyse(spiking(tmp_path, spikes))
    assert result.rate[0, 0] == pytest.approx(p / DT, rel=0.03)
    assert result.cv[0, 0] == pytest.approx(math.sqrt(1 - p), abs=0.02)
    assert result.synchrony[0, 0] == pytest.approx(0.25, rel=0.03) and result.independent[0] == 0.25
    assert result.silent[0, 0] == result.saturated[0, 0] == 0
    assert result.share[0].sum() == pytest.approx(1)
    assert layer_health.advice(result) == []
    drawn(layer_health, result, tmp_path)


@pytest.mark.parametrize("units", [4, 1])
def test_a_clock_is_regular_and_no_interval_crosses_a_trial(tmp_path: Path, units: int) -> None:
    """Period 7, trials of 50 steps, every example and unit with its own phase.

    Must fail when an interval runs from one trial, example or unit into the next: 50 is no multiple of 7.
    """
    step, example, unit = np.ogrid[:50, :3, :units]
    spikes = np.tile((step + 2 * example + unit) % 7 == 0, (6, 1, 1))
    result = layer_health.analyse(spiking(tmp_path, spikes, batches=6))
    assert result.cv[0, 0] == 0
    assert result.rate[0, 0] == pytest.approx(spikes.mean() / DT)


def test_synchrony_of_groups_in_lockstep(tmp_path: Path) -> None:
    """k independent groups of identical units: chi = 1 / sqrt(k); 1 group is full synchrony.

    Must fail when the variance is not divided by that of single units, or slow changes between trials count.
    """
    random = np.random.default_rng(1)
    common = random.random((40_000, 1, 4)) < np.repeat([0.05, 0.5], 20_000)[:, None, None]
    for groups, chi in ((1, 1.0), (4, 0.5)):
        (tmp_path / str(groups)).mkdir()
        spikes = np.repeat(common[:, :, :groups], 12 // groups, 2)
        result = layer_health.analyse(spiking(tmp_path / str(groups), spikes, batches=2))
        assert result.synchrony[0, 0] == pytest.approx(chi, rel=0.02)
        assert ["same steps" in text for text in layer_health.advice(result)] == ([True] if groups == 1 else [])


def test_a_stride_leaves_rates_and_drops_intervals(tmp_path: Path) -> None:
    """Every 5th step at 200 Hz; nothing is drawn of intervals. Must fail when a recorded step is taken for 5 ms, when
    intervals are made up, or when their panel is drawn without one (tried)."""
    spikes = np.random.default_rng(2).random((4000, 2, 8)) < 0.2
    result = layer_health.analyse(spiking(tmp_path, spikes, stride=5))
    assert result.rate[0, 0] == pytest.approx(200, rel=0.03)
    assert np.isnan(result.cv[0, 0])
    assert "Irregularity" not in [ax.get_title() for ax in layer_health.figure(result).axes]
    drawn(layer_health, result, tmp_path)


def test_silent_and_saturated_spiking_units_without_absent_examples(tmp_path: Path) -> None:
    """Units: 0 never, 1 always, 2 only in an example that is absent. Must fail when that one counts."""
    spikes = np.zeros((40, 2, 4), bool)
    spikes[:, :, 1] = spikes[:, 1, 2] = spikes[::2, :, 3] = True
    sample = np.tile([0, -1], (40, 1))
    result = layer_health.analyse(spiking(tmp_path, spikes, sample=sample))
    assert result.silent[0, 0] == 0.5 and result.saturated[0, 0] == 0.25
    np.testing.assert_allclose(result.rate[0, 0], (0 + 1 + 0 + 0.5) / 4 / DT)


def rates(path: Path, values: np.ndarray, size: tuple[int, ...], gain: np.ndarray | None = None) -> Any:
    """A run of rates [epoch, example, unit] of 'hidden1', one row per epoch."""
    signals = [("rate", "hidden1", values, size), ("rate", "output", values, size)]
    if gain is not None:
        signals.append(("gain", "hidden1", gain, size))
    clock = Clock(on="test", examples=tuple(range(values.shape[1])))
    return a_run(path, [Taken(**trials(len(values), 1, 1), clock=clock, signals=signals)])


def test_exploding_rates_are_seen_and_bounded_ones_are_not(tmp_path: Path) -> None:
    """Layer mean 2, then 8.5, then 60: as DFA's in algorithms.md A6. Must fail when the sign of activity cancels."""
    base = np.full((3, 4, 10), 2.0) * np.where(np.arange(4) % 2, 1, -1)[None, :, None]
    growth = base.copy()
    growth[1, :, 0] *= 33.5
    growth[2] *= 30
    for name, values, magnitude, exploding in (
        ("bounded", base, [2, 2, 2], [0, 0, 0]),
        ("exploding", growth, [2, 8.5, 60], [0, 0.1, 1]),
    ):
        (tmp_path / name).mkdir()
        result = layer_health.analyse(rates(tmp_path / name, values, (10,)))
        assert result.layer == ("hidden1",)
        np.testing.assert_allclose(result.magnitude, [magnitude])
        np.testing.assert_allclose(result.exploding, [exploding])
        assert ["it explodes" in text for text in layer_health.advice(result)] == [True] * (name == "exploding")
        drawn(layer_health, result, tmp_path / name)


def test_growing_rates_are_told_before_they_explode(tmp_path: Path) -> None:
    """A quarter of the units at 12 times the first mean, the layer still below 10. Must fail when only means count."""
    values = np.ones((2, 3, 8))
    for units, words in ((2, ["if it goes on"]), (1, [])):
        values[1] = 1
        values[1, :, :units] = 12
        (tmp_path / str(units)).mkdir()
        found = layer_health.advice(layer_health.analyse(rates(tmp_path / str(units), values, (8,))))
        assert len(found) == len(words) and all(word in text for word, text in zip(words, found, strict=True))


def test_silent_and_saturated_rate_units(tmp_path: Path) -> None:
    """Of maps a channel counts. Must fail when one silent pixel counts, or the largest gain is sought per epoch."""
    values = np.ones((2, 3, 8))
    values[:, :, 0] = values[1, :, 4:] = 0
    gain = np.ones((2, 3, 8))
    gain[1] = 0.05
    gain[:, :, :2] = 0.005
    result = layer_health.analyse(rates(tmp_path, values, (2, 2, 2), gain))
    np.testing.assert_allclose(result.silent, [[0, 0.5]])
    np.testing.assert_allclose(result.saturated, [[0.25, 0.25]])
    assert np.isnan(result.cv).all() and np.isnan(result.rate).all()
    drawn(layer_health, result, tmp_path)


def test_sick_layers_are_told(tmp_path: Path) -> None:
    values, gain = np.zeros((2, 3, 8)), np.full((2, 3, 8), 1e-4)
    values[:, :, 0] = gain[:, :, 0] = 1
    found = layer_health.advice(layer_health.analyse(rates(tmp_path, values, (8,), gain)))
    assert len(found) == 2 and "88% of its units are 0" in found[0] and "mean gain below" in found[1]
    assert all("learning rate" in text for text in found)
    result = layer_health.analyse(rates(tmp_path, values, (8,), gain))
    fixed = layer_health.advice(dataclasses.replace(result, plastic=np.zeros(1)))
    assert len(fixed) == 2 and not any("learn" in text for text in fixed)  # nothing onto it learns
    (tmp_path / "broken").mkdir()
    values[1] = np.inf
    found = layer_health.advice(layer_health.analyse(rates(tmp_path / "broken", values, (8,))))
    assert len(found) == 1 and "infinite" in found[0]


def test_health_says_what_is_missing(tmp_path: Path) -> None:
    taken = [probed("alignment", {"a": np.ones((2, 2))})]
    for model, spec in (("digits-mlp", "*.rate[on=test]"), ("digits-snn", "*.spikes[on=test]")):
        (tmp_path / model).mkdir()
        with pytest.raises(NotRecorded) as caught:
            layer_health.analyse(a_run(tmp_path / model, taken, model))
        assert caught.value.spec == spec


# on runs


@pytest.mark.parametrize(
    ("model", "rule", "activity"),
    [("digits-mlp", "dfa", "*.rate[on=test]"), ("digits-snn", "sbd", "*.spikes[on=test]")],
)
def test_all_of_them_on_a_recorded_run(tmp_path: Path, model: str, rule: str, activity: str) -> None:
    """Must fail when recorder, trace and analyses disagree: the readout learns by its own true gradient, angle 0."""
    run = neurosbd.fit(
        model, rule=rule, out=tmp_path / "run", settings={"training.epochs": 2, "data.subset": 20},
        record=[
            activity, "score[on=test]", "*.gain[on=test]", "*.alignment[every=2 batches]", "*.hebbian[every=1 epoch]",
        ],
    )  # fmt: skip
    for name in NAMES:
        module = load(name)
        result = module.analyse(run)
        drawn(module, result, tmp_path)
        if name == "alignment":
            np.testing.assert_allclose(result.angle[-1], 0, atol=0.1)
            np.testing.assert_array_equal(result.batch, np.arange(2, 15, 2))
        if name == "decorrelation":
            assert (result.samples == 355).all() and result.layer == ("hidden1", "hidden2")
        if hasattr(module, "advice"):
            assert all(isinstance(text, str) for text in module.advice(result))
