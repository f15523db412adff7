// Arithmetic shared by the kernels: an exponential that compilers can vectorise. No includes beyond these two.
#pragma once

#include <math.h>
#include <string.h>

namespace bi_wkv {

// Stands for "no term yet" among the exponents: far below any real one, yet safe to subtract from.
constexpr float kEmpty = -1e30f;

// e^x, exactly 0 below float32's normal range and finite above it; at most 2 units in the last place elsewhere.
// Static, so that copies compiled for different instruction sets are never merged by the linker.
static inline float exp_of(float x) {
    const bool underflows = x < -87.0f;
    x = x < -87.0f ? -87.0f : (x > 88.0f ? 88.0f : x);
    // Adding 1.5 * 2^23 rounds to an integer, which then stands in the low bits of the sum.
    const float shifted = x * 1.44269504f + 12582912.0f;
    const float n = shifted - 12582912.0f;
    float r = x - n * 0.693145752f;  // ln 2 in two parts: the first has few bits, so that the product is exact
    r = r - n * 1.42860677e-6f;
    float p = 1.0f / 5040;
    p = p * r + 1.0f / 720;
    p = p * r + 1.0f / 120;
    p = p * r + 1.0f / 24;
    p = p * r + 1.0f / 6;
    p = p * r + 0.5f;
    p = p * r + 1.0f;
    p = p * r + 1.0f;
    int bits, power;
    memcpy(&power, &shifted, sizeof power);
    memcpy(&bits, &p, sizeof bits);
    bits += static_cast<int>(static_cast<unsigned>(power) << 23);
    memcpy(&p, &bits, sizeof p);
    return underflows ? 0.0f : p;
}

static inline double exp_of(double x) { return exp(x < 700.0 ? x : 700.0); }

}  // namespace bi_wkv
