// Every part runs exactly once, round after round, and exceptions come back, on threads of the engine's own and on OpenMP's.
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <atomic>
#include <stdexcept>
#include <thread>
#include <vector>

#if defined(__linux__)
#include <dlfcn.h>
#endif

#include "check.h"
#include "threads/fork.h"
#include "threads/openmp.h"
#include "threads/own_pool.h"

namespace convscope::test {
namespace {

using Run = std::function<void(int threads, const Work& work)>;

void check_parts(const std::string& which, const Run& run) {
    std::array<std::atomic<int>, 8> counts{};
    for (int round = 0; round < 3000; ++round) {
        const int threads = 1 + round % 5;
        run(threads, [&](int thread, int all) {
            if (all == threads) counts[static_cast<std::size_t>(thread)] += 1;
        });
    }
    for (int thread = 0; thread < 8; ++thread)
        check(counts[static_cast<std::size_t>(thread)] == (thread < 5 ? 3000 - 600 * thread : 0),
              which + ": each number once a round");
}

void check_exceptions(const std::string& which, const Run& run) {
    for (int round = 0; round < 50; ++round) {
        std::atomic<int> others = 0;
        const auto message = message_of<std::runtime_error>([&] {
            run(3, [&](int thread, int) {
                if (thread == 1) throw std::runtime_error("from one");
                ++others;
            });
        });
        check(message == "from one" && others == 2, which + ": an exception comes back after all have finished");
    }
}

void check_callers(const std::string& which, const Run& run) {
    std::atomic<int> total = 0;
    std::vector<std::thread> callers;
    for (int caller = 0; caller < 3; ++caller)
        callers.emplace_back([&] {
            for (int i = 0; i < 200; ++i) run(2, [&](int, int) { ++total; });
        });
    for (std::thread& each : callers) each.join();
    check(total == 1200, which + ": callers on several threads");
}

void check_nested(const std::string& which, const Run& run) {
    std::atomic<int> inner = 0;
    std::string message;
    run(2, [&](int outer, int) {
        run(3, [&](int, int all) { inner += all; });
        if (outer == 0)
            message = message_of<std::runtime_error>([&] {
                run(2, [&](int thread, int) {
                    ++inner;
                    if (thread == 0) throw std::runtime_error("inner");
                });
            });
    });
    check(inner == 2 * 9 + 2 && message == "inner", which + ": a region within a region");
}

// The child's first region is its own pool's; nothing of the parent's is waited for.
void check_fork() {
    check(!was_forked(), "this process was begun by exec");
    const pid_t child = fork();
    if (child == 0) {
        alarm(20);
        std::atomic<int> sum = 0;
        for (int round = 0; round < 20; ++round) run_on_threads(3, [&](int thread, int) { sum += thread; });
        _exit(was_forked() && sum == 60 ? 0 : 1);
    }
    int status = 1;
    waitpid(child, &status, 0);
    check(WIFEXITED(status) && WEXITSTATUS(status) == 0, "a forked child runs its regions on threads of its own");
    std::atomic<int> sum = 0;
    run_on_threads(3, [&](int thread, int) { sum += thread; });
    check(sum == 3, "the parent goes on");
}

void check_all(const std::string& which, const Run& run) {
    check_parts(which, run);
    check_exceptions(which, run);
    check_callers(which, run);
    check_nested(which, run);
}

}  // namespace
}  // namespace convscope::test

int main() {
    using namespace convscope;
    using namespace convscope::test;
    check_all("own", run_on_own_threads);
    check_all("chosen", run_on_threads);
    check(describe_threads() == "own threads", "without torch the threads are the engine's own");
    check(openmp_of_torch() == nullptr, "without torch there is no runtime of torch");
#if defined(__SANITIZE_THREAD__)  // which refuses threads after a fork, and does not see the barriers of GNU's runtime
    constexpr bool watched = true;
#else
    constexpr bool watched = false;
#endif
    if (!watched) check_fork();
#if defined(__linux__)
    if (void* const library = watched ? nullptr : dlopen("libgomp.so.1", RTLD_NOW)) {
        const OpenMP runtime = openmp_of(library);
        check(runtime.complete() && runtime.path.find("gomp") != std::string::npos, "a runtime is found in its library");
        check_all("OpenMP", [&](int threads, const Work& work) { run_on_openmp(runtime, threads, work); });
    }
#endif
    return report();
}
