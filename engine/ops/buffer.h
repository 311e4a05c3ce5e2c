// Memory that a network keeps between its passes.
#pragma once

#include "kernels/arguments.h"

namespace convscope {

// 64-byte aligned floats that only grow. Content is not kept, nor zeroed.
class Buffer {
public:
    Buffer() = default;
    ~Buffer();
    Buffer(Buffer&& other) noexcept;
    Buffer& operator=(Buffer&&) = delete;

    void reserve(Index floats);  // throws std::bad_alloc
    float* data() const { return data_; }
    Index floats() const { return floats_; }

private:
    float* data_ = nullptr;
    Index floats_ = 0;
};

}  // namespace convscope
