"""``trellis generate``: one picture to one GLB, with its plan, its stages and its manifest."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch

from .arguments import name_of
from .asset import GlbOptions
from .checkpoint import DEFAULT_WEIGHTS
from .generation import MAX_TOKENS, TYPES
from .hashes import Hashes, sha256
from .hub import REVISIONS
from .image import PreparedImage, open_image
from .manifest import Manifest
from .memory.plan import CONTEXT
from .pipeline import Pipeline, prepare_image
from .store import StageStore, alone


@dataclass(frozen=True)
class GenerateOptions:
    """What a generation is asked for; see `Pipeline` for the fields of the same names."""

    weights: str = DEFAULT_WEIGHTS
    revision: str | None = None
    image_encoder: str | None = None
    type: str | None = None
    seed: int = 42
    steps: int | None = None
    max_tokens: int = MAX_TOKENS
    background: str = "auto"
    attention: str = "auto"
    device: str | None = None
    vram_budget: float | None = None
    glb: GlbOptions = field(default_factory=GlbOptions)


def generate(
    source: str | Path, out: str | Path, options: GenerateOptions, *, keep_stages: Path | None = None,
    resume: bool = False, hashes: bool = True, quiet: bool = False,
) -> dict[str, Any]:  # fmt: skip
    """Generates `out` from the picture `source` and returns the manifest's facts.

    The GLB appears under its name only when it is whole. Errors are ValueErrors with one line that says what to do.

    Args:
        keep_stages: a folder for every intermediate stage, those of the export included.
        resume: take up the stages of the models that lie there; the export is done anew.
        hashes: hash the weights' files, which are read beside the run.
    """
    manifest, prepared = begin(source, options, quiet=quiet)
    opened = open_pipeline(options, manifest.say)
    return make(opened, prepared, out, options, manifest, keep_stages=keep_stages, resume=resume, hashes=hashes)


@dataclass(frozen=True)
class Opened:
    """A pipeline whose models are found and checked, for any number of pictures. `facts` go into each manifest."""

    pipeline: Pipeline
    type: str
    files: dict[str, Path]
    facts: dict[str, Any]


def begin(source: str | Path, options: GenerateOptions, *, quiet: bool) -> tuple[Manifest, PreparedImage]:
    """Reads and prepares the picture, before anything that takes long, and begins its manifest."""
    manifest = Manifest("generate", asdict(options), quiet=quiet)
    picture = open_image(source)
    manifest.facts["input"] = {"file": Path(source).name, "sha256": sha256(source), "size": list(picture.size)}
    return manifest, prepare_image(picture, options.background, manifest)


def open_pipeline(options: GenerateOptions, say: Callable[[str], None]) -> Opened:
    """Opens what the options name; `say` is given a line for each model."""
    opening, parts = time.perf_counter(), {}

    def announce(line: str) -> None:
        parts[line.partition(":")[0]] = round(time.perf_counter() - opening, 3)
        say(line)

    pipeline = Pipeline.from_pretrained(
        options.weights, revision=options.revision, type=options.type, device=options.device,
        vram_budget=options.vram_budget, attention_backend=options.attention, image_encoder=options.image_encoder,
        announce=announce,
    )  # fmt: skip
    checkpoint = pipeline.checkpoint
    kind = options.type or checkpoint.default_type
    files = pipeline.files(pipeline.open(kind))
    revision = checkpoint.revision or REVISIONS.get(checkpoint.source)
    return Opened(pipeline, kind, files, {
        "checkpoint": {"source": checkpoint.source, "revision": revision},
        "opening": {"seconds": round(time.perf_counter() - opening, 3), "done_at": parts},
    })  # fmt: skip


def make(
    opened: Opened, prepared: PreparedImage, out: str | Path, options: GenerateOptions, manifest: Manifest, *,
    keep_stages: Path | None = None, resume: bool = False, hashes: bool = True,
) -> dict[str, Any]:  # fmt: skip
    """The run itself and its GLB; see `generate`. Afterwards no model is on the device."""
    pipeline, kind, files = opened.pipeline, opened.type, opened.files
    manifest.device = pipeline.device
    manifest.facts |= opened.facts
    models = {role: found.config.get("name") for role, found in pipeline.checkpoint.files(TYPES[kind].roles).items()}
    with (
        alone(keep_stages, "--keep-stages", "run") if keep_stages else nullcontext(),
        _capped(pipeline.device, options.vram_budget),
        Hashes(files.values()) if hashes else nullcontext() as digests,
    ):
        store = StageStore(keep_stages, resume=resume) if keep_stages else None
        asset = pipeline.run(
            prepared, seed=options.seed, type=kind, max_tokens=options.max_tokens, steps=options.steps,
            export=options.glb, store=store, record=manifest,
        )  # fmt: skip
        pipeline.release()  # the export wants their room
        name = name_of(manifest.facts["input"]["file"])
        written = asset.to_glb(out, options.glb, name=name, record=manifest, keep=store.keep if store else None)
        waiting = time.perf_counter()
        manifest.facts["weights"] = {
            role: {"file": file.name, "model": models.get(role, "DINOv3ViTModel"), "bytes": file.stat().st_size}
            | (digests.of(file) if digests else {})
            for role, file in files.items()
        }
        if digests:
            digests.remember()
            manifest.facts["hashing"] = {"seconds_waited": round(time.perf_counter() - waiting, 3)}
    manifest.facts["type"], manifest.facts["resolution"] = kind, asset.shape.resolution
    manifest.facts["output"] = {"file": Path(out).name, "sha256": sha256(out), **written}
    return manifest.finish()


@contextmanager
def _capped(device: torch.device, budget: float | None) -> Iterator[None]:
    """Makes torch itself keep to a budget, so that a plan that is wrong fails here and not on the smaller card."""
    if budget is None:
        yield
        return
    before = getattr(torch.cuda, "get_per_process_memory_fraction", lambda _: 1.0)(device)  # torch from 2.8 can say
    total = torch.cuda.get_device_properties(device).total_memory
    torch.cuda.set_per_process_memory_fraction(max(0.0, min(1.0, (budget * 2**30 - CONTEXT) / total)), device)
    try:
        yield
    finally:
        torch.cuda.set_per_process_memory_fraction(before, device)
