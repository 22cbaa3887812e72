"""The library against its header, and its operators against torch's rules."""

import pytest
import torch
import trellis_shade as shade
from trellis_native.testing import assert_header_matches_cpu_library
from trellis_shade import _ops


def test_header_matches_cpu_library():
    assert_header_matches_cpu_library(shade.EXTENSION)


CUBE = torch.rand(6, 4, 4, 3)
PYRAMID = torch.cat([CUBE.view(-1, 3), torch.rand(24, 3), torch.rand(6, 3)])
POINTS = torch.randn(5, 3)
OPERATORS = {
    "latlong_to_cube": (torch.rand(4, 8, 3), 4),
    "halve_cube": (CUBE,),
    "lobe": (CUBE, 0.5, 16, 4),
    "prefilter": (PYRAMID, 4, 3, _ops.lobe(CUBE, 0.5, 16, 4), 2),
    "irradiance": (CUBE, 2),
    "brdf_table": (CUBE, 3),
    "sample_cube": (PYRAMID, 4, 3, POINTS, torch.rand(5)),
    "shade": (
        *(PYRAMID, 4, 3, CUBE, _ops.brdf_table(CUBE, 4), [1.0, 0, 0, 0, 1, 0, 0, 0, 1]),
        *(POINTS, POINTS, POINTS.abs(), torch.rand(5), torch.rand(5), torch.zeros(3)),
    ),
}


@pytest.mark.parametrize("name", OPERATORS)
def test_operator_follows_the_rules_of_torch(name):
    torch.library.opcheck(getattr(torch.ops.trellis_shade, name).default, OPERATORS[name])


def test_every_operator_is_listed_here():
    assert set(OPERATORS) == {name.split("::")[1] for name in _ops.OPS._library._op_defs}


def test_native_arguments_are_checked():
    with pytest.raises(ValueError, match="side: expected an even number, got 3"):
        _ops.halve_cube(torch.rand(6, 3, 3, 3))
    with pytest.raises(ValueError, match=r"roughness: expected a number in \(0, 1\], got 0"):
        _ops.lobe(CUBE, 0.0, 16, 4)
    with pytest.raises(ValueError, match="side: expected at least 2, got 1"):
        _ops.brdf_table(CUBE, 1)
