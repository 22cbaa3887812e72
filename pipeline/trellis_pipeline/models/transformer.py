"""The transformer that all three flow models share: tokens in, tokens out, conditioned on image features and time.

Tokens of a batch are packed: [T, C] with the number of tokens of each entry beside them, so that a dense grid and
sparse voxels of any number run through the same code.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import cast

import torch
import torch.nn.functional as F
import trellis_sparse
from torch import nn

from ..attention import attend

KeysValues = tuple[torch.Tensor, torch.Tensor]

_DTYPES = {
    "float32": torch.float32, "fp32": torch.float32, "f32": torch.float32,
    "float16": torch.float16, "fp16": torch.float16, "f16": torch.float16,
    "bfloat16": torch.bfloat16, "bf16": torch.bfloat16,
}  # fmt: skip


@dataclass(frozen=True)
class Condition:
    """Cross-attention keys and values of every block, made once per condition and used at every step.

    Attributes:
        blocks: for each block keys and values [B * L, heads, head_dim].
        lengths: L for each of the B entries.
    """

    blocks: list[KeysValues]
    lengths: list[int]

    def first(self, entries: int) -> Condition:
        """That of the first entries alone, sharing their keys and values."""
        rows = sum(self.lengths[:entries])
        return Condition([(k[:rows], v[:rows]) for k, v in self.blocks], self.lengths[:entries])


class LayerNorm32(nn.LayerNorm):
    """LayerNorm computed in float32 whatever the input's dtype; parameters may be kept in float32 too."""

    def forward(self, x: torch.Tensor, activation: str = "identity") -> torch.Tensor:
        return self.of_rows(x.reshape(-1, x.shape[-1]), None, activation).view(x.shape)

    def of_rows(self, x: torch.Tensor, source: torch.Tensor | None, activation: str = "identity") -> torch.Tensor:
        """The norms of the rows int64 [M] of x [N, C] that `source` names, or of all."""
        return trellis_sparse.layer_norm(x, self.weight, self.bias, source=source, eps=self.eps, activation=activation)


class HeadRMSNorm(nn.Module):
    """The learned scale of the root-mean-square norm of each head's queries or keys (Zhang and Sennrich 2019)."""

    def __init__(self, heads: int, head_dim: int) -> None:
        super().__init__()
        self.gamma = nn.Parameter(torch.ones(heads, head_dim))


def rotary_turns(positions: torch.Tensor, head_dim: int, scale: tuple[float, float] = (1.0, 10000.0)) -> torch.Tensor:
    """Cosines and sines float32 [T, head_dim / 2, 2] of the 3-D rotary embedding of integer `positions` [T, 3].

    Each axis takes n = head_dim // 2 // 3 frequencies a / b^(i/n), (a, b) = `scale` (Su et al. 2021); pairs left over do
    not turn.
    """
    n = head_dim // 2 // 3
    frequencies = scale[0] / scale[1] ** (torch.arange(n, dtype=torch.float32, device=positions.device) / n)
    angles = (positions.float()[:, :, None] * frequencies).flatten(1)
    angles = F.pad(angles, (0, head_dim // 2 - angles.shape[1]))
    return torch.stack([angles.cos(), angles.sin()], -1)


def sinusoids(positions: torch.Tensor, width: int) -> torch.Tensor:
    """Absolute embedding float32 [T, width] of integer `positions` [T, 3] (pe_mode "ape"; Vaswani et al. 2017, by axis).

    Each axis takes n = width // 3 // 2 frequencies 1 / 10000^(i/n), sines before cosines; channels left over are 0.
    """
    n = width // 3 // 2
    frequencies = 10000.0 ** -(torch.arange(n, dtype=torch.float32, device=positions.device) / n)
    angles = positions.float()[:, :, None] * frequencies
    embedding = torch.cat([angles.sin(), angles.cos()], 2).flatten(1)
    return F.pad(embedding, (0, width - embedding.shape[1]))


class SelfAttention(nn.Module):
    def __init__(self, width: int, heads: int, rms_norm: bool) -> None:
        super().__init__()
        self.heads = heads
        self.to_qkv = nn.Linear(width, 3 * width)
        if rms_norm:
            self.q_rms_norm = HeadRMSNorm(heads, width // heads)
            self.k_rms_norm = HeadRMSNorm(heads, width // heads)
        self.to_out = nn.Linear(width, width)

    def forward(self, x: torch.Tensor, turns: torch.Tensor | None, lengths: Sequence[int]) -> torch.Tensor:
        qkv = self.to_qkv(x).unflatten(-1, (3, self.heads, -1))
        gamma = torch.stack([self.q_rms_norm.gamma, self.k_rms_norm.gamma]) if hasattr(self, "q_rms_norm") else None
        q, k = qkv[:, 0], qkv[:, 1]
        if gamma is not None or turns is not None:
            q, k = trellis_sparse.norm_heads(qkv[:, :2], gamma, turns).unbind(1)
        return self.to_out(attend(q, k, qkv[:, 2], lengths, lengths).flatten(1))


class CrossAttention(nn.Module):
    def __init__(self, width: int, context_width: int, heads: int, rms_norm: bool) -> None:
        super().__init__()
        self.heads = heads
        self.to_q = nn.Linear(width, width)
        self.to_kv = nn.Linear(context_width, 2 * width)
        if rms_norm:
            self.q_rms_norm = HeadRMSNorm(heads, width // heads)
            self.k_rms_norm = HeadRMSNorm(heads, width // heads)
        self.to_out = nn.Linear(width, width)

    def keys_values(self, context: torch.Tensor) -> KeysValues:
        """Keys and values [T, heads, head_dim] of packed context tokens [T, context_width]."""
        k, v = self.to_kv(context).unflatten(-1, (2, self.heads, -1)).unbind(1)
        return self._normed("k_rms_norm", k), v.contiguous()  # a view would keep the keys as they were, too

    def _normed(self, name: str, x: torch.Tensor) -> torch.Tensor:
        if not hasattr(self, name):
            return x
        return trellis_sparse.norm_heads(x[:, None], cast("HeadRMSNorm", getattr(self, name)).gamma[None])[:, 0]

    def forward(
        self, x: torch.Tensor, context: KeysValues, lengths: Sequence[int], context_lengths: Sequence[int]
    ) -> torch.Tensor:
        q = self._normed("q_rms_norm", self.to_q(x).unflatten(-1, (self.heads, -1)))
        return self.to_out(attend(q, *context, lengths, context_lengths).flatten(1))


class FeedForward(nn.Module):
    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.mlp = nn.Sequential(nn.Linear(width, hidden), nn.GELU(approximate="tanh"), nn.Linear(hidden, width))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        first, last = cast("nn.Linear", self.mlp[0]), cast("nn.Linear", self.mlp[2])
        if x.is_cuda and not torch.is_grad_enabled():  # the product and its activation in one pass
            hidden = torch._addmm_activation(first.bias, x, first.weight.t(), use_gelu=True)
            return F.linear(hidden, last.weight, last.bias)
        return self.mlp(x)


@dataclass(frozen=True)
class Step:
    """What all blocks of one forward pass share.

    Attributes:
        lengths, context_lengths: number of tokens, and of image features, of each batch entry.
        turns: `rotary_turns` of the tokens; None where positions are not rotary.
        entries: int32 [T], the batch entry of each token; None for a single one.
    """

    lengths: Sequence[int]
    context_lengths: Sequence[int]
    turns: torch.Tensor | None
    entries: torch.Tensor | None


@dataclass(frozen=True)
class Stream:
    """The residual stream x + update * gate, whose addition waits for the next normalisation to do both in one pass."""

    x: torch.Tensor
    update: torch.Tensor | None = None
    gate: torch.Tensor | None = None

    def norm(
        self, norm: nn.LayerNorm, entries: torch.Tensor | None, scale: torch.Tensor | None = None, shift: torch.Tensor | None = None
    ) -> tuple[torch.Tensor, torch.Tensor]:  # fmt: skip
        """The stream as a tensor [T, C], and `norm` of it, times 1 + scale, plus shift."""
        if self.update is None:
            h = trellis_sparse.layer_norm(
                self.x, norm.weight, norm.bias, scale=scale, shift=shift, entries=entries, eps=norm.eps
            )
            return self.x, h
        return trellis_sparse.residual_norm(
            self.x, self.update, norm.weight, norm.bias, gate=self.gate, scale=scale, shift=shift, entries=entries, eps=norm.eps
        )  # fmt: skip


class Block(nn.Module):
    """Self-attention, cross-attention and MLP; the first and the last are modulated by time (adaLN, Peebles and Xie 2023)."""

    def __init__(
        self,
        width: int,
        context_width: int,
        heads: int,
        hidden: int,
        *,
        rms_norm: bool,
        rms_norm_cross: bool,
        shared: bool,
    ) -> None:
        super().__init__()
        self.norm1 = LayerNorm32(width, eps=1e-6, elementwise_affine=False)
        self.norm2 = LayerNorm32(width, eps=1e-6)
        self.norm3 = LayerNorm32(width, eps=1e-6, elementwise_affine=False)
        self.self_attn = SelfAttention(width, heads, rms_norm)
        self.cross_attn = CrossAttention(width, context_width, heads, rms_norm_cross)
        self.mlp = FeedForward(width, hidden)
        if shared:  # one MLP for all blocks, and a learned offset in each
            self.modulation = nn.Parameter(torch.empty(6 * width))
            nn.init.normal_(self.modulation, std=width**-0.5)
        else:
            self.adaLN_modulation = nn.Sequential(nn.SiLU(), nn.Linear(width, 6 * width))

    def keys_values(self, context: torch.Tensor) -> KeysValues:
        """What this block's cross-attention makes of packed context tokens."""
        return self.cross_attn.keys_values(context)

    def modulation_of(self, time: torch.Tensor) -> list[torch.Tensor]:
        """shift, scale and gate of the self-attention, then of the MLP, [B, width] each."""
        mod = (self.modulation + time).to(time.dtype) if hasattr(self, "modulation") else self.adaLN_modulation(time)
        return list(mod.chunk(6, 1))

    def forward(self, stream: Stream, time: torch.Tensor, context: KeysValues, step: Step) -> Stream:
        shift1, scale1, gate1, shift3, scale3, gate3 = self.modulation_of(time)
        x, h = stream.norm(self.norm1, step.entries, scale1, shift1)
        stream = Stream(x, self.self_attn(h, step.turns, step.lengths), gate1)
        x, h = stream.norm(self.norm2, step.entries)
        stream = Stream(x, self.cross_attn(h, context, step.lengths, step.context_lengths))
        x, h = stream.norm(self.norm3, step.entries, scale3, shift3)
        return Stream(x, self.mlp(h), gate3)


class TimestepEmbedder(nn.Module):
    """A time in [0, 1000] -> a 256-wide sinusoid, cosines first -> an MLP."""

    def __init__(self, width: int, sinusoid: int = 256) -> None:
        super().__init__()
        self.frequencies = sinusoid // 2
        self.mlp = nn.Sequential(nn.Linear(sinusoid, width), nn.SiLU(), nn.Linear(width, width))

    def forward(self, t: torch.Tensor) -> torch.Tensor:
        steps = torch.arange(self.frequencies, dtype=torch.float32, device=t.device) / self.frequencies
        angles = t[:, None].float() * torch.exp(-math.log(10000) * steps)
        return self.mlp(torch.cat([angles.cos(), angles.sin()], 1).to(next(self.mlp.parameters()).dtype))


class FlowTransformer(nn.Module):
    """What the flow models have in common; see checkpoint.md for the sizes of the public ones.

    Args:
        torso_dtype: dtype of the blocks' weights and activations; in- and output layers stay as loaded.
    """

    def __init__(
        self, *, resolution: int, in_channels: int, model_channels: int, cond_channels: int, out_channels: int,
        num_blocks: int, num_heads: int | None = None, num_head_channels: int = 64, mlp_ratio: float = 4.0,
        pe_mode: str = "ape", rope_freq: Sequence[float] = (1.0, 10000.0), dtype: str = "float32", share_mod: bool = False,
        initialization: str = "vanilla", qk_rms_norm: bool = False, qk_rms_norm_cross: bool = False, use_checkpoint: bool = False,
    ) -> None:  # fmt: skip
        super().__init__()
        if pe_mode not in ("ape", "rope"):
            raise ValueError(f"pe_mode: expected 'ape' or 'rope', got {pe_mode!r}")
        if dtype not in _DTYPES:
            raise ValueError(f"dtype: expected one of {', '.join(_DTYPES)}, got {dtype!r}")
        heads = num_heads or model_channels // num_head_channels
        self.resolution, self.in_channels, self.out_channels = resolution, in_channels, out_channels
        self.cond_channels, self.head_dim = cond_channels, model_channels // heads
        self.rotary, self.rope_freq = pe_mode == "rope", (float(rope_freq[0]), float(rope_freq[1]))
        self.t_embedder = TimestepEmbedder(model_channels)
        if share_mod:
            self.adaLN_modulation = nn.Sequential(nn.SiLU(), nn.Linear(model_channels, 6 * model_channels))
        self.input_layer = nn.Linear(in_channels, model_channels)
        self.blocks = nn.ModuleList(
            Block(
                model_channels, cond_channels, heads, int(model_channels * mlp_ratio),
                rms_norm=qk_rms_norm, rms_norm_cross=qk_rms_norm_cross, shared=share_mod,
            )
            for _ in range(num_blocks)
        )  # fmt: skip
        self.out_norm = LayerNorm32(model_channels, eps=1e-5, elementwise_affine=False)
        self.out_layer = nn.Linear(model_channels, out_channels)
        self.torso_dtype = _DTYPES[dtype]
        self.blocks.to(self.torso_dtype)

    def _blocks(self) -> list[Block]:
        return cast("list[Block]", list(self.blocks))

    def encode_condition(self, cond: torch.Tensor) -> Condition:
        """Keys and values of image features [B, L, cond_channels] for every block, to pass as `cond` at every step."""
        if cond.dim() != 3 or cond.shape[2] != self.cond_channels:
            raise ValueError(f"cond: expected shape [B, L, {self.cond_channels}], got {list(cond.shape)}")
        packed = cond.flatten(0, 1).to(self.torso_dtype)
        return Condition([b.keys_values(packed) for b in self._blocks()], [cond.shape[1]] * len(cond))

    def run(
        self,
        tokens: torch.Tensor,
        positions: torch.Tensor,
        lengths: Sequence[int],
        t: torch.Tensor,
        cond: torch.Tensor | Condition,
    ) -> torch.Tensor:
        """Packed tokens [T, in_channels] at integer positions [T, 3] -> [T, out_channels]."""
        condition = cond if isinstance(cond, Condition) else self.encode_condition(cond)
        if len(condition.lengths) != len(lengths) or len(t) != len(lengths):
            raise ValueError(
                f"cond, t: expected {len(lengths)} entries like the tokens, got {len(condition.lengths)} and {len(t)}"
            )
        time = self.t_embedder(t)
        if hasattr(self, "adaLN_modulation"):
            time = self.adaLN_modulation(time)
        entries = None
        if len(lengths) > 1:
            each = [tokens.new_full((n,), i, dtype=torch.int32) for i, n in enumerate(lengths)]
            entries = torch.cat(each)  # no copy from the host, which a recording could not hold
        h = self.input_layer(tokens.to(self.input_layer.weight.dtype))
        turns = rotary_turns(positions, self.head_dim, self.rope_freq) if self.rotary else None
        if turns is None:
            h = h + sinusoids(positions, h.shape[1])
        step = Step(lengths, condition.lengths, turns, entries)
        stream = Stream(h.to(self.torso_dtype))
        time = time.to(self.torso_dtype)
        for block, context in zip(self._blocks(), condition.blocks, strict=True):
            stream = block(stream, time, context, step)
        h = stream.norm(self.out_norm, entries)[1]
        return self.out_layer(h.to(self.out_layer.weight.dtype)).to(tokens.dtype)
