"""The package's promises as a whole: header against library, threads, operators under torch.library's own checks."""

import ctypes

import pytest
import torch
import trellis_mesh
from trellis_mesh._library import EXTENSION
from trellis_native.testing import assert_header_matches_cpu_library

VERTICES = torch.tensor([[0.0, 0, 0], [1, 0, 0], [0, 1, 0], [0, 0, 1], [1, 1, 1]])
FACES = torch.tensor([[0, 2, 1], [0, 1, 3], [0, 3, 2], [1, 2, 4]], dtype=torch.int32)
LABELS = torch.tensor([0, 0, 0, 1], dtype=torch.int32)

CALLS: dict[str, tuple[object, ...]] = {
    "edges": (FACES, 5, True),
    "connected_components": (FACES, 5),
    "face_normals": (VERTICES, FACES),
    "vertex_normals": (VERTICES, FACES, True),
    "unique_faces": (FACES, 5),
    "proper_faces": (VERTICES, FACES, 1e-24, 1e-12),
    "weld_vertices": (VERTICES,),
    "split_fans": (FACES, 5),
    "unify_orientation": (VERTICES, FACES, True),
    "component_sizes": (VERTICES, FACES, LABELS, 2),
    "fill_holes": (VERTICES, FACES, 10.0),
    "simplify": (VERTICES, FACES, 2, 1e-3, 10.0, 0.1),
}


def test_header_matches_the_cpu_library() -> None:
    assert_header_matches_cpu_library(EXTENSION)


def test_all_names_exist() -> None:
    assert all(hasattr(trellis_mesh, name) for name in trellis_mesh.__all__)


def test_a_negative_number_of_threads_is_refused() -> None:
    library = EXTENSION.library(torch.device("cpu"))
    assert library.function("set_num_threads")(ctypes.c_int(-1)) == 1
    assert library.last_error == "threads: expected 0 or more, got -1"


def test_sizes_that_do_not_fit_32_bits_are_refused_before_anything_is_read() -> None:
    state, count = ctypes.c_void_p(), ctypes.c_int64()
    with pytest.raises(ValueError, match=r"num_faces: expected 0 to \d+, got 1000000000000"):
        EXTENSION.call(
            "edges_begin",
            None,
            10**12,
            5,
            0,
            ctypes.byref(state),
            ctypes.byref(count),
            None,
            None,
            device=torch.device("cpu"),
        )
    with pytest.raises(ValueError, match=r"num_vertices: expected 0 to \d+, got -1"):
        EXTENSION.call(
            "edges_begin",
            None,
            0,
            -1,
            0,
            ctypes.byref(state),
            ctypes.byref(count),
            None,
            None,
            device=torch.device("cpu"),
        )


@pytest.mark.parametrize("name", sorted(CALLS))
def test_operators_pass_opcheck(name: str) -> None:
    torch.library.opcheck(getattr(torch.ops.trellis_mesh, name).default, CALLS[name])
