// Horizontal sums, and products of matrices of which one is small enough to stay in the cache. Everything here is
// compiled once for each instruction set.
#pragma once

#include "bi_wkv_lanes.h"

namespace bi_wkv {
namespace {

using Floats = Lanes<float>;
using Vector = Floats::Vector;

constexpr int kFloatsInVector = BI_WKV_VECTOR_BYTES / sizeof(float);

RESTORE_INLINE Vector load_vector(const float* from) {
    Vector vector;
    memcpy(&vector, from, sizeof vector);
    return vector;
}

typedef float Four __attribute__((vector_size(16)));

// The sums of lanes i, i + 4, i + 8 and i + 12.
RESTORE_INLINE Four quarter_sums(const Floats& lanes) {
#if BI_WKV_VECTOR_BYTES == 64
    const auto half = __builtin_shufflevector(lanes.part[0], lanes.part[0], 0, 1, 2, 3, 4, 5, 6, 7) +
                      __builtin_shufflevector(lanes.part[0], lanes.part[0], 8, 9, 10, 11, 12, 13, 14, 15);
    return __builtin_shufflevector(half, half, 0, 1, 2, 3) + __builtin_shufflevector(half, half, 4, 5, 6, 7);
#elif BI_WKV_VECTOR_BYTES == 32
    const Vector half = lanes.part[0] + lanes.part[1];
    return __builtin_shufflevector(half, half, 0, 1, 2, 3) + __builtin_shufflevector(half, half, 4, 5, 6, 7);
#else
    return (lanes.part[0] + lanes.part[2]) + (lanes.part[1] + lanes.part[3]);
#endif
}

// The sums of all lanes of four values; the order of the additions is the same for every instruction set.
RESTORE_INLINE Four sums_of(const Floats (&lanes)[4]) {
    const Four a = quarter_sums(lanes[0]), b = quarter_sums(lanes[1]);
    const Four c = quarter_sums(lanes[2]), d = quarter_sums(lanes[3]);
    const Four ab = __builtin_shufflevector(a, b, 0, 4, 1, 5) + __builtin_shufflevector(a, b, 2, 6, 3, 7);
    const Four cd = __builtin_shufflevector(c, d, 0, 4, 1, 5) + __builtin_shufflevector(c, d, 2, 6, 3, 7);
    return __builtin_shufflevector(ab, cd, 0, 1, 4, 5) + __builtin_shufflevector(ab, cd, 2, 3, 6, 7);
}

// A product C = A B is summed over segments of A: the rows of a 3x3 neighbourhood, the two maps of a concatenation.
struct Segment {
    const float* rows;  // row p starts at rows + p * stride
    int64_t stride;
    int length;
};

// Rows and groups of sixteen columns held in registers: of the 32 (AVX-512, NEON) or 16 registers, all but those for one
// row of B and one value of A.
#if BI_WKV_VECTOR_BYTES == 64
constexpr int kTileRows = 8, kTileGroups = 3;
#elif BI_WKV_VECTOR_BYTES == 32
constexpr int kTileRows = 6, kTileGroups = 1;
#elif defined(__aarch64__)
constexpr int kTileRows = 6, kTileGroups = 1;
#else
constexpr int kTileRows = 3, kTileGroups = 1;
#endif

// This many rows at the end, or half as many, are a separate tile.
constexpr int kRowsLeftOver = kTileRows > 4 ? 4 : 0;

// Rows p..p+rows-1 of A times `groups` groups of columns of B; put(row, group, lanes) takes each result.
template <int rows, int groups, class Put>
RESTORE_INLINE void multiply_tile(const Segment* segments, int count, int64_t p, const float* b, int64_t depth,
                                  Put put) {
    constexpr int vectors = groups * Floats::kVectors;
    Vector sums[rows][vectors] = {};
    for (int s = 0; s < count; ++s) {
        const float* a = segments[s].rows + p * segments[s].stride;
        const int64_t stride = segments[s].stride;
        for (int k = 0; k < segments[s].length; ++k, b += kLanes) {
            Vector row[vectors];
            unrolled<vectors>([&](auto v) __attribute__((always_inline)) {
                row[v] = load_vector(b + v / Floats::kVectors * depth * kLanes + v % Floats::kVectors * kFloatsInVector);
            });
            unrolled<rows>([&](auto r) __attribute__((always_inline)) {
                const Vector value = a[r * stride + k] - Vector{};
                unrolled<vectors>([&](auto v) __attribute__((always_inline)) { sums[r][v] += value * row[v]; });
            });
        }
    }
    unrolled<rows>([&](auto r) __attribute__((always_inline)) {
        unrolled<groups>([&](auto g) __attribute__((always_inline)) {
            Floats lanes;
            unrolled<Floats::kVectors>([&](auto v) __attribute__((always_inline)) { lanes.part[v] = sums[r][g * Floats::kVectors + v]; });
            put(p + r, g, lanes);
        });
    });
}

// C = A B for `rows` rows and all groups of sixteen columns: put(row, group, lanes). B lies group by group, each depth x 16
// and contiguous. A is read up to the next multiple of kTileRows, and put is called for those rows too.
template <class Put>
RESTORE_INLINE void multiply(const Segment* segments, int count, int64_t rows, const float* b, int groups, Put put) {
    int64_t depth = 0;
    for (int s = 0; s < count; ++s) depth += segments[s].length;
    int first = 0;
    const auto some = [&](auto wide) __attribute__((always_inline)) {
        const float* panel = b + first * depth * kLanes;
        const auto tile = [&](auto tall, int64_t p) __attribute__((always_inline)) {
            multiply_tile<tall, wide>(segments, count, p, panel, depth,
                                      [&](int64_t row, int g, const Floats& lanes) __attribute__((always_inline)) { put(row, first + g, lanes); });
        };
        int64_t p = 0;
        for (; p + kRowsLeftOver < rows; p += kTileRows) tile(std::integral_constant<int, kTileRows>{}, p);
        if constexpr (kRowsLeftOver > 0) {
            if (p + kRowsLeftOver / 2 < rows)
                tile(std::integral_constant<int, kRowsLeftOver>{}, p);
            else if (p < rows)
                tile(std::integral_constant<int, kRowsLeftOver / 2>{}, p);
        }
        first += wide;
    };
    while (first < groups) {
        const int left = groups - first;
        if constexpr (kTileGroups >= 3) {
            // Four groups are split into two and two, not three and one.
            if (left == 3 || left > 4) {
                some(std::integral_constant<int, 3>{});
                continue;
            }
            if (left >= 2) {
                some(std::integral_constant<int, 2>{});
                continue;
            }
        }
        some(std::integral_constant<int, 1>{});
    }
}

}  // namespace
}  // namespace bi_wkv
