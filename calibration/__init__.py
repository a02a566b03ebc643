"""Where the numbers come from: probes, fits, imports and validation against real systems.

Writes profiles, which runs read by name from `profiles/`; no run imports anything of this package. Probes of kernels
need the `calibrate` extra (torch), and import it when they are started.
"""
