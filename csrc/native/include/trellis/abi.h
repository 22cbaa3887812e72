/* The calling convention shared by every extension: plain C99, no torch, no Python.
 *
 * Every function that can fail returns one of these codes; tk_<ext>_last_error() then holds, for the
 * calling thread, a sentence about what went wrong. Python turns the code into an exception
 * (trellis_native/_extension.py holds the other half of this table).
 */
#ifndef TRELLIS_ABI_H
#define TRELLIS_ABI_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
#define TK_API extern "C" __attribute__((visibility("default")))
#else
#define TK_API __attribute__((visibility("default")))
#endif

enum {
    TK_OK = 0,
    TK_INVALID_ARGUMENT = 1, /* ValueError */
    TK_OUT_OF_MEMORY = 2,    /* MemoryError */
    TK_CUDA_ERROR = 3,       /* RuntimeError */
    TK_INTERNAL = 4          /* RuntimeError: a bug of ours */
};

/* `device` of every function: an index of CUDA, or this for the CPU (its `stream` is then null). */
enum { TK_DEVICE_CPU = -1 };

#endif
