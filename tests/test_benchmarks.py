"""The scripts of benchmarks/ that no figure here is taken from yet run, and their arithmetic is right."""

import argparse
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch

from tests.synthetic import loaded

CPU = torch.device("cpu")


@pytest.fixture
def script(monkeypatch: pytest.MonkeyPatch) -> Any:
    """A script by its name, which may import its neighbours."""
    monkeypatch.syspath_prepend(str(Path(__file__).resolve().parents[1] / "benchmarks"))

    def find(name: str) -> ModuleType:
        return loaded(f"benchmarks/{name}.py")

    return find


@pytest.mark.parametrize("power", [0.0, 1.0, 2.0])
def test_slopes_are_those_of_a_power_law(script: Any, power: float) -> None:
    """Must fail when sizes or values are not taken as logarithms (tried)."""
    sizes = [16, 64, 256, 1024]
    assert script("scaling").slope(sizes, [3 * n**power for n in sizes]) == pytest.approx(power)
    assert script("scaling").slope(sizes[:1], [1.0]) is None


@pytest.mark.parametrize("neuron", ["lif", "alif"])
@pytest.mark.parametrize(("rule", "eligibility"), [("sbd", "factorised"), ("sbd", "exact"), ("bptt", "factorised")])
def test_a_point_of_every_kind_is_measured(script: Any, rule: str, eligibility: str, neuron: str) -> None:
    found = script("scaling").work(script("scaling").Net((8, 6, 6), 2, 20, rule, eligibility, neuron), 2, 1)
    assert len(found["seconds"]) == len(found["busy"]) == 2 and found["net_mb"] >= 0


def test_what_does_not_fit_is_left_out_and_named(script: Any) -> None:
    """Must fail when the weights alone are counted (tried): exact is a value per example and synapse."""
    scaling = script("scaling")
    assert scaling.Net((2048, 2048), 8, 4, eligibility="exact").bytes() > 8 * 2048**2 * 4
    (sweep,) = (s for s in scaling.SWEEPS if s.variant == "sbd, exact" and s.name == "synapses")
    rows, large = scaling.measured([sweep], argparse.Namespace(rounds=1), room=1)
    assert not rows and large[-1] == "synapses 2,048 (sbd, exact)"


def test_on_a_gpu_everything_would_run(script: Any) -> None:
    """Its parts on the CPU, small; compiled steps of others are left to the script itself."""
    gpu = script("gpu")
    sizes = gpu.Sizes(64, 32, (("digits-mlp", 8), ("digits-snn", 8)), 12, 5, 2)
    rows = gpu.batches(sizes, CPU, 1)
    assert [(row["model"], row["rule"]) for row in rows] == [(m, r) for m, _ in sizes.batches for r in ("sbd", "bp")]
    assert all(row["operators"] > 50 and row["host_waits"] is None and row["ms"] > 0 for row in rows)


@pytest.mark.filterwarnings("ignore:.*torch.jit.script.* is deprecated:DeprecationWarning")  # by Norse
def test_the_wide_layer_runs_everywhere(script: Any) -> None:
    """The loss is half the mean number of spikes of a step, for both rules here the same."""
    gpu, x = script("gpu"), torch.ones(6, 2, 5)
    losses = {name: float(make(x)()) for name, make in gpu.LAYERS.items() if "compiled" not in name}
    assert losses["neurosbd sbd"] == losses["neurosbd bptt"] and len(losses) == 4
    assert all(0 <= loss <= 5 / 2 for loss in losses.values())


def test_without_a_gpu_it_says_what_it_would_measure(
    script: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    gpu = script("gpu")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(sys, "argv", ["gpu.py"])
    with pytest.raises(SystemExit) as stop:
        gpu.main()
    told = capsys.readouterr().err
    assert stop.value.code == 2 and all(f"{part}: " in told for part in gpu.PARTS)


def test_the_peak_of_a_step_is_the_highest_sum_of_what_is_held(script: Any) -> None:
    """And a layer at a time takes less than half of backprop, however deep. Must fail when what is given back is left
    out (tried), or a layer holds on to the one before."""
    memory = script("layer_memory")
    assert memory.highest([5, 3, -5, 4, -7]) == 8
    deep, deeper = (memory.peak("mlp", "mono_forward", layers, 64, 2000) for layers in (8, 16))
    assert deeper == pytest.approx(deep, rel=0.02) and deeper < memory.peak("mlp", "bp", 16, 64, 2000) / 2
