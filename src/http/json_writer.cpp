#include <ferrule/http/json_writer.hpp>

#include <algorithm>
#include <charconv>
#include <cmath>
#include <span>
#include <stdexcept>
#include <string>
#include <system_error>

namespace ferrule::inline v0::http {

namespace {

/// The most that a character becomes: `\u00xx`.
constexpr std::size_t escape_bytes_max = 6;
constexpr std::string_view replacement = "\xef\xbf\xbd";

/// The bytes of the UTF-8 sequence that begins here (RFC 3629, section 4), and whether it is well-formed. When it is
/// not, they are the longest part that some sequence begins with, at least one: what one U+FFFD stands for.
struct Sequence {
    std::size_t bytes;
    bool well_formed;
};

Sequence sequence_at(std::string_view text) noexcept {
    const auto first = static_cast<unsigned char>(text[0]);
    std::size_t length = 0;
    unsigned char least = 0x80;
    unsigned char most = 0xbf;
    if (first >= 0xc2 && first <= 0xdf) {
        length = 2;
    } else if (first >= 0xe0 && first <= 0xef) {
        length = 3;
        // Neither what fits in two bytes nor surrogates.
        if (first == 0xe0) least = 0xa0;
        if (first == 0xed) most = 0x9f;
    } else if (first >= 0xf0 && first <= 0xf4) {
        length = 4;
        // Neither what fits in three bytes nor what is beyond U+10FFFF.
        if (first == 0xf0) least = 0x90;
        if (first == 0xf4) most = 0x8f;
    } else {
        return {1, false};
    }
    for (std::size_t index = 1; index < length; ++index) {
        if (index == text.size()) return {index, false};
        const auto byte = static_cast<unsigned char>(text[index]);
        if (byte < least || byte > most) return {index, false};
        least = 0x80;
        most = 0xbf;
    }
    return {length, true};
}

char* write_text(char* at, std::string_view text) noexcept {
    std::memcpy(at, text.data(), text.size());
    return at + text.size();
}

/// Writes the character that does not stand for itself; returns where it ends, and takes it from the text.
char* write_special(char* at, std::string_view& text) noexcept {
    const auto first = static_cast<unsigned char>(text[0]);
    if (first >= 0x80) {
        const Sequence sequence = sequence_at(text);
        at = write_text(at, sequence.well_formed ? text.substr(0, sequence.bytes) : replacement);
        text.remove_prefix(sequence.bytes);
        return at;
    }
    text.remove_prefix(1);
    static constexpr std::string_view short_escapes = "btn-fr";  // of the bytes from 8 to 13
    *at++ = '\\';
    if (first == '"' || first == '\\') {
        *at++ = static_cast<char>(first);
    } else if (first >= 8 && first <= 13 && first != 11) {
        *at++ = short_escapes[first - std::size_t{8}];
    } else {
        at = write_text(at, first < 16 ? "u000" : "u001");
        *at++ = "0123456789abcdef"[first % 16];
    }
    return at;
}

/// The longest are like -2.2250738585072014e-308.
constexpr std::size_t fraction_bytes_max = 24;

template <class Number>
char* write_fraction(char* at, Number number) noexcept {
    if (!std::isfinite(number)) return write_text(at, "null");
    const auto [end, error] = std::to_chars(at, at + fraction_bytes_max, number);
    static_cast<void>(error);  // there is room for the longest
    return end;
}

}  // namespace

char* JsonWriter::put(char* at, double number) noexcept {
    return write_fraction(at, number);
}

char* JsonWriter::put(char* at, float number) noexcept {
    return write_fraction(at, number);
}

char* JsonWriter::open_member_slowly(std::string_view text) {
    char* at = reserve(cursor_, 1);
    *at = ',';
    at = put(at + comma_, text);
    at = reserve(at, 1 + number_bytes_max);
    *at = ':';
    return at + 1;
}

char* JsonWriter::put_slowly(char* at, std::string_view text) {
    at = reserve(at, 1);
    *at = '"';
    return put_rest(at + 1, text);
}

char* JsonWriter::put_rest(char* at, std::string_view text) {
    while (!text.empty()) {
        at = reserve(at, escape_bytes_max);
        const std::size_t plain = detail::FastText::copy_plain(at, text.data(), std::min(text.size(), room(at)));
        at += plain;
        text.remove_prefix(plain);
        // Of texts in other scripts one special character comes behind the other.
        while (!text.empty() && !detail::is_plain(text[0])) {
            at = reserve(at, escape_bytes_max);
            at = write_special(at, text);
        }
    }
    at = reserve(at, 1);
    *at = '"';
    return at + 1;
}

void JsonWriter::raw_value(std::string_view json) {
    char* at = open_value();
    while (!json.empty()) {
        at = reserve(at, 1);
        const std::size_t bytes = std::min(json.size(), room(at));
        at = write_text(at, json.substr(0, bytes));
        json.remove_prefix(bytes);
    }
    cursor_ = at;
    close_value();
}

char* JsonWriter::next_room(char* at) {
    char* const begin = std::exchange(begin_, nullptr);
    cursor_ = end_ = nullptr;
    if (!failed_) {
        if (begin != nullptr) sink_.advance(static_cast<std::size_t>(at - begin));
        const std::span<std::byte> given = sink_.span(room_min);
        if (given.size() >= room_min) {
            begin_ = reinterpret_cast<char*>(given.data());
            end_ = begin_ + given.size();
            return begin_;
        }
        if (!given.empty()) sink_.advance(0);
        failed_ = true;
    }
    begin_ = nowhere_.data();
    end_ = begin_ + nowhere_.size();
    return begin_;
}

void JsonWriter::commit() {
    char* const begin = std::exchange(begin_, nullptr);
    char* const at = std::exchange(cursor_, nullptr);
    end_ = nullptr;
    if (!failed_ && begin != nullptr) sink_.advance(static_cast<std::size_t>(at - begin));
}

bool JsonWriter::finish() {
    if (wants_ != Wants::nothing) {
        throw std::logic_error(depth_ == 0 ? "JsonWriter: finished without a value"
                                           : "JsonWriter: finished inside of " + std::to_string(depth_) + " levels");
    }
    commit();
    return !failed_;
}

void JsonWriter::refuse_begin() {
    throw std::logic_error("JsonWriter: more than " + std::to_string(depth_max) + " levels");
}

void JsonWriter::refuse_end(char bracket) {
    throw std::logic_error(std::string("JsonWriter: ") + (bracket == '}' ? "an object" : "an array") +
                           " ends where none has begun, or behind a key");
}

void JsonWriter::refuse_value() const {
    throw std::logic_error(wants_ == Wants::key ? "JsonWriter: a value without a key in an object"
                                                : "JsonWriter: a second text");
}

void JsonWriter::refuse_key() const {
    throw std::logic_error(wants_ == Wants::value_of_key ? "JsonWriter: a key behind a key"
                                                         : "JsonWriter: a key outside of an object");
}

}  // namespace ferrule::inline v0::http
