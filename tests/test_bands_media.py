"""Bands that others have published about media before a model: their inputs come from named sources, and are varied.

Video. Preprocessing, most of it decoding, is said to dominate the time to first token where the CPU decodes (Zhao et al., arXiv
2512.17574, abstract); as a band: more than half with the CPU, less than a quarter with the GPU (the pair itself was in no text that
we have seen). Inputs: a clip of 720p, 10 s at 30 frames a second (torchcodec, pull request 1603), whose decoder touches each frame
as OpenCV's and PyAV's do (vLLM, pull request 46609); on the CPU 208 to 515 frames a second, here the middle, 350 (torchcodec, pull
request 319, clips of a resolution that is not told); on the GPU 9.1 times as fast (FlashCodec in arXiv 2512.17574, second-hand), or
0.62 ms a frame (torchcodec, pull request 1603, a laptop's). Qwen2-VL takes 2 frames a second, merges pairs, and has a token
for 28 x 28 pixels: 46 x 26 = 1196 a pair (its preprocessor_config; second-hand for the 2 frames). Its encoder has 32 layers of
1280 and 16 heads on patches of 14 pixels (config.json), its language part is the shape of Qwen2.5 7B; both on an H100.

Images. Encoding is 79 % of the time to first token of Llama 3.2 11B and 65 % of 90B, which read images by cross-attention
(Qiu et al., ModServe, SoCC 2025, arXiv 2502.00937; the shares second-hand). Inputs: vision_config of Llama 3.2 Vision, 32 and 8 layers
of 1280, 16 heads, four tiles of 560 pixels in one sequence of 4 x 1601 tokens; text_config, 40 and 100 layers; 326 tokens of text (mean
of the image requests of ServeGen, weighted by rate); profile of an A100, as ModServe's. The tensor parallelism of those shares is not known.

Transfer. The representation's way between stages on one host is 0.02 % to 0.42 % of the makespan in seven logs of vLLM-Omni (issues 602,
237, 375, 533, 1107, 749, 835). Their law, 0.5 to 1 ms and 2.5 to 4.5 ms a megabyte, is fitted to those transfers; 0.3 ms a
megabyte without copies (SGLang-Omni, second-hand).
Leaves out: keys and values of image tokens in the layers with cross-attention (of 11B a twentieth of the encoder's operations, of 90B
a quarter, over all devices of its prefill); encoders on several devices; Qwen2-VL's cap of 16384 tokens a video, which longer clips meet.
"""

from functools import cache
from typing import Any

import pytest

from coordsim.sim.analysis.result import Result

from .scene import Data, chain, named, run
from .scene import total as seconds

VIT: Data = {
    "hidden": 1280, "heads": 16, "kv_heads": 16, "head_size": 80, "mlp": 5120, "gated": False, "tied": True, "norm": "layer",
    "activation": "gelu", "rotary": False, "attention": "bidirectional",
}  # fmt: skip


def first_token(
    model: Data, profile: str, modality: Data, encoder: Data, text: int, output: int, **more: Any
) -> Result:
    """Run a task that takes in one modality and asks a model of it."""
    return run(
        {
            "profile": profile,
            "workload": {"request": f"{text} tokens"},
            "modalities": {"media": {"encoder": "enc", **modality}},
            "encoders": {"enc": encoder},
            "agents": {"a": {"model": "llm", "output": f"{output} tokens"}},
            "models": {"llm": model},
            **chain(("see", {"perceive": ["media"]}), ("answer", {"agent": "a"})),
        },
        more,
    )


# -- Video

FPS, SECONDS, SAMPLED, PAIR = 30, 10, 2, 1196
CPU, FLASH, LAPTOP = 1 / 350, 1 / 350 / 9.1, 0.62e-3  # s a frame


@cache
def decoding_share(frame: float, on: str, length: float = SECONDS, touched: float = FPS, fps: float = SAMPLED) -> float:
    """Return which share of the time to first token is decoding, at `frame` seconds for each of `touched` frames a second."""
    pairs = max(1, round(length * fps / 2))
    modality = {
        "kind": "video", "amount": pairs, "tokens": f"{PAIR} tokens",
        "preprocess": {"latency": f"{frame * touched * length:.6f} s", "on": on},
    }  # fmt: skip
    vit = {**VIT, "layers": 32, "image": {"patch": 14, "side": 966}}  # 69 x 69 patches, for 92 x 52
    nodes = {"network": {"nodes": {"host": {"cores": 20}}}, "orchestrator": {"node": "host"}}
    result = first_token({"shape": "qwen2.5-7b"}, "h100-sxm", modality, {"shape": vit}, 90, 1, **nodes)
    return named(result, "preprocess") / seconds(result)


def test_decoding_on_the_cpu_is_more_than_half_of_a_first_token() -> None:
    """Where the CPU decodes every frame of a clip of 10 s, and of one of 5 s; where it decodes only what is sampled, a tenth or so."""
    assert decoding_share(CPU, "cpu") > 0.5
    assert decoding_share(CPU, "cpu", length=5) > 0.5
    assert decoding_share(CPU, "cpu", touched=SAMPLED) < 0.15


def test_decoding_on_the_gpu_is_less_than_a_quarter() -> None:
    """With the decoder of FlashCodec; with that of a laptop's GPU it is a little more, and no half."""
    assert decoding_share(FLASH, "gpu") < 0.25
    assert decoding_share(LAPTOP, "gpu") < 0.35


def test_what_makes_decoding_matter() -> None:
    """Half the time a frame lowers the share, to below half; half more raises it. More frames for the model lower it."""
    low, middle, high = (decoding_share(CPU * factor, "cpu") for factor in (0.5, 1.0, 1.5))
    assert low < 0.5 < middle < high
    assert decoding_share(CPU, "cpu", fps=3) < middle < decoding_share(CPU, "cpu", fps=1)
    assert decoding_share(FLASH * 1.5, "gpu") > decoding_share(FLASH, "gpu") > decoding_share(FLASH / 2, "gpu")


# -- Images

LLAMA: Data = {"vocabulary": 128256, "kv_heads": 8, "head_size": 128}
SIZES: dict[str, Data] = {
    "11B": {**LLAMA, "layers": 40, "hidden": 4096, "heads": 32, "mlp": 14336},
    "90B": {**LLAMA, "layers": 100, "hidden": 8192, "heads": 64, "mlp": 28672},
}
PUBLISHED = {"11B": 0.79, "90B": 0.65}
TEXT = 326
NEAR = 0.10


@cache
def encoding_share(size: str, devices: int, text: int = TEXT, side: int = 1120) -> float:
    """Return which share of the time to first token is encoding an image of four tiles."""
    vit = {**VIT, "layers": 40, "image": {"patch": 14, "side": side, "class_tokens": 4}}
    model = {"shape": SIZES[size], "tensor_parallel": devices}
    result = first_token(model, "a100-sxm", {"kind": "vision"}, {"shape": vit}, text, 1)
    return named(result, "encode") / seconds(result)


@pytest.mark.parametrize(("size", "devices"), [("11B", 1), ("90B", 8)])
def test_encoding_an_image_dominates_where_the_model_reads_it_by_cross_attention(size: str, devices: int) -> None:
    """Within ten points of what was published, with an encoder on one device; half of the text or half more moves it as it must."""
    assert encoding_share(size, devices) == pytest.approx(PUBLISHED[size], abs=NEAR)
    less, more = encoding_share(size, devices, TEXT // 2), encoding_share(size, devices, TEXT * 3 // 2)
    assert less > encoding_share(size, devices) > more
    assert encoding_share(size, devices, side=560) < encoding_share(size, devices)  # one tile of four


def test_where_the_share_of_encoding_is_another() -> None:
    """A prefill on four devices makes the share of 90B smaller than published, one on eight that of 11B larger."""
    assert encoding_share("90B", 4) < PUBLISHED["90B"] - NEAR
    assert encoding_share("11B", 8) > PUBLISHED["11B"] + NEAR / 2
    assert encoding_share("11B", 8) > encoding_share("90B", 8)


# -- Transfer between stages

COPIED, SHARED = (0.75e-3, 3.5e-9), (0.75e-3, 0.3e-9)  # s, s a byte
IMAGE, SPEECH = 1196 * 3584 * 2, 10 * 25 * 3584 * 2  # bytes: an image of 720p; 10 s of sound at 25 tokens a second


@cache
def transfer_share(size: int, law: tuple[float, float], output: int) -> float:
    """Return which share of the makespan is the way of the representation."""
    link = {"latency": f"{law[0]} s", "bandwidth": f"{1 / law[1]:.0f} B/s", "shared": False}
    network: Data = {
        "runtime": {"preset": "ideal", "connection": "persistent"},
        "orchestrator": {"node": "model"},
        "encoders": {"enc": {"node": "stage"}},
        "network": {
            "header": "0 B",
            "nodes": {"stage": {}, "model": {}},
            "links": [{"between": ["stage", "model"], **link}],
        },
    }
    modality = {"kind": "audio", "representation": f"{size} B", "tokens": f"{size // 7168} tokens", "node": "stage"}
    model = {"shape": "qwen2.5-7b"}
    result = first_token(model, "h100-sxm", modality, {"latency": "50 ms"}, 90, output, **network)
    return (named(result, "transit") + named(result, "transmit")) / seconds(result)


def test_the_way_between_stages_is_less_than_a_hundredth() -> None:
    """Of 10 s of sound with an answer of 200 tokens, of an image with one of 1000, and of either where nothing is copied."""
    assert transfer_share(SPEECH, COPIED, 200) < 0.01
    assert transfer_share(IMAGE, COPIED, 1000) < 0.01
    assert all(transfer_share(size, SHARED, 110) < 0.01 for size in (IMAGE, SPEECH))


def test_where_the_way_between_stages_is_more() -> None:
    """Of an image that is copied, with a short answer: some hundredths; and of its first token alone up to a third."""
    assert 0.01 < transfer_share(IMAGE, COPIED, 110) < 0.05
    assert 0.01 < transfer_share(IMAGE, COPIED, 1) < 1 / 3


def test_the_way_grows_with_what_is_carried_and_shrinks_with_the_answer() -> None:
    """Half of the bytes and half more, and half of the answer and half more, move it as they must."""
    shares = [transfer_share(int(SPEECH * factor), COPIED, 200) for factor in (0.5, 1.0, 1.5)]
    assert shares == sorted(shares)
    answers = [transfer_share(SPEECH, COPIED, output) for output in (100, 200, 300)]
    assert answers == sorted(answers, reverse=True)
