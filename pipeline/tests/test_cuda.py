"""The export road on a GPU: the same object as its source, and the same bytes every time."""

import dataclasses
import json

import pytest
import torch
from trellis_pipeline.cli import main
from trellis_pipeline.export import export_asset, load_source, voxelize
from trellis_pipeline.remake import RemakeOptions, remake
from trellis_pipeline.testing import object_picture
from trellis_regression.compare import compare_pictures
from trellis_regression.glb import check_geometry, read_glb

pytestmark = [pytest.mark.cuda, pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")]


def test_remade_on_a_gpu(painted, tmp_path):
    options = RemakeOptions(resolution=96, faces=6000, texture=512, device="cuda")
    facts = remake(painted, tmp_path / "a.glb", options, quiet=True)
    measured = compare_pictures(painted, tmp_path / "a.glb", size=128)
    assert measured["silhouette_iou"] > 0.98 and measured["color_error"] < 0.05
    assert facts["stages"]["bake"]["texels_without_voxel"] < 0.001 * facts["stages"]["bake"]["texels_covered"]
    again = remake(painted, tmp_path / "b.glb", options, quiet=True)
    assert again["output"]["sha256"] == facts["output"]["sha256"]


@pytest.mark.parametrize("remeshed", [False, True])
def test_voxels_alone_on_a_stream_of_their_own(painted, tmp_path, remeshed):
    voxels = voxelize(load_source(painted), 64, torch.device("cuda"))
    attrs = {k: v for k, v in voxels.attrs.items() if k == "base_color"}
    voxels = dataclasses.replace(voxels, attrs=attrs)
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    files = [tmp_path / "a.glb", tmp_path / "b.glb"]
    with torch.cuda.stream(stream):
        export_asset(voxels, files[0], faces=3000, texture=256, remeshed=remeshed)
    export_asset(voxels, files[1], faces=3000, texture=256, remeshed=remeshed)
    assert 2000 < check_geometry(read_glb(files[0])) <= 3000
    assert files[0].read_bytes() == files[1].read_bytes()


@pytest.mark.parametrize("command", ["generate", "remake"])
@pytest.mark.skipif(torch.cuda.device_count() < 2, reason="needs two CUDA devices")
def test_the_second_device_gives_the_bytes_of_the_first_and_leaves_it_alone(
    command, painted, checkpoint_folder, tmp_path
):
    object_picture().save(tmp_path / "object.png")
    source, more = {
        "generate": (tmp_path / "object.png", ["--weights", str(checkpoint_folder), "--type", "1024_cascade"]),
        "remake": (painted, ["--resolution", "64"]),
    }[command]
    files = [tmp_path / f"{index}.glb" for index in range(2)]
    for index, out in enumerate(files):
        torch.cuda.empty_cache()
        other = 1 - index
        before = torch.cuda.memory_allocated(other)
        torch.cuda.reset_peak_memory_stats(other)
        arguments = [
            command,
            str(source),
            "-o",
            str(out),
            "--device",
            f"cuda:{index}",
            "--faces",
            "1500",
            "--texture",
            "128",
        ]
        assert main([*arguments, *more, "--manifest", str(out.with_suffix(".json"))]) == 0
        assert torch.cuda.max_memory_allocated(other) == before
        facts = json.loads(out.with_suffix(".json").read_text())
        if command == "generate":
            assert facts["memory"]["device"] == f"cuda:{index}"
            assert all(s["peak"] > 0 for s in facts["memory"]["stages"])
    assert torch.cuda.current_device() == 0
    assert files[0].read_bytes() == files[1].read_bytes()
