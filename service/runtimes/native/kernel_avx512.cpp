// 16 lanes.
#include "kernel.h"
#ifdef CTR_X86
#pragma GCC target("avx512f,avx512bw,avx512dq,avx512vl,avx2,fma")
#include <immintrin.h>
#include <stdlib.h>

namespace avx512 {

#include "avx512.inc"
#include "layers.inc"
#include "attention.inc"
#include "kernel.inc"

}  // namespace avx512
#endif
