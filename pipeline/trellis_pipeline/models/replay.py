"""A flow model's forward pass recorded as a CUDA graph, for sampling: the same kernels, without the host's part.

A pass launches some 400 kernels; for a few thousand tokens the GPU waits for the host between them. The first pass of
each kind (batch size, condition) runs as it is, which also warms up libraries; the second is recorded; later ones are
replayed with the same bits. The recordings of one object share memory of their own, freed with it: they are never
replayed at the same time, and a result is read before the next call.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch

from ..sparse import SparseTensor

MOST_TOKENS = 8192
"""Passes over more tokens keep the GPU busy by themselves (docs/performance.md), and their recordings would hold
more memory."""


@dataclass
class _Recording:
    graph: torch.cuda.CUDAGraph
    feats: torch.Tensor
    t: torch.Tensor
    out: torch.Tensor


class Replay:
    """Calls `model` on states of unchanging shape, conditions and inputs; results equal those of `model` bit for bit.

    A result lives until the next call: copy what must last longer.
    """

    def __init__(self, model: Any) -> None:
        self._model = model
        self._recordings: dict[int, _Recording | None] = {}
        self._conditions: list[Any] = []  # kept, so that no other object can have the id of one
        self._stream: torch.cuda.Stream | None = None
        self._pool: Any = None

    def __call__(self, x: Any, t: torch.Tensor, cond: Any, **inputs: Any) -> Any:
        """`model(x, t, cond, **inputs)`. `cond` must be the same object at each step that is meant to be replayed."""
        feats = x.feats if isinstance(x, SparseTensor) else x
        key = id(cond)
        if key not in self._recordings:
            self._recordings[key] = None
            self._conditions.append(cond)
            return self._model(x, t, cond, **inputs)
        recording = self._recordings[key]
        if recording is None:
            recording = self._recordings[key] = self._record(x, t, cond, inputs)
        recording.feats.copy_(feats)
        recording.t.copy_(t)
        recording.graph.replay()
        return x.replace(recording.out) if isinstance(x, SparseTensor) else recording.out

    def _record(self, x: Any, t: torch.Tensor, cond: Any, inputs: dict[str, Any]) -> _Recording:
        feats = (x.feats if isinstance(x, SparseTensor) else x).clone()
        t = t.clone()
        state = x.replace(feats) if isinstance(x, SparseTensor) else feats
        if isinstance(state, SparseTensor):
            _ = state.lengths  # read from the device now: a recording may not wait for it
        graph = torch.cuda.CUDAGraph()
        if self._stream is None:  # one for all: libraries keep scratch memory for every stream that they saw
            self._stream, self._pool = torch.cuda.Stream(feats.device), torch.cuda.graph_pool_handle()
        stream = self._stream
        stream.wait_stream(torch.cuda.current_stream(feats.device))
        with torch.cuda.stream(stream):
            graph.capture_begin(pool=self._pool, capture_error_mode="thread_local")
            try:
                out = self._model(state, t, cond, **inputs)
            finally:
                graph.capture_end()
        torch.cuda.current_stream(feats.device).wait_stream(stream)
        return _Recording(graph, feats, t, out.feats if isinstance(out, SparseTensor) else out)


def pays(x: torch.Tensor | SparseTensor) -> bool:
    """Whether recording a pass over `x` is faster than launching it each time."""
    if isinstance(x, SparseTensor):
        return x.feats.is_cuda and len(x.feats) <= MOST_TOKENS
    return x.is_cuda and x.shape[0] * x[0, 0].numel() <= MOST_TOKENS
