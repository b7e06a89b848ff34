// The library's only entry points: which paths this processor has, and one call that scores.
#include "kernel.h"

#ifdef CTR_X86
#include <sys/syscall.h>
#include <unistd.h>
#endif

namespace {
typedef int (*Score)(const Net &, const Batch &);
struct Path {
    const char *name;
    bool here;
    Score score;
};

bool same(const char *a, const char *b) {
    while (*a && *a == *b) a++, b++;
    return *a == *b;
}

#ifdef CTR_X86
// Linux lets a process use the tiles only after it has asked.
bool tiles_granted() {
    const long ask = 0x1023, tile_data = 18;
    return syscall(SYS_arch_prctl, ask, tile_data) == 0;
}
#endif

// The path number `index`, the float32 ones first and fastest first; a null name ends the list.
Path path(int64_t index) {
#ifdef CTR_X86
    __builtin_cpu_init();
    const bool wide = __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512dq") &&
                      __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512vl");
    const bool medium = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
    if (index == 0) return {"avx512", wide && medium, avx512::score};
    if (index == 1) return {"avx2", medium, avx2::score};
    const bool tiles = wide && medium && __builtin_cpu_supports("avx512bf16") && __builtin_cpu_supports("amx-tile") &&
                       __builtin_cpu_supports("amx-bf16");
    if (index == 3) return {"amx-bfloat16", tiles && tiles_granted(), amx::score};
    index -= 2;
#endif
    if (index == 0) return {"portable", true, portable::score};
    return {nullptr, false, nullptr};
}
}  // namespace

#pragma GCC visibility push(default)
extern "C" {
// The name of path `index`, "" if this processor cannot run it, null after the last.
const char *ctr_path(int64_t index) {
    const Path found = path(index);
    return !found.name || found.here ? found.name : "";
}

// OK, or one of the other numbers of kernel.h. Reads nothing but what `net` and `batch` point to.
int ctr_score(const char *name, const Net *net, const Batch *batch) {
    for (int64_t i = 0; path(i).name; i++)
        if (same(path(i).name, name) && path(i).here) return path(i).score(*net, *batch);
    return NO_SUCH_PATH;
}
}
#pragma GCC visibility pop
