"""The library against its header, and its operators against torch's rules."""

import pytest
import torch
import trellis_raster as raster
from trellis_native.testing import assert_header_matches_cpu_library


def test_header_matches_cpu_library():
    assert_header_matches_cpu_library(raster.EXTENSION)


def test_limits_match_the_header():
    text = (raster.EXTENSION.folder / "include" / "trellis_raster.h").read_text()
    assert f"TK_RASTER_MAX_SIDE = {raster.MAX_SIDE}," in text
    assert f"TK_RASTER_MAX_FACES = {raster.MAX_FACES} " in text


CLIP = torch.tensor([[[-1.0, -1, 0, 1], [1, -1, 0.5, 2], [-1, 1, 0, 1]]])
FACES = torch.tensor([[0, 1, 2]], dtype=torch.int32)
RAST = raster.rasterize(CLIP, FACES, (4, 6))
OPERATORS = {
    "rasterize": (CLIP, FACES, 4, 6, 4, RAST),
    "interpolate": (torch.rand(1, 3, 2, requires_grad=True), RAST, FACES),
    "interpolate_values": (torch.rand(2, 3, 3), RAST.repeat(2, 1, 1, 1), FACES),
    "interpolate_backward": (torch.rand(1, 4, 6, 2), RAST, FACES, 1, 3),
    "build_mips": (torch.rand(2, 5, 8, 3), 3),
    "uv_lod": (torch.rand(1, 4, 6, 2), 16, 8),
    "sample_texture": (torch.rand(1, 20, 3), 5, 4, 1, torch.rand(2, 3, 3, 2), None, "linear", "repeat"),
    "nearest_texel": (torch.rand(4, 5) < 0.3,),
    "gather_texels": (torch.rand(4, 5, 2), torch.zeros(4, 5, dtype=torch.int32), -1.0),
    "pull_push": (torch.rand(4, 5, 2), torch.rand(4, 5) < 0.5),
}


@pytest.mark.parametrize("name", OPERATORS)
def test_operator_follows_the_rules_of_torch(name):
    torch.library.opcheck(getattr(torch.ops.trellis_raster, name).default, OPERATORS[name])


def test_every_operator_is_listed_here():
    assert set(OPERATORS) == {name.split("::")[1] for name in raster._library.OPS._library._op_defs}


def test_the_filter_may_stand_third():
    image, uv = torch.rand(1, 4, 4, 2), torch.rand(1, 3, 3, 2)
    for name in ("nearest", "linear", "mip"):
        assert torch.equal(raster.sample_texture(image, uv, name), raster.sample_texture(image, uv, filter=name))
