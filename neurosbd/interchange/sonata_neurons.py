"""Point neurons of NEST as ours: templates of SONATA networks, their constants and defaults.

NEST counts in ms, mV, pA, nS and pF. A spike of its step that ends at t is one of our step that ends at t; it holds a
membrane for t_ref and lets go a step later, so that `refractory` is t_ref + dt; and what arrives by exponential, alpha
or beta synapses acts from the next step on, so that their delays are a step longer here. Deltas act at once.
"""

from collections.abc import Callable, Mapping
from typing import NamedTuple

import numpy as np

from neurosbd.errors import UsageError, nearest, warn

Values = Mapping[str, np.ndarray]  # constant of NEST -> of every unit, [n]
Table = dict[str, object]  # of a model file; arrays where units differ
_MILLI = 1e-3


class Made(NamedTuple):
    """A neuron of ours."""

    table: Table
    per_current: np.ndarray  # drive that a current of 1 pA is, [n]
    per_weight: np.ndarray  # weight that a weight of 1 is, [n]
    first: np.ndarray  # drive of the first step that starts the membrane where theirs starts, [n]
    late: int  # steps by which what arrives acts later


class Template(NamedTuple):
    """How a neuron of NEST is taken.

    defaults: of NEST 3.
    made: of its constants and dt in ms.
    response: of its synapses: 'delta', 'exponential', 'alpha' or 'double_exponential'.
    conducting: whether weights are conductances.
    """

    defaults: Mapping[str, float]
    made: Callable[[Values, float], Made]
    response: str
    conducting: bool = False


def _leaky(values: Values, tau: np.ndarray, dt: float, r: np.ndarray) -> Table:
    steps = np.rint(values["t_ref"] / dt)
    return {
        "kind": "lif", "tau_mem": tau * _MILLI, "v_threshold": values["V_th"] * _MILLI,
        "v_leak": values["E_L"] * _MILLI, "v_reset": values["V_reset"] * _MILLI, "reset": "to_value", "r": r,
        "refractory": (steps + 1) * dt * _MILLI, "refractoriness": "clamped", "g_leak": values["C_m"] / tau * 1e-9,
    }  # fmt: skip


def _current_based(values: Values, dt: float) -> Made:
    tau = values["tau_m"]
    left = np.exp(-dt / tau)
    per_current = tau / values["C_m"] * _MILLI
    first = (values["V_m"] - values["E_L"]) * _MILLI * left / (1 - left)
    return Made(_leaky(values, tau, dt, 1 - left), per_current, per_current, first, 1)


def _pulsed(values: Values, dt: float) -> Made:
    """r = 1, so that a weight of 1 mV is one."""
    tau = values["tau_m"]
    left, one = np.exp(-dt / tau), np.ones_like(tau)
    per_current = tau / values["C_m"] * _MILLI * (1 - left)
    first = (values["V_m"] - values["E_L"]) * _MILLI * left
    return Made(_leaky(values, tau, dt, one), per_current, _MILLI * one, first, 0)


def _conductance_based(values: Values, dt: float) -> Made:
    tau = values["C_m"] / values["g_L"]
    left = np.exp(-dt / tau)
    first = (values["V_m"] - values["E_L"]) * _MILLI * left / (1 - left)
    return Made(_leaky(values, tau, dt, 1 - left), _MILLI / values["g_L"], 1 / values["g_L"], first, 1)


def _exponential(values: Values, dt: float) -> Table:
    _refuse(values["t_ref"] != 0, "t_ref", values["t_ref"], "0: our 'adex' has no refractoriness")
    _refuse(values["w"] != 0, "w", values["w"], "0: our 'adex' begins without adaptation")
    _starts_at_rest(values, values["E_L"])
    leak = values["g_L"]
    return {
        "kind": "adex", "tau_mem": values["C_m"] / leak * _MILLI, "tau_adapt": values["tau_w"] * _MILLI,
        "a": values["a"] / leak, "b": values["b"] / leak * _MILLI, "v_leak": values["E_L"] * _MILLI,
        "v_rheobase": values["V_th"] * _MILLI, "sharpness": values["Delta_T"] * _MILLI,
        "v_threshold": values["V_peak"] * _MILLI, "v_reset": values["V_reset"] * _MILLI, "g_leak": leak * 1e-9,
    }  # fmt: skip


def _adaptive(values: Values, dt: float) -> Made:
    per_current = _MILLI / values["g_L"]
    return Made(_exponential(values, dt), per_current, per_current, np.zeros_like(per_current), 1)


def _adaptive_conducting(values: Values, dt: float) -> Made:
    return _adaptive(values, dt)._replace(per_weight=1 / values["g_L"])


def _quadratic(values: Values, dt: float) -> Made:
    one = np.ones_like(values["a"])
    _refuse(values["consistent_integration"] != 1, "consistent_integration", 0 * one, "true")
    apart = values["U_m"] - values["b"] * values["V_m"]
    if (np.abs(apart) > 1e-9).any():
        warn(f"U_m begins at b V_m here, {np.abs(apart).max():g} from where the file has it")
    table: Table = {key: values[key] for key in ("a", "b", "c", "d")}
    table |= {"kind": "izhikevich", "v_threshold": values["V_th"], "v_start": values["V_m"]}
    return Made(table, one, one / dt, 0 * one, 0)


def _gated(values: Values, dt: float) -> Made:
    per_current = _MILLI / values["g_L"]
    table: Table = {
        "kind": "hodgkin_huxley", "capacitance": values["C_m"] * 1e-12, "g_na": values["g_Na"] * 1e-9,
        "g_k": values["g_K"] * 1e-9, "g_leak": values["g_L"] * 1e-9, "v_na": values["E_Na"] * _MILLI,
        "v_k": values["E_K"] * _MILLI, "v_leak": values["E_L"] * _MILLI, "v_start": values["V_m"] * _MILLI,
    }  # fmt: skip
    warn("hh_psc_alpha: spikes are counted on their way up through 0 mV here, at their peak in NEST, a little later")
    return Made(table, per_current, per_current, 0 * per_current, 1)


_IAF = {"C_m": 250.0, "E_L": -70.0, "I_e": 0.0, "V_m": -70.0, "V_th": -55.0, "t_ref": 2.0}
_CURRENTS = {**_IAF, "V_reset": -70.0, "tau_m": 10.0}
_TWO = {"tau_syn_ex": 2.0, "tau_syn_in": 2.0}
_TAUS = {"tau_syn_ex": 0.2, "tau_syn_in": 2.0}
_REVERSALS = {"E_ex": 0.0, "E_in": -85.0}
_CONDUCTANCES = {**_IAF, **_REVERSALS, "V_reset": -60.0, "g_L": 16.6667}
_BETA = {"tau_rise_ex": 0.2, "tau_decay_ex": 0.2, "tau_rise_in": 2.0, "tau_decay_in": 2.0}
_AEIF = {
    "C_m": 281.0, "g_L": 30.0, "E_L": -70.6, "V_m": -70.6, "V_th": -50.4, "V_peak": 0.0, "V_reset": -60.0, "a": 4.0,
    "b": 80.5, "Delta_T": 2.0, "tau_w": 144.0, "t_ref": 0.0, "I_e": 0.0, "w": 0.0, **_TAUS,
}  # fmt: skip
_QUADRATIC = {
    "a": 0.02, "b": 0.2, "c": -65.0, "d": 8.0, "I_e": 0.0, "V_m": -65.0, "U_m": -13.0, "V_th": 30.0,
    "consistent_integration": 1.0,
}  # fmt: skip
_GATED = {
    "C_m": 100.0, "g_Na": 12000.0, "g_K": 3600.0, "g_L": 30.0, "E_Na": 50.0, "E_K": -77.0, "E_L": -54.402, "V_m": -65.0,
    "t_ref": 2.0, "I_e": 0.0, **_TAUS,
}  # fmt: skip

TEMPLATES = {
    "iaf_psc_delta": Template(_CURRENTS, _pulsed, "delta"),
    "iaf_psc_exp": Template({**_CURRENTS, **_TWO}, _current_based, "exponential"),
    "iaf_psc_alpha": Template({**_CURRENTS, **_TWO}, _current_based, "alpha"),
    "iaf_cond_exp": Template({**_CONDUCTANCES, **_TAUS}, _conductance_based, "exponential", True),
    "iaf_cond_alpha": Template({**_CONDUCTANCES, **_TAUS}, _conductance_based, "alpha", True),
    "iaf_cond_beta": Template({**_CONDUCTANCES, **_BETA}, _conductance_based, "double_exponential", True),
    "aeif_psc_exp": Template(_AEIF, _adaptive, "exponential"),
    "aeif_psc_alpha": Template(_AEIF, _adaptive, "alpha"),
    "aeif_cond_exp": Template({**_AEIF, **_REVERSALS}, _adaptive_conducting, "exponential", True),
    "aeif_cond_alpha": Template({**_AEIF, **_REVERSALS}, _adaptive_conducting, "alpha", True),
    "izhikevich": Template(_QUADRATIC, _quadratic, "delta"),
    "hh_psc_alpha": Template(_GATED, _gated, "alpha"),
}
_NO_MATTER = {"tau_minus", "tau_minus_triplet", "gsl_error_tol", "rho"}  # of plasticity, a solver, noise of size 0
_HELD = {"refractory_input", "delta", "ignore_and_spike"}  # legal where they are 0 or false
_POSITIVE = {"C_m", "tau_m", "g_L", "tau_w", "Delta_T"}


def template_of(name: str, where: str) -> Template:
    """How a model_template is taken, 'nest:iaf_psc_exp' or the name alone.

    Raises:
        UsageError: naming those that are.
    """
    source, _, model = name.rpartition(":")
    if source not in ("", "nest") or model not in TEMPLATES:
        raise UsageError(f"{where}: model_template '{name:.60}' is not read here{nearest(model, TEMPLATES)}")
    return TEMPLATES[model]


def constants_of(template: Template, given: Mapping[str, object], own: Values, count: int, where: str) -> Values:
    """The constants of so many units.

    Args:
        template: how they are taken.
        given: of their type, as the file of constants has them.
        own: of single units, [count]; NaN where it is that of the type.
        count: units.
        where: for messages.
    Raises:
        UsageError: if one is unknown, or no number.
    """
    for key in (*given, *own):
        off = key in _HELD and given.get(key) in (0, False)
        if key not in template.defaults and key not in _NO_MATTER and not off:
            raise UsageError(f"{where}: the constant '{key:.60}' is not read here{nearest(key, template.defaults)}")
    found = {}
    for key, default in template.defaults.items():
        value = given.get(key, default)
        if not isinstance(value, int | float) or not np.isfinite(value):
            raise UsageError(f"{where}: {key} must be a number, got {value!r:.60}")
        shared = np.full(count, float(value))
        values = np.where(np.isnan(own[key]), shared, own[key]) if key in own else shared
        positive = key in _POSITIVE or key.startswith("tau_")
        if positive and not (values > 0).all():
            raise UsageError(f"{where}: {key} must be > 0, got {values.min():g}")
        found[key] = values
    return found


def synapse_of(template: Template, values: Values, side: str) -> Table | None:
    """The synapse that weights of one sign have: 'ex' or 'in'; None for pulses.

    Raises:
        UsageError: if units differ in it, which one connection cannot.
    """

    def one(key: str) -> float:
        found = values[f"{key}_{side}"]
        if (found != found[0]).any():
            raise UsageError(
                f"{key}_{side} differs between units of one type, from {found.min():g} to {found.max():g}; all "
                f"synapses of a connection share it: make a node type for each value"
            )
        return float(found[0])

    kind = template.response
    if kind == "delta":
        return None
    response: Table = {"kind": kind}
    if kind == "double_exponential":
        rise, decay = one("tau_rise"), one("tau_decay")
        if rise > decay:
            raise UsageError(
                f"tau_rise_{side} = {rise:g} ms is longer than tau_decay_{side} = {decay:g} ms; exchange them"
            )
        response = {"kind": "alpha", "tau": rise * _MILLI}
        if rise < decay:
            response = {"kind": kind, "tau_rise": rise * _MILLI, "tau_decay": decay * _MILLI}
    else:
        response["tau"] = one("tau_syn") * _MILLI
    return (
        {"kind": "conductance", "reversal": one("E") * _MILLI, "response": response}
        if template.conducting
        else response
    )


def _refuse(wrong: np.ndarray, key: str, values: np.ndarray, legal: str) -> None:
    if wrong.any():
        raise UsageError(f"{key} is {values[wrong][0]:g}; legal is {legal}")


def _starts_at_rest(values: Values, rest: np.ndarray) -> None:
    apart = np.abs(values["V_m"] - rest)
    if apart.any():
        warn(f"the membrane begins at E_L here, {apart.max():g} mV from V_m, where the file has it")
