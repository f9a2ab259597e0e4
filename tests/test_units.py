"""Quantities with units, in model files, on the command line and in Python."""

import math
import random
import warnings
from pathlib import Path
from typing import Any

import pytest

from neurosbd import load_model
from neurosbd.errors import UsageError, UsageWarning
from neurosbd.neurons import ALIF, LIF, AdEx
from neurosbd.schema.units import quantity

MODEL = """
[time]
dt = {dt}
steps = 5
[population]
input = {{ size = [4] }}
output = {{ size = [2], neuron = {{ kind = "lif", {neuron} }} }}
[[connection]]
pre = "input"
post = "output"
kind = "dense"
"""
VOLTS_OF_CLAMP = '{ kind = "lif", v_leak = "-70 mV", v_threshold = "-50 mV", v_reset = "-60 mV", reset = "to_value" }'


def _model(folder: Path, neuron: str, dt: str = "1e-3") -> Path:
    path = folder / "own.toml"
    path.write_text(MODEL.format(neuron=neuron, dt=dt))
    return path


def test_a_quantity_is_the_float_that_the_same_number_of_si_units_is() -> None:
    """Bit for bit: '35 ms' is 35e-3. Must fail when the number is multiplied by a float 1e-3 (tried)."""
    rng = random.Random(0)
    for _ in range(500):
        number = f"{rng.uniform(0, 1000):.{rng.randrange(4)}f}"
        assert quantity(f"{number} ms", "s") == float(f"{number}e-3")
        assert quantity(f"{number}nS", "S") == float(f"{number}e-9")


def test_constants_take_units_in_files_and_in_python(tmp_path: Path) -> None:
    path = _model(tmp_path, 'tau_mem = ["20 ms", 0.03], refractory = "2 ms"', '"0.5 ms"')
    definition = load_model(path)
    assert definition.time.dt == 0.5e-3
    neuron = definition.population["output"].neuron
    assert neuron is not None and neuron.build() == LIF(tau_mem=(20e-3, 0.03), refractory=2e-3)  # type: ignore[arg-type]
    assert LIF(tau_mem="20 ms") == LIF(tau_mem=20e-3)  # type: ignore[arg-type]
    drawn = load_model(_model(tmp_path, 'tau_mem = { kind = "normal", mean = "20 ms", std = "1 ms", least = "5 ms" }'))
    assert drawn.model_dump()["population"]["output"]["neuron"]["tau_mem"]["mean"] == 20e-3
    assert load_model(path, settings={"population.output.neuron.tau_mem": "7 ms"})


def test_every_potential_of_adex_and_the_rise_of_the_threshold_take_millivolts() -> None:
    """Must fail where a constant is a bare number (tried: all six of AdEx, and beta of ALIF, were)."""
    millivolts = {"b": 10, "v_leak": -58, "v_rheobase": -50, "sharpness": 2, "v_threshold": 0, "v_reset": -46}
    written = {name: f"{value} mV" for name, value in millivolts.items()}
    assert AdEx(**written) == AdEx(**{name: value / 1000 for name, value in millivolts.items()})  # type: ignore[arg-type]
    assert ALIF(beta="1 mV") == ALIF(beta=1e-3)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"sharpness must be a positive value in V, got -0\.002"):
        AdEx(sharpness="-2 mV")  # type: ignore[arg-type]


def test_a_leak_that_is_forgotten_beside_a_threshold_in_millivolts_is_said(tmp_path: Path) -> None:
    """Such a unit fires without any input, at 260 Hz. Must fail without the warning (tried)."""
    volts = 'v_threshold = "-50 mV", v_reset = "-60 mV", reset = "to_value"'
    with pytest.warns(UsageWarning, match=r"no v_leak, which is then 0 V, above v_threshold = -0\.05 V"):
        load_model(_model(tmp_path, volts))
    assert load_model(_model(tmp_path, volts + ', v_leak = "-70 mV"'))
    assert load_model(_model(tmp_path, "v_threshold = 1.0"))


@pytest.mark.parametrize(
    ("neuron", "said"), [('"lif"', "in thresholds"), ('{ kind = "izhikevich" }', "in mV"), (VOLTS_OF_CLAMP, None)]
)
def test_a_clamp_in_volts_needs_a_membrane_in_volts(tmp_path: Path, neuron: str, said: str | None) -> None:
    """'-70 mV' of a membrane in thresholds was -0.07 of them. Must fail without the check (tried)."""
    path = tmp_path / "clamp.toml"
    path.write_text(
        'simulation = { duration = "10 ms" }\n'
        'stimulus = [{ population = "cell", kind = "voltage_clamp", values = ["-70 mV"] }]\n'
        f"[population]\ncell = {{ size = [1], neuron = {neuron} }}\n"
    )
    if said is None:
        assert load_model(path)
        return
    with pytest.raises(UsageError, match=f"'-70 mV' is a potential, but those of population 'cell' are {said}"):
        load_model(path)


@pytest.mark.parametrize(
    ("neuron", "said"),
    [
        ('tau_mem = "20 mV"', "population.output.neuron.tau_mem: must be a time, such as '20 ms', got the potential"),
        ('tau_mem = "20 mx"', "there is no unit 'mx' in '20 mx'; did you mean 'ms'?"),
        ('tau_mem = "-20 ms"', "must be a positive time in s, got -0.02"),
        ('tau_mem = "20"', "leave out the quotes|valid number|must be"),
        ('r = "2 ms"', "population.output.neuron.r: must be a bare number, which has no unit, got the time '2 ms'"),
        ('refractory = ["1 ms", "2 V"]', "must be a time, such as '20 ms', got the potential '2 V'"),
    ],
)
def test_what_is_no_such_quantity_is_refused_with_its_key(tmp_path: Path, neuron: str, said: str) -> None:
    with pytest.raises(UsageError, match=said):
        load_model(_model(tmp_path, neuron))


def test_python_refuses_another_dimension_with_the_constant() -> None:
    with pytest.raises(ValueError, match=r"LIF\.tau_mem must be a time, such as '20 ms', got the potential '20 mV'"):
        LIF(tau_mem="20 mV")  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("neuron", "dt", "said"),
    [
        ("tau_mem = 20", "1e-3", r"tau_mem = 20 s is long for a neuron; if 20 ms are meant: tau_mem = '20 ms'"),
        ("refractory = 0.005", "1e-3", r"refractory = 0.005 s is longer than the trial of 0.005 s"),
        ("tau_mem = 0.0005", "1e-3", r"tau_mem = 0.0005 s is no longer than a step, time.dt = 0.001 s; take a smaller"),
        ('tau_mem = "9 s"', "1", r"time.dt = 1 s is a long step; if 1 ms are meant: time.dt = '1 ms'"),
    ],
)
def test_a_bare_time_that_is_hardly_in_seconds_is_said_once(tmp_path: Path, neuron: str, dt: str, said: str) -> None:
    """Must fail when a time that has its unit is said as well (tried)."""
    with pytest.warns(UsageWarning, match=said) as seen:
        load_model(_model(tmp_path, neuron, dt))
    assert len(seen) == 1


@pytest.mark.parametrize(
    ("model", "settings", "said"),
    [
        (
            "stdp-window",
            {"protocol.longest": 80, "protocol.every": 4.0, "protocol.period": 400, "protocol.pairs": 60},
            r"protocol.longest = 80 s is long for a trial, by default 0.08 s; if ms are meant: longest = '80 ms', "
            r"every = '4 ms', period = '400 ms'; if s are, longest = '80 s'$",
        ),
        ("evidence-accumulation", {"task.delay": 500}, "task.delay = 500 s is long for a trial, by default 1.05 s; if"),
        ("pattern-generation", {"task.duration": 2000.0}, "if ms are meant: duration = '2000 ms'; if s are"),
        ("xor-delayed-reward", {"task.wait": 5, "task.duration": "90 ms"}, "if ms are meant: wait = '5 ms'; if s"),
    ],
)
def test_bare_times_of_trials_that_are_hardly_in_seconds_are_said_once(
    model: str, settings: dict[str, object], said: str
) -> None:
    """Files of a time when these were ms. Must fail when what has its unit is said as well, or every key (tried)."""
    with pytest.warns(UsageWarning, match=said) as seen:
        definition = load_model(model, settings=settings)
    assert len(seen) == 1
    entry = definition.task or definition.protocol
    assert all(getattr(entry, key.split(".")[1]) == value for key, value in settings.items() if value != "90 ms")


def test_times_that_do_not_fit_together_are_said_to_be_seconds_first() -> None:
    """A warning of what is meant comes before the refusal. Must fail when it waits for a legal file (tried)."""
    with (
        pytest.warns(UsageWarning, match="if ms are meant: cue = '100 ms'"),
        pytest.raises(UsageError, match=r"needs cue <= pause, got 100 s and 0\.15 s"),
    ):
        load_model("evidence-accumulation", settings={"task.cue": 100})


@pytest.mark.parametrize(
    ("model", "settings"),
    [
        ("stdp-window", {"protocol.period": "20 s", "protocol.longest": "5 s", "protocol.every": "1 s"}),
        ("stdp-window", {"protocol.period": 1.0, "protocol.longest": 0.4, "protocol.every": 0.1}),
        ("evidence-accumulation", {"task.delay": 2}),
        ("pattern-generation", {"task.duration": 2.0}),
        ("bmi-cursor", {"protocol.duration": 0.5}),
    ],
)
def test_long_trials_with_a_unit_and_usual_ones_without_are_not_said(model: str, settings: dict[str, object]) -> None:
    """Must fail when a time with its unit is doubted, or whatever is a second or more (tried: both)."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        load_model(model, settings=settings)


def test_windows_and_synapses_are_asked_as_well(tmp_path: Path) -> None:
    """Must fail when neurons alone are (tried)."""
    window = {"rule": {"kind": "stdp", "plasticity": {"window": {"tau_plus": 20.0}}}}
    with pytest.warns(
        UsageWarning, match=r"window.tau_plus = 20 s is long for a window of spike pairs; if 20 ms"
    ) as seen:
        load_model("digits-snn", settings=window)
    assert len(seen) == 1
    with pytest.warns(UsageWarning, match=r"connection.0.synapse.tau = 5 s is long for a synapse; if 5 ms are meant"):
        load_model("digits-snn", settings={"connection.0.synapse": {"kind": "exponential", "tau": 5}})


DRIVEN = """
simulation = {{ duration = "10 ms" }}
time.dt = "0.1 ms"
stimulus = [{{ population = "cells", kind = "current_steps", times = [0.0, "5 ms"], values = [0.0, "{current}"] }}]
[[connection]]
pre = "source"
post = "cells"
kind = "dense"
weight = {{ kind = "normal", mean = "{weight}", std = 0.0 }}
{more}
[population]
source = {{ size = [2], neuron = "relay" }}
cells = {{ size = [1], neuron = {{ {neuron} }} }}
"""
AXON = 'kind = "hodgkin_huxley", g_leak = "30 nS"'
VOLTS = 'kind = "lif", v_leak = "-70 mV", v_threshold = "-50 mV", v_reset = "-60 mV", reset = "to_value"'


def _driven(folder: Path, weight: str, current: str, neuron: str, more: str = "") -> Any:
    path = folder / "own.toml"
    path.write_text(DRIVEN.format(weight=weight, current=current, neuron=neuron, more=more))
    return load_model(path)


def test_weights_and_currents_with_units_are_what_drives_the_neuron(tmp_path: Path) -> None:
    """Conductances and currents count in the leak of the neuron, potentials in volts. Must fail when a current is
    divided by the leak in nS (tried)."""
    axon = _driven(tmp_path, "2 nS", "300 pA", AXON, 'synapse = "conductance"')
    assert axon.network().weights["source->cells"].tolist() == [pytest.approx([2 / 30] * 2)]
    assert axon.stimulus[0].model_dump()["values"] == pytest.approx([0.0, 300e-12 / 30e-9])
    volts = _driven(tmp_path, "0.5 mV", "20 mV", VOLTS)
    assert volts.network().weights["source->cells"].tolist() == [pytest.approx([0.5e-3] * 2)]
    assert volts.stimulus[0].model_dump()["values"] == pytest.approx([0.0, 20e-3])


LEAKY = VOLTS + ', g_leak = "10 nS"'


@pytest.mark.parametrize("kind", ["lif", "alif", "adex"])
def test_a_leak_in_siemens_gives_neurons_in_volts_currents_and_conductances(tmp_path: Path, kind: str) -> None:
    """2 nS of 10 nS are 0.2 leaks, also as a bound; a steady current of 300 pA lifts a membrane of 10 nS by 30 mV
    whatever its `r`. Must fail when `r` is not asked for, when `dt` is that of the default, and when bounds stay as
    they are (tried: all)."""
    neuron = LEAKY.replace("lif", kind)
    bounds = 'plasticity = { kind = "symmetric_inhibitory", w_min = 0.0, w_max = "5 nS" }'
    for r in (1.0,) if kind == "adex" else (1.0, 0.02):
        resisting = neuron.replace(', reset = "to_value"', "") if kind == "adex" else f"{neuron}, r = {r}"
        found = _driven(tmp_path, "2 nS", "300 pA", resisting, f'synapse = "conductance"\n{bounds}')
        assert found.network().weights["source->cells"].tolist() == [pytest.approx([0.2] * 2)]
        assert found.connection[0].plasticity.w_max == pytest.approx(0.5)
        lifts = 1.0 if kind == "adex" else r / (1 - math.exp(-1e-4 / 20e-3))
        assert found.stimulus[0].model_dump()["values"] == pytest.approx([0.0, 30e-3 / lifts])


def test_a_refractory_period_is_asked_beside_a_free_run_too(tmp_path: Path) -> None:
    """Must fail when trials alone are looked at (tried: as it was)."""
    with pytest.warns(UsageWarning, match=r"refractory = 0.5 s is longer than the run of 0.01 s, so that no unit"):
        _driven(tmp_path, "0.5 mV", "20 mV", VOLTS + ", refractory = 0.5")


@pytest.mark.parametrize(
    ("weight", "current", "neuron", "more", "said"),
    [
        ("2 nS", "0.1 V", VOLTS, 'synapse = "conductance"', "'2 nS' counts in the leak .* 2 nS are 0.2"),
        ("2 nS", "0.1 V", VOLTS + ', g_leak = ["10 nS"]', 'synapse = "nmda"', "names none that all its units have"),
        ("2 nS", "0.1 V", AXON, "", "weight.mean: must be a potential or a current, .* got the conductance '2 nS'"),
        ("2 mV", "0.1 V", AXON, 'synapse = "nmda"', "must be a conductance, .* got the potential '2 mV'"),
        ("2 mV", "10 mV", 'kind = "lif"', "", "'2 mV' is a potential, but those of .* are in thresholds"),
        ("2 mV", "10 ms", VOLTS, "", "stimulus.0.values: must be a potential or a current, .* got the time '10 ms'"),
    ],
)  # fmt: skip
def test_units_that_a_neuron_has_not_are_refused(
    tmp_path: Path, weight: str, current: str, neuron: str, more: str, said: str
) -> None:
    with pytest.raises(UsageError, match=said):
        _driven(tmp_path, weight, current, neuron, more)
