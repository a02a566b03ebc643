"""Retrievers: look up passages before an agent thinks.

A lookup is a service call whose result is `top_k` passages of `passage` tokens; its time is tool time.
Leaves out: the embedding of the query by a model (give it as a model call of its own step).
Checked: tests/test_tools.py.
"""

from typing import Any

from pydantic import model_validator

from ..sim.engine.spec import Count, Tokens
from .service import ServiceSpec


class Retriever(ServiceSpec):
    """A service that returns `top_k` passages of `passage` tokens each; or give `result` as for a tool."""

    top_k: Count = 5
    passage: Tokens | None = None

    @model_validator(mode="before")
    @classmethod
    def _passages(cls, data: Any) -> Any:
        if isinstance(data, dict) and "passage" in data and "result" in data:
            raise ValueError("must give `passage` (times `top_k`) or `result`, not both")
        return data

    @property
    def tokens(self) -> float | None:
        """Tokens of a result, where passages say it."""
        return None if self.passage is None else self.top_k * self.passage
