"""Attention backends: the choice, and what is said when one that was asked for is missing."""

import pytest
import torch
from trellis_pipeline import attention
from trellis_pipeline.attention import BACKENDS, AttentionError, attend, choose, using

CPU = torch.device("cpu")


def formula(q, k, v, lengths, key_lengths):
    parts = zip(q.split(lengths), k.split(key_lengths), v.split(key_lengths), strict=True)
    out = []
    for a, b, c in parts:
        weights = torch.einsum("qhd,khd->hqk", a, b).div(a.shape[-1] ** 0.5).softmax(-1)
        out.append(torch.einsum("hqk,khd->qhd", weights, c))
    return torch.cat(out)


@pytest.mark.parametrize("name", ["sdpa", "math"])
@pytest.mark.parametrize(("lengths", "key_lengths"), [([4, 4], [3, 3]), ([1, 6], [5, 2]), ([3], [7]), ([3, 2], [1, 1])])
def test_backends_of_the_cpu_equal_the_formula(name, lengths, key_lengths):
    torch.manual_seed(0)
    q, k, v = (torch.randn(sum(n), 2, 8) for n in (lengths, key_lengths, key_lengths))
    with using(choose(CPU, torch.float32, name)):
        out = attend(q, k, v, lengths, key_lengths)
    torch.testing.assert_close(out, formula(q, k, v, lengths, key_lengths))


def test_the_choice_on_the_cpu_is_recorded():
    chosen = choose(CPU, torch.float32)
    assert chosen.name == "sdpa" and chosen.version == torch.__version__ and "works" in chosen.reason
    assert choose(CPU, torch.float32, "math").reason == "asked for by name"


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("magic", "expected auto or one of flash-attn-4"),
        ("sdpa-flash", "sdpa-flash was asked for, but it needs a CUDA device, not cpu"),
        ("flash-attn-2", "flash-attn-2 was asked for, but"),
    ],
)
def test_a_backend_that_is_asked_for_and_missing_is_an_error(name, message):
    with pytest.raises(AttentionError, match=message):
        choose(CPU, torch.float16, name)


def test_a_backend_that_answers_wrong_or_fails_is_refused(monkeypatch):
    def wrong(q, k, v, lengths, key_lengths):
        return torch.zeros_like(q)

    def broken(*_):
        raise RuntimeError("undefined symbol: _ZN3c10\nmore")

    for function, message in (
        (wrong, "its answer is off by"),
        (broken, "does not run .RuntimeError: undefined symbol"),
    ):
        kind = attention._Kind(lambda function=function: function, "torch", cuda_only=False, dtypes=(torch.float32,))
        monkeypatch.setitem(BACKENDS, f"fake-{function.__name__}", kind)
        with pytest.raises(AttentionError, match=message):
            choose(CPU, torch.float32, f"fake-{function.__name__}")


def test_the_block_alone_decides_what_runs(monkeypatch):
    calls = []

    def spy(q, k, v, lengths, key_lengths):
        calls.append(lengths)
        return attention._torch_sdpa(None)(q, k, v, lengths, key_lengths)

    monkeypatch.setitem(
        BACKENDS, "spy", attention._Kind(lambda: spy, "torch", cuda_only=False, dtypes=(torch.float32,))
    )
    x = torch.randn(2, 1, 4)
    with using(choose(CPU, torch.float32, "spy")):
        calls.clear()
        attend(x, x, x, [2], [2])
    attend(x, x, x, [1, 1], [1, 1])
    assert calls == [[2]]


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_every_backend_that_can_run_here_agrees_with_the_formula():
    device = torch.device("cuda")
    torch.manual_seed(0)
    lengths, key_lengths = [300, 1, 77], [64, 513, 1]
    q, k, v = (torch.randn(sum(n), 12, 128, device=device) for n in (lengths, key_lengths, key_lengths))
    expected = formula(q, k, v, lengths, key_lengths)
    ran = []
    for name, kind in BACKENDS.items():
        try:
            chosen = choose(device, torch.bfloat16, name)
        except AttentionError:
            continue
        with using(chosen):
            half = (x.to(torch.bfloat16) for x in (q, k, v))
            out = attend(*half, lengths, key_lengths)
        assert kind.cuda_only or name in ("sdpa", "math")
        torch.testing.assert_close(out.float(), expected, rtol=0.05, atol=0.05)
        ran.append(name)
    assert "sdpa" in ran and "math" in ran
