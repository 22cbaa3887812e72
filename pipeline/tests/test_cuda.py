"""The export road on a GPU: the same object as its source, and the same bytes every time."""

import dataclasses

import pytest
import torch
from trellis_pipeline.export import export_asset, load_source, voxelize
from trellis_pipeline.remake import RemakeOptions, remake
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
