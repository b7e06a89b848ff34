// 16 lanes.
#include "kernel.h"
#ifdef CTR_X86
#pragma GCC target("avx512f,avx512bw,avx512dq,avx512vl,avx2,fma")
#include <immintrin.h>
#define CTR_WIDE 1
#include <stdlib.h>

#include "parallel.h"

namespace avx512 {

constexpr int W = 16, ROWS = 8;
#include "vector.inc"
#include "product.inc"
#include "gated.inc"
#include "attention.inc"
#include "behaviors.inc"
#include "dice.inc"
#include "table.inc"

const Kernels kernels = {"avx512", TABLE};

}  // namespace avx512
#endif
