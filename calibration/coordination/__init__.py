"""Probes of coordination: codecs, crossings of boundaries, processes, timers. They need no GPU."""
