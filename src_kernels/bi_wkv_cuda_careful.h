// A segment in which every sum keeps its own exponent: for decays, bonuses or keys that leave float32's range.
#pragma once

#include "bi_wkv_cuda_segment.h"

namespace bi_wkv {

struct CarefulWalk {
    Power decay, bonus;
    int tokens;
    State term[kLength], prefix[kLength], suffix[kLength];

    // The loops below stay loops, their arrays in local memory: this path is rare, and must not cost the others registers.
    template <class Number>
    __device__ CarefulWalk(const Segment& s, float w, float u, const Number* k, const Number* v)
        : decay(power(-w)), bonus(power(u)), tokens(s.tokens) {
        Cursor cursor(s);
#pragma unroll 1
        for (int t = 0; t < tokens; ++t, cursor.advance(s)) {
            const Power key = power(to_float(k[cursor.at]));
            term[t] = {key.whole, key.factor * to_float(v[cursor.at]), key.factor};
        }
    }

    __device__ State self(int t) const { return term[t] * bonus; }
    __device__ State total(int t) const { return join(join(prefix[t], suffix[t]), self(t)); }

    // The sums of `terms` that reach every token from either side; returns what they contribute to the other segments.
    __device__ Ends scan(const State* terms, const Ends& reach, State* before, State* behind) const {
        Ends sums = reach;
#pragma unroll 1
        for (int t = 0; t < tokens; ++t) {
            before[t] = sums.prefix;
            sums.prefix = join(sums.prefix * decay, terms[t]);
        }
#pragma unroll 1
        for (int t = tokens - 1; t >= 0; --t) {
            behind[t] = sums.suffix;
            sums.suffix = join(sums.suffix * decay, terms[t]);
        }
        return sums;
    }

    __device__ Ends ends() { return scan(term, {nothing(), nothing()}, prefix, suffix); }
    __device__ void receive(const Ends& reach) { scan(term, reach, prefix, suffix); }

    template <class Number>
    __device__ void gradient_terms(const Segment& s, const Number* gy, State* gradient) const {
        Cursor cursor(s);
#pragma unroll 1
        for (int t = 0; t < tokens; ++t, cursor.advance(s)) {
            const State sum = total(t);
            const float g = to_float(gy[cursor.at]) / sum.b;
            gradient[t] = {-sum.m, g, -g * (sum.a / sum.b)};
        }
    }
};

template <class Number>
__device__ __noinline__ Ends careful_ends(const Segment& s, float w, const Number* k, const Number* v) {
    return CarefulWalk(s, w, 0.f, k, v).ends();
}

template <class Number>
__device__ __noinline__ void careful_output(const Segment& s, float w, float u, const Number* k, const Number* v,
                                          const Ends& reach, Number* y) {
    CarefulWalk walk(s, w, u, k, v);
    walk.receive(reach);
    Cursor cursor(s);
#pragma unroll 1
    for (int t = 0; t < walk.tokens; ++t, cursor.advance(s)) {
        const State sum = walk.total(t);
        store(sum.a / sum.b, y + cursor.at);
    }
}

template <class Number>
__device__ __noinline__ Ends careful_gradient_ends(const Segment& s, float w, float u, const Number* k, const Number* v,
                                                 const Number* gy, const Ends& reach) {
    CarefulWalk walk(s, w, u, k, v);
    walk.receive(reach);
    State gradient[kLength], unused[kLength];
    walk.gradient_terms(s, gy, gradient);
    return walk.scan(gradient, {nothing(), nothing()}, unused, unused);
}

// One thread's contribution to the gradients of w and u.
struct ParameterGradients {
    float w, u;
};

template <class Number>
__device__ __noinline__ ParameterGradients careful_gradients(const Segment& s, float w, float u, const Number* k,
                                                           const Number* v, const Number* gy, const Ends& reach,
                                                           const Ends& reach_gradient, Number* gk, Number* gv) {
    CarefulWalk walk(s, w, u, k, v);
    walk.receive(reach);
    State gradient[kLength], before[kLength], behind[kLength];
    walk.gradient_terms(s, gy, gradient);
    walk.scan(gradient, reach_gradient, before, behind);
    ParameterGradients sums = {0.f, 0.f};
    Cursor cursor(s);
#pragma unroll 1
    for (int t = 0; t < walk.tokens; ++t, cursor.advance(s)) {
        const State term = walk.term[t], self = walk.self(t), q = join(before[t], behind[t]), own = gradient[t];
        const State p = walk.prefix[t] * walk.decay, r = walk.suffix[t] * walk.decay;
        // The exponents are added before the exponential: their sum is moderate even where each alone is not.
        const float from_others = expf(term.m + q.m), from_self = expf(self.m + own.m);
        store(from_others * term.b * q.a + from_self * self.b * own.a, gv + cursor.at);
        const float of_u = from_self * (self.a * own.a + self.b * own.b);
        store(from_others * (term.a * q.a + term.b * q.b) + of_u, gk + cursor.at);
        sums.u += of_u;
        sums.w -= expf(p.m + behind[t].m) * (p.a * behind[t].a + p.b * behind[t].b);
        sums.w -= expf(r.m + before[t].m) * (r.a * before[t].a + r.b * before[t].b);
    }
    return sums;
}

}  // namespace bi_wkv
