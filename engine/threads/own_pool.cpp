#include "threads/own_pool.h"

#include <unistd.h>

#include <atomic>
#include <chrono>
#include <cstdint>
#include <exception>
#include <memory>
#include <mutex>
#include <thread>
#include <vector>

namespace convscope {
namespace {

void pause_briefly() {
#if defined(__x86_64__) || defined(__i386__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    asm volatile("yield");
#endif
}

// A step of a small network takes under a millisecond, and waking a sleeping thread some 10 to 50 µs. So whoever waits
// first spins: workers long enough for the pause between two parallel parts of a step, the caller for about the
// time by which the parts of the others may differ from its own. Then they sleep. A pause is 10 ns on AMD Zen 4 and 40 ns
// on Intel since Skylake, so the clock decides.
constexpr std::chrono::microseconds kWorkerSpins{30}, kCallerSpins{100};

void wait_while_equal(const std::atomic<std::uint32_t>& value, std::uint32_t old, std::chrono::microseconds spinning) {
    const auto end = std::chrono::steady_clock::now() + spinning;
    do {
        for (int spin = 0; spin < 32; ++spin) {
            if (value.load(std::memory_order_acquire) != old) return;
            pause_briefly();
        }
    } while (std::chrono::steady_clock::now() < end);
    while (value.load(std::memory_order_acquire) == old) value.wait(old, std::memory_order_acquire);
}

thread_local bool inside = false;  // a region of this pool

class Pool {
public:
    ~Pool() {
        stopping_ = true;
        announce();
        for (std::thread& worker : workers_) worker.join();
    }

    void run(int threads, const Work& work) {
        while (static_cast<int>(workers_.size()) < threads - 1) {
            const int number = static_cast<int>(workers_.size()) + 1;
            workers_.emplace_back([this, number, seen = round_.load()] { serve(number, seen); });
        }
        work_ = &work;
        threads_ = threads;
        failure_ = nullptr;
        // Every worker answers every round, also those that have no part in it, so that none can miss one.
        unfinished_.store(static_cast<std::uint32_t>(workers_.size()), std::memory_order_relaxed);
        announce();
        attempt(0);
        for (std::uint32_t left = unfinished_.load(std::memory_order_acquire); left != 0;
             left = unfinished_.load(std::memory_order_acquire))
            wait_while_equal(unfinished_, left, kCallerSpins);
        if (failure_) std::rethrow_exception(failure_);
    }

private:
    void announce() {
        round_.fetch_add(1, std::memory_order_release);
        round_.notify_all();
    }

    void serve(int number, std::uint32_t seen) {
        while (true) {
            wait_while_equal(round_, seen, kWorkerSpins);
            ++seen;
            if (stopping_) return;
            if (number < threads_) attempt(number);
            if (unfinished_.fetch_sub(1, std::memory_order_acq_rel) == 1) unfinished_.notify_all();
        }
    }

    void attempt(int number) {
        inside = true;
        try {
            (*work_)(number, threads_);
        } catch (...) {
            const std::scoped_lock lock(failure_guard_);
            if (!failure_) failure_ = std::current_exception();
        }
        inside = false;
    }

    std::vector<std::thread> workers_;
    std::atomic<std::uint32_t> round_{0};
    std::atomic<std::uint32_t> unfinished_{0};
    std::atomic<bool> stopping_{false};
    const Work* work_ = nullptr;
    int threads_ = 0;
    std::mutex failure_guard_;
    std::exception_ptr failure_;
};

// A forked child has its parent's object but not the threads, and the lock may be held by one of them. So it begins anew and
// leaves the old behind: there is nobody to join.
struct Process {
    pid_t id;
    std::mutex turn;
    Pool pool;
};

Process& this_process() {
    static std::atomic<Process*> known = nullptr;
    Process* process = known.load(std::memory_order_acquire);
    const pid_t id = getpid();
    while (!process || process->id != id) {
        auto fresh = std::make_unique<Process>();
        fresh->id = id;
        if (known.compare_exchange_weak(process, fresh.get(), std::memory_order_acq_rel)) process = fresh.release();
    }
    return *process;
}

void run_one_by_one(int threads, const Work& work) {
    std::exception_ptr failure;
    for (int number = 0; number < threads; ++number) {
        try {
            work(number, threads);
        } catch (...) {
            if (!failure) failure = std::current_exception();
        }
    }
    if (failure) std::rethrow_exception(failure);
}

}  // namespace

void run_on_own_threads(int threads, const Work& work) {
    if (inside) return run_one_by_one(threads, work);
    Process& process = this_process();
    const std::scoped_lock lock(process.turn);
    process.pool.run(threads, work);
}

}  // namespace convscope
