"""Traces: measured ledgers from files of other tools, and ledgers as files that their viewers open."""
