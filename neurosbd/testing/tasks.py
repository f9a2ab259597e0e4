"""What every task and protocol keeps: trials that a network can be shown, figures of merit, a run of the size said."""

import math
from collections.abc import Iterator, Mapping
from pathlib import Path

import torch

from neurosbd.connections import Dense
from neurosbd.learning.batch import Batch, BatchResult
from neurosbd.learning.meters import LossMeter
from neurosbd.learning.rule import Rule
from neurosbd.learning.simulation import unroll
from neurosbd.losses import LOSSES
from neurosbd.network.network import Connection, Frame, Network, Population
from neurosbd.neurons import NEURONS
from neurosbd.recording import NullRecorder
from neurosbd.rules import RULES
from neurosbd.tasks import Protocol, Task, TrialSequence
from neurosbd.tasks.findings import Findings, Panel
from neurosbd.testing.judging import DT, Check, Make, demand, identical, seeded

EXAMPLES = 8
INPUTS = (2, 1, 3, 10, 100)  # of the networks that a protocol is tried on


def trials_fit_a_network(make: Make) -> None:
    """As many steps and units as it says, finite, on the CPU, from the generator alone.

    Must fail when a trial has a step less than `steps` (tried).
    """
    task = make()
    steps, (inputs, outputs) = task.steps(DT), task.sizes()
    demand(isinstance(steps, int) and steps >= 1, f"`steps` must be a number of steps, 1 or more, got {steps!r}")
    demand(min(inputs, outputs) >= 1, f"`sizes` must be units of input and readout, 1 or more, got {inputs}, {outputs}")
    there = torch.get_rng_state()
    one, two = (_shown(task.batch(EXAMPLES, DT, seeded())) for _ in range(2))
    identical(torch.get_rng_state(), there, "Trials are drawn from the global generator, not from the one given")
    identical(one[0], two[0], "The same generator makes trials with other inputs the second time")
    identical(one[1], two[1], "The same generator makes trials with other targets the second time")
    sentence = f"`steps` and `sizes` promise inputs {[steps, EXAMPLES, inputs]}, but a batch has {list(one[0].shape)}"
    demand(list(one[0].shape) == [steps, EXAMPLES, inputs], sentence)
    demand(torch.isfinite(one[0]).all(), "An input is not finite")
    demand(one[0].device.type == one[1].device.type == "cpu", "A batch must be made on the CPU")
    batch = task.batch(EXAMPLES, DT, seeded())
    size = batch.target.shape[1] if batch.target.ndim == 3 else len(batch.target)
    demand(size == EXAMPLES, f"Targets {list(batch.target.shape)} are not those of {EXAMPLES} examples")


def _shown(batch: Batch) -> tuple[torch.Tensor, torch.Tensor]:
    """All frames of a batch, [T, B, inputs], and its targets."""
    return torch.stack([frame.clone() for frame in batch.inputs]), batch.target


def success_is_a_share(make: Make) -> None:
    """Of every example, 0..1, for a network that has learned nothing; with figures of merit and a picture."""
    task = make()
    batch = task.batch(EXAMPLES, DT, seeded())
    result, outputs = _answered(task, batch)
    success = task.success(batch, result)
    demand(success.ndim == 1 and len(success) in (1, EXAMPLES), f"`success` must be [B] or [1]: {list(success.shape)}")
    demand(bool(((success >= 0) & (success <= 1)).all()), f"`success` must be in 0..1, got {success.tolist()}")
    for mean in (0.0, 0.5, 1.0):
        _check_measures(task.measures(mean), f"`measures` of a mean success of {mean:g}")
    _check_panel(task.picture(batch, outputs, DT))


def _answered(task: Task, batch: Batch) -> tuple[BatchResult, torch.Tensor]:
    """What an untrained network answers, and its output at every step."""
    inputs, outputs = task.sizes()
    populations = [Population("input", (inputs,), None), Population("output", (outputs,), NEURONS["li"]())]
    network = Network(populations, [Connection("input", "output", Dense())], seeded(), DT)
    loss = LOSSES["cross_entropy" if batch.target.ndim == 1 else "squared_error"]()
    meter, shown = LossMeter(batch, loss, network), []

    def keep(t: int, frame: Frame) -> None:
        shown.append(frame.activity["output"].value)

    with torch.no_grad():
        unroll(network, batch.frames(), (meter, keep), generator=seeded())
    return meter.result(), torch.stack(shown)


def _check_measures(measures: Mapping[str, object], whose: str) -> None:
    demand(measures, f"{whose} are none")
    for name, value in measures.items():
        number = isinstance(name, str) and isinstance(value, float) and math.isfinite(value)
        demand(number, f"{whose} must be finite floats by name, got {name!r}: {value!r}")


def _check_panel(panel: Panel) -> None:
    demand(isinstance(panel, Panel), f"A picture must be a Panel, got {type(panel).__name__}")
    demand(panel.lines, f"The panel '{panel.title}' has no lines")
    for label, (x, y) in panel.lines.items():
        demand(len(x) == len(y), f"Line '{label}' of the panel has {len(x)} x and {len(y)} y")
    strange = set(panel.points) - set(panel.lines)
    demand(not strange, f"`points` names lines that are none: {', '.join(sorted(strange))}")


TASK_CHECKS: tuple[Check, ...] = (trials_fit_a_network, success_is_a_share)


def check_task(make: Make) -> None:
    """Everything that the contract of a task promises; see `check_neuron`."""
    for check in TASK_CHECKS:
        check(make)


def _apparatus() -> Iterator[tuple[Network, Rule]]:
    """Networks of inputs onto one spiking unit, under the rules that a protocol can drive, and one with a cursor."""
    for inputs in INPUTS:
        for name in ("stdp", "rstdp", "rmax"):
            unit = NEURONS["escape" if name == "rmax" else "lif"]()
            populations = [Population("input", (inputs,), None), Population("output", (1,), unit)]
            rule = RULES[name](readout="rule")
            yield Network(populations, [Connection("input", "output", Dense())], seeded(), DT), rule
    yield _moving(), RULES["rflo"]()


def _moving() -> Network:
    """Four inputs onto recurrent rates, read by two outputs whose synapses stay as they are."""
    populations = [
        Population("input", (4,), None),
        Population("hidden", (6,), NEURONS["leaky_rate"]()),
        Population("output", (2,), NEURONS["identity"]()),
    ]
    connections = [
        Connection("input", "hidden", Dense(), plastic=False),
        Connection("hidden", "hidden", Dense()),
        Connection("hidden", "output", Dense(), plastic=False),
    ]
    return Network(populations, connections, seeded(), DT)


def protocol_runs_as_far_as_it_says(make: Make, network: Network | None = None, rule: Rule | None = None) -> None:
    """As many trials as `extent` says are recorded, the same findings twice and after a stop, finite measures, drawable
    panels.

    Must fail when a trial more is recorded than `extent` says, or when a trial depends on something that is kept
    outside of the network and the generator (tried: both).
    """
    protocol = make()
    extent = protocol.extent(DT)
    for name in ("trials", "steps", "examples"):
        number = getattr(extent, name)
        demand(isinstance(number, int) and number >= 1, f"`extent.{name}` must be 1 or more, got {number!r}")
    network, rule = (network, rule) if network is not None and rule is not None else _accepted(protocol)
    stages = protocol.stages(DT)
    there = sum(len(stage.recorded) for stage in stages)
    demand(there == extent.trials, f"{there} trials are recorded, but `extent` says {extent.trials} trials")
    start = {name: value.clone() for name, value in network.state_dict().items()}
    one, two = (_carried_out(make, network, rule, start) for _ in range(2))
    _check_measures(one.measures, "Measures")
    sentence = "A second run from the same weights and generator finds something else"
    demand(dict(one.measures) == dict(two.measures), sentence)
    for panel in one.panels:
        _check_panel(panel)
    stopped = _carried_out(make, network, rule, start, stop=sum(stage.trials for stage in stages) // 2)
    demand(
        dict(one.measures) == dict(stopped.measures),
        "A run that goes on from a checkpoint finds something else: what trials depend on is the number, the network "
        "and the generator alone",
    )


def _accepted(protocol: Protocol) -> tuple[Network, Rule]:
    """The first network and rule that it can be carried out on."""
    reason = ""
    for network, rule in _apparatus():
        try:
            protocol.check(network, rule)
        except ValueError as problem:
            reason = str(problem)
            continue
        return network, rule
    raise AssertionError(
        f"`check` refuses every network of {', '.join(map(str, sorted(INPUTS)))} inputs onto one spiking unit under "
        f"stdp, rstdp and rmax (the last reason: {reason}); if it needs another one, call "
        f"neurosbd.testing.check_protocol(make, network, rule)"
    )


def _carried_out(
    make: Make, network: Network, rule: Rule, start: Mapping[str, torch.Tensor], stop: int = 0
) -> Findings:
    """What all trials come to; after so many of them the rest is carried out from the checkpoint, by others."""
    sequence = _sequence(make(), network, rule, start)
    for _ in range(stop):
        sequence.advance(_unwatched)
    if stop:
        state = sequence.state_dict()
        kept = {name: value.clone() for name, value in state["network"].items()}
        sequence = _sequence(make(), network, rule, start)
        sequence.load_state_dict({**state, "network": kept}, Path("memory"))
    while not sequence.over:
        sequence.advance(_unwatched)
        sentence = "A trial must come to a number for each of `measured`"
        demand(len(sequence.found[-1]) == len(sequence.protocol.measured), sentence)
    return sequence.findings()


def _sequence(protocol: Protocol, network: Network, rule: Rule, start: Mapping[str, torch.Tensor]) -> TrialSequence:
    """That has not begun."""
    network.load_state_dict(start)
    named = protocol.extent(network.dt).loss
    loss = None if named is None else LOSSES[named]()
    return TrialSequence(protocol, network, rule, loss, lambda net: torch.optim.SGD(net.parameters(), 1e-3), seeded())


def _unwatched(number: int, batch: Batch) -> NullRecorder:
    return NullRecorder()


PROTOCOL_CHECKS: tuple[Check, ...] = (protocol_runs_as_far_as_it_says,)


def check_protocol(make: Make, network: Network | None = None, rule: Rule | None = None) -> None:
    """Everything that the contract of a protocol promises; see `check_neuron`.

    Args:
        make: gives the protocol.
        network: that it is carried out on; none: two inputs or more onto one spiking unit.
        rule: what changes its synapses; none: the first of stdp, rstdp and rmax that it takes.
    """
    protocol_runs_as_far_as_it_says(make, network, rule)
