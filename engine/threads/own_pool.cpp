#include "threads/own_pool.h"

#include <unistd.h>

#include <atomic>
#include <chrono>
#include <cstdint>
#include <deque>
#include <exception>
#include <memory>
#include <mutex>
#include <thread>

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

// A round offers each number but 0 to its own worker. The caller, done with number 0, takes what no worker has begun: on a
// machine that has other things to do a worker may wait for a processor longer than its whole part takes. Which thread runs a
// number changes no result, for memory and sums go by numbers.
class Pool {
public:
    ~Pool() {
        stopping_ = true;
        begin(round_.load(std::memory_order_relaxed) + 1);
        for (Worker& each : workers_) each.thread.join();
    }

    void run(int threads, const Work& work) {
        while (static_cast<int>(workers_.size()) < threads - 1) {
            Worker& fresh = workers_.emplace_back();
            const int number = static_cast<int>(workers_.size());
            fresh.thread = std::thread([this, &fresh, number, seen = round_.load()] { serve(fresh, number, seen); });
        }
        work_ = &work;
        threads_ = threads;
        failure_ = nullptr;
        left_.store(static_cast<std::uint32_t>(threads - 1), std::memory_order_relaxed);
        const std::uint32_t round = round_.load(std::memory_order_relaxed) + 1;
        for (int number = 1; number < threads; ++number) worker(number).offer.store(2 * round, std::memory_order_release);
        begin(round);
        attempt(0);
        for (int number = 1; number < threads; ++number) take(worker(number), number, round);
        for (std::uint32_t left = left_.load(std::memory_order_acquire); left != 0;
             left = left_.load(std::memory_order_acquire))
            wait_while_equal(left_, left, kCallerSpins);
        if (failure_) std::rethrow_exception(failure_);
    }

private:
    struct Worker {
        std::atomic<std::uint32_t> offer{0};  // 2·round while its number of that round is free, 2·round + 1 once it is taken
        std::thread thread;
    };

    Worker& worker(int number) { return workers_[static_cast<std::size_t>(number - 1)]; }

    void begin(std::uint32_t round) {
        round_.store(round, std::memory_order_release);
        round_.notify_all();
    }

    void serve(Worker& own, int number, std::uint32_t seen) {
        while (true) {
            wait_while_equal(round_, seen, kWorkerSpins);
            seen = round_.load(std::memory_order_acquire);  // maybe later by several: others took its numbers
            if (stopping_) return;
            take(own, number, seen);
        }
    }

    void take(Worker& from, int number, std::uint32_t round) {
        std::uint32_t free = 2 * round;
        if (!from.offer.compare_exchange_strong(free, 2 * round + 1, std::memory_order_acq_rel)) return;
        attempt(number);
        if (left_.fetch_sub(1, std::memory_order_acq_rel) == 1) left_.notify_all();
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

    std::deque<Worker> workers_;
    std::atomic<std::uint32_t> round_{0};
    std::atomic<std::uint32_t> left_{0};
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
