#pragma once

#include <cstdint>

namespace ferrule::inline v0 {

/// Connections per second with a burst, as the generic cell rate algorithm counts them (ITU-T I.371): one number says
/// when the next one would come if all came evenly, and how far ahead of now that may be is the burst.
class AcceptRate {
public:
    AcceptRate() noexcept = default;
    AcceptRate(std::uint32_t per_second, std::uint32_t burst) noexcept
        : interval_ns_(per_second != 0 ? second_ns / per_second : 0),
          ahead_ns_(interval_ns_ * (burst != 0 ? burst - 1 : 0)) {}

    /// Whether there is a rate.
    [[nodiscard]] bool limits() const noexcept { return interval_ns_ != 0; }
    /// When one more may come; not after `now_ns`: now.
    [[nodiscard]] std::uint64_t next_ns() const noexcept { return even_ns_ > ahead_ns_ ? even_ns_ - ahead_ns_ : 0; }
    [[nodiscard]] bool allows(std::uint64_t now_ns) const noexcept { return next_ns() <= now_ns; }
    /// One has come.
    void take(std::uint64_t now_ns) noexcept { even_ns_ = (even_ns_ > now_ns ? even_ns_ : now_ns) + interval_ns_; }

private:
    static constexpr std::uint64_t second_ns = 1'000'000'000;

    std::uint64_t interval_ns_ = 0;
    std::uint64_t ahead_ns_ = 0;
    std::uint64_t even_ns_ = 0;
};

}  // namespace ferrule::inline v0
