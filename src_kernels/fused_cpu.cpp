// The C interface of the fused passes: divides maps into tiles, carries the scans' sums between the passes, and distributes
// the tiles among threads. The division depends only on the image's size, so results do not depend on the threads.

#include <algorithm>
#include <atomic>
#include <cmath>
#include <cstdint>
#include <memory>
#include <new>

#include "fused.h"
#include "instruction_set.h"
#include "thread_pool.h"

namespace bi_wkv {

namespace baseline {
FusedPasses fused_passes();
}
#ifdef BI_WKV_X86_DISPATCH
namespace avx2 {
FusedPasses fused_passes();
}
namespace avx512 {
FusedPasses fused_passes();
}
#endif

// As `_Block` of network/fused_cpu.py.
struct BlockCall {
    int64_t batch, height, width, channels;
    const float* x;
    float *terms, *values, *gate;
    ScanState* states;
    BlockWeights weights;
};

namespace {

enum Outcome : int { kDone = 0, kOutOfMemory = 1, kOutOfRange = 2 };

FusedPasses best_fused_passes() {
#ifdef BI_WKV_X86_DISPATCH
    switch (instruction_set()[3]) {
        case '-': return avx512::fused_passes();
        case '2': return avx2::fused_passes();
    }
#endif
    return baseline::fused_passes();
}

// Zeros at first: values beyond the last pixel of a row are processed but never used, and should not slow things down.
class Scratch {
   public:
    Scratch(int64_t floats, int threads) : floats_((floats + 15) / 16 * 16), memory_(new float[floats_ * threads + 16]()) {}

    float* of(int slot) const {
        const auto address = reinterpret_cast<std::uintptr_t>(memory_.get());
        return memory_.get() + (64 - address % 64) % 64 / sizeof(float) + slot * floats_;
    }

   private:
    int64_t floats_;
    std::unique_ptr<float[]> memory_;
};

// States of the chunks of both scans.
int64_t states_of_rows(const BlockWork& work) { return work.height * work.tiles_across * work.groups; }
int64_t states_of_columns(const BlockWork& work) { return work.width * work.tiles_down * work.groups; }

// A tile's maps fit into an L2 cache together with the maps made from them; a small map still keeps several threads busy.
BlockWork cut(int64_t height, int64_t width, int64_t channels) {
    BlockWork work{};
    work.height = height;
    work.width = width;
    work.channels = static_cast<int>(channels);
    work.groups = work.channels / kLanes;
    work.rows = height > 64 ? kMostTileRows : kMostTileRows / 2;
    work.columns = static_cast<int>(std::clamp<int64_t>(2048 / channels, 16, kMostTileColumns));
    work.tiles_down = (height + work.rows - 1) / work.rows;
    work.tiles_across = (width + work.columns - 1) / work.columns;
    return work;
}

bool all_within(const float* values, int64_t count, float most) {
    return std::all_of(values, values + count, [most](float value) { return std::abs(value) <= most; });
}

Outcome run_image(const FusedPasses& passes, const BlockWork& work, const Scratch& scratch, int threads) {
    std::atomic<bool> fits{true};
    const auto for_each_tile = [&](auto pass) { restore_threads::for_each_unit(work.tiles(), 1, threads, pass); };
    const auto carry = [&](bool columns) {
        restore_threads::for_each_unit(2 * work.groups, 1, threads,
                                       [&](int64_t unit, int) { passes.carry(work, columns, unit % 2 == 1, static_cast<int>(unit / 2)); });
    };
    for_each_tile([&](int64_t tile, int slot) {
        if (!passes.keys_and_values(work, tile, scratch.of(slot))) fits = false;
    });
    if (!fits) return kOutOfRange;
    carry(false);
    for_each_tile([&](int64_t tile, int) { passes.scan_rows(work, tile); });
    carry(true);
    for_each_tile([&](int64_t tile, int slot) { passes.scan_columns(work, tile, scratch.of(slot)); });
    for_each_tile([&](int64_t tile, int slot) { passes.mix_channels(work, tile, scratch.of(slot)); });
    return kDone;
}

Outcome run_block(const BlockCall& call, int threads) {
    BlockWork work = cut(call.height, call.width, call.channels);
    work.weights = call.weights;
    const int64_t parameters = 2 * call.channels, tokens = call.height * call.width;
    if (!all_within(call.weights.decay, parameters, kMostDecay / static_cast<float>(tokens)) ||
        !all_within(call.weights.bonus, parameters, kMostBonus))
        return kOutOfRange;
    const FusedPasses passes = best_fused_passes();
    threads = static_cast<int>(std::clamp<int64_t>(work.tiles(), 1, std::max(1, threads)));
    const Scratch scratch(passes.block_scratch(work), threads);
    work.along_rows = call.states;
    work.along_columns = call.states + states_of_rows(work);
    for (int64_t image = 0; image < call.batch; ++image) {
        const int64_t first = image * tokens * call.channels;
        work.x = call.x + first;
        work.terms = call.terms + first;
        work.values = call.values + first;
        work.gate = call.gate + first;
        if (const Outcome outcome = run_image(passes, work, scratch, threads)) return outcome;
    }
    return kDone;
}

Outcome run_product(const MapProduct& product, int threads) {
    const FusedPasses passes = best_fused_passes();
    threads = std::max(1, threads);
    const Scratch scratch(passes.product_scratch(product), threads);
    restore_threads::for_each_unit(product.height, 4, threads,
                                   [&](int64_t row, int slot) { passes.product_row(product, row, scratch.of(slot)); });
    return kDone;
}

template <class Run>
int guarded(Run run) {
    try {
        return run();
    } catch (const std::bad_alloc&) {
        return kOutOfMemory;
    }
}

}  // namespace
}  // namespace bi_wkv

#ifdef _WIN32
#define RESTORE_EXPORT extern "C" __declspec(dllexport)
#else
#define RESTORE_EXPORT extern "C" __attribute__((visibility("default")))
#endif

// How many numbers `states` of a call has to hold.
RESTORE_EXPORT int64_t restore_block_states(int64_t height, int64_t width, int64_t channels) {
    const bi_wkv::BlockWork work = bi_wkv::cut(height, width, channels);
    return (bi_wkv::states_of_rows(work) + bi_wkv::states_of_columns(work)) * (sizeof(bi_wkv::ScanState) / sizeof(float));
}

// The result is left in the map of terms. 1: out of memory; 2: keys, values or decays are too large for plain sums, and
// the content of the maps is not usable.
RESTORE_EXPORT int restore_block(const bi_wkv::BlockCall* call, int threads) {
    return bi_wkv::guarded([&] { return bi_wkv::run_block(*call, threads); });
}

// The first convolution; a separate function, so that a caller can detect whether it exists.
RESTORE_EXPORT int restore_plain_product(const bi_wkv::MapProduct* product, int threads) {
    return bi_wkv::guarded([&] { return bi_wkv::run_product(*product, threads); });
}

RESTORE_EXPORT int restore_product(const bi_wkv::MapProduct* product, int threads) {
    return bi_wkv::guarded([&] { return bi_wkv::run_product(*product, threads); });
}
