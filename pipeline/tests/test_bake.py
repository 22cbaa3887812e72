"""Steps of baking that the whole road does not show one by one."""

import pytest
import torch
from trellis_pipeline.export.bake import _in_tiles


@pytest.mark.parametrize("side", [1, 8, 20, 64])
def test_every_covered_texel_comes_once_and_tiles_stay_together(side):
    covered = torch.rand(side * side, generator=torch.Generator().manual_seed(side)) < 0.6
    covered[0] = True
    order = _in_tiles(covered, side)
    assert torch.equal(order.sort().values, covered.nonzero().squeeze(1))
    if side % 8 == 0:
        tile = order // side // 4 * (side // 8) + order % side // 8
        assert (tile.diff() >= 0).all()
