"""Image -> asset, on the public checkpoint layout: loads models, plans memory, runs the stages in order."""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, TypeVar, cast

import torch
from PIL import Image

from . import attention, generation
from .arguments import device_of, whole
from .artifacts import Conditioning, Latent, Structure, to_device
from .asset import Asset, GlbOptions
from .checkpoint import DEFAULT_WEIGHTS, Checkpoint, open_checkpoint
from .errors import CheckpointError, StageError, require_finite
from .export import VoxelAsset
from .generation import MAX_TOKENS, TYPES, PipelineType
from .image import (
    ImageEncoder,
    PreparedImage,
    is_opaque,
    load_image_encoder,
    open_image,
    prepare,
    require_transformers,
)
from .image import background as backgrounds
from .manifest import Manifest
from .memory.costs import Cost, cost, encoder_activations, export_cost, tokens_of_image
from .memory.export import PIECES as EXPORT_PIECES
from .memory.ledger import Ledger, free_workspaces
from .memory.plan import MemoryPlan, Need, draw_up, free_bytes
from .memory.residency import Weights
from .models.slat import SparseUnetVaeDecoder
from .store import StageStore
from .weights import build, fingerprint, map_tensors

T = TypeVar("T")

LOW, HIGH = 512, 1024
"""Sides at which the picture is encoded."""

_ENCODER = "image_encoder"
# Tokens of an ordinary object by the resolution of its voxels (docs/memory.md); plans are drawn up for them.
_TYPICAL = {512: 2400, 1024: 9800, 1536: 22_300}


@dataclass(frozen=True)
class Settings:
    """What a pipeline was opened with, for the manifest."""

    weights: str
    device: str
    attention: attention.Backend
    vram_budget: float | None


class Pipeline:
    """The reference pipeline. Make one with `from_pretrained`; it can `run` any number of times.

    Between runs no model is on the device unless the plan found room for all of them; what a run took is given back.
    """

    def __init__(
        self, checkpoint: Checkpoint, weights: dict[str, Weights], encoder: ImageEncoder, settings: Settings
    ) -> None:
        self.checkpoint, self.encoder, self.settings = checkpoint, encoder, settings
        self.device = torch.device(settings.device)
        self._weights = {_ENCODER: encoder.weights, **weights}

    @classmethod
    def from_pretrained(
        cls, source: str | Path = DEFAULT_WEIGHTS, *, revision: str | None = None, type: str | None = None,  # noqa: A002
        device: str | torch.device | None = None, vram_budget: float | None = None, attention_backend: str = "auto",
        image_encoder: str | None = None, announce: Callable[[str], None] | None = None,
    ) -> Pipeline:  # fmt: skip
        """Opens a checkpoint: every file located, every key and shape checked, nothing allocated.

        Args:
            source: a folder in the layout of TRELLIS.2-4B, or a hub id (taken at a pinned revision).
            type: the pipeline type whose models are opened; by default the one that pipeline.json names. Others are
                opened when they are first run.
            device: where it runs; by default the first CUDA device, else the CPU.
            vram_budget: GiB that it may take of a CUDA device; by default what is free when a run starts.
            attention_backend: a name in `attention.BACKENDS`, or "auto".
            image_encoder: folder or hub id of DINOv3, instead of the one that pipeline.json names.
            announce: called with a line for each model that is opened.

        Raises:
            CheckpointError: something is missing, gated, or not what its configuration says.
            AttentionError: the backend asked for cannot serve.
        """
        place = device_of(device or ("cuda" if torch.cuda.is_available() else "cpu"))
        if place.type == "cuda" and place.index is None:
            place = torch.device("cuda", torch.cuda.current_device())
        if vram_budget is not None and place.type != "cuda":
            raise ValueError(f"vram_budget: it limits a CUDA device, and the pipeline runs on {place}")
        checkpoint = open_checkpoint(source, revision)
        kind = pipeline_type(type or checkpoint.default_type)
        weights = _open(checkpoint, kind.roles, announce)
        dtype = weights["sparse_structure_flow_model"].module.torso_dtype
        widths = tuple(sorted({cast("int", w.module.head_dim) for role, w in weights.items() if "flow" in role}))
        if announce and (notice := attention.notice(place, attention_backend)):
            announce(f"attention: {notice}")
        backend = attention.choose(place, dtype, attention_backend, widths)
        if announce:
            announce(f"attention: {backend.name} {backend.version}")
        if announce and "transformers" not in sys.modules:
            announce("transformers: importing it takes some seconds")
        require_transformers()
        encoder = load_image_encoder(image_encoder or checkpoint.image_encoder)
        if announce:
            announce(f"image encoder: {image_encoder or checkpoint.image_encoder}")
        wants = weights["sparse_structure_flow_model"].module.cond_channels
        has = encoder.weights.module.config.hidden_size  # type: ignore[union-attr]
        if wants != has:
            raise CheckpointError(f"image encoder: the flows expect {wants} channels, it has {has}")
        return cls(checkpoint, weights, encoder, Settings(str(source), str(place), backend, vram_budget))

    def open(self, type: str, announce: Callable[[str], None] | None = None) -> PipelineType:  # noqa: A002
        """Opens and checks the models of a pipeline type that are not open yet."""
        kind = pipeline_type(type)
        missing = [role for role in kind.roles if role not in self._weights]
        self._weights |= _open(self.checkpoint, missing, announce)
        return kind

    def plan(
        self, type: str | None = None, max_tokens: int = MAX_TOKENS, export: GlbOptions | None = None,  # noqa: A002
    ) -> MemoryPlan | None:  # fmt: skip
        """How a run would fit the device; None on the CPU, where nothing is planned.

        Args:
            export: how the asset becomes a GLB on the same device afterwards, if it does.

        Raises:
            MemoryPlanError: it cannot fit; the message says which stage and why.
        """
        if self.device.type != "cuda":
            return None
        kind = self.open(type or self.checkpoint.default_type)
        given = self.settings.vram_budget
        budget = int(given * 2**30) if given else free_bytes(self.device) + self._resident_bytes()
        return draw_up(self.needs(kind, export), budget, whole_card=given is not None, max_tokens=max_tokens)

    def needs(self, kind: PipelineType, export: GlbOptions | None = None) -> list[Need]:
        """What the stages of a type, and the export if there is one, need on a device, in their order."""
        config = self.encoder.weights.module.config
        high = kind.resolution > LOW
        seen_tokens = sum(tokens_of_image(s) for s in ((LOW, HIGH) if high else (LOW,)))
        held = seen_tokens * int(config.hidden_size) * 4  # type: ignore[union-attr, arg-type]
        context = tokens_of_image(HIGH if high else LOW)
        low = tokens_of_image(LOW)
        typical = _TYPICAL[kind.resolution]

        def need(stage: str, role: str, tokens: int, seen: int, sampler: str | None = None) -> Need:
            guided = sampler is not None and self.checkpoint.samplers[sampler].guidance_strength != 1
            of = cost(self._weights[role], context=seen, guided=guided, voxels_only=stage == "cascade")
            return Need(stage, role, of, tokens, 0 if stage.startswith("decode") else held)

        encoder = self._weights[_ENCODER]
        activations = encoder_activations(config, HIGH if high else LOW)
        stages = [
            Need("encode", _ENCODER, Cost(encoder.nbytes, encoder.nbytes, lambda _: activations), 1),
            need("structure", "sparse_structure_flow_model", 1, low, "structure"),
            need("occupancy", "sparse_structure_decoder", 1, 0),
        ]
        if kind.low:
            stages += [
                need("shape_low", kind.low, _TYPICAL[512], low, "shape"),
                need("cascade", "shape_slat_decoder", _TYPICAL[512], 0),
            ]
        return [
            *stages,
            need("shape", kind.shape, typical, context, "shape"),
            need("texture", kind.texture, typical, context, "texture"),
            need("decode_shape", "shape_slat_decoder", typical, 0),
            need("decode_texture", "tex_slat_decoder", typical, 0),
            *([self._export(export, typical)] if export else []),
        ]

    @staticmethod
    def _export(options: GlbOptions, typical: int) -> Need:
        of = export_cost(options.faces, options.texture, options.remesh, opaque=options.alpha == "opaque")
        return Need("export", "", of, typical, loose=EXPORT_PIECES[options.remesh])

    def _resident_bytes(self) -> int:
        return sum(w.nbytes for w in self._weights.values() if w.placed)

    def release(self) -> None:
        """Takes every model off the device."""
        placed = [weights for weights in self._weights.values() if weights.placed]
        for weights in placed:
            weights.release()
        if placed and self.device.type == "cuda":
            torch.cuda.empty_cache()

    def run(
        self, image: Image.Image | str | Path | PreparedImage, *, seed: int = 42, type: str | None = None,  # noqa: A002
        max_tokens: int = MAX_TOKENS, background: str = "auto", steps: int | None = None,
        export: GlbOptions | None = None, store: StageStore | None = None, record: Manifest | None = None,
    ) -> Asset:  # fmt: skip
        """Generates an asset from a picture of an object.

        Args:
            image: as PIL reads it, or its file, with its background or without; or already prepared.
            seed: of the noise, which is drawn on the CPU and so the same on every device.
            type: "512", "1024", "1024_cascade" or "1536_cascade"; by default what pipeline.json names.
            max_tokens: a cascade lowers its resolution while it has as many latent voxels, to no less than 1024.
            background: how an opaque picture's object is found, see `image.background.choose`.
            steps: of every sampler, instead of the checkpoint's.
            export: how the asset is to become a GLB on this device (`Asset.to_glb`) when `release` has taken the models
                away, so that the plan counts it too.
            store: keeps the stages, and gives back those that it has.
            record: collects timings, memory and facts of the stages.

        Returns:
            The asset, on the CPU, with its intermediate results.

        Raises:
            ValueError: an argument out of range.
            ImageError: the picture cannot serve.
            StageError: a stage's result is unusable; it names the stage.
            MemoryPlanError: a stage does not fit the budget.
        """
        seed, max_tokens = whole("seed", seed, 0, 2**63 - 1), whole("max_tokens", max_tokens, 1, 1 << 24)
        steps = None if steps is None else whole("steps", steps, 1, 1000)
        backgrounds.require_method(background)
        kind = self.open(type or self.checkpoint.default_type)
        record = record or Manifest("generate", {}, quiet=True)
        run = _Run(self, kind, seed, max_tokens, steps, export, store, record)
        record.facts["attention"] = asdict(self.settings.attention)
        if not isinstance(image, PreparedImage):
            image = prepare_image(image, background, record)
        if store:
            store.begin(self._identity(image, kind, seed, max_tokens, steps))
        with attention.using(self.settings.attention):
            return run(image)

    def _identity(
        self, image: PreparedImage, kind: PipelineType, seed: int, max_tokens: int, steps: int | None
    ) -> dict[str, Any]:
        """What stages on disk must share with a run to be taken up by it."""
        pixels = hashlib.sha256(f"{image.image.size}".encode() + image.image.tobytes()).hexdigest()
        files = self.files(kind)
        return {
            "image": pixels,
            "type": kind.name,
            "seed": seed,
            "max_tokens": max_tokens,
            "steps": steps,
            "weights": {role: fingerprint(file) for role, file in files.items()},
        }

    def files(self, kind: PipelineType) -> dict[str, Path]:
        """The weights' files of a type's models and of the image encoder."""
        files = {role: found.weights for role, found in self.checkpoint.files(kind.roles).items()}
        return files | ({_ENCODER: self.encoder.file} if self.encoder.file else {})


class _Run:
    """One pass through the stages."""

    def __init__(
        self, pipeline: Pipeline, kind: PipelineType, seed: int, max_tokens: int, steps: int | None,
        export: GlbOptions | None, store: StageStore | None, record: Manifest,
    ) -> None:  # fmt: skip
        self.pipeline, self.kind, self.store, self.record = pipeline, kind, store, record
        self.device = pipeline.device
        self.rng = torch.Generator().manual_seed(seed)
        self.seed = seed
        config = pipeline.checkpoint.samplers
        self.samplers = {k: replace(v, steps=steps) if steps else v for k, v in config.items()}
        self.plan = pipeline.plan(kind.name, max_tokens, export)
        self.exports = export is not None
        self.max_tokens = self.plan.max_tokens if self.plan else max_tokens
        if self.plan:
            record.say(self.plan.describe())
            record.facts["plan"] = self.plan.facts()
        free_workspaces()
        self.ledger = Ledger(self.device)

    def __call__(self, image: PreparedImage) -> Asset:
        try:
            return self._stages(image)
        finally:
            if not (self.plan and all(s.mode == "resident" for s in self.plan.stages)):
                self.pipeline.release()
            free_workspaces()
            if self.device.type == "cuda":
                torch.cuda.empty_cache()  # each recorded pass had a pool of its own, which nothing else could use
            self.record.facts["memory"] = self.ledger.facts()

    def _stages(self, image: PreparedImage) -> Asset:
        host = torch.device("cpu")
        conditioning = self._kept("conditioning", Conditioning, lambda: self._encode(image))
        structure = self._kept("structure", Structure, lambda: self._structure(conditioning))
        low, shape, texture = self._latents(conditioning, structure)
        conditioning = to_device(conditioning, host)  # the decoders want its room
        voxels = self._kept("voxels", VoxelAsset, lambda: to_device(self._decode(shape, texture), host), on=host)
        if self.plan and self.exports:
            self.plan.require("export", len(voxels.coords))
        return Asset(
            image, conditioning, to_device(structure, host), None if low is None else to_device(low, host),
            to_device(shape, host), to_device(texture, host), voxels, self.kind.name, self.seed, str(self.device),
        )  # fmt: skip

    def _latents(self, conditioning: Conditioning, structure: Structure) -> tuple[Latent | None, Latent, Latent]:
        kind, norms = self.kind, self.pipeline.checkpoint.normalization
        features = conditioning.low if conditioning.high is None else conditioning.high
        low: Latent | None = None
        if kind.low:
            low = self._kept(
                "shape_low",
                Latent,
                lambda: self._shape("shape_low", str(kind.low), structure.coords, conditioning.low, LOW),
            )
        shape = self._kept("shape", Latent, lambda: self._final_shape(structure, low, features))

        def texture() -> Latent:
            with self._stage("texture", kind.texture, len(shape.coords)) as (flow, facts, bar):
                facts["tokens"] = len(shape.coords)
                return generation.sample_texture(
                    flow, shape, features, self.samplers["texture"], norms["shape"], norms["texture"], self.rng, bar
                )

        return low, shape, self._kept("texture", Latent, texture)

    def _kept(self, name: str, kind: type[T], make: Callable[[], T], on: torch.device | None = None) -> T:
        """A stage from the store, or made and kept there."""
        if self.store and (found := self.store.find(name, kind)):
            artifact, state = found
            if state is not None:
                self.rng.set_state(state)
            self.record.facts["stages"][name] = {"resumed": True}
            self.record.say(f"{name:<14}    taken up from {self.store.folder}")
            return to_device(artifact, on or self.device)
        artifact = make()
        if self.store:
            self.store.keep(name, artifact, self.rng)
        return artifact

    @contextmanager
    def _stage(
        self, name: str, role: str, tokens: int
    ) -> Iterator[tuple[Any, dict[str, Any], Callable[[int, int], None]]]:
        """A stage's model on the device as the plan says, its time and its memory recorded."""
        weights, planned, mode, resident = self.pipeline._weights[role], None, "swap", 0
        try:
            with ExitStack() as stack:
                facts = stack.enter_context(self.record.stage(name))
                if self.plan:
                    others = {r: w for r, w in self.pipeline._weights.items() if w.placed and r != role}
                    resident = sum(w.nbytes for w in others.values())
                    mode, alone, planned, _ = self.plan.decide(name, tokens, resident)
                    if alone:
                        resident = 0
                        for other in others.values():
                            other.release()
                    if torch.cuda.memory_reserved(self.device) > 0.5 * self.plan.usable:
                        torch.cuda.empty_cache()  # what the last stage's shapes left in pieces
                    facts["weights"] = mode
                entry = stack.enter_context(self.ledger.stage(name, planned))
                module = stack.enter_context(weights.on(self.device, mode))
                if self.plan and isinstance(module, SparseUnetVaeDecoder):
                    plan = self.plan

                    def parts_for(voxels: int) -> int:
                        parts, entry["planned"] = plan.parts(name, mode, resident, tokens, voxels)
                        if parts > 1:
                            facts["parts"] = parts
                            torch.cuda.empty_cache()  # pieces of the coarser levels would lie between the finest's
                        return parts

                    module.parts_for = parts_for
                    stack.callback(setattr, module, "parts_for", None)
                yield module, facts, lambda done, of: self.record.progress(name, done, of)
        except torch.cuda.OutOfMemoryError as error:
            raise StageError(
                name, f"out of memory although the plan expected it to fit ({planned or 0:,} bytes): {error}"
            ) from error

    def _encode(self, image: PreparedImage) -> Conditioning:
        with self._stage("encode", _ENCODER, 1) as (model, facts, _):
            encoder = self.pipeline.encoder
            low = encoder.encode(model, image.image, LOW, self.device)
            high = encoder.encode(model, image.image, HIGH, self.device) if self.kind.resolution > LOW else None
            facts["tokens"] = low.shape[1] + (0 if high is None else high.shape[1])
        for features in (low, high):
            if features is not None:
                require_finite("encode", "image features", features)
        return Conditioning(low, high)

    def _structure(self, conditioning: Conditioning) -> Structure:
        with self._stage("structure", "sparse_structure_flow_model", 1) as (flow, _, bar):
            latent = generation.sample_structure(flow, conditioning.low, self.samplers["structure"], self.rng, bar)
        with self._stage("occupancy", "sparse_structure_decoder", 1) as (decoder, facts, _):
            structure = generation.decode_structure(decoder, latent, self.kind.structure_grid)
            facts["voxels"] = len(structure.coords)
        return structure

    def _shape(self, stage: str, role: str, coords: torch.Tensor, features: torch.Tensor, resolution: int) -> Latent:
        with self._stage(stage, role, len(coords)) as (flow, facts, bar):
            facts["tokens"] = len(coords)
            return generation.sample_shape(
                flow, coords, features, self.samplers["shape"], self.pipeline.checkpoint.normalization["shape"],
                resolution, self.rng, bar, stage,
            )  # fmt: skip

    def _final_shape(self, structure: Structure, low: Latent | None, features: torch.Tensor) -> Latent:
        coords, resolution = structure.coords, self.kind.resolution
        if low is not None:
            with self._stage("cascade", "shape_slat_decoder", len(low.coords)) as (decoder, facts, _):
                coords, resolution, report = generation.cascade(decoder, low, resolution, self.max_tokens)
                facts.update(report)
        return self._shape("shape", self.kind.shape, coords, features, resolution)

    def _decode(self, shape: Latent, texture: Latent) -> VoxelAsset:
        with self._stage("decode_shape", "shape_slat_decoder", len(shape.coords)) as (decoder, facts, _):
            decoded = generation.decode_shape(decoder, shape)
            facts["voxels"] = len(decoded.coords)
        # The dual grid waits in main memory: in pieces of what the shape took it would keep all of that from the texture.
        decoded = decoded.grid_on(torch.device("cpu"))
        with self._stage("decode_texture", "tex_slat_decoder", len(texture.coords)) as (decoder, _, _):
            coords, attrs = generation.decode_texture(decoder, texture, decoded.subdivisions)
        return generation.voxel_asset(decoded, coords, attrs, shape.resolution)


def prepare_image(image: Image.Image | str | Path, background: str, record: Manifest) -> PreparedImage:
    """The first stage, which needs no model of the checkpoint.

    Raises:
        ImageError: the picture cannot serve.
        TypeError: it is neither a picture nor a path.
    """
    if isinstance(image, (str, Path)):
        image = open_image(image)
    if not isinstance(image, Image.Image):
        raise TypeError(f"image: expected a PIL image or a path, got {type(image).__name__}")
    with record.stage("prepare") as facts:
        prepared = prepare(image, backgrounds.choose(background) if is_opaque(image) else None)
        facts.update(size=prepared.image.width, alpha=prepared.alpha)
    return prepared


def pipeline_type(name: str) -> PipelineType:
    """The type of that name.

    Raises:
        ValueError: an unknown name.
    """
    if name not in TYPES:
        raise ValueError(f"type: expected one of {', '.join(TYPES)}, got {name!r}")
    return TYPES[name]


def _open(
    checkpoint: Checkpoint, roles: tuple[str, ...] | list[str], announce: Callable[[str], None] | None
) -> dict[str, Weights]:
    opened = {}
    for role, files in checkpoint.files(roles).items():
        module = build(files.config)
        opened[role] = Weights(role, module, map_tensors(module, files.weights))
        if announce:
            announce(f"{role}: {files.weights.name}, {opened[role].nbytes / 1e6:,.0f} MB")
    return opened
