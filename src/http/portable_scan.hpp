#pragma once

#include "http/characters.hpp"

#include <string_view>

namespace ferrule::inline v0::http {

// Looks for the first byte that does not belong to a class, a byte at a time. VectorScan is the same on many at a time,
// and a test holds the two together. `floor`, at most `at`, is where bytes begin that may be read too.
struct PortableScan {
    static const char* token_end(const char*, const char* at, const char* end) noexcept {
        return find(token_character, at, end);
    }
    static const char* value_end(const char*, const char* at, const char* end) noexcept {
        return find(value_character, at, end);
    }
    static const char* target_end(const char*, const char* at, const char* end) noexcept {
        return find(target_character, at, end);
    }
    static const char* plain_host_end(const char*, const char* at, const char* end) noexcept {
        return find(plain_host_character, at, end);
    }
    // Whether that is all that a text has.
    static bool are_value_characters(std::string_view text) noexcept {
        const char* const end = text.data() + text.size();
        return find(value_character, text.data(), end) == end;
    }

private:
    static const char* find(CharacterClass wanted, const char* at, const char* end) noexcept {
        while (at != end && is(wanted, *at)) ++at;
        return at;
    }
};

}  // namespace ferrule::inline v0::http
