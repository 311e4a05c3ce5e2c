// The smallest test harness that will do: CHECK counts, and main returns report().
#pragma once

#include <cstdio>
#include <exception>
#include <string>

namespace convscope::test {

inline int failures = 0;
inline int checks = 0;

inline void check(bool holds, const std::string& what) {
    ++checks;
    if (holds) return;
    ++failures;
    std::printf("FAILED %s\n", what.c_str());
}

// The message of the exception that `action` must throw; empty when it threw none.
template <class Exception, class Action>
std::string message_of(Action action) {
    try {
        action();
    } catch (const Exception& error) {
        return error.what();
    }
    return "";
}

inline int report() {
    std::printf("%d checks, %d failures\n", checks, failures);
    return failures == 0 && checks > 0 ? 0 : 1;
}

}  // namespace convscope::test
