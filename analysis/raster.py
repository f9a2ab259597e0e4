"""One trial as it happened: spikes, membrane voltages, population rates; activity of rate networks as a heat map.

Shown is one example of one trial of the last recorded epoch: the first recorded place in the batch, the first whole
batch; of a free run its whole time, or as much of its end as has 50 million values. The rate of a population is the
number of its spikes per step and recorded neuron over the duration of a step, averaged over 5 steps, in a free run over
as many as have about 30 spikes. Voltages are those before the reset of the step takes effect, so a spike shows above
threshold. Conductances and currents are those of a connection at its post neurons, `clamp` what it takes to hold a
membrane, a drive, drawn where it is in volts, what all connections give. All are in mV, nS and pA where the constants
of the neuron say them, else in thresholds, in leaks (conductances over that of the leak of the post neuron), or bare.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from neurosbd import Run
from neurosbd.report import COLOURS, panels, quantity_field, shown_unit

if TYPE_CHECKING:
    from matplotlib.figure import Figure

VOLTAGES = 4  # traces of a population
SMOOTH = 5  # steps
COUNTED = 30  # spikes in the window of a rate, where time is long
MOST = 50_000_000  # values of a signal
KINDS = ("spikes", "v", "rate", "conductance", "current", "clamp")
FLOWS = ("conductance", "current", "clamp", "drive")
BARE = "1"
PLURALS = {"threshold": "thresholds", "leak": "leaks"}
SILENT, BUSY = 0.0, 0.5  # spikes per step and neuron


@dataclass(frozen=True)
class Result:
    """One trial. Times count from its start; NaN behind shorter rows.

    spike_population: number of the population in `spiking`; spike_neuron: place among the recorded neurons.
    rates: of the spiking populations. heat: activity of the others; its x is time, or the examples of the batch where
        a trial has one step (`heat_x` says which).
    """

    trial: str = quantity_field("1")
    spiking: tuple[str, ...] = quantity_field("1")
    neurons: np.ndarray = quantity_field("1", "spiking")
    incoming: np.ndarray = quantity_field("1", "spiking")  # connections onto it
    time: np.ndarray = quantity_field("s", "spiking", "step")
    rates: np.ndarray = quantity_field("Hz", "spiking", "step")
    window: np.ndarray = quantity_field("s", "spiking")  # of these rates
    spike_time: np.ndarray = quantity_field("s", "spike")
    spike_population: np.ndarray = quantity_field("1", "spike")
    spike_neuron: np.ndarray = quantity_field("1", "spike")
    voltage_of: tuple[str, ...] = quantity_field("1")
    voltage_time: np.ndarray = quantity_field("s", "voltage_of", "moment")
    voltage_unit: tuple[str, ...] = quantity_field("1", "voltage_of")
    voltage: np.ndarray = quantity_field("see voltage_unit", "voltage_of", "neuron", "moment")
    threshold: np.ndarray = quantity_field("see voltage_unit", "voltage_of")
    flow_of: tuple[str, ...] = quantity_field("1")  # conductances and currents of connections, of clamps, drives
    flow_unit: tuple[str, ...] = quantity_field("1", "flow_of")
    flow_time: np.ndarray = quantity_field("s", "flow_of", "moment")
    flow: np.ndarray = quantity_field("see flow_unit", "flow_of", "neuron", "moment")
    graded: tuple[str, ...] = quantity_field("1")
    heat_x: str = quantity_field("1")
    heat: np.ndarray = quantity_field("1", "graded", "neuron", "x")


def analyse(run: Run) -> Result:
    """One trial of whatever is recorded of `KINDS`, and of drives in volts.

    Raises:
        NotRecorded: if there is none of them.
    """
    trace = run.trace
    driven = [signal for signal in trace.all("drive") if signal.unit != BARE]
    recorded = [*(signal for kind in KINDS for signal in trace.all(kind)), *driven] or trace.need(*KINDS)
    signals = _of_one_split([signal for signal in recorded if len(signal)])
    free = run.definition.simulation is not None
    epoch, batch = _trial(signals)
    parts = [(s, *(_end(s) if free else _rows(s, epoch, batch))) for s in signals]
    shown = {kind: [p for p in parts if p[0].what == kind and len(p[1])] for kind in (*KINDS, "drive")}
    spikes = [(s, time * trace.dt, values[:, 0]) for s, time, values in shown["spikes"]]
    volts, flows = (
        [(s, time * trace.dt, *_in_its_unit(s, values)) for kind in kinds for s, time, values in shown[kind]]
        for kinds in (("v",), FLOWS)
    )
    long = any(len(time) > 1 for _, time, _ in shown["rate"])
    heats = [values[:, 0].T if long else values[0].T for _, _, values in shown["rate"]]
    events = [np.nonzero(z) for _, _, z in spikes]
    where = [np.full(len(when), i) for i, (when, _) in enumerate(events)]
    windows = [_window(z) if free else SMOOTH for _, _, z in spikes]
    example = signals[0].examples[0]
    trial = f"epoch {epoch}, batch {batch + 1}, {signals[0].on} example {example}"
    if run.definition.protocol:  # whose trials are of one epoch
        trial = f"trial {batch + 1}, example {example}"
    return Result(
        f"free run, example {example}" if free else trial,
        tuple(_shown(s) for s, _, _ in spikes),
        np.array([z.shape[1] for _, _, z in spikes], int),
        np.array([_onto(run, s.where) for s, _, _ in spikes], int),
        _stacked([time for _, time, _ in spikes]),
        _stacked([_rate(z, time, trace.dt, n) for (_, time, z), n in zip(spikes, windows, strict=True)]),
        np.array(windows) * trace.dt,
        np.concatenate([np.zeros(0), *(time[when] for (_, time, _), (when, _) in zip(spikes, events, strict=True))]),
        np.concatenate([np.zeros(0, int), *where]),
        np.concatenate([np.zeros(0, int), *(neuron for _, neuron in events)]),
        tuple(_shown(s) for s, *_ in volts),
        _stacked([time for _, time, *_ in volts]),
        tuple(unit for *_, unit in volts),
        _stacked([values for _, _, values, _ in volts], 2),
        np.array([_threshold(run, s.where) * shown_unit(s.unit)[1] for s, *_ in volts]),
        tuple(s.name for s, *_ in flows),
        tuple(unit for *_, unit in flows),
        _stacked([time for _, time, *_ in flows]),
        _stacked([values for _, _, values, _ in flows], 2),
        tuple(_shown(s) for s, _, _ in shown["rate"]),
        f"time, steps of {trace.dt * 1e3:g} ms" if long else "example of the batch",
        _stacked(heats, 2),
    )


def _onto(run: Run, population: str) -> int:
    """How many connections reach a population."""
    return sum(entry.post == population for entry in run.definition.connection)


def _in_its_unit(signal: Any, values: np.ndarray) -> tuple[np.ndarray, str]:
    """Some neurons of the first example, [neuron, T], in the unit in which they are shown, and that unit."""
    some = values[:, 0, :VOLTAGES].T
    unit, factor = shown_unit(signal.unit, float(np.abs(some[np.isfinite(some)]).max(initial=0.0)))
    return some * factor, PLURALS.get(unit, unit)


def _shown(signal: Any) -> str:
    """Name of a population; of vectors, whose components are drawn as neurons, how many each unit has."""
    vectors = "components" in signal.counted
    return f"{signal.where} ({signal.size[1]} components per unit)" if vectors else signal.where


def _of_one_split(signals: list[Any]) -> list[Any]:
    """Those of training or of test batches, whichever are more."""
    tested = [signal for signal in signals if signal.on == "test"]
    return tested if 2 * len(tested) > len(signals) else [signal for signal in signals if signal.on == "train"]


def _trial(signals: list[Any]) -> tuple[int, int]:
    """Last epoch, and its first batch that all signals share and that has all its steps."""
    shared: set[tuple[int, int]] | None = None
    for signal in signals:
        pairs = np.stack((signal.epoch, signal.batch), 1)
        trials, steps = np.unique(pairs, axis=0, return_counts=True)
        whole = {(int(e), int(b)) for (e, b), n in zip(trials, steps, strict=True) if n == steps.max()}
        shared = whole if shared is None or not shared & whole else shared & whole
    return min(shared or {(0, 0)}, key=lambda trial: (-trial[0], trial[1]))


def _rows(signal: Any, epoch: int, batch: int) -> tuple[np.ndarray, np.ndarray]:
    """Steps [T] and values [T, examples, neurons] of a trial, without the places that a short batch left empty."""
    rows = signal.rows(epoch=epoch, batch=batch)
    values = signal[rows]
    return signal.step[rows], values[:, signal.sample[rows[0]] >= 0] if len(rows) else values


def _end(signal: Any) -> tuple[np.ndarray, np.ndarray]:
    """Steps [T] and values [T, examples, neurons] of a free run, as much of its end as can be looked at."""
    rows = np.arange(len(signal))[-max(1, MOST // max(1, int(np.prod(signal.shape[1:])))) :]
    return np.round(signal.time[rows] / signal.trace.dt), signal[rows]


def _window(z: np.ndarray) -> int:
    """Steps that have some spikes of a population, but no more than a twentieth of the time."""
    return int(np.clip(COUNTED / max(z.sum(1).mean(), 1e-9), SMOOTH, max(SMOOTH, len(z) // 20)))


def _stacked(parts: list[np.ndarray], axes: int = 1) -> np.ndarray:
    """Arrays of `axes` axes in one, NaN where one is shorter."""
    shape = [max((part.shape[axis] for part in parts), default=0) for axis in range(axes)]
    whole = np.full((len(parts), *shape), np.nan)
    for i, part in enumerate(parts):
        whole[(i, *(slice(n) for n in part.shape))] = part
    return whole


def _rate(z: np.ndarray, time: np.ndarray, dt: float, steps: int) -> np.ndarray:
    """Population rate, Hz, over windows of so many steps."""
    window = np.ones(min(steps, len(time)))
    counted = np.convolve(z.mean(1), window, "same") / np.convolve(np.ones(len(time)), window, "same")
    return counted / dt


def _threshold(run: Run, population: str) -> float:
    """Threshold of a population, if all its neurons share a fixed one."""
    spec = run.definition.population.get(population)
    value = getattr(spec.neuron, "v_threshold", None) if spec is not None else None
    return float(value) if isinstance(value, int | float) else np.nan


def figure(result: Result) -> "Figure":
    """Rasters, rates and voltages on one axis of time; heat maps of what does not spike."""
    kinds = [("raster", i) for i in range(len(result.spiking))] + [("rate", 0)] * bool(result.spiking)
    kinds += [("voltage", i) for i in range(len(result.voltage_of))] + [("flow", i) for i in range(len(result.flow_of))]
    kinds += [("heat", i) for i in range(len(result.graded))]
    drawing, axes = panels(len(kinds), columns=1, width=7.5, height=1.8)
    timed = [ax for ax, (kind, _) in zip(axes, kinds, strict=True) if kind != "heat"]
    draw = {"raster": _raster, "rate": _rates, "voltage": _voltage, "flow": _flow, "heat": _heat}
    for ax, (kind, i) in zip(axes, kinds, strict=True):
        draw[kind](ax, result, i)
    for ax in timed:
        ax.set_xlim(*_span(result))
        ax.tick_params(labelbottom=ax is timed[-1])
    if timed:
        timed[-1].set_xlabel("time, ms" if result.trial.startswith("free") else "time in the trial, ms")
    drawing.suptitle(result.trial, fontsize=9)
    return drawing


def _span(result: Result) -> tuple[float, float]:
    """First and last moment, ms, with half a step on either side."""
    times = np.concatenate([each.ravel() for each in (result.time, result.voltage_time, result.flow_time)]) * 1e3
    steps = np.unique(times[np.isfinite(times)])
    half = np.diff(steps).min() / 2 if len(steps) > 1 else 0.5
    return steps[0] - half, steps[-1] + half


def _raster(ax: Any, result: Result, i: int) -> None:
    chosen = result.spike_population == i
    times, neurons = result.spike_time[chosen] * 1e3, result.spike_neuron[chosen]
    size = np.clip(150 / max(1, result.neurons[i]), 0.5, 12) ** 1.2
    style = {"marker": "|" if size > 3 else ".", "linewidths": 0.8, "rasterized": True}
    ax.scatter(times, neurons, size, COLOURS[i % len(COLOURS)], **style)
    ax.set(ylim=(-0.5, result.neurons[i] - 0.5), ylabel="neuron", title=f"spikes of {result.spiking[i]}")
    ax.locator_params("y", integer=True)
    if result.neurons[i] == 1:
        ax.set_yticks([0])


def _rates(ax: Any, result: Result, _: int) -> None:
    lines: list[Any] = []
    for i, time in enumerate(result.time):
        lines += ax.plot(time * 1e3, result.rates[i], color=COLOURS[i % len(COLOURS)], lw=1.2)
    ax.set(ylabel="rate, Hz", ylim=(0, None), title=f"population rates (over {_windows(result)} ms)")
    ax.legend(
        lines, result.spiking, fontsize=7, frameon=False, ncols=4
    )  # left to itself it drops names such as '_cell'


def _windows(result: Result) -> str:
    """The windows of all rates, ms."""
    return ", ".join(dict.fromkeys(f"{window * 1e3:g}" for window in result.window))


def _voltage(ax: Any, result: Result, i: int) -> None:
    for k, v in enumerate(result.voltage[i]):
        ax.plot(result.voltage_time[i] * 1e3, v, color=COLOURS[k % len(COLOURS)], lw=0.9)
    if np.isfinite(result.threshold[i]):
        ax.axhline(result.threshold[i], color="0.3", ls="--", lw=0.8)
    dashed = ", dashed: threshold" if np.isfinite(result.threshold[i]) else ""
    neurons = _neurons(int(np.isfinite(result.voltage[i, :, 0]).sum()))
    ax.set(ylabel=f"v, {result.voltage_unit[i]}", title=f"membrane of {neurons} of {result.voltage_of[i]}{dashed}")


def _flow(ax: Any, result: Result, i: int) -> None:
    for k, values in enumerate(result.flow[i]):
        ax.plot(result.flow_time[i] * 1e3, values, color=COLOURS[k % len(COLOURS)], lw=0.9)
    neurons, (where, _, what) = int(np.isfinite(result.flow[i, :, 0]).sum()), result.flow_of[i].rpartition(".")
    ax.set(ylabel=_quantity(what, result.flow_unit[i]), title=f"{what} at {_neurons(neurons)} of {where}")


def _quantity(what: str, unit: str) -> str:
    """What an axis counts: a current that is in no amperes is a drive."""
    if unit == BARE:
        return "drive"
    return f"{'g' if what.startswith('conductance') else 'I' if unit.endswith('A') else 'drive'}, {unit}"


def _neurons(number: int) -> str:
    return "1 neuron" if number == 1 else f"{number} neurons"


def _heat(ax: Any, result: Result, i: int) -> None:
    values = result.heat[i]
    values = values[np.isfinite(values).any(1)][:, np.isfinite(values).any(0)]
    low = min(0.0, float(values.min(initial=0)))
    limit = float(np.abs(values).max(initial=1e-9))
    cmap, vmin = ("RdBu_r", -limit) if low < 0 else ("viridis", 0)
    image = ax.imshow(values, cmap, vmin=vmin, vmax=limit, aspect="auto", origin="lower", interpolation="nearest")
    ax.set(xlabel=result.heat_x, ylabel="neuron", title=f"activity of {result.graded[i]}")
    ax.locator_params(integer=True)
    bar = ax.figure.colorbar(image, ax=ax, pad=0.01)
    bar.ax.tick_params(labelsize=8)
    bar.set_label("rate", fontsize=9)


def caption(result: Result) -> str:
    """What fires how often in this trial."""
    rates = [f"{name} {np.nanmean(r):.3g} Hz" for name, r in zip(result.spiking, result.rates, strict=True)]
    mean = f"Mean rates: {', '.join(rates)}. " if rates else ""
    graded = f"Heat maps: activity of {', '.join(result.graded)}. " if result.graded else ""
    what = "One example" if result.trial.startswith("free") else "One example in one trial"
    return f"{what} ({result.trial}). {mean}{graded}".strip()


def advice(result: Result) -> list[str]:
    """Populations that are silent in this trial, or fire in most steps."""
    found = []
    for i, name in enumerate(result.spiking):
        times = result.time[i][np.isfinite(result.time[i])]
        steps = max(1, len(times))
        share = np.sum(result.spike_population == i) / (steps * max(1, result.neurons[i]))
        cause = (
            "the gain of its incoming weights" if result.incoming[i] else "the rate or the amplitude of its stimulus"
        )
        if share <= SILENT:
            what = "run" if result.trial.startswith("free") else "trial"
            found.append(f"{name}: not one spike in this {what}; raise {cause}.")
        elif share > BUSY:
            found.append(f"{name}: spikes in {share:.0%} of all steps; lower {cause}.")
    return found
