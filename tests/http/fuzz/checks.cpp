#include <ferrule/http/chunked_decoder.hpp>

#include "http/fuzz/checks.hpp"
#include "http/parsing.hpp"

#include <algorithm>
#include <sstream>
#include <vector>

namespace ferrule_test {

namespace {

// Cheap numbers out of one: where to cut, and how much to take.
class Choices {
public:
    explicit Choices(std::uint64_t seed) : state_(seed | 1) {}
    std::size_t below(std::size_t bound) {
        state_ ^= state_ << 13;
        state_ ^= state_ >> 7;
        state_ ^= state_ << 17;
        return bound == 0 ? 0 : static_cast<std::size_t>(state_ % bound);
    }

private:
    std::uint64_t state_;
};

std::string differ(std::string_view what, const Outcome& one, const Outcome& other) {
    std::ostringstream message;
    message << what << ": " << one << " and " << other;
    return message.str();
}

struct Body {
    http::ChunkState state = http::ChunkState::more;
    http::Refusal refusal = http::Refusal::none;
    std::size_t consumed = 0;
    std::string data;
    std::string trailers;

    friend bool operator==(const Body&, const Body&) = default;
};

// Decodes what is given in pieces of at most `piece` bytes; 0: at once.
Body decoded(std::string_view bytes, std::size_t piece) {
    Body body;
    http::ChunkedDecoder decoder;
    std::string trailers(512, '\0');
    while (body.state == http::ChunkState::more) {
        const std::string_view part = bytes.substr(body.consumed, piece == 0 ? bytes.size() : piece);
        const std::vector<char> copy(part.begin(), part.end());
        std::string_view rest(copy.data(), copy.size());
        do {
            const auto step = decoder.step(rest, trailers);
            body.state = step.state;
            body.consumed += step.consumed;
            rest.remove_prefix(step.consumed);
            if (step.state == http::ChunkState::data) body.data += step.data;
        } while (body.state == http::ChunkState::data);
        if (part.empty()) break;
    }
    body.refusal = decoder.refusal();
    body.trailers = trailers.substr(0, decoder.trailers_size());
    // How far it went into what it refuses is its own affair.
    if (body.state == http::ChunkState::refused) body.consumed = 0;
    return body;
}

// The head as a careful client would send it, from what was found of it.
std::string written_again(std::string_view bytes, const Outcome& head) {
    std::string text(bytes.substr(head.target.first).substr(0, head.target.second));
    // The method lies before the target, behind an empty line that may be there.
    std::size_t begin = 0;
    if (bytes.starts_with("\r\n")) begin = 2;
    text = std::string(bytes.substr(begin, head.target.first - 1 - begin)) + ' ' + text;
    text += head.version == http::Version::http_1_1 ? " HTTP/1.1\r\n" : " HTTP/1.0\r\n";
    for (std::size_t index = 0; index + 1 < head.positions.size(); index += 2) {
        text += bytes.substr(head.positions[index].first, head.positions[index].second);
        text += ": ";
        text += bytes.substr(head.positions[index + 1].first, head.positions[index + 1].second);
        text += "\r\n";
    }
    return text += "\r\n";
}

std::string check_meaning(std::string_view bytes, const Outcome& head) {
    for (const auto& [begin, size] : head.positions)
        if (begin + size > head.head_size) return "a field lies outside of its head";
    if (head.target.first + head.target.second > head.head_size) return "the target lies outside of its head";
    const std::string text = written_again(bytes, head);
    const Outcome again = parsed(text);
    if (again.state != http::ParseState::complete) return differ("written again", head, again);
    const bool same = again.head_size == text.size() && again.method == head.method && again.version == head.version &&
                      again.form == head.form && again.framing == head.framing &&
                      again.content_length == head.content_length && again.keep_alive == head.keep_alive &&
                      again.expects_continue == head.expects_continue && again.wants_upgrade == head.wants_upgrade &&
                      again.known == head.known && written_again(text, again) == text;
    return same ? "" : differ("written again", head, again);
}

std::string check_head(std::string_view bytes, const Outcome& head, Choices& choices) {
    if (const Outcome twin = parsed<http::PortableScan>(bytes); twin != head)
        return differ("with the twin", head, twin);
    if (const Outcome two = parsed_in_two(bytes, choices.below(bytes.size() + 1)); two != head)
        return differ("in two", head, two);
    Reading<> pieces;
    for (std::size_t size = 0;;) {
        size = std::min(bytes.size(), size + 1 + choices.below(24));
        if (pieces.give(bytes.substr(0, size)) != http::ParseState::incomplete || size == bytes.size()) break;
    }
    if (pieces.outcome() != head) return differ("in pieces", head, pieces.outcome());
    // Each byte is a copy of all before it.
    constexpr std::size_t small = 300;
    if (bytes.size() <= small)
        if (const Outcome drip = parsed_by_bytes(bytes); drip != head) return differ("by bytes", head, drip);
    if (head.state != http::ParseState::complete) return "";
    if (const Outcome alone = parsed(bytes.substr(0, head.head_size)); alone != head)
        return differ("without what is behind it", head, alone);
    const std::string other = std::string(bytes.substr(0, head.head_size)) + "\x01: smuggled\n";
    if (const Outcome before = parsed(other); before != head) return differ("before something else", head, before);
    return check_meaning(bytes, head);
}

std::string check_body(std::string_view bytes, const Body& body, Choices& choices) {
    if (decoded(bytes, 1 + choices.below(16)) != body) return "a chunked body is another in pieces";
    if (decoded(bytes, 1) != body) return "a chunked body is another by bytes";
    if (body.state != http::ChunkState::complete) return "";
    std::ostringstream chunk;
    if (!body.data.empty()) chunk << std::hex << body.data.size() << "\r\n" << body.data << "\r\n";
    chunk << "0\r\n" << body.trailers << "\r\n";
    const Body again = decoded(chunk.str(), 0);
    return again.state == http::ChunkState::complete && again.data == body.data && again.trailers == body.trailers
               ? ""
               : "a chunked body that is written again is another";
}

}  // namespace

std::string check_stream(std::string_view bytes, std::uint64_t choice, FuzzCounts& counts) {
    Choices choices(choice);
    ++counts.executions;
    constexpr unsigned requests_max = 8;
    for (unsigned request = 0; request < requests_max && !bytes.empty(); ++request) {
        const Outcome head = parsed(bytes);
        if (std::string wrong = check_head(bytes, head, choices); !wrong.empty()) return wrong;
        if (head.state != http::ParseState::complete) {
            counts.refused += head.state == http::ParseState::refused;
            return "";
        }
        ++counts.taken;
        bytes.remove_prefix(head.head_size);
        if (head.framing == http::BodyFraming::length) {
            if (head.content_length > bytes.size()) return "";
            bytes.remove_prefix(static_cast<std::size_t>(head.content_length));
        } else if (head.framing == http::BodyFraming::chunked) {
            const Body body = decoded(bytes, 0);
            if (std::string wrong = check_body(bytes, body, choices); !wrong.empty()) return wrong;
            if (body.state != http::ChunkState::complete) return "";
            ++counts.bodies;
            bytes.remove_prefix(body.consumed);
        }
    }
    return "";
}

}  // namespace ferrule_test
