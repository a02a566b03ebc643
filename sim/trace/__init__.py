"""Traces: a run's spans in the formats that viewers open."""
