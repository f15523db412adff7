// Shared by the fused passes (fused_passes.cpp) and their driver (fused_cpu.cpp); README.md derives them.
#pragma once

#include <cstdint>

#include "bi_wkv_cpu.h"

namespace bi_wkv {

// Within these limits e^k, its sums over a map and their quotients stay within float32's range without separate
// exponents: e^24 for a key, e^16 for a decay over the whole map, e^8 for the bonus, 2^20 for a value.
constexpr float kMostKey = 24.0f, kMostDecay = 16.0f, kMostBonus = 8.0f, kMostValue = 1048576.0f;

// benchmark.py leaves out the operator to measure its cost: v replaces its result.
#ifdef RESTORE_WITHOUT_OPERATOR
constexpr bool kWithOperator = false;
#else
constexpr bool kWithOperator = true;
#endif

constexpr int kMostTileRows = 16, kMostTileColumns = 64;

// What a chunk of tokens contributes to those after and before it, for v and for 1; later what reaches it from there.
struct ScanState {
    float prefix[2][kLanes], suffix[2][kLanes];
};

// The weights of a block of the network. Matrices are stored in groups of sixteen columns, (groups, depth, 16); the
// depthwise kernels of Omni-Shift as (groups, 25, 16). The names are those of network/model.py.
struct BlockWeights {
    const float *norm1_scale, *norm1_bias, *shift1;
    const float* key_value_receptance;  // C to 3C
    const float* output;                // C to C, times gamma1
    const float *decay, *bonus;         // (2, C), divided by the number of tokens; rows first, then columns
    const float *norm2_scale, *norm2_bias, *shift2;
    const float *receptance2, *key2;  // C to C, C to 4C
    const float* value2;              // 4C to C, times gamma2
    float epsilon1, epsilon2;
};

// One image, (Y, X, C), in a block, divided into tiles of rows x columns pixels. A chunk of the scan along the rows is a
// row of a tile, one of the scan along the columns a column of a tile.
struct BlockWork {
    BlockWeights weights;
    int64_t height, width;
    int channels, groups;
    int rows, columns;  // of a tile
    int64_t tiles_down, tiles_across;
    const float* x;
    float *terms, *values, *gate;  // maps: e^k, later the result; v, later the scans' output; 1 + e^-r, later x + attention
    ScanState *along_rows, *along_columns;  // (Y, tiles_across, groups), (X, tiles_down, groups)

    int64_t tiles() const { return tiles_down * tiles_across; }
};

// A 3x3 convolution of a map (Y, X, from) with zero padding, or a product for every pixel of two maps side by side.
struct MapProduct {
    enum Kind : int { kPlain = 0, kUnshuffle = 1, kShuffle = 2, kJoin = 3 };
    Kind kind;
    int64_t height, width;
    int from, from_second, to;  // channels; from_second only for kJoin
    const float *x, *second;
    const float* matrix;  // (groups, 9 from, 16); for kJoin (groups, from + from_second, 16)
    const float* bias;    // one for each output channel; only for kPlain and kJoin
    float* y;
    int64_t y_stride;  // between pixels of y
};

struct FusedPasses {
    int64_t (*block_scratch)(const BlockWork&);                             // floats that a thread needs
    bool (*keys_and_values)(const BlockWork&, int64_t tile, float* scratch);  // false if a limit is exceeded
    void (*carry)(const BlockWork&, bool columns, bool backwards, int group);
    void (*scan_rows)(const BlockWork&, int64_t tile);
    void (*scan_columns)(const BlockWork&, int64_t tile, float* scratch);
    void (*mix_channels)(const BlockWork&, int64_t tile, float* scratch);
    int64_t (*product_scratch)(const MapProduct&);
    void (*product_row)(const MapProduct&, int64_t row, float* scratch);
};

}  // namespace bi_wkv
