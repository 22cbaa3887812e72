"""One attention for all models: packed sequences of any lengths, over the backend chosen at start."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F


def attend(
    q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, lengths: Sequence[int], key_lengths: Sequence[int]
) -> torch.Tensor:
    """Softmax attention of each entry's queries over its own keys, with scale 1 / sqrt(D).

    Args:
        q: [sum(lengths), H, D], entries one after the other.
        k, v: [sum(key_lengths), H, D].

    Returns:
        [sum(lengths), H, D].
    """
    if len(set(lengths)) == 1 and len(set(key_lengths)) == 1:  # equal lengths: one batched call
        n = len(lengths)
        batched = (x.unflatten(0, (n, -1)).transpose(1, 2) for x in (q, k, v))
        return F.scaled_dot_product_attention(*batched).transpose(1, 2).flatten(0, 1)
    out = []
    for part in zip(q.split(list(lengths)), k.split(list(key_lengths)), v.split(list(key_lengths)), strict=True):
        out.append(F.scaled_dot_product_attention(*(x.transpose(0, 1)[None] for x in part))[0].transpose(0, 1))
    return torch.cat(out)
