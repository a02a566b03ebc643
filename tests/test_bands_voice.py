"""Published bands of a cascaded voice agent, and of what is handed over between its stages, and which way they move.

Source of the agent: Ethiraj et al., Toward Low-Latency End-to-End Voice Agents for Telecommunications (arXiv 2508.04721, 2025), the
table of times: means (least, most) in s of recognition 0.049 (0.029, 0.069), retrieval 0.008 (0.008, 0.012), the model's answer
0.670 (0.218, 1.706) with 0.106 to its first token and 80 tokens/s, synthesis 0.286 (0.106, 1.769). In all it measures 0.934 s, and
0.678 s to the first audio, which are no inputs here: they are what the mechanism has to give. The clock starts when speech is over.
Its model hands whole sentences on, which are spoken while it writes the next.

So an answer has (0.670 - 0.106) x 80 = 45 tokens, the shortest (0.218 - 0.106) x 80 = 9. Assumed: that the shortest is one
sentence and the mean two of equal length; that times of synthesis are of a whole answer, the least of the shortest one, and
consist of a fixed part for each sentence and one for each token. Two equations then give these: 81 ms and 2.74 ms.

Source of what a hand-over on one host costs: transfers logged by vLLM-Omni, 0.02 to 0.42 % of the time of a request, or about 0.5
to 1 ms and 2.5 to 4.5 ms for each MB (issues 602, 237, 375, 533, 749, 835, 1107 of vllm-project/vllm-omni; the law was read off
them here). There a stage sends to the next; here it answers whom it was called by, who calls the next: two messages, each of half
the fixed part. If each message cost all of it, the share would be 0.6 to 1.1 %.

Inputs are then taken half as large and half as large again, and the result must move the way the mechanism says.
Leaves out: silence at the end of speech, network and jitter buffer, which the source's clock leaves out too.
"""

from functools import cache

import pytest

from coordsim.models.simulate import simulate
from coordsim.sim.analysis.result import Result

from .scene import Data, accounts, fact, merged, named, scene, steps, total

FIRST_TOKEN, TOKENS_A_SECOND = 0.106, 80.0
RECOGNITION, RETRIEVAL = 0.049, 0.008
ANSWER, SHORTEST = (0.670 - FIRST_TOKEN) * TOKENS_A_SECOND, (0.218 - FIRST_TOKEN) * TOKENS_A_SECOND
SENTENCES = 2  # assumed
# SENTENCES x fixed + ANSWER x each = 0.286 and fixed + SHORTEST x each = 0.106
EACH = (0.286 - SENTENCES * 0.106) / (ANSWER - SENTENCES * SHORTEST)
FIXED = 0.106 - SHORTEST * EACH
INPUTS = {
    "recognition": RECOGNITION,
    "retrieval": RETRIEVAL,
    "first token": FIRST_TOKEN,
    "token": 1 / TOKENS_A_SECOND,
    "answer": ANSWER,
    "sentence": ANSWER / SENTENCES,
    "synthesis, fixed": FIXED,
    "synthesis, token": EACH,
}
DRAWN: Data = {  # between the least and the most of the source; of which kind is assumed
    "workload": {"tasks": 500},
    "agents": {"a": {"output": {"truncated": {"of": {"lognormal": {"mean": "45 tokens", "cv": 0.6}}, "low": "9 tokens", "high": "128 tokens"}}}},
    "tools": {"asr": {"latency": {"uniform": {"low": "29 ms", "high": "69 ms"}}}},
}  # fmt: skip


def agent(inputs: dict[str, float], *patches: Data, streaming: bool = True) -> Result:
    """Return a run of the voice agent: recognition after the utterance, retrieval, the model, and a voice for each sentence."""
    world: Data = {
        "tools": {
            "asr": {"latency": f"{inputs['recognition']} s"},
            "tts": {"latency": f"{inputs['synthesis, fixed']} s", "result": "0 tokens"},
        },
        "retrievers": {"docs": {"latency": f"{inputs['retrieval']} s"}},
        "agents": {"a": {"output": f"{round(inputs['answer'])} tokens"}},
        "models": {"llm": {"overhead": f"{inputs['first token']} s", "decode": f"{inputs['token']} s / token"}},
    }
    stages = [
        {"tool": "asr"},
        {"retriever": "docs"},
        {"agent": "a", "chunk": f"{inputs['sentence']} tokens"},
        {"tool": "tts", "per_unit": f"{inputs['synthesis, token']} s"},
    ]
    for patch in patches:
        world = merged(world, patch)
    return simulate(scene(world, steps("talk", talk={"pipeline": stages, "streaming": streaming})), spans="none")


def measured(result: Result) -> tuple[float, float]:
    """Return the mean time of a turn, and to its first audio."""
    tasks = range(len(result.rows))
    return (
        sum(total(result, task) for task in tasks) / len(tasks),
        sum(fact(result, "ttfa", task) for task in tasks) / len(tasks),
    )


@cache
def times(name: str = "", factor: float = 1.0) -> tuple[float, float]:
    """Return the time of a turn, and to its first audio, with one of the inputs changed by a factor."""
    inputs = dict(INPUTS)
    if name:
        inputs[name] *= factor
    return measured(agent(inputs))


def test_a_cascaded_voice_agent_takes_as_long_as_was_measured() -> None:
    """0.8 to 1.1 s in all, and 0.65 to 0.8 of that to the first audio; also with answers of any length."""
    for whole, first in (times(), measured(agent(INPUTS, DRAWN))):
        assert 0.8 <= whole <= 1.1
        assert 0.65 <= first / whole <= 0.8


def test_it_is_shorter_than_its_stages_together() -> None:
    """The stages of the source sum to 1.013 s; without streaming it takes that, and nothing is heard before the end.

    But for the fixed part of the one synthesis that is left out then.
    """
    whole, first = measured(agent(INPUTS, streaming=False))
    assert whole == first == pytest.approx(0.049 + 0.008 + 0.670 + 0.286 - FIXED, abs=2e-3)
    streamed, heard = times()
    assert heard < streamed < 0.049 + 0.008 + 0.670 + 0.286
    assert heard < first


@pytest.mark.parametrize(
    ("name", "all_of", "first"),
    [
        ("recognition", 1.0, 1.0),
        ("retrieval", 1.0, 1.0),
        ("first token", 1.0, 1.0),
        ("synthesis, fixed", 1.0, 1.0),
        ("synthesis, token", 0.5, 0.5),
        ("token", 1.0, 0.5),
        ("answer", 1.0, 0.0),
        ("sentence", 0.0, 1.0),
    ],
)
def test_each_input_moves_it_the_way_the_mechanism_says(name: str, all_of: float, first: float) -> None:
    """Half and half again of an input: what is before the first sentence moves both times, the rest of the answer the end only.

    `all_of` and `first` tell how strongly the end and the first audio must follow: 1 in full, 0.5 in part, 0 not.
    """
    ends = [times(name, factor)[0] for factor in (0.5, 1.0, 1.5)]
    heard = [times(name, factor)[1] for factor in (0.5, 1.0, 1.5)]
    if all_of:
        assert ends[0] < ends[1] < ends[2]
    if first:
        assert heard[0] < heard[1] < heard[2]
    change = INPUTS[name]
    if name in ("recognition", "retrieval", "first token"):
        assert [ends[2] - ends[0], heard[2] - heard[0]] == pytest.approx([change, change])
    if name == "synthesis, fixed":
        assert heard[2] - heard[0] == pytest.approx(change)
    if name == "token":
        assert ends[2] - ends[1] == pytest.approx(45 * change / 2)
        assert (
            ends[1] - ends[0] < 45 * change / 2
        )  # so fast, the voice is still at the first sentence when the second is there
        assert heard[2] - heard[0] == pytest.approx(23 * change)
    if name == "answer":
        assert heard[1] == heard[2] == pytest.approx(heard[0])  # the first sentence is as long
    if name == "sentence":
        ratios = [times(name, factor)[1] / times(name, factor)[0] for factor in (0.5, 1.0, 1.5)]
        assert ratios[0] < ratios[1] < ratios[2]


# What is handed over

SPOKEN = 3.0  # seconds of speech of the person; assumed
HEARD = 16_000 * 2  # bytes of a second of it: 16 kHz, 16 bit
VOICED = 24_000 * 2 * 0.25  # bytes of speech for a token: 24 kHz, 16 bit, 4 tokens a second; assumed


def on_one_host(fixed: float, slope: float) -> Result:
    """Return a run in which every stage is a process of its own; a hand-over takes `fixed` ms and `slope` ms for each MB.

    The boundary takes the fixed part, half at each of its two messages; encoding and decoding share the other.
    """
    half = {"bandwidth": f"{2000 / slope} MB/s"}
    world: Data = {
        "runtime": {"preset": "ideal", "connection": "persistent", "codec": "logged", "state": "full"},
        "serializers": {"logged": {"encode": half, "decode": half}},
        "network": {"loopback": f"{fixed / 2} ms"},
        "context": {"bytes_per_token": "4 B / token"},
        "workload": {"request": "1k tokens"},
        "tools": {
            "asr": {"request": f"{HEARD * SPOKEN} B"},
            "tts": {"response": f"{round(VOICED * ANSWER / SENTENCES)} B"},
        },
    }
    return agent(INPUTS, world)


def transferred(result: Result) -> float:
    """Return the share of a turn that is communication and serialization."""
    moved = sum(
        seconds for one, seconds in accounts(result).items() if one.category in ("communication", "serialization")
    )
    return moved / total(result)


def test_handing_over_on_one_host_is_less_than_a_hundredth() -> None:
    """Of the turn, over all of the law that was logged; more for each hand-over, or for each byte of it, is more."""
    shares = [transferred(on_one_host(fixed, 3.5)) for fixed in (0.5, 0.75, 1.0)]
    assert 0.003 < shares[0] < shares[1] < shares[2] < 0.01
    slopes = [transferred(on_one_host(1.0, slope)) for slope in (2.5, 3.5, 4.5)]
    assert slopes[0] < slopes[1] < slopes[2] < 0.01
    assert transferred(on_one_host(2.0, 3.5)) > 0.01


def test_what_is_handed_over_is_what_the_law_says() -> None:
    """On the path: to recognition with the speech, and back, retrieval, the prompt, then text and sound of the last sentence."""
    result = on_one_host(1.0, 3.5)
    assert fact(result, "messages") == 2 + 2 + 1 + 2 + 2 * 2
    text = 4 * ANSWER / SENTENCES
    seconds = 8 * 0.5e-3 + 3.5e-9 * (HEARD * SPOKEN + 4 * 1000 + VOICED * ANSWER / SENTENCES + text)
    moved = sum(named(result, name) for name in ("transit", "encode", "decode"))
    assert moved == pytest.approx(seconds, rel=1e-3)
    assert transferred(result) == pytest.approx(moved / total(result))
