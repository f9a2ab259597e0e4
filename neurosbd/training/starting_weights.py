"""Starting from the weights of another run: of another rule, another data set, or for more epochs."""

import hashlib
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from neurosbd.errors import FROM, OUT, UsageError, warn
from neurosbd.files.parsing import JsonTable
from neurosbd.network.network import Network
from neurosbd.runs.run import CHECKPOINT, Run, open_run


@dataclass(frozen=True)
class Start:
    """The run that a run started from, as its config.json names it; it is not needed any more then.

    run: its directory.
    sha256: of its checkpoint.
    taught: outputs of the network that it has learned, so that they mean something whatever learns from now on.
    """

    run: str
    sha256: str
    taught: tuple[str, ...] = ()


def start_from(source: Run | str | Path, network: Network) -> Start:
    """Put the weights and moments of a run's last checkpoint into a network that has learned nothing.

    Where synapses are absent goes along with the weights. What else a checkpoint holds, of the optimizer, the rule and
    the position, stays behind. A readout of another size starts as it was drawn, which is said.

    Args:
        source: a run, or its directory.
        network: of the same populations and connections, up to the size of the readout; changed in place, unless
            something is refused.
    Raises:
        UsageError: if there is no run or no checkpoint, or a parameter is of another shape; names the first.
    """
    run = source if isinstance(source, Run) else open_run(source)
    path = run.path / CHECKPOINT
    if not path.is_file():
        raise UsageError(f"{run.path}: has no checkpoint, so there are no weights to start from; train it first")
    state = run.checkpoint().get("network")
    weights = state if isinstance(state, dict) else {}
    anew = _check(weights, network, run.path)
    network.take_lists(weights)
    with torch.no_grad():
        for name, here in network.state_dict().items():
            there = weights.get(name)
            if name in anew or name.startswith("constant:") or not isinstance(there, Tensor):
                continue
            if there.shape == here.shape:
                here.copy_(there)
    network.constrain()
    if anew:
        units, others = (len(each[anew[0]]) for each in (network.state_dict(), weights))
        warn(
            f"{run.path}: its readout has {others} units, and '{network.readout}' has {units}: {', '.join(anew)} "
            f"start as they were drawn, all other weights from the run"
        )
    with path.open("rb") as stream:
        return Start(
            str(run.path.resolve()), hashlib.file_digest(stream, "sha256").hexdigest(), _taught(run, network, anew)
        )


def _taught(run: Run, network: Network, anew: Collection[str]) -> tuple[str, ...]:
    """Outputs that a run has learned, but for a readout that starts as it was drawn; a run whose test had no loss has
    learned none."""
    if not any("test_loss" in line or any(f"test_{h}.loss" in line for h in network.heads) for line in run.metrics):
        return ()
    outputs = network.heads if anew else (network.readout, *network.heads)
    return tuple(name for name in outputs if name not in run.unjudged)


def recorded_start(config: JsonTable) -> Start | None:
    """What config.json says of the run that a run has started from; None: from none."""
    there = config.get("start")
    if not isinstance(there, dict):
        return None
    taught = there.get("taught")
    names = tuple(map(str, taught)) if isinstance(taught, list) else ()
    return Start(str(there.get("run")), str(there.get("sha256")), names)


def _check(weights: dict[str, Tensor], network: Network, path: Path) -> list[str]:
    """Refuse a checkpoint whose parameters are not those of a network; names of those of a readout of another size.
    Listed synapses may be other ones: their lists come along."""
    onto = [c.name for c in network.incoming[network.readout]]
    here = {name: tuple(parameter.shape) for name, parameter in network.named_parameters()}
    there = {
        name: tuple(value.shape)
        for name, value in weights.items()
        if name.startswith(("weights.", "biases.")) and isinstance(value, Tensor)
    }
    known = network.state_dict()
    lists = {name: key for name in here if (key := f"lists:{name.partition('.')[2]}:post") in known and key in weights}
    listed = {name for name, key in lists.items() if there.get(name) == tuple(weights[key].shape)}
    here, there = ({name: shape for name, shape in each.items() if name not in listed} for each in (here, there))
    anew = [
        name
        for name, shape in here.items()
        if name.partition(".")[2] in onto and name in there and there[name][1:] == shape[1:] and there[name] != shape
    ]
    for name in dict.fromkeys([*here, *there]):
        if here.get(name) != there.get(name) and name not in anew:
            in_it, in_this = (f"is {list(n[name])}" if name in n else "is not there" for n in (there, here))
            raise UsageError(
                f"{path}: is a run of another network: '{name}' {in_it} in it, and {in_this} in this model; start from "
                f"a run of a model with the same populations and connections"
            )
    bad = next((name for name in [*here, *listed] if not bool(weights[name].isfinite().all())), None)
    if bad is not None:
        raise UsageError(f"{path}: its '{bad}' holds NaN or infinity; start from another run")
    return anew


def check_same_start(config: dict[str, object], source: Run | str | Path, path: Path) -> None:
    """Refuse to go on with a run as if it had started from another one.

    Raises:
        UsageError: with the run that it did start from.
    """
    recorded = config.get("start")
    began = recorded.get("run") if isinstance(recorded, dict) else None
    asked = str((source.path if isinstance(source, Run) else Path(source)).resolve())
    if began != asked:
        told = f"started from {began}" if began else "started from no other run"
        raise UsageError(f"{path}: {told}, not from {asked}; resume it without {FROM}, or choose another {OUT}")
