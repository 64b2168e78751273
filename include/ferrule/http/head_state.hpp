#pragma once

#include <ferrule/http/framing.hpp>
#include <ferrule/http/limits.hpp>
#include <ferrule/http/refusal.hpp>
#include <ferrule/version.hpp>

#include <cstdint>

namespace ferrule::inline v0::http::detail {

// Where a parser stands in a head, and what its fields said so far: the part that requests and responses have in
// common. Positions only, counted from the beginning of the head.
struct HeadState {
    // The limits are checked and copied. Throws std::invalid_argument, which names the limit, when one cannot be.
    FERRULE_EXPORT explicit HeadState(const HeadLimits& limits);

    // To the beginning of the next head, with the same limits.
    void restart() noexcept {
        content_length = 0;
        scanned = line = value = head_size = 0;
        field_count = 0;
        facts = 0;
        phase = 0;
        refusal = Refusal::none;
        version = Version::http_1_1;
    }

    std::uint64_t content_length = 0;
    std::uint32_t scanned = 0;    // everything before it has been looked at, and is not looked at again
    std::uint32_t line = 0;       // where the current line begins
    std::uint32_t value = 0;      // behind the colon of the current line, or where the target begins
    std::uint32_t head_size = 0;  // of a complete head
    std::uint32_t head_bytes;     // from here on: HeadLimits
    std::uint16_t line_bytes;
    std::uint16_t field_limit;
    std::uint16_t field_count = 0;
    std::uint16_t facts = 0;  // what has been seen: bits, private to the sources
    std::uint8_t phase = 0;   // of the line: private to the sources
    Refusal refusal = Refusal::none;
    Version version = Version::http_1_1;
    bool behind_proxy;
};
static_assert(sizeof(HeadState) == 40);

}  // namespace ferrule::inline v0::http::detail
