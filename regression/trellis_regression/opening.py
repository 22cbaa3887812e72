"""What can be done while torch is still being imported: files read, their pictures decoded, a CUDA device made ready."""

from __future__ import annotations

import ctypes
import gc
import sys
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from threading import Thread

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


def wake(device: str) -> None:
    """Begins to make a CUDA device's context, which torch then finds. That a device is missing is torch's to say."""
    kind, _, index = device.partition(":")
    if kind == "cuda" and (index or "0").isdecimal():
        Thread(target=_retain, args=(int(index or 0),), daemon=True).start()


def _retain(index: int) -> None:
    try:
        driver = ctypes.CDLL("libcuda.so.1")
    except OSError:
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
