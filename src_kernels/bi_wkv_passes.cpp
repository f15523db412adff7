// The work on one chunk of tokens, forward and backward; README.md derives it. With sums relative to i < t and i > t
//
//   P_t = sum_{i<t} e^(k_i - (t-i-1) w) (v_i, 1),    P_{t+1} = e^-w P_t + e^(k_t) (v_t, 1),
//   S_t = sum_{i>t} e^(k_i - (i-t-1) w) (v_i, 1),    S_{t-1} = e^-w S_t + e^(k_t) (v_t, 1),
//   y_t = N_t / D_t,   (N_t, D_t) = P_t + S_t + e^(u + k_t) (v_t, 1).
//
// Compiled once for each instruction set; BI_WKV_ISA names the namespace. Everything here is internal to the file, so that
// the linker cannot give a function compiled for a newer CPU to an older one.

#include "bi_wkv_cpu.h"
#include "bi_wkv_lanes.h"

namespace bi_wkv {
namespace {

template <class Real>
struct Tile {
    Lanes<Real> at[kMaxChunk];

    Lanes<Real>& operator[](int t) { return at[t]; }
    const Lanes<Real>& operator[](int t) const { return at[t]; }
};

// Walks over the tokens in scan order; columns are a stride, not a transposed copy.
struct Cursor {
    int64_t offset;        // of the token's first channel in a (B, T, C) array
    int64_t left_in_line;  // tokens up to the end of this column; rows are consecutive
    int64_t step, line_length, to_next_line;

    template <class Real>
    Cursor(const Problem<Real>& p, int64_t batch, int64_t token) {
        line_length = p.column_major ? p.height : p.tokens();
        step = p.column_major ? p.width * p.channels : p.channels;
        to_next_line = p.channels - line_length * step;
        const int64_t in_line = token % line_length;
        offset = batch * p.tokens() * p.channels + token / line_length * p.channels + in_line * step;
        left_in_line = line_length - in_line;
    }

    void advance() {
        offset += step;
        if (--left_in_line == 0) {
            offset += to_next_line;
            left_in_line = line_length;
        }
    }
};

// The tokens of one chunk of a block.
template <class Real>
struct Chunk {
    const Block<Real>& block;
    int64_t first;
    int tokens;

    Chunk(const Block<Real>& block_, int64_t index) : block(block_), first(index * block_.chunk_tokens) {
        const int64_t left = block.problem->tokens() - first;
        tokens = left < block.chunk_tokens ? static_cast<int>(left) : block.chunk_tokens;
    }

    // Call visit(t, offset of token t's first channel of this block).
    template <class Visit>
    void for_each_token(Visit visit) const {
        Cursor token(*block.problem, block.batch, first);
        for (int t = 0; t < tokens; ++t, token.advance()) visit(t, token.offset + block.first_channel);
    }

    // Call visit(t, the sixteen channels of token t): immediate work hides the latency of the next.
    template <class Visit>
    void read(const Real* from, Visit visit) const {
        if (block.channels == kLanes) {
            Ahead ahead(*this);
            for_each_token([&](int t, int64_t offset) {
                __builtin_prefetch(from + ahead.offset(), 0, 2);
                ahead.advance();
                visit(t, load(from + offset));
            });
            return;
        }
        for_each_token([&](int t, int64_t offset) {
            Real values[kLanes] = {};
            for (int c = 0; c < block.channels; ++c) values[c] = from[offset + c];
            visit(t, load(values));
        });
    }

    // Call visit(t, put): put(array, lanes) stores the sixteen channels of token t.
    template <class Work, class Visit>
    void write(Visit visit) const {
        if (block.channels == kLanes) {
            Ahead ahead(*this);
            for_each_token([&](int t, int64_t offset) {
                visit(t, [&](Real* to, const Lanes<Work>& lanes) {
                    __builtin_prefetch(to + ahead.offset(), 1, 2);
                    store(convert<Real>(lanes), to + offset);
                });
                ahead.advance();
            });
            return;
        }
        for_each_token([&](int t, int64_t offset) {
            visit(t, [&](Real* to, const Lanes<Work>& lanes) {
                Real values[kLanes];
                store(convert<Real>(lanes), values);
                for (int c = 0; c < block.channels; ++c) to[offset + c] = values[c];
            });
        });
    }

    // Prefetch this block's share of the next chunk's cache lines, contiguous over all channels of a token: the hardware
    // prefetcher does not follow the strided reads of a single block.
    struct Ahead {
        Cursor token;
        int64_t line, lines;

        explicit Ahead(const Chunk& chunk)
            : token(*chunk.block.problem, chunk.block.batch, chunk.first + chunk.tokens + share(chunk) / all(chunk)),
              line(share(chunk) % all(chunk)),
              lines(all(chunk)) {}

        static int64_t all(const Chunk& chunk) { return chunk.block.problem->channels / kLanes; }
        static int64_t share(const Chunk& chunk) { return chunk.block.first_channel / kLanes * chunk.tokens; }

        int64_t offset() const { return token.offset + line * kLanes; }

        void advance() {
            if (++line < lines) return;
            line = 0;
            token.advance();
        }
    };
};

// Keep the keys of a chunk, and return the largest of each channel.
template <class Real, class Work>
inline Lanes<Work> read_keys(const Chunk<Real>& chunk, Tile<Work>& keys) {
    Lanes<Work> largest = Lanes<Work>(kEmpty);
    chunk.read(chunk.block.problem->k, [&](int t, const Lanes<Real>& k) {
        keys[t] = convert<Work>(k);
        largest = larger(largest, keys[t]);
    });
    return largest;
}

// The sums of the terms (x, y) of a chunk, one token after it and one token before it, in one walk: the factor of a term
// on its way back to the start is the power of the decay accumulated so far.
template <class Real>
struct SumsTowardsBothEnds {
    const Lanes<Real> decay;
    Lanes<Real> power = Real(1);
    Lanes<Real> prefix_x{}, prefix_y{}, suffix_x{}, suffix_y{};

    explicit SumsTowardsBothEnds(const Block<Real>& block) : decay(load(block.decay)) {}

    void add(const Lanes<Real>& x, const Lanes<Real>& y) {
        prefix_x = prefix_x * decay + x;
        prefix_y = prefix_y * decay + y;
        suffix_x += power * x;
        suffix_y += power * y;
        power *= decay;
    }

    void save(const Lanes<Real>& scale, States<Real>& own) const {
        store(scale, own.prefix.m);
        store(prefix_x, own.prefix.a);
        store(prefix_y, own.prefix.b);
        store(scale, own.suffix.m);
        store(suffix_x, own.suffix.a);
        store(suffix_y, own.suffix.b);
    }
};

// A state that is carried from chunk to chunk, in double precision: over a thousand chunks the rounding of one decay,
// always in the same direction, would add up.
struct RunningState {
    Lanes<double> m = double(kEmpty), a, b;

    template <class Real>
    void save(State<Real>& to) const {
        store(convert<Real>(m), to.m);
        store(convert<Real>(a), to.a);
        store(convert<Real>(b), to.b);
    }

    // Decay by the tokens of a chunk and add the chunk's contribution, relative to the larger exponent of the two.
    template <class Real>
    void pass_chunk(const Lanes<double>& w, int tokens, const State<Real>& own) {
        const Lanes<double> decayed = m - w * double(tokens), own_m = convert<double>(load(own.m));
        m = larger(decayed, own_m);
        const Lanes<double> keep = exp_of(decayed - m), add = exp_of(own_m - m);
        a = a * keep + convert<double>(load(own.a)) * add;
        b = b * keep + convert<double>(load(own.b)) * add;
    }
};

// Two parallel sums, for v and for 1 (or for the two parts of the gradient).
template <class Work>
struct Pair {
    Lanes<Work> a, b;

    // A state converted to another scale, in working precision.
    template <class Real>
    static Pair from(const State<Real>& state, const Lanes<Work>& scale) {
        const Lanes<Work> factor = exp_of(convert<Work>(load(state.m)) - scale);
        return {convert<Work>(load(state.a)) * factor, convert<Work>(load(state.b)) * factor};
    }

    void advance(const Lanes<Work>& decay, const Lanes<Work>& term_a, const Lanes<Work>& term_b) {
        a = a * decay + term_a;
        b = b * decay + term_b;
    }
};

// The forward sums of one chunk, token by token, all relative to `scale`, the largest exponent involved.
template <class Real, class Work>
struct ForwardWalk {
    const Chunk<Real>& chunk;
    const States<Real>& reaching;
    Tile<Work> e, v;               // e^k, v
    Pair<Work> before[kMaxChunk];  // P for v and for 1
    Lanes<Work> scale, decay, bonus, single_self;

    ForwardWalk(const Chunk<Real>& chunk_, const States<Real>& reaching_) : chunk(chunk_), reaching(reaching_) {
        const Block<Real>& block = chunk.block;
        scale = read_keys(chunk, e);
        decay = convert<Work>(load(block.decay));
        bonus = convert<Work>(load(block.bonus));
        const Lanes<Work> u = convert<Work>(load(block.u));
        if (single()) scale = larger(scale, scale + u);
        scale = larger(scale, convert<Work>(larger(load(reaching.prefix.m), load(reaching.suffix.m))));
        single_self = exp_of(e[0] + u - scale);

        Pair<Work> sum = Pair<Work>::from(reaching.prefix, scale);
        chunk.read(block.problem->v, [&](int t, const Lanes<Real>& v_t) {
            v[t] = convert<Work>(v_t);
            e[t] = exp_of(e[t] - scale);
            before[t] = sum;
            sum.advance(decay, e[t] * v[t], e[t]);
        });
    }

    // In chunks of one token the bonus may be too large for a factor, so it is added to the exponent.
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
    Tile<Real> keys;
    const Lanes<Real> scale = read_keys(chunk, keys);
    SumsTowardsBothEnds<Real> sums(block);
    chunk.read(block.problem->v, [&](int t, const Lanes<Real>& v) {
        const Lanes<Real> e = exp_of(keys[t] - scale);
        sums.add(e * v, e);
    });
    sums.save(scale, own);
}

template <class Real>
void carry(const Block<Real>& block, States<Real>* states) {
    const Lanes<double> w = convert<double>(load(block.w));
    const auto pass = [&](RunningState& running, int64_t i, State<Real>& state) {
        const State<Real> own = state;
        running.save(state);
        running.pass_chunk(w, Chunk<Real>(block, i).tokens, own);
    };
    RunningState before, behind;
    for (int64_t i = 0; i < block.chunks; ++i) pass(before, i, states[i].prefix);
    for (int64_t i = block.chunks - 1; i >= 0; --i) pass(behind, i, states[i].suffix);
}

template <class Real>
void write_output(const Block<Real>& block, int64_t index, const States<Real>& reaching, Real* y) {
    const Chunk<Real> chunk(block, index);
    const ForwardWalk<Real, Real> walk(chunk, reaching);
    Tile<Real> result;
    walk.backwards([&](int t, const Lanes<Real>&, const Pair<Real>&, const Lanes<Real>& n, const Lanes<Real>& d) {
        result[t] = n / d;
    });
    chunk.template write<Real>([&](int t, auto put) { put(y, result[t]); });
}

// The gradient reaches N_t and D_t as g_t = gy_t / D_t and h_t = -g_t y_t; both scans run over (g, h) once more,
// relative to the exponent -scale.
template <class Real>
void summarise_gradient(const Block<Real>& block, int64_t index, const States<Real>& reaching, const Real* gy,
                        States<Real>& own) {
    const Chunk<Real> chunk(block, index);
    const ForwardWalk<Real, Real> walk(chunk, reaching);
    Tile<Real> inverse, y;
    walk.backwards([&](int t, const Lanes<Real>&, const Pair<Real>&, const Lanes<Real>& n, const Lanes<Real>& d) {
        inverse[t] = Real(1) / d;
        y[t] = n * inverse[t];
    });
    SumsTowardsBothEnds<Real> sums(block);
    chunk.read(gy, [&](int t, const Lanes<Real>& gy_t) {
        const Lanes<Real> g = gy_t * inverse[t];
        sums.add(g, -g * y[t]);
    });
    sums.save(-walk.scale, own);
}

// With Q the scans of (g, h) from either side and self_t = e^(u + k_t):
//   gv_t = e^(k_t) (Q of g) + self_t g_t,    gk_t = v_t gv_t + e^(k_t) (Q of h) + self_t h_t,
//   gu = sum_t self_t (g_t v_t + h_t),
//   gw = -e^-w sum_j (P_j . Q behind j + S_j . Q before j): each pair is counted once for every token between its two.
template <class Real, class Work>
void write_gradients_in(const Chunk<Real>& chunk, const States<Real>& reaching, const States<Real>& reaching_gradient,
                        const Real* gy, Real* gk, Real* gv, ParameterGradients<Real>& sums) {
    const ForwardWalk<Real, Work> walk(chunk, reaching);
    Tile<Work> g, h, self, after_g, after_h;
    Pair<Work> behind[kMaxChunk];
    Lanes<Work> gw{}, gu{};
    chunk.read(gy, [&](int t, const Lanes<Real>& gy_t) { g[t] = convert<Work>(gy_t); });
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
        after_g[t] = sum.a;
        after_h[t] = sum.b;
        sum.advance(walk.decay, g[t], h[t]);
    });
    sum = Pair<Work>::from(reaching_gradient.prefix, -walk.scale);
    chunk.template write<Work>([&](int t, auto put) {
        gw += behind[t].a * sum.a + behind[t].b * sum.b;
        const Lanes<Work> value = walk.e[t] * (after_g[t] + sum.a) + self[t] * g[t];
        const Lanes<Work> key = walk.v[t] * value + walk.e[t] * (after_h[t] + sum.b) + self[t] * h[t];
        put(gv, value);
        put(gk, key);
        sum.advance(walk.decay, g[t], h[t]);
    });
    store(convert<Real>(-walk.decay * gw), sums.w);
    store(convert<Real>(gu), sums.u);
}

// Where terms of very different size meet (a strongly negative decay and keys that differ by tens), the product e^k Q is
// moderate although its factors leave float32's range.
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
