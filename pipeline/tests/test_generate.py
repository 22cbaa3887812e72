"""``trellis generate`` and ``trellis memory`` as a user types them."""

import json

import pytest
import torch
from PIL import Image
from trellis_pipeline import attention, generate_command, generation
from trellis_pipeline.cli import main
from trellis_pipeline.errors import CheckpointError
from trellis_pipeline.hashes import sha256
from trellis_pipeline.image import background
from trellis_pipeline.memory.plan import GIB
from trellis_pipeline.store import StageStore
from trellis_pipeline.testing import object_picture


@pytest.fixture
def picture(tmp_path):
    object_picture().save(tmp_path / "object.png")
    return tmp_path / "object.png"


def run(capsys, *arguments):
    try:
        status = main([str(a) for a in arguments])
    except SystemExit as error:
        status = error.code
    captured = capsys.readouterr()
    return status, captured.out, captured.err


QUICK = ("--type", "512", "--steps", 1, "--faces", 800, "--texture", 64, "--device", "cpu")


def test_generate_writes_a_glb_and_its_manifest(picture, checkpoint_folder, tmp_path, capsys):
    out, manifest, stages = tmp_path / "deep/o.glb", tmp_path / "m.json", tmp_path / "stages"
    status, text, progress = run(
        capsys, "generate", picture, "-o", out, "--weights", checkpoint_folder, *QUICK, "--seed", 5,
        "--manifest", manifest, "--keep-stages", stages,
    )  # fmt: skip
    assert status == 0, progress
    assert f"{out}:" in text and "faces" in text
    assert "attention: sdpa" in progress and "decode_texture" in progress
    facts = json.loads(manifest.read_text())
    assert facts["input"]["sha256"] == sha256(picture) and facts["output"]["sha256"] == sha256(out)
    weights = checkpoint_folder / "ckpts/shape_dec_next_dc_f16c32_fp16.safetensors"
    assert facts["weights"]["shape_slat_decoder"]["sha256"] == sha256(weights)
    encoder = checkpoint_folder / "dinov3/model.safetensors"
    assert facts["weights"]["image_encoder"]["sha256"] == sha256(encoder)
    assert facts["options"]["seed"] == 5 and facts["type"] == "512" and facts["attention"]["name"] == "sdpa"
    assert {"encode", "structure", "write"} <= facts["stages"].keys()
    # The rest of the road again, from the stages that were kept.
    (stages / "voxels.safetensors").unlink()
    again = tmp_path / "again.glb"
    status, _, progress = run(
        capsys, "generate", picture, "-o", again, "--weights", checkpoint_folder, *QUICK, "--seed", 5,
        "--keep-stages", stages, "--resume", "-q",
    )  # fmt: skip
    assert status == 0 and progress == ""
    assert again.read_bytes() == out.read_bytes()


def test_what_is_wrong_is_one_line_and_leaves_nothing(picture, checkpoint_folder, tmp_path, capsys):
    Image.new("RGBA", (30, 30)).save(tmp_path / "empty.png")
    (tmp_path / "text.png").write_text("no picture")
    out = tmp_path / "out" / "o.glb"
    weights = ("--weights", checkpoint_folder)
    for arguments, message in [
        ((tmp_path / "missing.png", *weights), "missing.png: No such file"),
        ((tmp_path / "text.png", *weights), "not a picture"),
        ((tmp_path / "empty.png", *weights), "fully transparent"),
        ((picture, "--weights", tmp_path), "holds no pipeline.json"),
        ((picture, "--weights", "no/such/place"), "neither a folder nor a hub id"),
        ((picture, *weights, "--attention", "flash-attn-2"), "flash-attn-2 was asked for"),
        ((picture, "--attention", "flash"), "attention: expected auto or one of"),
        ((picture, *weights, "--revision", "v2"), "is a folder, which has none"),
        ((picture, *weights, "--image-encoder", "dino"), "image encoder: dino: neither a folder nor a hub id"),
        ((picture, *weights, "--resume"), "--resume: it needs --keep-stages"),
        ((picture, *weights, "--manifest", picture), "object.png would take the place of"),
        (
            (picture, *weights, "--keep-stages", out.parent, "--manifest", out.parent / "run.json"),
            "would take the place of",
        ),
        ((tmp_path, *weights), "it is a folder, not a picture"),
        ((picture, *weights, "--vram-budget", "8"), "limits a CUDA device"),
    ]:
        status, text, error = run(capsys, "generate", *arguments, "-o", out, "--device", "cpu")
        assert status == 2, arguments
        lines = [line for line in error.splitlines() if line.startswith("trellis: error:")]
        assert len(lines) == 1 and message in lines[0]
        assert "Traceback" not in error and text == ""
    assert not out.parent.exists()


def test_a_folder_of_weights_is_no_place_for_stages(picture, copied, tmp_path, capsys):
    """A new run removes the stages of the one before, and must not take a model's files for such."""
    weights = {p.name: p.stat().st_size for p in (copied / "ckpts").iterdir()}
    status, _, error = run(
        capsys,
        "generate",
        picture,
        "-o",
        tmp_path / "o.glb",
        "--weights",
        copied,
        *QUICK,
        "--keep-stages",
        copied / "ckpts",
    )
    assert status == 2 and "give a folder of its own" in error and error.count("\n") == 1
    with pytest.raises(CheckpointError, match="give a folder of its own"):
        StageStore(copied / "ckpts").begin({"seed": 1})
    assert {p.name: p.stat().st_size for p in (copied / "ckpts").iterdir()} == weights
    StageStore(tmp_path / "own").begin({"seed": 1, "weights": {"a": "0" * 32}})
    with pytest.raises(CheckpointError, match=r"seed was 1, is 2; other weights$"):
        StageStore(tmp_path / "own", resume=True).begin({"seed": 2, "weights": {"a": "1" * 32}})


@pytest.mark.parametrize("option", ["-o", "--manifest", "--keep-stages"])
def test_what_cannot_be_written_is_said_before_the_work(picture, tmp_path, capsys, option):
    (tmp_path / "file").touch()
    (tmp_path / "dir").mkdir()
    place = tmp_path / "file" if option == "--keep-stages" else tmp_path / "dir"
    # /proc takes no files, from nobody
    for target, message in [
        (place, "is a fil" if option == "--keep-stages" else "is a fold"),
        ("/proc/x", "cannot be written"),
    ]:
        arguments = {"-o": tmp_path / "o.glb", option: target}
        flat = [x for pair in arguments.items() for x in pair]
        status, _, error = run(capsys, "generate", picture, "--weights", "none/at/all", *flat)
        assert status == 2 and message in error and error.count("\n") == 1
    assert sorted(p.name for p in tmp_path.iterdir()) == ["dir", "file", "object.png"]


@pytest.mark.parametrize("stage", ["sample_texture", "decode_texture"])
def test_interrupted_runs_leave_no_file_and_can_be_taken_up(
    picture, checkpoint_folder, tmp_path, capsys, monkeypatch, stage
):
    def interrupt(*_, **__):
        raise KeyboardInterrupt

    arguments = ("generate", picture, "-o", tmp_path / "o.glb", "--weights", checkpoint_folder, *QUICK, "--seed", 5,
                 "--keep-stages", tmp_path / "stages")  # fmt: skip
    with monkeypatch.context() as patch:
        patch.setattr(generation, stage, interrupt)
        status, _, error = run(capsys, *arguments, "--manifest", tmp_path / "m.json")
    assert status == 130 and error.endswith("trellis: interrupted\n") and "Traceback" not in error
    kept = {p.stem for p in (tmp_path / "stages").glob("*.safetensors")}
    assert kept == {"conditioning", "structure", "shape"} | ({"texture"} if stage == "decode_texture" else set())
    assert not [p for p in tmp_path.rglob("*") if p.name.startswith((".", "o.glb", "m.json"))]
    assert run(capsys, *arguments, "--resume", "-q")[0] == 0
    assert (tmp_path / "o.glb").stat().st_size > 1000


@pytest.mark.parametrize(
    "arguments",
    [
        ("--type", "2048"),
        ("--seed", "-1"),
        ("--steps", "0"),
        ("--vram-budget", "x"),
        ("--alpha", "glass"),
        ("--faces", 1),
    ],
)
def test_arguments_out_of_range_are_refused(picture, tmp_path, capsys, arguments):
    status, _, error = run(capsys, "generate", picture, "-o", tmp_path / "o.glb", *arguments)
    assert status == 2 and error.count("\n") == 1 and f"argument {arguments[0]}: " in error


def test_the_commands_choices_are_the_modules_own():
    assert generate_command.BACKGROUNDS == background.METHODS
    assert list(generation.TYPES) == list(generate_command.TYPES)
    assert "auto" not in attention.BACKENDS


def test_memory_draws_a_manifest(tmp_path, capsys):
    stage = {
        "stage": "shape",
        "planned": GIB,
        "before": 0,
        "peak": GIB,
        "reserved": GIB,
        "peak_reserved": GIB,
        "after": 0,
    }
    (tmp_path / "m.json").write_text(json.dumps({"memory": {"device": "cuda:0", "stages": [stage]}}))
    out = tmp_path / "chart.svg"
    assert run(capsys, "memory", tmp_path / "m.json", "-o", out)[0] == 0
    assert out.read_text().startswith("<svg")
    manifest = (tmp_path / "m.json").read_text()
    status, _, error = run(capsys, "memory", tmp_path / "m.json", "-o", tmp_path / "m.json")
    assert status == 2 and "--out: " in error and (tmp_path / "m.json").read_text() == manifest
    (tmp_path / "m.json").write_text("{}")
    out.unlink()
    status, _, error = run(capsys, "memory", tmp_path / "m.json", "-o", out)
    assert status == 2 and "no memory ledger" in error and not out.exists()
    assert torch.get_num_threads() > 0


def test_names_of_other_files_are_refused(picture, painted, tmp_path, capsys):
    for command in (("generate", picture), ("remake", painted)):
        status, _, error = run(capsys, *command, "-o", tmp_path / "chair.obj")
        assert status == 2 and error.startswith("trellis: error: --out:") and "must end in .glb" in error
    (tmp_path / "m.json").write_text("{}")
    status, _, error = run(capsys, "memory", tmp_path / "m.json", "-o", tmp_path / "chair.glb")
    assert status == 2 and "chair.glb must end in .svg" in error
    before = picture.read_bytes()
    assert run(capsys, "generate", picture, "-o", picture)[0] == 2
    assert picture.read_bytes() == before


def test_a_manifest_that_is_none_is_refused(tmp_path, capsys):
    for content in ("[]", "3", "nonsense"):
        (tmp_path / "m.json").write_text(content)
        status, _, error = run(capsys, "memory", tmp_path / "m.json", "-o", tmp_path / "c.svg")
        assert status == 2 and "m.json: not a manifest" in error and error.count("\n") == 1
