"""Neurons whose steps and gates are compiled give what they give as written. Most tests stand in for the compiler."""

import copy
import pickle
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor

import neurosbd
from neurosbd import Connection, Network, Population
from neurosbd.connections import Dense
from neurosbd.errors import UsageWarning
from neurosbd.neurons import NEURONS, AdEx, Izhikevich
from neurosbd.neurons.fused import fused, is_fused

DT = 1e-3
AS_THEY_ARE = ("relu", "normalised", "standardised", "corinfomax", "leaky_rate", "lif", "alif", "cubalif", "escape")


@pytest.fixture
def compiled(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Stands in for the compiler: a kernel is the method, and whatever runs one is noted."""
    ran: list[str] = []

    def compile(method: Callable[..., object], fullgraph: bool) -> Callable[..., object]:
        def kernel(*args: object, **kwargs: object) -> object:
            ran.append("kernel")
            return method(*args, **kwargs)

        return kernel

    monkeypatch.setattr(torch, "compile", compile)
    return ran


def drive() -> Tensor:
    return torch.rand(20, 3, 7, generator=torch.Generator().manual_seed(0), dtype=torch.float64) * 2


@pytest.mark.skipif(shutil.which("g++") is None, reason="needs a C++ compiler")
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.filterwarnings("ignore:.*torch.jit.*")
@torch.no_grad()
def test_kernels_are_the_neuron(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Must fail when a kernel leaves out the reset (a neuron with another one was tried)."""
    monkeypatch.setenv("NEUROSBD_CACHE", str(tmp_path))
    neuron, drives = Izhikevich(), 20 * drive()
    whole = fused(neuron, "x", drives[0, :1])
    state, other, spikes = neuron.init(drives[0]), whole.init(drives[0]), 0.0
    for x in drives:
        (shown, state), (found, other) = neuron.step(state, x, DT), whole.step(other, x, DT)
        torch.testing.assert_close((*found[:2], *other), (*shown[:2], *state), rtol=1e-12, atol=1e-12)
        spikes += float(shown.value.sum())
    assert 10 < spikes < drives.numel() / 2


def test_a_method_that_cannot_be_compiled_goes_on_as_written(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*args: object) -> object:
        raise OSError("no compiler here\nand pages more")

    monkeypatch.setattr(torch, "compile", lambda method, fullgraph: broken)
    neuron, x = AdEx(), drive()[0]
    whole = fused(neuron, "hidden", x[:1])
    with torch.no_grad():
        with pytest.warns(UsageWarning, match=r"'hidden': AdEx.step goes on .*OSError: no compiler here\)$"):
            found, _ = whole.step(whole.init(x), x, DT)
        again, _ = whole.step(whole.init(x), x, DT)  # said once
    shown, _ = neuron.step(neuron.init(x), x, DT)
    assert torch.equal(found.potential, shown.potential) and torch.equal(again.potential, shown.potential)


def test_mistakes_of_the_method_are_its_own(compiled: list[str]) -> None:
    whole = fused(AdEx(), "hidden", drive()[0, :1])
    with torch.no_grad(), pytest.raises(RuntimeError, match="size"):
        whole.step(whole.init(drive()[0]), torch.rand(2, 5), DT)


def test_autograd_follows_the_method_as_written(compiled: list[str]) -> None:
    whole, x = fused(AdEx(), "x", drive()[0, :1]), (20 * drive()[0]).requires_grad_()
    shown, _ = whole.step(whole.init(x), x, DT)
    shown.value.sum().backward()
    assert not compiled and x.grad is not None and x.grad.abs().sum() > 0
    with torch.no_grad():
        whole.step(whole.init(x), x, DT)
    assert compiled


@pytest.mark.parametrize("name", AS_THEY_ARE)
def test_what_is_short_or_draws_stays_as_it_is(name: str) -> None:
    neuron = NEURONS[name]()
    assert fused(neuron, "x", torch.zeros(1, 4)) is neuron


def test_a_fused_neuron_is_the_same_to_everybody_else(compiled: list[str]) -> None:
    neuron = AdEx(tau_mem=0.03)
    whole = fused(neuron, "x", torch.zeros(1, 4))
    assert whole == neuron and type(whole) is AdEx and is_fused(whole)
    assert fused(whole, "x", torch.zeros(1, 4)) is whole
    for copied in (copy.deepcopy(whole), pickle.loads(pickle.dumps(whole))):
        assert copied == neuron and is_fused(copied)


def test_constants_of_units_move_with_a_fused_network(compiled: list[str]) -> None:
    tau = neurosbd.distributions["uniform"](low=0.01, high=0.03)
    populations = [Population("input", (3,), None), Population("out", (4,), AdEx(tau_mem=tau))]
    networks = [
        Network(populations, [Connection("input", "out", Dense())], torch.Generator().manual_seed(0), fused=whole)
        for whole in (False, True)
    ]
    x = torch.ones(5, 2, 3, dtype=torch.float64)
    shown = [neurosbd.unroll(each.double(), x).activity["out"].potential for each in networks]
    assert torch.equal(*shown) and shown[0].dtype == torch.float64
    neuron = networks[1].populations["out"].neuron
    assert neuron is not None and is_fused(neuron)


MODEL = """
about = "a cell"
[simulation]
duration = "20 ms"
[population]
cells = { size = [3], neuron = "izhikevich" }
[[stimulus]]
population = "cells"
kind = "current_steps"
times = ["0 ms"]
values = [10.0]
"""


def test_a_run_with_fused_neurons(compiled: list[str], tmp_path: Path) -> None:
    """The same trace: must fail when `time.fused` reaches no neuron (tried)."""
    (tmp_path / "cell.toml").write_text(MODEL)
    found: list[Tensor] = []
    for whole in (False, True):
        settings = {"time.fused": whole, "record.signals": ["cells.v"]}
        run = neurosbd.simulate(tmp_path / "cell.toml", out=tmp_path / str(whole), settings=settings)
        found.append(torch.as_tensor(run.trace["cells.v"][:]))
        assert bool(compiled) is whole
    assert torch.equal(*found) and found[0].std() > 0


def test_asking_for_kernels_that_nobody_gains_by_is_said(compiled: list[str]) -> None:
    with pytest.warns(UsageWarning, match="digits-snn: time.fused compiles nothing: .* leave it out"):
        neurosbd.load_model("digits-snn", settings={"time.fused": True}).network()
