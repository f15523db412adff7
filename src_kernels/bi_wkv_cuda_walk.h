// A segment whose sums share one exponent: the common case.
#pragma once

#include "bi_wkv_cuda_segment.h"

namespace bi_wkv {

// The key of a token beyond the end: negligible even relative to kEmpty.
constexpr float kMissing = -3e38f;
// Within a segment sums decay by up to e^-(|w| length), and the bonus scales them by e^u: with this bound on either they
// stay within float32's range together with the keys.
constexpr float kMaxExponent = 24.f;

__device__ __forceinline__ Ends ends_of(const float (&x)[kLength], const float (&y)[kLength], float m, float decay) {
    Ends ends = {{m, 0.f, 0.f}, {m, 0.f, 0.f}};
#pragma unroll
    for (int t = 0; t < kLength; ++t) {
        ends.prefix.a = ends.prefix.a * decay + x[t];
        ends.prefix.b = ends.prefix.b * decay + y[t];
        ends.suffix.a = ends.suffix.a * decay + x[kLength - 1 - t];
        ends.suffix.b = ends.suffix.b * decay + y[kLength - 1 - t];
    }
    return ends;
}

// Two parallel sums, relative to a given exponent.
struct Pair {
    float a, b;

    __device__ Pair(const State& x, float scale) {
        const float factor = __expf(x.m - scale);
        a = x.a * factor;
        b = x.b * factor;
    }

    __device__ void advance(float decay, float x, float y) {
        a = a * decay + x;
        b = b * decay + y;
    }
};

struct Walk {
    float decay, bonus, scale;
    float e[kLength], v[kLength];  // e^(k - scale), v

    __device__ __forceinline__ Walk(float w, float u) : decay(expf(-w)), bonus(expf(u)), scale(kEmpty) {}

    // Relative to the largest key of the segment.
    template <class Number>
    __device__ __forceinline__ void read_terms(const Segment& s, const Number* k, const Number* values) {
        read(s, k, kMissing, e);
        read(s, values, 0.f, v);
#pragma unroll
        for (int t = 0; t < kLength; ++t) scale = fmaxf(scale, e[t]);
        scale = ceilf(scale);
#pragma unroll
        for (int t = 0; t < kLength; ++t) e[t] = __expf(e[t] - scale);
    }

    __device__ __forceinline__ Ends ends() const {
        float x[kLength];
#pragma unroll
        for (int t = 0; t < kLength; ++t) x[t] = e[t] * v[t];
        return ends_of(x, e, scale, decay);
    }

    // Make everything relative to the largest exponent involved.
    __device__ __forceinline__ void rescale(const Ends& reach) {
        const float own = scale;
        scale = fmaxf(own, fmaxf(reach.prefix.m, reach.suffix.m));
        const float factor = __expf(own - scale);
#pragma unroll
        for (int t = 0; t < kLength; ++t) e[t] *= factor;
    }

    // P of every token.
    __device__ __forceinline__ void prefixes(const Ends& reach, float (&a)[kLength], float (&b)[kLength]) const {
        Pair sum(reach.prefix, scale);
#pragma unroll
        for (int t = 0; t < kLength; ++t) {
            a[t] = sum.a;
            b[t] = sum.b;
            sum.advance(decay, e[t] * v[t], e[t]);
        }
    }

    // From the last token to the first: visit(t, S_t, N_t, D_t), given P.
    template <class Visit>
    __device__ __forceinline__ void backwards(const Ends& reach, const float (&a)[kLength], const float (&b)[kLength],
                                              Visit visit) const {
        Pair sum(reach.suffix, scale);
#pragma unroll
        for (int t = kLength - 1; t >= 0; --t) {
            const float self = e[t] * bonus;
            visit(t, sum, a[t] + sum.a + self * v[t], b[t] + sum.b + self);
            sum.advance(decay, e[t] * v[t], e[t]);
        }
    }

    // What reaches N_t and D_t: g_t = gy_t / D_t and h_t = -g_t y_t, relative to the exponent -scale.
    template <class Number>
    __device__ __forceinline__ void gradient_terms(const Segment& s, const Ends& reach, const Number* gy,
                                                   float (&g)[kLength], float (&h)[kLength]) {
        read(s, gy, 0.f, g);
        rescale(reach);
        float a[kLength], b[kLength];
        prefixes(reach, a, b);
        backwards(reach, a, b, [&](int t, const Pair&, float n, float d) {
            const float inverse = __fdividef(1.f, d);
            g[t] = t < s.tokens ? g[t] * inverse : 0.f;
            h[t] = -g[t] * (n * inverse);
        });
    }
};

}  // namespace bi_wkv
