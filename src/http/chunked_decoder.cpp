#include <ferrule/http/chunked_decoder.hpp>

#include "http/characters.hpp"
#include "http/limit_check.hpp"
#include "http/trailer_rules.hpp"

#include <algorithm>

namespace ferrule::inline v0::http {

namespace {

constexpr std::uint64_t body_size_max = ~std::uint64_t{0} >> 1;
constexpr std::uint32_t size_digits_max = 16;
constexpr std::uint32_t extension_bytes_max = 65'535;
// Of all extensions of a body: chunks of a byte each would else cost their extension a byte.
constexpr std::uint32_t extensions_total_max = 16'384;

}  // namespace

// What the next byte belongs to.
enum class ChunkedDecoder::Phase : std::uint8_t {
    size,
    size_line_feed,         // behind the CR of a size's line
    extension,              // behind its semicolon
    extension_string,       // within its quotation marks
    extension_string_pair,  // behind a backslash there
    data,
    data_carriage_return,  // behind the data
    data_line_feed,
    trailer,       // the first byte of a line
    trailer_name,  // of a name
    trailer_value_begin,
    trailer_value,
    trailer_line_feed,  // behind the CR of a trailer
    last_line_feed,     // behind the CR of the line that ends it all
    complete,
    refused,
};

ChunkedDecoder::ChunkedDecoder(const HeadLimits& limits)
    : trailer_limit_(check_limit("trailer_bytes", limits.trailer_bytes, head_bytes_max)),
      line_limit_(static_cast<std::uint16_t>(check_limit("line_bytes", limits.line_bytes, line_bytes_max))),
      extension_limit_(static_cast<std::uint16_t>(
          check_limit("chunk_extension_bytes", limits.chunk_extension_bytes, extension_bytes_max))),
      field_limit_(static_cast<std::uint16_t>(check_limit("fields", limits.fields, fields_max))),
      phase_(Phase::size) {}

void ChunkedDecoder::reset() noexcept {
    remaining_ = body_size_ = 0;
    line_size_ = trailer_total_ = extension_total_ = trailers_size_ = trailer_line_ = 0;
    field_count_ = 0;
    phase_ = Phase::size;
    refusal_ = Refusal::none;
    keeps_trailer_ = false;
}

ChunkedDecoder::Step ChunkedDecoder::refuse(Refusal refusal, std::size_t consumed) noexcept {
    refusal_ = refusal;
    phase_ = Phase::refused;
    return {consumed, {}, ChunkState::refused};
}

ChunkedDecoder::Step ChunkedDecoder::step(std::string_view bytes, std::span<char> trailers) noexcept {
    for (std::size_t at = 0;; ++at) {
        if (phase_ == Phase::complete) return {at, {}, ChunkState::complete};
        if (phase_ == Phase::refused) return {at, {}, ChunkState::refused};
        if (at == bytes.size()) return {at, {}, ChunkState::more};
        const char letter = bytes[at];
        Refusal refusal = Refusal::none;
        switch (phase_) {
            case Phase::size:
                refusal = read_size(letter);
                break;
            case Phase::size_line_feed:
                refusal = letter == '\n' ? end_size_line() : Refusal::bare_carriage_return;
                break;
            case Phase::extension:
            case Phase::extension_string:
            case Phase::extension_string_pair:
                refusal = read_extension(letter);
                break;
            case Phase::data: {
                const std::size_t size = std::min<std::uint64_t>(remaining_, bytes.size() - at);
                remaining_ -= size;
                if (remaining_ == 0) phase_ = Phase::data_carriage_return;
                return {at + size, bytes.substr(at, size), ChunkState::data};
            }
            case Phase::data_carriage_return:
                if (letter != '\r') return refuse(Refusal::chunk_end, at);
                phase_ = Phase::data_line_feed;
                break;
            case Phase::data_line_feed:
                if (letter != '\n') return refuse(Refusal::chunk_end, at);
                phase_ = Phase::size;
                line_size_ = 0;
                break;
            default:
                refusal = read_trailer(letter, trailers);
                break;
        }
        if (refusal != Refusal::none) return refuse(refusal, at);
    }
}

Refusal ChunkedDecoder::read_size(char letter) noexcept {
    if (const std::uint8_t digit = digit_value(letter); digit <= 15) {
        if (++line_size_ > size_digits_max) return Refusal::chunk_size;
        remaining_ = remaining_ << 4 | digit;
        return Refusal::none;
    }
    if (line_size_ == 0 || remaining_ > body_size_max - body_size_)
        return letter == '\n' ? Refusal::bare_line_feed : Refusal::chunk_size;
    if (letter == '\r') {
        phase_ = Phase::size_line_feed;
        return Refusal::none;
    }
    if (letter == ';') {
        phase_ = Phase::extension;
        line_size_ = 0;
        return read_extension(letter);
    }
    return letter == '\n' ? Refusal::bare_line_feed : Refusal::chunk_size;
}

Refusal ChunkedDecoder::end_size_line() noexcept {
    line_size_ = 0;
    body_size_ += remaining_;
    phase_ = remaining_ > 0 ? Phase::data : Phase::trailer;
    return Refusal::none;
}

// RFC 9112, section 7.1.1, as far as it decides where the extension ends: tokens, signs between them, quoted strings.
Refusal ChunkedDecoder::read_extension(char letter) noexcept {
    if (letter == '\r' && phase_ == Phase::extension) {
        phase_ = Phase::size_line_feed;
        return Refusal::none;
    }
    if (letter == '\n') return Refusal::bare_line_feed;
    if (++line_size_ > extension_limit_ || ++extension_total_ > extensions_total_max) return Refusal::chunk_extension;
    if (phase_ == Phase::extension) {
        if (letter == '"') {
            phase_ = Phase::extension_string;
            return Refusal::none;
        }
        const bool belongs = is(token_character, letter) || letter == ';' || letter == '=' || is_white_space(letter);
        return belongs ? Refusal::none : Refusal::chunk_extension;
    }
    if (!is(value_character, letter)) return Refusal::chunk_extension;
    if (phase_ == Phase::extension_string_pair) {
        phase_ = Phase::extension_string;
    } else if (letter == '"') {
        phase_ = Phase::extension;
    } else if (letter == '\\') {
        phase_ = Phase::extension_string_pair;
    }
    return Refusal::none;
}

// Writes it behind the trailers that are kept, where the current one is.
Refusal ChunkedDecoder::keep(std::string_view text, std::span<char> trailers) noexcept {
    if (!keeps_trailer_) return Refusal::none;
    if (trailers_size_ > trailers.size() || text.size() > trailers.size() - trailers_size_)
        return Refusal::trailers_too_long;
    std::copy(text.begin(), text.end(), trailers.begin() + trailers_size_);
    trailers_size_ += static_cast<std::uint32_t>(text.size());
    return Refusal::none;
}

Refusal ChunkedDecoder::read_trailer(char letter, std::span<char> trailers) noexcept {
    if (++trailer_total_ > trailer_limit_) return Refusal::trailers_too_long;
    const std::string_view text(&letter, 1);
    switch (phase_) {
        case Phase::trailer:
            if (letter == '\r') {
                phase_ = Phase::last_line_feed;
                return Refusal::none;
            }
            if (letter == '\n') return Refusal::bare_line_feed;
            if (is_white_space(letter)) return Refusal::folded_line;
            if (!is(token_character, letter)) return Refusal::field_name;
            if (++field_count_ > field_limit_) return Refusal::too_many_fields;
            phase_ = Phase::trailer_name;
            line_size_ = 1;
            trailer_line_ = trailers_size_;
            keeps_trailer_ = !trailers.empty();
            return line_size_ > line_limit_ ? Refusal::field_too_long : keep(text, trailers);
        case Phase::trailer_name:
            if (is(token_character, letter))
                return ++line_size_ > line_limit_ ? Refusal::field_too_long : keep(text, trailers);
            if (letter == '\n') return Refusal::bare_line_feed;
            if (is_white_space(letter)) return Refusal::space_before_colon;
            if (letter != ':') return Refusal::field_name;
            if (++line_size_ > line_limit_) return Refusal::field_too_long;
            phase_ = Phase::trailer_value_begin;
            if (!keeps_trailer_) return Refusal::none;
            if (is_forbidden_trailer({trailers.data() + trailer_line_, trailers_size_ - trailer_line_})) {
                trailers_size_ = trailer_line_;
                keeps_trailer_ = false;
            }
            return keep(": ", trailers);
        case Phase::trailer_value_begin:
        case Phase::trailer_value:
            if (letter == '\r') {
                phase_ = Phase::trailer_line_feed;
                return Refusal::none;
            }
            if (letter == '\n') return Refusal::bare_line_feed;
            if (!is(value_character, letter)) return Refusal::field_value_letter;
            if (++line_size_ > line_limit_) return Refusal::field_too_long;
            if (phase_ == Phase::trailer_value_begin && is_white_space(letter)) return Refusal::none;
            phase_ = Phase::trailer_value;
            return keep(text, trailers);
        case Phase::trailer_line_feed:
            if (letter != '\n') return Refusal::bare_carriage_return;
            phase_ = Phase::trailer;
            // An empty value keeps the space of `name: `.
            while (keeps_trailer_ && is_white_space(trailers[trailers_size_ - 1]) &&
                   trailers[trailers_size_ - 2] != ':')
                --trailers_size_;
            return keep("\r\n", trailers);
        default:
            if (letter != '\n') return Refusal::bare_carriage_return;
            phase_ = Phase::complete;
            return Refusal::none;
    }
}

std::optional<Field> next_trailer(std::string_view& text) noexcept {
    const std::size_t end = text.find("\r\n");
    const std::size_t colon = text.find(": ");
    if (end == std::string_view::npos || colon > end) return std::nullopt;
    Field field;
    field.name = text.substr(0, colon);
    field.value = text.substr(colon + 2, end - colon - 2);
    field.known = known_field_of(field.name);
    text.remove_prefix(end + 2);
    return field;
}

}  // namespace ferrule::inline v0::http
