"""Files that will be needed are read, and their pictures decoded, while torch is still being imported."""

from __future__ import annotations

import sys
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

from .glb import Glb, read_glb
from .scene import Images, cores, shown_images

_begun: dict[Path, Future[tuple[Glb, Images]]] = {}


def begin(*paths: Path) -> None:
    """Starts with these files on threads of their own; `take` gives each of them out once."""
    # The threads ask for the interpreter between pieces of a picture, and an import keeps it as long as it may.
    sys.setswitchinterval(0.0005)
    pool = ThreadPoolExecutor(min(8, cores() + 1), thread_name_prefix="opening")

    def opened(path: Path) -> tuple[Glb, Images]:
        glb = read_glb(path)
        images = Images(glb)
        images.decode(shown_images(glb), pool)
        return glb, images

    for path in paths:
        if path not in _begun:
            _begun[path] = pool.submit(opened, path)
    # Not shut down: the pictures are submitted later. Its threads end with the process.


def take(path: str | Path) -> tuple[Glb, Images]:
    """A file and its pictures: what was begun, or read now.

    Raises:
        GlbError: it is not a usable GLB.
    """
    begun = _begun.pop(Path(path), None)
    if begun is not None:
        return begun.result()
    glb = read_glb(path)
    return glb, Images(glb)
