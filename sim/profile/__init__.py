"""Profiles: what calibration measured, and what runs read: laws of latency by size, with their source and their error."""
