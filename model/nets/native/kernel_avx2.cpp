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
#include "behaviors.inc"
#include "dice.inc"
#include "table.inc"

const Kernels kernels = {"avx2", TABLE};

}  // namespace avx2
#endif
