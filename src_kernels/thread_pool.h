// Threads that sleep while there is nothing to do. They take units of work one at a time, so a thread that the system
// suspends only delays its current unit.
#pragma once

#include <cstdint>

namespace restore_threads {

// Units from the first to one past the last, by the thread in this slot; no two threads share a slot at a time.
using Work = void (*)(void* context, int64_t first, int64_t last, int slot);

// Call work for all units in [0, count), `grain` at a time, on the calling thread and up to threads - 1 others. Returns
// when all are done; work must not throw. Several threads may call this at once.
void share_out(int64_t count, int64_t grain, int threads, Work work, void* context);

// The same for work(unit, slot), one unit at a time or `grain` in a row.
template <class Function>
void for_each_unit(int64_t count, int64_t grain, int threads, Function work) {
    share_out(
        count, grain, threads,
        [](void* context, int64_t first, int64_t last, int slot) {
            for (int64_t unit = first; unit < last; ++unit) (*static_cast<Function*>(context))(unit, slot);
        },
        &work);
}

}  // namespace restore_threads
