// What Python (library.py) hands to the kernel. Every shape is checked there; only ids are checked here.
// Shapes: U users, C candidates, L history, E width of a behavior, H hidden, G = 3H gates, J outputs of a layer.
#pragma once
#include <stdint.h>

#if defined(__x86_64__) && defined(__GNUC__) && !defined(__clang__)
#define CTR_X86 1  // Clang knows no `#pragma GCC target`
#endif

enum { BLOCK = 10 };  // packed weights are [J / BLOCK][inputs][BLOCK]
enum { TILE = 16, TILE_INPUTS = 32 };  // AMX: packed weights are [J / TILE][inputs / TILE_INPUTS][TILE][TILE_INPUTS]
enum { SIGMOID = 0, DICE = 1, PRELU = 2 };
enum { OK = 0, NO_MEMORY = 1, BAD_ID = 2, NO_SUCH_PATH = 3 };

// One layer. Arrays over J are zero-padded to whole blocks. Constants are folded so that the kernel needs only powers
// of two: sigmoid layers hold -log2(e) times their weights, and Dice's scale and shift likewise.
struct Layer {
    int64_t inputs, outputs, blocks, activation;
    const float *weight, *bias;
    const uint16_t *tiles;         // weight in bfloat16; null but for the attention's layers when they run on AMX
    const float *scale, *shift;    // Dice: p = 1 / (1 + 2^(scale x + shift))
    const float *alpha, *beta;     // Dice: x (alpha + beta p); PReLU: alpha
};

// One sparse item feature: its table and its column of item_sparse.
struct Field {
    const float *table;
    int64_t rows, dim, column;
};

struct Net {
    int64_t width, hidden;         // E of the target and H of what the attention reads; equal in DIN and DIEN
    int64_t softmax, recurrent;    // recurrent: AUGRU (DIEN) instead of a weighted sum (DIN)
    int64_t columns, dense;        // of item_sparse, of item_dense
    int64_t fields;                // the shared ones first, in the behaviors' order
    const Field *field;
    Layer query;                   // first attention layer: what the target alone adds
    Layer product;                 // and what target * key adds
    const float *key_weight;       // [H, blocks of product * BLOCK]: and what the key alone adds
    int64_t attention_layers;      // sigmoid layers after the first
    const Layer *attention;
    int64_t score_inputs;
    const float *score_weight;     // [score_inputs]
    float score_bias;
    Layer gates;                   // AUGRU: h -> G
    int64_t head_layers;           // the first takes the user's share [U, head_width] in place of a bias
    int64_t head_width;
    const Layer *head;
    int64_t logit_inputs;
    const float *logit_weight;     // [logit_inputs]
    float logit_bias;
};

struct Batch {
    int64_t users, candidates, length;
    const float *share, *pooled;   // [U, head_width], [U, E]
    const float *keys, *mask;      // [U, L, H + 1], [U, L]
    const float *inputs;           // [U, L, G]; null without AUGRU
    const int64_t *item_sparse;    // [U, C, columns]
    const float *item_dense;       // [U, C, dense]; null without
    float *logit, *pctr;           // [U, C], written
};

// 2^x for x in [0, 1), off by at most 7.5e-8 (minimax, relative).
template <class V> inline __attribute__((always_inline)) V power_of_fraction(V x) {
    V p = V{} + 0.001877576673f;
    p = p * x + 0.008989340095f;
    p = p * x + 0.05582631805f;
    p = p * x + 0.240153617f;
    p = p * x + 0.6931530732f;
    return p * x + 0.9999999251f;
}

namespace avx512 { int score(const Net &, const Batch &); }
namespace amx { int score(const Net &, const Batch &); }
namespace avx2 { int score(const Net &, const Batch &); }
namespace portable { int score(const Net &, const Batch &); }
