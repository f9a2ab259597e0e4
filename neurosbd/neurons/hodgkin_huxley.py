"""Hodgkin's and Huxley's neuron: sodium and potassium channels whose gates open and shut with the potential."""

from dataclasses import field
from typing import Annotated, NamedTuple

import torch
from torch import Tensor

import neurosbd.neurons.gating as gating
import neurosbd.neurons.membrane as membrane
from neurosbd.distributions import check_above
from neurosbd.neurons.gating import GATES, Gates, Rates
from neurosbd.neurons.membrane import Reset, number
from neurosbd.neurons.neuron import Activity, Conductances, Flow
from neurosbd.schema.constants import Conductance, Constant, Range, constants
from neurosbd.surrogates import Surrogate, Triangle

Capacitance = Annotated[Constant, Range(above=0, unit="F")]
MembraneVolts = Annotated[Constant, Range(least=-0.2, most=0.2, unit="V", hint="write '-65 mV', say")]


class HodgkinHuxleyState(NamedTuple):
    """Membrane, gates, and whether this step had a spike."""

    v: Tensor  # V, [B, *size]
    m: Tensor  # share of open sodium activation gates
    h: Tensor  # of sodium channels that are not inactivated
    n: Tensor  # of open potassium gates
    spike: Tensor  # 0 or 1


class Taken(NamedTuple):
    """The step that made an activity."""

    before: HodgkinHuxleyState
    goal: Tensor  # where the membrane would end with all held as it was, V
    left: Tensor  # of its distance from there
    driven: Tensor  # d v / d drive


@constants
class HodgkinHuxley:
    """Conductance-based neuron whose spikes are the upstrokes of its own sodium current; nothing is reset.

        C dv/dt = g_leak (v_leak - v) + g_na m^3 h (v_na - v) + g_k n^4 (v_k - v) + g_leak drive
        dx/dt = opening_x(v) (1 - x) - closing_x(v) x      for each gate x = m, h, n
        z[t] = 1 if v[t] > v_threshold >= v[t-1] else 0

    v and the gates each take an exponential Euler step: exact with the others held where they were. Only ratios of the
    capacitance and the conductances matter, so that they may be those of a membrane, or of a square metre of it; then
    recorded currents and conductances are those of a square metre, too.

    Args:
        capacitance: F, > 0.
        g_na: largest conductance of the sodium channels, S, > 0.
        g_k: of the potassium channels, S, > 0.
        g_leak: of the leak, S, > 0; a current I is a drive of I / g_leak, in V, as of the other neurons in volts.
        v_na: reversal potential of sodium, V.
        v_k: of potassium, V.
        v_leak: of the leak, V; the membrane rests where all currents add up to none, -65 mV with these constants.
        v_start: before the first step, V, with the gates in their steady state there.
        v_threshold: that counts a spike when it is crossed from below, V.
        rates: of the gates: 'squid', the axon at 6.3 degrees, shifted to a rest of -65 mV; 'traub_miles', of
            hippocampal pyramidal cells, as in the benchmark of Brette et al., whose V_T is -63 mV.
        v_shift: of all rates along the potential, V; moves the threshold of 'traub_miles' from cell to cell.
        surrogate: pseudo-derivative, of the distance from the threshold in units of v_threshold - v_start.
    Raises:
        ValueError: if a constant is out of range, or a potential is none of a membrane in V.
    Source: Hodgkin, Huxley 1952, J. Physiol. 117, with the potential as of Dayan, Abbott 2001, ch. 5.6, and a patch of
        10,000 square micrometres, so that 1 uA/cm^2 is 100 pA (NEST's hh_psc_alpha); Traub, Miles 1991, and Brette et
        al. 2007, J. Comput. Neurosci. 23, benchmark 3, for the other rates.
    Differs: NEST integrates with a step size of its own; this is Brian2's `exponential_euler`, spike for spike, whose
        spikes come late in proportion to dt: at 68 Hz intervals are 6 % too long with 0.1 ms, 30 % with 0.5 ms, and
        with 1 ms it fires once and falls silent. Longer steps than 0.1 ms are warned of, than 0.5 ms refused. Beyond
        +-200 mV the rates are those there.
    """

    capacitance: Capacitance = 100e-12
    g_na: Conductance = 12e-6
    g_k: Conductance = 3.6e-6
    g_leak: Conductance = 30e-9
    v_na: MembraneVolts = 50e-3
    v_k: MembraneVolts = -77e-3
    v_leak: MembraneVolts = -54.387e-3
    v_start: MembraneVolts = -65e-3
    v_threshold: MembraneVolts = 0.0
    rates: Rates = "squid"
    v_shift: MembraneVolts = 0.0
    surrogate: Surrogate = field(default_factory=Triangle)

    def __post_init__(self) -> None:
        check_above(self, "v_threshold", "v_start", " V")

    reset: Reset = field(default="none", init=False)
    refractory: float = field(default=0.0, init=False)
    longest_step: float = field(default=0.1e-3, init=False)  # s

    @property
    def v_reset(self) -> Constant:
        """Of a spike that resets nothing: where the membrane started."""
        return self.v_start

    @property
    def unit(self) -> float | Tensor:
        """From the start to the threshold."""
        return number(self.v_threshold) - number(self.v_start)

    @property
    def gates(self) -> Gates:
        """Their rates."""
        return GATES[self.rates]

    def init(self, drive: Tensor, generator: torch.Generator | None = None) -> HodgkinHuxleyState:
        """v_start, with the gates in their steady state."""
        v = torch.zeros_like(drive) + number(self.v_start)
        m, h, n = (gating.steady(gate, v - number(self.v_shift)) for gate in self.gates)
        return HodgkinHuxleyState(v, m, h, n, torch.zeros_like(drive))

    def step(self, state: HodgkinHuxleyState, drive: Tensor, dt: float) -> tuple[Activity, HodgkinHuxleyState]:
        """Potential and spike, [B, *size]."""
        return self._advance(state, *self._opened(state, drive), dt)

    def _opened(self, state: HodgkinHuxleyState, drive: Tensor) -> tuple[Tensor, Tensor]:
        """All that is open at the beginning of a step, 1/s, and what it pulls with, V/s."""
        leak, sodium, potassium = self._largest()
        square = state.n * state.n
        sodium, potassium = sodium * (state.m * state.m * state.m * state.h), potassium * (square * square)
        pull = leak * (number(self.v_leak) + drive) + sodium * number(self.v_na) + potassium * number(self.v_k)
        return sodium + potassium + leak, pull

    def _largest(self) -> tuple[float | Tensor, float | Tensor, float | Tensor]:
        """Leak, sodium and potassium with all gates open, over the capacitance, 1/s."""
        c = number(self.capacitance)
        return number(self.g_leak) / c, number(self.g_na) / c, number(self.g_k) / c

    def _advance(
        self, state: HodgkinHuxleyState, total: Tensor, pull: Tensor, dt: float
    ) -> tuple[Activity, HodgkinHuxleyState]:
        goal, left = pull / total, torch.exp(-total * dt)
        v = goal + (state.v - goal) * left
        at = state.v - number(self.v_shift)
        opened = zip(self.gates, (state.m, state.h, state.n), strict=True)
        m, h, n = (gating.step(gate, share, at, dt) for gate, share in opened)
        up = torch.where(state.v.detach() > number(self.v_threshold), membrane.QUIET, v)
        shown, _ = membrane.fire(self, up, None, dt)
        taken = Taken(state, goal, left, self._largest()[0] * (1 - left) / total)
        return Activity(shown.value, up, taken), HodgkinHuxleyState(v, m, h, n, shown.value)

    def check_volts(self) -> None:
        """They are, with all constants."""

    def membrane(self, state: HodgkinHuxleyState) -> Tensor:
        """v: nothing is reset."""
        return state.v

    def conduct(
        self, state: HodgkinHuxleyState, drive: Tensor, opened: Conductances, dt: float
    ) -> tuple[Activity, HodgkinHuxleyState]:
        """The same step with further conductances, in units of the leak."""
        (total, pull), (leak, _, _) = self._opened(state, drive), self._largest()
        return self._advance(state, total + leak * opened.total, pull + leak * opened.pull, dt)

    def gate(self, activity: Activity, third_factor: Tensor, dt: float) -> Tensor:
        """third factor * psi * d v / d drive."""
        taken: Taken = activity.cache
        return membrane.psi(self, activity).mul_(third_factor).mul_(taken.driven)

    @property
    def factorises(self) -> bool:
        """Never."""
        return False

    def filters(self, dt: float) -> None:
        """Not a cascade of leaks."""

    def flow(self, state: HodgkinHuxleyState, activity: Activity, dt: float) -> Flow:
        """(v, m, h, n) before this step, and its drive, which does more or less to v by what the gates let through, so
        that a step can be linearised only once its drive is known."""
        taken: Taken = activity.cache
        before, goal, left, driven = taken
        leak, sodium, potassium = self._largest()
        per = driven / leak
        rising = -goal * per - (before.v - goal) * left * dt  # d v / d (all that is open)
        to_v = (
            left,
            3 * sodium * before.m**2 * before.h * (number(self.v_na) * per + rising),
            sodium * before.m**3 * (number(self.v_na) * per + rising),
            4 * potassium * before.n**3 * (number(self.v_k) * per + rising),
            driven,
        )
        rows: list[tuple[float | Tensor, ...]] = [to_v]
        for place, (gate, share) in enumerate(zip(self.gates, before[1:4], strict=True)):
            kept, moved = gating.slopes(gate, share, before.v - number(self.v_shift), dt)
            rows.append((moved, *(kept if other == place else 0.0 for other in range(3)), 0.0))
        rows.append((0.0,) * 5)
        return Flow(tuple(rows), (0.0, 0.0, 0.0, 0.0, 1.0), tuple(each / driven for each in to_v))
