"""The package's promises as a whole: header against library, threads, operators under torch.library's own checks."""

import ctypes
import re

import pytest
import torch
import trellis_sparse
from trellis_native.testing import assert_header_matches_cpu_library
from trellis_sparse._library import EXTENSION

COORDS = torch.tensor([[0, 1, 2, 3], [0, 1, 2, 4], [0, 7, 7, 7], [1, 0, 0, 0]], dtype=torch.int32)
SHAPE = [2, 8, 8, 8]


def test_header_matches_the_cpu_library() -> None:
    assert_header_matches_cpu_library(EXTENSION)


def test_all_names_exist() -> None:
    assert all(hasattr(trellis_sparse, name) for name in trellis_sparse.__all__)


def test_a_negative_number_of_threads_is_refused() -> None:
    library = EXTENSION.library(torch.device("cpu"))
    assert library.function("set_num_threads")(ctypes.c_int(-1)) == 1
    assert library.last_error == "threads: expected 0 or more, got -1"


def _calls() -> dict[str, tuple[object, ...]]:
    neighbors = trellis_sparse.neighbor_map(COORDS, SHAPE)
    feats, weight = torch.randn(4, 2), torch.randn(3, 3, 3, 3, 2)
    points = torch.rand(2, 5, 3) * 8
    return {
        "encode_order": (COORDS[:, 1:], "hilbert", 22),
        "decode_order": (torch.tensor([0, 5]), "morton", 22),
        "voxel_index": (COORDS, SHAPE),
        "neighbor_map": (COORDS, SHAPE, [3, 3, 3], [1, 1, 1], None),
        "conv_plan": (neighbors, 4, 2, 4),
        "submanifold_conv3d": (
            feats.requires_grad_(),
            weight.requires_grad_(),
            torch.randn(3),
            neighbors,
            [],
            [],
            False,
        ),
        "submanifold_conv3d_grad_feats": (torch.randn(4, 3), weight.detach(), neighbors, 4, [], False),
        "submanifold_conv3d_grad_weight": (torch.randn(4, 3), feats.detach(), neighbors, [3, 3, 3]),
        "grid_sample_3d": (feats, COORDS, SHAPE, points, "trilinear", None),
        "grid_sample_3d_values": (feats.detach(), COORDS, SHAPE, points, "nearest", None),
        "grid_sample_3d_grad": (torch.randn(2, 5, 2), COORDS, SHAPE, points, "nearest", None),
        "downsample": (COORDS,),
        "upsample": (COORDS, torch.ones(4, 8, dtype=torch.bool)),
    }


@pytest.mark.parametrize("name", sorted(_calls()))
def test_operators_pass_opcheck(name: str) -> None:
    operator = getattr(torch.ops.trellis_sparse, name).default
    torch.library.opcheck(operator, _calls()[name])


@pytest.mark.parametrize("name", sorted(_calls()))
def test_operators_give_new_memory(name: str) -> None:
    arguments = _calls()[name]
    with torch.no_grad():
        outputs = getattr(torch.ops.trellis_sparse, name).default(*arguments)
    inputs = {a.data_ptr() for a in arguments if isinstance(a, torch.Tensor)}
    for output in outputs if isinstance(outputs, tuple) else (outputs,):
        assert output.is_contiguous()
        assert output.data_ptr() not in inputs


def test_the_c_functions_check_what_python_already_did() -> None:
    cpu = torch.device("cpu")
    codes, real = torch.zeros(4, dtype=torch.int64), torch.zeros(64)
    points, neighbors = torch.zeros(2, 1, 3), torch.zeros(4, 1, dtype=torch.int32)

    def encode(n: int = 1, curve: int = 0, bits: int = 1) -> None:
        EXTENSION.call("encode_order", COORDS, n, curve, bits, codes, device=cpu)

    def find(n: int = 4, size: int = 8, kernel: int = 1, dilation: int = 1) -> None:
        sizes = (size, 8, 8, 8, kernel, 1, 1, dilation, 1, 1)
        EXTENSION.call("neighbor_map", COORDS, n, *sizes, None, neighbors, device=cpu)

    def sample(mode: int = 0, precision: int = 32, per_batch: int = 1) -> None:
        sizes = (4, 1, 2, 8, 8, 8)
        EXTENSION.call(
            "grid_sample_3d", real, COORDS, *sizes, points, per_batch, mode, precision, None, real.clone(), device=cpu
        )

    def convolve(taps: int = 1, precision: int = 32) -> None:
        sizes = (4, 4, 1, 1, taps)
        plan = (None, None, None, 1, None)
        EXTENSION.call(
            "submanifold_conv3d", real, real, None, neighbors, *sizes, precision, *plan, real.clone(), device=cpu
        )

    def plan(taps: int = 1, parts: int = 1, chunk: int = 4) -> None:
        out = torch.zeros(64, dtype=torch.int32)
        EXTENSION.call(
            "conv_plan", neighbors, 4, 4, taps, parts, chunk, None, out, out.clone(), None, codes.clone(), device=cpu
        )

    for call in (encode, find, sample, convolve, plan):
        call()
    for call, wrong, message in (
        (encode, {"n": -1}, "n: expected in [0, 9223372036854775807), got -1"),
        (encode, {"curve": 2}, "curve: expected 0 (Morton) or 1 (Hilbert), got 2"),
        (encode, {"bits": 23}, "bits: expected in [1, 22], got 23"),
        (find, {"n": 2**31 - 1}, "n: expected in [0, 2147483647), got 2147483647"),
        (find, {"size": 65536}, "batch: expected in [1, 65535], got 65536"),
        (find, {"kernel": 64}, "kernel size: expected in [1, 63], got 64"),
        (find, {"dilation": 0}, "dilation: expected in [1, 65535], got 0"),
        (sample, {"mode": 2}, "mode: expected 0 (trilinear) or 1 (nearest), got 2"),
        (sample, {"precision": 16}, "precision: expected 32 or 64, got 16"),
        (sample, {"per_batch": -1}, "points_per_batch: expected in [0, 9223372036854775807), got -1"),
        (convolve, {"taps": 1 << 18}, "taps: expected in [0, 262144), got 262144"),
        (plan, {"taps": 417}, "taps: expected in [1, 416] for a plan, got 417"),
        (plan, {"parts": 2}, "parts: expected in [1, 16], at most one a tap, got 2"),
        (plan, {"taps": 28}, "parts: 1 are too few for 28 taps; a part holds at most 26"),
        (plan, {"chunk": 0}, "chunk_rows: expected at least 1, got 0"),
        (convolve, {"precision": 0}, "precision: expected 32 or 64, got 0"),
    ):
        with pytest.raises(ValueError, match="^" + re.escape(message) + "$"):
            call(**wrong)
