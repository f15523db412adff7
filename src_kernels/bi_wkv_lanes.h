// Sixteen neighbouring channels as one value with arithmetic: the vector extension of GCC and Clang, which every
// instruction set is lowered to.
#pragma once

#include <cstring>

#include "bi_wkv_cpu.h"
#include "bi_wkv_math.h"

namespace bi_wkv {
namespace {

template <class Real>
struct LanesOf {
    typedef Real type __attribute__((vector_size(kLanes * sizeof(Real))));
};

template <class Real>
using Lanes = typename LanesOf<Real>::type;

template <class Real>
inline Lanes<Real> load(const Real* from) {
    Lanes<Real> lanes;
    memcpy(&lanes, from, sizeof lanes);
    return lanes;
}

template <class Real>
inline void store(const Lanes<Real>& lanes, Real* to) {
    memcpy(to, &lanes, sizeof lanes);
}

template <class To, class From>
inline Lanes<To> convert(const Lanes<From>& lanes) {
    return __builtin_convertvector(lanes, Lanes<To>);
}

template <class Real>
inline Lanes<Real> all_lanes(Real value) {
    return Lanes<Real>{} + value;
}

template <class V>
inline V larger(const V& a, const V& b) {
    return a > b ? a : b;
}

template <class V>
inline V smaller(const V& a, const V& b) {
    return a < b ? a : b;
}

// The same steps as the scalar exp_of of bi_wkv_math.h, which documents them.
inline Lanes<float> exp_of(const Lanes<float>& exponent) {
    typedef int Integers __attribute__((vector_size(kLanes * sizeof(int))));
    const Lanes<float> x = smaller(larger(exponent, all_lanes(-87.0f)), all_lanes(88.0f));
    const Lanes<float> shifted = x * 1.44269504f + 12582912.0f;
    const Lanes<float> n = shifted - 12582912.0f;
    const Lanes<float> r = (x - n * 0.693145752f) - n * 1.42860677e-6f;
    Lanes<float> p = all_lanes(1.0f / 5040);
    p = p * r + 1.0f / 720;
    p = p * r + 1.0f / 120;
    p = p * r + 1.0f / 24;
    p = p * r + 1.0f / 6;
    p = p * r + 0.5f;
    p = p * r + 1.0f;
    p = p * r + 1.0f;
    const Lanes<float> power = (Lanes<float>)((Integers)p + ((Integers)shifted << 23));
    return exponent < -87.0f ? Lanes<float>{} : power;
}

inline Lanes<double> exp_of(const Lanes<double>& exponent) {
    Lanes<double> result;
    for (int c = 0; c < kLanes; ++c) result[c] = bi_wkv::exp_of(static_cast<double>(exponent[c]));
    return result;
}

}  // namespace
}  // namespace bi_wkv
