"""Analyses of runs: what they must offer, how they are drawn, the page that shows them."""

from neurosbd.report.lists import matrix_of_list
from neurosbd.report.panels import COLOURS, panels
from neurosbd.report.quantities import quantity_field
from neurosbd.report.record_axis import RecordAxis, epochs, label_axis, place_in_words
from neurosbd.report.smoothing import batches_learned, smoothed, start_and_end
from neurosbd.schema.units import shown_unit

__all__ = [
    "COLOURS", "RecordAxis", "batches_learned", "epochs", "label_axis", "matrix_of_list", "panels", "place_in_words",
    "quantity_field", "shown_unit", "smoothed", "start_and_end",
]  # fmt: skip
