"""Where weights are, what a plan decides, and that nothing stays behind."""

import gc
import itertools
import json
import sys
import weakref
import xml.etree.ElementTree as ET

import pytest
import torch
from trellis_pipeline.errors import MemoryPlanError
from trellis_pipeline.memory.chart import chart
from trellis_pipeline.memory.costs import GROWTH, Cost, cost, export_cost
from trellis_pipeline.memory.export import SIDES, ExportSizes
from trellis_pipeline.memory.ledger import Ledger
from trellis_pipeline.memory.plan import EXPANDABLE_PIECES, GIB, LEAST_ROOM, PIECES, Need, draw_up
from trellis_pipeline.memory.residency import Weights, stream_units
from trellis_pipeline.random_checkpoint import public_configs
from trellis_pipeline.sparse import SparseTensor
from trellis_pipeline.weights import build

CPU = torch.device("cpu")


def made(role, seed=0):
    """A tiny model's weights with random values."""
    generator = torch.Generator().manual_seed(seed)
    module = build(public_configs("tiny")[role])
    host = {
        k: torch.rand(v.shape, generator=generator) if "norm" in k else torch.randn(v.shape, generator=generator) * 0.1
        for k, v in module.state_dict().items()
    }
    return Weights(role, module, host)


def call(role, model):
    torch.manual_seed(3)
    if role == "shape_slat_decoder":
        coords = torch.tensor([[0, 1, 2, 3], [0, 1, 2, 4], [0, 5, 5, 5]]).int()
        h, subdivisions = model(SparseTensor(torch.randn(3, 32), coords))
        return [h.feats, *(s.feats for s in subdivisions)]
    x, t, context = torch.randn(1, 8, 8, 8, 8), torch.tensor([500.0]), torch.randn(1, 5, 32)
    return [model(x, t, context), model(x, t, model.encode_condition(context))]


@pytest.mark.parametrize("role", ["sparse_structure_flow_model", "shape_slat_decoder"])
@torch.no_grad()
def test_a_model_gives_the_same_bits_whole_and_streaming_and_is_away_after(role):
    weights = made(role)
    assert all(p.is_meta for p in weights.module.parameters())
    with weights.on(CPU, "swap") as model:
        whole = call(role, model)
    assert all(p.is_meta for p in weights.module.parameters()) and not weights.placed
    with weights.on(CPU, "stream") as model:
        inside = {id(p) for unit in stream_units(model) for p in unit.parameters()}
        assert any(not p.is_meta for p in model.parameters() if id(p) not in inside)
        assert all(p.is_meta for unit in stream_units(model) for p in unit.parameters())
        streamed = call(role, model)
        again = call(role, model)
        on_device = [unit for unit in stream_units(model) if not next(unit.parameters()).is_meta]
        assert len(on_device) <= 2  # no more than the slots hold
    assert all(torch.equal(a, b) and torch.equal(a, c) for a, b, c in zip(whole, streamed, again, strict=True))
    assert all(p.is_meta for p in weights.module.parameters())
    assert not hasattr(weights.module, "streams")


def test_resident_models_stay():
    weights = made("shape_slat_decoder")
    with weights.on(CPU, "resident"):
        pass
    assert weights.placed and not any(p.is_meta for p in weights.module.parameters())
    with weights.on(CPU, "swap"):  # another stage's wish does not send a resident away
        pass
    assert weights.placed
    weights.release()
    assert all(p.is_meta for p in weights.module.parameters())


def test_weights_that_are_away_cannot_be_used():
    weights = made("sparse_structure_flow_model")
    with pytest.raises((RuntimeError, NotImplementedError)):
        float(call("sparse_structure_flow_model", weights.module)[0].sum())


def test_no_tensor_survives_its_stage():
    weights = made("shape_slat_decoder")
    weights._host = {k: v.double() for k, v in weights._host.items()}  # so that the placed copies are their own
    with weights.on(CPU, "stream") as model, torch.no_grad():
        call("shape_slat_decoder", model)
        refs = [weakref.ref(p.untyped_storage()) for p in model.parameters() if not p.is_meta]
        refs += [weakref.ref(p) for p in model.parameters() if not p.is_meta]
    with weights.on(CPU, "swap") as model:
        refs += [weakref.ref(p) for p in model.parameters()]
        assert all(not p.is_meta for p in model.parameters())
    gc.collect()
    assert [r for r in refs[len(refs) // 2 :] if r() is not None] == []


def test_sizes_are_those_of_the_public_models():
    flow = Weights.__new__(Weights)
    module = build(public_configs()["shape_slat_flow_model_512"])
    Weights.__init__(flow, "flow", module, module.state_dict())
    assert flow.nbytes == sum(v.numel() * v.element_size() for v in module.state_dict().values())
    assert flow.nbytes == pytest.approx(2.6185e9, rel=1e-3)
    block = sum(p.numel() * 2 for p in module.blocks[0].parameters())
    stem = flow.nbytes - 30 * block
    assert flow.streaming_bytes == pytest.approx(stem + 2 * block, rel=1e-3)
    context = cost(flow, context=4101, guided=True)
    assert context.activations(8193) == pytest.approx(4102 * 30 * 2 * 1536 * 2 + 8193 * 39_400, rel=0.05)
    growth = (context.activations(20_000) - context.activations(10_000)) / 10_000
    assert (
        (8192 + 4 * 1536) * 2 <= growth <= 60_000
    )  # at least the MLP's hidden layer, its input, output and the stream
    # Few tokens run with and without the image as one batch, which is recorded too.
    pairs = (context.activations(4000) - context.activations(2000)) / 2000
    assert pairs == pytest.approx(2 * growth, rel=1e-6) and context.recorded(4000) == pytest.approx(4000 * pairs)
    assert context.recorded(8193) == 0 and cost(flow, context=9, guided=False).recorded(4000) == context.recorded(2000)


def need(name, weights, streaming, per_token, typical=1000):
    return Need(name, f"role of {name}", Cost(weights, streaming, lambda tokens: per_token * tokens), typical)


NEEDS = [
    need("a", 2 * GIB, GIB // 4, 1 << 20),
    need("b", 3 * GIB, GIB // 2, 2 << 20),
    need("c", GIB, GIB // 8, 1 << 20),
]


def test_with_room_for_all_everything_stays():
    plan = draw_up(NEEDS, 20 * GIB, whole_card=False, max_tokens=5000)
    assert [s.mode for s in plan.stages] == ["resident"] * 3
    assert plan.stages[0].peak == 6 * GIB + 1000 * (1 << 20)
    assert plan.decide("b", 1000, resident=3 * GIB) == ("resident", False, 6 * GIB + 2000 * (1 << 20), 1)
    # More tokens than an ordinary object has: the others leave first, and if that is not enough its own weights stream.
    assert plan.decide("b", 6000, resident=3 * GIB)[:2] == ("swap", True)
    assert plan.decide("b", 7000, resident=3 * GIB)[:2] == ("stream", True)
    with pytest.raises(MemoryPlanError, match=r"stage b needs .* for 99,999 tokens even with streamed weights"):
        plan.decide("b", 99_999, resident=0)


def test_with_less_room_each_model_comes_and_goes_and_then_streams():
    plan = draw_up(NEEDS, 6 * GIB, whole_card=False, max_tokens=5000)
    assert [s.mode for s in plan.stages] == ["swap"] * 3
    plan = draw_up(NEEDS, int(3.4 * GIB), whole_card=False, max_tokens=5000)
    assert [s.mode for s in plan.stages] == ["swap", "stream", "swap"]
    assert all(s.peak <= plan.usable for s in plan.stages)
    # The limit on tokens is what the tightest stage can take.
    b = plan.stages[1]
    assert NEEDS[1].room("stream", b.capacity) <= plan.usable < NEEDS[1].room("stream", b.capacity + 1)
    assert plan.max_tokens == b.capacity < 5000


@pytest.mark.parametrize(
    ("name", "version", "heard"),
    [
        ("PYTORCH_ALLOC_CONF", "2.11.0+cu130", True),
        ("PYTORCH_ALLOC_CONF", "2.9.1", False),
        ("PYTORCH_CUDA_ALLOC_CONF", "2.13.0", True),
        ("PYTORCH_CUDA_ALLOC_CONF", "2.5.1+cu124", True),
    ],
)
def test_segments_that_grow_need_less_room(monkeypatch, name, version, heard):
    monkeypatch.setattr(torch, "__version__", version)
    for other in ("PYTORCH_ALLOC_CONF", "PYTORCH_CUDA_ALLOC_CONF"):
        monkeypatch.delenv(other, raising=False)
    default = NEEDS[1].room("stream", 40_000)
    monkeypatch.setenv(name, "max_split_size_mb:64, expandable_segments:True")
    activations = NEEDS[1].activations(40_000)
    expected = (PIECES - EXPANDABLE_PIECES) * activations if heard and sys.platform == "linux" else 0
    assert default - NEEDS[1].room("stream", 40_000) == pytest.approx(expected, abs=2)
    monkeypatch.setenv(name, "expandable_segments:False")
    assert NEEDS[1].room("stream", 40_000) == default


def test_pieces_between_tensors_have_room():
    """A stage whose tensors alone would fill the budget does not fit: what comes and goes leaves pieces."""
    flow = Need("f", "flow", Cost(GIB, GIB // 4, lambda t: t << 20), 1024)
    for share, mode in ((1, "stream"), (1 + PIECES, "resident")):
        plan = draw_up([flow], int((GIB + share * GIB + 1) / 0.98) + 1, whole_card=False, max_tokens=10**6)
        assert plan.stages[0].mode == mode
    assert plan.stages[0].peak == 2 * GIB  # of tensors: what a ledger measures


def test_decoders_work_in_parts_before_their_weights_stream():
    def bytes_of(tokens, parts, voxels):
        return (voxels or 100 * tokens) * (10 + 90 // parts) << 10

    decoder = Need("d", "decoder", Cost(GIB, GIB // 4, lambda t: bytes_of(t, 1, None), decoder=bytes_of), 100)
    assert decoder.total("swap", 100) == GIB + (10_000 * 100 << 10)
    plans = [
        draw_up([decoder], int(gib * GIB / 0.98), whole_card=False, max_tokens=10**6) for gib in (2.3, 1.55, 1.4, 0.6)
    ]
    assert [(p.stages[0].mode, p.stages[0].parts) for p in plans] == [
        ("resident", 1), ("swap", 4), ("swap", 16), ("stream", 16)
    ]  # fmt: skip
    assert "swap, 4 parts" in plans[1].describe()
    assert plans[1].decide("d", 100, resident=0)[3] == 4 and plans[1].decide("d", 10, resident=0)[3] == 1
    # Once it is known how many voxels there really are, that number counts.
    assert plans[1].parts("d", "swap", 0, 100, voxels=3500) == (1, GIB + (3500 * 100 << 10))
    assert plans[1].parts("d", "swap", 0, 100, voxels=20_000)[0] == 16
    with pytest.raises(MemoryPlanError, match=r"stage d: the shape has 99,000 voxels, for which .* in 16 parts"):
        plans[1].parts("d", "swap", 0, 100, voxels=99_000)
    # The limit on tokens is that of the most parts.
    assert decoder.room("stream", plans[1].max_tokens, 16) <= plans[1].usable


def test_recordings_count_in_what_the_device_must_hold_but_not_in_the_peak_of_tensors():
    recording = Need("r", "flow", Cost(GIB, GIB // 4, lambda t: t << 20, recorded=lambda t: t << 20), 512)
    plan = draw_up([recording], int(2.1 * GIB), whole_card=False, max_tokens=10**6)
    assert plan.stages[0].mode == "stream"  # which records nothing
    plan = draw_up([recording], int(2.45 * GIB), whole_card=False, max_tokens=10**6)
    assert plan.stages[0].mode == "resident" and plan.stages[0].peak == 2 * GIB
    assert plan.decide("r", 512, 0).peak == GIB + GIB // 2


def test_the_decoders_cost_is_what_their_levels_hold():
    module = build(public_configs()["shape_slat_decoder"])
    decoder = cost(Weights("d", module, module.state_dict()), context=0, guided=False)
    voxels = decoder.activations(22_300) / (22_300 * GROWTH**4)
    assert 128 + 128 + 108 + 24 < voxels < 700  # two tensors of 64 channels, the map, coordinates
    assert decoder.decoder(22_300, 16, None) < 0.9 * decoder.activations(22_300)
    assert decoder.decoder(22_300, 1, 10_000_000) / decoder.decoder(22_300, 1, 5_000_000) == pytest.approx(2, rel=0.1)
    fewer = cost(Weights("d", module, module.state_dict()), context=0, guided=False, voxels_only=True)
    assert fewer.activations(22_300) < 0.7 * decoder.activations(22_300) and fewer.decoder is None


def test_what_cannot_fit_is_refused_with_the_reason():
    with pytest.raises(MemoryPlanError, match=r"stage b needs 3.14 GiB for 1,000 tokens .*--vram-budget"):
        draw_up(NEEDS, 2 * GIB, whole_card=False, max_tokens=5000)


def test_the_export_is_planned_as_a_stage_without_a_model():
    export = Need("export", "", export_cost(100_000, 64, False), 1000)
    tokens = export.activations(1000)
    # Two faces a voxel: the voxels, the surface, the same welded, and what simplifying takes.
    assert tokens == pytest.approx((49 + 2 * (18 + 16 + 309)) * 1000 * GROWTH**4, rel=0.02)
    plan = draw_up([*NEEDS, export], 20 * GIB, whole_card=False, max_tokens=50_000)
    last = plan.stages[-1]
    # It runs when the models are away, so it does not take from the room in which they stay.
    assert [s.mode for s in plan.stages] == ["resident"] * 3 + ["alone"]
    assert (last.weights, last.peak, last.activations) == (0, tokens, tokens)
    # What it can take limits a cascade.
    small = draw_up([export], GIB, whole_card=False, max_tokens=50_000)
    assert small.max_tokens == small.stages[0].capacity
    assert export.room("alone", small.max_tokens) <= small.usable < export.room("alone", small.max_tokens + 1)
    voxels = next(n for n in itertools.count(900_000, 100) if export.room("alone", 1, voxels=n) > small.usable) - 100
    small.require("export", voxels)
    with pytest.raises(
        MemoryPlanError, match=f"stage export: the shape has {voxels + 100:,} voxels, for which 0.98 GiB"
    ):
        small.require("export", voxels + 100)
    with pytest.raises(
        MemoryPlanError, match=r"stage export needs 0\.38 GiB for the voxels of 1,000 tokens, and 0\.10 GiB"
    ):
        draw_up([export], GIB // 10, whole_card=False, max_tokens=50_000)


def of_export(voxels, texture=2048, remeshed=False, faces=200_000, done=None, **options):
    return ExportSizes.expected(voxels, faces, texture, remeshed, done, **options)


@pytest.mark.parametrize(("remesh", "share"), [(False, 0.1), (True, 0.3)])
def test_an_export_leaves_fewer_pieces_than_a_model(remesh, share):
    from trellis_pipeline.asset import GlbOptions
    from trellis_pipeline.pipeline import Pipeline

    need = Pipeline._export(GlbOptions(remesh=remesh), 22_300)
    peak = need.peak("alone", 22_300)
    assert need.room("alone", 22_300) == pytest.approx((1 + share) * peak, rel=1e-6)
    assert 4 * GIB < peak < 9 * GIB and need.room("alone", 10) == need.peak("alone", 10) + LEAST_ROOM


def test_a_large_texture_can_need_more_than_the_voxels():
    assert of_export(10_000, 2048).peak < of_export(10_000, 4096).peak < of_export(10_000, 8192).peak
    assert of_export(6_000_000, 1024).peak == of_export(6_000_000, 2048).peak
    assert of_export(10_000, 4096, opaque=True).peak < of_export(10_000, 4096).peak


def test_an_export_is_planned_by_what_its_steps_have_made():
    before = of_export(1_000_000, remeshed=True)
    assert before.shell == SIDES * 1_000_000 and before.peak == before.peaks()["simplify"]
    closed = of_export(
        1_000_000, remeshed=True, done={"clean": {"faces_out": 1_900_000}, "remesh": {"faces_out": 2_000_000}}
    )
    assert (closed.fine, closed.shell, closed.coarse) == (1_900_000, 2_000_000, 200_000)
    assert 0.5 < closed.peak / before.peak < 0.6
    few = of_export(1_000_000, done={"clean": {"faces_out": 150_000}})
    assert few.coarse == 150_000 and few.peaks()["simplify"] < few.peaks()["clean"]  # it has few enough already
    every = of_export(1_000_000, faces=None)
    assert every.coarse == every.shell and every.peak == every.peaks()["unwrap"]
    known = of_export(1_000, done={"unwrap": {"utilisation": 0.25}})
    assert known.covered == 2048**2 // 4


def test_a_whole_card_has_room_for_its_context_to_spare():
    mine = draw_up(NEEDS, 10 * GIB, whole_card=False, max_tokens=5000)
    card = draw_up(NEEDS, 10 * GIB, whole_card=True, max_tokens=5000)
    assert mine.usable - card.usable == pytest.approx(0.98 * (600 << 20), rel=1e-3)


def test_the_plan_is_shown_and_recorded():
    plan = draw_up(NEEDS, 6 * GIB, whole_card=False, max_tokens=100)
    lines = plan.describe().splitlines()
    assert lines[0].startswith("memory plan for 6.0 GiB") and len(lines) == 5
    assert [line.split()[:2] for line in lines[2:]] == [["a", "swap"], ["b", "swap"], ["c", "swap"]]
    assert json.loads(json.dumps(plan.facts()))["stages"][1]["name"] == "b"


def test_the_chart_shows_each_stage_with_its_peak():
    def stage(name, planned, before, peak):
        return {
            "stage": name,
            "planned": planned,
            "before": before,
            "peak": peak,
            "reserved": peak,
            "peak_reserved": 3 * GIB,
        }

    stages = [stage("shape", 3 * GIB, GIB // 2, 2 * GIB), stage("<texture>", None, 0, GIB)]
    facts = {"memory": {"device": "cuda:0", "stages": stages}, "plan": {"budget": 4 * GIB}}
    root = ET.fromstring(chart(facts))
    name = "{http://www.w3.org/2000/svg}"
    texts = [t.text for t in root.iter(f"{name}text")]
    assert {"shape", "<texture>", "2.00", "1.00"} <= set(texts)
    peaks = [
        float(r.get("width"))
        for r in root.iter(f"{name}rect")
        if r.get("fill") == "#5b8def" and r.get("height") != "12"
    ]
    assert peaks[0] == pytest.approx(2 * peaks[1], rel=0.01)


@pytest.mark.parametrize(
    ("facts", "message"),
    [
        ({}, "no memory ledger"),
        ({"memory": {"device": "cpu", "stages": [{"stage": "x", "process": 1}]}}, "run was on cpu"),
    ],
)
def test_manifests_without_device_memory_have_no_chart(facts, message):
    with pytest.raises(ValueError, match=message):
        chart(facts)


def test_the_ledger_records_stages_that_fail_too():
    ledger = Ledger(CPU)
    with ledger.stage("good", 5):
        pass
    with pytest.raises(KeyError), ledger.stage("bad"):
        raise KeyError
    entries = ledger.facts()["stages"]
    assert [e["stage"] for e in entries] == ["good", "bad"] and entries[0]["planned"] == 5
    assert entries[0]["process"] > 1 << 20
