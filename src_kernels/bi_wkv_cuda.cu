// The WKV kernel for NVIDIA GPUs: parallel over channels, images and pieces of the sequence. README.md derives it, and
// bi_wkv_passes.cpp is the same computation on a CPU:
//
//   P_t = sum_{i<t} e^(k_i - (t-i-1) w) (v_i, 1),    P_{t+1} = e^-w P_t + e^(k_t) (v_t, 1),
//   S_t = sum_{i>t} e^(k_i - (i-t-1) w) (v_i, 1),    S_{t-1} = e^-w S_t + e^(k_t) (v_t, 1),
//   y_t = N_t / D_t,   (N_t, D_t) = P_t + S_t + e^(u + k_t) (v_t, 1).
//
// A thread walks over a segment of one channel, a block over a chunk of segments of neighbouring channels. Each pass reads
// memory once: the first stores what every chunk contributes to the others, `carry` turns that into what reaches every
// chunk, the next pass finishes. Compiled at run time for the installed GPU, so there is no header to include.

#include "bi_wkv_cuda_careful.h"
#include "bi_wkv_cuda_carry.h"
#include "bi_wkv_cuda_walk.h"

namespace bi_wkv {

// Above this sum of exponents of keys and gradients their factors are not kept separate.
constexpr float kMaxMeeting = 20.f;

__device__ __forceinline__ bool wants_care(float w, float u) {
    return !(fabsf(w) * kLength <= kMaxExponent && fabsf(u) <= kMaxExponent);
}

// Lanes beyond the last channel compute nothing that is kept.
__device__ __forceinline__ float decay_of(const Segment& s, const float* w) {
    return s.in_use() ? slower_than_fastest(w[s.channel]) : 0.f;
}

__device__ __forceinline__ float bonus_of(const Segment& s, const float* u) { return s.in_use() ? u[s.channel] : 0.f; }

template <class Number>
__device__ __forceinline__ Ends read_and_sum(const Segment& s, bool careful, float w, const Number* k, const Number* v,
                                             Walk& walk) {
    if (careful) return careful_ends(s, w, k, v);
    walk.read_terms(s, k, v);
    return walk.ends();
}

template <class Number>
__device__ __forceinline__ void summarise(const Map& map, Published& own, const float* w_, const Number* k,
                                          const Number* v, float* states) {
    const Segment s(map, blockIdx.x);
    const float w = decay_of(s, w_);
    Walk walk(w, 0.f);
    publish(read_and_sum(s, wants_care(w, 0.f), w, k, v, walk), own);
    __syncthreads();
    store_chunk(s, own, power(-w * kLength), states);
}

// The chunks in reverse: the ones that `summarise` read last are still in the cache.
template <class Number>
__device__ __forceinline__ void write_output(const Map& map, Published& own, const float* w_, const float* u_,
                                             const Number* k, const Number* v, const float* states, Number* y) {
    const Segment s(map, gridDim.x - 1 - blockIdx.x);
    const float w = decay_of(s, w_), u = bonus_of(s, u_);
    const bool careful = wants_care(w, u);
    Walk walk(w, u);
    publish(read_and_sum(s, careful, w, k, v, walk), own);
    __syncthreads();
    const Ends reach = reaching(s, states, own, power(-w * kLength));
    if (careful) {
        careful_output(s, w, u, k, v, reach, y);
        return;
    }
    walk.rescale(reach);
    float a[kLength], b[kLength];
    walk.prefixes(reach, a, b);
    walk.backwards(reach, a, b, [&](int t, const Pair&, float n, float d) { a[t] = __fdividef(n, d); });
    write(s, a, y);
}

template <class Number>
__device__ __forceinline__ Ends gradient_sum(const Segment& s, bool careful, float w, float u, const Number* k,
                                             const Number* v, const Number* gy, const Ends& reach, Walk& walk,
                                             float (&g)[kLength], float (&h)[kLength]) {
    if (careful) return careful_gradient_ends(s, w, u, k, v, gy, reach);
    walk.gradient_terms(s, reach, gy, g, h);
    // A segment without tokens has no exponent.
    return ends_of(g, h, s.tokens ? -walk.scale : kEmpty, walk.decay);
}

// The start of both gradient passes: the forward sums, then g and h, published. Returns what reaches the segment.
template <class Number>
__device__ __forceinline__ Ends reach_gradient_terms(const Segment& s, Published& own, Published& own_gradient,
                                                     bool careful, float w, float u, const Number* k, const Number* v,
                                                     const Number* gy, const float* states, Walk& walk,
                                                     float (&g)[kLength], float (&h)[kLength]) {
    publish(read_and_sum(s, careful, w, k, v, walk), own);
    __syncthreads();
    const Ends reach = reaching(s, states, own, power(-w * kLength));
    publish(gradient_sum(s, careful, w, u, k, v, gy, reach, walk, g, h), own_gradient);
    __syncthreads();
    return reach;
}

template <class Number>
__device__ __forceinline__ void summarise_gradient(const Map& map, Published& own, Published& own_gradient,
                                                   const float* w_, const float* u_, const Number* k, const Number* v,
                                                   const Number* gy, const float* states, float* gradient_states) {
    const Segment s(map, gridDim.x - 1 - blockIdx.x);
    const float w = decay_of(s, w_), u = bonus_of(s, u_);
    const Power over = power(-w * kLength);
    const bool careful = wants_care(w, u);
    Walk walk(w, u);
    float g[kLength], h[kLength];
    reach_gradient_terms(s, own, own_gradient, careful, w, u, k, v, gy, states, walk, g, h);
    store_chunk(s, own_gradient, over, gradient_states);
}

typedef ParameterGradients Shares[kSegments][kLanes];

// With Q the scans of (g, h) from either side and self_t = e^(u + k_t):
//   gv_t = e^(k_t) (Q of g) + self_t g_t,    gk_t = v_t gv_t + e^(k_t) (Q of h) + self_t h_t,
//   gu = sum_t self_t (g_t v_t + h_t),
//   gw = -e^-w sum_j (P_j . Q behind j + S_j . Q before j): each pair is counted once for every token between its two.
template <class Number>
__device__ __forceinline__ ParameterGradients plain_gradients(const Segment& s, const Walk& walk, const float (&g)[kLength],
                                                              const float (&h)[kLength], const Ends& reach,
                                                              const Ends& reach_gradient, Number* gk, Number* gv) {
    ParameterGradients sums = {0.f, 0.f};
    float a[kLength], b[kLength], s_a[kLength], s_b[kLength];
    walk.prefixes(reach, a, b);
    Pair q(reach_gradient.suffix, -walk.scale);
    walk.backwards(reach, a, b, [&](int t, const Pair& behind, float, float) {
        sums.w += a[t] * q.a + b[t] * q.b;
        s_a[t] = behind.a;
        s_b[t] = behind.b;
        a[t] = q.a;
        b[t] = q.b;
        q.advance(walk.decay, g[t], h[t]);
    });
    q = Pair(reach_gradient.prefix, -walk.scale);
#pragma unroll
    for (int t = 0; t < kLength; ++t) {
        const float self = walk.e[t] * walk.bonus, of_u = self * (g[t] * walk.v[t] + h[t]);
        sums.u += of_u;
        sums.w += s_a[t] * q.a + s_b[t] * q.b;
        const float from_others = walk.e[t] * (a[t] + q.a);
        b[t] = walk.v[t] * from_others + walk.e[t] * (b[t] + q.b) + of_u;
        a[t] = from_others + self * g[t];
        q.advance(walk.decay, g[t], h[t]);
    }
    write(s, a, gv);
    write(s, b, gk);
    sums.w *= -walk.decay;
    return sums;
}

template <class Number>
__device__ __forceinline__ void write_gradients(const Map& map, Published& own, Published& own_gradient,
                                                Shares& shares, const float* w_, const float* u_, const Number* k,
                                                const Number* v, const Number* gy, const float* states,
                                                const float* gradient_states, Number* gk, Number* gv, float* gw,
                                                float* gu) {
    const Segment s(map, blockIdx.x);
    const float w = decay_of(s, w_), u = bonus_of(s, u_);
    const Power over = power(-w * kLength);
    const bool careful = wants_care(w, u);
    Walk walk(w, u);
    float g[kLength], h[kLength];
    const Ends reach = reach_gradient_terms(s, own, own_gradient, careful, w, u, k, v, gy, states, walk, g, h);
    const Ends reach_gradient = reaching(s, gradient_states, own_gradient, over);
    // Where terms of very different size meet, e^k Q is moderate although its factors leave float32's range.
    const float meeting = walk.scale + fmaxf(reach_gradient.prefix.m, reach_gradient.suffix.m);
    publish(careful || meeting > kMaxMeeting
                ? careful_gradients(s, w, u, k, v, gy, reach, reach_gradient, gk, gv)
                : plain_gradients(s, walk, g, h, reach, reach_gradient, gk, gv),
            shares);
    __syncthreads();
    if (!s.in_use() || threadIdx.y > 0) return;
    ParameterGradients sums = {0.f, 0.f};
    for (int i = 0; i < kSegments; ++i) {
        sums.w += shares[i][threadIdx.x].w;
        sums.u += shares[i][threadIdx.x].u;
    }
    gw[s.parameter] = sums.w;
    gu[s.parameter] = sums.u;
}

}  // namespace bi_wkv

// The entry points. All sizes are 64-bit; the grid is one-dimensional: channels / 16, then chunks, then images.

#define BI_WKV_BLOCK(blocks) __launch_bounds__(bi_wkv::kLanes * bi_wkv::kSegments, blocks)
#define BI_WKV_SIZES long long batch, long long height, long long width, long long channels
#define BI_WKV_MAP bi_wkv::Map{batch, height, width, channels}

#define BI_WKV_DEFINE(Number, suffix)                                                                                 \
    extern "C" __global__ void BI_WKV_BLOCK(6) bi_wkv_summarise_##suffix(                                             \
        const float* w, const Number* k, const Number* v, float* states, BI_WKV_SIZES) {                              \
        __shared__ bi_wkv::Published own;                                                                             \
        bi_wkv::summarise(BI_WKV_MAP, own, w, k, v, states);                                                          \
    }                                                                                                                 \
    extern "C" __global__ void BI_WKV_BLOCK(5) bi_wkv_output_##suffix(                                                \
        const float* w, const float* u, const Number* k, const Number* v, const float* states, Number* y, BI_WKV_SIZES) {\
        __shared__ bi_wkv::Published own;                                                                             \
        bi_wkv::write_output(BI_WKV_MAP, own, w, u, k, v, states, y);                                                 \
    }                                                                                                                 \
    extern "C" __global__ void BI_WKV_BLOCK(4) bi_wkv_summarise_gradient_##suffix(                                    \
        const float* w, const float* u, const Number* k, const Number* v, const Number* gy, const float* states,      \
        float* gradient_states, BI_WKV_SIZES) {                                                                       \
        __shared__ bi_wkv::Published own, own_gradient;                                                               \
        bi_wkv::summarise_gradient(BI_WKV_MAP, own, own_gradient, w, u, k, v, gy, states, gradient_states);           \
    }                                                                                                                 \
    extern "C" __global__ void BI_WKV_BLOCK(3) bi_wkv_gradients_##suffix(                                             \
        const float* w, const float* u, const Number* k, const Number* v, const Number* gy, const float* states,      \
        const float* gradient_states, Number* gk, Number* gv, float* gw, float* gu, BI_WKV_SIZES) {                   \
        __shared__ bi_wkv::Published own, own_gradient;                                                               \
        __shared__ bi_wkv::Shares shares;                                                                             \
        bi_wkv::write_gradients(BI_WKV_MAP, own, own_gradient, shares, w, u, k, v, gy, states, gradient_states, gk, gv, gw, gu);\
    }

BI_WKV_DEFINE(float, float)
BI_WKV_DEFINE(bi_wkv::Half, half)
BI_WKV_DEFINE(bi_wkv::BFloat16, bfloat16)

extern "C" __global__ void __launch_bounds__(bi_wkv::kCarryLanes* bi_wkv::kCarryGroups)
    bi_wkv_carry(const float* w, float* states, long long chunks, long long channels) {
    __shared__ bi_wkv::CarriedRuns runs;
    bi_wkv::carry(runs, w, states, chunks, channels);
}
