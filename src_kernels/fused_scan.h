// The operator on keys and values of moderate size, whose terms e_t = e^(k_t) are already computed: all sums are plain
// numbers, and a token needs no further exponential.
//
//   P_{t+1} = e^-w P_t + e_t (v_t, 1),   S_{t-1} = e^-w S_t + e_t (v_t, 1),   (N_t, D_t) = P_t + S_t + e^u e_t (v_t, 1)
#pragma once

#include "fused.h"
#include "fused_vectors.h"

namespace bi_wkv {
namespace {


// Sixteen channels of the tokens of one chunk: a row or a column of a tile.
struct ScanChunk {
    const float *terms, *values;
    int64_t step;
    int tokens;
};

struct PairOfSums {
    Floats a, b;

    static RESTORE_INLINE PairOfSums from(const float (&state)[2][kLanes]) { return {load(state[0]), load(state[1])}; }

    RESTORE_INLINE void advance(const Floats& decay, const Floats& term_a, const Floats& term_b) {
        a = a * decay + term_a;
        b = b * decay + term_b;
    }
};

RESTORE_INLINE void summarise_chunk(const ScanChunk& chunk, const Floats& decay, ScanState& own) {
    PairOfSums prefix, suffix;
    Floats power = 1.0f;
    for (int t = 0; t < chunk.tokens; ++t) {
        const Floats e = load(chunk.terms + t * chunk.step), ev = e * load(chunk.values + t * chunk.step);
        prefix.advance(decay, ev, e);
        suffix.a += power * ev;
        suffix.b += power * e;
        power *= decay;
    }
    store(prefix.a, own.prefix[0]);
    store(prefix.b, own.prefix[1]);
    store(suffix.a, own.suffix[0]);
    store(suffix.b, own.suffix[1]);
}

// The sums of a chunk in both directions. Results of the forward walk are kept for the backward walk: the tokens of a
// column are so far apart that they evict each other from the L1 cache.
template <int most_tokens>
struct ChunkScan {
    // P for v and for 1, e v, e. Plain numbers, since lanes would be zeroed first.
    float before_a[most_tokens][kLanes], before_b[most_tokens][kLanes];
    float terms_a[most_tokens][kLanes], terms_b[most_tokens][kLanes];

    RESTORE_INLINE void forwards(int t, PairOfSums& sum, const float* term, const float* value, const Floats& decay) {
        const Floats e = load(term), ev = e * load(value);
        store(sum.a, before_a[t]);
        store(sum.b, before_b[t]);
        store(ev, terms_a[t]);
        store(e, terms_b[t]);
        sum.advance(decay, ev, e);
    }

    // Returns N_t and D_t; the last token comes first.
    RESTORE_INLINE PairOfSums backwards(int t, PairOfSums& sum, const Floats& decay, const Floats& bonus) const {
        const Floats ev = load(terms_a[t]), e = load(terms_b[t]);
        const PairOfSums result = {load(before_a[t]) + sum.a + bonus * ev, load(before_b[t]) + sum.b + bonus * e};
        sum.advance(decay, ev, e);
        return result;
    }
};

// Carries sums from chunk to chunk in one direction; a chunk's contribution is replaced by what reaches it. In double
// precision: the same decay, rounded in the same direction a thousand times, would add up.
struct Carry {
    Lanes<double> a, b;

    RESTORE_INLINE void pass(float (&state)[2][kLanes], const Lanes<double>& decay) {
        const Lanes<double> own_a = convert<double>(load(state[0])), own_b = convert<double>(load(state[1]));
        store(convert<float>(a), state[0]);
        store(convert<float>(b), state[1]);
        a = a * decay + own_a;
        b = b * decay + own_b;
    }
};

}  // namespace
}  // namespace bi_wkv
