"""Fits: from measured points to laws, chosen by their error on what they did not see."""

from .select import fit

__all__ = ["fit"]
