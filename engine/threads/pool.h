// Parallel regions: all threads run one function, each with its own number, and are joined before run_on_threads returns.
#pragma once

#include <functional>
#include <string>

namespace convscope {

using Work = std::function<void(int thread, int threads)>;

// Calls work(0 … threads−1, threads), number 0 on the calling thread, on the OpenMP runtime that torch has loaded, or on
// threads of its own where there is none or torch has but one thread. Every number is called once, also where fewer threads are to be had: inside
// another parallel region all on the calling thread. Any number of callers; usable after fork(). The first exception of any
// thread is thrown again here, after all have finished.
void run_on_threads(int threads, const Work& work);

// For people: whose threads the next region would run on.
std::string describe_threads();

}  // namespace convscope
