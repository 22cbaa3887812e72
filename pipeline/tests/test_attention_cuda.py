"""Every attention backend that is installed, on a GPU: against the formula, twice, strided, recorded and in a flow.

A library that is not installed is skipped by name; one that is installed and does not work fails.
"""

import pytest
import torch
from trellis_pipeline import attention
from trellis_pipeline.attention import BACKENDS, AttentionError, attend, choose, order, using
from trellis_pipeline.models import from_config, replay
from trellis_pipeline.sparse import SparseTensor

pytestmark = [pytest.mark.cuda, pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")]

HEADS, WIDTH = 3, 128
RAGGED = [1, 2, 127, 129, 4097]
CASES = {
    "one entry": ([4097], [4097]),
    "one entry, image": ([2368], [1029]),
    "pair": ([1029, 1029], [64, 64]),
    "ragged": (RAGGED, RAGGED),
    "ragged, image": (RAGGED, [1029, 1, 130, 64, 127]),
    "one key": ([300, 5], [1, 1]),
    "one query": ([1], [1029]),
    "no queries": ([130, 0, 7], [64, 5, 129]),
}
NEAR = {torch.float16: 2e-3, torch.bfloat16: 1.5e-2, torch.float32: 2e-5}
"""Largest error of an entry in the norm, relative: a few units of rounding of the weights, 2^-11, 2^-8, or of sums."""


@pytest.fixture(params=list(BACKENDS))
def name(request):
    kind = BACKENDS[request.param]
    if kind.version() is None:
        pytest.skip(f"{kind.distribution} is not installed")
    return request.param


@pytest.fixture(params=["float16", "bfloat16", "float32"])
def chosen(request, name):
    dtype = getattr(torch, request.param)
    if dtype not in BACKENDS[name].dtypes:
        pytest.skip(f"{name} does not compute in {request.param}")
    return pick(name, dtype), dtype


def pick(name, dtype):
    device = torch.device("cuda", torch.cuda.current_device())
    try:
        return choose(device, dtype, name)
    except AttentionError as error:
        if torch.cuda.get_device_capability() == (9, 0):
            raise
        pytest.skip(str(error))


def made(lengths, key_lengths, dtype, seed=0):
    """Queries, keys and values as a model has them: slices of one tensor, where there are as many of each."""
    generator = torch.Generator("cuda").manual_seed(seed)
    n, m = sum(lengths), sum(key_lengths)
    if lengths == key_lengths:
        q, k, v = torch.randn(n, 3, HEADS, WIDTH, device="cuda", generator=generator).to(dtype).unbind(1)
        return q * 2, k, v
    q = torch.randn(n, HEADS, WIDTH, device="cuda", generator=generator)
    k, v = torch.randn(2, m, HEADS, WIDTH, device="cuda", generator=generator).to(dtype)
    return (q * 2).to(dtype), k, v


def formula(q, k, v, lengths, key_lengths):
    """Softmax attention of each entry, in float64."""
    parts = zip(q.split(lengths), k.split(key_lengths), v.split(key_lengths), strict=True)
    out = []
    for a, b, c in ((x.double() for x in part) for part in parts):
        weights = torch.einsum("qhd,khd->hqk", a, b).div(a.shape[-1] ** 0.5).softmax(-1)
        out.append(torch.einsum("hqk,khd->qhd", weights, c))
    return torch.cat(out)


@pytest.mark.parametrize("case", CASES)
def test_it_agrees_with_the_formula_and_gives_the_same_bits_again(chosen, case):
    backend, dtype = chosen
    lengths, key_lengths = CASES[case]
    q, k, v = made(lengths, key_lengths, dtype)
    with using(backend):
        out = attend(q, k, v, lengths, key_lengths)
        again = attend(q, k, v, lengths, key_lengths)
        whole = attend(q.contiguous(), k.contiguous(), v.contiguous(), lengths, key_lengths)
    assert out.shape == q.shape and out.dtype == dtype
    expected = formula(q, k, v, lengths, key_lengths)
    for entry, right in zip(out.split(lengths), expected.split(lengths), strict=True):
        off = (entry.double() - right).norm() / right.norm().clamp(min=1e-30)
        assert entry.numel() == 0 or off < NEAR[dtype]
    assert torch.equal(out, again) and torch.equal(out, whole)


def test_it_is_recorded_and_replayed_on_other_inputs(chosen):
    """A flow's recording holds it: nothing is copied from the host, and nothing is kept of the inputs' values."""
    backend, dtype = chosen
    for lengths, key_lengths in (CASES["ragged, image"], CASES["pair"]):
        inputs, others = made(lengths, key_lengths, dtype), made(lengths, key_lengths, dtype, seed=1)
        held = [x.clone() for x in inputs]
        with using(backend):
            expected = attend(*others, lengths, key_lengths)
            graph = torch.cuda.CUDAGraph()
            stream = torch.cuda.Stream()
            stream.wait_stream(torch.cuda.current_stream())
            with torch.cuda.stream(stream):
                attend(*held, lengths, key_lengths)
                graph.capture_begin(capture_error_mode="thread_local")
                try:
                    out = attend(*held, lengths, key_lengths)
                finally:
                    graph.capture_end()
            torch.cuda.current_stream().wait_stream(stream)
        for place, new in zip(held, others, strict=True):
            place.copy_(new)
        graph.replay()
        assert torch.equal(out, expected)


def test_a_flow_over_it_agrees_with_one_over_the_formula(name):
    """Two assets of different sizes in one batch, with self- and cross-attention, eagerly and replayed."""
    backend, device = pick(name, torch.bfloat16), torch.device("cuda")
    args = {
        "resolution": 16, "in_channels": 8, "out_channels": 8, "model_channels": 256, "cond_channels": 64, "num_blocks": 3,
        "num_heads": 2, "mlp_ratio": 2.0, "pe_mode": "rope", "share_mod": True, "initialization": "scaled",
        "qk_rms_norm": True, "qk_rms_norm_cross": True, "dtype": "bfloat16",
    }  # fmt: skip
    torch.manual_seed(0)
    model = from_config({"name": "SLatFlowModel", "args": args}).to(device).eval()
    for p in model.parameters():
        torch.nn.init.normal_(p, std=p.shape[-1] ** -0.5)
    first = torch.cartesian_prod(torch.zeros(1).long(), torch.arange(12), torch.arange(12), torch.arange(3))
    second = torch.cartesian_prod(torch.ones(1).long(), torch.arange(3), torch.arange(4), torch.arange(11))
    x = SparseTensor(torch.randn(432 + 132, 8, device=device), torch.cat([first, second]).int().to(device))
    t = torch.tensor([800.0, 200.0], device=device)
    with torch.no_grad():
        condition = model.encode_condition(torch.randn(2, 133, 64, device=device))
        with using(pick("math", torch.bfloat16)):
            expected = model(x, t, condition).feats
        with using(backend):
            run = replay.Replay(model)
            outs = [run(x, t, condition).feats.clone() for _ in range(3)]
    assert torch.equal(outs[0], outs[1]) and torch.equal(outs[0], outs[2])
    assert (outs[0] - expected).norm() / expected.norm() < 0.02


def test_the_first_installed_one_of_the_order_is_chosen_and_recorded(recwarn):
    device = torch.device("cuda", torch.cuda.current_device())
    choose.cache_clear()
    chosen = choose(device, torch.bfloat16)
    installed = [n for n in order(device) if BACKENDS[n].version() is not None]
    if torch.cuda.get_device_capability() == (9, 0):
        assert chosen.name == installed[0] and not [w for w in recwarn if "attention" in str(w.message)]
    assert chosen.version.startswith(BACKENDS[chosen.name].version())
    assert chosen.name in installed and attention._refusal(chosen.name, device, torch.bfloat16) == ""
