"""The scenarios of what comes while it is made: they answer their questions the way their comments say.

Leaves out: what every scenario must have (test_scenarios.py); whether a cascaded agent, and decoding, take as long as was measured
(test_bands_voice.py, test_bands_media.py).
"""

from functools import cache

import numpy as np
import pytest

from coordsim.models.simulate import simulate
from coordsim.sim.analysis.result import Result
from coordsim.sim.engine.ledger import CATEGORIES, Ledger

from .scene import fact, leaves
from .test_pipeline import law
from .test_scenarios import mean_of, shipped

# -- voice-assistant

TALK = "workflow__steps__talk__"
QUIET = {f"{TALK}barge_in__chance": "0 %"}
WHOLE = {f"{TALK}streaming": "false"}
DISPATCH = 0.5e-3  # before a turn begins
CROWD = {"workload__arrivals__closed__users": "64"}


@cache
def voice(tasks: int = 120, **changes: str) -> Result:
    """Return a run of the assistant; every change meets the same draws."""
    return simulate(shipped("voice-assistant", tasks, **changes))


def heard(tasks: int = 120, /, **changes: str) -> tuple[float, float]:
    """Return the mean and the 95 % quantile of the time to first audio, in s."""
    times = voice(tasks, **changes).fact("ttfa")
    return float(times.mean()), float(np.quantile(times, 0.95))


def seconds(result: Result, component: str, name: str = "") -> float:
    """Return the mean seconds of a component on the critical path, under one of its names or all."""
    first = result.rows.shape[1] - len(result.accounts)
    found = zip(result.accounts, result.rows[:, first:].mean(axis=0), strict=True)
    return sum(float(value) for one, value in found if one.component == component and name in ("", one.name))


def test_the_first_audio_is_silence_model_voice_and_network() -> None:
    """0.94 s, p95 1.01 s; the parts that the comment names sum to it but for a few ms, and silence is the largest."""
    mean, late = heard()
    assert mean == pytest.approx(0.94, abs=0.03)
    assert late == pytest.approx(1.01, abs=0.04)
    result = voice(**QUIET)
    parts = {
        "silence": seconds(result, "speech", "endpointing"),
        "model": seconds(result, "llm", "inference"),
        "voice": seconds(result, "synthesizer", "tool.execute"),
        "network": seconds(result, "speech", "transit") + seconds(result, "speaker"),
        "lookup": seconds(result, "handbook", "tool.execute"),
    }
    told = {"silence": 0.500, "model": 0.172, "voice": 0.141, "network": 0.120, "lookup": 0.008}
    assert parts == pytest.approx(told, abs=0.01)
    assert 0.99 < sum(parts.values()) / float(result.fact("ttfa").mean()) < 1


def test_but_for_interruptions_the_rest_of_a_turn_is_the_time_to_first_audio() -> None:
    """Playback hides all that follows the first sentence, turn by turn, but where the next is not there in time."""
    result = voice(**QUIET)
    rest = result.response_times - result.category("human")
    late = rest - result.fact("ttfa") - DISPATCH
    assert late.min() > -1e-9
    assert (late < 1e-9).mean() > 0.95


def test_the_first_audio_comes_before_all_stages_are_over() -> None:
    """It takes less than the stages take in sum, which is what a turn without streaming takes."""
    streamed, whole = voice(**QUIET), voice(**QUIET, **WHOLE)
    stages = whole.response_times - whole.category("human") - DISPATCH
    np.testing.assert_allclose(whole.fact("ttfa"), stages, rtol=1e-9)
    sums = dict(zip(whole.rows[:, 0], stages, strict=True))
    times = [pair for pair in zip(streamed.rows[:, 0], streamed.fact("ttfa"), strict=True) if pair[0] in sums]
    assert len(times) > 100  # callers take as many turns but for the last ones
    assert all(first < sums[index] for index, first in times)
    assert streamed.rows[:, Ledger.HEAD.index("overlapped")].min() > 0


def test_streaming_saves_a_third_of_what_is_not_silence() -> None:
    """With few callers every turn is heard later without it: 0.26 s of 0.70 s, and 0.66 s at p95."""
    mean, late = heard()
    whole, whole_late = heard(**WHOLE)
    assert whole - mean == pytest.approx(0.26, abs=0.04)
    assert (whole - mean) / (whole - 0.5) == pytest.approx(0.26 / 0.70, abs=0.04)
    assert whole_late - late == pytest.approx(0.66, abs=0.15)
    assert mean - heard(**{f"{TALK}pipeline__3__chunk": "8 tokens"})[0] == pytest.approx(0.13, abs=0.02)


def test_all_of_a_shorter_silence_is_saved() -> None:
    """From 100 ms to 800 ms, the first audio comes as much later."""
    silences = (0.1, 0.3, 0.5, 0.8)
    times = [heard(80, **{f"{TALK}endpoint": f"{silence * 1e3:.0f} ms"})[0] for silence in silences]
    np.testing.assert_allclose(np.diff(times), np.diff(silences), atol=5e-3)


def test_with_many_callers_small_pieces_keep_the_recognizer_busy() -> None:
    """With 64 streaming is later than not, in the median and far more at p95; pieces of 0.4 s are better than either."""
    larger = {"modalities__speech__stream__rate": "2.5 / s", "modalities__speech__stream__units": "0.4"}
    small, whole, large = (heard(192, **CROWD, **more) for more in ({}, WHOLE, larger))
    assert large[0] < whole[0] < small[0]
    assert large[1] < whole[1] < 3 < small[1]
    medians = [float(np.median(voice(192, **CROWD, **more).fact("ttfa"))) for more in (larger, WHOLE, {})]
    assert medians == sorted(medians)
    assert voice(192, **CROWD).category("queueing").mean() > 1 > voice(**WHOLE).category("queueing").mean()


def test_answers_are_interrupted_and_what_was_done_for_them_is_lost() -> None:
    """9 in 100; the path has 0.04 s of lost work a turn, none where nobody interrupts; every second of both is explained."""
    result = voice()
    assert mean_of(result, "barge_ins") == pytest.approx(0.09, abs=0.05)
    assert result.category("recovery").mean() == pytest.approx(0.042, abs=0.025)
    interrupted = result.fact("barge_ins") > 0
    assert (result.category("recovery")[interrupted] > 0).all()
    assert not result.category("recovery")[~interrupted].any()
    assert not voice(**QUIET).fact("barge_ins").any()
    for one in (result, voice(**QUIET), voice(**WHOLE)):
        parts = np.sum([one.category(category) for category in CATEGORIES], axis=0)
        np.testing.assert_allclose(parts, one.response_times, rtol=1e-9)


def test_what_was_interrupted_is_told_by_its_spans() -> None:
    """Critical spans abut and sum to the parts of each task; those of an interrupted answer are marked as lost."""
    often = {f"{TALK}barge_in__chance": "60 %", f"{TALK}barge_in__after": "1 s"}
    result = simulate(shipped("voice-assistant", 12, **often), spans="all")
    law(result)
    for index in result.rows[:, 0].astype(int):
        lost = {span.component for span in leaves(result, index) if span.lost}
        assert ("llm" in lost) == (fact(result, "barge_ins", index) > 0)
    assert 0 < (result.fact("barge_ins") > 0).sum() < 12


# -- video-qa

CLIP = "modalities__clip__"
UNIT = f"{CLIP}preprocess__per_unit"
GPU = {f"{CLIP}preprocess__on": "gpu", UNIT: "9.4 ms"}
LAPTOP = {**GPU, UNIT: "18.6 ms"}
STARTING = {**GPU, f"{CLIP}preprocess__latency": "287 ms"}
SPARSE = {UNIT: "5.7 ms"}
LIVE = {
    f"{CLIP}amount": "1",
    f"{CLIP}stream": "{rate: 1 / s, length: {uniform: {low: 5 s, high: 15 s}}}",
}
LOADED = {"workload__arrivals": "{poisson: 1.5 / s}"}


@cache
def video(**changes: str) -> Result:
    """Return a run of the questions; every change meets the same draws."""
    return simulate(shipped("video-qa", 240, **changes))


def first_token(**changes: str) -> float:
    """Return the mean seconds to the first token, from the end of a clip that is sent while it is recorded."""
    result = video(**changes)
    return float(result.response_times.mean()) - seconds(result, "clip", "capture")


def decoding(**changes: str) -> tuple[float, float]:
    """Return the share of decoding in the time to the first token, and in what of that follows the arrival of the clip."""
    result, total = video(**changes), first_token(**changes)
    decode = seconds(result, "clip", "preprocess")
    sent = float(result.category("communication").mean())
    return decode / total, decode / (total - sent)


def test_preparing_a_clip_is_most_of_what_follows_its_arrival() -> None:
    """On the CPU 43 % of all and 63 % of what follows; on the GPU 7 % and 15 %."""
    assert decoding() == pytest.approx((0.43, 0.63), abs=0.03)
    assert decoding(**GPU) == pytest.approx((0.07, 0.15), abs=0.02)


def test_the_table_of_video_holds() -> None:
    """Seconds to the first token by where, and what, is decoded, and by when the clip is sent; in this order."""
    told = {
        "start": (STARTING, 1.65), "cpu": ({}, 2.01), "laptop": (LAPTOP, 1.38), "gpu": (GPU, 1.26), "sparse": (SPARSE, 1.20),
        "live": (LIVE, 0.55), "live gpu": ({**LIVE, **GPU}, 0.48),
    }  # fmt: skip
    found = {name: first_token(**changes) for name, (changes, _) in told.items()}
    assert found == pytest.approx({name: value for name, (_, value) in told.items()}, rel=0.06)
    ordered = ("live gpu", "live", "sparse", "gpu", "laptop", "start", "cpu")
    assert sorted(found, key=lambda name: found[name]) == list(ordered)


def test_overlapping_hides_all_but_the_last_piece() -> None:
    """Of decoding, encoding and sending, what is waited for is one piece's, and the model reads all of the clip afterwards.

    A piece by itself is encoded less efficiently than all at once; the last may be so short that the one before is in its way.
    """
    whole, live = video(), video(**LIVE)
    pieces = mean_of(live, "pieces")
    assert 8 < pieces < 12
    for component, name in (("clip", "preprocess"), ("llm", "encode"), ("network.phone->server", "transmit")):
        assert 0.9 < seconds(live, component, name) * pieces / seconds(whole, component, name) < 1.5
    assert seconds(live, "llm", "inference") == pytest.approx(seconds(whole, "llm", "inference"), rel=0.15)
    assert first_token(**LIVE) < 0.6 < first_token(**SPARSE)


def test_under_load_the_gpu_saves_less() -> None:
    """Decoding there holds up the model: at 1.5 clips a second it saves less than a half of what it does at 0.2."""
    idle, busy = first_token() - first_token(**GPU), first_token(**LOADED) - first_token(**LOADED, **GPU)
    assert idle == pytest.approx(0.74, abs=0.06)
    assert busy < idle / 2
    assert video(**LOADED, **GPU).category("queueing").mean() > video(**LOADED).category("queueing").mean()
