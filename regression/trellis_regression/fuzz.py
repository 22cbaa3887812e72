"""Broken files by the thousand: each must give findings or one clear error, within bounded time and memory.

Valid files of several kinds are changed at random: bytes anywhere, digits and structure in the JSON, values that lie about
sizes, images and buffers that are cut, whole chunks swapped. `check` then does all that it does to a file from a user,
pictures left out. What a case did can be repeated from its number.
"""

from __future__ import annotations

import json
import resource
import struct
import time
import traceback
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from .asset import Asset
from .gate import judge
from .glb import GlbError
from .inject import Model
from .profile import Looks, gather
from .thresholds import load

SLOW_SECONDS = 20.0
"""A case that takes longer than this (processor time) counts as a hang; the files are a few kilobytes."""
_NUMBERS: tuple[Any, ...] = (
    0, 1, -1, 2, 3, 255, 65535, 65536, 2**31 - 1, 2**31, 2**32, 2**63, 10**30, 1e38, -1e38, 1e-40, 0.5, None, "x", [], {}, True,
)  # fmt: skip


@dataclass
class Outcome:
    """What came of a run."""

    cases: int = 0
    errors: Counter[str] = field(default_factory=Counter)
    fired: Counter[str] = field(default_factory=Counter)
    crashes: list[str] = field(default_factory=list)
    slowest: float = 0.0
    seconds: float = 0.0
    peak_megabytes: float = 0.0

    @property
    def ok(self) -> bool:
        """No case crashed or hung."""
        return not self.crashes

    def summary(self) -> str:
        """For a person."""
        head = (
            f"{self.cases} cases in {self.seconds:.0f} s of processor time: {sum(self.errors.values())} refused with one "
            f"clear error, {self.cases - sum(self.errors.values()) - len(self.crashes)} judged, {len(self.crashes)} crashed; "
            f"slowest {self.slowest:.2f} s, peak memory {self.peak_megabytes:.0f} MB"
        )
        return "\n".join([head, *self.crashes[:10]])


def seeds() -> list[bytes]:
    """The valid files that are broken: a textured ball, a cut-out one, and one as plain as can be."""
    import trimesh

    ball = trimesh.creation.icosphere(subdivisions=2)
    angle = np.stack(
        [np.arctan2(ball.vertices[:, 0], ball.vertices[:, 2]) / 6.3 + 0.5, ball.vertices[:, 1] / 2 + 0.5], 1
    )
    pixels = np.random.default_rng(0).integers(0, 256, (16, 16, 4), np.uint8)
    model = Model(
        ball.vertices.astype(np.float32), ball.vertices.astype(np.float32), angle.astype(np.float32),
        ball.faces.astype(np.int64), pixels, pixels,
    )  # fmt: skip
    cut = Model(**{**model.__dict__, "alpha_mode": "MASK", "keep_alpha": True})
    scene = trimesh.Scene()
    scene.add_geometry(trimesh.creation.box((1, 2, 3)), transform=trimesh.transformations.translation_matrix((1, 2, 3)))
    return [model.write(), cut.write(), bytes(scene.export(file_type="glb"))]


def mutate(data: bytes, random: np.random.Generator) -> bytes:
    """One to three random changes, most of them such that the file still has to be looked into."""
    for _ in range(int(random.integers(1, 4))):
        kind = random.random()
        if kind < 0.35:
            data = _json_value(data, random)
        elif kind < 0.6:
            data = _floats(data, random)
        elif kind < 0.8:
            data = _digit(data, random)
        elif kind < 0.92:
            data = _json_value(data, random, drop=True)
        elif kind < 0.97 and len(data) > 24:
            data = _bytes(data, random)
        elif len(data) > 24:
            at = int(random.integers(0, len(data)))
            data = data[:at] + data[at + int(random.integers(1, 64)) :]
    return data


def _split(data: bytes) -> tuple[Any, bytes] | None:
    try:
        size = struct.unpack_from("<I", data, 12)[0]
        return json.loads(data[20 : 20 + size]), data[20 + size :]
    except (struct.error, ValueError, RecursionError):
        return None


def _json_value(data: bytes, random: np.random.Generator, *, drop: bool = False) -> bytes:
    """A random place in the JSON gets another value, is dropped, or is repeated."""
    split = _split(data)
    if split is None or not isinstance(split[0], dict):
        return data
    document, rest = split
    places: list[tuple[Any, Any]] = []
    stack: list[Any] = [document]
    while stack:
        node = stack.pop()
        items = (
            list(node.items()) if isinstance(node, dict) else list(enumerate(node)) if isinstance(node, list) else []
        )
        places += [(node, key) for key, _ in items]
        stack += [value for _, value in items]
    if not places:
        return data
    node, key = places[int(random.integers(0, len(places)))]
    if drop:
        del node[key]
    elif isinstance(node[key], (dict, list)) and random.random() < 0.5:
        node[key] = [node[key]] * int(random.integers(0, 4))
    else:
        node[key] = _NUMBERS[int(random.integers(0, len(_NUMBERS)))]
    text = json.dumps(document).encode()
    text += b" " * (-len(text) % 4)
    return struct.pack("<IIIII", 0x46546C67, 2, 20 + len(text) + len(rest), len(text), 0x4E4F534A) + text + rest


def _bytes(data: bytes, random: np.random.Generator) -> bytes:
    raw = bytearray(data)
    for _ in range(int(random.integers(1, 8))):
        raw[int(random.integers(0, len(raw)))] = int(random.integers(0, 256))
    return bytes(raw)


def _digit(data: bytes, random: np.random.Generator) -> bytes:
    """Another digit in a number of the JSON."""
    if len(data) < 24:
        return data
    raw = bytearray(data)
    end = min(len(raw), 20 + struct.unpack_from("<I", data, 12)[0])
    digits = [i for i in range(20, end) if raw[i : i + 1].isdigit()]
    if digits:
        raw[digits[int(random.integers(0, len(digits)))]] = int(random.integers(48, 58))
    return bytes(raw)


def _floats(data: bytes, random: np.random.Generator) -> bytes:
    """Extreme floats into the binary chunk, where positions, normals and uv lie."""
    raw = bytearray(data)
    if len(raw) < 64:
        return data
    bad = (float("nan"), float("inf"), 1e38, -1e38, 1e-42, 0.0, 1e10)
    for _ in range(int(random.integers(1, 6))):
        at = int(random.integers(5, len(raw) // 4)) * 4
        raw[at : at + 4] = struct.pack("<f", bad[int(random.integers(0, len(bad)))])
    return bytes(raw)


def examine(data: bytes) -> list[str]:
    """All that `check` does to a file, pictures left out; the names of the gates that fired.

    Raises:
        GlbError: the one clear error that a file may give.
    """
    asset = Asset.parse(data, "case")
    return [x.name for x in judge(gather(asset, looks=Looks(views=())), load()).fired]


def run(cases: int, *, seed: int = 0, report: Callable[[str], None] = lambda line: None) -> Outcome:
    """Breaks and examines `cases` files."""
    outcome, files = Outcome(), seeds()
    begun = time.process_time()
    for case in range(cases):
        random = np.random.default_rng((seed, case))
        data = mutate(files[case % len(files)], random)
        before = time.process_time()
        try:
            outcome.fired.update(examine(data))
        except GlbError as error:
            outcome.errors[str(error)[:24]] += 1
            if "\n" in str(error).strip():
                outcome.crashes.append(f"case {case}: its error has several lines: {error}")
        except BaseException as error:
            if isinstance(error, KeyboardInterrupt):
                raise
            where = traceback.extract_tb(error.__traceback__)[-1]
            outcome.crashes.append(f"case {case}: {type(error).__name__}: {error} ({where.filename}:{where.lineno})")
        took = time.process_time() - before
        outcome.slowest = max(outcome.slowest, took)
        if took > SLOW_SECONDS:
            outcome.crashes.append(f"case {case}: took {took:.1f} s")
        outcome.cases += 1
        if (case + 1) % 1000 == 0:
            report(f"{case + 1} cases, {len(outcome.crashes)} crashed, slowest {outcome.slowest:.2f} s")
    outcome.seconds = time.process_time() - begun
    outcome.peak_megabytes = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return outcome
