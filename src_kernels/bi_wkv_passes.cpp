// The work on one chunk of tokens, forward and backward; README.md derives it. With sums relative to i < t and i > t
//
//   P_t = sum_{i<t} e^(k_i - (t-i-1) w) (v_i, 1),    P_{t+1} = e^-w P_t + e^(k_t) (v_t, 1),
//   S_t = sum_{i>t} e^(k_i - (i-t-1) w) (v_i, 1),    S_{t-1} = e^-w S_t + e^(k_t) (v_t, 1),
//   y_t = N_t / D_t,   (N_t, D_t) = P_t + S_t + e^(u + k_t) (v_t, 1).
//
// Compiled once for each instruction set; BI_WKV_ISA names the namespace. Everything here is internal to the file, lest
// the linker hand a function compiled for a newer processor to an older one.

#include "bi_wkv_cpu.h"
#include "bi_wkv_lanes.h"

namespace bi_wkv {
namespace {

template <class Real>
struct Tile {
    // One more than needed: arrays a multiple of 4 KiB apart make loads wait for unrelated stores.
    Lanes<Real> at[kMaxChunk];

    Lanes<Real>& operator[](int t) { return at[t]; }
    const Lanes<Real>& operator[](int t) const { return at[t]; }
};

// The tokens of one chunk, and where they lie in memory.
template <class Real>
struct Chunk {
    const Block<Real>& block;
    int64_t first;
    int tokens;

    Chunk(const Block<Real>& block_, int64_t index) : block(block_), first(index * block_.chunk_tokens) {
        const int64_t left = block.problem->tokens() - first;
        tokens = left < block.chunk_tokens ? static_cast<int>(left) : block.chunk_tokens;
    }

    // Call visit(t, offset of token t's first channel): columns are a stride, not a transposed copy.
    template <class Visit>
    void for_each_token(Visit visit) const {
        const Problem<Real>& p = *block.problem;
        const int64_t base = block.batch * p.tokens() * p.channels + block.first_channel;
        if (!p.column_major) {
            for (int t = 0; t < tokens; ++t) visit(t, base + (first + t) * p.channels);
            return;
        }
        int64_t x = first / p.height, y = first % p.height;
        for (int t = 0; t < tokens; ++t) {
            visit(t, base + (y * p.width + x) * p.channels);
            if (++y == p.height) {
                y = 0;
                ++x;
            }
        }
    }

    // How far ahead the chunk lies that this thread works on next: the neighbouring channels of the same tokens, or the
    // first channels of the tokens that follow. Only a hint, so the end of a column may be missed.
    int64_t distance_to_next() const {
        const Problem<Real>& p = *block.problem;
        if (block.first_channel + kLanes < p.channels) return kLanes;
        return block.chunk_tokens * (p.column_major ? p.width : 1) * p.channels - block.first_channel;
    }

    template <class Work>
    void read(const Real* from, Tile<Work>& tile) const {
        if (block.channels == kLanes) {
            const int64_t ahead = distance_to_next();
            for_each_token([&](int t, int64_t offset) {
                tile[t] = convert<Work, Real>(load(from + offset));
                __builtin_prefetch(from + offset + ahead);
            });
            return;
        }
        for_each_token([&](int t, int64_t offset) {
            tile[t] = Lanes<Work>{};
            for (int c = 0; c < block.channels; ++c) tile[t][c] = from[offset + c];
        });
    }

    template <class Work>
    void write(const Tile<Work>& tile, Real* to) const {
        if (block.channels == kLanes) {
            for_each_token([&](int t, int64_t offset) { store<Real>(convert<Real, Work>(tile[t]), to + offset); });
            return;
        }
        for_each_token([&](int t, int64_t offset) {
            for (int c = 0; c < block.channels; ++c) to[offset + c] = static_cast<Real>(tile[t][c]);
        });
    }
};

template <class Real>
inline Lanes<Real> maximum_over_tokens(const Tile<Real>& tile, int tokens) {
    Lanes<Real> result = tile[0];
    for (int t = 1; t < tokens; ++t) result = larger(result, tile[t]);
    return result;
}

// What the terms (x, y) of a chunk, relative to `scale`, add up to one token behind it and one token before it.
template <class Real>
inline void sum_towards_both_ends(const Block<Real>& block, int tokens, const Tile<Real>& x, const Tile<Real>& y,
                                  const Lanes<Real>& scale, States<Real>& own) {
    const Lanes<Real> decay = load(block.decay);
    Lanes<Real> prefix_x{}, prefix_y{}, suffix_x{}, suffix_y{};
    for (int t = 0; t < tokens; ++t) {
        const int from_end = tokens - 1 - t;
        prefix_x = prefix_x * decay + x[t];
        prefix_y = prefix_y * decay + y[t];
        suffix_x = suffix_x * decay + x[from_end];
        suffix_y = suffix_y * decay + y[from_end];
    }
    store(scale, own.prefix.m);
    store(prefix_x, own.prefix.a);
    store(prefix_y, own.prefix.b);
    store(scale, own.suffix.m);
    store(suffix_x, own.suffix.a);
    store(suffix_y, own.suffix.b);
}

// running <- running decayed by `tokens` tokens, plus `added`; relative to the larger exponent of the two.
template <class Real>
inline void combine(State<Real>& running, const Lanes<Real>& w, int tokens, const State<Real>& added) {
    const Lanes<Real> decayed = load(running.m) - w * Real(tokens), added_m = load(added.m);
    const Lanes<Real> m = larger(decayed, added_m);
    const Lanes<Real> keep = exp_of(decayed - m), add = exp_of(added_m - m);
    store(m, running.m);
    store<Real>(load(running.a) * keep + load(added.a) * add, running.a);
    store<Real>(load(running.b) * keep + load(added.b) * add, running.b);
}

template <class Real>
State<Real> empty_state() {
    State<Real> state{};
    store(all_lanes(Real(kEmpty)), state.m);
    return state;
}

// Two sums that run side by side, for v and for 1 (or for the two parts of the gradient).
template <class Work>
struct Pair {
    Lanes<Work> a, b;

    // A state brought to another scale, in the precision of the work.
    template <class Real>
    static Pair from(const State<Real>& state, const Lanes<Work>& scale) {
        const Lanes<Work> factor = exp_of(convert<Work, Real>(load(state.m)) - scale);
        return {convert<Work, Real>(load(state.a)) * factor, convert<Work, Real>(load(state.b)) * factor};
    }

    void advance(const Lanes<Work>& decay, const Lanes<Work>& term_a, const Lanes<Work>& term_b) {
        a = a * decay + term_a;
        b = b * decay + term_b;
    }
};

// The forward sums of one chunk, token by token, all relative to `scale`, the largest exponent at hand.
template <class Real, class Work>
struct ForwardWalk {
    const Chunk<Real>& chunk;
    const States<Real>& reaching;
    Tile<Work> e, v;               // e^k, v
    Pair<Work> before[kMaxChunk];  // P for v and for 1
    Lanes<Work> scale, decay, bonus, single_self;

    ForwardWalk(const Chunk<Real>& chunk_, const States<Real>& reaching_) : chunk(chunk_), reaching(reaching_) {
        const Block<Real>& block = chunk.block;
        chunk.read(block.problem->k, e);
        chunk.read(block.problem->v, v);
        decay = convert<Work, Real>(load(block.decay));
        bonus = convert<Work, Real>(load(block.bonus));
        const Lanes<Work> u = convert<Work, Real>(load(block.u));
        scale = maximum_over_tokens(e, chunk.tokens);
        if (single()) scale = larger(scale, scale + u);
        scale = larger(scale, convert<Work, Real>(larger(load(reaching.prefix.m), load(reaching.suffix.m))));
        single_self = exp_of(e[0] + u - scale);

        Pair<Work> sum = Pair<Work>::from(reaching.prefix, scale);
        for (int t = 0; t < chunk.tokens; ++t) {
            e[t] = exp_of(e[t] - scale);
            before[t] = sum;
            sum.advance(decay, e[t] * v[t], e[t]);
        }
    }

    // In chunks of one token the bonus may be too large for a factor, so it joins the exponent.
    bool single() const { return chunk.block.chunk_tokens == 1; }

    // From the last token to the first: visit(t, self = e^(u + k_t), S_t, N_t, D_t).
    template <class Visit>
    void backwards(Visit visit) const {
        Pair<Work> sum = Pair<Work>::from(reaching.suffix, scale);
        for (int t = chunk.tokens - 1; t >= 0; --t) {
            const Lanes<Work> self = single() ? single_self : e[t] * bonus;
            visit(t, self, sum, before[t].a + sum.a + self * v[t], before[t].b + sum.b + self);
            sum.advance(decay, e[t] * v[t], e[t]);
        }
    }
};

template <class Real>
void summarise(const Block<Real>& block, int64_t index, States<Real>& own) {
    const Chunk<Real> chunk(block, index);
    Tile<Real> e, v;
    chunk.read(block.problem->k, e);
    chunk.read(block.problem->v, v);
    const Lanes<Real> scale = maximum_over_tokens(e, chunk.tokens);
    for (int t = 0; t < chunk.tokens; ++t) {
        e[t] = exp_of(e[t] - scale);
        v[t] *= e[t];
    }
    sum_towards_both_ends(block, chunk.tokens, v, e, scale, own);
}

template <class Real>
void carry(const Block<Real>& block, States<Real>* states) {
    const Lanes<Real> w = load(block.w);
    State<Real> running = empty_state<Real>();
    for (int64_t i = 0; i < block.chunks; ++i) {
        const State<Real> own = states[i].prefix;
        states[i].prefix = running;
        combine<Real>(running, w, Chunk<Real>(block, i).tokens, own);
    }
    running = empty_state<Real>();
    for (int64_t i = block.chunks - 1; i >= 0; --i) {
        const State<Real> own = states[i].suffix;
        states[i].suffix = running;
        combine<Real>(running, w, Chunk<Real>(block, i).tokens, own);
    }
}

template <class Real>
void write_output(const Block<Real>& block, int64_t index, const States<Real>& reaching, Real* y) {
    const Chunk<Real> chunk(block, index);
    const ForwardWalk<Real, Real> walk(chunk, reaching);
    Tile<Real> result;
    walk.backwards([&](int t, const Lanes<Real>&, const Pair<Real>&, const Lanes<Real>& n, const Lanes<Real>& d) {
        result[t] = n / d;
    });
    chunk.write(result, y);
}

// The gradient reaches N_t and D_t as g_t = gy_t / D_t and h_t = -g_t y_t; both scans run over (g, h) once more,
// relative to the exponent -scale.
template <class Real>
void summarise_gradient(const Block<Real>& block, int64_t index, const States<Real>& reaching, const Real* gy,
                        States<Real>& own) {
    const Chunk<Real> chunk(block, index);
    const ForwardWalk<Real, Real> walk(chunk, reaching);
    Tile<Real> g, h;
    chunk.read(gy, g);
    walk.backwards([&](int t, const Lanes<Real>&, const Pair<Real>&, const Lanes<Real>& n, const Lanes<Real>& d) {
        const Lanes<Real> inverse = Real(1) / d;
        g[t] *= inverse;
        h[t] = -g[t] * n * inverse;
    });
    sum_towards_both_ends(block, chunk.tokens, g, h, -walk.scale, own);
}

// With Q the scans of (g, h) from either side and self_t = e^(u + k_t):
//   gv_t = e^(k_t) (Q of g) + self_t g_t,    gk_t = v_t gv_t + e^(k_t) (Q of h) + self_t h_t,
//   gu = sum_t self_t (g_t v_t + h_t),
//   gw = -e^-w sum_j (P_j . Q behind j + S_j . Q before j): each term is counted once for every token between its two.
template <class Real, class Work>
void write_gradients_in(const Chunk<Real>& chunk, const States<Real>& reaching, const States<Real>& reaching_gradient,
                        const Real* gy, Real* gk, Real* gv, ParameterGradients<Real>& sums) {
    const ForwardWalk<Real, Work> walk(chunk, reaching);
    Tile<Work> g, h, self, value, key;
    Pair<Work> behind[kMaxChunk];
    Lanes<Work> gw{}, gu{};
    chunk.read(gy, g);
    Pair<Work> sum = Pair<Work>::from(reaching_gradient.suffix, -walk.scale);
    walk.backwards([&](int t, const Lanes<Work>& self_t, const Pair<Work>& behind_t, const Lanes<Work>& n,
                       const Lanes<Work>& d) {
        const Lanes<Work> inverse = Work(1) / d;
        g[t] *= inverse;
        h[t] = -g[t] * n * inverse;
        self[t] = self_t;
        behind[t] = behind_t;
        gu += self_t * (g[t] * walk.v[t] + h[t]);
        gw += walk.before[t].a * sum.a + walk.before[t].b * sum.b;
        value[t] = sum.a;
        key[t] = sum.b;
        sum.advance(walk.decay, g[t], h[t]);
    });
    sum = Pair<Work>::from(reaching_gradient.prefix, -walk.scale);
    for (int t = 0; t < chunk.tokens; ++t) {
        gw += behind[t].a * sum.a + behind[t].b * sum.b;
        value[t] = walk.e[t] * (value[t] + sum.a) + self[t] * g[t];
        key[t] = walk.v[t] * value[t] + walk.e[t] * (key[t] + sum.b) + self[t] * h[t];
        sum.advance(walk.decay, g[t], h[t]);
    }
    chunk.write(value, gv);
    chunk.write(key, gk);
    store<Real>(convert<Real, Work>(-walk.decay * gw), sums.w);
    store<Real>(convert<Real, Work>(gu), sums.u);
}

// Where terms far apart in size meet (a strongly negative decay and keys that differ by tens), the product e^k Q is
// moderate while its factors leave float32's range.
template <class Real>
bool leaves_single_precision(const States<Real>& reaching, const States<Real>& gradient) {
    for (int c = 0; c < kLanes; ++c) {
        const Real forward = reaching.prefix.m[c] > reaching.suffix.m[c] ? reaching.prefix.m[c] : reaching.suffix.m[c];
        const Real backward = gradient.prefix.m[c] > gradient.suffix.m[c] ? gradient.prefix.m[c] : gradient.suffix.m[c];
        if (forward + backward > Real(20)) return true;
    }
    return false;
}

template <class Real>
void write_gradients(const Block<Real>& block, int64_t index, const States<Real>& reaching,
                     const States<Real>& reaching_gradient, const Real* gy, Real* gk, Real* gv,
                     ParameterGradients<Real>& sums) {
    const Chunk<Real> chunk(block, index);
    if (leaves_single_precision(reaching, reaching_gradient))
        write_gradients_in<Real, double>(chunk, reaching, reaching_gradient, gy, gk, gv, sums);
    else
        write_gradients_in<Real, Real>(chunk, reaching, reaching_gradient, gy, gk, gv, sums);
}

}  // namespace

namespace BI_WKV_ISA {

template <class Real>
Passes<Real> passes() {
    return {summarise<Real>, carry<Real>, write_output<Real>, summarise_gradient<Real>, write_gradients<Real>};
}

template Passes<float> passes<float>();
template Passes<double> passes<double>();

}  // namespace BI_WKV_ISA
}  // namespace bi_wkv
