"""The C-header reader: what it accepts, and that it refuses what it cannot read."""

import ctypes

import pytest
from trellis_native import parse_header

HEADER = """
/* TK_API int in_a_comment(int x); */
#define NOT(x) TK_API int not_a_declaration(int x); \\
    still the macro
// TK_API int nor_here(void);
TK_API const char* tk_t_last_error(void);
TK_API int tk_t_run(const float* points, int64_t n,
                    double
                    scale, void** state, int device, void* stream);
TK_API void tk_t_end(void *state);
"""


def test_functions_parameters_and_types_are_read():
    functions = parse_header(HEADER)
    assert list(functions) == ["tk_t_last_error", "tk_t_run", "tk_t_end"]
    run = functions["tk_t_run"]
    assert [(p.type, p.name) for p in run.parameters] == [
        ("const float*", "points"), ("int64_t", "n"), ("double", "scale"), ("void**", "state"), ("int", "device"), ("void*", "stream"),
    ]  # fmt: skip
    expected = [ctypes.c_void_p, ctypes.c_int64, ctypes.c_double, ctypes.c_void_p, ctypes.c_int, ctypes.c_void_p]
    assert [p.ctype for p in run.parameters] == expected
    assert run.restype is ctypes.c_int
    assert run.takes_device
    assert functions["tk_t_last_error"].restype is ctypes.c_char_p
    assert functions["tk_t_last_error"].parameters == ()
    assert functions["tk_t_end"].restype is None
    assert not functions["tk_t_end"].takes_device


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("TK_API int f(short x);", "unknown C type 'short'"),
        ("TK_API unknown f(int x);", "unknown C type 'unknown'"),
        ("TK_API int f(int);", "cannot read the parameter 'int'"),
        ("TK_API int f(int x) { return x; }", "1 declarations are marked TK_API but 0 could be read"),
        ("TK_API int f(int (*callback)(int));", "could be read"),
        ("TK_API int f(int x); TK_API int f(int x);", "f is declared twice"),
    ],
)
def test_what_cannot_be_read_is_an_error(text, message):
    with pytest.raises(ValueError, match=message.replace("(", r"\(")):
        parse_header(text)
