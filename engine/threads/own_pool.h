// Threads of the engine's own, for processes without torch, forked ones, and CONVSCOPE_POOL=own.
#pragma once

#include "threads/pool.h"

namespace convscope {

// As run_on_threads. One caller at a time, others wait their turn; from within `work`, all numbers run on the calling thread.
void run_on_own_threads(int threads, const Work& work);

}  // namespace convscope
