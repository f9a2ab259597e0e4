"""Analyses of runs: what they must offer, how they are drawn, the page that shows them. Layer 4."""

from neurosbd.report.courses import batches_learned, smoothed, start_and_end
from neurosbd.report.measured import measured
from neurosbd.report.panels import COLOURS, panels

__all__ = ["COLOURS", "batches_learned", "measured", "panels", "smoothed", "start_and_end"]
