// 8 lanes.
#include "kernel.h"
#ifdef CTR_X86
#pragma GCC target("avx2,fma")
#include <stdlib.h>

#include "parallel.h"

namespace avx2 {

constexpr int W = 8, ROWS = 4;
#include "vector.inc"
#include "product.inc"
#include "gated.inc"
#include "attention.inc"

const Kernels kernels = {"avx2", gated_forward, gated_backward, attention_forward, attention_backward};

}  // namespace avx2
#endif
