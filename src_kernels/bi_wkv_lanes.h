// Sixteen neighbouring channels as one value with arithmetic, made of as many SIMD vectors as necessary.
// The vectors are the GCC and Clang extension; BI_WKV_VECTOR_BYTES is the size of one (a type wider than the instruction
// set supports would be lowered through memory).
#pragma once

#include <cstring>
#include <type_traits>
#include <utility>

#include "bi_wkv_cpu.h"

namespace bi_wkv {
namespace {

#define RESTORE_INLINE inline __attribute__((always_inline))

template <class Function, int... indices>
RESTORE_INLINE void unrolled(Function& function, std::integer_sequence<int, indices...>) {
    (function(std::integral_constant<int, indices>{}), ...);
}

// Call function(0), ..., function(count - 1), each with a constant: arrays indexed this way stay in registers.
template <int count, class Function>
RESTORE_INLINE void unrolled(Function function) {
    unrolled(function, std::make_integer_sequence<int, count>{});
}

template <class Real>
struct Lanes {
    typedef Real Vector __attribute__((vector_size(BI_WKV_VECTOR_BYTES)));
    static constexpr int kVectors = kLanes * sizeof(Real) / BI_WKV_VECTOR_BYTES;

    Vector part[kVectors];

    Lanes() : part{} {}
    Lanes(Real value) {  // implicit, so that numbers and lanes can be mixed
        // Minus zero, not plus: subtracting it gives the value itself whatever its sign, so the compiler can remove it.
        unrolled<kVectors>([&](auto i) __attribute__((always_inline)) { part[i] = value - Vector{}; });
    }

    template <class Operation>
    static RESTORE_INLINE Lanes each(Operation operation) {
        Lanes result;
        // A loop would index at run time, and keep the lanes in memory.
        unrolled<kVectors>([&](auto i) __attribute__((always_inline)) { result.part[i] = operation(i); });
        return result;
    }

    friend RESTORE_INLINE Lanes operator+(const Lanes& a, const Lanes& b) {
        return each([&](int i) __attribute__((always_inline)) { return a.part[i] + b.part[i]; });
    }
    friend RESTORE_INLINE Lanes operator-(const Lanes& a, const Lanes& b) {
        return each([&](int i) __attribute__((always_inline)) { return a.part[i] - b.part[i]; });
    }
    friend RESTORE_INLINE Lanes operator*(const Lanes& a, const Lanes& b) {
        return each([&](int i) __attribute__((always_inline)) { return a.part[i] * b.part[i]; });
    }
    friend RESTORE_INLINE Lanes operator/(const Lanes& a, const Lanes& b) {
        return each([&](int i) __attribute__((always_inline)) { return a.part[i] / b.part[i]; });
    }
    friend RESTORE_INLINE Lanes larger(const Lanes& a, const Lanes& b) {
        return each([&](int i) __attribute__((always_inline)) { return a.part[i] > b.part[i] ? a.part[i] : b.part[i]; });
    }
    RESTORE_INLINE Lanes operator-() const {
        return each([&](int i) __attribute__((always_inline)) { return -part[i]; });
    }
    RESTORE_INLINE Lanes& operator+=(const Lanes& other) { return *this = *this + other; }
    RESTORE_INLINE Lanes& operator*=(const Lanes& other) { return *this = *this * other; }
};

template <class Real>
RESTORE_INLINE Lanes<Real> load(const Real* from) {
    Lanes<Real> lanes;
    // Vector by vector: one large copy may be split into smaller pieces, and reading those back as a vector stalls.
    unrolled<Lanes<Real>::kVectors>([&](auto i) __attribute__((always_inline)) {
        memcpy(&lanes.part[i], from + i * kLanes / Lanes<Real>::kVectors, sizeof lanes.part[i]);
    });
    return lanes;
}

template <class Real>
RESTORE_INLINE void store(const Lanes<Real>& lanes, Real* to) {
    unrolled<Lanes<Real>::kVectors>([&](auto i) __attribute__((always_inline)) {
        memcpy(to + i * kLanes / Lanes<Real>::kVectors, &lanes.part[i], sizeof lanes.part[i]);
    });
}

template <class To, class From>
inline Lanes<To> convert(const Lanes<From>& lanes) {
    if constexpr (std::is_same_v<To, From>) {
        return lanes;
    } else {
        From from[kLanes];
        To to[kLanes];
        store(lanes, from);
        for (int c = 0; c < kLanes; ++c) to[c] = static_cast<To>(from[c]);
        return load(to);
    }
}

// Constants of the exponential for a type. Adding 1.5 * 2^(mantissa bits) rounds to an integer, which is then in the low
// bits of the sum; ln 2 is split in two, the first part with few bits, so that its product is exact.
template <class Real>
struct ExponentialOf;

template <>
struct ExponentialOf<float> {
    typedef int Integer;
    static constexpr float kRounder = 12582912.0f, kHigh = 0.693145752f, kLow = 1.42860677e-6f;
    static constexpr float kLowest = -87.0f, kHighest = 88.0f;
    static constexpr int kMantissaBits = 23, kTerms = 7;
};

template <>
struct ExponentialOf<double> {
    typedef long long Integer;
    static constexpr double kRounder = 6755399441055744.0, kHigh = 0.69314718036912382, kLow = 1.9082149292705877e-10;
    static constexpr double kLowest = -700.0, kHighest = 700.0;
    static constexpr int kMantissaBits = 52, kTerms = 13;
};

constexpr double kInverseFactorials[] = {
    1.0,        1.0,         1.0 / 2,      1.0 / 6,       1.0 / 24,       1.0 / 120,       1.0 / 720,
    1.0 / 5040, 1.0 / 40320, 1.0 / 362880, 1.0 / 3628800, 1.0 / 39916800, 1.0 / 479001600, 1.0 / 6227020800.0};

// e^x, exactly 0 below the normal range and finite above it; at most 2 units in the last place elsewhere: e^x = 2^n e^r
// with |r| <= ln 2 / 2, and e^r from its series.
template <class Real>
RESTORE_INLINE Lanes<Real> exp_of(const Lanes<Real>& exponent) {
    typedef ExponentialOf<Real> Constants;
    typedef typename Lanes<Real>::Vector Vector;
    typedef typename Constants::Integer Integers __attribute__((vector_size(BI_WKV_VECTOR_BYTES)));
    const Vector lowest = Vector{} + Constants::kLowest, highest = Vector{} + Constants::kHighest;
    return Lanes<Real>::each([&](int i) __attribute__((always_inline)) {
        Vector x = exponent.part[i] < lowest ? lowest : exponent.part[i];
        x = x > highest ? highest : x;
        const Vector shifted = x * Real(1.4426950408889634) + Constants::kRounder;
        const Vector n = shifted - Constants::kRounder;
        const Vector r = (x - n * Constants::kHigh) - n * Constants::kLow;
        Vector p = Vector{} + Real(kInverseFactorials[Constants::kTerms]);
        for (int k = Constants::kTerms - 1; k >= 0; --k) p = p * r + Real(kInverseFactorials[k]);
        const Vector power = (Vector)((Integers)p + ((Integers)shifted << Constants::kMantissaBits));
        return exponent.part[i] < lowest ? Vector{} : power;
    });
}

}  // namespace
}  // namespace bi_wkv
