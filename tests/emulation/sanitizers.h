// What the sanitizers want to be told about fibers; empty where none is on.
#pragma once

#include <cstddef>

#if defined(__SANITIZE_THREAD__)
#include <sanitizer/tsan_interface.h>
#elif defined(__SANITIZE_ADDRESS__)
#include <sanitizer/common_interface_defs.h>
#endif

// For what the scheduler and the fibers tell each other: they run in turn, which ThreadSanitizer is not to know.
#define UNWATCHED __attribute__((no_sanitize("thread")))

namespace sanitizers {

// A stack of execution: a fiber's, or that of the scheduler itself.
struct Execution {
    const void* stack = nullptr;
    std::size_t size = 0;
    void* thread = nullptr;      // of ThreadSanitizer
    void* fake_stack = nullptr;  // of AddressSanitizer, while it is not running
};

#if defined(__SANITIZE_THREAD__)
constexpr unsigned kNoSynchronisation = 1;  // a switch of fibers orders nothing; only barriers do

UNWATCHED inline void begin_scheduler(Execution& scheduler) { scheduler.thread = __tsan_get_current_fiber(); }
// Of one block after the other: what the same fiber does in two of them is ordered, as the blocks are.
UNWATCHED inline void begin_fiber(Execution& fiber) {
    if (!fiber.thread) fiber.thread = __tsan_create_fiber(0);
}
UNWATCHED inline void leave(Execution&, Execution& to, bool) { __tsan_switch_to_fiber(to.thread, kNoSynchronisation); }
UNWATCHED inline void arrive(Execution&, Execution&) {}
// All that was done before one thread's release is ordered before what follows another's acquire.
UNWATCHED inline void release(void* token) { __tsan_release(token); }
UNWATCHED inline void acquire(void* token) { __tsan_acquire(token); }
#else
UNWATCHED inline void begin_scheduler(Execution&) {}
UNWATCHED inline void begin_fiber(Execution&) {}
UNWATCHED inline void release(void*) {}
UNWATCHED inline void acquire(void*) {}
#if defined(__SANITIZE_ADDRESS__)
UNWATCHED inline void leave(Execution& from, Execution& to, bool for_good) {
    __sanitizer_start_switch_fiber(for_good ? nullptr : &from.fake_stack, to.stack, to.size);
}
UNWATCHED inline void arrive(Execution& here, Execution& from) {
    __sanitizer_finish_switch_fiber(here.fake_stack, &from.stack, &from.size);
}
#else
UNWATCHED inline void leave(Execution&, Execution&, bool) {}
UNWATCHED inline void arrive(Execution&, Execution&) {}
#endif
#endif

}  // namespace sanitizers
