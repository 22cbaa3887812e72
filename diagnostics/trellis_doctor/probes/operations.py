"""Runs one operation of each extension named as argument on an input whose answer is known."""

import importlib
import json
import math
import sys
from typing import Any

sys.path[:] = [p for p in sys.path if not p.endswith("trellis_doctor/probes")]


def say(**facts: Any) -> None:
    print("TRELLIS-DOCTOR " + json.dumps(facts), flush=True)


say(stage="importing torch")
import torch  # noqa: E402


def close(have: Any, want: Any, tolerance: float = 1e-5) -> bool:
    if isinstance(want, list):
        return (
            isinstance(have, list)
            and len(have) == len(want)
            and all(close(h, w, tolerance) for h, w in zip(have, want, strict=True))
        )
    return isinstance(have, (int, float)) and math.isfinite(have) and abs(have - want) <= tolerance


def compare(have: Any, want: Any, tolerance: float = 1e-5) -> str:
    return "right" if close(have, want, tolerance) else f"gave {str(have)[:200]}, not {str(want)[:200]}"


def sparse(package: Any, device: str, other: str) -> str:
    feats = torch.tensor([[1.0], [3.0]], device=device)
    coords = torch.tensor([[0, 0, 0, 0], [0, 1, 0, 0]], dtype=torch.int32, device=other)
    points = torch.tensor([[[0.5, 0.5, 0.5], [1.0, 0.5, 0.5]]], device=device)
    return compare(package.grid_sample_3d(feats, coords, (1, 2, 2, 2), points).tolist(), [[[1.0], [2.0]]])


def mesh(package: Any, device: str, other: str) -> str:
    vertices = torch.tensor([[0.0, 0.0, 0.0], [1.0, 0.0, 0.0], [0.0, 1.0, 0.0]], device=device)
    faces = torch.tensor([[0, 1, 2]], dtype=torch.int32, device=other)
    return compare(package.vertex_normals(vertices, faces).tolist(), [[0.0, 0.0, 1.0]] * 3)


def voxel(package: Any, device: str, other: str) -> str:
    coords = torch.tensor([[0, 0, 0], [0, 0, 1], [0, 1, 0], [0, 1, 1]], dtype=torch.int32, device=device)
    half = torch.tensor([[0.5, 0.5, 0.5]] * 4, device=device)
    crossed = torch.tensor([[True, False, False]] + [[False] * 3] * 3, device=other)
    box = [[0.0, 0.0, 0.0], [2.0, 2.0, 2.0]]
    vertices, faces = package.dual_grid_to_mesh(coords, half, crossed, None, aabb=box, grid_size=2)
    want = [[0.5, 0.5, 0.5], [0.5, 0.5, 1.5], [0.5, 1.5, 0.5], [0.5, 1.5, 1.5]]
    return compare([vertices.tolist(), len(faces.tolist())], [want, 2])


def raster(package: Any, device: str, other: str) -> str:
    clip = torch.tensor([[[-1.0, -1.0, 0.0, 1.0], [3.0, -1.0, 0.0, 1.0], [-1.0, 3.0, 0.0, 1.0]]], device=device)
    faces = torch.tensor([[0, 1, 2]], dtype=torch.int32, device=other)
    image = package.rasterize(clip, faces, (2, 2)).tolist()
    return compare([[texel[3] for texel in line] for line in image[0]], [[1.0, 1.0], [1.0, 1.0]])


def shade(package: Any, device: str, other: str) -> str:
    light = package.EnvironmentLight.from_latlong(torch.tensor([[[1.0, 1.0, 1.0]] * 32] * 16, device=device))
    at = torch.tensor([[0.0, 0.0, 0.0]], device=device)
    up = torch.tensor([[0.0, 0.0, 1.0]], device=device)
    white = torch.tensor([[1.0, 1.0, 1.0]], device=other)
    metal, rough = torch.tensor([[1.0]], device=device), torch.tensor([[0.2]], device=device)
    view = torch.tensor([[0.0, 0.0, 3.0]], device=device)
    # White metal under a white sky is white, but for the few per cent that split-sum keeps back.
    return compare(light.shade(at, up, white, metal, rough, view).tolist(), [[0.95, 0.95, 0.95]], 0.1)


CHECKS = {"sparse": sparse, "mesh": mesh, "voxel": voxel, "raster": raster, "shade": shade}
DEVICES = ["cpu"] + (["cuda"] if torch.cuda.is_available() else [])


def examine(name: str) -> dict[str, Any]:
    """The result on each device, and what a call with tensors on two devices does."""
    say(stage=f"importing trellis_{name}")
    try:
        package = importlib.import_module(f"trellis_{name}")
    except BaseException as error:
        return {"failed": f"cannot be imported: {type(error).__name__}: {error}"[:400]}
    results = {}
    for device in DEVICES:
        say(stage=f"trellis_{name} on {device}")
        try:
            results[device] = CHECKS[name](package, device, device)
        except Exception as error:
            results[device] = f"{type(error).__name__}: {error}"[:400]
    mixed = None
    if results["cpu"] == "right":
        say(stage=f"trellis_{name} with tensors on two devices")
        try:
            CHECKS[name](package, "cpu", DEVICES[1] if len(DEVICES) > 1 else "meta")
            mixed = "it computed something"
        except (ValueError, TypeError):
            mixed = "refused"
        except Exception as error:
            mixed = f"{type(error).__name__} instead of ValueError: {error}"[:300]
    return {"devices": results, "mixed": mixed}


for argument in sys.argv[1:]:
    say(**{argument: examine(argument)})
say(stage="done")
