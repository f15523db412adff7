// Sixteen neighbouring channels as one value with arithmetic, made of as many of the processor's vectors as it takes.
// The vectors are the extension of GCC and Clang; BI_WKV_VECTOR_BYTES is the size of one (a wider type than the
// instruction set has would be lowered through memory).
#pragma once

#include <cmath>
#include <cstring>
#include <type_traits>

#include "bi_wkv_cpu.h"

namespace bi_wkv {
namespace {

template <class Real>
struct Lanes {
    typedef Real Vector __attribute__((vector_size(BI_WKV_VECTOR_BYTES)));
    static constexpr int kVectors = kLanes * sizeof(Real) / BI_WKV_VECTOR_BYTES;

    Vector part[kVectors];

    Lanes() : part{} {}
    Lanes(Real value) {  // implicit, so that numbers mix with lanes as they do with numbers
        for (Vector& p : part) p = Vector{} + value;
    }

    template <class Operation>
    static Lanes each(Operation operation) {
        Lanes result;
        for (int i = 0; i < kVectors; ++i) result.part[i] = operation(i);
        return result;
    }

    friend Lanes operator+(const Lanes& a, const Lanes& b) {
        return each([&](int i) { return a.part[i] + b.part[i]; });
    }
    friend Lanes operator-(const Lanes& a, const Lanes& b) {
        return each([&](int i) { return a.part[i] - b.part[i]; });
    }
    friend Lanes operator*(const Lanes& a, const Lanes& b) {
        return each([&](int i) { return a.part[i] * b.part[i]; });
    }
    friend Lanes operator/(const Lanes& a, const Lanes& b) {
        return each([&](int i) { return a.part[i] / b.part[i]; });
    }
    friend Lanes larger(const Lanes& a, const Lanes& b) {
        return each([&](int i) { return a.part[i] > b.part[i] ? a.part[i] : b.part[i]; });
    }
    Lanes operator-() const {
        return each([&](int i) { return -part[i]; });
    }
    Lanes& operator+=(const Lanes& other) { return *this = *this + other; }
    Lanes& operator*=(const Lanes& other) { return *this = *this * other; }
};

template <class Real>
inline Lanes<Real> load(const Real* from) {
    Lanes<Real> lanes;
    memcpy(lanes.part, from, sizeof lanes.part);
    return lanes;
}

template <class Real>
inline void store(const Lanes<Real>& lanes, Real* to) {
    memcpy(to, lanes.part, sizeof lanes.part);
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

// e^x, exactly 0 below float32's normal range and finite above it; at most 2 units in the last place elsewhere.
inline Lanes<float> exp_of(const Lanes<float>& exponent) {
    typedef Lanes<float>::Vector Vector;
    typedef int Integers __attribute__((vector_size(BI_WKV_VECTOR_BYTES)));
    const Vector lowest = Vector{} - 87.0f, highest = Vector{} + 88.0f;
    return Lanes<float>::each([&](int i) {
        Vector x = exponent.part[i] < lowest ? lowest : exponent.part[i];
        x = x > highest ? highest : x;
        // Adding 1.5 * 2^23 rounds to an integer, which then stands in the low bits of the sum.
        const Vector shifted = x * 1.44269504f + 12582912.0f;
        const Vector n = shifted - 12582912.0f;
        // ln 2 in two parts: the first has few bits, so that its product is exact.
        const Vector r = (x - n * 0.693145752f) - n * 1.42860677e-6f;
        Vector p = Vector{} + 1.0f / 5040;
        p = p * r + 1.0f / 720;
        p = p * r + 1.0f / 120;
        p = p * r + 1.0f / 24;
        p = p * r + 1.0f / 6;
        p = p * r + 0.5f;
        p = p * r + 1.0f;
        p = p * r + 1.0f;
        const Vector power = (Vector)((Integers)p + ((Integers)shifted << 23));
        return exponent.part[i] < lowest ? Vector{} : power;
    });
}

inline Lanes<double> exp_of(const Lanes<double>& exponent) {
    double values[kLanes];
    store(exponent, values);
    for (double& value : values) value = std::exp(value < 700.0 ? value : 700.0);
    return load(values);
}

}  // namespace
}  // namespace bi_wkv
