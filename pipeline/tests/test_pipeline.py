"""The pipeline end to end on a tiny checkpoint, and what it says when a stage's result is unusable."""

import shutil
from dataclasses import dataclass, fields
from pathlib import Path

import numpy as np
import pytest
import torch
from trellis_pipeline import Pipeline, generation
from trellis_pipeline.artifacts import Conditioning, Latent, load, save
from trellis_pipeline.asset import Asset, GlbOptions
from trellis_pipeline.errors import CheckpointError, ImageError, StageError
from trellis_pipeline.generation import TYPES, quantise, unconditional
from trellis_pipeline.image import prepare
from trellis_pipeline.manifest import Manifest
from trellis_pipeline.memory.ledger import free_workspaces
from trellis_pipeline.memory.plan import Decision, MemoryPlan
from trellis_pipeline.sparse import SparseTensor
from trellis_pipeline.store import StageStore
from trellis_pipeline.testing import object_picture
from trellis_regression.glb import check_geometry, read_glb

CUDA = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")


@pytest.fixture(scope="module")
def pipeline(checkpoint_folder):
    return Pipeline.from_pretrained(checkpoint_folder, device="cpu")


@pytest.fixture(scope="module")
def picture():
    return prepare(object_picture(), None)


@dataclass(frozen=True)
class Done:
    """A run, what it recorded and the folder of its stages."""

    asset: Asset
    record: Manifest
    folder: Path


def done(pipeline, picture, folder, **arguments):
    record = Manifest("generate", {}, quiet=True)
    asset = pipeline.run(picture, store=StageStore(folder), record=record, **arguments)
    assert all(p.is_meta for w in pipeline._weights.values() for p in w.module.parameters())  # no weights stay
    return Done(asset, record, folder)


@pytest.fixture(scope="module")
def cascade(pipeline, picture, tmp_path_factory):
    return done(pipeline, picture, tmp_path_factory.mktemp("cascade"), seed=7, type="1024_cascade", steps=1)


@pytest.fixture(scope="module")
def single(pipeline, picture, tmp_path_factory):
    return done(pipeline, picture, tmp_path_factory.mktemp("single"), seed=2, type="512", steps=1)


@pytest.fixture(scope="module")
def asset(cascade):
    return cascade.asset


def without(folder, copy, *stages):
    """A copy of a folder of stages that lacks some."""
    shutil.copytree(folder, copy)
    for stage in stages:
        (copy / f"{stage}.safetensors").unlink()
    return copy


def tensors(value):
    if isinstance(value, torch.Tensor):
        return [value]
    if isinstance(value, dict):
        return [t for _, v in sorted(value.items()) for t in tensors(v)]
    if hasattr(value, "__dataclass_fields__"):
        return [t for f in fields(value) for t in tensors(getattr(value, f.name))]
    return []


def same(a, b):
    return len(tensors(a)) == len(tensors(b)) and all(
        torch.equal(x, y) for x, y in zip(tensors(a), tensors(b), strict=True)
    )


def test_a_cascade_gives_an_asset_with_its_intermediates(asset):
    assert asset.type == "1024_cascade" and asset.seed == 7
    assert asset.conditioning.low.shape == (1, 1029, 32) and asset.conditioning.high.shape == (1, 4101, 32)
    structure, low, shape, voxels = asset.structure, asset.shape_low, asset.shape, asset.voxels
    assert structure.grid_size == 32 and 0 < len(structure.coords) < 32**3
    assert (structure.coords[:, 1:].max() < 32) and torch.equal(low.coords, structure.coords)
    assert shape.resolution == voxels.grid_size == 1024
    assert shape.coords[:, 1:].max() < 64 and torch.equal(asset.texture.coords, shape.coords)
    assert len(torch.unique(shape.coords, dim=0)) == len(shape.coords)
    # The tiny decoder keeps four children of each voxel at each of four levels.
    assert len(voxels.coords) == 256 * len(shape.coords)
    assert voxels.coords.max() < 1024
    parents = torch.unique(voxels.coords // 16, dim=0)
    assert torch.equal(parents, torch.unique(shape.coords[:, 1:], dim=0))
    assert voxels.local_dual.min() >= -0.5 and voxels.local_dual.max() <= 1.5
    assert voxels.attrs["base_color"].shape == (len(voxels.attr_coords), 3)
    assert torch.equal(voxels.attr_coords, voxels.coords)
    assert all(t.device.type == "cpu" for t in tensors(asset))


def test_the_second_run_gives_the_bits_of_the_first_and_another_seed_others(pipeline, picture, single):
    again = pipeline.run(picture, seed=2, type="512", steps=1)
    assert same(single.asset, again)
    assert again.shape.resolution == 512 and again.shape_low is None and again.conditioning.high is None
    more = pipeline.run(picture, seed=2, type="512")  # the checkpoint's own number of steps
    assert not same(single.asset.shape, more.shape)


def test_noise_is_drawn_on_the_cpu_in_the_order_of_the_stages(monkeypatch, pipeline, picture, single):
    seen = []
    original = generation.sample_flow

    def spy(model, noise, **arguments):
        seen.append(noise.feats.clone() if isinstance(noise, SparseTensor) else noise.clone())
        return original(model, noise, **arguments)

    monkeypatch.setattr(generation, "sample_flow", spy)
    asset = pipeline.run(object_picture(), seed=5, type="512", steps=1)  # a picture as PIL reads it
    assert np.array_equal(np.asarray(asset.image.image), np.asarray(picture.image))
    rng = torch.Generator().manual_seed(5)
    n = len(asset.structure.coords)
    expected = [torch.randn(shape, generator=rng) for shape in ((1, 8, 8, 8, 8), (n, 32), (n, 32))]
    assert all(torch.equal(a, b) for a, b in zip(seen, expected, strict=True))
    assert not same(asset.shape, single.asset.shape)  # another seed, another shape


def test_the_asset_becomes_a_glb(asset, tmp_path):
    record = Manifest("export", {}, quiet=True)
    facts = asset.to_glb(tmp_path / "o.glb", GlbOptions(faces=1500, texture=128), record=record)
    triangles = check_geometry(read_glb(tmp_path / "o.glb"))
    assert 0 < triangles <= 1500 and facts["faces"] == triangles
    assert {"extract", "bake", "write"} <= record.facts["stages"].keys()


def test_every_stage_is_recorded(cascade):
    names = ["encode", "structure", "occupancy", "shape_low", "cascade", "shape", "texture", "decode_shape", "decode_texture"]  # fmt: skip
    facts = cascade.record.facts
    assert list(facts["stages"]) == names  # of a picture that was prepared before
    assert [s["stage"] for s in facts["memory"]["stages"]] == names
    assert facts["attention"]["name"] == "sdpa" and facts["memory"]["left"] == 0


def test_stages_are_kept_and_taken_up_with_the_same_result(pipeline, picture, cascade, tmp_path, monkeypatch):
    assert {p.stem for p in cascade.folder.glob("*.safetensors")} == {"conditioning", "structure", *LATE}
    folder = without(cascade.folder, tmp_path / "stages", "texture", "voxels")
    monkeypatch.setattr(generation, "sample_structure", None)  # what is there is not made again
    store = StageStore(folder, resume=True)
    resumed = pipeline.run(picture, seed=7, type="1024_cascade", steps=1, store=store)
    assert store.resumed == ["conditioning", "structure", "shape_low", "shape"]
    assert same(cascade.asset, resumed)
    with pytest.raises(CheckpointError, match="from another run: seed was 7, is 4"):
        pipeline.run(picture, seed=4, type="1024_cascade", steps=1, store=StageStore(folder, resume=True))
    with pytest.raises(CheckpointError, match="no run to resume"):
        pipeline.run(picture, type="512", store=StageStore(tmp_path / "empty", resume=True))


def test_artifacts_come_back_as_they_went(tmp_path, asset):
    for value in (
        asset.conditioning,
        asset.structure,
        asset.shape,
        asset.voxels,
        Conditioning(torch.ones(1, 2, 3), None),
    ):
        rng = torch.Generator().manual_seed(1)
        torch.randn(5, generator=rng)
        save(value, tmp_path / "x.safetensors", rng=rng.get_state())
        back, state = load(type(value), tmp_path / "x.safetensors")
        assert same(value, back) and torch.equal(state, rng.get_state())
        plain = [f.name for f in fields(value) if f.name in ("resolution", "grid_size", "aabb")]
        assert [getattr(back, name) for name in plain] == [getattr(value, name) for name in plain]
    with pytest.raises(CheckpointError, match="expected a saved Latent, got Conditioning"):
        load(Latent, tmp_path / "x.safetensors")
    (tmp_path / "x.safetensors").write_bytes(b"12345678901234567890")
    with pytest.raises(CheckpointError, match="cannot be read as a saved stage"):
        load(Latent, tmp_path / "x.safetensors")


def test_a_cascade_lowers_its_resolution_at_the_limit_and_says_so():
    class Decoder:
        blocks = range(5)

        def upsample(self, z, levels):
            assert levels == 4
            axis = torch.arange(512)
            plane = torch.stack(torch.meshgrid(axis, axis, indexing="ij"), -1).reshape(-1, 2)
            return torch.cat([torch.zeros(len(plane), 1), plane, torch.full((len(plane), 1), 7)], 1).int()

    low = Latent(torch.zeros(1, 4).int(), torch.zeros(1, 32), 512)
    coords, resolution, facts = generation.cascade(Decoder(), low, 1536, 10_000)
    assert resolution == 1536 and len(coords) == 96**2 and "lowered" not in facts
    coords, resolution, facts = generation.cascade(Decoder(), low, 1536, 96**2)  # at the limit is over it
    assert resolution == 1408 and len(coords) == 88**2
    assert facts["lowered"] == "from 1536 to 1408: 9,216 tokens reach the limit of 9,216"
    coords, resolution, _ = generation.cascade(Decoder(), low, 1536, 10)
    assert resolution == 1024 and len(coords) == 64**2  # no less than 1024, whatever the limit


def test_quantising_truncates_the_centres_of_the_finer_voxels():
    coords = torch.tensor([[0, 511, 0, 8], [0, 511, 0, 7], [0, 510, 1, 15]]).int()
    # 1536 / 16 = 96 cells: 511.5 / 512 * 96 = 95.9, 8.5 * 96 / 512 = 1.59, 15.5 * 96 / 512 = 2.9
    assert quantise(coords, 512, 1536).tolist() == [[0, 95, 0, 1], [0, 95, 0, 2]]


def test_occupancy_is_pooled_to_the_grid_of_the_type():
    logits = -torch.ones(1, 1, 64, 64, 64)
    logits[0, 0, 3, 8, 63] = 1
    assert generation.decode_structure(lambda _: logits, None, 32).coords.tolist() == [[0, 1, 4, 31]]
    assert generation.decode_structure(lambda _: logits, None, 64).coords.tolist() == [[0, 3, 8, 63]]
    with pytest.raises(StageError, match="does not divide"):
        generation.decode_structure(lambda _: logits, None, 48)


@torch.no_grad()
def test_one_token_of_zeros_stands_for_as_many_as_the_image_has(pipeline):
    features = torch.randn(1, 50, 32)
    with pipeline._weights["sparse_structure_flow_model"].on(torch.device("cpu"), "swap") as flow:
        x, t = torch.randn(1, 8, 8, 8, 8), torch.tensor([700.0])
        one, many = flow(x, t, unconditional(features)), flow(x, t, torch.zeros_like(features))
    torch.testing.assert_close(one, many, rtol=1e-5, atol=1e-5)


def test_types_name_the_models_that_they_need():
    assert TYPES["512"].roles == (
        "sparse_structure_flow_model", "sparse_structure_decoder", "shape_slat_flow_model_512", "tex_slat_flow_model_512",
        "shape_slat_decoder", "tex_slat_decoder",
    )  # fmt: skip
    assert "shape_slat_flow_model_512" in TYPES["1536_cascade"].roles
    assert "tex_slat_flow_model_512" not in TYPES["1536_cascade"].roles


LATE = ("shape_low", "shape", "texture", "voxels")


@pytest.mark.parametrize(
    ("role", "key", "value", "from_stage", "stage", "message"),
    [
        (
            "sparse_structure_flow_model",
            "out_layer.bias",
            float("nan"),
            "structure",
            "structure",
            "latent are not finite",
        ),
        ("sparse_structure_decoder", "out_layer.2.bias", -1e4, "structure", "occupancy", "no voxel is occupied"),
        ("shape_slat_flow_model_512", "out_layer.bias", float("inf"), "shape", "shape", "latent are not finite"),
        ("tex_slat_flow_model_512", "out_layer.bias", float("nan"), "texture", "texture", "latent are not finite"),
        ("shape_slat_decoder", "output_layer.bias", -1e4, "voxels", "decode_shape", "no surface"),
        (
            "tex_slat_decoder",
            "output_layer.bias",
            float("nan"),
            "voxels",
            "decode_texture",
            "attributes are not finite",
        ),
    ],
)
def test_unusable_results_name_their_stage(
    pipeline, picture, single, tmp_path, role, key, value, from_stage, stage, message
):
    order = ("structure", "shape", "texture", "voxels")
    folder = without(single.folder, tmp_path / "stages", *order[order.index(from_stage) :])
    host = pipeline._weights[role]._host
    whole = host[key]
    host[key] = torch.full_like(whole, value)
    try:
        with pytest.raises(StageError, match=message) as error:
            pipeline.run(picture, seed=2, type="512", steps=1, store=StageStore(folder, resume=True))
    finally:
        host[key] = whole
    assert error.value.stage == stage
    assert all(p.is_meta for w in pipeline._weights.values() for p in w.module.parameters())  # given back all the same


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"type": "2048"}, "type: expected one of 512, 1024, 1024_cascade, 1536_cascade"),
        ({"device": "cpu", "vram_budget": 8}, "vram_budget: it limits a CUDA device"),
        ({"device": "cpu", "attention_backend": "flash-attn-3"}, "flash-attn-3 was asked for"),
        ({"device": "gpu"}, "device: expected cpu, cuda or cuda:N, got 'gpu'"),
        ({"device": "cuda:99"}, "device: cuda:99 is not here"),
        ({"device": "cpu", "revision": "main"}, "revision: .* is a folder"),
    ],
)
def test_wrong_arguments_are_named(checkpoint_folder, arguments, message):
    with pytest.raises(ValueError, match=message):
        Pipeline.from_pretrained(checkpoint_folder, **arguments)


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"seed": -1}, ValueError, "seed: expected a whole number from 0 to 9223372036854775807, got -1"),
        ({"seed": 2**64}, ValueError, "seed: "),
        ({"seed": 1.5}, ValueError, "seed: "),
        ({"steps": 0}, ValueError, "steps: expected a whole number from 1"),
        ({"steps": -2}, ValueError, "steps: "),
        ({"max_tokens": 0}, ValueError, "max_tokens: "),
        ({"background": "green"}, ValueError, "background: expected one of auto"),
        ({"image": np.zeros((8, 8, 4), np.uint8)}, TypeError, "image: expected a PIL image or a path, got ndarray"),
        ({"image": "absent.png"}, FileNotFoundError, "absent.png"),
    ],
)
def test_wrong_arguments_of_a_run_are_named(pipeline, picture, arguments, error, message):
    with pytest.raises(error, match=message):
        pipeline.run(**({"image": picture, "type": "512"} | arguments))


def test_a_picture_may_be_given_as_its_file(pipeline, single, tmp_path):
    object_picture().save(tmp_path / "p.png")
    for path in (tmp_path / "p.png", str(tmp_path / "p.png")):
        asset = pipeline.run(path, seed=np.int64(2), type="512", steps=np.int8(1))
        assert torch.equal(asset.texture.feats, single.asset.texture.feats)


def test_an_asset_is_named_in_a_line_and_writes_glbs_only(asset, tmp_path):
    assert repr(asset).startswith("Asset(type='1024_cascade', seed=7, device='cpu': ") and len(repr(asset)) < 200
    with pytest.raises(ValueError, match=r"must end in \.glb"):
        asset.to_glb(tmp_path / "chair.obj")
    assert not list(tmp_path.iterdir())


def test_opaque_pictures_without_a_background_model_are_refused(pipeline, tmp_path, monkeypatch):
    monkeypatch.setenv("U2NET_HOME", str(tmp_path))
    with pytest.raises(ImageError, match="background cannot be removed"):
        pipeline.run(object_picture().convert("RGB"))


@pytest.mark.cuda
@CUDA
def test_ten_assets_in_a_row_leave_nothing_on_the_device(checkpoint_folder, picture):
    pipeline = Pipeline.from_pretrained(checkpoint_folder, device="cuda")
    first = pipeline.run(picture, seed=1, type="1024_cascade")
    assert torch.cuda.memory_allocated() > 0  # the plan found room for all models
    baseline = torch.cuda.memory_allocated()
    for _ in range(10):
        record = Manifest("generate", {}, quiet=True)
        again = pipeline.run(picture, seed=1, type="1024_cascade", record=record)
        assert torch.cuda.memory_allocated() == baseline
        assert record.facts["memory"]["left"] == 0
        assert same(first, again)  # the same bits, run after run


@pytest.mark.cuda
@CUDA
@pytest.mark.parametrize("mode", ["swap", "stream"])
def test_weights_that_come_and_go_give_the_bits_of_resident_ones(checkpoint_folder, picture, mode, monkeypatch):
    pipeline = Pipeline.from_pretrained(checkpoint_folder, device="cuda")
    resident = pipeline.run(picture, seed=1, type="512")
    pipeline.release()
    free_workspaces()
    before = torch.cuda.memory_allocated()
    monkeypatch.setattr(MemoryPlan, "decide", lambda self, name, tokens, resident: Decision(mode, True, 0, 1))
    away = pipeline.run(picture, seed=1, type="512")
    pipeline.release()
    free_workspaces()
    assert torch.cuda.memory_allocated() == before
    assert same(resident, away)
