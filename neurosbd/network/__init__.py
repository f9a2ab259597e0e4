"""Networks: populations and connections, how weights are stored, what is on its way, time in blocks."""
