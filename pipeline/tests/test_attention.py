"""Attention backends: the choice, and what is said when one that was asked for is missing."""

import os
import sys
from contextlib import nullcontext
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch
from trellis_pipeline import Pipeline, attention, attention_backends
from trellis_pipeline.attention import BACKENDS, AttentionError, attend, choose, using
from trellis_pipeline.attention_backends import Kind, _torch_sdpa

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


@pytest.mark.parametrize(("lengths", "key_lengths"), [([5], [9]), ([7, 0, 4], [6, 2, 11]), ([3, 3], [5, 5])])
def test_the_formula_in_parts_is_the_formula_whole(monkeypatch, lengths, key_lengths):
    calls = []

    def spy(*arguments, **more):
        calls.append(arguments[0].shape[2] * arguments[1].shape[2] * arguments[0].shape[1])
        return torch.nn.functional.scaled_dot_product_attention(*arguments, **more)

    monkeypatch.setattr(attention_backends, "MATH_SCORES", 20)
    monkeypatch.setattr(attention_backends, "F", SimpleNamespace(scaled_dot_product_attention=spy))
    torch.manual_seed(0)
    q, k, v = (torch.randn(sum(n), 2, 8) for n in (lengths, key_lengths, key_lengths))
    with using(choose(CPU, torch.float32, "math")):
        calls.clear()
        out = attend(q, k, v, lengths, key_lengths)
    torch.testing.assert_close(out, formula(q, k, v, lengths, key_lengths))
    assert len(calls) > 2 and max(calls) <= 20


def test_the_choice_on_the_cpu_is_recorded():
    chosen = choose(CPU, torch.float32)
    assert chosen.name == "sdpa" and chosen.version == torch.__version__ and "works" in chosen.reason
    assert choose(CPU, torch.float32, "math").reason == "asked for by name"


@pytest.mark.parametrize(
    ("capability", "first"), [((8, 6), "flash-attn-2"), ((9, 0), "flash-attn-3"), ((10, 0), "sdpa-cudnn")]
)
def test_the_order_knows_which_card_a_library_is_made_for(monkeypatch, capability, first):
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: capability)
    names = attention.order(torch.device("cuda", 0))
    assert names[0] == first and set(names) <= set(BACKENDS) and names[-1] == "sdpa"
    assert ("flash-attn-3" in names) == (capability[0] == 9) and ("sdpa-cudnn" in names) == (capability[0] > 8)


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
        (wrong, "its answer with 128 channels a head is off by"),
        (broken, "does not run with 128 channels a head .RuntimeError: undefined symbol"),
    ):
        kind = Kind(lambda function=function: function, "torch", cuda_only=False, dtypes=(torch.float32,))
        monkeypatch.setitem(BACKENDS, f"fake-{function.__name__}", kind)
        with pytest.raises(AttentionError, match=message):
            choose(CPU, torch.float32, f"fake-{function.__name__}")


def test_a_long_refusal_keeps_its_end_where_the_reason_is(monkeypatch):
    def refusing(*_):
        lines = ["Operator does not support inputs:", *(f"     query {i} : shape=(1, 68, 2, 128)" for i in range(20))]
        raise ValueError("\n".join([*lines, "`fa2F` is not supported because:", "    built without CUDA"]))

    monkeypatch.setitem(BACKENDS, "fussy", Kind(lambda: refusing, "torch", cuda_only=False, dtypes=(torch.float32,)))
    with pytest.raises(AttentionError) as caught:
        choose(CPU, torch.float32, "fussy")
    text = str(caught.value)
    assert "Operator does not support inputs" in text and text.endswith("is not supported because: built without CUDA)")
    assert len(text) < 400 and "\n" not in text


def test_the_block_alone_decides_what_runs(monkeypatch):
    calls = []

    def spy(q, k, v, lengths, key_lengths):
        calls.append(lengths)
        return _torch_sdpa(None)(q, k, v, lengths, key_lengths)

    monkeypatch.setitem(BACKENDS, "spy", Kind(lambda: spy, "torch", cuda_only=False, dtypes=(torch.float32,)))
    x = torch.randn(2, 1, 4)
    with using(choose(CPU, torch.float32, "spy")):
        calls.clear()
        attend(x, x, x, [2], [2])
    attend(x, x, x, [1, 1], [1, 1])
    assert calls == [[2]]


def test_entries_may_have_no_queries_and_must_have_keys():
    torch.manual_seed(0)
    q, k, v = (torch.randn(n, 2, 8) for n in (5, 9, 9))
    out = attend(q, k, v, [3, 0, 2], [4, 0, 5])
    torch.testing.assert_close(out, formula(q, k, v, [3, 0, 2], [4, 0, 5]))
    assert attend(q[:0], k, v, [0, 0], [4, 5]).shape == (0, 2, 8)
    with pytest.raises(ValueError, match="queries and no key"):
        attend(q, k, v, [3, 2], [9, 0])


@pytest.mark.parametrize(
    ("lengths", "key_lengths"), [([3, 3], [4, 5]), ([3, 2], [4, 4]), ([5], [4, 5]), ([3, 2], [9]), ([6, -1], [4, 5])]
)
def test_lengths_that_are_not_those_of_the_tensors_are_refused(lengths, key_lengths):
    q, k, v = (torch.randn(n, 2, 8) for n in (5, 9, 9))
    with pytest.raises(ValueError, match="lengths"):
        attend(q, k, v, lengths, key_lengths)


@pytest.fixture
def flash_attn_3(monkeypatch, tmp_path):
    """Installs a flash-attn 3 whose module is the text given, first in an order in which the CPU may have it."""
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setitem(
        BACKENDS, "flash-attn-3", replace(BACKENDS["flash-attn-3"], cuda_only=False, dtypes=(torch.float32,))
    )
    monkeypatch.setattr(attention, "order", lambda device: ("flash-attn-3", "sdpa"))

    def install(text, distribution="flash_attn_3"):
        info = tmp_path / f"{distribution}-3.0.0.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {distribution}\nVersion: 3.0.0\n")
        (tmp_path / "flash_attn_interface.py").write_text(text)

    def forget():
        sys.modules.pop("flash_attn_interface", None)
        choose.cache_clear()
        attention._function.cache_clear()

    forget()
    yield install
    forget()


LIKE_FLASH = """
from torch.nn.functional import scaled_dot_product_attention as sdpa
import torch
def flash_attn_func(q, k, v):
    return sdpa(*(x.transpose(1, 2) for x in (q, k, v))).transpose(1, 2), "lse"
def flash_attn_varlen_func(q, k, v, starts, key_starts, most, most_keys):
    assert starts.dtype == key_starts.dtype == torch.int32 and most == starts.diff().max()
    cut = lambda x, s: x.tensor_split(s[1:-1].tolist())
    parts = zip(cut(q, starts), cut(k, key_starts), cut(v, key_starts))
    return torch.cat([flash_attn_func(*(x[None] for x in p))[0][0] for p in parts])
"""


def test_an_installed_library_is_taken_first_and_recorded(flash_attn_3, recwarn):
    flash_attn_3(LIKE_FLASH)
    chosen = choose(CPU, torch.float32)
    assert (chosen.name, chosen.version, chosen.broken) == ("flash-attn-3", "3.0.0", ())
    torch.manual_seed(0)
    for lengths, key_lengths in (([2, 0, 3], [1, 2, 6]), ([5], [9])):
        q, k, v = (torch.randn(n, 2, 8) for n in (5, 9, 9))
        with using(chosen):
            torch.testing.assert_close(attend(q, k, v, lengths, key_lengths), formula(q, k, v, lengths, key_lengths))
    assert not recwarn


@pytest.mark.parametrize(
    ("text", "why"),
    [
        (
            "raise ImportError('undefined symbol: _ZN3c10')",
            "it cannot be imported .ImportError: undefined symbol: _ZN3c10.",
        ),
        (
            LIKE_FLASH.replace("func(q, k, v):", "func(q, k, v, scale):"),
            "it does not run with 128 channels a head .TypeError: .*scale",
        ),
        (  # right for equal lengths alone
            LIKE_FLASH.replace("tolist()", "sub(1).tolist()"),
            "its answer with 128 channels a head is off by",
        ),
        (
            LIKE_FLASH.replace("(1, 2)", "(2, 1)").replace("sdpa(*", "2 * sdpa(*"),
            "its answer with 128 channels a head is off by",
        ),
    ],
)
def test_a_broken_installation_is_reported_not_silently_passed_over(flash_attn_3, text, why):
    flash_attn_3(text)
    with pytest.warns(RuntimeWarning, match=f"flash-attn-3: flash-attn-3 3.0.0 is installed but {why}.*; sdpa is used"):
        chosen = choose(CPU, torch.float32)
    assert chosen.name == "sdpa" and len(chosen.broken) == 1 and chosen.broken[0] in chosen.reason
    with pytest.raises(
        AttentionError, match=f"flash-attn-3 was asked for, but flash-attn-3 3.0.0 is installed but {why}"
    ):
        choose(CPU, torch.float32, "flash-attn-3")


def test_a_library_that_is_not_installed_is_passed_over_without_a_warning(flash_attn_3, monkeypatch, recwarn):
    monkeypatch.setitem(
        BACKENDS, "flash-attn-3", replace(BACKENDS["flash-attn-3"], distribution="attention-of-nowhere")
    )
    monkeypatch.setitem(sys.modules, "flash_attn_interface", None)  # where the real one is installed, too
    chosen = choose(CPU, torch.float32)
    assert chosen.name == "sdpa" and chosen.broken == () and not recwarn
    assert (
        "flash-attn-3: attention-of-nowhere is not installed: it cannot be imported (ModuleNotFoundError"
        in chosen.reason
    )


@pytest.mark.parametrize("name", [n for n, kind in BACKENDS.items() if kind.distribution != "torch"])
def test_each_library_that_cannot_be_loaded_is_named_with_its_error(name, monkeypatch):
    """As one built for another torch or CUDA is: installed, and an ImportError."""

    def unloadable(module):
        raise ImportError(f"{module}: undefined symbol: _ZN3c104cuda")

    monkeypatch.setattr(attention_backends.importlib, "import_module", unloadable)
    monkeypatch.setattr(attention_backends, "version", lambda distribution: "9.9")
    monkeypatch.setitem(BACKENDS, name, replace(BACKENDS[name], cuda_only=False, dtypes=(torch.float32,)))
    monkeypatch.setattr(attention, "order", lambda device: (name, "sdpa"))
    monkeypatch.setattr(attention, "_function", lambda n: BACKENDS[n].make())
    choose.cache_clear()
    why = f"{BACKENDS[name].distribution} 9.9 is installed but it cannot be imported .ImportError: .*undefined symbol"
    with pytest.warns(RuntimeWarning, match=f"{name}: {why}"):
        chosen = choose(CPU, torch.float32)
    choose.cache_clear()
    assert chosen.name == "sdpa" and len(chosen.broken) == 1 and chosen.broken[0].startswith(f"{name}: ")
    with pytest.raises(AttentionError, match=f"{name} was asked for, but {why}"):
        choose(CPU, torch.float32, name)


def of_one_width(q, k, v, lengths, key_lengths):
    if q.shape[-1] != 128:
        raise RuntimeError("head dimension must be 128")
    return _torch_sdpa(None)(q, k, v, lengths, key_lengths)


def test_a_library_must_serve_the_width_of_every_model(monkeypatch):
    kind = Kind(lambda: of_one_width, "torch", cuda_only=False, dtypes=(torch.float32,))
    monkeypatch.setitem(BACKENDS, "of-one-width", kind)
    assert choose(CPU, torch.float32, "of-one-width").name == "of-one-width"
    for widths in ((24,), (24, 128), (128, 24)):
        with pytest.raises(
            AttentionError, match=r"it does not run with 24 channels a head \(RuntimeError: head dimension"
        ):
            choose(CPU, torch.float32, "of-one-width", widths)


def test_the_pipeline_asks_for_the_width_of_its_models(monkeypatch, checkpoint_folder):
    kind = Kind(lambda: of_one_width, "torch", cuda_only=False, dtypes=(torch.float32,))
    monkeypatch.setitem(BACKENDS, "of-one-width", kind)
    with pytest.raises(AttentionError, match=r"of-one-width was asked for, but .* with 24 channels a head"):
        Pipeline.from_pretrained(checkpoint_folder, device="cpu", attention_backend="of-one-width")


LIKE_FLASH_4 = """
import os, torch
FOUND = {n: os.environ.get("FLASH_ATTENTION_CUTE_DSL_CACHE_" + n) for n in ("ENABLED", "DIR")}
from torch.nn.functional import scaled_dot_product_attention as sdpa
def flash_attn_func(q, k, v, qv=None):
    return sdpa(*(x.transpose(1, 2) for x in (q, k, v))).transpose(1, 2), None
def flash_attn_varlen_func(q, k, v, qv=None, cu_seqlens_q=None, cu_seqlens_k=None, max_seqlen_q=None, max_seqlen_k=None):
    assert qv is None and cu_seqlens_q.dtype == cu_seqlens_k.dtype == torch.int32
    assert max_seqlen_q == cu_seqlens_q.diff().max() and max_seqlen_k == cu_seqlens_k.diff().max()
    cut = lambda x, s: x.tensor_split(s[1:-1].tolist())
    parts = zip(cut(q, cu_seqlens_q), cut(k, cu_seqlens_k), cut(v, cu_seqlens_k))
    return torch.cat([flash_attn_func(*(x[None] for x in p))[0][0] for p in parts]), None
"""


@pytest.fixture
def flash_attn_4(monkeypatch, tmp_path):
    """A flash-attn 4 as its wheel installs it, which the CPU may have; gives a folder for what programs keep."""
    site, kept = tmp_path / "site", tmp_path / "kept"
    (site / "flash_attn/cute").mkdir(parents=True)
    (site / "flash_attn/cute/__init__.py").write_text(LIKE_FLASH_4)
    for distribution, version in (("flash-attn-4", "4.0.0"), ("nvidia-cutlass-dsl", "4.7.1")):
        info = site / f"{distribution.replace('-', '_')}-{version}.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {distribution}\nVersion: {version}\n")
    monkeypatch.syspath_prepend(site)
    for module in [m for m in sys.modules if m.split(".")[0] == "flash_attn"]:
        monkeypatch.delitem(sys.modules, module)
    monkeypatch.setitem(
        BACKENDS, "flash-attn-4", replace(BACKENDS["flash-attn-4"], cuda_only=False, dtypes=(torch.float32,))
    )
    monkeypatch.setattr(torch.cuda, "device", lambda device: nullcontext())
    monkeypatch.setenv("XDG_CACHE_HOME", str(kept))
    for variable in ("ENABLED", "DIR"):
        monkeypatch.setenv(f"FLASH_ATTENTION_CUTE_DSL_CACHE_{variable}", "")  # what the code sets ends with the test
        monkeypatch.delenv(f"FLASH_ATTENTION_CUTE_DSL_CACHE_{variable}")
    choose.cache_clear()
    attention._function.cache_clear()
    yield kept
    choose.cache_clear()
    attention._function.cache_clear()
    for module in [m for m in sys.modules if m.split(".")[0] == "flash_attn"]:
        del sys.modules[module]


def test_flash_attn_4_is_called_by_its_own_names_and_keeps_its_kernels(flash_attn_4):
    chosen = choose(CPU, torch.float32, "flash-attn-4")
    assert chosen.version == "4.0.0 (compiled by nvidia-cutlass-dsl 4.7.1)"
    torch.manual_seed(0)
    for lengths, key_lengths in (([2, 0, 3], [1, 2, 6]), ([5], [9])):
        q, k, v = (torch.randn(n, 2, 8) for n in (5, 9, 9))
        with using(chosen):
            torch.testing.assert_close(attend(q, k, v, lengths, key_lengths), formula(q, k, v, lengths, key_lengths))
    folder = flash_attn_4 / "trellis/flash-attn-4"
    assert {"ENABLED": "1", "DIR": str(folder)} == sys.modules["flash_attn.cute"].FOUND
    assert folder.stat().st_mode & 0o777 == 0o700


@pytest.mark.parametrize("variable", ["ENABLED", "DIR"])
def test_what_the_user_says_of_flash_attn_4s_kernels_stands(flash_attn_4, monkeypatch, variable):
    monkeypatch.setenv(f"FLASH_ATTENTION_CUTE_DSL_CACHE_{variable}", "0")
    choose(CPU, torch.float32, "flash-attn-4")
    assert {"ENABLED": None, "DIR": None} | {variable: "0"} == sys.modules["flash_attn.cute"].FOUND
    assert not flash_attn_4.exists()


@pytest.mark.parametrize("how", ["no folder", "read-only"])
def test_flash_attn_4_serves_where_nothing_can_be_kept(flash_attn_4, monkeypatch, how):
    if how == "no folder":
        flash_attn_4.write_text("a file, where the folder would be")
    else:
        monkeypatch.setattr(attention_backends.os, "access", lambda path, mode: mode != os.W_OK)
    assert choose(CPU, torch.float32, "flash-attn-4").name == "flash-attn-4"
    assert sys.modules["flash_attn.cute"].FOUND == {"ENABLED": None, "DIR": None}


def test_a_first_call_that_takes_long_is_told_before_it(flash_attn_4, monkeypatch):
    device = torch.device("cuda", 0)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (9, 0))
    assert "compiled once" in attention.notice(device, "flash-attn-4")
    assert attention.notice(device, "sdpa") is None and attention.notice(device, "no such") is None
    assert attention.notice(device) is None  # Hopper's first are compiled already
    monkeypatch.setattr(attention, "order", lambda device: ("attention-of-nowhere", "flash-attn-4", "sdpa"))
    assert "compiled once" in attention.notice(device)
    monkeypatch.setattr(attention, "order", lambda device: ("sdpa", "flash-attn-4"))
    assert attention.notice(device) is None


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
