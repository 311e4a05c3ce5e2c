#include "threads/pool.h"

#include <cstdlib>
#include <string_view>

#include "threads/fork.h"
#include "threads/openmp.h"
#include "threads/own_pool.h"

namespace convscope {
namespace {

// GNU's runtime does not survive fork(): a child that enters a parallel region waits for threads that only its parent has.
const OpenMP* runtime() {
    static const bool own = [] {
        const char* wanted = std::getenv("CONVSCOPE_POOL");
        return wanted && std::string_view(wanted) == "own";
    }();
    return own || was_forked() ? nullptr : openmp_of_torch();
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
