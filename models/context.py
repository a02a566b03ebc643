"""What a task carries from step to step: its context in tokens and bytes, and who has processed how much of it.

A token is new the first time a model server processes it for this task; prefilling it again is carried work (`context`).

Checked: tests/test_context.py.
"""

import copy
from collections.abc import Hashable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .run_state import Run

FACTS = (
    "steps", "llm_calls", "tool_calls", "tool_errors", "retries", "messages", "bytes", "new_tokens", "carried_tokens",
    "cached_tokens", "output_tokens", "cost", "straggler_excess", "straggler_coordination", "ttft",
    "wrong_guesses", "ttfa", "pieces", "late_pieces", "lost_pieces",
    "degraded", "barge_ins", "agent_messages", "state_bytes",
    "timeouts", "hedges", "fallbacks", "escalations", "wasted", "duplicates", "restarts", "compensations", "wrong",
)  # fmt: skip
(
    STEPS, LLM_CALLS, TOOL_CALLS, TOOL_ERRORS, RETRIES, MESSAGES, BYTES, NEW_TOKENS, CARRIED_TOKENS,
    CACHED_TOKENS, OUTPUT_TOKENS, COST, STRAGGLER_EXCESS, STRAGGLER_COORDINATION, TTFT,
    WRONG_GUESSES, TTFA, PIECES, LATE_PIECES, LOST_PIECES,
    DEGRADED, BARGE_INS, AGENT_MESSAGES, STATE_BYTES,
    TIMEOUTS, HEDGES, FALLBACKS, ESCALATIONS, WASTED, DUPLICATES, RESTARTS, COMPENSATIONS, WRONG,
) = range(len(FACTS))  # fmt: skip


@dataclass(slots=True)
class Brought:
    """What a visit of a step brought into the context: `tokens` from `start` on. `slot` is the step's."""

    slot: int
    start: float
    tokens: float


class Media:
    """An input that is itself part of the prompt: its bytes beyond what its tokens weigh, `size`, at token `start`.

    `sent` is the server that it has been brought to, whose next call is the one it came with; -1 once there was one.
    Branches that share it share this object.
    """

    __slots__ = ("sent", "size", "start")

    def __init__(self, start: float, size: float, sent: int) -> None:
        self.start = start
        self.size = size
        self.sent = sent


class Context:
    """The state of one branch of a task.

    `tokens` of context; `seen[server]` of them processed by that server; `cached[agent]` tokens of prefix left behind by
    that agent's last call (its prompt included, 0 before the first); `known[agent]` tokens of context at that call.
    """

    # Defaults on the class, so that beginning a task sets only what differs.
    tokens = 0.0
    base = 0.0  # tokens when this branch began: what lies above is its own
    saved = 0.0  # tokens that checkpoints hold
    home = 0  # where control is
    last_tool = ""
    last_error = False
    struck = 0  # faults that come in runs: a bit for each whose last draw here went wrong
    slow = 1.0  # the factor of the time of the model call under way
    again = 0  # added to the ordinals of draws while a call is made another time
    replayed = 0.0  # output tokens of a call, replayed from a trace
    # The model call under way: tokens, the share of its time that is context, when it reached the server.
    new = carried = reused = output = received = share = submitted = 0.0
    ordinal = 0
    run: "Run | None" = None  # of the trunk of a task that may begin again, or be cut off
    parent: "Context | None" = None  # of a parallel branch: the context it began with
    # What the context consists of, where a server keeps it: keys of its contents, and at which token each begins.
    segments: tuple[tuple[Hashable, float], ...] = ()
    brought: tuple[Brought, ...] = ()  # by this branch, where a step keeps only some of it
    media: tuple[Media, ...] = ()  # that a prompt holds itself, in the order of their tokens
    # What the joins on the critical path of this branch cost: last minus mean of their branches (s), in all and in coordination.
    excess = excess_coordination = 0.0

    def __init__(self, servers: int, callers: int, memories: int, homes: int) -> None:
        self.seen = [0.0] * servers
        self.cached = [0.0] * callers
        self.known = [0.0] * callers
        self.prompted = [False] * callers
        self.memory = [0.0] * memories  # bytes
        self.held = [0.0] * homes  # tokens of context that each home has

    def fork(self) -> "Context":
        """Return the context of a parallel branch: a copy, which then grows on its own."""
        child = Context(0, 0, 0, 0)
        child.parent = self
        child.tokens = child.base = self.tokens
        for name in ("seen", "cached", "known", "prompted", "memory", "held"):
            setattr(child, name, getattr(self, name)[:])
        child.home, child.last_tool, child.last_error = self.home, self.last_tool, self.last_error
        child.struck = self.struck
        child.replayed, child.saved = self.replayed, self.saved
        child.segments = self.segments
        if self.media:
            child.media = self.media
        return child

    def snapshot(self) -> "Context":
        """Return the context of a trunk as it is now, to go back to."""
        twin = copy.copy(self)
        for name in ("seen", "cached", "known", "prompted", "memory", "held"):
            setattr(twin, name, getattr(self, name)[:])
        twin.brought = tuple(replace(one) for one in self.brought)
        twin.media = tuple(Media(one.start, one.size, one.sent) for one in self.media)
        return twin

    def consists_of(self, blocks: Sequence[Hashable], size: float) -> None:
        """The context is made of these blocks of `size` tokens, the last maybe of fewer; what follows is the task's own."""
        own = self.segments[0][0]
        named = [(("hash", block), place * size) for place, block in enumerate(blocks)]
        self.segments = (*named, (own, self.tokens))

    def diverge(self, key: Hashable) -> None:
        """What this branch adds from now on is called `key`: no other has it."""
        if self.segments:
            self.segments = (*self.segments, (key, self.tokens))

    def hear(self, server: int) -> None:
        """`server` is about to process what others have sent to this branch (nothing, but to a member of a team)."""

    def claim(self, server: int, caller: int) -> tuple[float, bool]:
        """Return the tokens that `server` has seen, and whether the caller's prompt is new to it, parallel branches included.

        What this branch shares with those beside it, it is now the first to send: for them it will be carried.
        """
        self.hear(server)
        seen, fresh = self.seen[server], not self.prompted[caller]
        branch, above, base = self, self.parent, self.base
        while above is not None:
            above.hear(server)
            base = min(base, branch.base)
            seen = max(seen, min(above.seen[server], base))
            above.seen[server] = max(above.seen[server], base)
            fresh = fresh and not above.prompted[caller]
            above.prompted[caller] = True
            branch, above = above, above.parent
        return seen, fresh

    def detach(self) -> None:
        """The join is over: a branch that runs on knows what the others have shown to the servers, and no more of them."""
        if self.parent is not None:
            self.seen = [
                max(own, min(shown, self.base)) for own, shown in zip(self.seen, self.parent.seen, strict=True)
            ]
            self.parent = None

    def replace(self, tokens: float, server: int, prompts: list[float]) -> None:
        """A summary of `tokens`, written by `server`, takes the place of the context; callers' `prompts` stay cached."""
        self.tokens = tokens
        if self.segments:
            self.segments = ((("summary", self.segments[-1][0]), 0.0),)
        self.saved = 0.0
        self.brought = ()
        self.media = ()
        self.parent = None  # nothing is left in common with the branches beside it
        self.cached = [min(cached, prompt) for cached, prompt in zip(self.cached, prompts, strict=True)]
        self.seen = [0.0] * len(self.seen)
        self.seen[server] = tokens
        self.known = [0.0] * len(self.known)
        self.held = [0.0] * len(self.held)

    def embed(self, size: float, server: int) -> None:
        """What is brought next is itself part of the prompt, `size` bytes more than its tokens; it was sent to `server`."""
        self.media = (*self.media, Media(self.tokens, size, server))

    def resend(self, server: int) -> float:
        """Return the bytes that a full prompt to `server` holds beyond its tokens, but for what came with this very call."""
        size = 0.0
        for one in self.media:
            if one.sent == server:
                one.sent = -1
            else:
                size += one.size
        return size

    def bring(self, slot: int, start: float) -> None:
        """Note that what lies behind the first `start` tokens came at a visit of the step of that slot."""
        self.brought = (*self.brought, Brought(slot, start, self.tokens - start))

    def drop(self, one: Brought, prompts: Sequence[float], key: Hashable) -> None:
        """What a visit brought leaves the context; see `cut`."""
        self.brought = tuple(other for other in self.brought if other is not one)
        if one.tokens:
            self.cut(one.start, one.tokens, prompts, key)

    def cut(self, start: float, tokens: float, prompts: Sequence[float], key: Hashable) -> None:
        """So many `tokens` from `start` on leave the context; what lay behind them moves up, and is called `key` from then on.

        What a server has processed of it stays processed, but no cache of it is valid beyond `start`, and whoever knew it must be
        sent it again. `prompts` are the callers' own. Of a parallel branch only what it has itself added can leave.
        """
        end = start + tokens
        self.tokens -= tokens
        self.seen = [min(seen, start) + max(0.0, seen - end) for seen in self.seen]
        self.cached = [min(cached, prompt + start) for cached, prompt in zip(self.cached, prompts, strict=True)]
        self.known = [min(known, start) for known in self.known]
        self.held = [min(held, start) for held in self.held]
        self.saved = min(self.saved, start)
        if self.segments:
            self.segments = (*(one for one in self.segments if one[1] < start), (key, start))
        for one in self.brought:
            if one.start >= end:
                one.start -= tokens
        if self.media:
            self.media = tuple(
                one if one.start < start else Media(one.start - tokens, one.size, one.sent)
                for one in self.media
                if not start <= one.start < end
            )

    def join(self, children: list["Context"], prompts: Sequence[float]) -> None:
        """Take in what parallel branches added: their tokens follow one another, in the order of the branches.

        What a caller's call in a branch left in the cache stays valid as far as the context before it is the same: up
        to the fork, and in the first branch beyond it. `prompts` are the callers' own.
        """
        base = self.tokens
        for position, child in enumerate(children):
            for caller, prompt in enumerate(prompts[: len(self.cached)]):
                cached, known = child.cached[caller], child.known[caller]
                if position:
                    cached, known = min(cached, prompt + base), min(known, base)
                self.cached[caller] = max(self.cached[caller], cached)
                self.known[caller] = max(self.known[caller], known)
        for server in range(len(self.seen)):
            own = max((min(child.seen[server], base) for child in children), default=0.0)
            added = sum(max(0.0, child.seen[server] - base) for child in children)
            self.seen[server] = max(self.seen[server], own) + added
        saved = max((min(child.saved, base) for child in children), default=0.0)
        self.saved = max(self.saved, saved) + sum(max(0.0, child.saved - base) for child in children)
        for agent in range(len(self.prompted)):
            self.prompted[agent] = self.prompted[agent] or any(child.prompted[agent] for child in children)
        for memory in range(len(self.memory)):
            before = self.memory[memory]  # a branch that summarized has less than that: then the shortest is kept
            kept = min((child.memory[memory] for child in children), default=before)
            self.memory[memory] = min(kept, before) + sum(max(0.0, child.memory[memory] - before) for child in children)
        if any(child.media for child in children):
            self._join_media(children)
        self.tokens += sum(max(0.0, child.tokens - base) for child in children)
        if children and self.segments:  # the first branch's goes on, and the others' follow it
            first = children[0]
            self.segments = first.segments
            self.tokens, whole = first.tokens, self.tokens
            self.diverge(("joined", children[-1].segments[-1][0]))
            self.tokens = whole
        if children:
            self.last_error = children[-1].last_error  # calls made at once follow one another, too

    def _join_media(self, children: Sequence["Context"]) -> None:
        """Take in the media that branches have added, which lie where their tokens will."""
        base = end = self.tokens
        known, found = set(map(id, self.media)), list(self.media)
        for child in children:
            found += [
                Media(end + max(0.0, one.start - base), one.size, one.sent)
                for one in child.media
                if id(one) not in known
            ]
            end += max(0.0, child.tokens - base)
        self.media = tuple(found)
