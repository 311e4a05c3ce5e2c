// The pool runs every part exactly once, round after round, and hands exceptions on.
#include <array>
#include <atomic>
#include <stdexcept>
#include <thread>
#include <vector>

#include "check.h"
#include "threads/pool.h"

int main() {
    using namespace convscope;
    using namespace convscope::test;
    std::array<int, 8> counts{};
    for (int round = 0; round < 3000; ++round) {
        const int threads = 1 + round % 5;
        run_on_threads(threads, [&](int thread, int all) {
            if (all == threads) counts[static_cast<std::size_t>(thread)] += 1;
        });
    }
    check(counts == std::array<int, 8>{3000, 2400, 1800, 1200, 600, 0, 0, 0}, "each thread once a round");

    for (int round = 0; round < 50; ++round)
        check(message_of<std::runtime_error>([] {
                  run_on_threads(3, [](int thread, int) {
                      if (thread == 2) throw std::runtime_error("from two");
                  });
              }) == "from two",
              "exceptions come back to the caller");

    std::atomic<int> total = 0;
    std::vector<std::thread> callers;
    for (int caller = 0; caller < 3; ++caller)
        callers.emplace_back([&] {
            for (int i = 0; i < 200; ++i) run_on_threads(2, [&](int, int) { ++total; });
        });
    for (std::thread& each : callers) each.join();
    check(total == 1200, "callers wait for each other");
    return report();
}
