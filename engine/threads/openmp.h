// The OpenMP runtime that another library of the process uses, found at run time: the engine links to none.
#pragma once

#include <string>

#include "threads/pool.h"

namespace convscope {

struct OpenMP {
    void (*parallel)(void (*function)(void*), void* data, unsigned threads, unsigned flags) = nullptr;  // GOMP_parallel
    int (*thread)() = nullptr;        // omp_get_thread_num
    int (*threads)() = nullptr;       // omp_get_num_threads
    int (*most_threads)() = nullptr;  // omp_get_max_threads
    std::string path;                 // the library that holds them

    bool complete() const { return parallel && thread && threads && most_threads; }
};

// The runtime that `library` (a handle of dlopen) is linked to, or that stands before it in the process's global scope, where
// LD_PRELOAD puts it: the order in which the dynamic linker itself looks. Not complete() where there is none.
OpenMP openmp_of(void* library);

// That of torch; null where torch is not loaded (yet) or runs without OpenMP. Costs 0.1 µs while nothing new is loaded.
const OpenMP* openmp_of_torch();

// As run_on_threads.
void run_on_openmp(const OpenMP& runtime, int threads, const Work& work);

}  // namespace convscope
