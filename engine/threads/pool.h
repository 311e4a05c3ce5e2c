// A small pool of threads that all run one function, each with its own number, and are joined before run() returns.
#pragma once

#include <functional>

namespace convscope {

using Work = std::function<void(int thread, int threads)>;

// Calls work(0 … threads−1, threads), number 0 on the calling thread. One caller at a time; others wait their turn.
// The first exception of any thread is thrown again here, after all have finished. Usable after fork().
void run_on_threads(int threads, const Work& work);

}  // namespace convscope
