// 16 lanes, and the hidden layers of the attention in bfloat16 on AMX.
#include "kernel.h"
#ifdef CTR_X86
#pragma GCC target("avx512f,avx512bw,avx512dq,avx512vl,avx512bf16,avx2,fma,amx-tile,amx-bf16")
#include <immintrin.h>
#include <stdlib.h>

namespace amx {

#include "avx512.inc"
#include "layers.inc"
#include "attention_amx.inc"
#include "kernel.inc"

}  // namespace amx
#endif
