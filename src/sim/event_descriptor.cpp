#include "sim/event_descriptor.hpp"

#include <poll.h>

#include <cerrno>
#include <cstring>
#include <utility>

namespace ferrule::inline v0::sim {

namespace {
/// The largest count: eventfd(2).
constexpr std::uint64_t count_max = 0xffff'ffff'ffff'fffe;
}  // namespace

std::uint32_t EventDescriptor::readiness() const noexcept {
    return (count_ != 0 ? POLLIN : 0u) | (count_ != count_max ? POLLOUT : 0u);
}

std::int64_t EventDescriptor::read(std::span<std::byte> into) noexcept {
    if (into.size() < sizeof count_) return -EINVAL;
    if (count_ == 0) return -EAGAIN;
    const std::uint64_t value = std::exchange(count_, 0);
    std::memcpy(into.data(), &value, sizeof value);
    notify(POLLOUT);
    return sizeof value;
}

std::int64_t EventDescriptor::write(std::span<const std::byte> from) noexcept {
    std::uint64_t value = 0;
    if (from.size() < sizeof value) return -EINVAL;
    std::memcpy(&value, from.data(), sizeof value);
    if (value > count_max) return -EINVAL;
    if (value > count_max - count_) return -EAGAIN;
    count_ += value;
    if (value != 0) notify(POLLIN);
    return sizeof value;
}

}  // namespace ferrule::inline v0::sim
