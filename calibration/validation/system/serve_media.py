"""A modality worker: decodes an image and encodes it, one at a time; `python -m ... DEVICE`.

Checked: tests/test_validation_system.py.
"""

import base64
import sys
from typing import Any

from .models import encoder
from .server import Done, serve

__all__ = ["main"]


def main(device: str) -> None:
    """Serve until the standard input closes."""
    run = encoder(device)
    for _ in range(3):
        run(64)

    async def handle(asked: dict[str, Any]) -> Done:
        image = asked["image"]
        pixels = base64.b64decode(image) if isinstance(image, str) else image
        worked = run(asked["patches"])
        return Done({"embedding": [pixels[0] / 255.0] * 64}, *worked)

    serve(handle)


if __name__ == "__main__":
    main(sys.argv[1])
