"""Synapses that learn or tire, here and in NEST: the figures that tests/test_reference_nest.py keeps to.

    python benchmarks/nest_plasticity.py > benchmarks/nest_plasticity.json     # with nest (3.10.0 made it) and numpy
    python benchmarks/nest_plasticity.py --here         # without it: the largest relative difference from that file

Given spike trains of 10 s at steps of 1 ms, about 28 Hz, and the weights that every rule leaves after each quarter.
Ours are of `neurosbd.run` in float64; what it records is float32, so that quarters agree to that, and the end fully.

A step of NEST and one of ours: all of its delay is dendritic, so that a pre spike meets its synapses at once and a post
spike after the delay, which is one step here. That is our order: what arrives in step n is there at its beginning, and
the post spike of step n ends with it. So spikes have the same numbers in both. Where the two differ:

- A synapse of NEST learns when its pre unit spikes, and then makes up for the post spikes since. All pre units spike
  together at the end of every quarter, so that everything has been made up for when weights are compared.
- A post spike that ends just as another one arrives is no pair for NEST; for us it is one, and causal. From the trains
  such post spikes are left out; "coincident" keeps them.
- nn_symm and nn_restr take a pre unit for one that spiked at time 0. The trains begin a second later.
- The Vogels-Sprekeler synapse clips twice as a spike arrives, at the largest weight when the post trace is added and at
  0 when the constant is taken off, and we clip the sum. "ceiling" is where that matters.
- tsodyks_synapse releases what fades with tau_psc before it recovers; here that is over at once. tsodyks2_synapse has
  no such pool.
- The dopamine of stdp_dopamine_synapse, exp(-s / tau_n) / tau_n after a spike, acts all the time; our third factor once
  a step. What c n adds to a weight between two steps, with c the eligibility, is c n tau (1 - exp(-dt / tau)) at the
  beginning, 1 / tau = 1 / tau_c + 1 / tau_n: the third factor is n times that (`DOPAMINE`), which is no approximation.
  NEST's weight at a spike does not hold what the step of that spike adds, ours at the end of a step does: our run of
  this rule is a step late.

clopath_synapse is not among them: it averages the membrane in the solver of its neuron, which is not ours to follow.
stdp_pl_synapse_hom grows with another power of the weight, w^mu, which is not here.
"""

import argparse
import importlib
import json
import math
import tempfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

if TYPE_CHECKING:
    import torch

DT = 1.0  # ms
STEPS, ROWS, PRES, POSTS = 10_000, 4, 3, 2
SENT = 24  # spikes
LATE = 1_000  # steps of NEST before the first
KEPT = Path(__file__).with_suffix(".json")
Train = np.ndarray  # [STEPS, units], 0 or 1


def trains(coincident: bool = False) -> tuple[Train, Train]:
    """Spikes that arrive, and those that the post units send, as our steps count them.

    The stream of RandomState is the same in every version of numpy.
    """
    random = np.random.RandomState(1)
    pre, post = random.random_sample((STEPS, PRES)) < 0.03, random.random_sample((STEPS, POSTS)) < 0.03
    pre[STEPS // ROWS - 1 :: STEPS // ROWS] = True
    post[-1] = False  # felt after the end
    if not coincident:
        post[:-1] &= ~pre[1:].any(1, keepdims=True)
    return pre.astype(float), post.astype(float)


def start() -> np.ndarray:
    """Weights before, [POSTS, PRES]."""
    return np.linspace(0.2, 0.7, POSTS * PRES).reshape(POSTS, PRES)


class Rule(NamedTuple):
    """A synapse of NEST, its constants, those of its post unit, and the plasticity here with its own."""

    model: str
    constants: dict[str, float]
    post: dict[str, float]
    here: tuple[str, dict[str, Any]]


def pairs(model: str, size: float, most: float = 1.0, **window: Any) -> Rule:
    """A rule of pairs, whose depression is half as large and twice as long as its potentiation."""
    mu = window.get("mu", 1.0 if window.get("bounds") == "multiplicative" else 0.0)
    constants = {"lambda": size / most, "alpha": 0.5, "mu_plus": mu, "mu_minus": mu, "Wmax": most, "tau_plus": 17.0}
    ours = {"a_plus": size, "a_minus": size / 2, "tau_plus": 17e-3, "tau_minus": 34e-3, "w_min": 0.0, "w_max": most}
    return Rule(model, constants, {"tau_minus": 34.0}, ("spike_timing", {"window": ours | window}))


def vogels(eta: float, most: float) -> Rule:
    """Inhibitory plasticity towards 27.5 Hz."""
    ours = {"eta": eta, "rate": 27.5, "w_min": 0.0, "w_max": most}
    constants = {"tau": 20.0, "eta": eta, "alpha": 1.1, "Wmax": most}
    return Rule("vogels_sprekeler_synapse", constants, {"tau_minus": 20.0}, ("symmetric_inhibitory", ours))


TAU_C, TAU_N, DOPAMINE_EVERY = 200.0, 100.0, 700  # ms, ms, steps
DOPAMINE = 1 / TAU_N * (1 - math.exp(-DT * (1 / TAU_C + 1 / TAU_N))) / (1 / TAU_C + 1 / TAU_N)
RULES = {
    "additive": pairs("stdp_synapse", 0.006),
    "multiplicative": pairs("stdp_synapse", 0.06, bounds="multiplicative"),
    "power_law": pairs("stdp_synapse", 0.06, bounds="power_law", mu=0.4),
    "nn_symm": pairs("stdp_nn_symm_synapse", 0.006, pairing="nn_symm"),
    "nn_pre_centered": pairs("stdp_nn_pre_centered_synapse", 0.006, pairing="nn_pre_centered"),
    "nn_restr": pairs("stdp_nn_restr_synapse", 0.006, pairing="nn_restr"),
    "triplet": Rule(
        "stdp_triplet_synapse",
        {"Aplus": 0.001, "Aminus": 0.007, "Aplus_triplet": 0.0062, "Aminus_triplet": 0.0013, "Wmax": 1.0,
         "tau_plus": 16.8, "tau_plus_triplet": 101.0},
        {"tau_minus": 33.7, "tau_minus_triplet": 125.0}, ("triplet", {"a2_plus": 0.001, "a3_minus": 0.0013}),
    ),
    "symmetric_inhibitory": vogels(0.01, 3.0),
    "dopamine": Rule(
        "stdp_dopamine_synapse",
        {"A_plus": 0.03, "A_minus": 0.02, "tau_plus": 17.0, "tau_c": TAU_C, "tau_n": TAU_N, "b": 0.0, "Wmin": -10.0,
         "Wmax": 10.0},
        {"tau_minus": 34.0},
        ("rewarded_spike_timing",
         {"window": {"a_plus": 0.03, "a_minus": 0.02, "tau_plus": 17e-3, "tau_minus": 34e-3, "w_min": -10.0,
                     "w_max": 10.0}, "tau_e": 1e-3 * TAU_C}),
    ),
}  # fmt: skip
APART = {"ceiling": vogels(0.1, 1.0), "coincident": pairs("stdp_synapse", 1e-3, most=2.0)}  # where we differ
SHORT_TERM = {"depressing": (0.5, 800.0, 0.0), "facilitating": (0.15, 130.0, 530.0)}  # U, tau_rec and tau_fac in ms
TIRING = ("tsodyks_synapse", "tsodyks2_synapse")


def simulator() -> Any:
    """A fresh kernel of NEST, which only who makes the figures needs."""
    nest: Any = importlib.import_module("nest")
    nest.verbosity = nest.VerbosityLevel.ERROR
    nest.ResetKernel()
    nest.resolution, nest.print_time = DT, False
    return nest


def parrots(nest: Any, train: Train, late: int = 0) -> Any:
    """Units that spike in these steps: our step n is NEST's time n + LATE."""
    sources = nest.Create("spike_generator", train.shape[1])
    for source, each in zip(sources, train.T, strict=True):
        source.spike_times = (np.flatnonzero(each) + LATE - 1 + late) * DT
    units = nest.Create("parrot_neuron", train.shape[1])
    nest.Connect(sources, units, "one_to_one", {"delay": DT})
    return units


def learned(rule: Rule, coincident: bool = False) -> list[list[list[float]]]:
    """Weights in NEST after every quarter, [ROWS, POSTS, PRES]."""
    nest = simulator()
    pre, post = trains(coincident)
    before, after, recorder = parrots(nest, pre), parrots(nest, post), nest.Create("weight_recorder")
    after.set(**rule.post)
    constants = {**rule.constants, "weight_recorder": recorder}
    if rule.model == "stdp_dopamine_synapse":
        dopamine = np.zeros((STEPS, 1))
        dopamine[DOPAMINE_EVERY::DOPAMINE_EVERY] = 1
        transmitter = nest.Create("volume_transmitter")
        nest.Connect(parrots(nest, dopamine, late=-1), transmitter, syn_spec={"delay": DT})
        constants["volume_transmitter"] = transmitter
    nest.CopyModel(rule.model, "learns", constants)
    unheard = {"receptor_type": 1}  # parrots do not repeat what comes there
    nest.Connect(before, after, "all_to_all", {"synapse_model": "learns", "weight": start(), "delay": DT, **unheard})
    nest.Simulate((STEPS + LATE) * DT)
    events, found = recorder.events, np.zeros((ROWS, POSTS, PRES))
    row = (np.rint(events["times"] / DT).astype(int) - LATE + 1) / (STEPS // ROWS)
    there = (row == np.rint(row)) & (row >= 1)
    j, i = events["targets"] - after[0].global_id, events["senders"] - before[0].global_id
    found[row[there].astype(int) - 1, j[there], i[there]] = events["weights"][there]
    return found.tolist()


def sent(model: str, utilisation: float, tau_rec: float, tau_fac: float) -> list[float]:
    """What the last spikes of the first unit send in NEST."""
    nest = simulator()
    before, after = parrots(nest, trains()[0][:, :1]), nest.Create("parrot_neuron")
    recorder = nest.Create("weight_recorder")
    constants = {"U": utilisation, "tau_rec": tau_rec, "tau_fac": tau_fac, "weight_recorder": recorder}
    constants |= {"tau_psc": 1e-12} if model == "tsodyks_synapse" else {"u": utilisation}
    nest.CopyModel(model, "tires", constants)
    nest.Connect(
        before, after, "one_to_one", {"synapse_model": "tires", "weight": 1.0, "delay": DT, "receptor_type": 1}
    )
    nest.Simulate((STEPS + LATE) * DT)
    return recorder.events["weights"][-SENT:].tolist()


class Learned(NamedTuple):
    """Weights here, [..., POSTS, PRES]."""

    quarters: np.ndarray  # float32, [ROWS, ...]
    end: np.ndarray  # float64


def here(rules: Mapping[str, Rule], coincident: bool = False, steps: int = STEPS) -> dict[str, Learned]:
    """The weights of this project, of rules without a reward side by side."""
    return _run({name: _built(*rule.here) for name, rule in rules.items()}, None, (), 0, coincident, steps)


def rewarded() -> Learned:
    """The same under dopamine."""
    import neurosbd

    kind, constants = RULES["dopamine"].here
    times = tuple((n + 1) * 1e-3 for n in range(DOPAMINE_EVERY, STEPS - 1, DOPAMINE_EVERY))
    dopamine = neurosbd.Reinforcement(neurosbd.rewards["times"](times), amplitude=DOPAMINE, tau=1e-3 * TAU_N)
    rule = {"kind": "rstdp", "neuromodulator": {"baseline": 0.0}, "plasticity": {"kind": kind, **constants}}
    return _run({"dopamine": None}, rule, (dopamine,), 1, False, STEPS)["dopamine"]


def _built(kind: str, constants: Mapping[str, Any]) -> Any:
    import neurosbd
    from neurosbd.plasticity import Window

    made = {key: Window(**value) if key == "window" else value for key, value in constants.items()}
    return neurosbd.plasticities[kind](**made)


def _run(
    plasticities: Mapping[str, Any], rule: Any, rewards: Iterable[Any], late: int, coincident: bool, steps: int
) -> dict[str, Learned]:
    """A free run of relays and of neurons that only the given spikes bring to their threshold."""
    import torch

    import neurosbd

    neurons = neurosbd.neurons["relay"](), neurosbd.neurons["lif"](v_threshold=1e3, reset="to_value")
    names, dense = ("pre", "post"), neurosbd.connections["dense"]()
    populations = [neurosbd.Population(*each) for each in zip(names, ((PRES,), (POSTS,)), neurons, strict=True)]
    connections = [neurosbd.Connection(*names, dense, label=key, plasticity=each) for key, each in plasticities.items()]
    network = neurosbd.Network(populations, connections, torch.Generator(), 1e-3 * DT).double()
    for weight in network.weights.values():
        weight.data.copy_(torch.from_numpy(start()))
    with tempfile.TemporaryDirectory() as folder:
        stimuli = []
        for name, train, amplitude in zip(names, trains(coincident), (1.0, 2e3), strict=True):
            when, whose = np.nonzero(train[: steps - late])
            np.savez(f"{folder}/{name}.npz", times=1e-3 * DT * (when + late), units=whose)
            spikes = neurosbd.stimuli["spikes"](file=f"{folder}/{name}.npz", amplitude=amplitude)
            stimuli.append(neurosbd.Stimulation(name, spikes))
        run = neurosbd.run(
            network, 1e-3 * DT * steps, stimuli, rule, rewards=list(rewards), record=["*.weight"], out=f"{folder}/run",
            report=1e-3 * DT * (STEPS // ROWS),
        )  # fmt: skip
        shape = -1, POSTS, PRES
        return {
            key: Learned(run.trace[f"{name}.weight"][1:].reshape(shape), weight.detach().numpy())
            for key, (name, weight) in zip(plasticities, network.weights.items(), strict=True)
        }


def tired(name: str) -> "torch.Tensor":
    """What the last spikes of the first unit send here."""
    import torch

    from neurosbd.synapses import TsodyksMarkram

    utilisation, tau_rec, tau_fac = SHORT_TERM[name]
    short = TsodyksMarkram(utilisation, 1e-3 * tau_rec, 1e-3 * tau_fac)
    train = torch.from_numpy(trains()[0][:, :1])
    state, passed = short.init(train[:1]), []
    for arriving in train:
        what, state = short.step(state, arriving[None], 1e-3 * DT)
        passed.append(what[0, 0])
    return torch.stack(passed)[train[:, 0] > 0][-SENT:]


def kept() -> dict[str, Any]:
    """NEST's figures."""
    return json.loads(KEPT.read_text())


def compare() -> None:
    """Print the largest relative differences."""
    theirs = kept()
    ours = here({name: rule for name, rule in RULES.items() if name != "dopamine"}) | {"dopamine": rewarded()}
    for name, (quarters, end) in ours.items():
        whole = np.array(theirs[name])
        print(f"{name}: quarters {np.abs(quarters / whole - 1).max():.1e}, end {np.abs(end / whole[-1] - 1).max():.1e}")
    for name in SHORT_TERM:
        found = tired(name).numpy()
        for model in TIRING:
            print(f"{name}, {model}: {np.abs(found / theirs[f'{name}, {model}'] - 1).max():.1e}")


def main() -> None:
    """Print all figures of NEST, or how far ours are from them."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--here", action="store_true", help="compare this project with the file")
    if parser.parse_args().here:
        return compare()
    figures: dict[str, object] = {name: learned(rule) for name, rule in (RULES | APART).items()}
    figures["coincident"] = learned(APART["coincident"], coincident=True)
    for name, constants in SHORT_TERM.items():
        figures |= {f"{name}, {model}": sent(model, *constants) for model in TIRING}
    print(json.dumps(figures))


if __name__ == "__main__":
    main()
