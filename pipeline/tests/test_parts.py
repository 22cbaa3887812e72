"""Decoders that make their finest level in parts: the same result, from less memory at a time."""

import pytest
import torch
from trellis_pipeline.models import slat
from trellis_pipeline.models.slat import VoxelLimitError
from trellis_pipeline.random_checkpoint import random_models
from trellis_pipeline.sparse import SparseTensor

CUDA = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
ROLES = ["shape_slat_decoder", "tex_slat_decoder"]


def sheet(side):
    """Latent voxels [side^2, 4] of a slanted plane, with random latents."""
    axis = torch.arange(side)
    x, y = (a.flatten() for a in torch.meshgrid(axis, axis, indexing="ij"))
    coords = torch.stack([torch.zeros_like(x), x, y, (x + 2 * y) // 3], 1).int()
    return torch.randn(len(coords), 32, generator=torch.Generator().manual_seed(1)), coords


@torch.no_grad()
def decoded(device, side, parts_for):
    """Both decoders' results as the pipeline calls them, and in how many parts they were told to work."""
    _, weights, _ = random_models("tiny", ROLES)
    feats, coords = (x.to(device) for x in sheet(side))
    asked = []

    def told(voxels):
        asked.append(voxels)
        return parts_for

    with weights[ROLES[0]].on(device, "swap") as shape:
        shape.parts_for = told
        h, logits = shape(SparseTensor(feats, coords))
    with weights[ROLES[1]].on(device, "swap") as texture:
        texture.parts_for = told
        out = texture(SparseTensor(feats, coords), logits)
    assert asked == [len(h.coords)] * 2
    return h, out


def test_parts_of_rows_give_the_bits_of_the_whole(monkeypatch):
    monkeypatch.setattr(slat, "_LEAST_PART", 64)
    whole = decoded(torch.device("cpu"), 6, 1)
    assert len(whole[0].coords) > 9000
    for parts in (2, 7):
        for a, b in zip(whole, decoded(torch.device("cpu"), 6, parts), strict=True):
            assert torch.equal(a.coords, b.coords) and torch.equal(a.feats, b.feats)


def test_parts_cover_all_rows_and_none_is_small():
    for rows in (0, 1, 63, 32_768, 65_535, 65_536, 1_000_003):
        for parts in (1, 2, 5, 16):
            slices = list(slat._parts(rows, parts))
            assert [i for s in slices for i in (s.start, s.stop)] == sorted(
                i for s in slices for i in (s.start, s.stop)
            )
            assert sum(s.stop - s.start for s in slices) == rows and len(slices) <= parts
            assert all(s.start == t.stop for s, t in zip(slices[1:], slices, strict=False))
            assert rows < 20_001 or all(s.stop - s.start > 20_000 for s in slices)  # the limit of a plan in one piece


def test_no_more_is_computed_than_where_children_lie():
    """The low-resolution shape of a cascade is wanted for its voxels alone."""
    _, weights, _ = random_models("tiny", ROLES[:1])
    feats, coords = sheet(3)
    with weights[ROLES[0]].on(torch.device("cpu"), "swap") as shape, torch.no_grad():
        fine = shape(SparseTensor(feats, coords))[0].coords
        shape.blocks[3][-1].forward = None  # the last upsampling, which has nothing to compute
        assert torch.equal(shape.upsample(SparseTensor(feats, coords), 4), fine)
        assert torch.equal(shape.upsample(SparseTensor(feats, coords), 0), coords)


def test_too_many_voxels_are_refused_before_they_are_made():
    _, weights, _ = random_models("tiny", ROLES[:1])
    feats, coords = sheet(3)
    with weights[ROLES[0]].on(torch.device("cpu"), "swap") as shape, torch.no_grad():
        shape.most_voxels = 150
        with pytest.raises(VoxelLimitError, match="upsampling 3 would make 576 voxels, and at most 150 are taken"):
            shape.upsample(SparseTensor(feats, coords), 4)


@pytest.mark.cuda
@CUDA
def test_parts_give_the_same_on_a_gpu():
    device = torch.device("cuda")
    whole = decoded(device, 40, 1)
    assert len(whole[0].coords) > 5 * slat._LEAST_PART
    for a, b in zip(whole, decoded(device, 40, 5), strict=True):
        assert torch.equal(a.coords, b.coords)
        torch.testing.assert_close(a.feats, b.feats, rtol=1e-6, atol=1e-6)
