"""The machine as found: what a measurement must be read with, and what must agree where two are pooled.

Leaves out: names of hosts and users, and paths: a profile may be passed on.
Checked: tests/test_session.py.
"""

import hashlib
import json
import os
import platform
import re
import subprocess
from collections.abc import Mapping
from importlib import metadata
from pathlib import Path

from .speed import stolen_ticks

__all__ = ["STABLE", "environment", "fingerprint", "last_level_cache", "machine_of"]

STABLE = (
    "device",
    "driver",
    "cuda",
    "cpu",
    "cores",
    "memory",
    "cache",
    "system",
    "python",
    "torch",
    "numpy",
    "threads",
)
"""What makes two machines alike; the rest, such as the load, changes from hour to hour."""

_CPU = Path("/sys/devices/system/cpu/cpu0")
_FALLBACK_CACHE = 32 << 20


def environment(device: str = "cpu") -> dict[str, str]:
    """Return what is known of the machine, the software, and their state now; what cannot be read is left out."""
    found = {
        "device": _cpu_model(),
        "cpu": _cpu_model(),
        "cores": f"{_usable_cores()} of {os.cpu_count() or 1}",
        "memory": _memory(),
        "cache": f"{last_level_cache() / 2**20:g} MiB",
        "system": f"{platform.system()} {_release()} {platform.machine()}",
        "python": f"{platform.python_implementation()} {platform.python_version()}",
        "numpy": metadata.version("numpy"),
        "governor": _read(_CPU / "cpufreq/scaling_governor"),
        "clock": _clock(),
        "load": _load(),
        "steal": _steal(),
    }
    return {name: text for name, text in {**found, **_torch(device)}.items() if text}


def _release() -> str:
    """Return the release of the operating system by its first two numbers: the rest is a builder's."""
    found = re.match(r"\d+(\.\d+)?", platform.release())
    return found[0] if found else ""


def machine_of(found: Mapping[str, str]) -> str:
    """Return one line about the machine, from the parts of its environment that are known."""
    parts = [found.get("device"), found.get("cpu")]
    if "cores" in found:
        parts.append(f"{found['cores']} cores")
    parts += [found.get("system"), found.get("driver")]
    return ", ".join(dict.fromkeys(part for part in parts if part)) or "an unknown machine"


def fingerprint(found: Mapping[str, str]) -> str:
    """Return sixteen hexadecimal digits that differ where what is `STABLE` differs."""
    text = json.dumps([(name, found.get(name, "")) for name in STABLE])
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def last_level_cache(cpu: Path = _CPU) -> int:
    """Return the bytes of the CPU's last cache; 32 MiB where the system does not tell."""
    sizes = []
    for index in cpu.glob("cache/index*"):
        level, size = _read(index / "level"), re.fullmatch(r"(\d+)([KMG]?)", _read(index / "size"))
        if level.isdigit() and size:
            sizes.append((int(level), int(size[1]) << {"": 0, "K": 10, "M": 20, "G": 30}[size[2]]))
    return max(sizes)[1] if sizes else _FALLBACK_CACHE


def _torch(device: str) -> dict[str, str]:
    """Return the versions of torch and its driver, and the number of threads; nothing where torch is missing."""
    try:
        import torch
    except ImportError:
        return {}
    found = {"torch": str(torch.__version__), "threads": str(torch.get_num_threads())}
    if device == "cpu" or not torch.cuda.is_available():
        return found
    properties = torch.cuda.get_device_properties(0)
    found["device"] = f"{properties.name}, {properties.total_memory / 2**30:.0f} GiB"
    found["cuda"] = str(torch.version.cuda or torch.version.hip or "")
    return found | _nvidia_smi()


def _nvidia_smi() -> dict[str, str]:
    """Return the driver, and the state of the device's clocks; nothing where the tool is missing."""
    asked = {
        "driver": "driver_version",
        "device clock": "clocks.sm",
        "device clock limit": "clocks.max.sm",
        "memory clock": "clocks.mem",
        "power limit": "power.limit",
        "temperature": "temperature.gpu",
    }
    command = ["nvidia-smi", "--id=0", f"--query-gpu={','.join(asked.values())}", "--format=csv,noheader"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=20, check=True)
    except (OSError, subprocess.SubprocessError):
        return {}
    words = [word.strip() for word in done.stdout.partition("\n")[0].split(",")]
    return dict(zip(asked, words, strict=False))


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError):
        return ""


def _cpuinfo(key: str) -> str:
    found = re.search(rf"^{key}\s*:\s*(.+)$", _read(Path("/proc/cpuinfo")), re.MULTILINE)
    return found[1].strip() if found else ""


def _cpu_model() -> str:
    return _cpuinfo("model name") or platform.processor() or platform.machine()


def _clock() -> str:
    now = _cpuinfo("cpu MHz")
    return f"{float(now):.0f} MHz" if re.fullmatch(r"[\d.]+", now) else ""


def _usable_cores() -> int:
    try:
        return len(os.sched_getaffinity(0))
    except AttributeError:  # no such call on macOS and Windows
        return os.cpu_count() or 1


def _memory() -> str:
    try:
        return f"{os.sysconf('SC_PHYS_PAGES') * os.sysconf('SC_PAGE_SIZE') / 2**30:.0f} GiB"
    except (AttributeError, OSError, ValueError):  # no such call on Windows
        return ""


def _load() -> str:
    try:
        return f"{os.getloadavg()[0]:.2f}"
    except (AttributeError, OSError):  # no such call on Windows
        return ""


def _steal() -> str:
    stolen, ticks = stolen_ticks()
    return f"{stolen / ticks:.2%} since start" if ticks else ""
