// Several threads hand out many small jobs at once; prints how many units were done.
#include <atomic>
#include <cstdio>
#include <cstdlib>
#include <thread>
#include <vector>

#include "thread_pool.h"

int main() {
    std::atomic<long long> done{0};
    std::vector<std::thread> callers;
    for (int caller = 0; caller < 4; ++caller)
        callers.emplace_back([&] {
            for (int job = 0; job < 250'000; ++job)
                restore_threads::for_each_unit(3, 1, 3, [&](int64_t, int) { done.fetch_add(1); });
        });
    for (auto& caller : callers) caller.join();
    std::printf("%lld\n", done.load());
    std::fflush(stdout);
    // The threads of the pool sleep for ever.
    std::_Exit(0);
}
