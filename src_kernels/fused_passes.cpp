// A block of the network, tile by tile, in four passes over the image; between them the scans' sums are carried on.
//
//   1  n = LN(x), s = shift(n), k, v, r = s W;  keeps e^k, v, 1 + e^-r and the sums of each row of the tile
//   2  the scan along the rows, over v; and the sums of each column of the tile
//   3  the scan along the columns, y;  x1 = x + gamma1 * W_o(y / (1 + e^-r))
//   4  n = LN(x1), s = shift(n);  x1 + gamma2 * W_v(relu(W_k s)^2) / (1 + e^-(W_r s))
//
// Compiled once for each instruction set; BI_WKV_ISA names the namespace, and everything else is internal to the file.

#include "fused.h"
#include "fused_products.h"
#include "fused_scan.h"
#include "fused_shift.h"
#include "fused_vectors.h"

namespace bi_wkv {
namespace {

constexpr int kColumnsAtOnce = 4;  // of the scan along the columns

inline int64_t row_pixels(const BlockWork& work) { return round_up(work.columns, kPixelsAtOnce) + kPixelsAtOnce; }

int64_t block_scratch(const BlockWork& work) {
    // The normalised tile; a shifted row, its receptance, its hidden layer; or the output of the gates.
    const int64_t rows = normalised_floats(work) + 6 * row_pixels(work) * work.channels;
    const int64_t gated = (work.rows * kColumnsAtOnce + kPixelsAtOnce) * work.channels;
    return rows > gated ? rows : gated;
}

// 1 + e^-x for a whole row in place; beyond e^20 the sigmoid is zero for every purpose.
inline void invert_sigmoid(float* values, int64_t count) {
    for (int64_t i = 0; i < count; i += kLanes) {
        const Floats x = load(values + i), most = 20.0f;
        store(exp_of(-larger(x, -most)) + 1.0f, values + i);
    }
}

// e^k in place of k; false if a value is too large for plain sums, or is NaN.
inline bool exponentiate(float* keys, const float* values, int64_t count) {
    typedef int Mask __attribute__((vector_size(BI_WKV_VECTOR_BYTES)));
    Mask fits[Floats::kVectors];
    for (Mask& one : fits) one = Mask{} - 1;
    const Vector key = Vector{} + kMostKey, value = Vector{} + kMostValue;
    for (int64_t i = 0; i < count; i += kLanes) {
        const Floats k = load(keys + i), v = load(values + i);
        for (int part = 0; part < Floats::kVectors; ++part)
            fits[part] &= (Mask)(k.part[part] <= key) & (Mask)(k.part[part] >= -key) & (Mask)(v.part[part] <= value) &
                          (Mask)(v.part[part] >= -value);
        store(exp_of(k), keys + i);
    }
    bool all = true;
    for (const Mask& one : fits)
        for (int lane = 0; lane < kFloatsInVector; ++lane) all = all && one[lane] != 0;
    return all;
}

inline ScanState& row_state(const BlockWork& work, int64_t y, int64_t across, int g) {
    return work.along_rows[(y * work.tiles_across + across) * work.groups + g];
}

inline ScanState& column_state(const BlockWork& work, int64_t x, int64_t down, int g) {
    return work.along_columns[(x * work.tiles_down + down) * work.groups + g];
}

RESTORE_INLINE Floats decay_of(const BlockWork& work, int order, int g) {
    return exp_of(-load(work.weights.decay + order * work.channels + g * kLanes));
}

RESTORE_INLINE Floats bonus_of(const BlockWork& work, int order, int g) {
    return exp_of(load(work.weights.bonus + order * work.channels + g * kLanes));
}

RESTORE_INLINE ScanChunk row_chunk(const BlockWork& work, const TilePlace& tile, int64_t y, int g) {
    const int64_t at = (y * work.width + tile.left) * work.channels + g * kLanes;
    return {work.terms + at, work.values + at, work.channels, tile.columns};
}

RESTORE_INLINE ScanChunk column_chunk(const BlockWork& work, const TilePlace& tile, int64_t x, int g) {
    const int64_t at = (tile.top * work.width + x) * work.channels + g * kLanes;
    return {work.terms + at, work.values + at, work.width * work.channels, tile.rows};
}

bool keys_and_values(const BlockWork& work, int64_t index, float* scratch) {
    const TilePlace tile(work, index);
    const BlockWeights& weights = work.weights;
    const int64_t channels = work.channels;
    float* shifted = scratch + normalised_floats(work);
    normalise_tile(work, tile, work.x, weights.norm1_scale, weights.norm1_bias, weights.epsilon1, scratch);
    bool fits = true;
    for (int row = 0; row < tile.rows; ++row) {
        const int64_t y = tile.top + row, at = (y * work.width + tile.left) * channels;
        float* const maps[] = {work.terms + at, work.values + at, work.gate + at};
        shift_row(work, scratch, row, tile.columns, weights.shift1, shifted);
        const Segment segment{shifted, channels, work.channels};
        for (int map = 0; map < 3; ++map) {
            float* to = maps[map];
            const float* matrix = weights.key_value_receptance + map * channels * channels;
            multiply(&segment, 1, tile.columns, matrix, work.groups,
                     [&](int64_t p, int g, const Floats& lanes) __attribute__((always_inline)) {
                         if (p < tile.columns) store(lanes, to + p * channels + g * kLanes);
                     });
        }
        invert_sigmoid(maps[2], tile.columns * channels);
        if (!kWithOperator) continue;
        fits = exponentiate(maps[0], maps[1], tile.columns * channels) && fits;
        for (int g = 0; g < work.groups; ++g)
            summarise_chunk(row_chunk(work, tile, y, g), decay_of(work, 0, g),
                            row_state(work, y, tile.left / work.columns, g));
    }
    return fits;
}

// The chunks of a scan are stored in order: along the rows (y, across), along the columns (x, down).
void carry(const BlockWork& work, bool columns, bool backwards, int group) {
    if (!kWithOperator) return;
    ScanState* states = (columns ? work.along_columns : work.along_rows) + group;
    const int64_t lines = columns ? work.width : work.height, in_line = columns ? work.tiles_down : work.tiles_across;
    const int64_t usual = columns ? work.rows : work.columns, length = columns ? work.height : work.width;
    const Lanes<double> w = convert<double>(load(work.weights.decay + columns * work.channels + group * kLanes));
    const Lanes<double> decay = exp_of(-w * double(usual));
    const Lanes<double> last = exp_of(-w * double(length - (in_line - 1) * usual));
    Carry running;
    const int64_t count = lines * in_line;
    for (int64_t i = 0; i < count; ++i) {
        const int64_t at = backwards ? count - 1 - i : i;
        ScanState& state = states[at * work.groups];
        running.pass(backwards ? state.suffix : state.prefix, at % in_line == in_line - 1 ? last : decay);
    }
}

void scan_rows(const BlockWork& work, int64_t index) {
    if (!kWithOperator) return;
    const TilePlace tile(work, index);
    const int64_t across = tile.left / work.columns, down = tile.top / work.rows;
    ChunkScan<kMostTileColumns> scan;
    for (int g = 0; g < work.groups; ++g) {
        const Floats decay = decay_of(work, 0, g), bonus = bonus_of(work, 0, g), decay_down = decay_of(work, 1, g);
        for (int64_t y = tile.top; y < tile.top + tile.rows; ++y) {
            const ScanState& reaching = row_state(work, y, across, g);
            const int64_t at = (y * work.width + tile.left) * work.channels + g * kLanes;
            PairOfSums sum = PairOfSums::from(reaching.prefix);
            for (int t = 0; t < tile.columns; ++t) {
                const int64_t token = at + t * work.channels;
                scan.forwards(t, sum, work.terms + token, work.values + token, decay);
            }
            sum = PairOfSums::from(reaching.suffix);
            for (int t = tile.columns - 1; t >= 0; --t) {
                const PairOfSums result = scan.backwards(t, sum, decay, bonus);
                store(result.a / result.b, work.values + at + t * work.channels);
            }
        }
        for (int64_t x = tile.left; x < tile.left + tile.columns; ++x)
            summarise_chunk(column_chunk(work, tile, x, g), decay_down, column_state(work, x, down, g));
    }
}

// N / (D (1 + e^-r)) of a few columns of a tile, row by row: neighbouring columns share their reads, and since their sums
// are independent, the CPU works on all of them in parallel.
inline void scan_some_columns(const BlockWork& work, const TilePlace& tile, int first, int columns, int g, float* gated) {
    const Floats decay = decay_of(work, 1, g), bonus = bonus_of(work, 1, g);
    const int64_t channels = work.channels, in_row = work.width * channels, down = tile.top / work.rows;
    const int64_t x = tile.left + first, at = (tile.top * work.width + x) * channels + g * kLanes;
    if (!kWithOperator) {
        for (int t = 0; t < tile.rows; ++t)
            for (int c = 0; c < columns; ++c) {
                const int64_t token = at + t * in_row + c * channels;
                store(load(work.values + token) / load(work.gate + token), gated + (t * kColumnsAtOnce + c) * channels);
            }
        return;
    }
    ChunkScan<kMostTileRows> scans[kColumnsAtOnce];
    PairOfSums sums[kColumnsAtOnce];
    const float* const maps[] = {work.terms, work.values, work.gate, work.x};
    for (int c = 0; c < columns; ++c) sums[c] = PairOfSums::from(column_state(work, x + c, down, g).prefix);
    for (int t = 0; t < tile.rows; ++t)
        for (int c = 0; c < columns; ++c) {
            const int64_t token = at + t * in_row + c * channels;
            scans[c].forwards(t, sums[c], work.terms + token, work.values + token, decay);
            // The hardware prefetcher does not follow the columns.
            for (const float* map : maps)
                __builtin_prefetch(map + token + kColumnsAtOnce * channels, 0, 2);
        }
    for (int c = 0; c < columns; ++c) sums[c] = PairOfSums::from(column_state(work, x + c, down, g).suffix);
    for (int t = tile.rows - 1; t >= 0; --t)
        for (int c = 0; c < columns; ++c) {
            const PairOfSums result = scans[c].backwards(t, sums[c], decay, bonus);
            const Floats gate = load(work.gate + at + t * in_row + c * channels);
            store(result.a / (result.b * gate), gated + (t * kColumnsAtOnce + c) * channels);
        }
}

void scan_columns(const BlockWork& work, int64_t index, float* gated) {
    const TilePlace tile(work, index);
    const int64_t channels = work.channels;
    for (int first = 0; first < tile.columns; first += kColumnsAtOnce) {
        const int columns = tile.columns - first < kColumnsAtOnce ? tile.columns - first : kColumnsAtOnce;
        for (int g = 0; g < work.groups; ++g) scan_some_columns(work, tile, first, columns, g, gated + g * kLanes);
        const Segment segment{gated, channels, work.channels};
        multiply(&segment, 1, tile.rows * kColumnsAtOnce, work.weights.output, work.groups,
                 [&](int64_t p, int g, const Floats& lanes) __attribute__((always_inline)) {
                     const int64_t row = p / kColumnsAtOnce, column = p % kColumnsAtOnce;
                     if (column >= columns || row >= tile.rows) return;
                     const int64_t pixel = (tile.top + row) * work.width + tile.left + first + column;
                     const int64_t at = pixel * channels + g * kLanes;
                     store(load(work.x + at) + lanes, work.gate + at);
                 });
    }
}

void mix_channels(const BlockWork& work, int64_t index, float* scratch) {
    const TilePlace tile(work, index);
    const BlockWeights& weights = work.weights;
    const int64_t channels = work.channels;
    float* shifted = scratch + normalised_floats(work);
    float* gate = shifted + row_pixels(work) * channels;
    float* hidden = gate + row_pixels(work) * channels;
    normalise_tile(work, tile, work.gate, weights.norm2_scale, weights.norm2_bias, weights.epsilon2, scratch);
    for (int row = 0; row < tile.rows; ++row) {
        const int64_t at = ((tile.top + row) * work.width + tile.left) * channels;
        shift_row(work, scratch, row, tile.columns, weights.shift2, shifted);
        const Segment segment{shifted, channels, work.channels};
        multiply(&segment, 1, tile.columns, weights.receptance2, work.groups,
                 [&](int64_t p, int g, const Floats& lanes) __attribute__((always_inline)) {
                     store(lanes, gate + p * channels + g * kLanes);
                 });
        invert_sigmoid(gate, tile.columns * channels);
        multiply(&segment, 1, tile.columns, weights.key2, 4 * work.groups,
                 [&](int64_t p, int g, const Floats& lanes) __attribute__((always_inline)) {
                     const Floats positive = larger(lanes, 0.0f);
                     store(positive * positive, hidden + p * 4 * channels + g * kLanes);
                 });
        const Segment wide{hidden, 4 * channels, 4 * work.channels};
        multiply(&wide, 1, tile.columns, weights.value2, work.groups,
                 [&](int64_t p, int g, const Floats& lanes) __attribute__((always_inline)) {
                     if (p >= tile.columns) return;
                     const int64_t here = p * channels + g * kLanes;
                     store(load(work.gate + at + here) + lanes / load(gate + here), work.terms + at + here);
                 });
    }
}

}  // namespace

namespace BI_WKV_ISA {

FusedPasses fused_passes() {
    return {block_scratch, keys_and_values, carry, scan_rows, scan_columns, mix_channels, product_scratch, product_row};
}

}  // namespace BI_WKV_ISA
}  // namespace bi_wkv
