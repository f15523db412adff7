// The products between the blocks, a row of the map at a time: 3x3 convolutions that change the resolution, and the 1x1
// convolution of two maps side by side. Channels are the fastest axis, so the three pixels that a row of the 3x3 kernel
// covers are one run of numbers, and the convolution is a product whose rows overlap.
#pragma once

#include "fused.h"
#include "fused_shift.h"
#include "fused_vectors.h"

namespace bi_wkv {
namespace {

int64_t product_scratch(const MapProduct& product) {
    const int64_t pixels = product.width + 2 + kPixelsAtOnce;
    return (product.kind == MapProduct::kJoin ? product.from + product.from_second : 3 * product.from) * pixels;
}

// Rows y-1, y, y+1 with one more pixel on either side; zeros outside the image.
inline void neighbourhood(const MapProduct& product, int64_t y, Segment (&segments)[3], float* scratch) {
    const int64_t from = product.from, width = product.width;
    for (int i = 0; i < 3; ++i) {
        float* row = scratch + i * (width + 2 + kPixelsAtOnce) * from;
        const int64_t above = y + i - 1;
        if (above < 0 || above >= product.height) {
            memset(row, 0, (width + 2) * from * sizeof(float));
        } else {
            memset(row, 0, from * sizeof(float));
            memcpy(row + from, product.x + above * width * from, width * from * sizeof(float));
            memset(row + (width + 1) * from, 0, from * sizeof(float));
        }
        segments[i] = {row, from, 3 * product.from};
    }
}

// Output channel n of pixel (y, x) becomes channel 4 n + 2 (y mod 2) + x mod 2 of the pixel at half the resolution.
RESTORE_INLINE void put_unshuffled(const MapProduct& product, int64_t y, int64_t x, int g, const Floats& lanes) {
    float values[kLanes];
    store(lanes, values);
    float* pixel = product.y + (y / 2 * (product.width / 2) + x / 2) * product.y_stride + 2 * (y % 2) + x % 2;
    for (int n = g * kLanes; n < product.to && n < (g + 1) * kLanes; ++n) pixel[4 * n] = values[n % kLanes];
}

// The matrix has its columns in the order (dy, dx, n): a quarter of them for each pixel at twice the resolution.
RESTORE_INLINE void put_shuffled(const MapProduct& product, int64_t y, int64_t x, int g, const Floats& lanes) {
    const int in_quarter = product.to / 4 / kLanes, quarter = g / in_quarter;
    const int64_t pixel = (2 * y + quarter / 2) * 2 * product.width + 2 * x + quarter % 2;
    store(lanes, product.y + pixel * product.y_stride + g % in_quarter * kLanes);
}

void product_row(const MapProduct& product, int64_t y, float* scratch) {
    const int64_t width = product.width;
    const int groups = (product.to + kLanes - 1) / kLanes;
    if (product.kind == MapProduct::kJoin) {
        float* second = scratch + (width + kPixelsAtOnce) * product.from;
        memcpy(scratch, product.x + y * width * product.from, width * product.from * sizeof(float));
        memcpy(second, product.second + y * width * product.from_second, width * product.from_second * sizeof(float));
        const Segment segments[2] = {{scratch, product.from, product.from}, {second, product.from_second, product.from_second}};
        multiply(segments, 2, width, product.matrix, groups,
                 [&](int64_t x, int g, const Floats& lanes) __attribute__((always_inline)) {
                     if (x < width)
                         store(lanes + load(product.bias + g * kLanes), product.y + (y * width + x) * product.y_stride + g * kLanes);
                 });
        return;
    }
    Segment segments[3];
    neighbourhood(product, y, segments, scratch);
    multiply(segments, 3, width, product.matrix, groups,
             [&](int64_t x, int g, const Floats& lanes) __attribute__((always_inline)) {
                 if (x >= width) return;
                 if (product.kind == MapProduct::kPlain)
                     store(lanes + load(product.bias + g * kLanes), product.y + (y * width + x) * product.y_stride + g * kLanes);
                 else if (product.kind == MapProduct::kUnshuffle)
                     put_unshuffled(product, y, x, g, lanes);
                 else
                     put_shuffled(product, y, x, g, lanes);
             });
}

}  // namespace
}  // namespace bi_wkv
