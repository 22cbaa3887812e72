"""The sampler on flows whose answer is known."""

import numpy as np
import pytest
import torch
from trellis_pipeline.models import from_config, replay
from trellis_pipeline.sampling import guide, sample_flow, schedule
from trellis_pipeline.sparse import SparseTensor


class Straight:
    """A flow whose velocity is noise - data: Euler follows it exactly. `calls` records the conditions seen."""

    def __init__(self, noise):
        self.noise, self.calls, self.encoded = noise, [], 0

    def encode_condition(self, cond):
        self.encoded += 1
        return cond

    def __call__(self, x, t, cond, **inputs):
        self.calls.append((float(t[0]), float(cond.flatten()[0])))
        velocity = self.noise - cond[:, :1, 0].reshape(-1, *[1] * (self.noise.dim() - 1))
        return x.replace(velocity) if isinstance(x, SparseTensor) else velocity


@pytest.mark.parametrize("rescale_t", [1.0, 3.0, 5.0])
def test_euler_reaches_the_data_of_a_straight_flow(rescale_t):
    noise = torch.randn(2, 3, 4)
    data = torch.full((2, 6, 1), 7.0)
    out = sample_flow(Straight(noise), noise, cond=data, neg_cond=data, steps=12, rescale_t=rescale_t)
    torch.testing.assert_close(out, torch.full_like(noise, 7.0), rtol=1e-5, atol=1e-5)


def test_schedule_runs_from_one_to_zero_and_is_rescaled():
    assert schedule(4, 1.0) == [1.0, 0.75, 0.5, 0.25, 0.0]
    times = schedule(4, 3.0)
    assert times[0] == 1.0 and times[-1] == 0.0 and times[2] == pytest.approx(3 * 0.5 / 2)


@pytest.mark.parametrize("rescale_t", [1.0, 3.0, 5.0])
def test_times_have_the_bits_of_numpy(rescale_t):
    for steps in range(1, 60):
        even = np.linspace(1, 0, steps + 1)
        assert schedule(steps, rescale_t) == (rescale_t * even / (1 + (rescale_t - 1) * even)).tolist()


def test_guidance_runs_inside_its_interval_only_and_conditions_are_encoded_once():
    noise = torch.zeros(1, 3)
    model = Straight(noise)
    sample_flow(
        model, noise, cond=torch.ones(1, 1, 1), neg_cond=torch.zeros(1, 1, 1), steps=10, guidance_strength=3.0,
        guidance_interval=(0.55, 0.85),
    )  # fmt: skip
    without = [t for t, cond in model.calls if cond == 0]
    assert [round(t) for t in without] == [800, 700, 600]
    assert len([t for t, cond in model.calls if cond == 1]) == 10
    assert model.encoded == 2


def test_without_guidance_one_condition_alone_is_asked_and_nothing_is_rescaled():
    noise = torch.randn(1, 3)
    for strength, seen in ((1.0, 1), (0.0, 0)):
        model = Straight(noise)
        out = sample_flow(
            model, noise, cond=torch.ones(1, 1, 1), neg_cond=torch.zeros(1, 1, 1), steps=4, guidance_strength=strength,
            guidance_rescale=0.5,
        )  # fmt: skip
        assert {cond for _, cond in model.calls} == {seen} and len(model.calls) == 4
        torch.testing.assert_close(out, torch.full_like(noise, seen), rtol=1e-4, atol=1e-4)


def test_guidance_strength_extrapolates():
    cond, uncond = torch.tensor([[2.0, 4.0]]), torch.tensor([[1.0, 1.0]])
    velocity = guide(torch.zeros(1, 2), 0.5, cond, uncond, strength=3.0, rescale=0.0, sigma_min=0.0)
    assert velocity.tolist() == [[4.0, 10.0]]


@pytest.mark.parametrize("sparse", [False, True])
def test_rescaled_guidance_keeps_the_conditional_spread_of_each_sample(sparse):
    torch.manual_seed(0)
    lengths = [40, 40] if not sparse else [50, 30]
    state, cond, uncond = (torch.randn(80, 3) for _ in range(3))
    if sparse:
        x = SparseTensor(
            state,
            torch.cat([torch.arange(2).repeat_interleave(torch.tensor(lengths))[:, None], torch.zeros(80, 3)], 1).int(),
        )
    else:
        x, cond, uncond = (v.reshape(2, 40, 3) for v in (state, cond, uncond))
    t = 0.8
    velocity = guide(x, t, cond, uncond, strength=7.5, rescale=1.0, sigma_min=0.0)
    x0, x0_cond = (state - t * v.reshape(80, 3) for v in (velocity, cond))
    for a, b in zip(x0.split(lengths), x0_cond.split(lengths), strict=True):
        assert float(a.std()) == pytest.approx(float(b.std()), rel=1e-4)


def _small_flow(device):
    args = {
        "resolution": 16, "in_channels": 8, "out_channels": 8, "model_channels": 96, "cond_channels": 32, "num_blocks": 2,
        "num_heads": 2, "mlp_ratio": 2.0, "pe_mode": "rope", "share_mod": True, "initialization": "scaled",
        "qk_rms_norm": True, "qk_rms_norm_cross": True, "dtype": "bfloat16",
    }  # fmt: skip
    torch.manual_seed(0)
    return from_config({"name": "SLatFlowModel", "args": args}).to(device).eval()


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@torch.no_grad()
def test_a_replayed_pass_has_the_bits_of_the_model():
    model = _small_flow("cuda")
    coords = torch.nonzero(torch.rand(1, 16, 16, 16) < 0.1).int().cuda()
    cond = model.encode_condition(torch.randn(1, 20, 32, device="cuda"))
    run = replay.Replay(model)
    for step in range(4):
        x = SparseTensor(torch.randn(len(coords), 8, device="cuda"), coords)
        t = torch.full((1,), 1000.0 - 200 * step, device="cuda")
        assert torch.equal(run(x, t, cond).feats, model(x, t, cond).feats)


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@torch.no_grad()
def test_guided_pairs_and_replays_sample_what_single_passes_do(monkeypatch):
    model = _small_flow("cuda")
    coords = torch.nonzero(torch.rand(1, 16, 16, 16) < 0.1).int().cuda()
    noise = SparseTensor(torch.randn(len(coords), 4, device="cuda"), coords)
    other = SparseTensor(torch.randn(len(coords), 4, device="cuda"), coords)
    cond = torch.randn(1, 20, 32, device="cuda")

    def sample():
        out = sample_flow(
            FourOutputs(), noise, cond=cond, neg_cond=cond * 0, guidance_strength=5.0, guidance_rescale=0.5,
            guidance_interval=(0.3, 1.0), concat_cond=other,
        )  # fmt: skip
        return out.feats

    class FourOutputs:
        encode_condition = staticmethod(model.encode_condition)

        def __call__(self, x, t, cond, concat_cond):
            return x.replace(model(x, t, cond, concat_cond=concat_cond).feats[:, :4])

    fast, again = sample(), sample()
    monkeypatch.setattr(replay, "pays", lambda x: False)
    plain = sample()
    assert torch.equal(fast, again)
    assert (fast - plain).norm() / plain.norm() < 0.02
