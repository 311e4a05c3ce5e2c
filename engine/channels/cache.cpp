#include "channels/cache.h"

#include <unistd.h>

#include <algorithm>

namespace convscope::channels {
namespace {

Index said([[maybe_unused]] int name, Index fallback, Index most) {
    const long bytes = sysconf(name);
    return bytes > 0 ? std::clamp<Index>(bytes, fallback / 2, most) : fallback;
}

}  // namespace

#if defined(_SC_LEVEL1_DCACHE_SIZE)
Index first_level_bytes() {
    static const Index bytes = said(_SC_LEVEL1_DCACHE_SIZE, 32 * 1024, 256 * 1024);
    return bytes;
}
Index second_level_bytes() {
    static const Index bytes = said(_SC_LEVEL2_CACHE_SIZE, 512 * 1024, 4096 * 1024);
    return bytes;
}
#else
Index first_level_bytes() { return 32 * 1024; }
Index second_level_bytes() { return 512 * 1024; }
#endif

}  // namespace convscope::channels
