// The C interface of the CPU kernel: divides the problem into blocks of channels and chunks of tokens, and distributes
// the chunks among threads. Results do not depend on the number of threads.

#include "bi_wkv_cpu.h"
#include "instruction_set.h"
#include "thread_pool.h"

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <exception>
#include <limits>
#include <memory>
#include <vector>

namespace bi_wkv {

namespace baseline {
template <class Real>
Passes<Real> passes();
}
#ifdef BI_WKV_X86_DISPATCH
namespace avx2 {
template <class Real>
Passes<Real> passes();
}
namespace avx512 {
template <class Real>
Passes<Real> passes();
}
#endif

namespace {

// Sums within a chunk decay by up to e^-(|w| n), and the bonus scales them by e^u: with this bound on either they stay
// within float32's range together with the keys.
constexpr double kMaxExponentPerChunk = 24.0;

// Below this many array elements a thread costs more than it saves.
constexpr int64_t kElementsPerThread = 1 << 16;

template <class Real>
Passes<Real> best_passes() {
#ifdef BI_WKV_X86_DISPATCH
    switch (instruction_set()[3]) {
        case '-': return avx512::passes<Real>();
        case '2': return avx2::passes<Real>();
    }
#endif
    return baseline::passes<Real>();
}

// An infinite factor would turn an empty sum into NaN.
template <class Real>
Real finite_exp(Real x) {
    return std::min(std::exp(x), std::numeric_limits<Real>::max());
}

template <class Real>
Block<Real> make_block(const Problem<Real>& p, int64_t batch, int64_t first_channel, int64_t first_chunk) {
    Block<Real> block{};
    block.problem = &p;
    block.batch = batch;
    block.first_channel = first_channel;
    block.first_chunk = first_chunk;
    block.channels = static_cast<int>(std::min<int64_t>(kLanes, p.channels - first_channel));
    double decay = 0, bonus = 0;
    for (int c = 0; c < kLanes; ++c) {
        block.w[c] = c < block.channels ? p.w[first_channel + c] : Real(0);
        block.u[c] = c < block.channels ? p.u[first_channel + c] : Real(0);
        block.decay[c] = finite_exp(-block.w[c]);
        block.bonus[c] = finite_exp(block.u[c]);
        decay = std::max(decay, std::abs(static_cast<double>(block.w[c])));
        bonus = std::max(bonus, std::abs(static_cast<double>(block.u[c])));
    }
    block.chunk_tokens = kMaxChunk;
    if (decay * kMaxChunk > kMaxExponentPerChunk)
        block.chunk_tokens = std::max(1, static_cast<int>(kMaxExponentPerChunk / decay));
    if (bonus > kMaxExponentPerChunk) block.chunk_tokens = 1;
    block.chunks = (p.tokens() + block.chunk_tokens - 1) / block.chunk_tokens;
    return block;
}

template <class Real>
std::vector<Block<Real>> make_blocks(const Problem<Real>& p) {
    std::vector<Block<Real>> blocks;
    int64_t chunks = 0;
    for (int64_t b = 0; b < p.batch; ++b)
        for (int64_t c = 0; c < p.channels; c += kLanes) {
            blocks.push_back(make_block(p, b, c, chunks));
            chunks += blocks.back().chunks;
        }
    return blocks;
}

// Call work(i) for every i in [0, count), in runs long enough that the cost of taking one is negligible.
template <class Work>
void in_parallel(int64_t count, int threads, Work work) {
    const int64_t grain = std::max<int64_t>(1, count / (int64_t(8) * threads));
    restore_threads::for_each_unit(count, grain, threads, [&](int64_t i, int) { work(i); });
}

template <class Real>
class Runner {
   public:
    Runner(const Problem<Real>& problem, int threads)
        : problem_(problem), passes_(best_passes<Real>()), blocks_(make_blocks(problem)) {
        for (const auto& block : blocks_) {
            chunks_ += block.chunks;
            most_chunks_ = std::max(most_chunks_, block.chunks);
        }
        const int64_t elements = problem.batch * problem.tokens() * problem.channels;
        threads_ = static_cast<int>(std::clamp<int64_t>(elements / kElementsPerThread, 1, std::max(1, threads)));
    }

    void forward(Real* y) {
        const auto states = sums_that_reach_chunks();
        for_each_chunk([&](const Block<Real>& block, int64_t i) {
            passes_.write_output(block, i, states[block.first_chunk + i], y);
        });
    }

    void backward(const Real* gy, Real* gw, Real* gu, Real* gk, Real* gv) {
        const auto states = sums_that_reach_chunks();
        const auto gradients = new_states();
        for_each_chunk([&](const Block<Real>& block, int64_t i) {
            const int64_t at = block.first_chunk + i;
            passes_.summarise_gradient(block, i, states[at], gy, gradients[at]);
        });
        carry(gradients.get());
        std::unique_ptr<ParameterGradients<Real>[]> sums(new ParameterGradients<Real>[chunks_]);
        for_each_chunk([&](const Block<Real>& block, int64_t i) {
            const int64_t at = block.first_chunk + i;
            passes_.write_gradients(block, i, states[at], gradients[at], gy, gk, gv, sums[at]);
        });
        add_up(sums.get(), gw, gu);
    }

   private:
    using StatesOfChunks = std::unique_ptr<States<Real>[]>;

    StatesOfChunks new_states() const { return StatesOfChunks(new States<Real>[chunks_]); }

    StatesOfChunks sums_that_reach_chunks() {
        auto states = new_states();
        for_each_chunk([&](const Block<Real>& block, int64_t i) {
            passes_.summarise(block, i, states[block.first_chunk + i]);
        });
        carry(states.get());
        return states;
    }

    void carry(States<Real>* states) {
        in_parallel(static_cast<int64_t>(blocks_.size()), threads_,
                    [&](int64_t i) { passes_.carry(blocks_[i], states + blocks_[i].first_chunk); });
    }

    // Neighbouring channels of the same tokens are consecutive, so memory is read in long runs.
    template <class Work>
    void for_each_chunk(Work work) {
        const auto count = static_cast<int64_t>(blocks_.size());
        in_parallel(count * most_chunks_, threads_, [&](int64_t unit) {
            const Block<Real>& block = blocks_[unit % count];
            if (unit / count < block.chunks) work(block, unit / count);
        });
    }

    void add_up(const ParameterGradients<Real>* sums, Real* gw, Real* gu) const {
        std::vector<double> w(problem_.channels), u(problem_.channels);
        for (const auto& block : blocks_)
            for (int64_t i = 0; i < block.chunks; ++i)
                for (int c = 0; c < block.channels; ++c) {
                    w[block.first_channel + c] += sums[block.first_chunk + i].w[c];
                    u[block.first_channel + c] += sums[block.first_chunk + i].u[c];
                }
        std::transform(w.begin(), w.end(), gw, [](double x) { return static_cast<Real>(x); });
        std::transform(u.begin(), u.end(), gu, [](double x) { return static_cast<Real>(x); });
    }

    Problem<Real> problem_;
    Passes<Real> passes_;
    std::vector<Block<Real>> blocks_;
    int64_t chunks_ = 0, most_chunks_ = 0;
    int threads_ = 1;
};

// 0 on success, 1 if out of memory (the only possible failure): no exception crosses the C interface.
template <class Run>
int guarded(Run run) {
    try {
        run();
        return 0;
    } catch (const std::exception&) {
        return 1;
    }
}

}  // namespace
}  // namespace bi_wkv

#ifdef _WIN32
#define BI_WKV_EXPORT extern "C" __declspec(dllexport)
#else
#define BI_WKV_EXPORT extern "C" __attribute__((visibility("default")))
#endif

#define BI_WKV_DEFINE(Real, suffix)                                                                                   \
    BI_WKV_EXPORT int bi_wkv_forward_##suffix(int64_t batch, int64_t height, int64_t width, int64_t channels,         \
                                              int column_major, const Real* w, const Real* u, const Real* k,          \
                                              const Real* v, Real* y, int threads) {                                  \
        const bi_wkv::Problem<Real> p{batch, height, width, channels, column_major != 0, w, u, k, v};                 \
        return bi_wkv::guarded([&] { bi_wkv::Runner<Real>(p, threads).forward(y); });                                 \
    }                                                                                                                 \
    BI_WKV_EXPORT int bi_wkv_backward_##suffix(int64_t batch, int64_t height, int64_t width, int64_t channels,        \
                                               int column_major, const Real* w, const Real* u, const Real* k,         \
                                               const Real* v, const Real* gy, Real* gw, Real* gu, Real* gk, Real* gv, \
                                               int threads) {                                                         \
        const bi_wkv::Problem<Real> p{batch, height, width, channels, column_major != 0, w, u, k, v};                 \
        return bi_wkv::guarded([&] { bi_wkv::Runner<Real>(p, threads).backward(gy, gw, gu, gk, gv); });               \
    }

BI_WKV_DEFINE(float, float)
BI_WKV_DEFINE(double, double)

BI_WKV_EXPORT const char* bi_wkv_instruction_set() { return bi_wkv::instruction_set(); }
