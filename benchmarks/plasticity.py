"""One step of reward-modulated STDP, 256 onto 256 units, batch 32: here, in BindsNET and in SpikingJelly.

    python benchmarks/plasticity.py [--json] [--threads 1] [--repeats 10] [--python /path/to/python/with/the/peers]

Every library gets the same Poisson spikes on both sides and one reward per example, and makes one step of its own
reward-modulated rule: traces, eligibility, weight change. Ours keeps an eligibility per example and synapse
([32, 256, 256], as a late reward needs); where a library's eligibility rule fails for more than one example, that is
reported, and its rule without eligibility is timed instead. Each runs in its own process and is timed by blocks of 100
steps, whose means are given as median (quartiles), since our steps are not all alike. BindsNET imports torchvision for
its data sets; where that cannot be loaded a stand-in takes its place.
"""

import argparse
import itertools
import json
import os
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from importlib import metadata
from typing import Any

from in_bindsnet import without_environments

BATCH, UNITS, DENSITY = 32, 256, 0.05
BLOCK = 100  # steps

Step = Callable[[], object]


def spikes() -> tuple[Any, Any, Any]:
    """Pre and post spikes [B, n], reward [B]."""
    import torch

    generator = torch.Generator().manual_seed(0)
    pre, post = ((torch.rand(BATCH, UNITS, generator=generator) < DENSITY).float() for _ in range(2))
    return pre, post, torch.rand(BATCH, generator=generator) - 0.5


def neurosbd() -> dict[str, Step]:
    """The rules as the learner runs them, with their gradient applied by SGD."""
    return {
        "rstdp, eligibility per example": _ours("rstdp"),
        "rstdp, reward every 100 steps": _ours("rstdp", every=100),
        "stdp, no reward": _ours("stdp"),
    }


def _ours(name: str, every: int = 1) -> Step:
    """A step of the rule, with a reward at one of `every` steps."""
    import torch

    from neurosbd.connections import Dense
    from neurosbd.learning.batch import Batch
    from neurosbd.learning.local_run import LocalRun
    from neurosbd.learning.observers import Watchers
    from neurosbd.learning.passes import Run
    from neurosbd.learning.rule_state import init_rule_state
    from neurosbd.network.blocks import block_of
    from neurosbd.network.network import Connection, Frame, Network, Population, State
    from neurosbd.neuromodulators.neuromodulator import Broadcast
    from neurosbd.neurons import LIF
    from neurosbd.neurons.neuron import Activity
    from neurosbd.rules import RULES, LocalRule

    pre, post, reward = spikes()
    generator = torch.Generator().manual_seed(0)
    populations = [Population("input", (UNITS,), None), Population("output", (UNITS,), LIF())]
    network = Network(populations, [Connection("input", "output", Dense())], generator)
    rule = RULES[name](readout="rule")
    assert isinstance(rule, LocalRule)
    run = Run(network, None, Batch(pre[None]), Watchers(), None)
    local = LocalRun(rule, init_rule_state(network, rule, None, generator), run)
    state = network.init(pre, generator).state
    optimizer = torch.optim.SGD(network.parameters(), lr=1e-3)
    steps = itertools.count(1)

    @torch.no_grad()
    def step() -> None:
        activity = {"output": Activity(post, post)}
        given = None if next(steps) % every else reward
        broadcast = Broadcast(post.new_empty((len(post), 0)), reward=given)
        local.learn(block_of(state, Frame(State(state.neurons, {}), activity, {"input->output": pre})), broadcast)
        optimizer.step()
        optimizer.zero_grad()

    return step


def bindsnet() -> dict[str, Step]:
    """MSTDPET, MSTDP and PostPre on a Connection."""
    import torch

    without_environments()
    from bindsnet.learning import MSTDP, MSTDPET, PostPre  # pyright: ignore[reportMissingImports]
    from bindsnet.network.nodes import Input, LIFNodes  # pyright: ignore[reportMissingImports]
    from bindsnet.network.topology import Connection  # pyright: ignore[reportMissingImports]

    pre, post, reward = spikes()

    def made(rule: Any, given: Any) -> Step:
        source, target = Input(n=UNITS, traces=True), LIFNodes(n=UNITS, traces=True)
        source.set_batch_size(BATCH)
        target.set_batch_size(BATCH)
        source.dt = target.dt = torch.tensor(1.0)
        connection = Connection(source, target, update_rule=rule, nu=(1e-4, 1e-2), wmin=-1.0, wmax=1.0)
        connection.update_rule.connection = connection
        source.compute_decays(1.0)
        target.compute_decays(1.0)
        source.s, target.s = pre.bool(), post.bool()
        source.x, target.x = torch.rand(BATCH, UNITS), torch.rand(BATCH, UNITS)
        connection.dt = 1.0
        return lambda: connection.update(reward=given, learning=True, mask=None, dt=1.0)

    same = float(reward.mean())
    return {
        "MSTDPET, reward per example": made(MSTDPET, reward),
        "MSTDP, reward per example": made(MSTDP, reward),
        "MSTDPET, one reward for all": made(MSTDPET, same),
        "MSTDP, one reward for all": made(MSTDP, same),
        "PostPre, no reward": made(PostPre, same),
    }


def spikingjelly() -> dict[str, Step]:
    """MSTDPETLearner and MSTDPLearner on a Linear."""
    import torch
    from spikingjelly.activation_based import learning, neuron  # pyright: ignore[reportMissingImports]

    pre, post, reward = spikes()

    def made(kind: Any, **constants: Any) -> Step:
        synapse = torch.nn.Linear(UNITS, UNITS, bias=False)
        learner = kind("s", synapse, neuron.IFNode(), tau_pre=20.0, tau_post=20.0, **constants)
        optimizer = torch.optim.SGD(synapse.parameters(), lr=1e-3)

        def step() -> None:
            with torch.no_grad():
                learner.in_spike_monitor.records.append(pre)
                learner.out_spike_monitor.records.append(post)
                learner.step(reward, on_grad=True)
            optimizer.step()
            optimizer.zero_grad()

        return step

    return {
        "MSTDPETLearner": made(learning.MSTDPETLearner, tau_trace=500.0),
        "MSTDPLearner": made(learning.MSTDPLearner),
    }


LIBRARIES: dict[str, Callable[[], dict[str, Step]]] = {
    "neurosbd": neurosbd,
    "bindsnet": bindsnet,
    "spikingjelly": spikingjelly,
}


def work(name: str, repeats: int) -> dict[str, Any]:
    """Time every rule of a library in this process: ms per step, median block, or why it fails."""
    results: dict[str, Any] = {"version": metadata.version(name), "rules": {}}
    for rule, step in LIBRARIES[name]().items():
        try:
            for _ in range(5):
                step()
            times = []
            for _ in range(repeats):
                start = time.perf_counter()
                for _ in range(BLOCK):
                    step()
                times.append(1e3 * (time.perf_counter() - start) / BLOCK)
        except Exception as problem:  # a peer's failure is a result
            results["rules"][rule] = {"failed": f"{type(problem).__name__}: {str(problem).splitlines()[0][:120]}"}
        else:
            quarter = statistics.quantiles(times, n=4)
            results["rules"][rule] = {"ms": statistics.median(times), "low": quarter[0], "high": quarter[2]}
    return results


def run(name: str, options: argparse.Namespace) -> dict[str, Any]:
    """A library in its own process."""
    python = sys.executable if name == "neurosbd" else options.python
    environment = {**os.environ, "OMP_NUM_THREADS": str(options.threads)}
    told = subprocess.run(
        [python, "-W", "ignore", __file__, "--work", name, "--repeats", str(options.repeats)],
        capture_output=True, text=True, env=environment, check=False,
    )  # fmt: skip
    if told.returncode:
        return {"failed": told.stderr.strip().splitlines()[-1][:160] if told.stderr.strip() else "no message"}
    return json.loads(told.stdout.splitlines()[-1])


def main() -> None:
    """Run all and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--repeats", type=int, default=10, help="blocks of 100 steps, at least 2")
    parser.add_argument("--python", default=sys.executable, help="interpreter that has the peers")
    parser.add_argument("--work", choices=list(LIBRARIES), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.work:
        print(json.dumps(work(options.work, options.repeats)))
        return
    results = {name: run(name, options) for name in LIBRARIES}
    if options.json:
        print(json.dumps(results, indent=1))
        return
    print(f"python {platform.python_version()}, torch {metadata.version('torch')}, {options.threads} threads")
    ours = results["neurosbd"]["rules"]["rstdp, eligibility per example"]["ms"]
    for name, result in results.items():
        if "failed" in result:
            print(f"{name}: {result['failed']}")
            continue
        for rule, figures in result["rules"].items():
            if "failed" in figures:
                print(f"{name} {result['version']:8} {rule:32} fails: {figures['failed']}")
            else:
                spread = f"({figures['low']:.2f} - {figures['high']:.2f})"
                ratio = f"{figures['ms'] / ours:6.1f} times ours"
                print(f"{name} {result['version']:8} {rule:32} {figures['ms']:8.2f} ms {spread:18} {ratio}")


if __name__ == "__main__":
    main()
