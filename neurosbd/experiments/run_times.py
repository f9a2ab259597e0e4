"""The times of a free run."""

from neurosbd.config.definition import Experiment
from neurosbd.errors import UsageError
from neurosbd.filters import whole_steps
from neurosbd.stimuli.stimulator import AHEAD

_MOST_STEPS = 2**31 - 1
_REPORTS = 20  # of a run that says nothing of them


class RunTimes:
    """The times of a free run in steps of dt.

    Args:
        experiment: with a simulation.
        plastic: whether weights move, or neurons that are adaptive.
    Raises:
        UsageError: if a time is no whole number of steps, or of updates or reports.
    """

    def __init__(self, experiment: Experiment, plastic: bool) -> None:
        spec, dt = experiment.definition.simulation, experiment.definition.time.dt
        assert spec is not None
        where = f"{experiment.definition.name}: simulation"
        try:
            self.steps = whole_steps(spec.duration, dt, f"{where}.duration")
            default = 1 if plastic else AHEAD  # where nothing moves, an update is as many steps as are made at once
            self.update = default if spec.update is None else whole_steps(spec.update, dt, f"{where}.update")
            self.normalise = None if spec.normalise is None else whole_steps(spec.normalise, dt, f"{where}.normalise")
            report = None if spec.report is None else whole_steps(spec.report, dt, f"{where}.report")
        except ValueError as problem:
            raise UsageError(str(problem)) from None
        if self.steps > _MOST_STEPS:
            raise UsageError(
                f"{where}.duration = {spec.duration:g} s has {self.steps:,} steps of dt = {dt:g} s; legal are "
                f"{_MOST_STEPS:,}: make it shorter, or time.dt longer"
            )
        self.update = min(self.update, self.steps)
        self.report = report or _report(self.steps, self.update if plastic else 1)
        for name, whole, of, part in (
            ("duration", self.steps, "report", self.report),
            ("report", self.report, "update", self.update),
            ("normalise", self.normalise or self.update, "update", self.update),
        ):
            if plastic and whole % part:
                low = whole // part * part
                raise UsageError(
                    f"{where}.{name} = {whole * dt:g} s is no whole number of {of}s of {part * dt:g} s; near it: "
                    f"{' and '.join(f'{n * dt:g}' for n in (low, low + part) if n)} s"
                )


def _report(steps: int, update: int) -> int:
    """Steps from one report to the next: as many reports as divide the run, up to 20."""
    count = next(n for n in range(_REPORTS, 0, -1) if (not steps % n and not (steps // n) % update) or n == 1)
    return steps // count
