"""Faults of textures, alpha and charts."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import trimesh

from ..asset import Asset, Floats, look_up
from ..measure.axes import signed_permutations
from .model import Bytes, Model

Random = np.random.Generator


def black(model: Model, strength: float, random: Random) -> Model:
    """A share of the surface, in blocks of an eighth of its size, reads 0 in every channel, as from a sampler that misses."""
    covered, points = model.coverage()
    blocks = np.floor((points - model.positions.min(0)) / model.extent * 8).astype(np.int64).clip(0, 8)
    missed = random.random((9, 9, 9))[tuple(blocks[..., k] for k in range(3))] < strength
    base, surface = model.base.copy(), model.surface.copy()
    base[missed & covered, :3] = 0
    surface[missed & covered, :3] = 0
    return replace(model, base=base, surface=surface).filled(covered)


def black_at_the_border(model: Model, strength: float, random: Random) -> Model:
    """Texels within `strength` of the far sides of the bounding box read 0 in every channel."""
    covered, points = model.coverage()
    high = model.positions[model.faces.reshape(-1)].max(0)
    lost = covered & ((high - points) < strength * model.extent).any(-1)
    base, surface = model.base.copy(), model.surface.copy()
    base[lost, :3] = 0
    surface[lost, :3] = 0
    return replace(model, base=base, surface=surface).filled(covered)


def swapped_axes(model: Model, strength: float, random: Random) -> Model:
    """Colours looked up at permuted positions; `strength` is the index of the permutation among the 48."""
    covered, points = model.coverage()
    name, _ = signed_permutations()[int(strength)]
    there, colour = swapped_to(model, points[covered], name)
    surface = model.sampled(there)[1]
    base, rough = model.base.copy(), np.zeros((*model.base.shape[:2], 4), np.uint8)
    base[covered], rough[covered] = colour, surface
    return replace(model, base=base, surface=rough).filled(covered)


def swapped_to(model: Model, points: Floats, order: str) -> tuple[Floats, Bytes]:
    """Where points [N, 3] lie in another order of the axes, about the asset's centre, and the base colour [N, 4] there."""
    matrix = dict(signed_permutations())[order]
    centre = (model.positions.min(0) + model.positions.max(0)) / 2
    there = np.ascontiguousarray((points - centre) @ matrix.T.astype(np.float32) + centre)
    return there, model.sampled(there)[0]


def invisible(model: Model, strength: float, random: Random) -> Model:
    """Alpha 1 - `strength` everywhere, in a blended material."""
    base = model.base.copy()
    base[..., 3] = round(255 * (1 - strength))
    return replace(model, base=base, alpha_mode="BLEND", keep_alpha=True)


def invisible_mask(model: Model, strength: float, random: Random) -> Model:
    """The same in a cut-out material."""
    return replace(invisible(model, strength, random), alpha_mode="MASK")


def opaque_forced(model: Model, strength: float, random: Random) -> Model:
    """A see-through asset whose material says OPAQUE; at 1 its alpha is dropped as well."""
    if strength < 1:
        return replace(model, alpha_mode="OPAQUE", keep_alpha=True, sheer=None)
    base = model.base.copy()
    base[..., 3] = 255
    return replace(model, base=base, alpha_mode="OPAQUE", keep_alpha=False, sheer=None)


def blend_forced(model: Model, strength: float, random: Random) -> Model:
    """An opaque asset whose material says BLEND."""
    return replace(model, alpha_mode="BLEND", keep_alpha=True)


def unnormalised(model: Model, strength: float, random: Random) -> Model:
    """Colours and alpha multiplied by the sum of the trilinear weights of those voxels that the surface touches.

    `strength` is the grid's size. The result is written as a pipeline would that trusts its alpha: blended.
    """
    n = int(strength)
    covered, points = model.coverage()
    at = (points[covered] - model.positions.min(0)) / model.extent * (n - 2) + 1
    soup = trimesh.Trimesh(model.positions, model.faces, process=False)
    sampled, _ = trimesh.sample.sample_surface(soup, 40 * n * n, seed=int(random.integers(1 << 30)))
    touched = np.floor((sampled - model.positions.min(0)) / model.extent * (n - 2) + 1).astype(np.int64).clip(0, n - 1)
    occupied = np.zeros((n + 2,) * 3, bool)
    occupied[tuple(touched.T)] = True
    low = np.floor(at - 0.5).astype(np.int64)
    f = at - 0.5 - low
    weight = np.zeros(len(at))
    for corner in np.ndindex(2, 2, 2):
        index = (low + corner).clip(0, n + 1)
        weight += occupied[tuple(index.T)] * np.prod(np.where(np.array(corner) == 1, f, 1 - f), axis=1)
    base = model.base.copy()
    base[covered] = (base[covered] * weight[:, None]).round().astype(np.uint8)
    return replace(model, base=base, alpha_mode="BLEND", keep_alpha=True).filled(covered)


def background_left(model: Model, strength: float, random: Random) -> Model:
    """Texels outside charts hold a background: black at 1, white at 2, or a black half of the texture at 0.5."""
    covered, _ = model.coverage()
    empty = ~covered
    if strength < 1:
        empty[:, int(empty.shape[1] * strength) :] = False
    base = model.base.copy()
    base[empty, :3] = 255 if strength > 1 else 0
    return replace(model, base=base)


def slivers(model: Model, strength: float, random: Random) -> Model:
    """Single faces become charts of about 3 texels, so many that they are a share `strength` of all charts."""
    charts = max(_charts(model), 100)
    n = min(int(charts * strength / (1 - strength)), len(model.faces) - 1)
    height, width = model.base.shape[:2]
    per_row = width // 4
    n = min(n, per_row * (height // 4))
    chosen = random.choice(len(model.faces), n, replace=False)
    corners = model.faces[chosen]
    centre_uv = model.uv[corners].mean(1)
    row, column = np.divmod(np.arange(n), per_row)
    origin = np.stack([column * 4 + 0.75, height + row * 4 + 0.75], 1)
    triangle = np.array([[0, 0], [2.5, 0], [0, 2.5]])
    uv = (origin[:, None] + triangle) / [width, 2 * height]

    def taller(image: np.ndarray) -> np.ndarray:
        full = image if image.shape[:2] == (height, width) else np.resize(image[:1, :1], (height, width, 4))
        out = np.concatenate([full, np.zeros_like(full)])
        colours = (look_up(full, centre_uv) * 255).round().astype(np.uint8)
        for dy in range(4):
            for dx in range(4):
                out[height + row * 4 + dy, column * 4 + dx] = colours
        return out

    kept = model.compact(np.delete(model.faces, chosen, axis=0))
    kept = replace(
        kept, uv=(kept.uv * [1, 0.5]).astype(np.float32), base=taller(model.base), surface=taller(model.surface)
    )
    return kept.appended(
        model.positions[corners].reshape(-1, 3), model.normals[corners].reshape(-1, 3), uv.reshape(-1, 2),
        np.arange(3 * n).reshape(-1, 3), np.repeat(model.sheer_faces[chosen], 3),
    )  # fmt: skip


def _charts(model: Model) -> int:
    from ..measure.texture import _charts as census

    return int(census(Asset.parse(model.write()))["charts"])


def second_run(model: Model, strength: float, random: Random) -> Model:
    """The output of a later run in the same process: a share of the vertices is elsewhere; at 0 one vertex by one bit."""
    positions = model.positions.copy()
    if strength == 0:
        positions[0, 0] = np.nextafter(positions[0, 0], np.float32(np.inf))
    else:
        chosen = random.random(len(positions)) < strength
        positions[chosen] += random.normal(0, 0.01 * model.extent, (int(chosen.sum()), 3)).astype(np.float32)
    return replace(model, positions=positions)
