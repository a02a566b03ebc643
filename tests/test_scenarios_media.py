"""The scenarios of media and documents: they answer their questions the way their comments say, and where the answer flips.

Leaves out: what every scenario must have (test_scenarios.py); how growth is fitted and judged (test_growth.py, test_scaling.py).
"""

import json
from collections import defaultdict
from functools import cache

import numpy as np
import pytest
from scipy.stats import t as student

from coordsim.models.bounds import bounds
from coordsim.models.perceive_step import PerceiveStep
from coordsim.models.scaling import make_plan
from coordsim.models.simulate import simulate
from coordsim.sim.analysis.result import Result

from .test_bands_cache import ratio
from .test_scenarios import mean_of, share, shipped

BARRIER = "{barrier: {}}"


# -- multimodal-copilot


@cache
def copilot(**changes: str) -> Result:
    """Return a run of the copilot; `look__` begins a field of the step that takes modalities in. All meet the same draws."""
    sets = {path.replace("look__", "workflow__steps__look__"): text for path, text in changes.items()}
    return simulate(shipped("multimodal-copilot", None, **sets))


def coordination(**changes: str) -> float:
    """Return the mean coordination of a copilot's task, in seconds."""
    return float(copilot(**changes).coordination.mean())


def bend(what: str, **changes: str) -> float:
    """Return how many times as much a copy of a modality adds between 4 and 16 copies as between 1 and 4."""
    one, four, many = (coordination(look__perceive=f"[{what}]", look__copies=str(n), **changes) for n in (1, 4, 16))
    return ((many - four) / 12) / ((four - one) / 3)


def test_the_copilot_has_all_kinds_of_modalities_and_all_mechanisms() -> None:
    """Five kinds, and a task waits, sends, encodes, aligns, prefills again, recovers, and is held up by the slowest."""
    scenario = shipped("multimodal-copilot")
    assert {one.kind for one in scenario.modalities.values()} == {"text", "vision", "audio", "video", "structured"}
    result = copilot()
    for category in ("communication", "serialization", "context", "synchronization", "queueing"):
        assert result.category(category).mean() > 0
    assert mean_of(result, "straggler_excess") > 0
    assert (
        mean_of(copilot(**{f"modalities__{one}__errors": "20 %" for one in ("screenshots", "speech")}), "retries") > 0
    )


def test_from_one_to_five_modalities_each_costs_as_much_as_the_next() -> None:
    """Over subsets in which each is equally often, two more add as much to one as to three, within 20 %."""
    step = shipped("multimodal-copilot").workflow.steps["look"]
    assert isinstance(step, PerceiveStep)
    names = list(step.perceive)
    turned = [[*names[at:], *names[:at]] for at in range(len(names))]
    one, three = (
        np.mean([coordination(look__perceive=json.dumps(order[:size])) for order in turned]) for size in (1, 3)
    )
    assert coordination() - three == pytest.approx(three - one, rel=0.2)


def test_many_copies_cost_more_than_in_proportion_and_pairs_are_a_cause() -> None:
    """Of 16 threads a further one costs over twice what the first few did; without pairs half as much, dearer ones bend it more."""
    plain = bend("thread")
    assert plain > 2
    assert bend("thread", look__align=BARRIER) < 0.6 * plain
    dearer, cheaper = (bend("thread", look__align__pairwise__each=each) for each in ("15 ms", "5 ms"))
    assert dearer > plain > cheaper


def test_pairs_of_what_comes_one_after_the_other_cost_less() -> None:
    """16 recordings share the uplink: the pairs of those that are there are aligned meanwhile, which hides over a tenth of it."""
    late, at_once = (
        copilot(look__perceive=f"[{what}]", look__copies="16").category("synchronization").mean()
        for what in ("recording", "thread")
    )
    assert late < 0.9 * at_once
    assert at_once == pytest.approx(16 * 15 / 2 * 0.010, rel=0.02)


def test_with_every_mechanism_off_the_number_of_copies_hardly_counts() -> None:
    """Without pairs, growth of the context, and a shared uplink 16 recordings take less than a tenth of what they add with."""
    off = {"look__align": BARRIER, "context__grows": "false", "network__links[0]__shared": "false"}
    off |= {"models__llm__replicas": "64", "models__llm__router": "session", "encoders__clip__replicas": "64"}
    one, many = ({"look__perceive": "[recording]", "look__copies": str(n)} for n in (1, 16))
    added = coordination(**many) - coordination(**one)
    assert coordination(**many, **off) - coordination(**one, **off) < 0.1 * added


# -- web-agent

KEEP = {"all": "all", "three": "{last: 3}", "summary": "{summary: 300 tokens}"}


@cache
def surfer(keep: str = "all", users: int = 12, tasks: int = 48, replication: int = 0, **more: str) -> Result:
    """Return a run of the web agent. Every policy meets the same draws."""
    changes = {"workflows__round__steps__look__keep": KEEP[keep], "workload__arrivals__closed__users": str(users)}
    return simulate(shipped("web-agent", tasks, **changes, **more), replication=replication)


def saved(keep: str, users: int, replications: int, tasks: int, **more: str) -> tuple[float, float]:
    """Return which share of T_total a policy saves against keeping all, and half the width of its 95 % interval."""
    pairs = [
        [surfer(one, users, tasks, number, **more).response_times.mean() for one in ("all", keep)]
        for number in range(replications)
    ]
    shares = [1 - other / kept for kept, other in pairs]
    half = student.ppf(0.975, replications - 1) * np.std(shares, ddof=1) / replications**0.5
    return float(np.mean(shares)), float(half)


def test_dropping_screenshots_changes_neither_the_steps_nor_what_is_seen() -> None:
    """Whatever is kept, the same tasks take the same steps and as many calls of model and browser."""
    kept, dropped = surfer(), surfer("three")
    for name in ("steps", "llm_calls", "tool_calls", "output_tokens"):
        # In order of size: whose next task comes first depends on who is done first.
        np.testing.assert_array_equal(np.sort(kept.fact(name)), np.sort(dropped.fact(name)))


def test_dropping_makes_the_cache_useless_and_the_context_short() -> None:
    """With all kept, over 80 % of tokens are found and hardly one is prefilled twice; with three, under 60 %, and over twice."""
    kept, dropped = surfer(), surfer("three")
    assert ratio(kept, "prefix_hit_share") > 0.8
    assert ratio(kept, "prefill_amplification") < 1.1
    assert ratio(dropped, "prefix_hit_share") < 0.6
    assert ratio(dropped, "prefill_amplification") > 2
    assert ratio(dropped, "kv_used_share") < 0.8 * ratio(kept, "kv_used_share")
    assert dropped.category("context").mean() > 10 * kept.category("context").mean()


def test_where_memory_suffices_dropping_costs_a_little() -> None:
    """With 24 agents to keep three takes longer beyond the interval of paired replications, but by less than a tenth."""
    share, half = saved("three", 24, replications=3, tasks=36)
    assert share + half < 0
    assert share > -0.1


def test_where_memory_runs_short_dropping_saves_much() -> None:
    """With 48 agents keeping all fills the memory, and each drives the others' KV out: to keep three saves over a tenth."""
    share, half = saved("three", 48, replications=3, tasks=72)
    assert share - half > 0.1
    kept, dropped = surfer("all", 48, 72), surfer("three", 48, 72)
    assert ratio(kept, "kv_used_share") > 2 * ratio(dropped, "kv_used_share")
    assert ratio(kept, "prefill_amplification") > ratio(dropped, "prefill_amplification")


def test_without_a_cache_dropping_saves() -> None:
    """With 12 agents and every prompt computed anew, to keep three saves a tenth and more, beyond the interval."""
    share, half = saved("three", 12, replications=3, tasks=24, runtime__kv="discard")
    assert share - half > 0.1


def test_to_summarize_at_each_look_costs_more_than_anything_it_saves() -> None:
    """With 12 agents a summary a look takes over a third longer, beyond the interval."""
    share, half = saved("summary", 12, replications=3, tasks=24)
    assert share + half < -1 / 3


def lag(**changes: str) -> float:
    """Return how many times as long calls 21 to 30 of 30 take as the first three, of an agent that is alone."""
    sets = {"workload__arrivals__closed__users": "1", "workflow__steps__browse__repeat": "30", **changes}
    calls = defaultdict(list)
    for span in simulate(shipped("web-agent", 12, **sets), spans="all").spans:
        if span.name == "chat":
            calls[span.task].append((span.start, span.end - span.start))
    times = np.array([[took for _, took in sorted(one)] for one in calls.values()])
    assert times.shape == (12, 30)
    return float(times[:, 20:].mean() / times[:, :3].mean())


def test_without_a_cache_late_steps_take_longer_than_early_ones() -> None:
    """Alone and computing every prompt anew, late calls take over 1.5 times as long as the first; less with a cache.

    Abhyankar et al., OSWorld-Human, 2025 (arXiv 2506.16042, abstract): a late step takes up to 3 times as long as an early
    one. More tokens a screenshot make it worse, fewer better.
    """
    anew = {
        tokens: lag(runtime__kv="discard", modalities__screenshot__tokens=f"{tokens} tokens")
        for tokens in (365, 729, 1094)
    }
    assert anew[729] > 1.5
    assert lag() < 1.5
    assert anew[365] < anew[729] < anew[1094]


def test_tokens_grow_with_the_square_of_the_steps_and_slower_where_screenshots_go() -> None:
    """From 16 to 32 rounds, the local exponent is near 2 with all kept; with three it is lower, since only text piles up."""
    exponents = {}
    for keep in ("all", "three"):
        sent = [
            sum(
                mean_of(surfer(keep, 1, 8, workflow__steps__browse__repeat=str(steps)), f"{what}_tokens")
                for what in ("new", "carried", "cached")
            )
            for steps in (16, 32)
        ]
        exponents[keep] = np.log2(sent[1] / sent[0])
    assert 1.7 < exponents["all"] < 2
    assert 1 < exponents["three"] < exponents["all"] - 0.2


def test_a_sweep_over_steps_is_one_over_rounds() -> None:
    """`coordsim scaling --over steps=...` sets how often the round is repeated."""
    (sweep,) = make_plan(shipped("web-agent"), ["steps=1..32"], ablate=False).sweeps
    assert sweep.path == "workflow.steps.browse.repeat"


@pytest.mark.parametrize("keep", KEEP)
def test_what_is_let_go_of_in_rounds_is_in_the_bounds(keep: str) -> None:
    """Worked out without a simulation, a task alone takes as long as in a run, within 5 %, whatever its rounds keep."""
    run = surfer(keep, 1, 60)
    found = bounds(shipped("web-agent", workflows__round__steps__look__keep=KEEP[keep]))
    assert found.visits["workflows.round.look"] == pytest.approx(12)
    assert sum(found.times.values()) == pytest.approx(run.response_times.mean(), rel=0.05)
    assert (found.times["context"] > 0.01 * found.response) == (keep != "all")


# -- document-rag


@cache
def rag(rate: float = 2.0, cores: int = 8, parse: str = "") -> Result:
    """Return a run of document-rag."""
    more = {"tools__parse__latency": parse} if parse else {}
    rate_text = f"{rate} / s"
    return simulate(
        shipped(
            "document-rag", 150, workload__arrivals__poisson=rate_text, network__nodes__host__cores=str(cores), **more
        )
    )


def named(result: Result, component: str, category: str) -> float:
    """Return the mean seconds a task spends on a component, of a category."""
    places = [i for i, one in enumerate(result.accounts) if (one.component, one.category) == (component, category)]
    return float(sum(result.account(place).mean() for place in places))


def test_as_load_rises_the_time_goes_to_waiting_for_cores() -> None:
    """Waiting for a core is under 6 % of T_total at 0.25 questions a second and over 15 % at 2; parsing itself takes as long."""
    waits = [named(rag(rate), "nodes.host.cpu", "queueing") for rate in (0.25, 1.0, 2.0)]
    assert waits == sorted(waits)
    assert waits[0] < 0.06 * rag(0.25).response_times.mean()
    assert waits[2] > 0.15 * rag().response_times.mean()
    assert named(rag(), "parse", "tool") == pytest.approx(named(rag(0.25), "parse", "tool"), rel=0.1)
    assert share(rag(0.25), "inference") > share(rag(0.25), "queueing")


def test_waiting_for_cores_bunches_tasks_at_the_model() -> None:
    """The same questions take less inference on 16 cores than on 8: those that waited reach the model together."""
    assert named(rag(cores=16), "llm", "inference") < 0.92 * named(rag(), "llm", "inference")


def test_twice_the_cores_save_much_under_load_and_nothing_without() -> None:
    """On 16 cores T_total is over 20 % less at 2 questions a second, and less than 5 % at 0.25."""
    assert rag(cores=16).response_times.mean() < 0.8 * rag().response_times.mean()
    assert rag(0.25, 16).response_times.mean() > 0.95 * rag(0.25).response_times.mean()


def test_cores_that_slow_one_another_down_are_not_enough() -> None:
    """With what was measured of work beside other work, pages take over a fifth longer, and a question over twice as long."""
    scenario = shipped("document-rag", 150, profile="[h100-sxm, cpu-reference]")
    slowed = simulate(scenario)
    assert named(slowed, "parse", "tool") > 1.2 * named(rag(), "parse", "tool")
    assert slowed.response_times.mean() > 2 * rag().response_times.mean()


def test_a_lighter_parser_saves_more_than_twice_the_cores() -> None:
    """With 10 ms a page in place of 0.43 s a question takes less on 8 cores than with the slow parser on 16."""
    light = rag(parse="{lognormal: {mean: 10 ms, cv: 0.5}}")
    assert light.response_times.mean() < 0.85 * rag(cores=16).response_times.mean()
