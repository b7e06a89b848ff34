// 8 lanes.
#if defined(__x86_64__) && defined(__GNUC__)
#pragma GCC target("avx2,fma")
#include <stdlib.h>

#include "kernel.h"

namespace avx2 {

constexpr int W = 8, ROWS = 5;
#include "generic.inc"
#include "kernel.inc"

}  // namespace avx2
#endif
