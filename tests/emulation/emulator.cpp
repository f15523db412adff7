// Runs the kernels of KERNEL_SOURCE on the CPU, the threads of a block as fibers that take turns from barrier to barrier.
//
// The order of the turns is ascending, descending or random, so that a result that depends on it shows. Shared memory is
// full of NaN before each block, and subnormal numbers are zeros, as the kernels are compiled. Under ThreadSanitizer only
// barriers order the fibers, so that it sees every race. EMULATE_WITHOUT_BARRIER=file:line takes one barrier away.

#include <ucontext.h>

#include <algorithm>
#include <cstdlib>
#include <functional>
#include <memory>
#include <numeric>
#include <random>
#include <string>
#include <utility>
#include <vector>

#include "sanitizers.h"

#ifdef __SSE__
#include <xmmintrin.h>
#endif

// After the standard headers: the shim's words are macros.
#include "cuda_shim.h"

#include KERNEL_SOURCE

Dimensions threadIdx, blockIdx, blockDim, gridDim;

extern "C" unsigned char __start_shared_memory[], __stop_shared_memory[];

namespace {

constexpr std::size_t kStack = 256 << 10;

enum class Order { ascending, descending, random };

struct Fiber {
    ucontext_t context;
    std::unique_ptr<char[]> stack{new char[kStack]};
    sanitizers::Execution execution;
    Dimensions index;
    unsigned barrier = 0;  // where in the source it waits
    bool finished = false;
};

ucontext_t scheduler;
sanitizers::Execution scheduler_execution;
Fiber* current = nullptr;
// Of the largest block so far: to make a stack, and what a sanitizer keeps about it, takes longer than most blocks do.
std::vector<Fiber> fibers;
const std::function<void()>* body = nullptr;
unsigned missing_barrier = 0;
// What orders the threads of a block at a barrier, and one block after the other; ThreadSanitizer tells words apart, not bytes.
long long barrier_token, begin_token, end_token;

UNWATCHED void back_to_scheduler() {
    Fiber& self = *current;
    sanitizers::leave(self.execution, scheduler_execution, self.finished);
    swapcontext(&self.context, &scheduler);
    sanitizers::arrive(self.execution, scheduler_execution);
    threadIdx = self.index;
}

UNWATCHED void run_fiber() {
    sanitizers::arrive(current->execution, scheduler_execution);
    sanitizers::acquire(&begin_token);
    threadIdx = current->index;
    (*body)();
    sanitizers::release(&end_token);
    current->finished = true;
    back_to_scheduler();
}

UNWATCHED void resume(Fiber& fiber) {
    if (fiber.finished) return;
    current = &fiber;
    sanitizers::leave(scheduler_execution, fiber.execution, false);
    swapcontext(&scheduler, &fiber.context);
    sanitizers::arrive(scheduler_execution, fiber.execution);
}

void start(Fiber& fiber, unsigned thread) {
    fiber.index = {thread % blockDim.x, thread / blockDim.x, 0};
    fiber.finished = false;
    fiber.execution = {fiber.stack.get(), kStack, fiber.execution.thread, nullptr};
    sanitizers::begin_fiber(fiber.execution);
    getcontext(&fiber.context);
    fiber.context.uc_stack.ss_sp = fiber.stack.get();
    fiber.context.uc_stack.ss_size = kStack;
    fiber.context.uc_link = nullptr;
    makecontext(&fiber.context, run_fiber, 0);
}

void arrange(std::vector<unsigned>& turns, Order order, std::mt19937& random) {
    std::iota(turns.begin(), turns.end(), 0u);
    if (order == Order::descending) std::reverse(turns.begin(), turns.end());
    if (order == Order::random) std::shuffle(turns.begin(), turns.end(), random);
}

enum class Waiting { none, together, apart };

// Threads that have left the kernel no longer count at a barrier.
UNWATCHED Waiting waiting(const Fiber* fibers, unsigned count) {
    const Fiber* first = nullptr;
    for (unsigned i = 0; i < count; ++i) {
        if (fibers[i].finished) continue;
        if (first && fibers[i].barrier != first->barrier) return Waiting::apart;
        first = &fibers[i];
    }
    return first ? Waiting::together : Waiting::none;
}

// With NaN; AddressSanitizer's own zones between the variables are filled too.
__attribute__((no_sanitize("address"))) void poison_shared_memory() {
    for (unsigned char* byte = __start_shared_memory; byte != __stop_shared_memory; ++byte) *byte = 0xff;
}

// Whether all threads reached the same barriers.
bool run_block(unsigned threads, Order order, std::mt19937& random) {
    poison_shared_memory();
    sanitizers::release(&begin_token);
    for (unsigned i = 0; i < threads; ++i) start(fibers[i], i);
    std::vector<unsigned> turns(threads);
    Waiting state = Waiting::together;
    while (state == Waiting::together) {
        arrange(turns, order, random);
        for (unsigned i : turns) resume(fibers[i]);
        state = waiting(fibers.data(), threads);
    }
    sanitizers::acquire(&end_token);
    return state == Waiting::none;
}

unsigned place_without_barrier() {
    const char* variable = std::getenv("EMULATE_WITHOUT_BARRIER");
    if (!variable) return 0;
    const std::string place = variable;
    const auto colon = place.find(':');
    return place_of(place.substr(0, colon).c_str(), unsigned(std::stoi(place.substr(colon + 1))));
}

// Subnormal operands and results are zeros while this lasts.
struct WithoutSubnormals {
#ifdef __SSE__
    const unsigned before = _mm_getcsr();
    WithoutSubnormals() { _mm_setcsr(before | 0x8040); }
    ~WithoutSubnormals() { _mm_setcsr(before); }
#endif
};

template <class... Arguments, std::size_t... i>
std::function<void()> bound(void (*kernel)(Arguments...), void** arguments, std::index_sequence<i...>) {
    return [=] { kernel(*static_cast<Arguments*>(arguments[i])...); };
}

template <class... Arguments>
std::function<void()> bind(void (*kernel)(Arguments...), void** arguments, int count) {
    if (count != sizeof...(Arguments)) return {};
    return bound(kernel, arguments, std::index_sequence_for<Arguments...>());
}

std::function<void()> kernel_named(const std::string& name, void** arguments, int count) {
#define KERNEL(entry) \
    if (name == #entry) return bind(entry, arguments, count)
#define KERNELS_OF(number)                      \
    KERNEL(bi_wkv_summarise_##number);          \
    KERNEL(bi_wkv_output_##number);             \
    KERNEL(bi_wkv_summarise_gradient_##number); \
    KERNEL(bi_wkv_gradients_##number)
    KERNELS_OF(float);
    KERNELS_OF(half);
    KERNELS_OF(bfloat16);
    KERNEL(bi_wkv_carry);
    return {};
}

}  // namespace

UNWATCHED void wait_at_barrier(unsigned place) {
    if (place == missing_barrier) return;
    current->barrier = place;
    sanitizers::release(&barrier_token);
    back_to_scheduler();
    sanitizers::acquire(&barrier_token);
}

// Launch a kernel; `arguments` point at its arguments, as for cudaLaunchKernel. 0 on success, 1 for a barrier that not all
// threads reach, 2 for an unknown kernel or another number of arguments.
extern "C" int emulate(const char* name, unsigned grid, unsigned block_x, unsigned block_y, void** arguments, int count,
                       int order, unsigned seed) {
    const std::function<void()> kernel = kernel_named(name, arguments, count);
    if (!kernel) return 2;
    const WithoutSubnormals while_this_lasts;
    missing_barrier = place_without_barrier();
    body = &kernel;
    gridDim = {grid, 1, 1};
    blockDim = {block_x, block_y, 1};
    sanitizers::begin_scheduler(scheduler_execution);
    std::mt19937 random(seed);
    std::vector<unsigned> blocks(grid);
    arrange(blocks, static_cast<Order>(order), random);
    const unsigned threads = block_x * block_y;
    if (fibers.size() < threads) fibers.resize(threads);
    for (unsigned block : blocks) {
        blockIdx = {block, 0, 0};
        if (!run_block(threads, static_cast<Order>(order), random)) return 1;
    }
    return 0;
}
