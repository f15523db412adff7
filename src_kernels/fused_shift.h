// LayerNorm and Omni-Shift of one tile: n = scale (x - mean) / sqrt(var + epsilon) + bias over the channels of a pixel,
// then s = the depthwise 5x5 convolution of n, with zeros outside the image.
#pragma once

#include <cmath>

#include "fused.h"
#include "fused_vectors.h"

namespace bi_wkv {
namespace {

constexpr int kHalo = 2, kTaps = 5;
constexpr int kPixelsAtOnce = 8;  // accumulators of the convolution

constexpr int64_t round_up(int64_t value, int64_t to) { return (value + to - 1) / to * to; }

// A tile of an image: its position and its size, clipped at the image's border.
struct TilePlace {
    int64_t top, left;
    int rows, columns;

    TilePlace(const BlockWork& work, int64_t tile) {
        top = tile / work.tiles_across * work.rows;
        left = tile % work.tiles_across * work.columns;
        rows = static_cast<int>(work.height - top < work.rows ? work.height - top : work.rows);
        columns = static_cast<int>(work.width - left < work.columns ? work.width - left : work.columns);
    }
};

// Pixels from one row of a normalised tile to the next: the halo, and space for the last few pixels, which are processed
// together.
inline int64_t normalised_stride(const BlockWork& work) {
    return round_up(work.columns, kPixelsAtOnce) + 2 * kHalo + kHalo;
}

inline int64_t normalised_floats(const BlockWork& work) {
    return (work.rows + 2 * kHalo) * normalised_stride(work) * work.channels;
}

constexpr int kNormalisedAtOnce = 4;

// Gather four pixels from separate places into four contiguous ones.
RESTORE_INLINE void normalise_pixels(const float* const (&x)[kNormalisedAtOnce], int groups, const float* scale,
                                     const float* bias, float epsilon, float* to) {
    const float share = 1.0f / static_cast<float>(groups * kLanes);
    Floats totals[kNormalisedAtOnce];
    for (int g = 0; g < groups; ++g)
        unrolled<kNormalisedAtOnce>([&](auto p) __attribute__((always_inline)) { totals[p] += load(x[p] + g * kLanes); });
    const Four means = sums_of(totals) * share;
    Floats squares[kNormalisedAtOnce];
    for (int g = 0; g < groups; ++g)
        unrolled<kNormalisedAtOnce>([&](auto p) __attribute__((always_inline)) {
            const Floats off = load(x[p] + g * kLanes) - means[p()];
            squares[p] += off * off;
        });
    const Four variances = sums_of(squares) * share + epsilon;
    Four factors;
    for (int p = 0; p < kNormalisedAtOnce; ++p) factors[p] = std::sqrt(variances[p]);
    factors = 1.0f / factors;
    for (int g = 0; g < groups; ++g) {
        const Floats slope = load(scale + g * kLanes), offset = load(bias + g * kLanes);
        unrolled<kNormalisedAtOnce>([&](auto p) __attribute__((always_inline)) {
            const Floats off = load(x[p] + g * kLanes) - means[p()];
            store(off * factors[p()] * slope + offset, to + (p * groups + g) * kLanes);
        });
    }
}

// The tile and two pixels around it, normalised; zeros outside the image.
inline void normalise_tile(const BlockWork& work, const TilePlace& tile, const float* map, const float* scale,
                           const float* bias, float epsilon, float* to) {
    const int64_t channels = work.channels, stride = normalised_stride(work) * channels;
    const int64_t first = tile.left < kHalo ? 0 : tile.left - kHalo;
    const int64_t right = tile.left + tile.columns + kHalo, end = right < work.width ? right : work.width;
    const int64_t before = first - (tile.left - kHalo), behind = right - end;
    for (int r = -kHalo; r < tile.rows + kHalo; ++r, to += stride) {
        const int64_t y = tile.top + r;
        if (y < 0 || y >= work.height) {
            memset(to, 0, (tile.columns + 2 * kHalo) * channels * sizeof(float));
            continue;
        }
        memset(to, 0, before * channels * sizeof(float));
        for (int64_t x = first; x < end; x += kNormalisedAtOnce) {
            const float* pixels[kNormalisedAtOnce];
            // The last pixel of the row more than once: a row of the tile has space for the copies, and zeros follow.
            for (int64_t p = 0; p < kNormalisedAtOnce; ++p)
                pixels[p] = map + (y * work.width + (x + p < end ? x + p : end - 1)) * channels;
            normalise_pixels(pixels, work.groups, scale, bias, epsilon, to + (x - tile.left + kHalo) * channels);
        }
        memset(to + (tile.columns + 2 * kHalo - behind) * channels, 0, behind * channels * sizeof(float));
    }
}

// One row of the tile, shifted: `columns` pixels and a few more, (pixels, C).
inline void shift_row(const BlockWork& work, const float* normalised, int row, int columns, const float* kernel,
                      float* to) {
    const int64_t channels = work.channels, stride = normalised_stride(work) * channels;
    for (int g = 0; g < work.groups; ++g, kernel += kTaps * kTaps * kLanes)
        for (int v = 0; v < Floats::kVectors; ++v) {
            const int64_t lane = g * kLanes + v * kFloatsInVector;
            for (int c = 0; c < columns; c += kPixelsAtOnce) {
                Vector sums[kPixelsAtOnce] = {};
                for (int i = 0; i < kTaps; ++i) {
                    const float* from = normalised + (row + i) * stride + c * channels + lane;
                    Vector weights[kTaps];
                    unrolled<kTaps>([&](auto j) __attribute__((always_inline)) {
                        weights[j] = load_vector(kernel + (i * kTaps + j) * kLanes + v * kFloatsInVector);
                    });
                    // Each pixel is read once per row, and added to the sums of all pixels that it is a neighbour of.
                    unrolled<kPixelsAtOnce + kTaps - 1>([&](auto q) __attribute__((always_inline)) {
                        const Vector value = load_vector(from + q * channels);
                        unrolled<kTaps>([&](auto j) __attribute__((always_inline)) {
                            constexpr int p = int(decltype(q)::value) - int(decltype(j)::value);
                            if constexpr (p >= 0 && p < kPixelsAtOnce) sums[p] += weights[j] * value;
                        });
                    });
                }
                unrolled<kPixelsAtOnce>([&](auto p) __attribute__((always_inline)) {
                    memcpy(to + (c + p) * channels + lane, &sums[p], sizeof(Vector));
                });
            }
        }
}

}  // namespace
}  // namespace bi_wkv
