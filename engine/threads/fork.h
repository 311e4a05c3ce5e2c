// Whether this process began as a copy of another one.
#pragma once

namespace convscope {

// True in a child of fork() that has not become another program by exec(), whether the engine was loaded before or after.
bool was_forked();

}  // namespace convscope
