"""What an agentic system is made of, one kind a file, and the scenario that puts it together.

A component's file holds its frozen spec and its process side by side; the table of kinds names every one of them.
"""
