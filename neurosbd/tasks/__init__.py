"""Plasticity experiments: tasks that make their own trials, and protocols that take their own measurements."""

from collections.abc import Callable

from neurosbd.schema.namespace import is_table
from neurosbd.tasks.cursor import CursorControl
from neurosbd.tasks.delayed_xor import DelayedXor
from neurosbd.tasks.evidence import EvidenceAccumulation
from neurosbd.tasks.findings import Findings, Panel
from neurosbd.tasks.pairing import Pairing
from neurosbd.tasks.pattern import PatternGeneration
from neurosbd.tasks.task import Extent, Protocol, ProtocolTrial, Stage, Task, Teaching
from neurosbd.tasks.trial_sequence import TrialSequence

TASKS: dict[str, Callable[..., Task]] = {
    "evidence_accumulation": EvidenceAccumulation,
    "pattern_generation": PatternGeneration,
    "delayed_xor": DelayedXor,
}
is_table(__name__, TASKS)

PROTOCOLS: dict[str, Callable[..., Protocol]] = {
    "pairing": Pairing,
    "cursor_control": CursorControl,
}

__all__ = [
    "PROTOCOLS",
    "TASKS",
    "Extent",
    "Findings",
    "Panel",
    "Protocol",
    "ProtocolTrial",
    "Stage",
    "Task",
    "Teaching",
    "TrialSequence",
]
