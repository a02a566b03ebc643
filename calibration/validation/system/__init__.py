"""The system under test: a small agent system of real processes on the loopback."""
