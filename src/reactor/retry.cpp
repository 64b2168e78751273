#include <ferrule/reactor/retry.hpp>

#include <algorithm>
#include <stdexcept>

namespace ferrule::inline v0 {

BackOff::BackOff(const RetryOptions& options) : base_(options.base), cap_(options.cap), limit_(options.base) {
    if (base_.count() < 0) throw std::invalid_argument("RetryOptions::base: a negative wait");
    if (cap_ < base_) throw std::invalid_argument("RetryOptions::cap: less than the base");
}

std::chrono::nanoseconds BackOff::next(Kernel& kernel) noexcept {
    const auto longest = static_cast<std::uint64_t>(limit_.count());
    limit_ = limit_ > cap_ / 2 ? cap_ : limit_ * 2;
    std::uint64_t chance = 0;
    if (kernel.random(&chance, sizeof chance) < 0) return std::chrono::nanoseconds(longest);
    // A day has 2^47 nanoseconds: what this favours the shorter waits by is nothing.
    return std::chrono::nanoseconds(chance % (longest + 1));
}

}  // namespace ferrule::inline v0
