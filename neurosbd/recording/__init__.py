"""Recording: what a run is asked to remember, and the observer that takes it down. Layer 3."""

from neurosbd.recording.plan import Course, Plan, plan
from neurosbd.recording.recorder import Recorder, Unwatched, Watch
from neurosbd.recording.request import Request
from neurosbd.recording.signals import Subject

__all__ = ["Course", "Plan", "Recorder", "Request", "Subject", "Unwatched", "Watch", "plan"]
