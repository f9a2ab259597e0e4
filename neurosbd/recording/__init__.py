"""Recording: what a run is asked to remember, and the observer that takes it down."""

from neurosbd.recording.plan import Plan, RunExtent, plan
from neurosbd.recording.recorder import NullRecorder, Recorder, TrialRecorder
from neurosbd.recording.request import Request
from neurosbd.recording.signals import Recorded

__all__ = ["NullRecorder", "Plan", "Recorded", "Recorder", "Request", "RunExtent", "TrialRecorder", "plan"]
