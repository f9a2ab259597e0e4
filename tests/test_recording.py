"""Recordings: what is written is what happened, by the laws that bind the signals to each other."""

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import neurosbd
from neurosbd.errors import UsageError
from neurosbd.learning.online import LocalRule
from neurosbd.losses import LOSSES
from neurosbd.recording import Request
from neurosbd.recording.signals import SIGNALS
from neurosbd.rules import RULES
from neurosbd.tracefiles import NotRecorded, Signal

SMALL = {"training.epochs": 2, "data.subset": 5, "data.test_subset": 3, "training.batch_size": 16}
EVERYTHING = [
    "*.rate", "*.gain", "*.drive", "*.third_factor", "score", "loss", "*.eligibility", "*.weight[every=1 batches]",
    "*.dweight", "*.projection[every=1 batches]", "*.alignment[every=1 batches]", "*.hebbian[every=1 batches]",
]  # fmt: skip
SPIKING = [*EVERYTHING, "*.spikes", "*.v"]
CONV = """
[population]
input = { size = [1, 8, 8] }
maps = { size = [3, 6, 6], neuron = "NEURON" }
hidden = { size = [8], neuron = "NEURON" }
output = { size = [10], neuron = "READOUT" }

[[connection]]
pre = "input"
post = "maps"
kind = "conv2d"
kernel = 3
bias = true

[[connection]]
pre = "maps"
post = "hidden"
kind = "dense"
pool = "average"

[[connection]]
pre = "hidden"
post = "output"
kind = "dense"

[time]
steps = STEPS
[training]
optimizer = { kind = "sgd", lr = 0.1 }
"""


def model(folder: Path, spiking: bool) -> Path:
    """A small network with maps."""
    path = folder / f"conv-{'spiking' if spiking else 'rate'}.toml"
    neuron, readout, steps = ("lif", "li", "4") if spiking else ("tanh", "identity", "1")
    path.write_text(CONV.replace("NEURON", neuron).replace("READOUT", readout).replace("STEPS", steps))
    return path


def run(name: Any, out: Path, record: list[str], rule: str | None = None, **settings: Any) -> neurosbd.Run:
    changes = {**SMALL, "training.optimizer": {"kind": "sgd", "lr": 0.1}, "training.rates": {}}
    changes |= {key.replace("__", "."): value for key, value in settings.items()}
    return neurosbd.fit(name, rule=rule, settings=changes, record=record, out=out, device="cpu")


@pytest.fixture(scope="module")
def rate(tmp_path_factory: pytest.TempPathFactory) -> neurosbd.Run:
    return run("digits-mlp", tmp_path_factory.mktemp("runs") / "rate", EVERYTHING)


@pytest.fixture(scope="module")
def spiking(tmp_path_factory: pytest.TempPathFactory) -> neurosbd.Run:
    return run("digits-snn", tmp_path_factory.mktemp("runs") / "snn", SPIKING, time__steps=6)


@pytest.fixture(scope="module", params=[False, True], ids=["rate", "spiking"])
def maps(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> neurosbd.Run:
    folder = tmp_path_factory.mktemp("runs")
    return run(model(folder, request.param), folder / "maps", SPIKING if request.param else EVERYTHING)


@pytest.fixture(params=["rate", "spiking"])
def any_run(request: pytest.FixtureRequest) -> neurosbd.Run:
    return request.getfixturevalue(request.param)


def value(run: neurosbd.Run, population: str) -> Signal:
    """What a population sends."""
    return run.trace[f"{population}.{'spikes' if f'{population}.spikes' in run.trace else 'rate'}"]


def full(signal: Signal) -> np.ndarray:
    """All of a signal, with the axes of the population or weight, float64."""
    last = 2 if "example" in signal.axes else 1
    return signal[:].reshape(*signal.shape[:last], *signal.size).astype(float)


def close(one: Any, other: Any, tolerance: float = 1e-5) -> None:
    np.testing.assert_allclose(one, other, rtol=tolerance, atol=tolerance)


def test_everything_can_be_recorded(rate: neurosbd.Run, spiking: neurosbd.Run, maps: neurosbd.Run) -> None:
    """Every entry of the table is in one of the traces; fails when a new kind is in none. Those of free runs and of
    connections with dynamics are recorded in tests/test_analyses_free.py."""
    whats = {name.rpartition(".")[2] for r in (rate, spiking, maps) for name in r.trace.names}
    assert whats | {"conductance", "current", "reward"} == set(SIGNALS)


def test_rows_are_the_steps_of_the_training(any_run: neurosbd.Run) -> None:
    signal, steps = any_run.trace["loss"], any_run.definition.time.steps
    batches = math.ceil(50 / 16)
    assert len(signal) == 2 * batches * steps
    assert (signal.step == np.tile(np.arange(steps), 2 * batches)).all()
    assert (signal.batch == np.tile(np.repeat(np.arange(batches), steps), 2)).all()
    assert (signal.epoch == np.repeat([1, 2], batches * steps)).all()
    close(np.diff(signal.time), 1e-3)
    for epoch in (1, 2):  # every example once an epoch, the places that the last batch does not have are marked
        shown = signal.sample[signal.rows(epoch=epoch, step=0)].ravel()
        assert sorted(shown[shown >= 0]) == list(range(50))
        assert (shown == -1).sum() == batches * 16 - 50


def test_score_and_loss_are_those_of_the_labels_of_the_recorded_samples(any_run: neurosbd.Run) -> None:
    """Fails when samples are numbered wrongly: then labels and outputs do not belong together."""
    score, loss, output = any_run.trace["score"], any_run.trace["loss"], value(any_run, "output")
    data = neurosbd.load_data("digits", subset=5)
    for row in (0, len(score) // 2, len(score) - 1):
        there = score.sample[row] >= 0
        target = torch.from_numpy(data.train.labels[score.sample[row][there]])
        z = torch.from_numpy(output[row][there])
        close(score[row][there], LOSSES["cross_entropy"]().score(z, target))
        close(loss[row][there], LOSSES["cross_entropy"]().per_example(z, target))
        assert np.isnan(score[row][~there]).all()


def test_drive_gain_and_value_of_rate_neurons(rate: neurosbd.Run) -> None:
    drive, gain, value = (rate.trace[f"hidden1.{what}"][:] for what in ("drive", "gain", "rate"))
    there = ~np.isnan(drive)
    neuron = rate.definition.population["hidden1"].neuron
    assert neuron is not None
    assert neuron.kind == "relu"
    close(value[there], np.maximum(drive[there], 0))
    assert (gain[there] == (drive[there] > 0)).all()


def test_drive_is_weight_times_pre(any_run: neurosbd.Run) -> None:
    """Batch after batch: the weight of a row is that after its batch, so the next batch's drive comes from it."""
    trace, steps = any_run.trace, any_run.definition.time.steps
    weight, drive, pre = trace["hidden1->hidden2.weight"], trace["hidden2.drive"], value(any_run, "hidden1")
    assert weight.batch[0] == -1  # the first row is from before the first batch
    rows = drive.rows(epoch=2, batch=2)
    w = full(weight)[len(weight) - 3]  # after batch 1 of epoch 2: 4 batches an epoch, rows -1, 0..7
    expected = pre[rows].astype(float) @ w.T
    offset = drive[rows] - expected  # the bias: the same for all examples
    close(offset, np.broadcast_to(offset[:, :1], offset.shape), 1e-4)
    assert len(rows) == steps


def test_membranes_obey_their_equation(spiking: neurosbd.Run) -> None:
    """v[t] = alpha v[t-1] + drive[t] - z[t-1], z = v > 1; fails when v is recorded after the reset."""
    v, z, drive = (spiking.trace[f"hidden1.{what}"] for what in ("v", "spikes", "drive"))
    assert z.dtype == np.uint8
    rows = v.rows(epoch=2, batch=0)
    alpha = math.exp(-1e-3 / 10e-3)
    before_v, before_z = np.zeros(v.shape[1:]), np.zeros(v.shape[1:])
    for row in rows:
        now = alpha * before_v + drive[row] - before_z
        close(v[row], now, 1e-4)
        assert ((v[row] > 1) == (z[row] == 1)).all()
        before_v, before_z = v[row], z[row].astype(float)
    assert z[:].sum() > 0


def test_third_factor_is_the_projected_score(any_run: neurosbd.Run) -> None:
    """signal = score / B projection / scored steps; the projection recorded after a batch was used in its last step."""
    trace, steps = any_run.trace, any_run.definition.time.steps
    signal, score = trace["hidden2.third_factor"], trace["score"]
    projection = full(trace["hidden2.projection"])
    for batch in range(4):
        row = signal.rows(epoch=2, batch=batch)[-1]
        there = score.sample[row] >= 0
        used = projection[1 + 4 + batch]
        close(signal[row][there], score[row][there] @ used / there.sum() / steps, 1e-6)


def test_eligibility_is_gain_times_trace(any_run: neurosbd.Run) -> None:
    """For leaky and rate neurons: e = gain x filtered pre. Fails when recorded one step late."""
    trace = any_run.trace
    e, gain, pre = trace["hidden1->hidden2.eligibility"], trace["hidden2.gain"], value(any_run, "hidden1")
    alpha = math.exp(-1e-3 / 10e-3) if "hidden2.v" in trace else 0.0
    rows = e.rows(epoch=1, batch=1)
    filtered = np.zeros(pre.shape[1:])
    for row in rows:
        filtered = alpha * filtered + pre[row]
        close(full(e)[row], gain[row][:, :, None] * filtered[:, None, :], 1e-4)


def test_changes_add_up_to_the_weights(any_run: neurosbd.Run) -> None:
    for connection in ("input->hidden1", "hidden2->output"):
        weight, change = any_run.trace[f"{connection}.weight"], any_run.trace[f"{connection}.dweight"]
        close(np.diff(weight[:], axis=0), change[:], 1e-6)
        last = any_run.network().weights[connection].detach().flatten()
        assert np.array_equal(weight[-1], last)


def test_hebbian_is_the_cosine_with_drive_times_pre(rate: neurosbd.Run) -> None:
    """With SGD the descent is the change over the rate; fails when drive and value are mixed up."""
    trace, lr = rate.trace, 0.1
    measured, drive, pre = trace["hidden1->hidden2.hebbian"], trace["hidden2.drive"], trace["hidden1.rate"]
    change = full(trace["hidden1->hidden2.dweight"])
    scale = [group["lr"] for group in rate.checkpoint()["optimizer"]["param_groups"]]
    assert len(measured) == 8
    for row in range(4):
        there = drive.sample[row] >= 0
        hebb = drive[row][there].T.astype(float) @ pre[row][there]
        cosine = (change[row] * hebb).sum() / np.linalg.norm(change[row]) / np.linalg.norm(hebb)
        close(measured[row, 0], cosine, 1e-4)
    assert max(scale) <= lr


def test_alignment_of_backprop_with_itself_is_one(tmp_path: Path) -> None:
    for name, rule in (("digits-mlp", "bp"), ("digits-snn", "bptt")):
        there = run(name, tmp_path / name, ["*.alignment[every=1 batches]"], rule)
        for signal in there.trace.all("alignment"):
            close(signal[:], 1, 1e-6)


def test_alignment_of_the_readout_is_one_and_that_of_dfa_is_not(tmp_path: Path) -> None:
    there = run("digits-mlp", tmp_path / "dfa", ["*.alignment[every=1 batches]"], "dfa")
    close(there.trace["hidden2->output.alignment"][:], 1, 1e-5)
    assert (there.trace["input->hidden1.alignment"][:, 0] < 0.9).all()


def test_maps_are_counted_channel_by_channel(maps: neurosbd.Run) -> None:
    """Unit (c, y, x) is (c H + y) W + x; fails when a map is flattened in the order of its memory."""
    drive, weight, x = maps.trace["maps.drive"], maps.trace["input->maps.weight"], maps.trace["input.rate"]
    images = torch.from_numpy(full(x)[0]).float()
    bias = drive[0, 0].reshape(3, 6, 6)
    expected = torch.conv2d(images, torch.from_numpy(full(weight)[0]).float()).numpy()
    close(full(drive)[0], expected, 1e-4)  # the bias starts at 0
    assert bias.shape == (3, 6, 6)


def test_eligibility_of_maps_sums_over_positions(maps: neurosbd.Run) -> None:
    trace = maps.trace
    e, gain, x = trace["input->maps.eligibility"], trace["maps.gain"], trace["input.rate"]
    patches = torch.nn.functional.unfold(torch.from_numpy(full(x)[0]).float(), 3).numpy()
    expected = np.einsum("bcp,bkp->bck", gain[0].reshape(16, 3, 36), patches)
    close(e[0].reshape(16, 3, 9), expected, 1e-3)


FILTERS = ["neurons=2:40:7", "neurons=[1, 5, 30]", "neurons=random 10", "examples=[0, 3, 15]", "examples=random 4"]
FILTERS += ["neurons=random 7, examples=3:15:2", "every=2 steps", "every=3 batches and 2 steps", "every=2 epochs"]


@pytest.mark.parametrize("filters", FILTERS)
@pytest.mark.parametrize("what", ["v", "spikes", "third_factor"])
def test_filters_give_slices_of_the_full_recording(
    spiking: neurosbd.Run, tmp_path: Path, filters: str, what: str
) -> None:
    some = run("digits-snn", tmp_path / "some", [f"hidden2.{what}[{filters}]"], time__steps=6).trace[f"hidden2.{what}"]
    whole = spiking.trace[f"hidden2.{what}"]
    keys = [(e, b, s) for e, b, s in zip(some.epoch, some.batch, some.step, strict=True)]
    everything = {key: row for row, key in enumerate(zip(whole.epoch, whole.batch, whole.step, strict=True))}
    rows = np.array([everything[key] for key in keys])
    expected = whole[:][rows][:, some.examples][:, :, some.items]
    assert np.array_equal(some[:], expected, equal_nan=what != "spikes")
    wanted = {"every=2 steps": 24, "every=3 batches and 2 steps": 12, "every=2 epochs": 24}
    assert len(some) == wanted.get(filters, 48)
    if "random 10" in filters:
        assert len(some.items) == 10


def test_synapse_filters(spiking: neurosbd.Run, tmp_path: Path) -> None:
    between = "hidden1->hidden2"
    filters = {"eligibility": "synapses=random 20, examples=1:3", "weight": "synapses=0:9, every=1 batch"}
    specs = [f"{between}.{what}[{of}]" for what, of in filters.items()]
    some = run("digits-snn", tmp_path / "some", specs, time__steps=6).trace
    e, whole = some["hidden1->hidden2.eligibility"], spiking.trace["hidden1->hidden2.eligibility"]
    assert np.array_equal(e[:], whole[:, 1:3][:, :, e.items], equal_nan=True)
    w = some["hidden1->hidden2.weight"]
    assert np.array_equal(w[:], spiking.trace["hidden1->hidden2.weight"][:, :9])


SPIKING_RULES = ("sbd", "rstdp", "eprop", "bptt")


@pytest.mark.parametrize("name", ["digits-mlp sbd", "digits-mlp bp", *(f"digits-snn {rule}" for rule in SPIKING_RULES)])
def test_recording_changes_nothing(tmp_path: Path, name: str) -> None:
    """Weights are bitwise equal with and without, the probes of the gradient included."""
    name, rule = name.split()
    often = "[every=2 batches]"
    specs = ["*.gain", "loss[on=test]", *(f"*.{what}{often}" for what in ("weight", "alignment", "hebbian"))]
    if rule not in ("bp", "bptt"):
        specs += ["*.third_factor[neurons=random 3]", "*.eligibility[synapses=random 3, examples=0]"]
    steps = 4 if "snn" in name else 1
    with_, without = (run(name, tmp_path / str(len(r)), r, rule, time__steps=steps) for r in (specs, []))
    for one, other in zip(with_.network().parameters(), without.network().parameters(), strict=True):
        assert torch.equal(one, other)
    assert with_.metrics[-1]["test_loss"] == without.metrics[-1]["test_loss"]


def test_test_batches_are_recorded_by_themselves(tmp_path: Path) -> None:
    there = run("digits-mlp", tmp_path / "run", ["hidden1.rate[on=test]", "hidden1.rate", "score[on=test]"]).trace
    assert there.names == ("hidden1.rate@test", "hidden1.rate", "score@test", "target", "target@test")
    signal = there["hidden1.rate@test"]
    assert signal.shape == (3, 30, 128)  # one batch of the 30 test examples, before and after each epoch
    assert list(signal.epoch) == [0, 1, 2]
    assert (signal.sample[:, :30] == np.arange(30)).all()
    assert not np.isnan(signal[:]).any()


def test_states_of_neurons_go_by_their_own_name(tmp_path: Path) -> None:
    settings: dict[str, Any] = {"population__hidden1__neuron": {"kind": "alif", "beta": 0.2, "tau_adapt": 0.1}}
    there = run("digits-snn", tmp_path / "run", ["hidden1.a", "hidden1.spikes"], time__steps=8, **settings).trace
    a, z = there["hidden1.a"], there["hidden1.spikes"]
    rows = a.rows(epoch=1, batch=0)
    rho, before = math.exp(-1e-3 / 0.1), np.zeros(a.shape[1:])
    spikes = np.zeros(a.shape[1:])
    for row in rows:
        before = rho * before + spikes
        close(a[row], before, 1e-4)
        spikes = z[row].astype(float)


DRAWN = ("rmax", "reinforce")  # of neurons that draw their spikes


@pytest.mark.filterwarnings("ignore:.*'corinfomax' learns at basal:neurosbd.UsageWarning")
@pytest.mark.parametrize("rule", [name for name in RULES if isinstance(RULES[name](), LocalRule) and name != "gevb"])
def test_what_waits_can_be_recorded_under_every_rule(tmp_path: Path, rule: str) -> None:
    """Every local rule has its eligibility or says that it has none."""
    drawing: dict[str, Any] = {f"population__hidden{n}__neuron": "escape" for n in (1, 2)} if rule in DRAWN else {}
    there = run("digits-snn", tmp_path / "run", ["*.eligibility[examples=0:2]"], rule, time__steps=3, **drawing)
    names = [name.removesuffix(".eligibility") for name in there.trace.names if name != "target"]
    assert names == (["hidden2->output"] if rule == "stdp" else list(there.network().connections))
    assert all(np.isfinite(signal[:]).all() for signal in there.trace.all("eligibility"))


def test_a_recording_beyond_the_limit_is_not_started(tmp_path: Path) -> None:
    with pytest.raises(UsageError) as told:
        run("digits-mlp", tmp_path / "run", ["hidden1.rate"], record__limit=1e-5)
    assert "2 epochs x 4 batches x 1 step x 16 examples x 128 neurons x 4 B = 65.5 kB" in str(told.value)
    assert "record.limit" in str(told.value)
    assert not (tmp_path / "run").exists()


REFUSED = {
    "hidden1.spike": "there is no signal 'spike'; did you mean 'spikes'?",
    "hidden1.rates": "there is no signal 'rates'; did you mean 'rate'?",
    "hidden1.Rate": "there is no signal 'Rate'; did you mean 'rate'?",
    "hidden1.V": "there is no signal 'V'; did you mean 'v'?",
    "hidden1.weights": "there is no signal 'weights'; did you mean 'weight'?",
    "hidden1.voltage": "there is no signal 'voltage'; did you mean 'v'?",
    "label": "there is no signal 'label'; did you mean 'target'?",
    "hidden1.rate[neurons=5:5]": "selects nothing of 128",
    "*.dweight[every=9 batches]": "every 9 batches is never in a run of 8",
    "hidden1.spikes": "no population has spikes under this model and rule",
    "hiden1.rate": "there is no 'hiden1'; did you mean 'hidden1'?",
    "hidden1.weight": "'hidden1' has no weight; ",
    "hidden1.loss": "loss belongs to the network; write loss",
    "hidden1.rate[neurons=0:200000:3, examples=99]": "legal are 0 to 15",
    "hidden1.rate[neurons=500]": "legal are 0 to 127",
    "hidden1.rate[neurons=random 500]": "legal is 1 to 128",
    "*.third_factor[on=test]": "nothing is learned in the test",
    "*.weight[on=test]": "counted per training batch",
    "*.weight[every=3 steps]": "use batches or epochs",
    "*.rate[neurns=3]": "there is no filter 'neurns'; did you mean 'neurons'?",
    "*.rate[every=often]": "'often' is no interval",
}


@pytest.mark.parametrize("spec", REFUSED)
def test_requests_that_cannot_be_met(tmp_path: Path, spec: str) -> None:
    with pytest.raises(UsageError) as told:
        run("digits-mlp", tmp_path / "run", [spec])
    assert REFUSED[spec] in str(told.value)
    assert spec in str(told.value)
    assert not (tmp_path / "run").exists()


def test_backprop_has_no_third_factor(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no population has third_factor under this model and rule"):
        run("digits-mlp", tmp_path / "run", ["*.third_factor"], "bp")


def test_asking_twice_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="asked for twice"):
        run("digits-mlp", tmp_path / "run", ["hidden1.rate", "*.rate[neurons=0:3]"])


def test_a_missing_signal_says_how_to_have_it(rate: neurosbd.Run) -> None:
    with pytest.raises(NotRecorded, match=r'--record "hidden1[.]spikes"'):
        rate.trace["hidden1.spikes"]
    with pytest.raises(NotRecorded) as told:
        rate.trace.need("spikes", on="test")
    assert told.value.spec == "*.spikes[on=test]"


def test_lazy_arrays_index_like_numpy(spiking: neurosbd.Run) -> None:
    signal = spiking.trace["hidden2.v"]
    whole = signal[:]
    keys: list[Any] = [0, -1, slice(3, 9), slice(None, None, -2), (slice(None), 2), (slice(5, 6), slice(1, 4), [3, 1])]
    keys += [..., ([4, 4, 0],), (..., 7), whole[:, 0, 0] > 0.1, (slice(0, 0),), np.array([-1, 2])]
    for key in keys:
        assert np.array_equal(signal[key], whole[key], equal_nan=True), key
    for wrong in (999, (0, 99), ([0, 1000],), (0, 0, 0, 0)):
        with pytest.raises(IndexError):
            signal[wrong]
    pieces = np.concatenate([part for _, part in signal.blocks(most=10_000)])
    assert np.array_equal(pieces, whole, equal_nan=True)


def test_xarray_and_pandas(spiking: neurosbd.Run) -> None:
    pytest.importorskip("xarray")
    signal = spiking.trace["hidden2.spikes"]
    array = signal.to_xarray()
    assert array.dims == ("row", "example", "neuron")
    assert array.attrs["units"] == "1"
    one = array.sel(example=3, neuron=5)
    assert np.array_equal(one.values, signal[:, 3, 5])
    frame = spiking.trace["loss"].to_frame()
    assert len(frame) == 48 * 16
    assert {"time", "step", "batch", "epoch", "example", "sample", "loss"} <= set(frame.columns)


@pytest.mark.filterwarnings("ignore:.*states by how much a weight changes:neurosbd.errors.UsageWarning")
def test_tasks_are_recorded_too(tmp_path: Path) -> None:
    settings = {"training.epochs": 1, "training.batches": 2, "training.test_batches": 1, "training.batch_size": 3}
    there = neurosbd.simulate(
        "xor-delayed-reward", settings=settings, record=["*.spikes[on=test]", "*.eligibility[synapses=random 5]"],
        out=tmp_path / "run", device="cpu",
    )  # fmt: skip
    e = there.trace.all("eligibility")[0]
    assert (e.sample[e.rows(step=0)] == [[0, 1, 2], [3, 4, 5]]).all()


def test_specs_in_a_model_file_are_checked_with_it(tmp_path: Path) -> None:
    path = model(tmp_path, spiking=False)
    path.write_text(path.read_text() + '\n[record]\nsignals = ["maps.rate[", "loss"]\n')
    with pytest.raises(UsageError, match=r"conv-rate.toml: record: .*write WHERE.WHAT"):
        neurosbd.load_model(path)


def test_request_knows_its_parts() -> None:
    request = Request.parse("a->b.weight[synapses=[1,2], every=2 epochs]")
    assert (request.where, request.what) == ("a->b", "weight")
    assert (request.items.chosen, request.every) == ((1, 2), {"epoch": 2})
