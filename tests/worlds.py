"""Random scenarios: every kind of component, runtime, network, workflow and load, valid by construction.

Times are continuous, so that nothing happens at the same instant by chance. Polling makes it happen: branches that began
together are noticed at the same ticks.
"""

from typing import Any

from hypothesis import strategies as st

Data = dict[str, Any]

NODES = ("edge", "pod", "cloud")


def times(low: float, high: float) -> st.SearchStrategy[Data]:
    """Return a strategy for distributions of durations whose means lie between `low` and `high` seconds."""
    mean = st.floats(low, high).map(lambda seconds: f"{seconds:.6f} s")
    return st.one_of(
        mean.map(lambda text: {"exponential": {"mean": text}}),
        mean.map(lambda text: {"lognormal": {"mean": text, "cv": 0.8}}),
        mean.map(lambda text: {"gamma": {"mean": text, "cv": 0.5}}),
    )


def tokens(high: int) -> st.SearchStrategy[Any]:
    """Return a strategy for numbers of tokens, drawn or fixed."""
    return st.one_of(
        st.integers(0, high).map(lambda n: f"{n} tokens"),
        st.integers(1, high).map(lambda n: {"exponential": {"mean": f"{n} tokens"}}),
    )


def sizes(high: int) -> st.SearchStrategy[Any]:
    """Return a strategy for sizes."""
    return st.integers(0, high).map(lambda n: f"{n} B")


SHARES = st.sampled_from([0.0, 0.2, 0.5, 0.9])


def maybe(**fields: st.SearchStrategy[Any]) -> st.SearchStrategy[Data]:
    """Return a strategy for mappings of which each field may be missing."""
    return st.fixed_dictionaries({}, optional=fields)


SERVICE = {
    "concurrency": st.integers(1, 3),
    "rate": st.sampled_from(["1 / s", "5 / s"]),
    "burst": st.integers(1, 3),
    "invoke": times(0.01, 0.1),
    "request": sizes(2000),
    "response": sizes(2000),
    "errors": st.one_of(SHARES, st.fixed_dictionaries({"rate": SHARES, "after_error": SHARES})),
    "handling": st.fixed_dictionaries({"retry": st.integers(1, 3)}),
    "price": st.just("$0.01"),
    "node": st.sampled_from(NODES),
}


def service() -> st.SearchStrategy[Data]:
    """Return a strategy for tools."""

    def finish(given: tuple[Data, Data, int | None]) -> Data:
        required, optional, queue_limit = given
        if queue_limit is not None and "concurrency" in optional:
            optional = {**optional, "queue_limit": queue_limit}
        return {**required, **optional}

    return st.tuples(
        st.fixed_dictionaries({"latency": times(0.05, 1.0)}), maybe(**SERVICE), st.none() | st.integers(0, 3)
    ).map(finish)


LLM = st.builds(
    lambda required, optional: {"kind": "llm", **required, **optional},
    st.fixed_dictionaries({"overhead": times(0.05, 0.5), "replicas": st.integers(1, 3)}),
    maybe(
        prefill=st.just("0.1 ms / token"),
        decode=st.just("2 ms / token"),
        tokenize=st.just("0.01 ms / token"),
        speed=st.sampled_from([0.5, 1.0, 4.0]),
        prefix_cache=SHARES,
        queue_limit=st.integers(0, 4),
        restore=st.just({"overhead": "10 ms", "bandwidth": "1 MB/s"}),
        node=st.sampled_from(NODES),
    ),
)
API = st.builds(
    lambda required, optional: {"kind": "api", **required, **optional},
    st.fixed_dictionaries({"overhead": times(0.05, 0.5)}),
    maybe(
        new=st.just("0.1 ms / token"),
        cached=st.just("0.01 ms / token"),
        output=st.just("2 ms / token"),
        residual=st.just({"lognormal": {"median": 1, "p95": 2}}),
        cache_hit=SHARES,
        limits=maybe(requests=st.just("3 / s"), tokens=st.just("5k tokens / s"), concurrency=st.integers(1, 3)),
        price=st.just({"input": "$3 / 1M tokens", "output": "$15 / 1M tokens"}),
        node=st.sampled_from(NODES),
    ),
)
MEMORY = maybe(
    read=times(0.01, 0.1),
    write=times(0.01, 0.1),
    bandwidth=st.just("100 kB/s"),
    entry=sizes(3000),
    recall=tokens(50),
    concurrency=st.integers(1, 2),
    summarize=st.just({"model": "llm", "above": "300 tokens", "to": "60 tokens"}),
    node=st.sampled_from(NODES),
)
AGENT = st.builds(
    lambda required, optional: {**required, **optional},
    st.fixed_dictionaries({"model": st.sampled_from(["llm", "api"])}),
    maybe(
        prompt=st.integers(0, 200).map(lambda n: f"{n} tokens"),
        output=tokens(80),
        memory=st.just("memory"),
        retriever=st.just("library"),
        concurrency=st.integers(1, 3),
        node=st.sampled_from(NODES),
    ),
)
RUNTIME = st.builds(
    lambda preset, policies: {"preset": preset, **policies},
    st.sampled_from(["ideal", "stateless-api", "external-orchestrator", "session-state", "agent-native"]),
    maybe(
        state=st.sampled_from(["full", "delta", "resident"]),
        kv=st.sampled_from(["discard", "keep"]),
        connection=st.sampled_from(["new", "persistent", "in-process"]),
        codec=st.sampled_from(["json", "binary", "none"]),
        placement=st.sampled_from(["external", "own", "co-located"]),
        tools=st.sampled_from(["synchronous", "overlapped"]),
        notification=st.sampled_from(["polling", "event"]),
        dispatch=st.sampled_from(["every-step", "every-task", "none"]),
    ),
)
LINK = maybe(latency=times(0.001, 0.05), bandwidth=st.sampled_from(["20 kB/s", "1 MB/s"]), overhead=st.just("1 ms"))
ORCHESTRATOR = st.builds(
    lambda optional: {"node": "edge", "poll_interval": "37 ms", **optional},
    maybe(dispatch=times(0.001, 0.02), concurrency=st.integers(1, 2), assemble=st.just("1 us / token")),
)


class Steps:
    """Writes workflows: each block is a chain of steps that ends where it is told."""

    def __init__(self, draw: st.DrawFn, cancels: bool, prefix: str = "") -> None:
        self.draw = draw
        self.cancels = cancels
        self.prefix = prefix
        self.steps: Data = {}

    def name(self) -> str:
        """Return a fresh name."""
        return f"{self.prefix}s{len(self.steps)}"

    def block(self, after: str, depth: int, length: int) -> str:
        """Write `length` steps that go on to `after`; return the first."""
        for _ in range(length):
            after = self.step(after, depth)
        return after

    def step(self, after: str, depth: int) -> str:
        """Write one step of any kind that goes on to `after`; return it."""
        draw, name = self.draw, self.name()
        self.steps[name] = {}  # takes the name
        kinds = ["agent", "agent", "tool", "human", "evaluator", "choice", "retriever"]
        kind = draw(st.sampled_from([*kinds, *(["fork", "fork", "workflow"] if depth else [])]))
        extra: Data = draw(maybe(skip=st.sampled_from([0.1, 0.5])))
        if kind == "agent":
            step = {"agent": draw(st.sampled_from(["a", "b"])), "next": after, **draw(self.turns(after)), **extra}
        elif kind == "tool":
            step = {"tool": draw(st.sampled_from(["t", "u"])), "next": after, **extra}
        elif kind == "human":
            step = {"human": draw(times(0.1, 1.0)), "next": after, **extra}
        elif kind == "retriever":
            step = {"retriever": "library", "next": after, **extra}
        elif kind == "evaluator":
            again = self.block(name, 0, 1)
            step = {
                "evaluator": draw(st.sampled_from(["rule", "judge"])),
                "accepted": after,
                "rejected": again,
                "at_most": 3,
            }
        elif kind == "choice":
            other = self.block(after, 0, 1)
            step = {"tool": "t", "next": after if other == after else {after: 0.5, other: 0.5}}
        elif kind == "workflow":
            step = {"workflow": "sub", "next": after, **extra}
        else:
            step = self.fork(after, depth)
        self.steps[name] = step
        return name

    def turns(self, after: str) -> st.SearchStrategy[Data]:
        """Return a strategy for what an agent's step may say."""
        markov = {"start": {"t": 0.6, "u": 0.4}, "t": {"u": 0.5, "end": 0.5}, "u": {"t": 0.3, "none": 0.3, "end": 0.4}}
        return maybe(
            repeat=st.sampled_from([2, 3, {"geometric": {"mean": 2}}]),
            at_most=st.integers(1, 4),
            tools=st.sampled_from([{"t": 0.5, "u": 0.5}, {"t": 0.4, "none": 0.6}, {"markov": markov}]),
            calls=st.integers(1, 3),
            **({} if after == "done" else {"replan": st.just({after: 0.3})}),
        )

    def fork(self, after: str, depth: int) -> Data:
        """Return a fork of two or three branches, or of copies of one."""
        draw = self.draw
        copies = draw(st.booleans())
        branches = [
            self.block("done", depth - 1, draw(st.integers(1, 2)))
            for _ in range(1 if copies else draw(st.integers(2, 3)))
        ]
        step: Data = {"fork": branches, "next": after, "rest": "run on"}
        if copies:
            step["copies"] = draw(st.integers(0, 3))
        else:
            step["join"] = draw(st.sampled_from(["all", "any", 2]))
        if self.cancels:
            step["rest"] = draw(st.sampled_from(["cancel", "run on"]))
        return step


@st.composite
def worlds(draw: st.DrawFn, cancels: bool = True, ties: bool = True) -> Data:
    """Return a strategy for scenarios, as data: with branches that are cancelled or not.

    Without `ties` nothing lets two act at one instant: nobody polls, and no agent's slot that comes free lets in the next.
    """
    main, sub = Steps(draw, cancels), Steps(draw, cancels, "w")
    start = main.block("done", 2, draw(st.integers(1, 3)))
    inner = sub.block("done", 0, draw(st.integers(1, 2)))
    tools = {"t": draw(service()), "u": draw(service())}
    llm = draw(LLM)
    runtime: Data = draw(RUNTIME)
    agents: Data = {"a": draw(AGENT), "b": draw(AGENT)}
    if not ties:
        runtime["notification"] = "event"
        for agent in agents.values():
            agent.pop("concurrency", None)
    library: Data = draw(service())
    memory: Data = draw(MEMORY)
    return {
        "coordsim": 1,
        "name": "world",
        "seed": draw(st.integers(0, 99)),
        "runtime": runtime,
        "workload": {
            "arrivals": draw(
                st.sampled_from(
                    [{"poisson": "2 / s"}, {"closed": {"users": 3, "think": {"exponential": {"mean": "0.7 s"}}}}]
                )
            ),
            "request": draw(tokens(200)),
            **draw(st.sampled_from([{"tasks": 12}, {"tasks": 12, "drain": "2.5 s"}, {"horizon": "6 s"}])),
        },
        "agents": agents,
        "models": {"llm": llm, "api": draw(API)},
        "tools": tools,
        "memories": {"memory": memory},
        "retrievers": {"library": {**library, "passage": "20 tokens"}},
        "evaluators": {
            "rule": {"latency": draw(times(0.01, 0.1)), "accept": 0.6},
            "judge": {"model": "llm", "accept": 0.7, "prompt": "30 tokens", "output": "5 tokens"},
        },
        "orchestrator": draw(ORCHESTRATOR),
        "network": {
            "nodes": {node: {} for node in NODES},
            "links": [{"between": [a, b], **draw(LINK)} for a, b in (("edge", "pod"), ("pod", "cloud"))],
            "header": draw(sizes(300)),
            "loopback": draw(times(0.0001, 0.01)),
        },
        "workflow": {"start": start, "steps": main.steps},
        "workflows": {"sub": {"start": inner, "steps": sub.steps}},
        "max_steps": 60,
    }
