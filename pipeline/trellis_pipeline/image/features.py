"""DINOv3 features: the hidden states after all layers, normalised without the model's own scale."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image

from ..errors import CheckpointError
from ..hub import HUB_ID, fetch
from ..memory.residency import Weights
from . import timm

# The statistics of ImageNet, which DINOv3 was trained with.
_MEAN, _STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
_MIN_TRANSFORMERS = "4.56"
_FILE = "model.safetensors"


class ImageEncoder:
    """DINOv3 through transformers, in either of its layouts (4.56, 5).

    The last hidden states before the final norm are taken where they enter that norm: no attribute or return value
    that moved between versions is touched.

    Attributes:
        weights: the model.
        file: where they come from, if from a single file.
    """

    def __init__(self, weights: Weights, file: Path | None = None) -> None:
        self.weights, self.file = weights, file

    @property
    def patch(self) -> int:
        """Side of a patch in pixels."""
        return int(self.weights.module.config.patch_size)  # type: ignore[union-attr, arg-type]

    @torch.no_grad()
    def encode(self, model: Any, image: Image.Image, size: int, device: torch.device) -> torch.Tensor:
        """Features float32 [1, tokens, D] of an RGB picture resized to `size`^2: class, registers, patches.

        Args:
            model: the module of `weights`, on `device`.

        Raises:
            ValueError: size is not a multiple of the patch.
        """
        if size % self.patch:
            raise ValueError(f"size: expected a multiple of the patch of {self.patch} pixels, got {size}")
        resized = image.convert("RGB").resize((size, size), Image.Resampling.LANCZOS)
        pixels = torch.from_numpy(np.array(resized, np.float32) / 255).permute(2, 0, 1)[None].to(device)
        mean, std = (torch.tensor(v, device=device).view(1, 3, 1, 1) for v in (_MEAN, _STD))
        seen: list[torch.Tensor] = []
        hook = model.norm.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
        try:
            model((pixels - mean) / std)
        finally:
            hook.remove()
        if len(seen) != 1 or seen[0].dim() != 3:
            raise RuntimeError("DINOv3: the final norm was not met once; this transformers has another layout")
        return F.layer_norm(seen[0].float(), seen[0].shape[-1:])


def require_transformers() -> None:
    """Imports what DINOv3 needs of transformers, which takes seconds.

    Raises:
        CheckpointError: it is missing or too old.
    """
    try:
        from transformers import DINOv3ViTModel  # noqa: F401
    except ImportError as error:
        raise CheckpointError(
            f"DINOv3 needs transformers {_MIN_TRANSFORMERS} or newer: pip install 'trellis-pipeline[generate]' ({error})"
        ) from None


def load_image_encoder(source: str, revision: str | None = None) -> ImageEncoder:
    """DINOv3 from a folder or a hub id, strictly: every key present, none left over.

    Both as transformers stores it and as timm does, whose repository needs no approval.

    Raises:
        CheckpointError: transformers is missing or too old, the model is gated or not there, or keys do not fit.
    """
    require_transformers()
    import transformers
    from transformers import DINOv3ViTModel

    if Path(source).is_dir() and not (Path(source) / "config.json").is_file():
        raise CheckpointError(f"{source}: it holds no config.json; expected DINOv3 as transformers saves it")
    if not Path(source).is_dir() and not HUB_ID.fullmatch(source):
        raise CheckpointError(f"image encoder: {source}: neither a folder nor a hub id (organisation/name)")
    name = source
    if not Path(source).is_dir():
        fetch(source, "config.json", revision)
        source = str(fetch(source, _FILE, revision).parent)
    if Path(source).is_dir() and timm.is_timm(Path(source)):
        module = timm.load(Path(source) / _FILE).requires_grad_(False)
        return ImageEncoder(Weights.of_module("image encoder", module), Path(source) / _FILE)
    log = transformers.utils.logging
    level, bars = log.get_verbosity(), log.is_progress_bar_enabled()
    log.set_verbosity_error()  # what it would warn of is an error below
    log.disable_progress_bar()
    try:
        model, report = DINOv3ViTModel.from_pretrained(
            source,
            output_loading_info=True,
            dtype=torch.float32,
            use_safetensors=True,
            attn_implementation="sdpa",
        )
    except OSError as error:
        raise CheckpointError(f"{name}: DINOv3 could not be loaded: {' '.join(str(error).split())[:300]}") from None
    finally:
        log.set_verbosity(level)
        if bars:
            log.enable_progress_bar()
    wrong = {k: sorted(map(str, v)) for k, v in report.items() if k.endswith("_keys") and v}
    if wrong:
        some = "; ".join(f"{len(v)} {k.removesuffix('_keys')} ({', '.join(v[:3])})" for k, v in wrong.items())
        raise CheckpointError(f"{name}: it is not DINOv3 as this transformers knows it: {some}")
    file = Path(source) / _FILE
    weights = Weights.of_module("image encoder", model.eval().requires_grad_(False))
    return ImageEncoder(weights, file if file.is_file() else None)
