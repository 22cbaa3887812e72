"""With models of the public sizes on a GPU: equal seeds give equal bits, run after run and whatever the budget."""

import dataclasses

import pytest
import torch
from trellis_pipeline import attention
from trellis_pipeline.generation import TYPES
from trellis_pipeline.image import prepare
from trellis_pipeline.manifest import Manifest
from trellis_pipeline.memory.ledger import free_workspaces
from trellis_pipeline.pipeline import Pipeline, Settings
from trellis_pipeline.random_checkpoint import random_models
from trellis_pipeline.testing import object_picture

ROOM = 40 << 30
pytestmark = [
    pytest.mark.cuda,
    pytest.mark.skipif(
        not torch.cuda.is_available() or torch.cuda.get_device_properties(0).total_memory < ROOM,
        reason="no CUDA device of 40 GiB or more",
    ),
]


def tensors(value):
    if isinstance(value, torch.Tensor):
        return {"": value}
    if isinstance(value, dict):
        parts = value.items()
    elif dataclasses.is_dataclass(value):
        parts = ((f.name, getattr(value, f.name)) for f in dataclasses.fields(value))
    else:
        return {}
    return {f"{name}.{key}".rstrip("."): t for name, part in parts for key, t in tensors(part).items()}


KIND, STEPS = "1024_cascade", 4  # of which the first are guided, as the first of twelve are


@pytest.fixture(scope="module")
def models():
    """Random ones of the public sizes; making them takes as long as several runs."""
    return random_models("full", TYPES[KIND].roles, device="cuda")


def test_the_second_run_has_the_bits_of_the_first_and_so_have_runs_within_a_budget(models):
    kind, device = KIND, torch.device("cuda", 0)
    checkpoint, weights, encoder = models
    backend = attention.choose(device, torch.bfloat16)
    picture = prepare(object_picture(), None)
    torch.cuda.empty_cache()
    free_workspaces()
    first = start = None
    for budget, runs in ((None, 2), (None, 1), (8.0, 1)):
        pipeline = Pipeline(checkpoint, dict(weights), encoder, Settings("random", str(device), backend, budget))
        for _ in range(runs):
            record = Manifest("generate", {}, quiet=True, device=device)
            asset = tensors(pipeline.run(picture, seed=3, type=kind, steps=STEPS, record=record))
            first = first or asset
            assert asset.keys() == first.keys() and len(asset) > 10
            assert [k for k, t in asset.items() if not torch.equal(t, first[k])] == []
        modes = {s["weights"] for s in record.facts["stages"].values()}
        assert modes == ({"resident"} if budget is None else {"swap"})
        if runs > 1 or budget:  # the first run of models that stay leaves them
            assert record.facts["memory"]["left"] == 0
        pipeline.release()
        free_workspaces()
        # What stays are patch coordinates that transformers' DINOv3 remembers, 40 KiB for both sides.
        start = start or torch.cuda.memory_allocated()
        assert torch.cuda.memory_allocated() == start < 1 << 16
        assert torch.cuda.memory_reserved() < 1 << 26
    assert int(first["voxels.coords"].shape[0]) > 1_000_000
    assert all(t.isfinite().all() for t in first.values() if t.is_floating_point())
