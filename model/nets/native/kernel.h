// What Python (library.py) hands to the training kernels. Shapes and ids are checked there.
// Shapes: U rows of a batch, L history, E width of an input, H hidden, G = 3H gates (r, u, c), J outputs of a layer.
// A name that ends in p is that size rounded up to whole vectors (`LANES` floats).
#pragma once
#include <stdint.h>

#if defined(__x86_64__) && defined(__GNUC__) && !defined(__clang__)
#define CTR_X86 1  // Clang knows no `#pragma GCC target`
#endif

constexpr int64_t LANES = 16, TILE = 16, CHUNK = 64;  // floats of a padded row, rows of a tile, rows of a chunk
constexpr int LAYERS = 4;                             // at most: of the attention after the first, fields of a behavior
enum { OK = 0, NO_MEMORY = 1, NO_SUCH_PATH = 2, BAD_ID = 3 };

// A gated recurrence: h <- h + a u (c - h). Without `attention` a is 1 (GRU). Row u takes count[u] steps.
// Weights are torch's: [G, E] and [G, H]. Row `order[i]` is the i-th longest.
struct Gated {
    int64_t rows, length, inputs, hidden, threads;
    const int64_t *order, *count;
    const float *x;                // [U, L, E]
    const float *attention;        // [U, L] or null
    const float *input_weight, *hidden_weight, *input_bias, *hidden_bias;
    float *states;                 // [U, L, Hp], written; 0 where there is no step
    float *saved;                  // [U, L, 4, Hp], written: r, u, c and U_c h
    float *last;                   // [U, Hp], written: the final state
    const float *d_states;         // [U, L, H] or null
    const float *d_last;           // [U, H] or null
    float *d_x;                    // [U, L, E], written; 0 where there is no step
    float *d_attention;            // [U, L], written, or null
    float *partial;                // [chunks, Ep + Hp + 2, 3 Hp], written: gradients of both weights and biases
};

// One layer of the attention after the first: [J, inputs] and [J], and a gradient of each per chunk.
struct Layer {
    int64_t inputs, outputs;
    const float *weight, *bias;
    float *partial;                // [chunks, inputs_p + 1, Jp]
};

// Target attention of one target per row on its history, and the sum of the history weighted by it.
struct Attention {
    int64_t rows, length, width, hidden, softmax, layers, threads;
    const int64_t *order, *count;
    const float *query, *keys;     // [U, E], [U, L, E]
    const float *query_weight, *key_weight, *product_weight, *bias;  // [E, J] each, [J]
    Layer layer[LAYERS];           // the last one has one output
    float *weights;                // [U, L], written; 0 where there is no behavior
    float *attended;               // [U, E], written
    const float *d_weights;        // [U, L] or null
    const float *d_attended;       // [U, E] or null
    float *d_query, *d_keys;       // [U, E], [U, L, E], written
    float *partial;                // [chunks, 3 Ep + 1, Jp], written: query, key, product weight and bias
};

// Rows of `fields` tables side by side: the behaviors of a batch.
struct Table {
    const float *weight;           // [rows, dim]
    int64_t rows, dim;
};
struct Lookup {
    int64_t rows, length, fields, width, threads;
    const int64_t *count, *ids;    // [U], [U, L, fields]
    Table table[LAYERS];
    float *out;                    // [U, L, E], written; 0 where there is no behavior
    float *total;                  // [U, E], written: the sum over each history
};

// The sum of a table's gradients by row. `place` is all -1 before and after.
struct Gather {
    int64_t rows, length, fields, field, dim, width, first;  // the field's columns start at `first`
    const int64_t *count, *ids;
    const float *d_out;            // [U, L, E] or null
    const float *d_total;          // [U, E] or null
    int32_t *place;                // [table's rows]
    int64_t *touched;              // [<= U L], written, in order of appearance
    float *sums;                   // [<= U L, dim], written
    int64_t *found;                // written: how many
};

// DIEN's auxiliary loss with inner products: of the state after step t with the behavior and the negative at t + 1.
struct Auxiliary {
    int64_t rows, length, width, threads;
    const int64_t *count;
    const float *states, *real, *fake;     // [U, L, E] each
    float *losses;                 // [U], written: the sum over each row's steps
    float *residual;               // [U, L, 2], written: derivatives by both logits
    float scale;                   // backward: the gradient of the sum
    float *d_states, *d_real, *d_fake;     // [U, L, E], written
};

// Dice over the rows of a batch. No fewer columns than the widest vector has lanes.
struct Dice {
    int64_t rows, width, threads;
    float eps;
    const float *x, *alpha;        // [R, D], [D]
    float *y;                      // [R, D], written
    float *mean, *variance, *scale;  // [D], written by the forward pass; scale = 1 / sqrt(variance + eps)
    const float *d_y;              // [R, D]
    float *d_x, *d_alpha;          // [R, D], [D], written
};

// What a version can do, in the order of library.py. Each returns OK or another number from above.
enum { JOBS = 10 };
struct Kernels {
    const char *name;
    int (*job[JOBS])(const void *);
};

template <class Job, int (*run)(const Job &)> int job(const void *given) { return run(*static_cast<const Job *>(given)); }

namespace avx512 { extern const Kernels kernels; }
namespace avx2 { extern const Kernels kernels; }
namespace portable { extern const Kernels kernels; }
