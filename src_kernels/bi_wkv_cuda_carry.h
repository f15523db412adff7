// Carries the states from chunk to chunk.
#pragma once

#include "bi_wkv_cuda_segment.h"

namespace bi_wkv {

constexpr int kCarryLanes = BI_WKV_CARRY_LANES;    // channels of a block of `carry`
constexpr int kCarryGroups = BI_WKV_CARRY_GROUPS;  // runs of chunks that it processes side by side

// In double precision: over thousands of chunks the rounding of one decay, always in the same direction, would add up.
struct Carried {
    double a, b;
    float m;

    __device__ void pass(double whole, double factor, const Carried& own) {
        const float decayed = float(m + whole);
        const float larger = fmaxf(decayed, own.m);
        const double keep = factor * expf(decayed - larger), add = expf(own.m - larger);
        a = a * keep + own.a * add;
        b = b * keep + own.b * add;
        m = larger;
    }
};

typedef Carried CarriedRuns[kCarryGroups][kCarryLanes];

// e^x as e^integer times a factor near 1.
struct CarriedPower {
    double whole, factor;

    __device__ explicit CarriedPower(double x) {
        whole = rint(x);
        factor = exp(x - whole);
    }
};

__device__ __forceinline__ void carry(CarriedRuns& runs, const float* w, float* states, Index chunks,
                                      Index channels) {
    const unsigned tiles = unsigned((channels + kCarryLanes - 1) / kCarryLanes);
    const unsigned direction = blockIdx.x % 2, tile = blockIdx.x / 2 % tiles, image = blockIdx.x / 2 / tiles;
    const Index channel = Index(tile) * kCarryLanes + threadIdx.x;
    const bool in_use = channel < channels;
    const double decay = in_use ? -double(slower_than_fastest(w[channel])) * kChunk : 0.;
    const CarriedPower over(decay);

    // Each group of threads has a run of chunks, counted in scan order.
    const Index run = (chunks + kCarryGroups - 1) / kCarryGroups;
    const int group = int(threadIdx.y);
    const Index begin = in_use ? group * run : chunks, end = begin + run < chunks ? begin + run : chunks;
    const auto at = [&](Index i) {
        const Index chunk = direction ? chunks - 1 - i : i;
        return states + ((Index(image) * chunks + chunk) * 6 + 3 * direction) * channels + channel;
    };
    const auto load = [&](Index i) {
        const float* from = at(i);
        return Carried{from[channels], from[2 * channels], from[0]};
    };

    Carried sum = {0., 0., kEmpty};
#pragma unroll 4
    for (Index i = begin; i < end; ++i) sum.pass(over.whole, over.factor, load(i));
    runs[group][threadIdx.x] = sum;
    __syncthreads();
    // Each round doubles the number of runs that a sum covers.
    for (int reach = 1; reach < kCarryGroups && reach * run < chunks; reach *= 2) {
        const bool has_other = group >= reach;
        Carried other = has_other ? runs[group - reach][threadIdx.x] : Carried{0., 0., kEmpty};
        __syncthreads();
        const CarriedPower over_runs(decay * double(reach * run));
        other.pass(over_runs.whole, over_runs.factor, sum);
        sum = other;
        runs[group][threadIdx.x] = sum;
        __syncthreads();
    }

    Carried running = group ? runs[group - 1][threadIdx.x] : Carried{0., 0., kEmpty};
#pragma unroll 4
    for (Index i = begin; i < end; ++i) {
        const Carried own = load(i);
        float* to = at(i);
        to[0] = running.m;
        to[channels] = float(running.a);
        to[2 * channels] = float(running.b);
        running.pass(over.whole, over.factor, own);
    }
}

}  // namespace bi_wkv
