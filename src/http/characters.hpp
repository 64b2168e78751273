#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <string_view>

namespace ferrule::inline v0::http {

// What a byte may be in a message. One table for all of them: a byte of it is fetched once.
enum CharacterClass : std::uint8_t {
    token_character = 1,        // RFC 9110, section 5.6.2
    value_character = 2,        // of a field's value: HTAB, and everything from space on but DEL
    target_character = 4,       // of a target: what is printed, without a space and `#`
    host_character = 8,         // of a registered name: unreserved letters and sub-delimiters (RFC 3986, section 3.2.2)
    plain_host_character = 16,  // of nearly all hosts: letters, digits, `-` and `.`
    digit_character = 32,
};

constexpr std::array<std::uint8_t, 256> make_character_classes() {
    std::array<std::uint8_t, 256> classes{};
    for (unsigned byte = 0; byte < 256; ++byte) {
        const char letter = static_cast<char>(byte);
        const bool digit = letter >= '0' && letter <= '9';
        const bool alphanumeric = digit || (letter >= 'a' && letter <= 'z') || (letter >= 'A' && letter <= 'Z');
        const auto is_one_of = [letter](std::string_view letters) {
            return letters.find(letter) != std::string_view::npos;
        };
        unsigned classes_of_byte = 0;
        if (alphanumeric || is_one_of("!#$%&'*+-.^_`|~")) classes_of_byte |= token_character;
        if (byte == '\t' || (byte >= 0x20 && byte != 0x7f)) classes_of_byte |= value_character;
        if (byte > 0x20 && byte < 0x7f && byte != '#') classes_of_byte |= target_character;
        if (alphanumeric || is_one_of("-._~!$&'()*+,;=")) classes_of_byte |= host_character;
        if (alphanumeric || is_one_of("-.")) classes_of_byte |= plain_host_character;
        if (digit) classes_of_byte |= digit_character;
        classes[byte] = static_cast<std::uint8_t>(classes_of_byte);
    }
    return classes;
}

inline constexpr std::array<std::uint8_t, 256> character_classes = make_character_classes();

constexpr bool is(CharacterClass wanted, char letter) noexcept {
    return (character_classes[static_cast<unsigned char>(letter)] & wanted) != 0;
}

// The value of a hexadecimal digit; 255: it is none.
constexpr std::uint8_t digit_value(char letter) noexcept {
    if (letter >= '0' && letter <= '9') return static_cast<std::uint8_t>(letter - '0');
    const char lower = static_cast<char>(letter | 0x20);
    if (lower >= 'a' && lower <= 'f') return static_cast<std::uint8_t>(lower - 'a' + 10);
    return 255;
}

constexpr char to_lower(char letter) noexcept {
    return letter >= 'A' && letter <= 'Z' ? static_cast<char>(letter | 0x20) : letter;
}

constexpr bool is_white_space(char letter) noexcept {
    return letter == ' ' || letter == '\t';
}

// Without the white space at its ends.
constexpr std::string_view trimmed(std::string_view text) noexcept {
    while (!text.empty() && is_white_space(text.front())) text.remove_prefix(1);
    while (!text.empty() && is_white_space(text.back())) text.remove_suffix(1);
    return text;
}

}  // namespace ferrule::inline v0::http
