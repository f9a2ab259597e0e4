"""One word for one thing: names that no longer stand in identifiers, and what is there now (docs/ideas.md)."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parents[1] / "neurosbd"
GONE = {
    "Heard": "Broadcast, Receiver", "Scored": "Broadcast", "felt": "output_drive_score", "judge": "score_of",
    "Trial": "Batch", "trial_of": "batch", "Account": "LossMeter", "Tally": "MetricSums", "tally": "metric_sums",
    "lessons": "batches", "Lessons": "BatchSource", "course": "extent", "Course": "RunExtent",
    "blank": "init_rule_state", "followers": "ruled_populations", "memories": "moments",
    "Witness": "LearningObserver", "witness": "learning_observer", "Watch": "TrialRecorder",
    "Unwatched": "NullRecorder",
    "Subject": "Recorded", "Moment": "StepView", "Kind": "SignalKind", "Strip": "SeriesRows", "whats": "signal_names",
    "Law": "PredictiveDistribution", "Lawful": "HasDistribution", "Forecasting": "HasProbabilities",
    "law": "distribution",
    "Own": "CustomLoss", "Another": "CompanionScore", "give": "register", "unheard": "silent_moments",
    "merits": "measures", "carry_out": "run", "settle": "after_step", "keep_up": "regularise_weights",
    "Waiting": "PendingEligibility", "hearing": "activity_filter", "tau_activity": "activity_filter",
    "Presentation": "Stimulus", "presentation_of": "stimulus_of", "Borrowed": "ForeignSurrogate",
    "settles": "acts_after_step", "unsettled": "moments_pending", "Directly": "DirectUpdate", "Planned": "NetworkPlan",
    "read_given": "read_in_memory", "given_of": "data_in_memory",
    "run_experiment": "simulate", "remember": "set_moments", "adapted": "update", "at_rest": "with_moments",
}  # fmt: skip
FOREIGN = {"interchange/adapter.py": {"memories"}}  # as SpikingJelly calls what its nodes keep


def identifiers(path: Path) -> Iterator[tuple[str, int]]:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Name):
            yield node.id, node.lineno
        elif isinstance(node, ast.Attribute):
            yield node.attr, node.lineno
        elif isinstance(node, ast.arg):
            yield node.arg, node.lineno
        elif isinstance(node, ast.FunctionDef | ast.ClassDef):
            yield node.name, node.lineno
        elif isinstance(node, ast.keyword) and node.arg:
            yield node.arg, node.value.lineno


@pytest.mark.parametrize("path", sorted(PACKAGE.rglob("*.py")), ids=lambda p: str(p.relative_to(PACKAGE)))
def test_words_that_are_gone_stay_gone(path: Path) -> None:
    allowed = FOREIGN.get(str(path.relative_to(PACKAGE)), set())
    found = [
        f"{path}:{line} '{name}': {GONE[name]}" for name, line in identifiers(path) if name in GONE.keys() - allowed
    ]
    assert not found, found
