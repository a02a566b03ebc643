"""Imports: measurements made by others, read into the points that fits take."""
