"""The models against the key lists of the public checkpoint, and their behaviour where parity numbers do not reach."""

import math
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
import trellis_sparse
from trellis_pipeline.attention import attend
from trellis_pipeline.models import from_config
from trellis_pipeline.models.transformer import rotary_turns, sinusoids
from trellis_pipeline.models.voxels import Growth
from trellis_pipeline.sparse import SparseTensor
from trellis_sparse import norm_heads

# The doctor checks model files against these lists; they are kept there.
KEYS = Path(__file__).parents[2] / "diagnostics/trellis_doctor/facts/checkpoints"

FLOW = {
    "resolution": 64, "in_channels": 32, "out_channels": 32, "model_channels": 1536, "cond_channels": 1024, "num_blocks": 30,
    "num_heads": 12, "mlp_ratio": 5.3334, "pe_mode": "rope", "share_mod": True, "initialization": "scaled",
    "qk_rms_norm": True, "qk_rms_norm_cross": True, "dtype": "bfloat16",
}  # fmt: skip
DECODER = {
    "model_channels": [1024, 512, 256, 128, 64], "latent_channels": 32, "num_blocks": [4, 16, 8, 4, 0],
    "block_type": ["SparseConvNeXtBlock3d"] * 5, "up_block_type": ["SparseResBlockC2S3d"] * 4,
    "block_args": [{"use_checkpoint": True}] * 5, "use_fp16": True,
}  # fmt: skip
ENCODER = {
    "model_channels": [64, 128, 256, 512, 1024], "latent_channels": 32, "num_blocks": [0, 4, 8, 16, 4],
    "block_type": ["SparseConvNeXtBlock3d"] * 5, "down_block_type": ["SparseResBlockS2C3d"] * 4,
    "block_args": [{"use_checkpoint": True}] * 5, "use_fp16": True,
}  # fmt: skip
PUBLIC = {
    "ss_flow_img_dit_1_3B_64_bf16": (
        "SparseStructureFlowModel", {**FLOW, "resolution": 16, "in_channels": 8, "out_channels": 8}
    ),
    "slat_flow_img2shape_dit_1_3B_512_bf16": ("SLatFlowModel", FLOW),
    "slat_flow_imgshape2tex_dit_1_3B_512_bf16": ("ElasticSLatFlowModel", {**FLOW, "in_channels": 64}),
    "ss_dec_conv3d_16l8_fp16": (
        "SparseStructureDecoder",
        {"out_channels": 1, "latent_channels": 8, "num_res_blocks": 2, "num_res_blocks_middle": 2, "channels": [512, 128, 32],
         "norm_type": "layer", "use_fp16": True},
    ),
    "shape_dec_next_dc_f16c32_fp16": ("FlexiDualGridVaeDecoder", {**DECODER, "resolution": 256}),
    "shape_enc_next_dc_f16c32_fp16": ("FlexiDualGridVaeEncoder", ENCODER),
    "tex_dec_next_dc_f16c32_fp16": ("SparseUnetVaeDecoder", {**DECODER, "out_channels": 6, "pred_subdiv": False}),
}  # fmt: skip


@pytest.mark.parametrize("stem", PUBLIC)
def test_keys_and_shapes_equal_the_public_checkpoint(stem):
    name, args = PUBLIC[stem]
    with torch.device("meta"):
        model = from_config({"name": name, "args": args})
    lines = (line.split("\t") for line in (KEYS / f"{stem}.keys.txt").read_text().splitlines() if line.strip())
    expected = {key: shape for key, _, shape in lines if "rope_phases" not in key and "pos_emb" not in key}
    assert {k: str(list(v.shape)) for k, v in model.state_dict().items()} == expected


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"name": "Nothing", "args": {}}, "name: expected one of SparseStructureFlowModel"),
        ({}, "got None"),
        ({"name": "SLatFlowModel", "args": {"resolution": 8, "surprise": 1}}, "SLatFlowModel: .*surprise"),
        ({"name": "SLatFlowModel", "args": {**FLOW, "pe_mode": "none"}}, "pe_mode: expected 'ape' or 'rope', got 'none'"),
        ({"name": "SparseUnetVaeDecoder", "args": {**DECODER, "out_channels": 6, "block_type": ["Swin"] * 5}},
         "block type: expected one of SparseConvNeXtBlock3d.* got 'Swin'"),
        ({"name": "SLatFlowModel", "args": {**FLOW, "dtype": "float8"}}, "dtype: expected one of float32.* got 'float8'"),
        ({"name": "SparseUnetVaeDecoder", "args": {**DECODER, "out_channels": 6, "block_args": [{"resample_mode": "max"}] * 5}},
         "SparseUnetVaeDecoder: .*resample_mode"),
    ],
)  # fmt: skip
def test_unknown_configurations_are_refused(config, message):
    with torch.device("meta"), pytest.raises(ValueError, match=message):
        from_config(config)


@pytest.mark.parametrize(
    ("name", "dtype"),
    [("f16", torch.float16), ("bf16", torch.bfloat16), ("fp32", torch.float32), ("float16", torch.float16)],
)
def test_dtypes_by_every_name_that_configurations_use(name, dtype):
    with torch.device("meta"):
        model = from_config({"name": "SLatFlowModel", "args": {**FLOW, "num_blocks": 1, "dtype": name}})
    assert model.blocks[0].mlp.mlp[0].weight.dtype == dtype
    assert model.input_layer.weight.dtype == torch.float32


def test_a_structure_flow_names_arguments_that_it_does_nothing_with():
    args = {**FLOW, "num_blocks": 1, "patch_size": 1, "fp16_mode": "inflat_all"}
    with torch.device("meta"), pytest.warns(UserWarning, match="nothing is done with fp16_mode, patch_size"):
        from_config({"name": "SparseStructureFlowModel", "args": args})


def tiny(name, **changes):
    torch.manual_seed(0)
    args = {**FLOW, "resolution": 4, "in_channels": 8, "out_channels": 8, "model_channels": 48, "cond_channels": 16, "num_blocks": 2,
            "num_heads": 2, "dtype": "float32", **changes}  # fmt: skip
    return from_config({"name": name, "args": args}).eval()


def voxels(n, batch=0, seed=0):
    generator = torch.Generator().manual_seed(seed)
    codes = torch.randperm(16**3, generator=generator)[:n].sort().values
    xyz = torch.stack([codes // 256, codes // 16 % 16, codes % 16], 1)
    return torch.cat([torch.full((n, 1), batch), xyz], 1).int()


@torch.no_grad()
def test_a_batch_of_unequal_lengths_equals_its_entries_alone():
    model = tiny("SLatFlowModel")
    coords = [voxels(30, 0, 1), voxels(17, 1, 2)]
    feats = [torch.randn(len(c), 8) for c in coords]
    cond, t = torch.randn(2, 5, 16), torch.tensor([300.0, 900.0])
    together = model(SparseTensor(torch.cat(feats), torch.cat(coords)), t, cond).feats
    for i, rows in enumerate(together.split([30, 17])):
        alone = coords[i].clone()
        alone[:, 0] = 0
        expected = model(SparseTensor(feats[i], alone), t[i : i + 1], cond[i : i + 1]).feats
        torch.testing.assert_close(rows, expected, rtol=1e-5, atol=1e-5)


@torch.no_grad()
def test_a_condition_encoded_once_gives_the_bits_of_one_encoded_at_each_call():
    model = tiny("SparseStructureFlowModel")
    x, t, cond = torch.randn(2, 8, 4, 4, 4), torch.tensor([10.0, 500.0]), torch.randn(2, 7, 16)
    assert torch.equal(model(x, t, model.encode_condition(cond)), model(x, t, cond))


@torch.no_grad()
def test_dense_flow_on_a_grid_equals_sparse_flow_on_all_its_voxels():
    dense, sparse = tiny("SparseStructureFlowModel"), tiny("SLatFlowModel")
    sparse.load_state_dict(dense.state_dict())
    x, t, cond = torch.randn(1, 8, 4, 4, 4), torch.tensor([700.0]), torch.randn(1, 3, 16)
    axis = torch.arange(4)
    xyz = torch.stack(torch.meshgrid(axis, axis, axis, indexing="ij"), -1).reshape(-1, 3)
    coords = torch.cat([torch.zeros(64, 1), xyz], 1).int()
    feats = x[0].flatten(1).T.contiguous()
    torch.testing.assert_close(dense(x, t, cond)[0].flatten(1).T, sparse(SparseTensor(feats, coords), t, cond).feats)


def test_attention_equals_the_formula_for_any_lengths():
    torch.manual_seed(0)
    lengths, key_lengths = [3, 5], [4, 2]
    q, k, v = torch.randn(8, 2, 4), torch.randn(6, 2, 4), torch.randn(6, 2, 4)
    out = attend(q, k, v, lengths, key_lengths)
    for rows, keys in ((slice(0, 3), slice(0, 4)), (slice(3, 8), slice(4, 6))):
        weights = torch.einsum("qhd,khd->hqk", q[rows], k[keys]).div(2).softmax(-1)
        torch.testing.assert_close(out[rows], torch.einsum("hqk,khd->qhd", weights, v[keys]))


def test_rotary_products_depend_on_the_offset_alone():
    torch.manual_seed(0)
    q, k = torch.randn(1, 1, 32), torch.randn(1, 1, 32)

    def product(a, b):
        turned = (norm_heads(x[:, None], None, rotary_turns(torch.tensor([p]), 32)) for x, p in ((q, a), (k, b)))
        return float(math.prod(turned).sum())

    assert product([5, 6, 7], [1, 2, 3]) == pytest.approx(product([15, 4, 27], [11, 0, 23]), abs=1e-4)
    assert product([5, 6, 7], [1, 2, 3]) != pytest.approx(product([6, 5, 7], [2, 2, 3]), abs=1e-4)


def test_a_configuration_may_give_its_rotary_frequencies():
    # Head of 8: one pair an axis, which turns by a position times the first number; the fourth pair does not turn.
    turns = rotary_turns(torch.tensor([[1, 2, 3]]), 8, (0.5, 100.0))
    angles = torch.tensor([0.5, 1.0, 1.5, 0.0])
    torch.testing.assert_close(turns[0], torch.stack([angles.cos(), angles.sin()], 1))
    # Head of 12: two pairs an axis, the second slower by the root of the second number.
    turns = rotary_turns(torch.tensor([[1, 0, 0]]), 12, (0.5, 100.0))
    torch.testing.assert_close(turns[0, :2, 1], torch.tensor([0.5, 0.05]).sin())
    torch.manual_seed(0)
    flow = {**FLOW, "in_channels": 4, "out_channels": 4, "model_channels": 24, "cond_channels": 8, "num_heads": 2, "num_blocks": 1,
            "dtype": "float32"}  # fmt: skip
    models = [from_config({"name": "SLatFlowModel", "args": flow | more}) for more in ({}, {"rope_freq": [1.0, 10.0]})]
    models[1].load_state_dict(models[0].state_dict())
    x, cond = (
        SparseTensor(torch.randn(5, 4), torch.arange(20).view(5, 4).int() * torch.tensor([0, 1, 1, 1]).int()),
        torch.randn(1, 3, 8),
    )
    one, other = (m(x, torch.tensor([500.0]), cond).feats for m in models)
    assert not torch.equal(one, other)
    # The dense model has them nowhere: its checkpoints hold the phases of the default frequencies.
    dense = [from_config({"name": "SparseStructureFlowModel", "args": flow | {"resolution": 3} | more})
             for more in ({}, {"rope_freq": [1.0, 10.0]})]  # fmt: skip
    dense[1].load_state_dict(dense[0].state_dict())
    one, other = (m(torch.ones(1, 4, 3, 3, 3), torch.tensor([500.0]), cond) for m in dense)
    assert torch.equal(one, other)


def test_absolute_positions_are_sines_then_cosines_of_each_axis():
    embedding = sinusoids(
        torch.tensor([[1, 2, 3]]), 14
    )  # two frequencies an axis, 1 and 1 / 100, and two channels left over
    expected = [f(p * w) for p in (1, 2, 3) for f in (math.sin, math.cos) for w in (1, 0.01)]
    torch.testing.assert_close(embedding[0], torch.tensor([*expected, 0.0, 0.0]))


@torch.no_grad()
@pytest.mark.parametrize("norm", [True, False])
def test_absolute_positions_are_added_to_the_input_and_turn_nothing(norm):
    flow = {**FLOW, "in_channels": 4, "out_channels": 4, "model_channels": 24, "cond_channels": 8, "num_heads": 2, "num_blocks": 1,
            "dtype": "float32", "qk_rms_norm": norm, "qk_rms_norm_cross": norm}  # fmt: skip
    del flow["pe_mode"]  # "ape" where a configuration leaves it out
    torch.manual_seed(0)
    model = from_config({"name": "SLatFlowModel", "args": flow})
    coords = torch.tensor([[0, 1, 2, 3], [0, 4, 0, 1]], dtype=torch.int32)
    feats, cond, t = torch.randn(2, 4), torch.randn(1, 3, 8), torch.tensor([500.0])
    out = model(SparseTensor(feats, coords), t, cond).feats
    # The same sum given as input to a model without positions, which is one whose voxels all lie at the origin.
    weight, bias = model.input_layer.weight, model.input_layer.bias
    extra = sinusoids(coords[:, 1:], 24) - sinusoids(torch.zeros(2, 3), 24)
    model.input_layer = torch.nn.Linear(28, 24)
    model.input_layer.weight.copy_(torch.cat([weight, torch.eye(24)], 1))
    model.input_layer.bias.copy_(bias)
    model.in_channels = 28
    origin = torch.zeros_like(coords)
    again = model(SparseTensor(torch.cat([feats, extra], 1), origin), t, cond).feats
    torch.testing.assert_close(out, again, rtol=1e-5, atol=1e-5)
    far = model(SparseTensor(torch.cat([feats, 0 * extra], 1), origin), t, cond).feats
    assert not torch.allclose(out, far, rtol=1e-3, atol=1e-3)


def test_a_structure_decoder_may_have_no_middle_blocks():
    args = {**PUBLIC["ss_dec_conv3d_16l8_fp16"][1], "channels": [8, 4], "num_res_blocks_middle": 0, "use_fp16": False}
    model = from_config({"name": "SparseStructureDecoder", "args": args})
    assert model(torch.zeros(1, 8, 2, 2, 2)).shape == (1, 1, 4, 4, 4)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            lambda m: m(torch.zeros(1, 8, 4, 4, 5), torch.zeros(1), torch.zeros(1, 2, 16)),
            r"x: expected shape \[B, 8, 4, 4, 4\]",
        ),
        (
            lambda m: m(torch.zeros(1, 8, 4, 4, 4), torch.zeros(1), torch.zeros(1, 2, 15)),
            r"cond: expected shape \[B, L, 16\]",
        ),
        (
            lambda m: m(torch.zeros(1, 8, 4, 4, 4), torch.zeros(2), torch.zeros(1, 2, 16)),
            "expected 1 entries like the tokens, got 1 and 2",
        ),
    ],
)
def test_shapes_that_do_not_fit_are_named(call, message):
    with pytest.raises(ValueError, match=message):
        call(tiny("SparseStructureFlowModel"))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (
            lambda: SparseTensor(torch.zeros(2, 3), torch.zeros(3, 4).int()),
            r"feats: expected shape \[3, C\], got \[2, 3\]",
        ),
        (lambda: SparseTensor(torch.zeros(2, 3), torch.zeros(2, 3).int()), r"coords: expected shape \[N, 4\]"),
        (
            lambda: SparseTensor(torch.zeros(2, 1), torch.tensor([[1, 0, 0, 0], [0, 0, 0, 0]]).int()).lengths,
            "ascending order",
        ),
    ],
)
def test_sparse_tensors_that_do_not_fit_are_named(make, message):
    with pytest.raises(ValueError, match=message):
        make()


DECODE = {
    "model_channels": [16, 16, 8], "latent_channels": 4, "num_blocks": [1, 1, 1],
    "block_type": ["SparseConvNeXtBlock3d"] * 3, "up_block_type": ["SparseResBlockC2S3d"] * 2, "block_args": [{}] * 3,
}  # fmt: skip


def decoders():
    """A shape decoder and a texture decoder with weights that are not those of the start, a latent, and its subdivisions."""
    torch.manual_seed(0)
    shape = from_config({"name": "FlexiDualGridVaeDecoder", "args": {**DECODE, "resolution": 64}}).eval()
    texture = from_config(
        {"name": "SparseUnetVaeDecoder", "args": {**DECODE, "out_channels": 6, "pred_subdiv": False}}
    ).eval()
    for model in (shape, texture):
        for p in model.parameters():
            torch.nn.init.normal_(p, std=0.3)
    z = SparseTensor(torch.randn(40, 4), voxels(40))
    with torch.no_grad():
        return texture, z, shape(z)[1]


def test_an_upsampling_equals_its_formula():
    texture, z, subdivisions = decoders()
    block = texture.blocks[0][-1]
    x = z.replace(torch.randn(40, 16))
    with torch.no_grad():
        fine = block(x, block.grow(x, subdivisions[0]))
        coords, parent, slot = trellis_sparse.upsample(x.coords, subdivisions[0].feats > 0)
        h = block.conv1(x.replace(F.silu(block.norm1(x.feats)))).feats.unflatten(1, (8, -1))[parent, slot]
        h = SparseTensor(F.silu(F.layer_norm(h, h.shape[1:], eps=1e-6)), coords)
        skip = x.feats.unflatten(1, (8, -1))[parent, slot].repeat_interleave(16 * 8 // 16, 1)
    assert 0 < len(coords) < 320
    assert torch.equal(fine.coords, coords)
    torch.testing.assert_close(fine.feats, block.conv2(h).feats.detach() + skip)


def residual(block, h, skip):
    """The formula of a residual block from its resampled features on, at voxels that have no neighbours."""
    middle = [conv.weight[:, 1, 1, 1] for conv in (block.conv1, block.conv2)]  # the only tap that meets a voxel
    h = h @ middle[0].T + block.conv1.bias
    h = F.silu(F.layer_norm(h, h.shape[1:], eps=1e-6)) @ middle[1].T + block.conv2.bias
    return h + block.skip_connection(skip)


@torch.no_grad()
def test_blocks_that_resample_by_means_and_copies_equal_their_formula():
    torch.manual_seed(0)
    args = {"model_channels": [8, 6], "latent_channels": 4, "num_blocks": [1, 1], "block_type": ["SparseResBlock3d"] * 2,
            "block_args": [{}] * 2}  # fmt: skip
    down = {"in_channels": 3, **args, "down_block_type": ["SparseResBlockDownsample3d"]}
    plain, coarser = from_config({"name": "SparseUnetVaeEncoder", "args": down}).eval().blocks[0]
    up = {"out_channels": 3, **args, "up_block_type": ["SparseResBlockUpsample3d"]}
    finer = from_config({"name": "SparseUnetVaeDecoder", "args": up}).eval().blocks[0][1]
    coords = torch.tensor([[0, 0, 0, 0], [0, 8, 8, 8], [0, 12, 1, 30]], dtype=torch.int32)
    x = SparseTensor(torch.randn(3, 8), coords)
    normed = F.silu(block_norm(plain, x.feats))
    torch.testing.assert_close(plain(x).feats, residual(plain, normed, x.feats))

    grown = Growth.by(x.replace(torch.tensor([[1.0] + [-1.0] * 7, [-1.0] * 7 + [1.0], [-1.0] * 8])))
    assert grown.voxels.coords.tolist() == [[0, 0, 0, 0], [0, 17, 17, 17]]
    made = finer(x, grown).feats
    torch.testing.assert_close(made, residual(finer, F.silu(block_norm(finer, x.feats))[:2], x.feats[:2]))

    pair = SparseTensor(
        torch.randn(3, 8), torch.tensor([[0, 0, 0, 0], [0, 1, 1, 1], [0, 12, 1, 30]], dtype=torch.int32)
    )
    mean = lambda feats: torch.stack([feats[:2].mean(0), feats[2]])  # noqa: E731
    out = coarser(pair)
    assert out.coords.tolist() == [[0, 0, 0, 0], [0, 6, 0, 15]]
    torch.testing.assert_close(
        out.feats, residual(coarser, mean(F.silu(block_norm(coarser, pair.feats))), mean(pair.feats))
    )


def block_norm(block, feats):
    return F.layer_norm(feats, feats.shape[1:], block.norm1.weight, block.norm1.bias, 1e-6)


@torch.no_grad()
def test_a_texture_decoder_that_predicts_its_voxels_follows_its_own_logits():
    torch.manual_seed(0)
    texture = from_config({"name": "SparseUnetVaeDecoder", "args": {**DECODE, "out_channels": 6}}).eval()
    z = SparseTensor(torch.randn(40, 4), voxels(40))
    logits = texture._decode(z, None)[1]
    assert [tuple(s.feats.shape[1:]) for s in logits] == [(8,)] * 2
    out = texture(z)
    assert len(out.coords) == int((logits[1].feats > 0).sum())
    assert torch.equal(texture(z, logits).feats, out.feats)


@torch.no_grad()
def test_subdivisions_in_another_order_of_rows_change_nothing():
    texture, z, subdivisions = decoders()
    out = texture(z, subdivisions)
    mixed = []
    for s in subdivisions:
        order = torch.randperm(len(s.coords))
        mixed.append(SparseTensor(s.feats[order], s.coords[order]))
    again = texture(z, mixed)
    assert torch.equal(again.coords, out.coords)
    assert torch.equal(again.feats, out.feats)
    with pytest.raises(ValueError, match="subdivisions: expected logits at the voxels of the latent's level"):
        texture(z, [SparseTensor(subdivisions[0].feats, subdivisions[0].coords + 1), subdivisions[1]])


@torch.no_grad()
def test_neighbour_maps_of_the_shape_serve_the_texture(monkeypatch):
    texture, z, subdivisions = decoders()
    plans = [s.plan for s in subdivisions]
    made, make = [], trellis_sparse.conv_map
    monkeypatch.setattr(
        trellis_sparse, "conv_map", lambda coords, shape: made.append(len(coords)) or make(coords, shape)
    )
    out = texture(SparseTensor(z.feats, z.coords), subdivisions)
    assert made == [len(out.coords)]  # the finest level's alone
    assert len(plans) == 2
    assert torch.equal(out.plan.neighbors, trellis_sparse.neighbor_map(out.coords, (1, 64, 64, 64)))


def test_decoding_with_gradients_gives_the_same_and_reaches_every_weight():
    texture, z, subdivisions = decoders()
    out = texture(z, subdivisions).feats
    with torch.no_grad():
        torch.testing.assert_close(texture(z, subdivisions).feats, out.detach())
    out.square().sum().backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in texture.parameters())


def test_a_decoded_asset_becomes_a_mesh():
    """Four voxels around one crossed edge give one quad, at the vertices that the first three channels say."""
    decoder = from_config({"name": "FlexiDualGridVaeDecoder", "args": {**DECODER, "resolution": 8, "use_fp16": False}})
    coords = torch.tensor([[0, 3, y, z] for y in (2, 3) for z in (4, 5)], dtype=torch.int32)
    feats = torch.full((4, 7), -5.0)
    feats[:, :3], feats[0, 3] = 0, 5  # in the middle of each voxel; the edge along x at the first one's corner
    vertices, faces = decoder.to_mesh(SparseTensor(feats, coords))
    torch.testing.assert_close(vertices, (coords[:, 1:] + 0.5) / 8 - 0.5)
    assert len(faces) == 2 and sorted(set(faces.flatten().tolist())) == [0, 1, 2, 3]
    assert torch.equal(decoder.to_mesh(SparseTensor(feats, coords), resolution=16)[0], (coords[:, 1:] + 0.5) / 16 - 0.5)
    with pytest.raises(ValueError, match="h: expected one batch entry, got 2"):
        decoder.to_mesh(
            SparseTensor(feats, coords + torch.tensor([[0] * 4, [0] * 4, [1, 0, 0, 0], [1, 0, 0, 0]]).int())
        )
