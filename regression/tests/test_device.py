"""A CUDA device gives the CPU's figures, within what is far below any threshold's distance from clean assets."""

from pathlib import Path

import pytest
import torch
from trellis_regression.asset import Asset
from trellis_regression.fuzz import seeds
from trellis_regression.gate import judge
from trellis_regression.profile import gather
from trellis_regression.thresholds import load

GOLDENS = sorted((Path(__file__).parents[2] / "golden").glob("*/cpu/asset.glb"))
# Counts and shares come from the same bits; sums are rounded in another order, and rays and closest points of the two
# devices may differ in their last bit.
RELATIVE, ABSOLUTE = 1e-5, 1e-6
# A pixel on an edge may be shaded by the last bit of its coordinates; FLIP is in [0, 1].
PICTURES = 2e-3


def numbers(figures, prefix=""):
    """Every number of nested figures, by its path."""
    found = {}
    for name, value in figures.items():
        if isinstance(value, dict):
            found |= numbers(value, f"{prefix}{name}.")
        elif isinstance(value, list):
            found |= numbers({str(i): v for i, v in enumerate(value)}, f"{prefix}{name}.")
        else:
            found[prefix + name] = value
    return found


def both(data, other):
    """Evidence of an asset against another, on the CPU and on the CUDA device."""
    found = []
    for device in ("cpu", "cuda"):
        asset, golden = Asset.parse(data, "a", device), Asset.parse(other, "b", device)
        found.append(gather(asset, golden=golden))
    return found


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@pytest.mark.parametrize("name", [*(g.parent.parent.name for g in GOLDENS), "ball", "box"])
def test_figures_of_both_devices_agree(name):
    made = dict(zip(("ball", "cut ball", "box"), seeds(), strict=True))
    files = {g.parent.parent.name: g.read_bytes() for g in GOLDENS} | made
    other = files["robot" if name != "robot" else "leaf"]
    cpu, cuda = both(files[name], other)
    assert cpu.device == "cpu" and cuda.device == torch.cuda.get_device_name()
    theirs, ours = (numbers({**e.as_json(), "golden": e.golden, "device": None}) for e in (cpu, cuda))
    theirs.pop("golden.device"), ours.pop("golden.device")
    assert theirs.keys() == ours.keys()
    for key, expected in theirs.items():
        if isinstance(expected, (bool, str)) or expected is None:
            assert ours[key] == expected, key
        elif "flip_" in key:
            assert ours[key] == pytest.approx(expected, abs=PICTURES), key
        else:
            assert ours[key] == pytest.approx(expected, rel=RELATIVE, abs=ABSOLUTE), key
    verdicts = [[(x.name, x.status) for x in judge(e, load()).findings] for e in (cpu, cuda)]
    assert verdicts[0] == verdicts[1]


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_a_cuda_device_repeats_itself_bit_for_bit():
    data, other = (g.read_bytes() for g in GOLDENS[:2])
    asset, golden = (Asset.parse(x, "a", "cuda") for x in (data, other))
    again, golden_again = (Asset.parse(x, "a", "cuda") for x in (data, other))
    assert gather(asset, golden=golden).as_json() == gather(again, golden=golden_again).as_json()
