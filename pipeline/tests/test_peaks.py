"""The plan's expected peaks against what the device measures, for models of a quarter of the public width."""

import copy

import pytest
import torch
from trellis_pipeline import attention
from trellis_pipeline.image import prepare
from trellis_pipeline.manifest import Manifest
from trellis_pipeline.memory import costs
from trellis_pipeline.pipeline import Pipeline, Settings
from trellis_pipeline.random_checkpoint import public_configs, random_models
from trellis_pipeline.testing import object_picture

pytestmark = [pytest.mark.cuda, pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")]
NARROW = {"model_channels": 768, "num_heads": 6, "num_blocks": 12}


@pytest.fixture(scope="module")
def models():
    """Random models as the public ones, but for narrower flows: large enough for the allocator's rounding not to show."""
    from trellis_pipeline import random_checkpoint
    from trellis_pipeline.generation import TYPES

    def configs(size="full"):
        found = copy.deepcopy(public_configs(size))
        for config in found.values():
            if "Flow" in config["name"]:
                config["args"] |= NARROW
        return found

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(random_checkpoint, "public_configs", configs)
        return random_models("full", TYPES["512"].roles, device="cuda")


@pytest.mark.parametrize("budget", [None, 8.0])
def test_stages_take_what_the_plan_expects(models, monkeypatch, budget):
    monkeypatch.setattr(costs, "GROWTH", 4.0)  # each voxel of a random decoder has four children
    device = torch.device("cuda", torch.cuda.current_device())
    checkpoint, weights, encoder = models
    backend = attention.choose(device, torch.bfloat16)
    pipeline = Pipeline(checkpoint, dict(weights), encoder, Settings("random", str(device), backend, budget))
    picture = prepare(object_picture(), None)
    peaks = {}
    for _ in range(2):  # the first run also loads kernels
        record = Manifest("generate", {}, quiet=True, device=device)
        pipeline.run(picture, seed=1, type="512", steps=4, record=record)
        stages = record.facts["memory"]["stages"]
        peaks = {s["stage"]: s["planned"] / s["peak"] for s in stages}
        assert all(s["peak_reserved"] < 1.5 * s["peak"] + (1 << 30) for s in stages)
    pipeline.release()
    assert set(peaks) == {"encode", "structure", "occupancy", "shape", "texture", "decode_shape", "decode_texture"}
    off = {name: round(ratio, 3) for name, ratio in peaks.items() if not 0.9 <= ratio <= 1.1}
    assert off == {}
