// The entry points of what has a version per instruction set.
#include "kernel.h"

namespace {
bool same(const char *a, const char *b) {
    while (*a && *a == *b) a++, b++;
    return *a == *b;
}

// Version `index`, fastest first; null after the last. `here`: whether this processor can run it.
const Kernels *version(int64_t index, bool &here) {
    here = true;
#ifdef CTR_X86
    __builtin_cpu_init();
    const bool medium = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
    const bool wide = medium && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512dq") &&
                      __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512vl");
    if (index == 0) return here = wide, &avx512::kernels;
    if (index == 1) return here = medium, &avx2::kernels;
    index -= 2;
#endif
    return index == 0 ? &portable::kernels : nullptr;
}

const Kernels *named(const char *name) {
    bool here;
    for (int64_t i = 0; const Kernels *found = version(i, here); i++)
        if (here && same(found->name, name)) return found;
    return nullptr;
}
}  // namespace

#pragma GCC visibility push(default)
extern "C" {
// The name of version `index`, "" if this processor cannot run it, null after the last.
const char *ctr_path(int64_t index) {
    bool here;
    const Kernels *found = version(index, here);
    return found && !here ? "" : found ? found->name : nullptr;
}

int ctr_gated_forward(const char *name, const Gated *job) {
    const Kernels *found = named(name);
    return found ? found->gated_forward(*job) : NO_SUCH_PATH;
}

int ctr_gated_backward(const char *name, const Gated *job) {
    const Kernels *found = named(name);
    return found ? found->gated_backward(*job) : NO_SUCH_PATH;
}

int ctr_attention_forward(const char *name, const Attention *job) {
    const Kernels *found = named(name);
    return found ? found->attention_forward(*job) : NO_SUCH_PATH;
}

int ctr_attention_backward(const char *name, const Attention *job) {
    const Kernels *found = named(name);
    return found ? found->attention_backward(*job) : NO_SUCH_PATH;
}
}
#pragma GCC visibility pop
