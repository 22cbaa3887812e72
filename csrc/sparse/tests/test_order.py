"""Space-filling orders."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from trellis_native.testing import assert_same_bits_for_any_thread_count
from trellis_sparse import decode_order, encode_order
from trellis_sparse._library import EXTENSION

CURVES = ("morton", "hilbert")
TOP = 2**21 - 1
axis = st.one_of(st.integers(0, TOP), st.sampled_from([0, 1, 1023, 1024, TOP - 1, TOP]))
cells = st.lists(st.tuples(axis, axis, axis), max_size=20)


def tensor(rows: list[tuple[int, int, int]]) -> torch.Tensor:
    return torch.tensor(rows, dtype=torch.int32).reshape(-1, 3)


def grid(side: int) -> torch.Tensor:
    r = torch.arange(side, dtype=torch.int32)
    return torch.cartesian_prod(r, r, r)


def test_morton_interleaves_with_x_highest() -> None:
    assert encode_order(tensor([(0, 0, 1), (0, 1, 0), (1, 0, 0), (2, 0, 0)])).tolist() == [1, 2, 4, 32]
    for cell in [(0, 0, 1), (0, 1, 0), (1, 0, 0), (2, 0, 0), (3, 1, 2), (TOP, 0, TOP)]:
        digits = "".join("".join(bits) for bits in zip(*(f"{c:021b}" for c in cell), strict=True))
        assert encode_order(tensor([cell])).item() == int(digits, 2)


def test_the_smallest_hilbert_curve() -> None:
    # Eight cells, each one step from the last: along z, y, z back, x, and the same way back.
    path = decode_order(torch.arange(8), "hilbert", bits=1).tolist()
    assert path == [[0, 0, 0], [0, 0, 1], [0, 1, 1], [0, 1, 0], [1, 1, 0], [1, 1, 1], [1, 0, 1], [1, 0, 0]]


@pytest.mark.parametrize("bits", [1, 2, 3, 4, 5, None])
def test_hilbert_visits_every_cell_once_in_steps_of_one(bits: int | None) -> None:
    side = 2 ** (bits or 4)
    codes = encode_order(grid(side), "hilbert", bits=bits)
    assert sorted(codes.tolist()) == list(range(side**3))
    path = decode_order(torch.arange(side**3), "hilbert", bits=bits)
    assert ((path[1:] - path[:-1]).abs().sum(1) == 1).all()


def test_hilbert_codes_repeat_every_three_levels() -> None:
    coords = torch.randint(0, 1024, (200, 3), dtype=torch.int32, generator=torch.Generator().manual_seed(0))
    ten = encode_order(coords, "hilbert", bits=10)
    assert torch.equal(encode_order(coords, "hilbert", bits=13), ten)
    assert torch.equal(encode_order(coords, "hilbert"), ten)
    assert not torch.equal(encode_order(coords, "hilbert", bits=11), ten)


def test_hilbert_known_codes() -> None:
    # From the definition of the transform, worked out level by level in Python integers.
    coords = tensor([(1, 2, 3), (5, 0, 7), (1023, 0, 0), (511, 512, 1023)])
    assert encode_order(coords, "hilbert", bits=10).tolist() == [_skilling(c, 10) for c in coords.tolist()]


def _skilling(cell: list[int], levels: int) -> int:
    x = list(cell)
    for level in range(levels - 1, 0, -1):
        for i in range(3):
            low = (1 << level) - 1
            if x[i] >> level & 1:
                x[0] ^= low
            else:
                swap = (x[0] ^ x[i]) & low
                x[0], x[i] = x[0] ^ swap, x[i] ^ swap
    x[1] ^= x[0]
    x[2] ^= x[1]
    flip = 0
    for level in range(1, levels):
        if x[2] >> level & 1:
            flip ^= (1 << level) - 1
    x = [v ^ flip for v in x]
    return sum((x[a] >> level & 1) << (3 * level + 2 - a) for level in range(levels) for a in range(3))


@pytest.mark.parametrize("curve", CURVES)
@given(rows=cells)
@settings(deadline=None, max_examples=50)
def test_decoding_gives_back_what_was_encoded(curve: str, rows: list[tuple[int, int, int]]) -> None:
    coords = tensor(rows)
    codes = encode_order(coords, curve)
    assert codes.dtype == torch.int64
    assert (codes >= 0).all()
    assert torch.equal(decode_order(codes, curve), coords)


@pytest.mark.parametrize("curve", CURVES)
@given(codes=st.lists(st.one_of(st.integers(0, 2**63 - 1), st.sampled_from([0, 2**63 - 1])), max_size=20))
@settings(deadline=None, max_examples=50)
def test_encoding_gives_back_what_was_decoded(curve: str, codes: list[int]) -> None:
    tensor_codes = torch.tensor(codes, dtype=torch.int64)
    assert torch.equal(encode_order(decode_order(tensor_codes, curve), curve), tensor_codes)


@pytest.mark.parametrize("curve", CURVES)
def test_empty_and_non_contiguous(curve: str) -> None:
    assert encode_order(torch.empty((0, 3), dtype=torch.int32), curve).shape == (0,)
    assert decode_order(torch.empty(0, dtype=torch.int64), curve).shape == (0, 3)
    wide = torch.from_numpy(np.arange(40, dtype=np.int32).reshape(10, 4))
    assert torch.equal(encode_order(wide[:, 1:], curve), encode_order(wide[:, 1:].clone(), curve))


def test_threads_do_not_matter() -> None:
    coords = torch.randint(0, TOP, (50_000, 3), dtype=torch.int32, generator=torch.Generator().manual_seed(1))
    assert_same_bits_for_any_thread_count(EXTENSION, lambda: decode_order(encode_order(coords, "hilbert"), "hilbert"))


def test_argument_errors() -> None:
    good = tensor([(1, 2, 3)])
    with pytest.raises(TypeError, match="coords: expected dtype int32, got int64"):
        encode_order(good.long())
    with pytest.raises(ValueError, match=r"coords: expected shape \[N, 3\], got \[1, 2\]"):
        encode_order(good[:, :2])
    with pytest.raises(ValueError, match="curve: expected 'morton' or 'hilbert', got 'peano'"):
        encode_order(good, "peano")
    with pytest.raises(ValueError, match=r"bits: expected in \[1, 21\], got 22"):
        encode_order(good, "hilbert", bits=22)
    with pytest.raises(ValueError, match=r"coords: expected entries from 0 to 2097151, got \[0, -1, 0\] in row 1"):
        encode_order(tensor([(0, 0, 0), (0, -1, 0)]))
    with pytest.raises(ValueError, match=r"coords: expected entries from 0 to 7, got \[8, 0, 0\] in row 0"):
        encode_order(tensor([(8, 0, 0)]), "morton", bits=3)
    with pytest.raises(TypeError, match="codes: expected dtype int64, got int32"):
        decode_order(torch.zeros(1, dtype=torch.int32))
    with pytest.raises(ValueError, match="curve: expected 'morton' or 'hilbert', got 'z'"):
        decode_order(torch.zeros(1, dtype=torch.int64), "z")
    with pytest.raises(ValueError, match=r"codes: expected entries from 0 to 9223372036854775807, got \[-1\] in row 0"):
        decode_order(torch.tensor([-1]))
    with pytest.raises(ValueError, match=r"codes: expected entries from 0 to 63, got \[64\] in row 0"):
        decode_order(torch.tensor([64]), "morton", bits=2)
