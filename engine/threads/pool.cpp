#include "threads/pool.h"

#include <cstdlib>
#include <string_view>

#include "threads/fork.h"
#include "threads/openmp.h"
#include "threads/own_pool.h"

namespace convscope {
namespace {

// OpenMP's threads spin for up to 15 ms after a region. Where torch has several, its runtime is the only place where the engine's
// regions do not wait for a processor that they spin on. Where torch is kept to one thread nobody spins, and the engine's own
// threads are better: on a machine with five programs to a processor a LeNet-5 step takes 6 ms on them and 50 on OpenMP's,
// whose barriers wait for every thread of the team. And GNU's runtime does not survive fork(): a child that enters a
// region waits for threads that only its parent has.
const OpenMP* runtime() {
    static const bool own = [] {
        const char* wanted = std::getenv("CONVSCOPE_POOL");
        return wanted && std::string_view(wanted) == "own";
    }();
    if (own || was_forked()) return nullptr;
    const OpenMP* const openmp = openmp_of_torch();
    return openmp && openmp->most_threads() > 1 ? openmp : nullptr;
}

}  // namespace

void run_on_threads(int threads, const Work& work) {
    if (threads <= 1) {
        work(0, 1);
    } else if (const OpenMP* const openmp = runtime()) {
        run_on_openmp(*openmp, threads, work);
    } else {
        run_on_own_threads(threads, work);
    }
}

std::string describe_threads() {
    const OpenMP* const openmp = runtime();
    return openmp ? "OpenMP, " + openmp->path : "own threads";
}

}  // namespace convscope
