"""Data sets: found, downloaded, decoded once, kept on the device as uint8 images or lists of events."""

from neurosbd.datasets.load import Dataset, load_data

__all__ = ["Dataset", "load_data"]
