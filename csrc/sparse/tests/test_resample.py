"""Halving and doubling the resolution."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from trellis_native.testing import assert_same_bits_for_any_thread_count
from trellis_sparse import add_shares, channel_to_space, downsample, space_to_channel, upsample
from trellis_sparse._library import EXTENSION
from trellis_sparse._ops_resample import _downsample_by_sorting

axis = st.one_of(st.integers(0, 5), st.integers(0, 65535), st.just(65535))
voxels = st.lists(st.tuples(axis, axis, axis, axis), max_size=40)


def tensor(rows: list[tuple[int, ...]]) -> torch.Tensor:
    return torch.tensor(rows, dtype=torch.int32).reshape(-1, 4)


def test_handwritten_cases() -> None:
    down = downsample(tensor([(0, 4, 5, 6), (0, 1, 0, 1), (0, 5, 4, 7), (1, 1, 1, 1)]))
    assert down.coords.tolist() == [[0, 0, 0, 0], [0, 2, 2, 3], [1, 0, 0, 0]]
    assert down.parent.tolist() == [1, 0, 1, 2]
    assert down.slot.tolist() == [2, 5, 5, 7]
    mask = torch.zeros(2, 8, dtype=torch.bool)
    mask[0, 6] = mask[1, 1] = mask[1, 4] = True
    up = upsample(tensor([(3, 1, 2, 3), (0, 9, 0, 0)]), mask)
    assert up.coords.tolist() == [[3, 2, 5, 7], [0, 19, 0, 0], [0, 18, 0, 1]]
    assert up.parent.tolist() == [0, 1, 1]
    assert up.slot.tolist() == [6, 1, 4]


@given(rows=voxels)
@settings(deadline=None, max_examples=60)
def test_downsampling_against_sets(rows: list[tuple[int, ...]]) -> None:
    parents, parent, slot = downsample(tensor(rows))
    halves = [(b, x // 2, y // 2, z // 2) for b, x, y, z in rows]
    assert [tuple(p) for p in parents.tolist()] == sorted(set(halves))
    assert [tuple(parents[p].tolist()) for p in parent] == halves
    assert slot.tolist() == [x % 2 + 2 * (y % 2) + 4 * (z % 2) for _, x, y, z in rows]


@given(rows=voxels)
@settings(deadline=None, max_examples=40)
def test_sorting_gives_the_same(rows: list[tuple[int, ...]]) -> None:
    for ours, sorted_ones in zip(downsample(tensor(rows)), _downsample_by_sorting(tensor(rows)), strict=True):
        assert ours.dtype == sorted_ones.dtype
        assert torch.equal(ours, sorted_ones)


@given(rows=voxels, seed=st.integers(0, 99))
@settings(deadline=None, max_examples=60)
def test_upsampling_undoes_downsampling(rows: list[tuple[int, ...]], seed: int) -> None:
    rows = sorted(set(rows))
    down = downsample(tensor(rows))
    mask = torch.zeros(len(down.coords), 8, dtype=torch.bool)
    mask[down.parent, down.slot] = True
    up = upsample(down.coords, mask)
    assert sorted(map(tuple, up.coords.tolist())) == rows
    assert torch.equal(mask.nonzero(), torch.stack([up.parent, up.slot], 1))
    back = downsample(up.coords)
    assert torch.equal(back.coords, down.coords)
    assert torch.equal(back.parent, up.parent)
    assert torch.equal(back.slot, up.slot)
    feats = torch.randn(len(rows), 3, generator=torch.Generator().manual_seed(seed))
    wide = space_to_channel(feats, down.parent, down.slot, len(down.coords))
    assert wide.shape == (len(down.coords), 24)
    assert torch.equal(channel_to_space(wide, down.parent, down.slot), feats)


def test_channels_stand_in_the_order_of_slots() -> None:
    parent, slot = torch.tensor([0, 0, 1]), torch.tensor([1, 7, 0])
    feats = torch.tensor([[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]])
    wide = space_to_channel(feats, parent, slot, 2)
    expected = torch.zeros(2, 16)
    expected[0, 2:4], expected[0, 14:16], expected[1, 0:2] = feats[0], feats[1], feats[2]
    assert torch.equal(wide, expected)


def test_channel_moves_are_differentiable() -> None:
    parent, slot = torch.tensor([0, 2, 1]), torch.tensor([1, 7, 0])
    feats = torch.randn(3, 2, dtype=torch.float64).requires_grad_()
    assert torch.autograd.gradcheck(lambda f: space_to_channel(f, parent, slot, 4), feats)
    wide = torch.randn(3, 16, dtype=torch.float64).requires_grad_()
    assert torch.autograd.gradcheck(lambda f: channel_to_space(f, parent, slot), wide)


def test_empty_inputs() -> None:
    none = tensor([])
    for result in (downsample(none), upsample(none, torch.empty(0, 8, dtype=torch.bool))):
        assert [t.shape for t in result] == [(0, 4), (0,), (0,)]
    nothing = upsample(tensor([(0, 1, 2, 3)]), torch.zeros(1, 8, dtype=torch.bool))
    assert [t.shape for t in nothing] == [(0, 4), (0,), (0,)]
    index = torch.empty(0, dtype=torch.int64)
    assert channel_to_space(torch.empty(0, 16), index, index).shape == (0, 2)
    assert torch.equal(space_to_channel(torch.empty(0, 2), index, index, 3), torch.zeros(3, 16))


def test_threads_do_not_matter() -> None:
    coords = torch.randint(0, 60, (150_000, 4), dtype=torch.int32, generator=torch.Generator().manual_seed(0))
    mask = torch.rand(150_000, 8, generator=torch.Generator().manual_seed(1)) < 0.3
    assert_same_bits_for_any_thread_count(EXTENSION, lambda: [downsample(coords), upsample(coords, mask)])


def test_argument_errors() -> None:
    good, mask = tensor([(0, 1, 2, 3)]), torch.ones(1, 8, dtype=torch.bool)
    for call in (downsample, lambda c: upsample(c, mask)):
        with pytest.raises(TypeError, match="coords: expected dtype int32, got int64"):
            call(good.long())
        with pytest.raises(ValueError, match=r"coords: expected shape \[N, 4\], got \[1, 3\]"):
            call(good[:, 1:])
        with pytest.raises(
            ValueError, match=r"coords: expected entries from 0 to 65535, got \[0, 1, 65536, 3\] in row 0"
        ):
            call(tensor([(0, 1, 65536, 3)]))
    with pytest.raises(TypeError, match="mask: expected dtype bool, got float32"):
        upsample(good, mask.float())
    with pytest.raises(ValueError, match=r"mask: expected shape \[1, 8\], got \[1, 7\]"):
        upsample(good, mask[:, :7])
    with pytest.raises(ValueError, match="mask: expected a tensor on cpu like the other arguments, got one on meta"):
        upsample(good, mask.to("meta"))


def test_argument_errors_of_channel_moves() -> None:
    parent, slot = torch.tensor([0, 1]), torch.tensor([3, 4])
    wide, narrow = torch.randn(2, 16), torch.randn(2, 2)
    with pytest.raises(TypeError, match="feats: expected dtype"):
        channel_to_space(wide.int(), parent, slot)
    with pytest.raises(ValueError, match=r"feats: expected shape \[P, 8 C\], got \[16\]"):
        channel_to_space(wide[0], parent, slot)
    with pytest.raises(ValueError, match="feats: expected a number of channels divisible by 8, got 15"):
        channel_to_space(wide[:, :15], parent, slot)
    with pytest.raises(TypeError, match="feats: expected dtype"):
        space_to_channel(narrow.int(), parent, slot, 2)
    with pytest.raises(ValueError, match=r"feats: expected shape \[M, C\], got \[2\]"):
        space_to_channel(narrow[0], parent, slot, 2)
    with pytest.raises(ValueError, match="num_parents: expected at least 0, got -1"):
        space_to_channel(narrow, parent, slot, -1)
    with pytest.raises(ValueError, match="parent: expected one entry for each of 3 rows of feats, got 2"):
        space_to_channel(torch.randn(3, 2), parent, slot, 2)
    for call in (lambda p, s: channel_to_space(wide, p, s), lambda p, s: space_to_channel(narrow, p, s, 2)):
        with pytest.raises(TypeError, match="parent: expected dtype int64, got int32"):
            call(parent.int(), slot)
        with pytest.raises(ValueError, match="parent: expected a tensor on cpu"):
            call(parent.to("meta"), slot)
        with pytest.raises(ValueError, match=r"slot: expected shape \[2\], got \[1\]"):
            call(parent, slot[:1])
        with pytest.raises(ValueError, match=r"parent: expected entries from 0 to 1, got \[2\] in row 1"):
            call(parent + 1, slot)
        with pytest.raises(ValueError, match=r"slot: expected entries from 0 to 7, got \[-1\] in row 0"):
            call(parent, slot - 4)


CUDA = pytest.param(
    "cuda", marks=[pytest.mark.cuda, pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")]
)


@pytest.mark.parametrize("device", ["cpu", CUDA])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16], ids=str)
@pytest.mark.parametrize(
    ("rows", "channels", "share"), [(0, 8, 2), (1, 1, 1), (257, 64, 16), (70, 64, 64), (33, 30, 5)]
)
def test_shares_are_added_channel_by_channel(
    device: str, dtype: torch.dtype, rows: int, channels: int, share: int
) -> None:
    g = torch.Generator().manual_seed(0)
    update, shares = torch.randn(rows, channels, generator=g), torch.randn(10, share, generator=g)
    source = torch.randint(10, (rows,), generator=g)
    update, shares, source = update.to(device, dtype), shares.to(device, dtype), source.to(device)
    expected = update.float() + shares[source].float().repeat_interleave(channels // share, 1)
    assert torch.equal(add_shares(update, shares, source), expected.to(dtype))


@pytest.mark.parametrize("device", ["cpu", CUDA])
def test_shares_that_do_not_exist_are_refused_or_give_nan(device: str) -> None:
    update, shares = torch.zeros(3, 8, device=device), torch.ones(2, 4, device=device)
    source = torch.tensor([0, 2, -1], device=device)
    if device == "cpu":
        with pytest.raises(ValueError, match=r"source: expected entries from 0 to 1, got \[2\] in row 1"):
            add_shares(update, shares, source)
    else:
        assert add_shares(update, shares, source).isnan().all(1).tolist() == [False, True, True]
    with pytest.raises(ValueError, match="shares: expected a divisor of 8 channels, got 3"):
        add_shares(update, torch.ones(2, 3, device=device), source.clamp(0, 1))


def test_gradients_of_added_shares() -> None:
    g = torch.Generator().manual_seed(1)
    update = torch.randn(5, 8, generator=g, requires_grad=True)
    shares = torch.randn(3, 4, generator=g, requires_grad=True)
    source = torch.tensor([2, 0, 2, 2, 1])
    got = torch.autograd.grad(add_shares(update, shares, source).square().sum(), (update, shares))
    plain = (update + shares[source].repeat_interleave(2, 1)).square().sum()
    torch.testing.assert_close(got, torch.autograd.grad(plain, (update, shares)))
