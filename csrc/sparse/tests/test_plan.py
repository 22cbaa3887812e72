"""Plans of convolution: orders of rows by which neighbours they have, here as the CPU defines them."""

import pytest
import torch
from trellis_sparse import conv_plan, neighbor_map, submanifold_conv3d
from trellis_sparse._plan import _conv_plan, _invert_map, parts_and_chunk


def a_map(rows: int, seed: int = 0) -> torch.Tensor:
    g = torch.Generator().manual_seed(seed)
    cells = torch.randperm(16**3, generator=g)[:rows]
    coords = torch.stack([cells * 0, cells // 256, cells // 16 % 16, cells % 16], 1).int()
    return neighbor_map(coords, (1, 16, 16, 16))


def has(neighbors: torch.Tensor, first: int, end: int) -> torch.Tensor:
    return ((neighbors[:, first:end] >= 0).long() << torch.arange(end - first)).sum(1)


@pytest.mark.parametrize("parts", [1, 2, 3, 5])
@pytest.mark.parametrize("rows", [1, 64, 65, 700])
def test_masks_are_those_of_the_ordered_rows(rows: int, parts: int) -> None:
    neighbors = a_map(rows)
    order, masks, tiles, wrong = _conv_plan(neighbors, rows, parts, rows)
    assert int(wrong) > neighbors.numel()
    for part in range(parts):
        first, end = part * 27 // parts, (part + 1) * 27 // parts
        assert torch.equal(order[part].sort().values, torch.arange(rows, dtype=torch.int32))
        mine = has(neighbors, first, end)[order[part].long()]
        for group, mask in enumerate(masks[part].tolist()):
            expected = 0
            for row in mine[64 * group : 64 * (group + 1)].tolist():
                expected |= row
            assert mask == expected
    assert torch.equal(tiles.sort().values, torch.arange(parts * -(-rows // 128), dtype=torch.int32))


def test_sorting_saves_work_and_parts_save_more() -> None:
    neighbors = a_map(1500)

    def work(masks: torch.Tensor) -> int:
        return sum(bin(m).count("1") for m in masks.flatten().tolist())

    unsorted = sum(bin(_union(has(n, 0, 27))).count("1") for n in neighbors.split(64))
    one, three = (work(_conv_plan(neighbors, 1500, parts, 1500)[1]) for parts in (1, 3))
    assert three < 0.85 * one
    assert one < unsorted


def _union(masks: torch.Tensor) -> int:
    union = 0
    for mask in masks.tolist():
        union |= mask
    return union


def test_chunks_keep_their_rows_together() -> None:
    neighbors = a_map(1000)
    order = _conv_plan(neighbors, 1000, 1, 256)[0][0]
    for chunk in range(4):
        rows = order[256 * chunk : 256 * (chunk + 1)]
        assert rows.min() == 256 * chunk
        assert rows.max() == min(1000, 256 * (chunk + 1)) - 1


def test_costly_tiles_come_first() -> None:
    masks, tiles = _conv_plan(a_map(1000), 1000, 3, 1000)[1:3]
    groups = masks.shape[1]
    bits = [[bin(m).count("1") for m in part] for part in masks.tolist()]
    costs = []
    for tile in tiles.tolist():
        part, first = tile // 8, tile % 8 * 2
        pair = masks[part, first : first + 2].tolist()
        costs.append(sum(bits[part][first : min(first + 2, groups)]) + bin(_union(torch.tensor(pair))).count("1"))
    assert costs == sorted(costs, reverse=True)
    assert costs[0] > costs[-1]


def test_the_first_wrong_neighbour_is_found() -> None:
    neighbors = a_map(20)
    neighbors[7, 3], neighbors[9, 0] = 20, -2
    assert int(_conv_plan(neighbors, 20, 1, 20)[3]) == 7 * 27 + 3


def test_the_transpose_of_a_map_with_repeated_readers() -> None:
    remaining = torch.tensor([[2, -1], [2, 0], [-1, 0], [2, 1]], dtype=torch.int32)
    inverse, left = _invert_map(remaining, 3)
    assert inverse.tolist() == [[-1, 1], [-1, 3], [0, -1]]
    assert int(left) == 3
    assert remaining.tolist() == [[-1, -1], [2, -1], [-1, 0], [2, -1]]


def test_the_transpose_of_a_submanifold_map_is_its_mirror_image() -> None:
    neighbors = a_map(500)
    inverse, left = _invert_map(neighbors.clone(), 500)
    assert int(left) == 0
    assert torch.equal(inverse, neighbors.flip(1))


@pytest.mark.parametrize("taps", [1, 8, 27, 45, 125])
@pytest.mark.parametrize("rows", [0, 1, 30_000, 100_000, 5_000_000])
def test_the_table_gives_what_plans_accept(rows: int, taps: int) -> None:
    parts, chunk = parts_and_chunk(rows, taps)
    assert 1 <= parts <= taps
    assert taps == 27 or -(-taps // parts) <= 26
    assert -(-rows // chunk) <= 64


def test_a_plan_is_of_one_map() -> None:
    neighbors = a_map(30)
    feats, weight = torch.randn(30, 2), torch.randn(3, 3, 3, 3, 2)
    expected = submanifold_conv3d(feats, weight, None, neighbors)
    assert torch.equal(submanifold_conv3d(feats, weight, None, neighbors, plan=conv_plan(neighbors)), expected)
    with pytest.raises(ValueError, match="plan: expected one made for `neighbors`, got one for another map"):
        submanifold_conv3d(feats, weight, None, neighbors, plan=conv_plan(neighbors.clone()))
    with pytest.raises(TypeError, match="neighbors: expected dtype int32, got int64"):
        conv_plan(neighbors.long())
