"""Plasticity experiments: networks that run freely under stimuli, and protocols with trials of their own."""
