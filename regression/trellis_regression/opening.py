"""What can be done while torch is still being imported: files read, their pictures decoded, a CUDA device made ready."""

from __future__ import annotations

import ctypes
import gc
import hashlib
import sys
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from threading import Lock, Thread
from typing import Any, cast

import numpy as np
import numpy.typing as npt

from .glb import EmptySceneError, Glb, GlbError, check_geometry, read_glb
from .reading import Reading, possible
from .scene import Coming, Frame, Images, Part, Promised, cores, extents_of, load_parts, shown_images

MAX_TRIANGLES, MAX_VERTICES = 20_000_000, 60_000_000
"""What a gate will look at; a larger scene is refused rather than allowed to fill the memory."""


@dataclass(frozen=True)
class Opened:
    """A file and its surfaces; their bounding box [2, 3], what a camera frames and the file's SHA-256, if cores that had
    nothing else to do found them."""

    glb: Glb
    parts: list[Part]
    bounds: npt.NDArray[np.float64] | None = None
    frame: Frame | None = None
    digest: str | None = None


_begun: dict[Path, Future[Opened]] = {}
_readings: list[Reading] = []


def begin(*paths: Path, apart: bool = False) -> None:
    """Starts with these files; `take` gives each of them out once.

    Args:
        apart: in processes of their own, where that can be. A copy of all arrays is its price, which a machine of two
            cores would rather not pay.
    """
    paths = tuple(p for p in dict.fromkeys(paths) if p not in _begun)
    readings: dict[Path, Reading] = {}
    if apart and possible():
        for path in paths:
            _readings.append(Reading(path, _read))
            readings[path] = _readings[-1]
    # Threads ask for the interpreter between pieces of a picture, and an import keeps it as long as it may.
    sys.setswitchinterval(0.0005)
    # A thread for each file, which waits for its pictures, and some for the pictures.
    pool = ThreadPoolExecutor(min(8, cores() + 1) + len(paths), thread_name_prefix="opening")

    def opened(path: Path) -> Opened:
        glb = read_glb(path)
        if path in readings:
            digest = hashlib.sha256(glb.data).hexdigest()
            if (found := readings[path].result()) is not None:
                parts, bounds, frame = found[0]
                rest = _Rest(path, glb, readings[path])
                for part in parts:
                    for texture in part.material.textures.values():
                        if isinstance(cast(Any, texture.image), Coming):  # one that was made of others is here already
                            texture.image.source = rest
                return Opened(glb, parts, bounds, frame, digest)
        images = Images(glb)
        images.decode(shown_images(glb), pool)
        return Opened(glb, surfaces(glb, images))

    for path in paths:
        _begun[path] = pool.submit(opened, path)
    # Not shut down: the pictures are submitted later. Its threads end with the process.


def abandon() -> None:
    """Ends the processes that still read; who waits for one hears that it was killed."""
    while _readings:
        _readings.pop().abandon()


def _read(path: Path) -> Iterator[Any]:
    """Surfaces without their images, their bounding box and what a camera frames, then each image."""
    glb = read_glb(path)
    images = Promised(glb)
    parts = surfaces(glb, images)
    yield parts, *(extents_of(parts) if parts else (None, None))
    yield from images.decoded()


class _Rest:
    """The images of a file that a process reads, for whoever asks first."""

    def __init__(self, path: Path, glb: Glb, reading: Reading) -> None:
        self._path, self._glb, self._reading = path, glb, reading
        self._found: dict[int, npt.NDArray[np.uint8]] = {}
        self._lock = Lock()

    def __call__(self, index: int) -> npt.NDArray[np.uint8]:
        """An image, by its number in the file; waits for it.

        Raises:
            ValueError: it cannot be decoded, or the process was killed.
        """
        try:
            with self._lock:
                while index not in self._found:
                    if (found := self._reading.result()) is None:  # the file has changed; what was checked is here
                        self._found[index] = Images(self._glb)[index]
                    else:
                        self._found[found[0][0]] = found[0][1]
                return self._found[index]
        except GlbError as error:
            raise GlbError(f"{self._path}: {error}") from error.__cause__


def wake(device: str) -> None:
    """Begins to make a CUDA device's context, which torch then finds. That a device is missing is torch's to say."""
    kind, _, index = device.partition(":")
    if kind == "cuda" and (index or "0").isdecimal():
        Thread(target=_retain, args=(int(index or 0),), daemon=True).start()


def _retain(index: int) -> None:
    try:
        driver = ctypes.CDLL("libcuda.so.1")
    except OSError:  # no driver: torch says so, with a name, when it is asked for the device
        return
    device, context = ctypes.c_int(), ctypes.c_void_p()
    if driver.cuInit(0) == 0 and driver.cuDeviceGet(ctypes.byref(device), index) == 0:
        # Never released: it ends with the process, as torch's own hold on it does.
        driver.cuDevicePrimaryCtxRetain(ctypes.byref(context), device)


@contextmanager
def uncollected() -> Iterator[None]:
    """Without looking for garbage: among the many objects that an import makes there is none to be found."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


def take(path: str | Path) -> Opened:
    """A file and its surfaces: what was begun, or read now.

    Raises:
        GlbError: it is not a usable GLB.
    """
    begun = _begun.pop(Path(path), None)
    if begun is not None:
        return begun.result()
    glb = read_glb(path)
    return Opened(glb, surfaces(glb))


def surfaces(glb: Glb, images: Images | None = None) -> list[Part]:
    """The scene's primitives that have triangles, checked; none of a scene without any.

    Args:
        images: the file's pictures, if some are decoded already.

    Raises:
        GlbError: they cannot be used, or are too many.
    """
    try:
        check_geometry(glb, max_triangles=MAX_TRIANGLES, max_vertices=MAX_VERTICES)
        return [p for p in load_parts(glb, images) if len(p.faces)]
    except EmptySceneError:
        return []
