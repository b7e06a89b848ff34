// Chunks of a batch on torch's own OpenMP threads: the runtime is looked up when this library is loaded, so that there
// is one pool. Without it the chunks run one after the other. A result belongs to a chunk, never to a thread, so it
// does not depend on how many threads there are.
#pragma once
#include <stdint.h>

extern "C" void GOMP_parallel(void (*)(void *), void *, unsigned, unsigned) __attribute__((weak));

template <class Body> struct Chunks {
    const Body *body;
    int64_t count, next;

    static void work(void *self) {
        Chunks &chunks = *static_cast<Chunks *>(self);
        for (;;) {
            const int64_t chunk = __atomic_fetch_add(&chunks.next, 1, __ATOMIC_RELAXED);
            if (chunk >= chunks.count) return;
            (*chunks.body)(chunk);
        }
    }
};

template <class Body> void each_chunk(int64_t count, int64_t threads, const Body &body) {
    Chunks<Body> chunks = {&body, count, 0};
    if (threads > 1 && count > 1 && GOMP_parallel)
        GOMP_parallel(Chunks<Body>::work, &chunks, static_cast<unsigned>(threads < count ? threads : count), 0);
    else
        Chunks<Body>::work(&chunks);
}
