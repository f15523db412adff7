// Where the tokens of a thread are, and what the segments of a chunk contribute to each other.
#pragma once

#include "bi_wkv_cuda_numbers.h"

namespace bi_wkv {

typedef long long Index;
// From network/cuda_compiler.py, where the launches get them, too.
constexpr int kLanes = BI_WKV_LANES;        // channels of a block, side by side in memory
constexpr int kLength = BI_WKV_LENGTH;      // tokens of a segment
constexpr int kSegments = BI_WKV_SEGMENTS;  // segments of a chunk
constexpr int kChunk = kLength * kSegments;

// A map whose columns are scanned one after another. Row order is the column order of a map one pixel wide.
struct Map {
    Index batch, height, width, channels;

    __device__ Index tokens() const { return height * width; }
    __device__ unsigned chunks() const { return unsigned((tokens() + kChunk - 1) / kChunk); }
};

// Division of 32-bit words where they suffice, as it is several times faster.
__device__ __forceinline__ Index quotient(Index x, Index y) {
    return (x | y) >> 32 ? x / y : Index(unsigned(x) / unsigned(y));
}

// The tokens of one channel that a thread walks over.
struct Segment {
    Index channel, channels;
    Index state;            // first element of the chunk's states, at this channel
    Index parameter;        // element of the chunk's contribution to a parameter's gradient
    Index start;            // element of the first token
    Index step, wrap;       // to the next token of a column, and from the last one to the next column
    int row, height;        // of the first token; both clamped to what a segment can reach
    int tokens;             // 0 for lanes beyond the last channel
    bool straight;          // it is full and does not wrap to another column

    __device__ Segment(const Map& map, unsigned unit) {
        channels = map.channels;
        const unsigned tiles = unsigned((channels + kLanes - 1) / kLanes), chunks = map.chunks();
        const unsigned tile = unit % tiles, place = unit / tiles, chunk = place % chunks, image = place / chunks;
        channel = Index(tile) * kLanes + threadIdx.x;
        state = Index(place) * 6 * channels + channel;
        parameter = Index(place) * channels + channel;

        const Index first = Index(chunk) * kChunk + Index(threadIdx.y) * kLength;
        const Index left = channel < channels ? map.tokens() - first : 0;
        tokens = int(left < 0 ? 0 : left > kLength ? kLength : left);
        const Index column = quotient(first, map.height), in_column = first - column * map.height;
        start = ((Index(image) * map.height + in_column) * map.width + column) * channels + channel;
        step = map.width * channels;
        wrap = channels - (map.height - 1) * step;
        const Index rows_left = map.height - in_column;
        height = int(map.height < kLength ? map.height : kLength + 1);
        row = height - int(rows_left < height ? rows_left : height);
        straight = tokens == kLength && rows_left >= kLength;
    }

    __device__ bool in_use() const { return channel < channels; }
};

// Moves from token to token of a segment.
struct Cursor {
    Index at;
    int row;

    __device__ explicit Cursor(const Segment& s) : at(s.start), row(s.row) {}

    __device__ void advance(const Segment& s) {
        const bool last = ++row == s.height;
        at += last ? s.wrap : s.step;
        if (last) row = 0;
    }
};

// Call visit(t, element, there) for every token of a segment, in order; straight ones need only an addition each.
template <class Visit>
__device__ __forceinline__ void for_each_token(const Segment& s, Visit visit) {
    if (s.straight) {
        Index at = s.start;
#pragma unroll
        for (int t = 0; t < kLength; ++t, at += s.step) visit(t, at, true);
    } else {
        Cursor cursor(s);
#pragma unroll
        for (int t = 0; t < kLength; ++t, cursor.advance(s)) visit(t, cursor.at, t < s.tokens);
    }
}

template <class Number>
__device__ __forceinline__ void read(const Segment& s, const Number* from, float missing, float (&to)[kLength]) {
    for_each_token(s, [&](int t, Index at, bool there) { to[t] = there ? to_float(from[at]) : missing; });
}

template <class Number>
__device__ __forceinline__ void write(const Segment& s, const float (&from)[kLength], Number* to) {
    for_each_token(s, [&](int t, Index at, bool there) {
        if (there) store(from[t], to + at);
    });
}

// The states of a chunk in memory: prefix and suffix, each with m, a and b, each a row of channels.
__device__ __forceinline__ State load_state(const Segment& s, const float* states, int direction) {
    const float* at = states + s.state + 3 * direction * s.channels;
    return {at[0], at[s.channels], at[2 * s.channels]};
}

__device__ __forceinline__ void store_state(const Segment& s, const State& x, float* states, int direction) {
    float* at = states + s.state + 3 * direction * s.channels;
    at[0] = x.m;
    at[s.channels] = x.a;
    at[2 * s.channels] = x.b;
}

typedef Ends Published[kSegments][kLanes];

// Each thread publishes its states to the others of its block, in shared memory.
template <class Value>
__device__ __forceinline__ void publish(const Value& own, Value (&values)[kSegments][kLanes]) {
    values[threadIdx.y][threadIdx.x] = own;
}

// What reaches this segment: what reaches the chunk, and what the other segments of the chunk contribute.
__device__ __forceinline__ Ends reaching(const Segment& s, const float* states, const Published& own, const Power& over) {
    Ends ends = {nothing(), nothing()};
    if (!s.in_use()) return ends;
    const int segment = int(threadIdx.y);
    ends = {load_state(s, states, 0), load_state(s, states, 1)};
    for (int i = 0; i < segment; ++i) ends.prefix = join(ends.prefix * over, own[i][threadIdx.x].prefix);
    for (int i = kSegments - 1; i > segment; --i) ends.suffix = join(ends.suffix * over, own[i][threadIdx.x].suffix);
    return ends;
}

// What the chunk contributes to the others: the first threads fold the prefixes, the next ones the suffixes.
__device__ __forceinline__ void store_chunk(const Segment& s, const Published& own, const Power& over, float* states) {
    if (!s.in_use()) return;
    State sum = nothing();
    if (threadIdx.y == 0) {
        for (int i = 0; i < kSegments; ++i) sum = join(sum * over, own[i][threadIdx.x].prefix);
        store_state(s, sum, states, 0);
    } else if (threadIdx.y == 1) {
        for (int i = kSegments - 1; i >= 0; --i) sum = join(sum * over, own[i][threadIdx.x].suffix);
        store_state(s, sum, states, 1);
    }
}

}  // namespace bi_wkv
