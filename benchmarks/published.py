"""Published experiments beside what is made of them here: the figures of docs/results.md and of the models' headers.

    python benchmarks/published.py                                   # which there are
    python benchmarks/published.py brunel-network sjostrom-pairing   # those, with their runs in runs/published

Every experiment is a shipped model, carried out with the settings that its table here names.
"""

import argparse
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch

import neurosbd

sys.path.insert(0, str(Path(__file__).resolve().parent))
from spike_statistics import irregularity, oscillation, synchrony


class Line(NamedTuple):
    """A quantity here and as it was published."""

    what: str
    here: str
    published: str


def simulated(model: str, out: Path, settings: Mapping[str, object]) -> neurosbd.Run:
    """A finished run of a model; one that is there is taken up."""
    return neurosbd.simulate(model, settings=settings, out=out, resume=out.exists())


REGIMES = {  # figure 8 of the paper: g, nu_ext / nu_thr, seconds; rate and global frequency of its simulations, Hz
    "8C, asynchronous irregular": (5.0, 2.0, 0.5, "37.7", "none"),
    "8B, synchronous irregular, fast": (6.0, 4.0, 0.4, "60.7", "180"),
    "8D, synchronous irregular, slow": (4.5, 0.9, 2.1, "5.5", "22"),
    "8A, synchronous regular": (3.0, 2.0, 0.3, "-", "that of the neurons"),
}


def in_theory(g: float, external: float) -> tuple[float, float]:
    """(rate in Hz, CV of intervals) of Brunel's neurons under white noise that their own rate makes, as in his paper.

    tau 20 ms, refractory 2 ms, 1,000 synapses of 0.1 mV and 250 of -0.1 g mV, from 10 to 20 mV; the rate by bisection.
    """

    def scaled(x: np.ndarray) -> np.ndarray:
        return torch.special.erfcx(torch.from_numpy(-x)).numpy()  # exp(x^2) (1 + erf x)

    def ends(rate: float) -> tuple[float, float]:
        mean = 2 * (10 * external + rate * (1 - g / 4))
        width = np.sqrt(0.2 * (10 * external + rate * (1 + g * g / 4)))
        return (10 - mean) / width, (20 - mean) / width

    low, high = 0.0, 500.0
    for _ in range(50):
        rate = (low + high) / 2
        x = np.linspace(*ends(rate), 4001)
        faster = 1 / (2e-3 + 20e-3 * np.sqrt(np.pi) * np.trapezoid(scaled(x), x)) > rate
        low, high = (rate, high) if faster else (low, rate)
    first, last = ends(low)
    x = np.linspace(first - 8, last, 8001)
    steps = np.exp(-x * x) * scaled(x) ** 2
    inner = np.concatenate(([0.0], np.cumsum((steps[1:] + steps[:-1]) / 2 * np.diff(x))))
    inside = x >= first
    whole = np.trapezoid(np.exp(x[inside] ** 2) * inner[inside], x[inside])
    return low, float(np.sqrt(2 * np.pi * whole) * low * 20e-3)


def brunel(out: Path) -> Iterator[Line]:
    """Rates, irregularity and oscillations of four regimes, after 100 ms."""
    for figure, (g, external, seconds, rate, frequency) in REGIMES.items():
        settings: dict[str, object] = {"simulation.duration": seconds}
        settings |= {f"connection.{n}.weight.value": -1e-4 * g for n in (2, 3)}
        settings |= {f"stimulus.{n}.rate": 10.0 * external for n in (0, 1)}
        run = simulated("brunel-network", out / figure[:2], settings)
        dt = run.definition.time.dt
        spikes = run.trace["exc.spikes"][round(0.1 / dt) :][:, 0]
        theory = in_theory(g, external)
        yield Line(f"{figure}: rate, Hz", f"{spikes.mean() / dt:.1f}", f"{rate}; theory {theory[0]:.1f}")
        yield Line(f"{figure}: CV of intervals", f"{irregularity(spikes):.2f}", f"theory {theory[1]:.2f}")
        yield Line(f"{figure}: largest peak of the spectrum, Hz", f"{oscillation(spikes, dt):.0f}", frequency)


PAIRED = {  # Hz: change of the weight by 60 pairs, in percent, post 10 ms after pre and 10 ms before it
    10.0: ("14 +- 10", "-41 +- 11"),
    20.0: ("29 +- 14", "-34 +- 10"),
    40.0: ("53 +- 11", "56 +- 32"),
    50.0: ("56 +- 26", "75 +- 19"),
}


def sjostrom(out: Path) -> Iterator[Line]:
    """Changes by 60 pairs at four frequencies."""
    for rate, published in PAIRED.items():
        settings = {f"stimulus.{n}.rate": rate for n in range(3)}
        settings |= dict.fromkeys(("simulation.duration", "simulation.report"), round(0.061 + 59 / rate, 3))
        run = simulated("sjostrom-pairing", out / f"{rate:g}", settings)
        for side, theirs in zip(("after", "before"), published, strict=True):
            change = 100 * (run.result["measures"][f"pre->{side}.weight"] - 1)
            yield Line(f"{rate:g} Hz, post {side} pre: change, %", f"{change:.0f}", theirs)


def selectivity(answers: np.ndarray) -> np.ndarray:
    """1 - mean / largest of the answers of units to all orientations, [orientations, units]."""
    return 1 - answers.mean(0) / answers.max(0)


def bcm(out: Path) -> Iterator[Line]:
    """Selectivity in the first and the last turn of the orientations, of 20 steps each."""
    run = simulated("bcm-orientation", out, {})
    answers = run.trace["cell.rate"][:][:, 0]
    before, after = answers[:20], answers[-20:]
    for when, turn in (("first", before), ("last", after)):
        found = selectivity(turn)
        yield Line(f"selectivity in the {when} turn", f"{found.min():.2f} to {found.max():.2f}", "rises towards 1")
    yield Line("orientations that ten cells prefer", str(len(set(after.argmax(0).tolist()))), "different ones")


def clopath(out: Path) -> Iterator[Line]:
    """Changes by 15 bursts of five pairs, 10 s apart, so 15 times those by one; at 0.1 Hz by 75 single pairs."""
    for rate, published in {0.1: ("-4 +- 5", "-29 +- 8"), **PAIRED}.items():
        pairs, spacing = (1, 0.1) if rate < 1 else (5, 1 / rate)
        settings: dict[str, object] = {"simulation.duration": round(0.2 + pairs * spacing, 1)}
        for number, first in enumerate((0.05, 0.0598, 0.0398)):
            settings[f"stimulus.{number}.rate"] = 1 / spacing
            settings[f"stimulus.{number}.stop"] = round(first + (pairs - 0.5) * spacing, 3)
        run = simulated("clopath-pairing", out / f"{rate:g}", settings | {"simulation.report": 0.1})
        for side, theirs in zip(("after", "before"), published, strict=True):
            change = 100 * 75 / pairs * (run.result["measures"][f"pre->{side}.weight"] / 0.5 - 1)
            yield Line(f"{rate:g} Hz, post {side} pre: change, %", f"{change:.0f}", theirs)


def vogels(out: Path) -> Iterator[Line]:
    """Rate, irregularity and synchrony of the excitatory neurons in the first 100 ms and in the last second."""
    run = simulated("inhibitory-balance", out, {})
    dt = run.definition.time.dt
    spikes, second = run.trace["exc.spikes"][:][:, 0], round(1 / dt)
    for when, part, rate, intervals, together in (
        ("the first 100 ms", spikes[: second // 10], "at its limit", "regular", "near 1"),
        ("the last second", spikes[-second:], "drawn to 3", "irregular", "near 0"),
    ):
        yield Line(f"rate in {when}, Hz", f"{part.mean() / dt:.1f}", rate)
        yield Line(f"CV of intervals in {when}", f"{irregularity(part):.2f}", intervals)
        yield Line(f"synchrony in {when}, bins of 5 ms", f"{synchrony(part, 25):.3f}", together)


TRAINS = {"depressing": (0.5, 0.8, 0.0), "facilitating": (0.05, 0.1, 1.0)}  # u_0, tau_rec, tau_facil, s


def tsodyks(out: Path) -> Iterator[Line]:
    """Responses to the first and the last spike of a train at 20 Hz, beside the closed form of the stationary one."""
    run = simulated("tsodyks-trains", out, {})
    spikes = np.flatnonzero(run.trace["pre.spikes"][:][:, 0, 0])
    for name, (u_0, tau_rec, tau_facil) in TRAINS.items():
        v = run.trace[f"{name}.v"][:][:, 0, 0]
        jumps = v[spikes] - np.exp(-1 / 40) * v[spikes - 1]
        u = u_0 / (1 - (1 - u_0) * (np.exp(-0.05 / tau_facil) if tau_facil else 0.0))
        back = np.exp(-0.05 / tau_rec)
        steady = u * (1 - back) / (1 - (1 - u) * back)
        yield Line(f"{name}: response to the first spike", f"{jumps[0]:.4f}", f"{u_0:.4f} (U)")
        yield Line(f"{name}: to the last of {len(spikes)}", f"{jumps[-1]:.4f}", f"{steady:.4f} (stationary)")


def diehl(out: Path) -> Iterator[Line]:
    """Accuracy of 100 neurons after one pass over 10,000 images, labelled by 10,000 and tested on all 10,000 others."""
    run = simulated("diehl-cook", out, {})
    measures = run.result["measures"]
    yield Line("accuracy after 10,000 images, %", f"{100 * measures['test_accuracy']:.1f}", "82.9 after 3 x 60,000")
    yield Line("images without an answer, %", f"{100 * measures['unanswered']:.1f}", "none: shown again, brighter")
    yield Line("rate of excitatory neurons, Hz", f"{measures['exc.rate']:.2f}", "-")


EXPERIMENTS: dict[str, Callable[[Path], Iterator[Line]]] = {
    "brunel-network": brunel,
    "sjostrom-pairing": sjostrom,
    "bcm-orientation": bcm,
    "clopath-pairing": clopath,
    "inhibitory-balance": vogels,
    "diehl-cook": diehl,
    "tsodyks-trains": tsodyks,
}


def main() -> None:
    """Carry out what is asked for and print a row of a table for every quantity."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", choices=[[], *EXPERIMENTS], metavar="NAME", help=", ".join(EXPERIMENTS))
    parser.add_argument("--out", type=Path, default=Path("runs/published"))
    asked = parser.parse_args()
    if not asked.names:
        print("\n".join(EXPERIMENTS))
    for name in asked.names:
        print(f"\n{name}\n\n| quantity | here | published |\n| --- | --- | --- |", flush=True)
        for line in EXPERIMENTS[name](asked.out / name):
            print(f"| {line.what} | {line.here} | {line.published} |", flush=True)


if __name__ == "__main__":
    main()
