#include "threads/fork.h"

#include <pthread.h>

#include <cstdio>
#include <cstring>

namespace convscope {
namespace {

bool forked = false;

// Linux says so in the ninth field of /proc/self/stat, PF_FORKNOEXEC; the second, the program's name, may hold anything but
// ends with the last parenthesis.
bool began_forked() {
    constexpr unsigned kForkedWithoutExec = 0x40;
    std::FILE* const file = std::fopen("/proc/self/stat", "r");
    if (!file) return false;
    char line[512] = {};
    const std::size_t length = std::fread(line, 1, sizeof(line) - 1, file);
    std::fclose(file);
    const char* const name_end = length > 0 ? std::strrchr(line, ')') : nullptr;
    unsigned flags = 0;
    // state, parent, group, session, terminal, its group, flags
    if (!name_end || std::sscanf(name_end + 1, " %*c %*d %*d %*d %*d %*d %u", &flags) != 1) return false;
    return (flags & kForkedWithoutExec) != 0;
}

// When the library is loaded.
const bool watching = [] {
    forked = began_forked();
    return pthread_atfork(nullptr, nullptr, [] { forked = true; }) == 0;
}();

}  // namespace

bool was_forked() {
    static_cast<void>(watching);
    return forked;
}

}  // namespace convscope
