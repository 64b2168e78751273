#pragma once

#include <ferrule/http/request_parser.hpp>

#include "http/request_machine.hpp"
#include "http/vector_scan.hpp"

#include <cstddef>
#include <cstdint>
#include <ostream>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace ferrule_test {

namespace http = ferrule::http;

// Everything that a parser says of a request.
struct Outcome {
    http::ParseState state = http::ParseState::incomplete;
    http::Refusal refusal = http::Refusal::none;
    std::size_t head_size = 0;
    http::Method method = http::Method::other;
    http::Version version = http::Version::http_1_1;
    http::TargetForm form = http::TargetForm::origin;
    std::pair<std::size_t, std::size_t> target;
    http::BodyFraming framing = http::BodyFraming::none;
    std::uint64_t content_length = 0;
    bool keep_alive = false;
    bool expects_continue = false;
    bool wants_upgrade = false;
    std::vector<std::pair<std::size_t, std::size_t>> positions;  // of each name, then of its value
    std::vector<http::KnownField> known;

    friend bool operator==(const Outcome&, const Outcome&) = default;
};

inline std::ostream& operator<<(std::ostream& stream, const Outcome& outcome) {
    stream << "state " << static_cast<int>(outcome.state) << ", refusal " << name_of(outcome.refusal) << ", head of "
           << outcome.head_size << " with " << outcome.known.size() << " fields:";
    for (const auto& [begin, size] : outcome.positions) stream << ' ' << begin << '+' << size;
    return stream;
}

// A parser with its fields, which is given a head in as many pieces as one likes. Each time the bytes lie in memory of
// exactly their size, so that AddressSanitizer sees a byte read too far.
template <class Scan = http::VectorScan>
class Reading {
public:
    explicit Reading(const http::HeadLimits& limits = {}, std::size_t room = 128) : parser_(limits), fields_(room) {}

    http::ParseState give(std::string_view bytes) {
        const std::vector<char> copy(bytes.begin(), bytes.end());
        return give_in_place({copy.data(), copy.size()});
    }
    http::ParseState give_in_place(std::string_view bytes) {
        return state_ = http::RequestMachine<Scan>::parse(parser_, bytes, fields_);
    }

    [[nodiscard]] Outcome outcome() const {
        Outcome outcome;
        outcome.state = state_;
        outcome.refusal = parser_.refusal();
        if (state_ != http::ParseState::complete) return outcome;
        outcome.head_size = parser_.head_size();
        outcome.method = parser_.method();
        outcome.version = parser_.version();
        outcome.form = parser_.target_form();
        outcome.target = {parser_.target_begin(), parser_.target_size()};
        outcome.framing = parser_.framing();
        outcome.content_length = parser_.content_length();
        outcome.keep_alive = parser_.keep_alive();
        outcome.expects_continue = parser_.expects_continue();
        outcome.wants_upgrade = parser_.wants_upgrade();
        for (std::size_t index = 0; index < parser_.field_count(); ++index) {
            outcome.positions.emplace_back(fields_[index].name, fields_[index].name_size);
            outcome.positions.emplace_back(fields_[index].value, fields_[index].value_size);
            outcome.known.push_back(fields_[index].known);
        }
        return outcome;
    }

private:
    http::RequestParser parser_;
    std::vector<http::FieldPosition> fields_;
    http::ParseState state_ = http::ParseState::incomplete;
};

template <class Scan = http::VectorScan>
Outcome parsed(std::string_view text, const http::HeadLimits& limits = {}, std::size_t room = 128) {
    Reading<Scan> reading(limits, room);
    reading.give(text);
    return reading.outcome();
}

// The same of the first bytes, and then of all.
template <class Scan = http::VectorScan>
Outcome parsed_in_two(std::string_view text, std::size_t first, const http::HeadLimits& limits = {},
                      std::size_t room = 128) {
    Reading<Scan> reading(limits, room);
    if (reading.give(text.substr(0, first)) == http::ParseState::incomplete) reading.give(text);
    return reading.outcome();
}

// The same of a byte more each time.
template <class Scan = http::VectorScan>
Outcome parsed_by_bytes(std::string_view text, const http::HeadLimits& limits = {}, std::size_t room = 128) {
    Reading<Scan> reading(limits, room);
    for (std::size_t size = 0; size <= text.size(); ++size)
        if (reading.give(text.substr(0, size)) != http::ParseState::incomplete) break;
    return reading.outcome();
}

// The text as one would write it in a source, for messages.
inline std::string shown(std::string_view text) {
    std::string result;
    for (const char letter : text) {
        const auto byte = static_cast<unsigned char>(letter);
        if (letter == '\r') {
            result += "\\r";
        } else if (letter == '\n') {
            result += "\\n";
        } else if (byte < 0x20 || byte >= 0x7f) {
            constexpr char digits[] = "0123456789abcdef";
            result += {'\\', 'x', digits[byte >> 4], digits[byte & 15]};
        } else {
            result += letter;
        }
    }
    return result;
}

}  // namespace ferrule_test
