// The library's only entry points: which versions this processor has, and one call that does a job.
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

// Does job number `index` with the version `name`: OK, or one of the other numbers of kernel.h.
int ctr_run(const char *name, int64_t index, const void *job) {
    const Kernels *found = named(name);
    return found && index >= 0 && index < JOBS ? found->job[index](job) : NO_SUCH_PATH;
}
}
#pragma GCC visibility pop
