#include "thread_pool.h"

#include <algorithm>
#include <atomic>
#include <condition_variable>
#include <list>
#include <mutex>
#include <system_error>
#include <thread>

#ifndef _WIN32
#include <pthread.h>
#endif

namespace restore_threads {
namespace {

struct Job {
    int64_t count, grain;
    int helpers;  // that may join
    Work work;
    void* context;
    std::atomic<int64_t> next{0};
    int joined = 0, inside = 0;  // guarded by the pool's mutex

    bool wants_help() const { return joined < helpers && next.load(std::memory_order_relaxed) < count; }

    void take_units(int slot) {
        for (;;) {
            const int64_t first = next.fetch_add(grain);
            if (first >= count) return;
            work(context, first, std::min(first + grain, count), slot);
        }
    }
};

class Pool {
   public:
    void run(Job& job) {
        {
            const std::lock_guard<std::mutex> lock(mutex_);
            start_threads(job.helpers);
            jobs_.push_back(&job);
        }
        for (int i = 0; i < job.helpers; ++i) work_.notify_one();
        job.take_units(0);
        std::unique_lock<std::mutex> lock(mutex_);
        jobs_.remove(&job);
        done_.wait(lock, [&] { return job.inside == 0; });
    }

   private:
    void start_threads(int wanted) {
        try {
            for (; threads_ < wanted; ++threads_) std::thread(&Pool::serve, this).detach();
        } catch (const std::system_error&) {
            // The system has no more threads: the existing ones do the work.
        }
    }

    void serve() {
        std::unique_lock<std::mutex> lock(mutex_);
        for (;;) {
            // Searched once: units are taken without the mutex, and a second search might find no job that needs help.
            auto found = jobs_.end();
            work_.wait(lock, [&] {
                found = std::find_if(jobs_.begin(), jobs_.end(), [](const Job* one) { return one->wants_help(); });
                return found != jobs_.end();
            });
            Job& job = **found;
            const int slot = ++job.joined;
            ++job.inside;
            lock.unlock();
            job.take_units(slot);
            lock.lock();
            if (--job.inside == 0) done_.notify_all();
        }
    }

    std::mutex mutex_;
    std::condition_variable work_, done_;
    std::list<Job*> jobs_;
    int threads_ = 0;
};

// Never destroyed: its threads are asleep inside it when the process ends.
Pool*& the_pool() {
    static Pool* pool = [] {
#ifndef _WIN32
        // A forked process has none of the threads, and perhaps a locked mutex.
        pthread_atfork(nullptr, nullptr, [] { the_pool() = new Pool; });
#endif
        return new Pool;
    }();
    return pool;
}

}  // namespace

void share_out(int64_t count, int64_t grain, int threads, Work work, void* context) {
    const int64_t runs = (count + grain - 1) / grain;
    const int helpers = static_cast<int>(std::min<int64_t>(threads, runs)) - 1;
    if (helpers <= 0) {
        if (count > 0) work(context, 0, count, 0);
        return;
    }
    Job job{count, grain, helpers, work, context};
    the_pool()->run(job);
}

}  // namespace restore_threads
