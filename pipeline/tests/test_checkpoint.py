"""Opening checkpoints: the public layout, strictness, and what is said when something is wrong."""

import json
import struct
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from trellis_pipeline.checkpoint import Checkpoint, open_checkpoint
from trellis_pipeline.errors import CheckpointError
from trellis_pipeline.random_checkpoint import public_configs, stored_dtypes
from trellis_pipeline.weights import NoInitialisation, build, check_fit, fingerprint, map_tensors, read_header

# The doctor checks model files against these lists; they are kept there.
KEYS = Path(__file__).parents[2] / "diagnostics/trellis_doctor/facts/checkpoints"
LISTS = {
    "sparse_structure_flow_model": "ss_flow_img_dit_1_3B_64_bf16",
    "sparse_structure_decoder": "ss_dec_conv3d_16l8_fp16",
    "shape_slat_flow_model_512": "slat_flow_img2shape_dit_1_3B_512_bf16",
    "shape_slat_decoder": "shape_dec_next_dc_f16c32_fp16",
    "tex_slat_flow_model_512": "slat_flow_imgshape2tex_dit_1_3B_512_bf16",
    "tex_slat_decoder": "tex_dec_next_dc_f16c32_fp16",
}
DTYPES = {"bf16": "BF16", "f16": "F16", "f32": "F32"}
STEM = "ckpts/slat_flow_img2shape_dit_1_3B_512_bf16"
ROLE = "shape_slat_flow_model_512"


def public_header(role):
    """The header that the public file has, from its key list."""
    lines = (line.split("\t") for line in (KEYS / f"{LISTS[role]}.keys.txt").read_text().splitlines() if line.strip())
    return {key: module_entry(DTYPES[dtype], json.loads(shape)) for key, dtype, shape in lines}


def module_entry(dtype, shape):
    from trellis_pipeline.weights import Entry

    return Entry(dtype, tuple(shape))


@pytest.mark.parametrize("role", LISTS)
def test_models_on_the_meta_device_fit_the_public_files(role):
    header = public_header(role)
    model = build(public_configs()[role])
    check_fit(model, header, Path("public"))  # every key, every shape
    assert all(p.is_meta for p in model.parameters())
    names = {torch.bfloat16: "BF16", torch.float16: "F16", torch.float32: "F32"}
    assert {k: names[d] for k, d in stored_dtypes(model).items()} == {k: header[k].dtype for k in model.state_dict()}
    # What a file stores in half precision may be computed in float32, never the other way round.
    wider = [k for k, v in model.state_dict().items() if names[v.dtype] != header[k].dtype]
    assert all(model.state_dict()[k].dtype == torch.float32 for k in wider)
    outside = ("t_embedder", "adaLN", "input_layer", "out_layer", "from_latent", "output_layer")
    assert all("norm" in k or k.startswith(outside) for k in wider)


def test_the_tiny_checkpoint_has_the_public_layout(checkpoint_folder):
    opened = open_checkpoint(checkpoint_folder)
    assert opened.default_type == "1024_cascade"
    assert opened.models["sparse_structure_decoder"] == "microsoft/TRELLIS-image-large/ckpts/ss_dec_conv3d_16l8_fp16"
    assert (opened.samplers["structure"].guidance_strength, opened.samplers["structure"].rescale_t) == (7.5, 5.0)
    assert opened.samplers["texture"].guidance_interval == (0.6, 0.9)
    assert len(opened.normalization["shape"].mean) == 32
    assert opened.image_encoder == str(checkpoint_folder / "dinov3")
    files = opened.files([ROLE, "sparse_structure_decoder"])
    assert files[ROLE].weights == checkpoint_folder / f"{STEM}.safetensors"
    assert files["sparse_structure_decoder"].config["name"] == "SparseStructureDecoder"


def test_tensors_are_views_of_the_file_and_hold_its_values(checkpoint_folder):
    path = checkpoint_folder / f"{STEM}.safetensors"
    tensors = map_tensors(build(open_checkpoint(checkpoint_folder).files([ROLE])[ROLE].config), path)
    maps = [line.split() for line in Path("/proc/self/maps").read_text().splitlines() if str(path) in line]
    spans = [tuple(int(x, 16) for x in line[0].split("-")) for line in maps]
    assert all(any(a <= t.data_ptr() < b for a, b in spans) for t in tensors.values())  # mapped, not read
    expected = load_file(path)
    assert tensors.keys() == expected.keys()
    assert all(torch.equal(tensors[k], expected[k]) for k in expected)


def change(path, edit):
    tensors = load_file(path)
    edit(tensors)
    save_file({k: v.contiguous() for k, v in tensors.items()}, path)


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (lambda t: t.pop("out_layer.bias"), r"1 keys missing \(out_layer.bias\)"),
        (lambda t: t.update(surprise=torch.zeros(1)), r"1 keys unexpected \(surprise\)"),
        (lambda t: t.update({"out_layer.bias": torch.zeros(7)}), r"out_layer.bias \[7\], expected \[32\]"),
    ],
)
def test_weights_that_do_not_fit_are_named(copied, edit, message):
    path = copied / f"{STEM}.safetensors"
    change(path, edit)
    with pytest.raises(CheckpointError, match=message):
        map_tensors(build(open_checkpoint(copied).files([ROLE])[ROLE].config), path)


def test_position_tables_of_other_writers_are_passed_over(copied):
    path = copied / f"{STEM}.safetensors"
    change(path, lambda t: t.update(rope_phases=torch.zeros(4)))
    assert "rope_phases" not in map_tensors(build(open_checkpoint(copied).files([ROLE])[ROLE].config), path)


def header_of(content, data=b""):
    text = content if isinstance(content, bytes) else json.dumps(content).encode()
    return struct.pack("<Q", len(text)) + text + data


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "not a safetensors file, or truncated"),
        (b"\xff" * 64, "not a safetensors file, or truncated"),
        (header_of(b"{nonsense"), "header cannot be read"),
        (header_of({"a": {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}}, b"1234"), "truncated or has been appended"),
        (header_of({"a": {"dtype": "F32", "shape": [3], "data_offsets": [0, 8]}}, b"12345678"), "bytes of a do not fit"),
        (header_of({"a": {"dtype": "F32", "shape": [1 << 40], "data_offsets": [0, 8]}}, b"12345678"), "do not fit"),
        (header_of({"a": {"dtype": "I64", "shape": [1], "data_offsets": [0, 8]}}, b"12345678"), "dtype I64"),
    ],
)  # fmt: skip
def test_files_that_lie_are_refused_before_anything_is_allocated(tmp_path, data, message):
    path = tmp_path / "x.safetensors"
    path.write_bytes(data)
    with pytest.raises(CheckpointError, match=message):
        read_header(path)


def test_all_that_is_missing_is_named_at_once(copied):
    (copied / f"{STEM}.safetensors").unlink()
    (copied / "ckpts/tex_dec_next_dc_f16c32_fp16.json").unlink()
    (copied / "ckpts/tex_dec_next_dc_f16c32_fp16.safetensors").unlink()
    with pytest.raises(CheckpointError, match=f"{STEM}.safetensors is missing") as error:
        open_checkpoint(copied).files([ROLE, "tex_slat_decoder", "shape_slat_decoder"])
    assert "tex_dec_next_dc_f16c32_fp16.json and .safetensors are missing" in str(error.value)
    assert "shape_dec" not in str(error.value)
    assert str(error.value).endswith("the public files are at https://huggingface.co/microsoft/TRELLIS.2-4B")


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (lambda c: c["args"].pop("shape_slat_sampler"), "lacks 'shape_slat_sampler'"),
        (lambda c: c["args"]["shape_slat_sampler"].update(name="Heun"), "only FlowEulerGuidanceIntervalSampler.* got 'Heun'"),
        (lambda c: c["args"]["image_cond_model"].update(name="DinoV2FeatureExtractor"),
         "image_cond_model: only DinoV3FeatureExtractor is known, got 'DinoV2FeatureExtractor'"),
        (lambda c: c["args"]["shape_slat_normalization"].update(std=[0.0] * 32), "positive standard deviations"),
        (lambda c: c["args"]["shape_slat_sampler"]["params"].update(steps=0), "at least one step"),
        (lambda c: c.update(args=3), "not in the layout"),
    ],
)  # fmt: skip
def test_pipeline_json_that_lacks_something_is_named(copied, edit, message):
    path = copied / "pipeline.json"
    content = json.loads(path.read_text())
    edit(content)
    path.write_text(json.dumps(content))
    with pytest.raises(CheckpointError, match=message):
        open_checkpoint(copied)


@pytest.mark.parametrize(
    ("name", "params", "expected"),
    [
        ("FlowEulerGuidanceIntervalSampler", {"steps": 4}, (4, 3.0, 0.0, (0.0, 1.0), 1.0)),
        (
            "FlowEulerCfgSampler",
            {"guidance_strength": 2, "guidance_rescale": 0.5, "rescale_t": 3},
            (50, 2.0, 0.5, (0.0, 1.0), 3.0),
        ),
        ("FlowEulerSampler", {"steps": 9, "rescale_t": 5.0}, (9, 1.0, 0.0, (0.0, 1.0), 5.0)),
    ],
)
def test_the_samplers_that_guide_always_or_never_are_known(copied, name, params, expected):
    path = copied / "pipeline.json"
    content = json.loads(path.read_text())
    content["args"]["tex_slat_sampler"] = {"name": name, "args": {"sigma_min": 1e-4}, "params": params}
    path.write_text(json.dumps(content))
    found = open_checkpoint(copied).samplers["texture"]
    assert found.sigma_min == 1e-4
    assert expected == (
        found.steps, found.guidance_strength, found.guidance_rescale, found.guidance_interval, found.rescale_t
    )  # fmt: skip


@pytest.mark.parametrize("source", ["no/such/folder", "nothing", "../x"])
def test_what_is_neither_folder_nor_hub_id_is_refused(source):
    with pytest.raises(CheckpointError, match="neither a folder nor a hub id"):
        open_checkpoint(source)


def test_a_folder_without_pipeline_json_is_refused(tmp_path):
    with pytest.raises(CheckpointError, match="holds no pipeline"):
        open_checkpoint(tmp_path)


def test_fingerprints_tell_files_apart(copied):
    path = copied / f"{STEM}.safetensors"
    before = fingerprint(path)
    assert fingerprint(path) == before
    data = bytearray(path.read_bytes())
    data[-3] ^= 1
    path.write_bytes(data)
    assert fingerprint(path) != before


def test_a_checkpoint_names_roles_that_it_does_not_have(checkpoint_folder):
    opened = open_checkpoint(checkpoint_folder)
    assert isinstance(opened, Checkpoint)
    with pytest.raises(CheckpointError, match=r"nonsense: pipeline\.json names no such model"):
        opened.files(["nonsense"])


@pytest.mark.timeout(60)
def test_weights_that_are_not_drawn_do_not_make_torch_draw_for_ever():
    weights = torch.full((64,), 9.0)  # what memory may hold: outside the range that is drawn from
    with NoInitialisation():
        torch.nn.init.trunc_normal_(weights)
        torch.nn.init.normal_(torch.nn.Parameter(weights))
    assert not weights.any()
