"""What Brian2 makes of synapses that learn: the figures that tests/test_reference_plasticity.py keeps.

    python benchmarks/brian2_plasticity.py        # with brian2 (2.9.0 made the figures) and numpy

Given spike trains, 2 or 10 s at steps of 1 ms, and weights that move with every spike: the rules, each as its paper or
Brian2's documentation writes it; the voltage-based one under a given membrane. And a network of excitatory and
inhibitory neurons, whose excitatory synapses learn.

A step of Brian2 and one of ours: a spike of its step n acts on the membrane in step n, after its threshold was looked
at, and causes a spike in step n + 1 at the earliest; ours arrives in step n and may cause one in step n, at its end.
So arrivals have the same number, and a spike of our step n is one of its step n + 1. It runs `on_pre` before `on_post`
(their `order` is -1 and 1). Resets come before synapses here, as in ours, so that what arrives at a reset membrane
counts.
"""

import importlib
import json
import math
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

DT = 1e-3
SHORT, LONG, PRES, POSTS = 2000, 10_000, 3, 2  # steps; units
TAU, TAU_PLUS, TAU_MINUS = 20e-3, 17e-3, 34e-3


def trains(steps: int = SHORT) -> tuple[np.ndarray, np.ndarray]:
    """Spikes that arrive [steps, PRES] and that the post units send [steps, POSTS], 0 or 1, as our steps count them."""
    random = np.random.default_rng(1)
    pre, post = random.random((steps, PRES)) < 0.03, random.random((steps, POSTS)) < 0.03
    post[steps - 1] = False  # felt after the end
    return pre.astype(float), post.astype(float)


def membranes() -> np.ndarray:
    """Potentials of the post units over SHORT steps in V, [SHORT, POSTS]: they swing about -60 mV."""
    random = np.random.default_rng(3)
    wandering = np.cumsum(random.normal(0, 2e-3, (SHORT, POSTS)), axis=0)
    return -60e-3 + 25e-3 * np.sin(wandering / 10e-3)


def start() -> np.ndarray:
    """Weights before, [POSTS, PRES]."""
    return np.linspace(0.2, 0.7, POSTS * PRES).reshape(POSTS, PRES)


class Rule(NamedTuple):
    """Equations of a synapse, and what spikes do to it, as Brian2 takes them; weights lie in 0..1."""

    equations: str
    on_pre: str
    on_post: str
    steps: int = SHORT


TRACES = "dx/dt = -x / (17*ms) : 1 (event-driven)\ndy/dt = -y / (34*ms) : 1 (event-driven)\n"
RULES = {
    "additive": Rule(TRACES, "x += 1; w = clip(w - 0.004 * y, 0, 1)", "y += 1; w = clip(w + 0.006 * x, 0, 1)", LONG),
    "nn_symm": Rule(TRACES, "x = 1; w = clip(w - 0.004 * y, 0, 1)", "y = 1; w = clip(w + 0.006 * x, 0, 1)"),
    "nn_pre_centered": Rule(
        TRACES, "x += 1; w = clip(w - 0.004 * y, 0, 1)", "y = 1; w = clip(w + 0.006 * x, 0, 1); x = 0"
    ),
    "nn_restr": Rule(
        TRACES, "x = 1; w = clip(w - 0.004 * y, 0, 1); y = 0", "y = 1; w = clip(w + 0.006 * x, 0, 1); x = 0"
    ),
    "multiplicative": Rule(TRACES, "x += 1; w -= 0.04 * w * y", "y += 1; w += 0.06 * (1 - w) * x"),
    "power_law": Rule(
        TRACES,
        "x += 1; w = clip(w - 0.04 * w**0.4 * y, 0, 1)",
        "y += 1; w = clip(w + 0.06 * (1 - w)**0.4 * x, 0, 1)",
    ),
    "triplet": Rule(
        """dr1/dt = -r1 / (16.8*ms) : 1 (event-driven)
        dr2/dt = -r2 / (101*ms) : 1 (event-driven)
        do1/dt = -o1 / (33.7*ms) : 1 (event-driven)
        do2/dt = -o2 / (125*ms) : 1 (event-driven)""",
        "w = clip(w - o1 * (0.007 + 0.002 * r2), 0, 1); r1 += 1; r2 += 1",
        "w = clip(w + r1 * (0.001 + 0.0062 * o2), 0, 1); o1 += 1; o2 += 1",
        LONG,
    ),
    "symmetric_inhibitory": Rule(  # w is the strength of inhibition; alpha = 2 * 25 Hz * 20 ms
        "dx/dt = -x / (20*ms) : 1 (event-driven)\ndy/dt = -y / (20*ms) : 1 (event-driven)\n",
        "x += 1; w = clip(w + 0.01 * (y - 1.0), 0, 1)",
        "y += 1; w = clip(w + 0.01 * x, 0, 1)",
        LONG,
    ),
}


def simulator() -> Any:
    """Brian2, which only who runs this needs."""
    return importlib.import_module("brian2")


def spikes_of(train: np.ndarray, late: int = 0) -> Any:
    """A group that sends a train [STEPS, units]."""
    brian2 = simulator()
    times, units = np.nonzero(train)
    return brian2.SpikeGeneratorGroup(train.shape[1], units, (times + late) * brian2.ms)


def learned(rule: Rule) -> list[float]:
    """Weights after the trains, row by row."""
    brian2 = simulator()
    pre, post = trains(rule.steps)
    before, after = spikes_of(pre), spikes_of(post, late=1)
    synapses = brian2.Synapses(before, after, f"w : 1\n{rule.equations}", on_pre=rule.on_pre, on_post=rule.on_post)
    synapses.connect()
    for j in range(POSTS):
        synapses.w[:, j] = start()[j]
    brian2.Network(before, after, synapses).run((rule.steps + 1) * brian2.ms)
    return [float(synapses.w[j, i][0]) for i in range(POSTS) for j in range(PRES)]


VOLTAGE = """dw/dt = 80 / second * x * over * clip(high_post + 0.0706, 0, inf) : 1 (clock-driven)
over = clip(u_post + 0.0453, 0, inf) : 1
dx/dt = -x / (15*ms) : 1 (clock-driven)"""  # volts; x in 1/s


def voltage_based() -> list[float]:
    """Weights after SHORT steps of the voltage-based rule under given membranes, row by row. Arrivals come first in a
    step, then the synapses, then the averages, which so are those of the step before."""
    brian2 = simulator()
    pre, _ = trains()
    given = brian2.TimedArray(membranes(), dt=brian2.ms)
    follow = "u = given(t, i) : 1\ndlow/dt = (u - low) / (10*ms) : 1\ndhigh/dt = (u - high) / (7*ms) : 1"
    after = brian2.NeuronGroup(POSTS, follow, method="exponential_euler", order=1, namespace={"given": given})
    after.low = after.high = membranes()[0]
    before = spikes_of(pre)
    arriving = "w = clip(w - 0.14 * clip(low_post + 0.0706, 0, inf), 0, inf); x += 1 / 0.015"
    synapses = brian2.Synapses(before, after, VOLTAGE, on_pre=arriving, method="exponential_euler")
    synapses.connect()
    for j in range(POSTS):
        synapses.w[:, j] = start()[j]
    whole = brian2.Network(before, after, synapses)
    whole.schedule = ["start", "thresholds", "synapses", "groups", "resets", "end"]
    whole.run(SHORT * brian2.ms)
    return [float(synapses.w[j, i][0]) for i in range(POSTS) for j in range(PRES)]


class Balanced(NamedTuple):
    """Inputs, excitatory and inhibitory neurons, and weights [post, pre] between them; plastic ones lie in 0..0.12."""

    inputs: np.ndarray  # [steps, 20]
    to_exc: np.ndarray  # plastic
    exc_exc: np.ndarray  # plastic; 0 from a neuron onto itself, which is no synapse
    exc_inh: np.ndarray
    inh_exc: np.ndarray


A_PLUS, A_MINUS, W_MAX = 0.002, 0.0012, 0.12


def balanced() -> Balanced:
    """Half a second of 20 inputs at 40 Hz, 30 excitatory and 8 inhibitory neurons."""
    random = np.random.default_rng(2)
    inputs = (random.random((500, 20)) < 0.04).astype(float)
    recurrent = random.uniform(0.0, 0.03, (30, 30))
    np.fill_diagonal(recurrent, 0.0)
    return Balanced(
        inputs, random.uniform(0.05, 0.1, (30, 20)), recurrent, random.uniform(0.04, 0.1, (8, 30)),
        random.uniform(0.1, 0.2, (30, 8)),
    )  # fmt: skip


def network() -> dict[str, Any]:
    """Spikes of the excitatory and inhibitory neurons, as our steps count them, and mean weights."""
    brian2 = simulator()
    net = balanced()
    equations, threshold = "dv/dt = -v / (20*ms) : 1", f"v > {math.exp(-DT / TAU)!r}"  # ours looks before it leaks
    exc = brian2.NeuronGroup(30, equations, threshold=threshold, reset="v = 0", method="exact")
    inh = brian2.NeuronGroup(8, equations, threshold=threshold, reset="v = 0", method="exact")
    inputs = spikes_of(net.inputs)

    def joined(pre: Any, post: Any, weights: np.ndarray, plastic: bool, sign: str = "+") -> Any:
        model, on_pre, on_post = "w : 1\n", f"v_post {sign}= w", ""
        if plastic:
            model += TRACES
            on_pre += f"; x += 1; w = clip(w - {A_MINUS} * y, 0, {W_MAX})"
            on_post = f"y += 1; w = clip(w + {A_PLUS} * x, 0, {W_MAX})"
        synapses = brian2.Synapses(pre, post, model, on_pre=on_pre, on_post=on_post or None)
        synapses.connect(condition="i != j" if pre is post else "True")
        synapses.w[:] = weights[np.asarray(synapses.j[:]), np.asarray(synapses.i[:])]
        return synapses

    parts = [joined(inputs, exc, net.to_exc, True), joined(exc, exc, net.exc_exc, True)]
    parts += [joined(exc, inh, net.exc_inh, False), joined(inh, exc, net.inh_exc, False, "-")]
    heard = [brian2.SpikeMonitor(exc), brian2.SpikeMonitor(inh)]
    whole = brian2.Network(inputs, exc, inh, *parts, *heard)
    whole.schedule = ["start", "groups", "thresholds", "resets", "synapses", "end"]
    whole.run((len(net.inputs) + 1) * brian2.ms)
    count = [int(monitor.num_spikes) for monitor in heard]
    steps = [int(np.round(np.asarray(monitor.t / brian2.ms)).sum()) - monitor.num_spikes for monitor in heard]
    means = [float(np.mean(part.w[:])) for part in parts[:2]]
    return {"spikes": count, "steps": [int(s) for s in steps], "means": means}


def main() -> None:
    """Print all figures."""
    brian2 = simulator()
    brian2.prefs.codegen.target = "numpy"
    brian2.defaultclock.dt = DT * brian2.second
    jobs: dict[str, Callable[[], object]] = {name: lambda rule=rule: learned(rule) for name, rule in RULES.items()}
    print(
        json.dumps(
            {name: job() for name, job in {**jobs, "voltage_based": voltage_based, "network": network}.items()},
            indent=1,
        )
    )


if __name__ == "__main__":
    main()
