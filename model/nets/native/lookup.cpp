// Lookups of a batch's behaviors, the sum of a table's gradients by row, and DIEN's auxiliary loss with inner products.
// These wait for memory, so one version for all processors does.
#include <math.h>
#include <string.h>

#include "kernel.h"
#include "parallel.h"

namespace {
template <class Body> void each_row(int64_t rows, int64_t threads, const Body &body) {
    each_chunk((rows + CHUNK - 1) / CHUNK, threads, [&](int64_t chunk) {
        const int64_t end = (chunk + 1) * CHUNK < rows ? (chunk + 1) * CHUNK : rows;
        for (int64_t row = chunk * CHUNK; row < end; row++) body(row);
    });
}

inline void zero(float *at, int64_t count) { memset(at, 0, static_cast<size_t>(count) * sizeof(float)); }

inline void add(float *to, const float *from, int64_t count) {
    for (int64_t i = 0; i < count; i++) to[i] += from[i];
}

inline float dot(const float *a, const float *b, int64_t count) {
    float sum = 0;
    for (int64_t i = 0; i < count; i++) sum += a[i] * b[i];
    return sum;
}

// log(1 + e^x), and its derivative.
inline float softplus(float x) { return (x > 0 ? x : 0) + log1pf(expf(x > 0 ? -x : x)); }
inline float sigmoid(float x) { return 1 / (1 + expf(-x)); }
}  // namespace

#pragma GCC visibility push(default)
extern "C" {
// OK or BAD_ID; an id is checked before it is used.
int ctr_lookup(const Lookup *job) {
    int failed = OK;
    each_row(job->rows, job->threads, [&](int64_t row) {
        float *out = job->out + row * job->length * job->width, *total = job->total + row * job->width;
        zero(total, job->width);
        for (int64_t t = 0; t < job->count[row]; t++, out += job->width) {
            const int64_t *ids = job->ids + (row * job->length + t) * job->fields;
            float *to = out;
            for (int64_t f = 0; f < job->fields; f++) {
                const Table &table = job->table[f];
                if (ids[f] < 0 || ids[f] >= table.rows) {
                    __atomic_store_n(&failed, static_cast<int>(BAD_ID), __ATOMIC_RELAXED);
                    return;
                }
                memcpy(to, table.weight + ids[f] * table.dim, static_cast<size_t>(table.dim) * sizeof(float));
                to += table.dim;
            }
            add(total, out, job->width);
        }
        zero(out, (job->length - job->count[row]) * job->width);
    });
    return failed;
}

void ctr_gather(Gather *job) {
    job->found = 0;
    for (int64_t row = 0; row < job->rows; row++)
        for (int64_t t = 0; t < job->count[row]; t++) {
            const int64_t at = row * job->length + t, id = job->ids[at * job->fields + job->field];
            if (id == 0) continue;  // padding
            if (job->place[id] < 0) {
                zero(job->sums + job->found * job->dim, job->dim);
                job->touched[job->found] = id, job->place[id] = static_cast<int32_t>(job->found++);
            }
            float *sum = job->sums + job->place[id] * job->dim;
            if (job->d_out) add(sum, job->d_out + at * job->width + job->first, job->dim);
            if (job->d_total) add(sum, job->d_total + row * job->width + job->first, job->dim);
        }
    for (int64_t i = 0; i < job->found; i++) job->place[job->touched[i]] = -1;
}

void ctr_auxiliary_forward(const Auxiliary *job) {
    each_row(job->rows, job->threads, [&](int64_t row) {
        float loss = 0;
        for (int64_t t = 0; t + 1 < job->count[row]; t++) {
            const int64_t at = row * job->length + t, now = at * job->width, next = now + job->width;
            const float real = dot(job->states + now, job->real + next, job->width);
            const float fake = dot(job->states + now, job->fake + next, job->width);
            loss += softplus(-real) + softplus(fake);
            job->residual[2 * at] = -sigmoid(-real), job->residual[2 * at + 1] = sigmoid(fake);
        }
        job->losses[row] = loss;
    });
}

void ctr_auxiliary_backward(const Auxiliary *job) {
    const int64_t E = job->width;
    each_row(job->rows, job->threads, [&](int64_t row) {
        const int64_t start = row * job->length, count = job->count[row], steps = count > 1 ? count - 1 : 0;
        zero(job->d_real + start * E, E), zero(job->d_fake + start * E, E);
        for (int64_t t = 0; t < steps; t++) {
            const int64_t at = start + t, now = at * E, next = now + E;
            const float real = job->scale * job->residual[2 * at], fake = job->scale * job->residual[2 * at + 1];
            for (int64_t e = 0; e < E; e++) {
                job->d_states[now + e] = real * job->real[next + e] + fake * job->fake[next + e];
                job->d_real[next + e] = real * job->states[now + e], job->d_fake[next + e] = fake * job->states[now + e];
            }
        }
        const int64_t rest = job->length - steps;
        zero(job->d_states + (start + steps) * E, rest * E);
        zero(job->d_real + (start + steps + 1) * E, (rest - 1) * E);
        zero(job->d_fake + (start + steps + 1) * E, (rest - 1) * E);
    });
}
}
#pragma GCC visibility pop
