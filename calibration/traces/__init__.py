"""Fits of traces: from measured tasks to the numbers of a scenario."""
