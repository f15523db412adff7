// 16-bit numbers by their bits (NVRTC has no header for them here), and sums that carry their own exponent.
#pragma once

namespace bi_wkv {

// Means "no term yet" among the exponents: far below any real one, yet safe to subtract from.
constexpr float kEmpty = -1e30f;
// No decay needs to be faster than this per token: e^-kFastest is 0, while its multiples are still exact integers.
constexpr float kFastest = 1e4f;

struct Half {
    unsigned short bits;
};

struct BFloat16 {
    unsigned short bits;
};

__device__ __forceinline__ float to_float(float x) { return x; }

__device__ __forceinline__ float to_float(BFloat16 x) { return __uint_as_float(unsigned(x.bits) << 16); }

__device__ __forceinline__ float to_float(Half x) {
    const unsigned magnitude = x.bits & 0x7fffu;
    unsigned bits;
    if (magnitude < 0x0400u)  // subnormal
        bits = __float_as_uint(float(magnitude) * 0x1p-24f);
    else
        bits = (magnitude << 13) + (magnitude < 0x7c00u ? 0x38000000u : 0x70000000u);  // infinity and NaN are preserved
    return __uint_as_float(bits | (x.bits & 0x8000u) << 16);
}

__device__ __forceinline__ void store(float x, float* to) { *to = x; }

// Round to the nearest, ties to even.
__device__ __forceinline__ void store(float x, BFloat16* to) {
    const unsigned bits = __float_as_uint(x);
    const bool is_nan = (bits & 0x7fffffffu) > 0x7f800000u;
    to->bits = is_nan ? bits >> 16 | 0x40u : (bits + 0x7fffu + (bits >> 16 & 1u)) >> 16;
}

__device__ __forceinline__ void store(float x, Half* to) {
    const unsigned magnitude = __float_as_uint(x) & 0x7fffffffu;
    unsigned bits;
    if (magnitude > 0x7f800000u)
        bits = 0x7e00u;
    else if (magnitude >= 0x477ff000u)  // 65520 and above
        bits = 0x7c00u;
    else if (magnitude < 0x38800000u)  // subnormal: near 0.5 the steps of a float are those of a subnormal half
        bits = __float_as_uint(__uint_as_float(magnitude) + 0.5f) - 0x3f000000u;
    else
        bits = (magnitude - 0x38000000u + 0xfffu + (magnitude >> 13 & 1u)) >> 13;
    to->bits = bits | (__float_as_uint(x) >> 16 & 0x8000u);
}

// e^m (a, b) for v and for 1, or for the two parts of the gradient. m is an integer, so it never rounds.
struct State {
    float m, a, b;
};

__device__ __forceinline__ State nothing() { return {kEmpty, 0.f, 0.f}; }

__device__ __forceinline__ State join(const State& x, const State& y) {
    const float m = fmaxf(x.m, y.m);
    const float p = __expf(x.m - m), q = __expf(y.m - m);
    return {m, x.a * p + y.a * q, x.b * p + y.b * q};
}

__device__ __forceinline__ float slower_than_fastest(float w) { return fminf(fmaxf(w, -kFastest), kFastest); }

// e^x as e^integer times a factor near 1.
struct Power {
    float whole, factor;
};

__device__ __forceinline__ Power power(float x) {
    const float whole = rintf(x);
    return {whole, expf(x - whole)};
}

__device__ __forceinline__ State operator*(const State& x, const Power& p) {
    return {x.m + p.whole, x.a * p.factor, x.b * p.factor};
}

// The sums of a run of tokens, one token after it and one token before it; or what reaches it from there: the sum of all
// tokens before, at its first token, and of all tokens after, at its last.
struct Ends {
    State prefix, suffix;
};

}  // namespace bi_wkv
