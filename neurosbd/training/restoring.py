"""What a checkpoint must be before a session takes it up: nothing in it is used that could not be from this run."""

from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

from torch import Tensor
from torch.optim import Optimizer

from neurosbd.errors import UsageError, warn
from neurosbd.files.checkpoints import StateDict, check
from neurosbd.learning.optimizer_step import learned_parameters
from neurosbd.learning.optimizers import OptimizerChoice, optimizer_state
from neurosbd.network.network import Network
from neurosbd.recording import Recorder

if TYPE_CHECKING:
    from neurosbd.training.session import Session

PARTS = ("network", "learner", "optimizer", "schedule", "epoch", "number", "tally", "recorder")


def verify(session: "Session", state: StateDict, path: Path) -> None:
    """Compare a checkpoint with a session that has not begun: every key, type, shape and range.

    Raises:
        UsageError: naming what cannot be from this run. The session is as it was.
    """
    lacking = [part for part in PARTS if part not in state]
    if lacking:
        raise UsageError(f"{path}: the checkpoint has no '{lacking[0]}'; it was changed, or another program wrote it")
    done = _position(session, state, path)
    own = session.state_of_parts()
    for part in ("network", "learner", "tally"):
        check(state[part], own[part], path, part)
    check_finite(state["network"], session.network, path)
    check_optimizer(state["optimizer"], session.optimizer, session.experiment.optimizer, done, path)
    check_schedule(state["schedule"], own["schedule"], done, path)
    if not session.ranks.rank:  # rank 0 alone records
        check_recorder(state["recorder"], session.recorder, path)
    if session.stopping is not None:
        session.stopping.verify(state.get("stop"), state["epoch"], path)
    if session.pruning is not None:
        check(state.get("pruning"), session.pruning.state_dict(), path, "pruning")
    if session.sparing is not None:
        check(state.get("sparing"), session.sparing.state_dict(), path, "sparing")
    if session.changes is not None and "epoch_began" in state:
        check(state["epoch_began"], session.changes.state_dict(), path, "epoch_began")
    elif session.changes is not None and state["number"]:
        warn(f"{path}: has no weights of when its epoch began: the weight_change of this epoch counts from here")


def refuse(path: Path, where: str, given: object, legal: str) -> NoReturn:
    """Say what in a checkpoint was changed, and what it can only be here."""
    raise UsageError(f"{path}: the checkpoint was changed: {where} is {str(given)[:60]}; here it can only be {legal}")


def _position(session: "Session", state: StateDict, path: Path) -> int:
    """Batches done."""
    epochs, batches = session.definition.training.epochs, len(session.batches)
    _check_count(path, "epoch", state["epoch"], epochs)
    _check_count(path, "number", state["number"], 0 if state["epoch"] == epochs else batches)
    return state["epoch"] * batches + state["number"]


def _check_count(path: Path, where: str, given: object, most: int) -> None:
    if type(given) is not int or not 0 <= given <= most:
        refuse(path, where, given, f"a whole number in 0..{most}")


def check_finite(given: dict[str, Tensor], network: Network, path: Path) -> None:
    """No run writes a checkpoint of weights that are not finite."""
    for name, _ in network.named_parameters():
        if not given[name].isfinite().all():
            refuse(path, f"network.{name}", "not finite", "finite: no run writes a checkpoint of other weights")


def check_schedule(given: StateDict, own: StateDict, done: int, path: Path) -> None:
    """As a schedule is here after so many batches."""
    check(given, own, path, "schedule")
    if given.get("last_epoch", done) != done:
        refuse(path, "schedule.last_epoch", given["last_epoch"], f"{done}, the batches done")


def check_optimizer(given: StateDict, optimizer: Optimizer, choice: OptimizerChoice, done: int, path: Path) -> None:
    """Groups as here but for their rates; for each parameter what this optimizer remembers, laid out like it.

    Args:
        given: as read.
        optimizer: that would take it.
        choice: what it was built of.
        done: steps that it can have made.
        path: of the checkpoint.
    Raises:
        UsageError: naming what cannot be from this run.
    """
    own = optimizer.state_dict()
    if not isinstance(given, dict) or given.keys() != own.keys() or not isinstance(given["state"], dict):
        refuse(path, "optimizer", type(given).__name__, "the state of a torch optimizer")
    check(given["param_groups"], own["param_groups"], path, "optimizer.param_groups")
    for number, (there, here) in enumerate(zip(given["param_groups"], own["param_groups"], strict=True)):
        for key, value in here.items():
            if (key == "lr" and there[key] < 0) or (key != "lr" and there[key] != value):
                legal = "at least 0" if key == "lr" else value
                refuse(path, f"optimizer.param_groups.{number}.{key}", there[key], str(legal))
    parameters = [p.detach() for p in learned_parameters(optimizer)]
    kept = optimizer_state(choice)
    if given["state"] and not (kept and done):  # a rule may leave weights at rest, which then have none
        refuse(path, "optimizer.state", f"of {len(given['state'])} parameters", f"what {done} batches leave")
    for number, entry in given["state"].items():
        if type(number) is not int or not 0 <= number < len(parameters):
            refuse(path, "optimizer.state", repr(number), f"of parameters 0..{len(parameters) - 1}")
        where, parameter = f"optimizer.state.{number}", parameters[number]
        each = {key for key, value in kept.items() if isinstance(value, Tensor) and value.ndim}
        check(entry, {key: parameter if key in each else value for key, value in kept.items()}, path, where)
        for key, value in entry.items():
            if key in each and _steps(value) != _steps(parameter):
                refuse(path, f"{where}.{key}", f"laid out by {value.stride()}", f"laid out by {parameter.stride()}")
            if isinstance(value, Tensor) and key not in each and not 0 <= value.item() <= done:
                refuse(path, f"{where}.{key}", value.item(), f"in 0..{done}")


def _steps(tensor: Tensor) -> list[int]:
    """How a tensor lies in memory: the strides of the axes that have any length."""
    return [step for n, step in zip(tensor.shape, tensor.stride(), strict=True) if n > 1]


def check_recorder(given: StateDict, recorder: Recorder | None, path: Path) -> None:
    """Rows of every clock that the file holds, and those that waited."""
    if recorder is None:
        if given is not None:
            refuse(path, "recorder", type(given).__name__, "None: nothing is recorded")
        return
    gatherings = recorder.gatherings
    like = {"rows": [0] * len(gatherings), "pending": [gathering.state_dict() for gathering in gatherings]}
    check(given, like, path, "recorder")
    for number, (gathering, pending) in enumerate(zip(gatherings, given["pending"], strict=True)):
        parts = {**pending, **pending["values"]}
        lengths = {len(part) for name, part in parts.items() if name != "values"}
        if len(lengths) > 1 or max(lengths) > gathering.length:
            legal = f"of one length in 0..{gathering.length}"
            refuse(path, f"recorder.pending.{number}", f"of lengths {sorted(lengths)}", legal)
        _check_count(path, f"recorder.rows.{number}", given["rows"][number], 2**62)
