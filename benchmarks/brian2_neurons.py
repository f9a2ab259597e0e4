"""What Brian2 makes of the firing patterns of two papers: the figures that tests/test_firing_patterns.py keeps.

And of Hodgkin's and Huxley's neuron with two sets of rates: those that tests/test_hodgkin_huxley.py keeps.

    python benchmarks/brian2_neurons.py        # with brian2 (2.9.0 made the figures) and numpy

The 20 patterns of Izhikevich 2004 (IEEE Trans. Neural Netw. 15:1063, with the constants and currents of its script
figure1.m) and 7 of Naud, Marcille, Clopath, Gerstner 2008 (Biol. Cybern. 99:335, Table 1; its irregular one is chaotic,
so that rounding decides). One Euler step per dt in place of the script's, which updates v before u. Printed: the
numbers of the steps with a spike, as JSON.
"""

import importlib
import json
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

Current = Callable[[np.ndarray], np.ndarray]  # of the time in ms


def pulses(*times: tuple[float, float, float], base: float = 0.0) -> Current:
    """(from, to, height): what flows between, ms; `base` else."""

    def current(t: np.ndarray) -> np.ndarray:
        found = np.full_like(t, base)
        for start, end, height in times:
            found[(t > start) & (t < end)] = height
        return found

    return current


def ramp(start: float, slope: float, base: float = 0.0) -> Current:
    """A current that rises from a time on, per ms."""
    return lambda t: base + slope * np.clip(t - start, 0, None)


def accommodation(t: np.ndarray) -> np.ndarray:
    """A slow rise to 8, and a fast one to 4."""
    return np.where(t < 200, t / 25, np.where((t >= 300) & (t < 312.5), (t - 300) / 12.5 * 4, 0.0))


class Quadratic(NamedTuple):
    """Constants of Izhikevich's neuron, and what drives it."""

    a: float
    b: float
    c: float
    d: float
    v_start: float
    dt: float  # ms
    duration: float  # ms
    current: Current
    slope: float = 5.0
    offset: float = 140.0
    v_recovery: float = 0.0
    leak: float = 1.0


IZHIKEVICH = {
    "tonic spiking": Quadratic(0.02, 0.2, -65, 6, -70, 0.25, 100, pulses((10, 1e9, 14))),
    "phasic spiking": Quadratic(0.02, 0.25, -65, 6, -64, 0.25, 200, pulses((20, 1e9, 0.5))),
    "tonic bursting": Quadratic(0.02, 0.2, -50, 2, -70, 0.25, 220, pulses((22, 1e9, 15))),
    "phasic bursting": Quadratic(0.02, 0.25, -55, 0.05, -64, 0.2, 200, pulses((20, 1e9, 0.6))),
    "mixed mode": Quadratic(0.02, 0.2, -55, 4, -70, 0.25, 160, pulses((16, 1e9, 10))),
    "spike frequency adaptation": Quadratic(0.01, 0.2, -65, 8, -70, 0.25, 85, pulses((8.5, 1e9, 30))),
    "class 1": Quadratic(0.02, -0.1, -55, 6, -60, 0.25, 300, ramp(30, 0.075), 4.1, 108),
    "class 2": Quadratic(0.2, 0.26, -65, 0, -64, 0.25, 300, ramp(30, 0.015, -0.5)),
    "spike latency": Quadratic(0.02, 0.2, -65, 6, -70, 0.2, 100, pulses((10, 13, 7.04))),
    "subthreshold oscillations": Quadratic(0.05, 0.26, -60, 0, -62, 0.25, 200, pulses((20, 25, 2))),
    "resonator": Quadratic(
        0.1, 0.26, -60, -1, -62, 0.25, 400, pulses((40, 44, 0.65), (60, 64, 0.65), (280, 284, 0.65), (320, 324, 0.65))
    ),
    "integrator": Quadratic(
        0.02, -0.1, -55, 6, -60, 0.25, 100, pulses((9.1, 11.1, 9), (14.1, 16.1, 9), (70, 72, 9), (80, 82, 9)), 4.1, 108
    ),
    "rebound spike": Quadratic(0.03, 0.25, -60, 4, -64, 0.2, 200, pulses((20, 25, -15))),
    "rebound burst": Quadratic(0.03, 0.25, -52, 0, -64, 0.2, 200, pulses((20, 25, -15))),
    "threshold variability": Quadratic(
        0.03, 0.25, -60, 4, -64, 0.25, 100, pulses((10, 15, 1), (70, 75, -6), (80, 85, 1))
    ),
    "bistability": Quadratic(
        0.1, 0.26, -60, 0, -61, 0.25, 300, pulses((37.5, 42.5, 1.24), (216, 221, 1.24), base=0.24)
    ),
    "depolarising after-potential": Quadratic(1, 0.2, -60, -21, -70, 0.1, 50, pulses((9, 11, 20))),
    # u starts at -16 there and does not decay; here at 0, which adds 16 to the polynomial
    "accommodation": Quadratic(0.02, 1, -55, 4, -65, 0.5, 400, accommodation, 5, 156, -65, 0),
    "inhibition-induced spiking": Quadratic(-0.02, -1, -60, 8, -63.8, 0.5, 350, pulses((50, 250, 75), base=80)),
    "inhibition-induced bursting": Quadratic(-0.026, -1, -45, -2, -63.8, 0.5, 350, pulses((50, 250, 75), base=80)),
}


class Exponential(NamedTuple):
    """Constants of the adaptive exponential neuron: pF, nS, mV, ms, pA."""

    capacitance: float
    leak: float
    v_leak: float
    a: float
    tau_adapt: float
    b: float
    v_reset: float
    current: float


ADEX = {
    "tonic": Exponential(200, 10, -70, 2, 30, 0, -58, 500),
    "adapting": Exponential(200, 12, -70, 2, 300, 60, -58, 500),
    "initial burst": Exponential(130, 18, -58, 4, 150, 120, -50, 400),
    "regular bursting": Exponential(200, 10, -58, 2, 120, 100, -46, 210),
    "delayed accelerating": Exponential(200, 12, -70, -10, 300, 0, -58, 300),
    "delayed bursting": Exponential(100, 10, -65, -10, 90, 30, -47, 110),
    "transient": Exponential(100, 10, -65, 10, 90, 100, -47, 180),
}
ADEX_DT, ADEX_DURATION = 0.05, 300.0  # ms


def spikes(b2: Any, equations: str, reset: str, threshold: str, start: dict[str, float], how: dict[str, Any]) -> list:
    """Steps with a spike of one neuron, by Euler steps."""
    b2.start_scope()
    b2.defaultclock.dt = how["dt"] * b2.ms
    group = b2.NeuronGroup(1, equations, threshold=threshold, reset=reset, method="euler", namespace=how["namespace"])
    for name, value in start.items():
        setattr(group, name, value)
    monitor = b2.SpikeMonitor(group)
    network = b2.Network(group, monitor)
    network.run(how["duration"] * b2.ms)
    return [round(float(time / b2.ms) / how["dt"]) for time in monitor.t]


def quadratic(b2: Any, one: Quadratic) -> list[int]:
    """A pattern of Izhikevich's."""
    t = np.arange(round(one.duration / one.dt)) * one.dt
    current = b2.TimedArray(one.current(t), dt=one.dt * b2.ms)
    constants = {k: v for k, v in one._asdict().items() if k not in ("current", "dt", "duration", "v_start")}
    equations = """dv/dt = (0.04*v**2 + slope*v + offset - u + current(t)) / ms : 1
    du/dt = a*(b*(v - v_recovery) - leak*u) / ms : 1"""
    how = {"dt": one.dt, "duration": one.duration, "namespace": {**constants, "current": current}}
    start = {"v": one.v_start, "u": one.b * (one.v_start - one.v_recovery)}
    return spikes(b2, equations, "v = c; u += d", "v > 30", start, how)


def exponential(b2: Any, one: Exponential) -> list[int]:
    """A pattern of Naud's, potentials in mV and currents over the leak."""
    r = 1 / one.leak
    equations = """dv/dt = (rest - v + 2*exp((v + 50) / 2) - w + drive) / tau : 1
    dw/dt = (a*(v - rest) - w) / tau_adapt : 1"""
    constants = {
        "rest": one.v_leak, "drive": one.current * r, "tau": one.capacitance * r * b2.ms, "a": one.a * r,
        "tau_adapt": one.tau_adapt * b2.ms, "b": one.b * r, "v_reset": one.v_reset,
    }  # fmt: skip
    how = {"dt": ADEX_DT, "duration": ADEX_DURATION, "namespace": constants}
    return spikes(b2, equations, "v = v_reset; w += b", "v > 0", {"v": one.v_leak}, how)


class Channels(NamedTuple):
    """Constants per square centimetre: mS, mV, uA; rates per ms."""

    g_na: float
    g_k: float
    g_leak: float
    v_na: float
    v_k: float
    v_leak: float
    v_threshold: float
    current: float
    rates: str
    dt: float  # ms


SQUID = """
am = exprel(-(v + 40) / 10) ** -1 : 1
bm = 4 * exp(-(v + 65) / 18) : 1
ah = 0.07 * exp(-(v + 65) / 20) : 1
bh = 1 / (1 + exp(-(v + 35) / 10)) : 1
an = 0.1 * exprel(-(v + 55) / 10) ** -1 : 1
bn = 0.125 * exp(-(v + 65) / 80) : 1
"""
TRAUB_MILES = """
am = 0.32 * 4 * exprel((13 - v - 63) / 4) ** -1 : 1
bm = 0.28 * 5 * exprel((v + 63 - 40) / 5) ** -1 : 1
ah = 0.128 * exp((17 - v - 63) / 18) : 1
bh = 4 / (1 + exp((40 - v - 63) / 5)) : 1
an = 0.032 * 5 * exprel((15 - v - 63) / 5) ** -1 : 1
bn = 0.5 * exp((10 - v - 63) / 40) : 1
"""
HODGKIN_HUXLEY = {
    "squid": Channels(120, 36, 0.3, 50, -77, -54.387, 0, 10, SQUID, 0.1),
    "traub_miles": Channels(100, 30, 0.05, 50, -90, -60, -40, 1, TRAUB_MILES, 0.1),
}


def channels(b2: Any, one: Channels) -> list[int]:
    """Steps with an upstroke of a neuron whose gates are in their steady state at -65 mV before, 100 ms."""
    equations = (
        """dv/dt = (g_leak*(v_leak - v) + g_na*m**3*h*(v_na - v) + g_k*n**4*(v_k - v) + current) / ms : 1
    dm/dt = (am*(1 - m) - bm*m) / ms : 1
    dh/dt = (ah*(1 - h) - bh*h) / ms : 1
    dn/dt = (an*(1 - n) - bn*n) / ms : 1"""
        + one.rates
    )
    b2.start_scope()
    b2.defaultclock.dt = one.dt * b2.ms
    constants = {key: value for key, value in one._asdict().items() if key not in ("rates", "dt", "v_threshold")}
    up = f"v > {one.v_threshold}"
    group = b2.NeuronGroup(1, equations, threshold=up, refractory=up, method="exponential_euler", namespace=constants)
    group.v = -65
    group.m, group.h, group.n = "am / (am + bm)", "ah / (ah + bh)", "an / (an + bn)"
    monitor = b2.SpikeMonitor(group)
    b2.Network(group, monitor).run(100 * b2.ms)
    return [round(float(time / b2.ms) / one.dt) for time in monitor.t]


def main() -> None:
    """Run all, print."""
    b2 = importlib.import_module("brian2")
    b2.prefs.codegen.target = "numpy"
    b2.prefs.core.default_float_dtype = np.float64
    found = {name: quadratic(b2, one) for name, one in IZHIKEVICH.items()}
    adex = {name: exponential(b2, one) for name, one in ADEX.items()}
    gated = {name: channels(b2, one) for name, one in HODGKIN_HUXLEY.items()}
    print(json.dumps({"izhikevich": found, "adex": adex, "hodgkin_huxley": gated}))


if __name__ == "__main__":
    main()
