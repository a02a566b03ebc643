"""Modalities: what they are on the wire, how they are prepared, and how many tokens they make."""

import pytest

from coordsim.models.scenario import Scenario
from coordsim.sim.engine.errors import ScenarioError

from .scene import Data, accounts, chain, fact, named, parts, run, scene, total

NETWORK: Data = {
    "network": {
        "nodes": {"phone": {}, "home": {}, "pod": {}, "cloud": {}},
        "links": [
            {"between": ["phone", "home"], "latency": "10 ms"},
            {"between": ["phone", "pod"], "latency": "3 ms", "bandwidth": "1 MB/s"},
            {"between": ["home", "cloud"], "latency": "2 ms"},
            {"between": ["pod", "cloud"], "latency": "1 ms", "bandwidth": "10 MB/s"},
        ],
        "header": "400 B",
    },
    "orchestrator": {"node": "home", "dispatch": "0 s"},
    "models": {"llm": {"kind": "llm", "node": "cloud"}},
}


def world(**more: object) -> Data:
    """Return the patch of a world whose tasks bring an image of 600 kB from a phone."""
    image = {"kind": "vision", "encoder": "enc", "node": "phone", "bytes": "300 kB", "amount": 2, **more}
    return {
        "runtime": {"preset": "session-state", "codec": "none"},
        "modalities": {"image": image},
        "encoders": {"enc": {"latency": "1 ms", "node": "pod"}},
        **chain(("see", {"perceive": ["image"]})),
    }


def test_an_input_goes_from_its_source_to_its_encoder_and_what_that_makes_to_the_model() -> None:
    """600 kB and a header at 1 MB/s, then 200 kB at 10 MB/s: no detour over where the orchestrator is."""
    result = run(world(representation="100 kB"), NETWORK)
    seconds = {one.component: s for one, s in accounts(result).items() if one.name == "transmit"}
    assert seconds == {"network.phone->pod": pytest.approx(0.6004), "network.pod->cloud": pytest.approx(0.02004)}
    assert named(result, "transit") == pytest.approx(0.003 + 0.001)
    assert fact(result, "bytes") == 600e3 + 200e3 + 2 * 400
    assert fact(result, "messages") == 2


@pytest.mark.parametrize("own", [True, False])
def test_base64_in_json_is_four_thirds_of_what_is_sent_in_binary(own: bool) -> None:
    """Four characters for three bytes (RFC 4648), and a header, by the modality's own serializer as by the runtime's."""
    text = {"profile": "cpu-reference", "runtime": {"preset": "session-state", "codec": "binary" if own else "base64"}}
    patch = world(serializer="base64") if own else world()
    result = run(patch, NETWORK, text)
    sent = fact(result, "bytes") - 400  # the representation's header
    assert sent == pytest.approx(600e3 * 4 / 3 + 400)
    binary = run(world(serializer="binary"), NETWORK, text)
    assert fact(binary, "bytes") - 400 == pytest.approx(600e3 + 400)
    coded = {one.name for one in accounts(result) if one.category == "serialization" and one.component == "image"}
    assert coded == {"encode", "decode"}
    assert parts(result)["serialization"] > parts(binary)["serialization"]


def test_text_needs_no_encoder() -> None:
    """Records go to the model's node as they are, are parsed there, and become tokens of its prompt."""
    rows = {"kind": "structured", "bytes": "1 kB", "tokens": "40 tokens", "amount": 50, "node": "phone"}
    rows["preprocess"] = {"per_unit": "1 ms"}
    patch = world() | {"modalities": {"image": rows}}
    flow = chain(("see", {"perceive": ["image"]}), ("work", {"agent": "a"}))
    result = run(patch, NETWORK, flow)
    assert fact(result, "new_tokens") == 2000
    assert named(result, "preprocess") == pytest.approx(0.05)
    assert {one.component for one in accounts(result) if one.name == "transmit"} == {
        "network.phone->pod",
        "network.pod->cloud",
    }


def test_tokens_follow_the_amount() -> None:
    """Images of 2.5 tiles in the mean make 2.5 times the tokens of a tile, rounded once per input; no input brings fewer than none."""
    patch = world(amount={"uniform": {"low": 0, "high": 5}}, tokens="7 tokens") | {
        "runtime": "ideal",
        "workload": {"arrivals": {"deterministic": "0.001 / s"}, "tasks": 400},
    }
    result = run(patch, NETWORK, chain(("see", {"perceive": ["image"]}), ("work", {"agent": "a"})), spans="none")
    tokens = [fact(result, "new_tokens", task) for task in range(400)]
    assert all(count == int(count) and 0 <= count <= 35 for count in tokens)
    error = 7 * 5 / 12**0.5 / 400**0.5
    assert abs(sum(tokens) / 400 - 17.5) < 3.2905 * error


def test_a_new_connection_shakes_hands_first() -> None:
    """Where connections are new for each call, an input's goes through its handshakes, too: two round trips of the route."""
    new = {"runtime": {"preset": "stateless-api", "codec": "none"}}
    result = run(world(), NETWORK, new)
    assert named(result, "connect") == pytest.approx(2 * 2 * 0.003)
    assert total(result) > total(run(world(), NETWORK))


def test_modalities_say_the_same_when_written_out() -> None:
    """A resolved scenario, with every default written, loads again."""
    spec = scene(
        world(), NETWORK, chain(("see", {"perceive": ["image"], "fusion": {"hierarchical": {"each": "1 ms"}}}))
    )
    assert Scenario.from_text(spec.to_yaml()) == spec


def test_what_a_modality_says_must_fit_together() -> None:
    """No amount below none, and nothing on a device that is not there."""
    for more, told in (
        ({"amount": {"uniform": {"low": -1, "high": 1}}}, "goes down to -1"),
        ({"attempts": 101}, "must be <= 100"),
        ({"kind": "structured", "encoder": None, "preprocess": {"on": "gpu"}}, "there is no device"),
    ):
        with pytest.raises(ScenarioError, match=told):
            scene(world(**more), NETWORK)
