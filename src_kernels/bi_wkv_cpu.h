// Shared by the passes over one chunk (bi_wkv_passes.cpp) and their driver (bi_wkv_cpu.cpp).
#pragma once

#include <cstdint>

namespace bi_wkv {

constexpr int kLanes = 16;     // channels processed side by side: one cache line of floats
constexpr int kMaxChunk = 64;  // tokens of a chunk

// Means "no term yet" among the exponents: far below any real one, yet safe to subtract from.
constexpr float kEmpty = -1e30f;

template <class Real>
struct Problem {
    int64_t batch, height, width, channels;
    bool column_major;
    const Real *w, *u;  // (C,)
    const Real *k, *v;  // (B, T, C), tokens in row-major order whatever the order of the scan

    int64_t tokens() const { return height * width; }
};

// A partial sum e^m (a, b), lane by lane: numerator and denominator relative to one exponent.
template <class Real>
struct State {
    Real m[kLanes], a[kLanes], b[kLanes];
};

// Of one chunk: first what it contributes to the tokens after it and before it, later what reaches it from there.
template <class Real>
struct States {
    State<Real> prefix, suffix;
};

// At most kLanes channels of one batch item. Their chunk is as long as float32's range allows.
template <class Real>
struct Block {
    const Problem<Real>* problem;
    int64_t batch, first_channel, chunks, first_chunk;  // first_chunk: its position among all blocks' chunks
    int channels, chunk_tokens;
    Real w[kLanes], u[kLanes], decay[kLanes], bonus[kLanes];  // decay = e^-w, bonus = e^u
};

// One chunk's contribution to the gradients of w and u.
template <class Real>
struct ParameterGradients {
    Real w[kLanes], u[kLanes];
};

template <class Real>
struct Passes {
    void (*summarise)(const Block<Real>&, int64_t chunk, States<Real>& own);
    void (*carry)(const Block<Real>&, States<Real>* states);
    void (*write_output)(const Block<Real>&, int64_t chunk, const States<Real>& reaching, Real* y);
    void (*summarise_gradient)(const Block<Real>&, int64_t chunk, const States<Real>& reaching, const Real* gy,
                               States<Real>& own);
    void (*write_gradients)(const Block<Real>&, int64_t chunk, const States<Real>& reaching,
                            const States<Real>& reaching_gradient, const Real* gy, Real* gk, Real* gv,
                            ParameterGradients<Real>& sums);
};

}  // namespace bi_wkv
