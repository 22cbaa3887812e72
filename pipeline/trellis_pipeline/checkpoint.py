"""The public checkpoint layout: ``pipeline.json``, and for each model a ``.json`` beside a ``.safetensors``.

A checkpoint is a local folder or a hub id. Hub files are taken at pinned revisions, so that a name means the same
weights today and in a year.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from .errors import CheckpointError
from .hub import HUB_ID, HubUnreachableError, fetch, page

DEFAULT_WEIGHTS = "microsoft/TRELLIS.2-4B"
_PIPELINE = "Trellis2ImageTo3DPipeline"
_ENCODER = "DinoV3FeatureExtractor"
# What upstream's samplers take where a configuration says nothing; those that do not guide, or do so always, have fixed values.
_SAMPLER_DEFAULTS: dict[str, Any] = {
    "steps": 50, "rescale_t": 1.0, "guidance_strength": 3.0, "guidance_rescale": 0.0, "guidance_interval": (0.0, 1.0),
}  # fmt: skip
_SAMPLERS: dict[str, dict[str, Any]] = {
    "FlowEulerGuidanceIntervalSampler": {},
    "FlowEulerCfgSampler": {"guidance_interval": (0.0, 1.0)},
    "FlowEulerSampler": {"guidance_strength": 1.0, "guidance_rescale": 0.0, "guidance_interval": (0.0, 1.0)},
}


@dataclass(frozen=True)
class SamplerConfig:
    """Settings of `sampling.sample_flow`."""

    steps: int
    guidance_strength: float
    guidance_rescale: float
    guidance_interval: tuple[float, float]
    rescale_t: float
    sigma_min: float


@dataclass(frozen=True)
class Normalization:
    """Mean and standard deviation of a latent's channels: flows work on (latent - mean) / std."""

    mean: tuple[float, ...]
    std: tuple[float, ...]


@dataclass(frozen=True)
class ModelFiles:
    """Where a model lies, and the configuration that its json holds."""

    config: dict[str, Any]
    weights: Path


@dataclass(frozen=True)
class Checkpoint:
    """What ``pipeline.json`` says.

    Attributes:
        source: folder or hub id.
        models: reference of each role, as written.
        samplers: settings for "structure", "shape" and "texture".
        normalization: of the "shape" and the "texture" latent.
        image_encoder: folder or hub id of the DINOv3 model.
        background: folder or hub id of the background model, if one is named.
        default_type: pipeline type where none is asked for.
    """

    source: str
    revision: str | None
    models: dict[str, str]
    samplers: dict[str, SamplerConfig]
    normalization: dict[str, Normalization]
    image_encoder: str
    background: str | None
    default_type: str
    _files: dict[str, ModelFiles] = field(default_factory=dict, repr=False)

    def files(self, roles: Iterable[str]) -> dict[str, ModelFiles]:
        """Locates (on a hub: downloads) the files of `roles`. All that is missing is named in one message."""
        missing: list[str] = []
        away: dict[str, list[HubUnreachableError]] = {}  # by repository; the hub is tried once
        for role in roles:
            if role in self._files:
                continue
            if role not in self.models:
                missing.append(f"{role}: pipeline.json names no such model")
                continue
            try:
                self._files[role] = self._locate(self.models[role], cached_only=bool(away))
            except HubUnreachableError as error:
                away.setdefault(error.repository, []).append(error)
            except CheckpointError as error:
                missing.append(f"{role}: {error}")
        why = next((errors[0].why for errors in away.values()), "")
        missing += [
            str(HubUnreachableError(repository, errors[0].name, why, [e.name for e in errors]))
            for repository, errors in away.items()
        ]
        if missing:
            where = f"; the public files are at {page(DEFAULT_WEIGHTS)}" if Path(self.source).is_dir() else ""
            raise CheckpointError("; ".join(missing) + where)
        return {role: self._files[role] for role in roles}

    def _locate(self, reference: str, *, cached_only: bool = False) -> ModelFiles:
        parts = reference.split("/")
        folder = Path(self.source)
        if folder.is_dir():
            # A reference into another repository may lie in this folder under its own stem.
            stems = [reference] if len(parts) < 3 else [reference, "/".join(parts[2:])]
            for stem in stems:
                config, weights = folder / f"{stem}.json", folder / f"{stem}.safetensors"
                if config.is_file() and weights.is_file():
                    return ModelFiles(_read_json(config), weights)
                if config.is_file() or weights.is_file():
                    raise CheckpointError(f"{weights if config.is_file() else config} is missing")
            if len(parts) < 3:
                raise CheckpointError(f"{folder / reference}.json and .safetensors are missing")
            repository, stem, revision = "/".join(parts[:2]), "/".join(parts[2:]), None
        elif len(parts) > 2 and parts[0] != "ckpts":
            repository, stem, revision = "/".join(parts[:2]), "/".join(parts[2:]), None
        else:
            repository, stem, revision = self.source, reference, self.revision
        config, weights = (
            fetch(repository, f"{stem}.{kind}", revision, cached_only=cached_only) for kind in ("json", "safetensors")
        )
        return ModelFiles(_read_json(config), weights)


def open_checkpoint(source: str | Path, revision: str | None = None) -> Checkpoint:
    """Reads ``pipeline.json`` of a local folder or a hub id.

    Raises:
        CheckpointError: neither a folder nor an id, or a pipeline.json that lacks something; the message says what.
    """
    source = str(source)
    if Path(source).is_dir():
        if revision:
            raise CheckpointError(f"revision: {source} is a folder, which has none; a hub id has")
        path = Path(source) / "pipeline.json"
        if not path.is_file():
            raise CheckpointError(
                f"{source}: it holds no pipeline.json; expected a folder in the layout of {page(DEFAULT_WEIGHTS)}"
            )
    elif HUB_ID.fullmatch(source) and not Path(source).exists():
        path = fetch(source, "pipeline.json", revision)
    else:
        raise CheckpointError(f"{source}: neither a folder nor a hub id (organisation/name)")
    return parse(source, revision, _read_json(path), path)


def _read_json(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, json.JSONDecodeError) as error:
        raise CheckpointError(f"{path}: it cannot be read as JSON: {error}") from None
    if not isinstance(content, dict):
        raise CheckpointError(f"{path}: expected a JSON object, got {type(content).__name__}")
    return content


def parse(source: str, revision: str | None, content: dict[str, Any], path: Path) -> Checkpoint:
    """The checkpoint that a ``pipeline.json`` describes. `path` is for messages.

    Raises:
        CheckpointError: it lacks something, or names a sampler that is not known.
    """
    try:
        args = content["args"]
        encoder_name = args["image_cond_model"].get("name", _ENCODER)
        if encoder_name != _ENCODER:
            raise ValueError(f"image_cond_model: only {_ENCODER} is known, got {encoder_name!r}")
        encoder = args["image_cond_model"]["args"]["model_name"]
        background = (args.get("rembg_model") or {}).get("args", {}).get("model_name")
        return Checkpoint(
            source,
            revision,
            {str(k): str(v) for k, v in args["models"].items()},
            {
                short: _sampler(args[f"{long}_sampler"])
                for short, long in (("structure", "sparse_structure"), ("shape", "shape_slat"), ("texture", "tex_slat"))
            },
            {
                short: _normalization(args[f"{long}_normalization"])
                for short, long in (("shape", "shape_slat"), ("texture", "tex_slat"))
            },
            _relative(source, encoder),
            None if background is None else _relative(source, background),
            str(args.get("default_pipeline_type", "1024_cascade")),
        )
    except KeyError as error:
        name = content.get("name")
        other = "" if name in (None, _PIPELINE) else f"; it is of a {name}, and {_PIPELINE}'s is expected"
        raise CheckpointError(f"{path}: it lacks {error}{other}") from None
    except (TypeError, AttributeError, ValueError) as error:
        raise CheckpointError(f"{path}: not in the layout of TRELLIS.2-4B: {error}") from None


def _relative(source: str, name: str) -> str:
    """A folder inside a local checkpoint goes before a hub id of the same spelling."""
    local = Path(source) / name
    return str(local) if local.is_dir() else name


def _sampler(content: dict[str, Any]) -> SamplerConfig:
    if content["name"] not in _SAMPLERS:
        raise ValueError(f"sampler: only {', '.join(_SAMPLERS)} are known, got {content['name']!r}")
    params = {**_SAMPLER_DEFAULTS, **content["params"], **_SAMPLERS[content["name"]]}
    low, high = params["guidance_interval"]
    config = SamplerConfig(
        int(params["steps"]), float(params["guidance_strength"]), float(params["guidance_rescale"]),
        (float(low), float(high)), float(params["rescale_t"]), float(content["args"]["sigma_min"]),
    )  # fmt: skip
    if config.steps < 1:
        raise ValueError(f"sampler: expected at least one step, got {config.steps}")
    return config


def _normalization(content: dict[str, Any]) -> Normalization:
    mean, std = (tuple(float(x) for x in content[k]) for k in ("mean", "std"))
    if len(mean) != len(std) or not all(s > 0 for s in std):
        raise ValueError("normalization: expected as many means as positive standard deviations")
    return Normalization(mean, std)
