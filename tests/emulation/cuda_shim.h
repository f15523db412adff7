// Enough of CUDA to compile a kernel's unchanged source for the CPU: one fiber a thread, one block at a time.
#pragma once

#include <cmath>
#include <cstring>

struct Dimensions {
    unsigned x, y, z;
};

extern Dimensions threadIdx, blockIdx, blockDim, gridDim;

// All shared variables lie in one section, so that it can be filled with NaN before each block.
#define __shared__ static __attribute__((section("shared_memory")))
#define __global__
#define __device__
#define __forceinline__ inline
#define __noinline__ __attribute__((noinline))
#define __launch_bounds__(...)

// A number for a place in the source, the folder aside.
constexpr unsigned place_of(const char* file, unsigned line) {
    unsigned hash = 0;
    for (; *file; ++file) hash = *file == '/' ? 0 : hash * 31 + static_cast<unsigned char>(*file);
    return hash * 31 + line;
}

// Threads that wait at different barriers are an error.
void wait_at_barrier(unsigned place);
#define __syncthreads() wait_at_barrier(place_of(__FILE__, __LINE__))

inline float __expf(float x) { return std::exp(x); }
inline float __fdividef(float x, float y) { return x / y; }

inline float __uint_as_float(unsigned bits) {
    float x;
    std::memcpy(&x, &bits, sizeof x);
    return x;
}

inline unsigned __float_as_uint(float x) {
    unsigned bits;
    std::memcpy(&bits, &x, sizeof bits);
    return bits;
}
