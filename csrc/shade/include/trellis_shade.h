/* trellis_shade: environment lighting: split-sum prefiltering and PBR shading.
 *
 * Conventions of every function here: see trellis/abi.h. Pointers are to contiguous row-major arrays that
 * the caller owns, on the device given by `device` (an index of CUDA, or TK_DEVICE_CPU with a null stream).
 */
#ifndef TRELLIS_SHADE_H
#define TRELLIS_SHADE_H

#include "trellis/abi.h"

/* What the last failing call of this thread said; empty if it succeeded. */
TK_API const char* tk_shade_last_error(void);
/* Version of the package. */
TK_API const char* tk_shade_version(void);
/* SHA-256 of the header this library was compiled from, in hexadecimal. */
TK_API const char* tk_shade_abi(void);
/* CPU only. Threads for later calls; 0 returns to the default (TRELLIS_NUM_THREADS, else all cores). */
TK_API int tk_shade_set_num_threads(int threads);

#endif
