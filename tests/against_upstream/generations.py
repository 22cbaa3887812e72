"""trellis2's whole pipeline, from image features to voxels and a mesh, beside trellis_pipeline's stages: one seed, one result."""

from __future__ import annotations

import importlib
import tempfile
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
import trellis_voxel as voxel
from harness import Finding, Setting, case, relative, rows_in_common, share
from networks import _pair
from trellis_pipeline import generation
from trellis_pipeline.checkpoint import Normalization, SamplerConfig

TOKENS, FEATURES, LATENT = 6, 24, 8


def _models(setting: Setting) -> tuple[dict[str, Any], dict[str, Any]]:
    """Ours and theirs by role, small, with equal random weights. Occupied voxels and children are made few by a bias."""
    flow = {
        "model_channels": 32, "cond_channels": FEATURES, "num_blocks": 2, "num_heads": 2, "mlp_ratio": 2.0, "pe_mode": "rope",
        "share_mod": True, "qk_rms_norm": True, "qk_rms_norm_cross": True,
    }  # fmt: skip
    levels = {
        "latent_channels": LATENT, "model_channels": [32, 16, 16, 8, 8], "num_blocks": [1, 0, 1, 0, 0],
        "block_type": ["SparseConvNeXtBlock3d"] * 5, "up_block_type": ["SparseResBlockC2S3d"] * 4, "block_args": [{}] * 5,
    }  # fmt: skip
    slat = {**flow, "resolution": 32, "out_channels": LATENT}
    structure = {"latent_channels": 4, "channels": [16, 16, 8], "num_res_blocks": 1, "num_res_blocks_middle": 1}
    asked = {
        "sparse_structure_flow_model": (
            "SparseStructureFlowModel", {**flow, "resolution": 8, "in_channels": 4, "out_channels": 4},
        ),
        "sparse_structure_decoder": ("SparseStructureDecoder", {"out_channels": 1, **structure}),
        "shape_slat_flow_model_512": ("SLatFlowModel", {**slat, "in_channels": LATENT}),
        "shape_slat_flow_model_1024": ("SLatFlowModel", {**slat, "in_channels": LATENT}),
        "tex_slat_flow_model_512": ("SLatFlowModel", {**slat, "in_channels": 2 * LATENT}),
        "tex_slat_flow_model_1024": ("SLatFlowModel", {**slat, "in_channels": 2 * LATENT}),
        "shape_slat_decoder": ("FlexiDualGridVaeDecoder", {"resolution": 512, **levels}),
        "tex_slat_decoder": ("SparseUnetVaeDecoder", {"out_channels": 6, "pred_subdiv": False, **levels}),
    }  # fmt: skip
    ours, theirs = {}, {}
    for role, (name, arguments) in asked.items():
        ours[role], theirs[role] = _pair(setting, name, arguments)
    logits = ours["sparse_structure_decoder"](torch.randn(1, 4, 8, 8, 8, device=setting.device))
    rare = float(logits.flatten().double().quantile(0.985))
    for models in (ours, theirs):
        models["sparse_structure_decoder"].out_layer[-1].bias -= rare
        for name, parameter in models["shape_slat_decoder"].named_parameters():
            if name.endswith("to_subdiv.bias"):
                parameter -= 0.7
    return ours, theirs


def _upstream_pipeline(
    models: dict[str, Any],
    features: dict[int, torch.Tensor],
    settings: tuple[SamplerConfig, SamplerConfig, SamplerConfig],
    norms: list[Normalization],
) -> Any:
    """Theirs with these models, without an image encoder: it is told the features [1, L, D] by the size of the picture.

    Args:
        settings: of the structure's, the shape's and the texture's sampler.
        norms: of the shape's and of the texture's latent.
    """

    class Encoder:
        image_size = 0

        def __call__(self, _: Any) -> torch.Tensor:
            return features[self.image_size]

    module = importlib.import_module("trellis2.pipelines.trellis2_image_to_3d")
    samplers = importlib.import_module("trellis2.pipelines.samplers")
    pipeline = module.Trellis2ImageTo3DPipeline.__new__(module.Trellis2ImageTo3DPipeline)
    pipeline.models, pipeline.low_vram, pipeline._device = models, False, features[512].device
    places = (("base_color", 0, 3), ("metallic", 3, 4), ("roughness", 4, 5), ("alpha", 5, 6))
    pipeline.pbr_attr_layout = {name: slice(first, end) for name, first, end in places}
    pipeline.image_cond_model, pipeline.default_pipeline_type = Encoder(), "512"
    for stage, used in zip(("sparse_structure", "shape_slat", "tex_slat"), settings, strict=True):
        setattr(pipeline, f"{stage}_sampler", samplers.FlowEulerGuidanceIntervalSampler(used.sigma_min))
        params = {k: v for k, v in vars(used).items() if k != "sigma_min"}
        setattr(pipeline, f"{stage}_sampler_params", params)
    for stage, norm in zip(("shape_slat", "tex_slat"), norms, strict=True):
        setattr(pipeline, f"{stage}_normalization", {"mean": list(norm.mean), "std": list(norm.std)})
    return pipeline


@case("trellis2", "o_voxel", "cumesh", share=0.3)
@torch.no_grad()
def generations(setting: Setting) -> Iterator[Finding]:
    """Trellis2ImageTo3DPipeline.run of the types that begin on a 32^3 structure, and of its limit of tokens."""
    kind = generation.TYPES[setting.one_of("512", "1024_cascade", "1536_cascade")]
    most = int(setting.one_of(49152, 49152, 200))
    ours, theirs = _models(setting)
    config = SamplerConfig(int(setting.one_of(2, 5)), 5.0, 0.5, (0.3, 1.0), 3.0, 1e-5)
    plain = SamplerConfig(3, 1.0, 0.0, (0.6, 0.9), 3.0, 1e-5)
    norms = [
        Normalization(tuple(torch.randn(LATENT).tolist()), tuple((torch.rand(LATENT) + 0.5).tolist())) for _ in range(2)
    ]
    features = {size: torch.randn(1, TOKENS, FEATURES, device=setting.device) for size in (512, 1024)}

    pipeline = _upstream_pipeline(theirs, features, (config, config, plain), norms)
    made, (known_shape, known_texture, known_size) = pipeline.run(
        None,
        seed=setting.seed,
        preprocess_image=False,
        return_latent=True,
        pipeline_type=kind.name,
        max_num_tokens=most,
    )

    rng = torch.Generator().manual_seed(setting.seed)
    latent = generation.sample_structure(ours["sparse_structure_flow_model"], features[512], config, rng)
    structure = generation.decode_structure(ours["sparse_structure_decoder"], latent, kind.structure_grid)
    coords, size = structure.coords, kind.resolution
    if kind.low:
        low = generation.sample_shape(ours[kind.low], coords, features[512], config, norms[0], 512, rng)
        coords, size, _ = generation.cascade(ours["shape_slat_decoder"], low, kind.resolution, most)
    seen = features[512 if kind.name == "512" else 1024]
    shape = generation.sample_shape(ours[kind.shape], coords, seen, config, norms[0], size, rng)
    texture = generation.sample_texture(ours[kind.texture], shape, seen, plain, norms[0], norms[1], rng)
    grid = generation.decode_shape(ours["shape_slat_decoder"], shape)
    places, attrs = generation.decode_texture(ours["tex_slat_decoder"], texture, grid.subdivisions)
    asset = generation.voxel_asset(grid, places, attrs, size)
    vertices, faces = voxel.dual_grid_to_mesh(
        asset.coords,
        asset.local_dual,
        asset.intersected,
        asset.split_weight,
        aabb=[[-0.5] * 3, [0.5] * 3],
        grid_size=size,
    )

    counts = f"{len(structure.coords)} cells, {len(shape.coords)} tokens, {len(places)} voxels"
    said = f"seed {setting.seed}: {kind.name}, limit {most}, {counts}"
    yield Finding(said, "resolution", abs(size - known_size), 0)
    a, b, apart = rows_in_common(shape.coords, known_shape.coords)
    yield Finding(said, "latent voxels apart", apart, 1e-3)
    if apart:  # a logit at its threshold; what follows is of another shape
        return
    yield Finding(said, "shape latent", relative(shape.feats[a], known_shape.feats[b]), 2e-3)
    a, b, apart = rows_in_common(texture.coords, known_texture.coords)
    yield Finding(said, "texture latent", relative(texture.feats[a], known_texture.feats[b]), 2e-3)
    a, b, apart = rows_in_common(places, made[0].coords)
    yield Finding(said, "decoded voxels apart", apart, 1e-3)
    values = torch.cat([attrs[name] for name in pipeline.pbr_attr_layout], 1).cpu()[a].float()
    gap = (values - made[0].attrs.cpu()[b].clamp(0, 1) * 255).abs()
    # A voxel that one of them lacks, by a logit at its threshold, changes its neighbours.
    yield Finding(said, "attributes, share beyond 1 of 255", share(gap > 1), 0.0 if not apart else 1e-3)
    if not apart:
        yield Finding(said, "vertices", relative(vertices, made[0].vertices[: len(vertices)]), 1e-4)
        # Theirs has closed holes by now: it has as many faces as ours, and those.
        yield Finding(said, "faces less than ours", max(0, len(faces) - len(made[0].faces)), 2)


@case("trellis2")
def image_preparation(setting: Setting) -> Iterator[Finding]:
    """preprocess_image: the same square picture, bit for bit, of pictures with and without transparency."""
    from PIL import Image
    from trellis_pipeline.errors import ImageError
    from trellis_pipeline.image.prepare import prepare

    width, height = (int(side) for side in setting.random.integers(5, setting.one_of(40, 300, 1500), 2))
    coarse = setting.random.integers(0, 256, (max(2, height // 7), max(2, width // 7), 4), dtype=np.uint8)
    solid, clear = (setting.random.random(coarse.shape[:2]) < 0.5 for _ in range(2))
    coarse[..., 3] = np.where(solid, 255, np.where(clear, 0, coarse[..., 3]))
    picture = Image.fromarray(coarse, "RGBA").resize((width, height))
    if setting.chance(0.2):
        picture = picture.convert("RGB")

    def remove(opaque: Image.Image) -> Image.Image:
        opaque.putalpha(opaque.convert("L").point(lambda value: 255 * (value > 100)))
        return opaque

    module = importlib.import_module("trellis2.pipelines.trellis2_image_to_3d").Trellis2ImageTo3DPipeline
    pipeline = module.__new__(module)
    pipeline.low_vram, pipeline.rembg_model = False, remove
    said = f"seed {setting.seed}: {width} x {height} {picture.mode}"
    try:
        theirs = np.asarray(pipeline.preprocess_image(picture.copy()), np.int64)
    except ValueError:  # nothing solid in it
        theirs = None
    try:
        ours = np.asarray(prepare(picture.copy(), remove).image, np.int64)
    except ImageError:
        ours = None
    if ours is None or theirs is None:
        yield Finding(said, "one of the two refuses", float((ours is None) != (theirs is None)), 0)
        return
    same = ours.shape == theirs.shape
    yield Finding(said, "largest difference, of 255", float(np.abs(ours - theirs).max(initial=0)) if same else 255.0, 0)


@case("trellis2", share=0.3)
@torch.no_grad()
def image_features(setting: Setting) -> Iterator[Finding]:
    """DinoV3FeatureExtractor with random weights, at two sizes."""
    from PIL import Image
    from transformers import DINOv3ViTConfig, DINOv3ViTModel
    from trellis_pipeline.image.features import load_image_encoder

    config = DINOv3ViTConfig(
        hidden_size=48, intermediate_size=96, num_hidden_layers=int(setting.one_of(1, 3)), num_attention_heads=3,
        patch_size=16, num_register_tokens=4,
    )  # fmt: skip
    torch.manual_seed(setting.seed)
    model = DINOv3ViTModel(config)
    for parameter in model.parameters():
        parameter += torch.randn_like(parameter) * 0.1
    picture = Image.fromarray(setting.random.integers(0, 256, (9, 9, 3), dtype=np.uint8)).resize((200, 200))
    with tempfile.TemporaryDirectory() as folder:
        model.save_pretrained(folder)
        theirs = importlib.import_module("trellis2.modules.image_feature_extractor").DinoV3FeatureExtractor(folder)
        encoder = load_image_encoder(folder)
    if not hasattr(theirs.model, "layer"):  # transformers 5 moved them, which theirs does not know
        theirs.model.layer = theirs.model.model.layer
    theirs.to(setting.device)
    with encoder.weights.on(setting.device, "swap") as module:
        for size in (64, 160):
            theirs.image_size = size
            gap = relative(encoder.encode(module, picture, size, setting.device), theirs([picture]))
            yield Finding(f"seed {setting.seed}: {size}^2, {config.num_hidden_layers} layers", "features", gap, 1e-5)
