#pragma once

#include "sim/file.hpp"

#include <cstdint>

namespace ferrule::inline v0::sim {

/// eventfd(2), without EFD_SEMAPHORE.
class EventDescriptor final : public File {
public:
    explicit EventDescriptor(std::uint64_t initial) noexcept : count_(initial) {}

    [[nodiscard]] std::uint32_t readiness() const noexcept override;
    std::int64_t read(std::span<std::byte> into) noexcept override;
    std::int64_t write(std::span<const std::byte> from) noexcept override;

private:
    std::uint64_t count_;
};

}  // namespace ferrule::inline v0::sim
