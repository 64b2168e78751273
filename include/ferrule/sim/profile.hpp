#pragma once

#include <cstdint>

namespace ferrule::inline v0::sim {

/// Which Linux a simulated machine runs: what that version does not have is refused as it refuses it, so that the
/// fallbacks run.
enum class Profile : std::uint8_t { linux_6_1, linux_6_6, linux_6_12, linux_6_18 };

}  // namespace ferrule::inline v0::sim
