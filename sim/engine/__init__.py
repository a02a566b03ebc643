"""The engine: errors, units, YAML with positions, draws, distributions, resources and the ledger."""
