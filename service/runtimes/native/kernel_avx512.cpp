// 16 lanes.
#if defined(__x86_64__) && defined(__GNUC__)
#pragma GCC target("avx512f,avx512bw,avx512dq,avx512vl,avx2,fma")
#include <immintrin.h>
#include <stdlib.h>

#include "kernel.h"

namespace avx512 {

constexpr int W = 16, ROWS = 10;
typedef float V __attribute__((vector_size(64)));

// 2^x = 2^floor(x) 2^fraction.
static inline V exp2v(V x) {
    const __m512 clamped = _mm512_min_ps((__m512)x, _mm512_set1_ps(126));  // far below, scalef gives 0
    const V f = (V)_mm512_reduce_ps(clamped, _MM_FROUND_TO_NEG_INF | _MM_FROUND_NO_EXC);
    const V p = power_of_fraction(f);
    return (V)_mm512_scalef_ps((__m512)p, clamped);
}

static inline V gate(V x) {
    const V d = 1 + exp2v(x);
    const V y = (V)_mm512_rcp14_ps((__m512)d);
    return y * (2 - d * y);
}

#include "kernel.inc"

}  // namespace avx512
#endif
