// 8 lanes.
#include "kernel.h"
#ifdef CTR_X86
#pragma GCC target("avx2,fma")
#include <stdlib.h>

namespace avx2 {

constexpr int W = 8, ROWS = 5;
#include "generic.inc"
#include "layers.inc"
#include "attention.inc"
#include "kernel.inc"

}  // namespace avx2
#endif
