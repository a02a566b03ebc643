"""Probes of modalities other than text: images, sound and video on their way into a model.

Vision is a ViT with patches of 14 pixels (width 1024, 16 heads: ViT-L/14); sound is Whisper's large encoder (width 1280,
20 heads, 80 mel bins at 16 kHz, 100 frames a second halved by the front end); video takes every second of its frames
from 360 × 640, and embeds them in pairs (2 × 14 × 14, width 1280, as Qwen2-VL does).

Leaves out: decoding of JPEG, sound and video files; what joins tokens after an encoder.
Checked: tests/test_kernel_probes.py, the mel filters against their formula.
Source: Dosovitskiy et al., ICLR 2021 (ViT); Radford et al., 2022 (Whisper); Wang et al., 2024 (Qwen2-VL).
"""

from functools import partial

import torch
import torch.nn.functional as F  # noqa: N812  torch's own name for it

from ..probe import Call, Found
from .common import Make, Numbers, Place, grid, pool, probe

__all__ = ["block", "found", "log_mel", "mel_filters"]

PATCH, VISION_WIDTH, VIDEO_WIDTH = 14, 1024, 1280
AUDIO_WIDTH, BINS = 1280, 80
HEAD = 64
RATE, WINDOW, HOP = 16000, 400, 160  # samples
FRAMES_PER_SECOND, TOKENS_PER_SECOND = RATE // HOP, RATE // HOP // 2
FRAME_SHAPE = (3, 360, 640)


def found(place: Place) -> Found:
    """Return the probes of modalities: in fp32 on the CPU, in bf16 and fp16 on CUDA, and sound's spectrum in fp32."""
    kinds: list[tuple[str, dict[str, str], list[dict[str, float]], Make | partial[Call]]] = []
    for dtype in place.pick(("fp32",), ("bf16", "fp16")):
        vision, audio, video = _sizes(place)
        o = {"dtype": dtype}
        kinds += [
            ("vision.patch_embedding", o, vision, partial(_patches, place, dtype)),
            ("vision.block", {**o, "width": str(VISION_WIDTH)}, vision, partial(_vision_block, place, dtype)),
            ("audio.front_end", o, audio, partial(_front_end, place, dtype)),
            ("audio.block", {**o, "width": str(AUDIO_WIDTH)}, audio, partial(_audio_block, place, dtype)),
            ("video.sample", o, video, partial(_sample, place, dtype)),
            ("video.patch_embedding", o, video, partial(_tubes, place, dtype)),
        ]
    spans = [{"seconds": seconds} for seconds in (0.5, 1.0, 2.5, 5.0, 10.0, 30.0)]
    kinds.append(("audio.log_mel", {"dtype": "fp32"}, spans, partial(_log_mel, place)))
    return Found(tuple(probe(place, op, options, sizes, make) for op, options, sizes, make in kinds))


def _sizes(place: Place) -> tuple[list[dict[str, float]], list[dict[str, float]], list[dict[str, float]]]:
    """Return the sizes of vision, audio and video."""
    if place.cuda:
        return (
            grid(images=(1, 4, 16, 50), side=(56, 112, 224, 336, 448)),
            [{"seconds": seconds} for seconds in (0.5, 1, 2, 5, 10, 20, 30)],
            grid(frames=(2, 8, 32, 100), side=(112, 224, 336, 448)),
        )
    return (
        grid(images=(1, 2), side=(28, 56, 84, 112)) + grid(images=(1,), side=(140, 168)),
        [{"seconds": seconds} for seconds in (0.2, 0.5, 1, 1.5, 2.5)],
        grid(frames=(2, 4, 8), side=(56, 112)) + grid(frames=(2,), side=(168, 224)),
    )


def _patches(place: Place, dtype: str, s: Numbers) -> Call:
    image = (s["images"], 3, s["side"], s["side"])
    inputs = pool(place, dtype).sets(image, (VISION_WIDTH, 3, PATCH, PATCH))
    count = len(inputs)

    def call(turn: int) -> None:
        images, weight = inputs[turn % count]
        F.conv2d(images, weight, stride=PATCH).flatten(2).transpose(1, 2).contiguous()

    return call


def _vision_block(place: Place, dtype: str, s: Numbers) -> Call:
    return _block(place, dtype, s["images"], (s["side"] // PATCH) ** 2, VISION_WIDTH)


def _audio_block(place: Place, dtype: str, s: Numbers) -> Call:
    return _block(place, dtype, 1, int(s["seconds"] * TOKENS_PER_SECOND), AUDIO_WIDTH)


def _block(place: Place, dtype: str, batch: int, tokens: int, width: int) -> Call:
    weights = (3 * width, width), (width, width), (4 * width, width), (width, 4 * width)
    inputs = pool(place, dtype).sets((batch, tokens, width), *weights)
    count = len(inputs)

    def call(turn: int) -> None:
        block(*inputs[turn % count])

    return call


def block(x: torch.Tensor, qkv: torch.Tensor, out: torch.Tensor, up: torch.Tensor, down: torch.Tensor) -> torch.Tensor:
    """Return a pre-norm transformer block of `x` (batch, tokens, width): attention of all over all, then an MLP of 4."""
    batch, tokens, width = x.shape
    heads = F.linear(F.layer_norm(x, (width,)), qkv).view(batch, tokens, 3, width // HEAD, HEAD)
    query, key, value = heads.permute(2, 0, 3, 1, 4)
    mixed = F.scaled_dot_product_attention(query, key, value).transpose(1, 2).reshape(batch, tokens, width)
    x = x + F.linear(mixed, out)
    return x + F.linear(F.gelu(F.linear(F.layer_norm(x, (width,)), up)), down)


def mel_filters(bins: int = BINS, window: int = WINDOW, rate: int = RATE) -> torch.Tensor:
    """Return triangular filters from the spectrum to mel bins, shape (bins, window / 2 + 1), each of unit area in Hz.

    Mel is linear below 1 kHz, 3 mel per 200 Hz, and logarithmic above, 27 mel per factor of 6.4.
    Source: Slaney, Auditory Toolbox, Interval Research TR 1998-010; Whisper takes the same.
    """
    top = _mel(rate / 2)
    mel = torch.linspace(0.0, top, bins + 2, dtype=torch.float64)
    edges = torch.where(mel < 15.0, mel * 200.0 / 3.0, 1000.0 * 6.4 ** ((mel - 15.0) / 27.0))
    frequencies = torch.linspace(0.0, rate / 2, window // 2 + 1, dtype=torch.float64)
    low, centre, high = (edges[i : bins + i].unsqueeze(-1) for i in range(3))
    rising, falling = (frequencies - low) / (centre - low), (high - frequencies) / (high - centre)
    return (torch.minimum(rising, falling).clamp(min=0.0) * 2.0 / (high - low)).float()


def _mel(frequency: float) -> float:
    """Return the mel of a frequency of 1 kHz or more."""
    return 15.0 + 27.0 * float(torch.log(torch.tensor(frequency / 1000.0)) / torch.log(torch.tensor(6.4)))


def log_mel(samples: torch.Tensor, window: torch.Tensor, filters: torch.Tensor) -> torch.Tensor:
    """Return Whisper's log-mel spectrogram of `samples` (samples,), shape (bins, samples / hop): 8 decades below its peak.

    Source: Radford et al., 2022.
    """
    spectrum = torch.stft(samples, WINDOW, HOP, window=window, return_complex=True)[..., :-1]
    level = (filters @ spectrum.abs().square()).clamp(min=1e-10).log10()
    return (torch.maximum(level, level.max() - 8.0) + 4.0) / 4.0


def _log_mel(place: Place, s: Numbers) -> Call:
    inputs = pool(place, "fp32").sets((int(s["seconds"] * RATE),))
    window, filters = torch.hann_window(WINDOW, device=place.device), mel_filters().to(place.device)
    count = len(inputs)

    def call(turn: int) -> None:
        log_mel(inputs[turn % count][0], window, filters)

    return call


def _front_end(place: Place, dtype: str, s: Numbers) -> Call:
    spectrogram = (1, BINS, int(s["seconds"] * FRAMES_PER_SECOND))
    inputs = pool(place, dtype).sets(spectrogram, (AUDIO_WIDTH, BINS, 3), (AUDIO_WIDTH, AUDIO_WIDTH, 3))
    count = len(inputs)

    def call(turn: int) -> None:
        sound, first, second = inputs[turn % count]
        F.gelu(F.conv1d(F.gelu(F.conv1d(sound, first, padding=1)), second, stride=2, padding=1))

    return call


def _sample(place: Place, dtype: str, s: Numbers) -> Call:
    """Choose every second of twice as many frames, and resize those from bytes to values between 0 and 1."""
    clip = torch.randint(0, 256, (2 * s["frames"], *FRAME_SHAPE), dtype=torch.uint8, device=place.device)
    kind = pool(place, dtype).values.dtype
    side = (s["side"], s["side"])
    copies = max(1, min(4, 2 * place.cache_bytes // clip.numel()))
    clips = [clip.clone() for _ in range(copies)]

    def call(turn: int) -> None:
        chosen = clips[turn % copies][::2].to(kind).mul_(1 / 255)
        F.interpolate(chosen, size=side, mode="bilinear", align_corners=False)

    return call


def _tubes(place: Place, dtype: str, s: Numbers) -> Call:
    clip = (1, 3, s["frames"], s["side"], s["side"])
    inputs = pool(place, dtype).sets(clip, (VIDEO_WIDTH, 3, 2, PATCH, PATCH))
    count = len(inputs)

    def call(turn: int) -> None:
        frames, weight = inputs[turn % count]
        F.conv3d(frames, weight, stride=(2, PATCH, PATCH)).flatten(2).transpose(1, 2).contiguous()

    return call
