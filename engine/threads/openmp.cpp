#include "threads/openmp.h"

#include <algorithm>
#include <atomic>
#include <exception>
#include <mutex>

#if defined(__linux__)
#include <dlfcn.h>
#include <link.h>

#include <cstring>
#endif

namespace convscope {
namespace {

struct Region {
    const OpenMP& runtime;
    const Work& work;
    int threads;
    std::mutex guard;
    std::exception_ptr failure;

    // The team may be smaller than asked for (nested, limited) or larger; every number is run once either way.
    void take_part() {
        const int team = runtime.threads();
        for (int number = runtime.thread(); number < threads; number += team) attempt(number);
    }

    void attempt(int number) {
        try {
            work(number, threads);
        } catch (...) {
            const std::scoped_lock lock(guard);
            if (!failure) failure = std::current_exception();
        }
    }
};

void enter(void* region) { static_cast<Region*>(region)->take_part(); }

#if defined(__linux__)

template <class Function>
void look_up(void* library, const char* name, Function& function) {
    void* found = dlsym(RTLD_DEFAULT, name);
    if (!found) found = dlsym(library, name);
    function = reinterpret_cast<Function>(found);
}

struct Loaded {
    unsigned long long count = 0;  // libraries loaded in this process so far
    std::string torch;             // where torch's computing part lies; empty: not loaded
};

int count_only(dl_phdr_info* info, std::size_t, void* loaded) {
    static_cast<Loaded*>(loaded)->count = info->dlpi_adds;
    return 1;
}

int find_torch(dl_phdr_info* info, std::size_t, void* loaded) {
    static_cast<Loaded*>(loaded)->count = info->dlpi_adds;
    const char* slash = std::strrchr(info->dlpi_name, '/');
    if (!slash || std::strncmp(slash + 1, "libtorch_cpu.so", 15) != 0) return 0;
    static_cast<Loaded*>(loaded)->torch = info->dlpi_name;
    return 1;
}

#endif

}  // namespace

#if defined(__linux__)

OpenMP openmp_of(void* library) {
    OpenMP runtime;
    look_up(library, "GOMP_parallel", runtime.parallel);
    look_up(library, "omp_get_thread_num", runtime.thread);
    look_up(library, "omp_get_num_threads", runtime.threads);
    look_up(library, "omp_get_max_threads", runtime.most_threads);
    Dl_info place{};
    if (runtime.complete() && dladdr(reinterpret_cast<void*>(runtime.parallel), &place) != 0)
        runtime.path = place.dli_fname;
    return runtime;
}

const OpenMP* openmp_of_torch() {
    static std::atomic<const OpenMP*> found = nullptr;
    static std::atomic<unsigned long long> searched = 0;
    if (const OpenMP* runtime = found.load(std::memory_order_acquire)) return runtime;
    Loaded loaded;
    dl_iterate_phdr(count_only, &loaded);
    if (loaded.count == searched.load(std::memory_order_relaxed)) return nullptr;
    static std::mutex guard;
    const std::scoped_lock lock(guard);
    dl_iterate_phdr(find_torch, &loaded);
    if (void* const library = loaded.torch.empty() ? nullptr : dlopen(loaded.torch.c_str(), RTLD_LAZY | RTLD_NOLOAD)) {
        static OpenMP runtime;
        if (!runtime.complete()) runtime = openmp_of(library);
        dlclose(library);  // torch itself keeps it
        if (runtime.complete()) found.store(&runtime, std::memory_order_release);
    }
    searched.store(loaded.count, std::memory_order_relaxed);
    return found.load(std::memory_order_acquire);
}

#else

// Elsewhere the engine runs on threads of its own.
OpenMP openmp_of(void*) { return {}; }
const OpenMP* openmp_of_torch() { return nullptr; }

#endif

// GNU's runtime ends the threads that a smaller team leaves over, and begins them anew for the next larger one, some 50 µs
// each. So the team is always as large as torch's own, and whoever has no number waits with the others.
void run_on_openmp(const OpenMP& runtime, int threads, const Work& work) {
    Region region{runtime, work, threads, {}, nullptr};
    runtime.parallel(enter, &region, static_cast<unsigned>(std::max(threads, runtime.most_threads())), 0);
    if (region.failure) std::rethrow_exception(region.failure);
}

}  // namespace convscope
