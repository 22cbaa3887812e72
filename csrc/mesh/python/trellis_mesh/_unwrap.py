"""UV unwrapping: charts, their layout in a texture, and the measure of both."""

from __future__ import annotations

import ctypes
from dataclasses import dataclass
from typing import Literal, cast, overload

import torch
from trellis_native import check

from . import _flat, _flat_measure
from ._library import EXTENSION, OPS

METHODS = ("fast", "xatlas")
_MAX_RESOLUTION = 65536
_MAX_PADDING = 1024.0
_MIN_STRETCH = 1.1


@dataclass(frozen=True)
class UnwrapReport:
    """What `measure_uv` found. Stretch is that of Sander, Snyder, Gortler and Hoppe, "Texture Mapping Progressive
    Meshes" (2001), scaled so that 1 is a layout without distortion whose density is the same everywhere."""

    charts: int
    """Parts of the texture that hang together by edges of faces."""
    stretch_l2: float
    """Root of the mean squared stretch over the surface, over faces that have an area there and in the texture."""
    stretch_linf: float
    """Largest stretch of any such face in any direction."""
    utilisation: float
    """Share of the unit square that faces cover (sum of their areas, so overlaps count twice)."""
    overlapping_faces: int
    """Faces that reach into another one by more than 2^-22 of the texture's side."""
    flipped_faces: int
    """Faces turned over by more than that, against the rest of their chart."""
    mirrored_charts: int
    """Charts that lie mirrored as a whole: harmless for colours, not for tangent-space normals of every renderer.
    `unwrap_uv` with method "fast" makes none."""
    outside_faces: int
    """Faces with a corner outside [0, 1]^2."""
    collapsed_faces: int
    """Faces with an area on the surface but none in the texture."""
    resolution: int
    """Texels along a side of the texture, for the figures below."""
    texels_per_face: float
    """Median over faces with an area on the surface."""
    faces_below_one_texel: int
    """Faces with an area on the surface and less than one texel."""
    small_chart_texels: float
    """The limit for the next figure."""
    small_charts: int
    """Charts of fewer texels than that."""

    @property
    def valid(self) -> bool:
        """No face overlaps, is turned over, lies outside, or has lost its texels."""
        return not (self.overlapping_faces or self.flipped_faces or self.outside_faces or self.collapsed_faces)


@dataclass(frozen=True)
class UvFaces:
    """What `measure_uv` found for each face."""

    chart: torch.Tensor
    """int32 [F]: charts numbered by their first face."""
    flipped: torch.Tensor
    """bool [F]"""
    overlapping: torch.Tensor
    """bool [F]"""
    outside: torch.Tensor
    """bool [F]"""
    collapsed: torch.Tensor
    """bool [F]"""


Unwrapped = tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]


@OPS.define(
    "unwrap_uv(Tensor vertices, Tensor faces, int resolution, float padding, float max_stretch) "
    "-> (Tensor, Tensor, Tensor, Tensor)"
)
def _unwrap(
    vertices: torch.Tensor, faces: torch.Tensor, resolution: int, padding: float, max_stretch: float
) -> Unwrapped:
    device = vertices.device
    if device.type == "cuda":
        return _flat.unwrap(vertices, faces, resolution, padding, max_stretch)
    state, sizes = ctypes.c_void_p(), (ctypes.c_int64 * 2)()
    arguments = (vertices, faces, len(vertices), len(faces), resolution, padding, max_stretch)
    EXTENSION.call("unwrap_begin", *arguments, ctypes.byref(state), sizes, device=device)
    try:
        new_faces, chart = torch.empty_like(faces), faces.new_empty(len(faces))
        vertex_map, uv = faces.new_empty(sizes[0]), vertices.new_empty(sizes[0], 2)
        EXTENSION.call("unwrap_fill", state, new_faces, vertex_map, uv, chart, device=device)
    finally:
        EXTENSION.call("unwrap_end", state, device=device)
    return new_faces, vertex_map, uv, chart


@OPS.fake("unwrap_uv")
def _(vertices: torch.Tensor, faces: torch.Tensor, resolution: int, padding: float, max_stretch: float) -> Unwrapped:
    count = torch.library.get_ctx().new_dynamic_size()
    new = (torch.empty_like(faces), faces.new_empty(count), vertices.new_empty(count, 2))
    return (*new, faces.new_empty(faces.shape[0]))


@OPS.define("uv_stretch(Tensor vertices, Tensor faces, Tensor uv) -> Tensor")
def _uv_stretch(vertices: torch.Tensor, faces: torch.Tensor, uv: torch.Tensor) -> torch.Tensor:
    out = vertices.new_empty(len(faces), 4)
    EXTENSION.call("uv_stretch", vertices, faces, uv, len(faces), out, device=vertices.device)
    return out


@OPS.fake("uv_stretch")
def _(vertices: torch.Tensor, faces: torch.Tensor, uv: torch.Tensor) -> torch.Tensor:
    return vertices.new_empty(faces.shape[0], 4)


def _textured_mesh(vertices: object, faces: object, uv: object) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    v, f = check.mesh(vertices, faces)
    t = check.tensor("uv", uv, dtype=torch.float32, shape=[len(v), 2], like=v)
    return v, f, t


def uv_stretch(vertices: torch.Tensor, faces: torch.Tensor, uv: torch.Tensor) -> torch.Tensor:
    """How each face's texture is stretched over the surface.

    Args:
        vertices: float32 [V, 3].
        faces: int32 or int64 [F, 3].
        uv: float32 [V, 2].

    Returns:
        float32 [F, 4]: the largest and the smallest singular value of the map from texture to surface (infinite and 0
        for a face without area in the texture, 0 and 0 without area on the surface either), the area on the surface,
        and the signed area in the texture, negative where the face is turned over.

    Source: Sander, Snyder, Gortler and Hoppe, "Texture Mapping Progressive Meshes" (2001), section 3.
    """
    stretch: torch.Tensor = _uv_stretch(*_textured_mesh(vertices, faces, uv))
    return stretch


@overload
def measure_uv(
    vertices: torch.Tensor,
    faces: torch.Tensor,
    uv: torch.Tensor,
    *,
    resolution: int = ...,
    small_chart_texels: float = ...,
    return_faces: Literal[False] = ...,
) -> UnwrapReport: ...


@overload
def measure_uv(
    vertices: torch.Tensor,
    faces: torch.Tensor,
    uv: torch.Tensor,
    *,
    resolution: int = ...,
    small_chart_texels: float = ...,
    return_faces: Literal[True],
) -> tuple[UnwrapReport, UvFaces]: ...


def measure_uv(
    vertices: torch.Tensor,
    faces: torch.Tensor,
    uv: torch.Tensor,
    *,
    resolution: int = 2048,
    small_chart_texels: float = 8.0,
    return_faces: bool = False,
) -> UnwrapReport | tuple[UnwrapReport, UvFaces]:
    """Judges a texture layout, whoever made it: stretch, utilisation, overlaps, turned faces, sizes.

    Overlaps are found by testing all pairs of faces whose boxes meet, not by sampling.

    Args:
        vertices: float32 [V, 3], finite.
        faces: int32 or int64 [F, 3].
        uv: float32 [V, 2], in [-2^20, 2^20]. The texture is [0, 1]^2; faces outside are counted, not refused.
        resolution: texels along a side of the texture.
        small_chart_texels: charts of fewer texels count as small.
        return_faces: also return what was found for each face.

    Returns:
        `UnwrapReport`, or a pair of it and `UvFaces`.
    """
    v, f, t = _textured_mesh(vertices, faces, uv)
    resolution = check.positive_int("resolution", resolution, maximum=_MAX_RESOLUTION)
    limit = check.number("small_chart_texels", small_chart_texels, minimum=0.0)
    if v.device.type == "cuda":
        found, chart, fault = _flat_measure.measure(v, f, t, resolution, limit)
    else:
        figures = torch.empty(10, dtype=torch.float64)
        chart, fault = f.new_empty(len(f)), f.new_empty(len(f), dtype=torch.uint8)
        arguments = (v, f, t, len(v), len(f), resolution, limit, figures, chart, fault)
        EXTENSION.call("measure_uv", *arguments, device=v.device)
        found = figures.tolist()
    stretch: torch.Tensor = _uv_stretch(v, f, t)
    texels = stretch[:, 3].abs()[stretch[:, 2] > 0].double() * resolution**2
    charts, mirrored, small, l2, linf, used, flipped, overlapping, outside, collapsed = found
    report = UnwrapReport(
        charts=int(charts),
        stretch_l2=l2,
        stretch_linf=linf,
        utilisation=used,
        overlapping_faces=int(overlapping),
        flipped_faces=int(flipped),
        mirrored_charts=int(mirrored),
        outside_faces=int(outside),
        collapsed_faces=int(collapsed),
        resolution=resolution,
        texels_per_face=float(texels.median()) if len(texels) else 0.0,
        faces_below_one_texel=int((texels < 1).sum()),
        small_chart_texels=limit,
        small_charts=int(small),
    )
    if not return_faces:
        return report
    bits = [(fault >> i & 1).bool() for i in range(4)]
    return report, UvFaces(chart, flipped=bits[0], overlapping=bits[1], outside=bits[2], collapsed=bits[3])


# The longest side of what xatlas is given: the slivers of a million faces have an area for it, too.
_XATLAS_EXTENT = 1000.0


def _unwrap_with_xatlas(v: torch.Tensor, f: torch.Tensor, resolution: int, padding: float) -> Unwrapped:
    """As `unwrap_uv`, through the xatlas package; never an empty or partial result."""
    try:
        import xatlas
    except ImportError as error:
        raise ImportError(
            "method='xatlas' needs the xatlas package: pip install 'trellis-mesh[xatlas]', or use method='fast'"
        ) from error
    if padding != int(padding):
        raise ValueError(f"padding: expected a whole number of texels with method='xatlas', got {padding}")
    if len(f) == 0:
        raise ValueError("faces: expected at least one face with method='xatlas', got none")
    if not bool(v[f.long()].isfinite().all()):
        raise ValueError("vertices: expected finite coordinates, got NaN or infinity")
    atlas = xatlas.Atlas()
    # It takes faces of less than 1.2e-7 for degenerate, whatever the size of the whole: charts are alike at any scale.
    extent = float((v.amax(0) - v.amin(0)).max())
    scale = _XATLAS_EXTENT / extent if extent > 0 else 1.0
    atlas.add_mesh((v * scale).cpu().numpy(), f.cpu().numpy().astype("uint32"))
    pack = xatlas.PackOptions()
    pack.resolution, pack.padding = resolution, int(padding)
    atlas.generate(xatlas.ChartOptions(), pack)
    remedy = "clean the mesh first (remove_degenerate_faces, repair_non_manifold_edges), or use method='fast'"
    if atlas.chart_count == 0 or atlas.atlas_count != 1:
        raise RuntimeError(
            f"xatlas made {atlas.chart_count} charts in {atlas.atlas_count} textures of {len(f)} faces, "
            f"expected at least one in one; {remedy}"
        )
    indices, corners, coordinates = atlas[0]
    vertex_map = torch.from_numpy(indices.astype("int32"))
    faces = torch.from_numpy(corners.astype("int32")).view(-1, 3)
    if faces.shape != f.shape or not torch.equal(vertex_map[faces.long()], f.cpu()):
        raise RuntimeError(f"xatlas gave back other faces than the {len(f)} it got ({len(faces)}); {remedy}")
    # It divides by the texture's width and height, which differ; the longer serves both, for square texels.
    size = torch.tensor([atlas.width, atlas.height], dtype=torch.float32)
    uv = torch.from_numpy(coordinates.astype("float32")) * (size / size.max())
    if not bool(uv.isfinite().all()):
        raise RuntimeError(f"xatlas gave texture coordinates that are not finite; {remedy}")
    chart = torch.full((len(f),), -1, dtype=torch.int32)
    for i in range(atlas.get_mesh_chart_count(0)):
        chart[torch.from_numpy(atlas.get_mesh_chart(0, i).faces.astype("int64"))] = i
    if lost := int(_lost_faces(v.cpu()[vertex_map.long()], faces, uv, chart).sum()):
        raise RuntimeError(f"xatlas gave {lost} of {len(f)} faces no place in the texture; {remedy}")
    return cast(Unwrapped, tuple(t.to(f.device) for t in (faces, vertex_map, uv, chart)))


def _lost_faces(v: torch.Tensor, f: torch.Tensor, uv: torch.Tensor, chart: torch.Tensor) -> torch.Tensor:
    """bool [F]: faces that have an area but are in no chart. (xatlas leaves faces it calls degenerate at uv 0.)"""
    stretch: torch.Tensor = _uv_stretch(v, f, uv)
    return (chart < 0) & (stretch[:, 2] > 1e-6 * stretch[:, 2].mean())


@overload
def unwrap_uv(
    vertices: torch.Tensor,
    faces: torch.Tensor,
    *,
    method: str = ...,
    resolution: int = ...,
    padding: float = ...,
    max_stretch: float = ...,
    return_report: Literal[False] = ...,
) -> Unwrapped: ...


@overload
def unwrap_uv(
    vertices: torch.Tensor,
    faces: torch.Tensor,
    *,
    method: str = ...,
    resolution: int = ...,
    padding: float = ...,
    max_stretch: float = ...,
    return_report: Literal[True],
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor, UnwrapReport]: ...


def unwrap_uv(
    vertices: torch.Tensor,
    faces: torch.Tensor,
    *,
    method: str = "fast",
    resolution: int = 2048,
    padding: float = 2.0,
    max_stretch: float = 4.0,
    return_report: bool = False,
) -> Unwrapped | tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor, UnwrapReport]:
    """Gives a mesh texture coordinates: cuts it into charts, flattens them and packs them into one square texture.

    Every face comes back, in its place and with its corners in their order; vertices are repeated where charts meet,
    and those that no face names are left out. Texels have the same density everywhere.

    "fast" never overlaps faces, turns none over and mirrors no chart: a layout that would is divided until it does not.
    On the CPU it solves for each chart's layout; on CUDA it runs other steps of the same kind on all charts at once
    (`_flat`), which make more, smaller charts, so the two devices' results differ. The mesh may have borders, handles,
    non-manifold edges, faces wound against each other (charts end there) and faces without area (all corners at one
    place of a neighbouring chart, without texels).
    Vertices at one position count as one when charts are formed. Results are the same bits for any number of threads.
    "xatlas" is that package (serial, on the CPU whatever the tensors' device); it may mirror charts and, rarely, overlap
    or collapse faces: see the report.

    Args:
        vertices: float32 [V, 3]; those that faces name finite.
        faces: int32 or int64 [F, 3].
        method: "fast" or "xatlas".
        resolution: texels along a side of the texture that `padding` is meant for.
        padding: texels between charts, half as many along the edges of the texture. xatlas takes whole numbers and
            keeps them approximately, since it chooses the texture's size.
        max_stretch: "fast" only: no direction in a face that is not degenerate is stretched or squeezed by more,
            before a factor common to a whole chart that evens out its density.
        return_report: also return `measure_uv` of the result.

    Returns:
        vertices float32 [N, 3], faces int32 [F, 3], uv float32 [N, 2] in [0, 1]^2, vertex_map int32 [N] with
        new vertices == vertices[vertex_map] and vertex_map[new faces] == faces; and an `UnwrapReport` if asked.

    Raises:
        ValueError: coordinates that are not finite, indices out of range, or so many charts that the padding alone
            fills the texture.
        ImportError: xatlas is asked for but not installed.
        RuntimeError: xatlas lost faces. Never an empty or partial result.

    Sources: Cohen-Steiner, Alliez and Desbrun, "Variational Shape Approximation" (2004), for charts; Rabinovich,
    Poranne, Panozzo and Sorkine-Hornung, "Scalable Locally Injective Mappings" (2017), for their layout; Levy, Petitjean,
    Ray and Maillot, "Least Squares Conformal Maps for Automatic Texture Atlas Generation" (2002), for packing.
    """
    v, f = check.mesh(vertices, faces)
    check.choice("method", method, METHODS)
    resolution = check.positive_int("resolution", resolution, maximum=_MAX_RESOLUTION)
    gap = check.number("padding", padding, minimum=0.0, maximum=_MAX_PADDING)
    limit = check.number("max_stretch", max_stretch, minimum=_MIN_STRETCH)
    if method == "xatlas":
        new_faces, vertex_map, uv, _ = _unwrap_with_xatlas(v, f, resolution, gap)
    else:
        new_faces, vertex_map, uv, _ = _unwrap(v, f, resolution, gap, limit)
    new_vertices = v[vertex_map.long()]
    if return_report:
        return new_vertices, new_faces, uv, vertex_map, measure_uv(new_vertices, new_faces, uv, resolution=resolution)
    return new_vertices, new_faces, uv, vertex_map
