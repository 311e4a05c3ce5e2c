#include "ops/buffer.h"

#include <cstdlib>
#include <new>
#include <utility>

namespace convscope {

Buffer::~Buffer() { std::free(data_); }

Buffer::Buffer(Buffer&& other) noexcept
    : data_(std::exchange(other.data_, nullptr)), floats_(std::exchange(other.floats_, 0)) {}

void Buffer::reserve(Index floats) {
    if (floats <= floats_) return;
    std::free(data_);
    data_ = nullptr;
    floats_ = 0;
    const std::size_t bytes = (static_cast<std::size_t>(floats) * sizeof(float) + 63) / 64 * 64;
    data_ = static_cast<float*>(std::aligned_alloc(64, bytes));
    if (!data_) throw std::bad_alloc();
    floats_ = floats;
}

}  // namespace convscope
