"""Fits: from measured points to laws, chosen by their error on what they did not see."""

from .select import UNLIMITED, Limits, fit, held_out_errors

__all__ = ["UNLIMITED", "Limits", "fit", "held_out_errors"]
