// The baseline for the GPU kernel: the straightforward way to divide a channel among 64 threads.
//
// One block for each image and channel; each thread walks over one 64th of the tokens, and so reads memory with a stride of
// all channels. States are exchanged through shared memory, with one barrier. The suffix is updated along the walk by
// subtracting each token as it is reached, which saves a second walk but costs digits; the rest suffice for moderate
// decays. Row order, float32.

namespace {

constexpr int kThreads = 64;

struct State {
    float m, a, b;
};

__device__ State join(const State& x, const State& y) {
    const float m = fmaxf(x.m, y.m);
    const float p = __expf(x.m - m), q = __expf(y.m - m);
    return {m, x.a * p + y.a * q, x.b * p + y.b * q};
}

__device__ State decayed(const State& x, float exponent) { return {x.m - exponent, x.a, x.b}; }

}  // namespace

extern "C" __global__ void __launch_bounds__(kThreads)
    bi_wkv_64_chunks(const float* w_, const float* u_, const float* k, const float* v, float* y, long long tokens,
                     long long channels) {
    __shared__ State prefixes[kThreads], suffixes[kThreads];
    const long long channel = blockIdx.x % channels, image = blockIdx.x / channels;
    const long long length = (tokens + kThreads - 1) / kThreads;
    const long long first = threadIdx.x * length < tokens ? threadIdx.x * length : tokens;
    const long long end = first + length < tokens ? first + length : tokens;
    const long long start = image * tokens * channels + channel;
    const float w = w_[channel], u = u_[channel];

    // The sums of the thread's own tokens, one token after them and one before them.
    State prefix = {-1e30f, 0.f, 0.f}, suffix = prefix;
    for (long long t = first; t < end; ++t) {
        const float key = k[start + t * channels], value = v[start + t * channels];
        prefix = join(decayed(prefix, w), {key, value, 1.f});
        suffix = join(suffix, {key - (t - first) * w, value, 1.f});
    }
    prefixes[threadIdx.x] = prefix;
    suffixes[threadIdx.x] = suffix;
    __syncthreads();

    // What reaches the thread's first token from before; and the sum of it and all tokens after it, one token before it.
    prefix = suffix = {-1e30f, 0.f, 0.f};
    for (int i = 0; i < int(threadIdx.x); ++i) prefix = join(decayed(prefix, length * w), prefixes[i]);
    for (int i = kThreads - 1; i >= int(threadIdx.x); --i) suffix = join(decayed(suffix, length * w), suffixes[i]);

    for (long long t = first; t < end; ++t) {
        const float key = k[start + t * channels], value = v[start + t * channels];
        // Subtract the token from the suffix.
        const float own = __expf(key - suffix.m);
        suffix = {suffix.m + w, suffix.a - own * value, suffix.b - own};
        const State self = {u + key, value, 1.f};
        const State all = join(join(prefix, suffix), self);
        y[start + t * channels] = all.a / all.b;
        prefix = join(decayed(prefix, w), {key, value, 1.f});
    }
}
