#pragma once

#include <ferrule/ring/kernel.hpp>
#include <ferrule/version.hpp>

#include <cstdint>
#include <string>
#include <string_view>
#include <system_error>

namespace ferrule::inline v0 {

/// Why something could not be set up: the error, and a message for people that names what failed and what to do.
struct SetupError {
    std::error_code code;
    std::string message;
};

/// An errno (positive) as the library's errors carry it.
[[nodiscard]] inline std::error_code system_error(int error_number) noexcept {
    return {error_number, std::system_category()};
}

/// Explains a failure of io_uring_setup(2). `error_number` is positive; the sizes are those that were asked for last.
[[nodiscard]] FERRULE_EXPORT SetupError explain_setup_failure(Kernel& kernel, int error_number, std::uint32_t entries,
                                                              std::uint32_t completion_entries);

/// Explains a failure of a registration or of mapping. `what` names the operation and the thing. `bytes_needed` is the
/// memory that it wanted, for ENOMEM; 0 where that is not known.
[[nodiscard]] FERRULE_EXPORT SetupError explain_registration_failure(Kernel& kernel, int error_number,
                                                                     std::string_view what, std::uint64_t bytes_needed);

/// What an error of io_uring_enter(2) means for the owner of the ring, in one sentence. `error_number` is positive.
[[nodiscard]] FERRULE_EXPORT std::string_view explain_enter_failure(int error_number) noexcept;

}  // namespace ferrule::inline v0
