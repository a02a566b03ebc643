"""How calls and tasks fail: the exceptions that carry it from where it happens to whoever handles it.

Leaves out: what is done about it (`guard`, `recovery`).
Checked: tests/test_guard.py.
"""

__all__ = ["CallFailed", "TaskFailed"]


class CallFailed(Exception):
    """An attempt at a call has failed.

    `kind` is one of `handling.FAILURES`; `reason` tells what happened at which component. `answer` are the tokens that an error was
    answered with, None where nothing came back.
    """

    def __init__(self, kind: str, reason: str, answer: float | None = None) -> None:
        super().__init__(reason)
        self.kind = kind
        self.reason = reason
        self.answer = answer
        self.since = 0.0  # when the attempt began (s)
        self.known = 0  # how much had struck the call before the attempt
        self.over: float | None = None  # when it was cut off (s), which a branch may have run ahead of
        self.cause: int | None = None  # what it was put down to


class TaskFailed(Exception):
    """A task cannot go on; its text is the reason that results count it under."""
