"""The ``trellis`` command as a user types it, with wrong arguments too."""

import json
import os
import struct
import subprocess
import sys
from importlib.resources import files
from pathlib import Path

import numpy as np
import pytest
import torch
import trimesh
from PIL import Image
from trellis_pipeline import hashes
from trellis_pipeline.cli import main
from trellis_pipeline.manifest import write_manifest
from trellis_regression.glb import read_glb


def run(capsys, *arguments):
    try:
        status = main([str(a) for a in arguments])
    except SystemExit as error:
        status = error.code
    captured = capsys.readouterr()
    return status, captured.out, captured.err


def test_remake_and_render(painted, tmp_path, capsys):
    out, manifest, picture = tmp_path / "deep/folder/out.glb", tmp_path / "m.json", tmp_path / "turn.png"
    status, text, progress = run(
        capsys,
        "remake",
        painted,
        "-o",
        out,
        "--resolution",
        32,
        "--faces",
        500,
        "--texture",
        128,
        "--manifest",
        manifest,
    )
    assert status == 0
    assert str(out) in text
    assert "voxelize" in progress and "unwrap" in progress
    assert json.loads(manifest.read_text())["stages"]["write"]["faces"] <= 500
    status, text, _ = run(capsys, "render", painted, out, "-o", picture, "--views", 3, "--size", 64)
    assert status == 0
    image = np.asarray(Image.open(picture).convert("RGB")).astype(int)
    assert image.shape == (128, 192, 3)
    colourful = (image.max(2) - image.min(2)) > 60
    assert colourful[:64].mean() > 0.1 and colourful[64:].mean() > 0.1


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_render_draws_the_same_on_a_gpu(painted, tmp_path, capsys):
    pictures = []
    for device in ("cpu", "cuda"):
        path = tmp_path / f"{device}.png"
        assert run(capsys, "render", painted, "-o", path, "--views", 2, "--size", 96, "--device", device)[0] == 0
        pictures.append(np.asarray(Image.open(path)).astype(int))
    difference = np.abs(pictures[0] - pictures[1])
    assert pictures[0].std() > 20
    assert difference.mean() < 0.1 and (difference > 2).mean() < 0.002  # rounding, and pixels on an edge


def test_quiet_prints_nothing(painted, tmp_path, capsys):
    result = run(
        capsys, "remake", painted, "-o", tmp_path / "o.glb", "--resolution", 16, "--faces", 200, "--texture", 64, "-q"
    )
    assert result == (0, "", "")


@pytest.fixture
def bad(tmp_path, painted):
    """Unusable inputs by name."""
    whole = painted.read_bytes()

    def document(change):
        size = struct.unpack_from("<I", whole, 12)[0]
        content = json.loads(whole[20 : 20 + size])
        change(content)
        text = json.dumps(content).encode()
        text += b" " * (-len(text) % 4)
        rest = whole[20 + size :]
        return struct.pack("<IIIII", 0x46546C67, 2, 20 + len(text) + len(rest), len(text), 0x4E4F534A) + text + rest

    def position(content):
        return content["accessors"][content["meshes"][0]["primitives"][0]["attributes"]["POSITION"]]

    def nan(content):
        view = content["bufferViews"][position(content)["bufferView"]]
        nan.at = view.get("byteOffset", 0)

    clean = document(nan)
    start = 20 + struct.unpack_from("<I", clean, 12)[0] + 8 + nan.at
    files = {
        "text": b"this is no GLB",
        "truncated": whole[: len(whole) // 2],
        "empty-file": b"",
        "no-mesh": document(lambda c: (c.pop("meshes"), c.update(nodes=[{}], scenes=[{"nodes": [0]}]))),
        "no-faces": document(lambda c: c["meshes"][0]["primitives"][0].update(mode=0)),
        "nan": clean[:start] + struct.pack("<f", float("nan")) + clean[start + 4 :],
        "missing-texture": document(lambda c: c.pop("images")),
        "external": document(lambda c: c["images"].__setitem__(0, {"uri": "skin.png"})),
        "hundred-million": document(lambda c: position(c).update(count=300_000_000)),
    }
    for name, data in files.items():
        (tmp_path / f"{name}.glb").write_bytes(data)
    flat = trimesh.Trimesh(np.zeros((3, 3)), [[0, 1, 2]], process=False)
    (tmp_path / "point.glb").write_bytes(trimesh.Scene(flat).export(file_type="glb"))
    return tmp_path


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("text", "not a GLB"),
        ("truncated", "truncated"),
        ("empty-file", "not a GLB: 0 bytes"),
        ("no-mesh", "the scene is empty"),
        ("no-faces", "the scene has no faces"),
        ("nan", "is not finite"),
        ("missing-texture", "refers to images[0], but there are 0"),
        ("external", "external file 'skin.png'"),
        ("hundred-million", "claims 300000000 elements"),
        ("point", "its extent is 0"),
        ("absent", "No such file"),
    ],
)
def test_bad_input_is_one_line_and_status_2_and_leaves_nothing(bad, tmp_path, capsys, name, message):
    folder = tmp_path / "output"
    status, out, err = run(capsys, "remake", bad / f"{name}.glb", "-o", folder / "o.glb", "-q")
    assert status == 2
    assert out == ""
    assert err.startswith("trellis: error: ") and err.count("\n") == 1
    assert message in err and name in err
    assert not folder.exists() or not list(folder.iterdir())
    if name != "point":
        status, _, err = run(capsys, "render", bad / f"{name}.glb", "-o", tmp_path / "o.png")
        assert status == 2 and message in err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "required: COMMAND"),
        (["remake"], "required: IN.glb, -o/--out"),
        (["remake", "a.glb", "-o", "b.glb", "--resolution", "4"], "--resolution: expected 8 to 2048, got 4"),
        (["remake", "a.glb", "-o", "b.glb", "--texture", "99999"], "--texture: expected 16 to 16384, got 99999"),
        (["remake", "a.glb", "-o", "b.glb", "--faces", "many"], "--faces: invalid int value: 'many'"),
        (["remake", "a.glb", "-o", "b.glb", "--device", "tpu"], "--device: expected cpu, cuda or cuda:N, got 'tpu'"),
        (["remake", "a.glb", "-o", "b.glb", "--device", "cuda:99"], "cuda:99 is not here: torch sees"),
        (
            ["remake", "a.glb", "-o", "b.glb", "--min-fraction", "2"],
            "--min-fraction: expected a share in [0, 1), got 2",
        ),
        (["render", "-o", "b.png"], "required: FILE.glb"),
        (["dance"], "invalid choice: 'dance'"),
    ],
)
def test_wrong_arguments_name_the_argument(capsys, arguments, message):
    status, _, err = run(capsys, *arguments)
    assert status == 2
    assert message in err


def test_no_command_writes_over_what_it_reads(painted, tmp_path, capsys):
    source = tmp_path / "own.glb"
    source.write_bytes(painted.read_bytes())
    (tmp_path / "link.glb").hardlink_to(source)
    other = tmp_path / "o.glb"
    for arguments, option in [
        (("remake", source, "-o", source), "--out"),
        (("remake", source, "-o", tmp_path / "link.glb"), "--out"),
        (("remake", source, "-o", tmp_path / "sub/../own.glb"), "--out"),
        (("remake", source, "-o", other, "--manifest", source), "--manifest"),
        (("remake", source, "-o", other, "--manifest", other), "--manifest"),
        (("render", source, "-o", source), "--out"),
    ]:
        status, out, error = run(capsys, *arguments)
        assert (status, out) == (2, "") and error.startswith(f"trellis: error: {option}: ") and error.count("\n") == 1
        assert source.read_bytes() == painted.read_bytes() and not other.exists()


def test_what_cannot_be_served_is_said_before_the_work(painted, tmp_path, capsys):
    (tmp_path / "file").touch()
    for arguments, message in [
        (("remake", "absent.glb", "-o", tmp_path / "file/o.glb"), "--out: "),
        (("remake", "absent.glb", "-o", tmp_path / "o.glb", "--manifest", tmp_path), "is a folder"),
        (("remake", "absent.glb", "-o", tmp_path / "o.glb", "--keep-stages", tmp_path / "file"), "is a file"),
        (("render", "absent.glb", "-o", tmp_path / "o.jpg"), "must end in .png, as a PNG is what is written"),
        (("render", painted, "-o", tmp_path / "o.png", "--environment", "sky.hdr"), "--environment: sky.hdr: there is"),
    ]:
        status, _, error = run(capsys, *arguments)
        assert status == 2 and message in error and "absent" not in error and error.count("\n") == 1
    assert [p.name for p in tmp_path.iterdir()] == ["file"]


def test_what_is_not_installed_is_one_line(painted, tmp_path, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "OpenImageIO", None)
    (tmp_path / "sky.hdr").touch()
    status, out, error = run(capsys, "render", painted, "-o", tmp_path / "o.png", "--environment", tmp_path / "sky.hdr")
    assert (status, out) == (2, "") and error.count("\n") == 1
    assert error.startswith("trellis: error: ") and 'pip install "trellis-shade[hdr]"' in error


def test_a_texture_too_small_for_the_charts_is_one_line_and_leaves_nothing(tmp_path, capsys):
    """A stage in the middle of the road refuses: its sentence reaches the user without a traceback."""
    source = files("trellis_pipeline") / "samples/controller.glb"
    status, out, err = run(
        capsys, "remake", source, "-o", tmp_path / "o.glb", "--resolution", 64, "--texture", 16, "-q"
    )
    assert (status, out) == (2, "")
    assert err.startswith("trellis: error: padding: ") and err.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


def test_failed_write_keeps_the_old_file(painted, tmp_path, capsys, monkeypatch):
    """A run that dies while writing leaves the file of an earlier run as it was, and no temporary file."""
    out = tmp_path / "o.glb"
    out.write_bytes(b"earlier")
    monkeypatch.setattr("os.fsync", lambda _: (_ for _ in ()).throw(OSError(28, "No space left on device")))
    status, _, err = run(
        capsys, "remake", painted, "-o", out, "--resolution", 16, "--faces", 200, "--texture", 64, "-q"
    )
    assert status == 2 and "No space left on device" in err
    assert out.read_bytes() == b"earlier"
    assert [p.name for p in tmp_path.iterdir()] == ["o.glb"]


def test_unwritable_output_is_a_clear_error(painted, tmp_path, capsys):
    blocked = tmp_path / "file"
    blocked.write_text("")
    status, _, err = run(
        capsys, "remake", painted, "-o", blocked / "o.glb", "--resolution", 16, "--faces", 200, "--texture", 64, "-q"
    )
    assert status == 2 and err.count("\n") == 1


def test_help_and_module_entry():
    done = subprocess.run(
        [sys.executable, "-m", "trellis_pipeline.cli", "remake", "--help"], capture_output=True, text=True
    )
    assert done.returncode == 0
    for option in ("--resolution", "--faces", "--texture", "--device", "--manifest"):
        assert option in done.stdout


def test_a_manifest_is_json_whatever_the_figures(tmp_path):
    def refuse(constant):
        raise AssertionError(constant)

    facts = {
        "stages": {"simplify": {"error_bound": float("inf"), "faces": 7}},
        "list": [1.5, float("nan")],
        "pair": (2, "x"),
    }
    write_manifest(facts, tmp_path / "m.json")
    read = json.loads((tmp_path / "m.json").read_text(), parse_constant=refuse)
    assert read == {"stages": {"simplify": {"error_bound": None, "faces": 7}}, "list": [1.5, None], "pair": [2, "x"]}


def test_version(capsys):
    status, out, _ = run(capsys, "--version")
    assert status == 0 and out.startswith("trellis ") and len(out.split()) > 1


def test_written_file_is_a_new_version_of_glb_that_our_reader_takes(remade):
    assert read_glb(remade.path).document["asset"]["generator"] == "Trellis Forge"


def test_what_is_read_again_is_not_written_to_a_pipe(painted, tmp_path, capsys):
    out = tmp_path / "o.glb"
    os.mkfifo(out)
    assert (
        run(capsys, "remake", painted, "-o", out)[2]
        == f"trellis: error: --out: {out} is a device or a pipe, and a file is written\n"
    )


@pytest.mark.parametrize(
    "memory", [{"stages": [1]}, {"stages": [{"peak": 1}]}, {"stages": [{"peak": "x", "stage": "a"}]}]
)
def test_a_manifest_with_another_ledger_is_one_line(tmp_path, capsys, memory):
    manifest, out = tmp_path / "m.json", tmp_path / "m.svg"
    manifest.write_text(json.dumps({"memory": memory}))
    status, _, said = run(capsys, "memory", manifest, "-o", out)
    assert status == 2 and said.startswith(f"trellis: error: {manifest}: its memory ledger") and said.count("\n") == 1


def test_a_user_without_a_folder_has_the_root(monkeypatch):
    """As in a container that runs under a number that no file of users knows."""

    def none():
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.setattr(Path, "home", none)
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    assert hashes._place() == Path("/.cache/trellis/sha256.json")
