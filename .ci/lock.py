"""Write requirements.lock: one version for everything that an install of coordsim may bring.

Resolves every extra together with pip for the oldest Python supported, since what that one can install the newer ones can too,
and installs nothing: `make lock`.

Leaves out: hashes, since wheels differ between machines; and what torch brings for one kind of accelerator only.
"""

import json
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
LOCK = ROOT / "requirements.lock"
OLDEST = "3.11.0"  # the patch release too: some packages leave out the first ones
EXTRAS = "calibrate,dask,dev,import,notebook,ray,sensitivity,trace"
# Moved by hand: a profile records the torch it was measured with, so a new one is a decision.
TORCH = "torch==2.13.0"
ACCELERATOR = ("cuda-", "nvidia-", "triton")
HEADER = """\
# Every version an install may bring, for Python 3.11 to 3.13: pip install -c requirements.lock -e '.[dev]'
# Written by `make lock`; change pyproject.toml, not this file.
"""


def resolved() -> list[dict[str, str]]:
    """Return the metadata of every distribution that pip would install."""
    pip = [sys.executable, "-m", "pip", "install", "--dry-run", "--ignore-installed", "--quiet", "--report", "-"]
    # pip resolves for another Python only from wheels, and only towards a folder of its own, which stays empty here.
    with tempfile.TemporaryDirectory() as folder:
        other = ["--python-version", OLDEST, "--only-binary", ":all:", "--target", folder]
        done = subprocess.run([*pip, *other, f"{ROOT}[{EXTRAS}]", TORCH], check=True, stdout=subprocess.PIPE, text=True)
    return [item["metadata"] for item in json.loads(done.stdout)["install"]]


def main() -> None:
    """Resolve, and replace the lock in one move."""
    oldest = OLDEST.rpartition(".")[0]
    if f"{sys.version_info.major}.{sys.version_info.minor}" != oldest:  # pip reads markers from the Python that runs it
        sys.exit(f"the lock is resolved with Python {oldest}: make lock PYTHON=python{oldest} VENV=.venv-{oldest}")
    pins = {
        each["name"].lower().replace("_", "-"): each["version"].partition("+")[0]  # 2.13.0+cpu: one build of 2.13.0
        for each in resolved()
        if each["name"] != "coordsim" and not each["name"].lower().startswith(ACCELERATOR)
    }
    fresh = LOCK.with_suffix(".new")
    fresh.write_text(HEADER + "".join(f"{name}=={version}\n" for name, version in sorted(pins.items())))
    fresh.replace(LOCK)


if __name__ == "__main__":
    main()
