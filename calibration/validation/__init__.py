"""Prediction held against a real system on this machine: the system, its calibration, the protocol, and the replay of what it recorded."""
