#pragma once

#include <ferrule/http/chunked_decoder.hpp>
#include <ferrule/http/request_head.hpp>

#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace ferrule_test {

// A request as one understands it: what two parsers can be compared by.
struct Message {
    std::string method;
    std::string target;
    std::vector<std::pair<std::string, std::string>> fields;
    std::string body;
    // What others refuse: such trailers, which are ignored here, and HTAB as white space behind Content-Length or
    // Transfer-Encoding (RFC 9110, section 5.6.3).
    bool has_framing_trailers = false;
    bool has_tab_behind_framing = false;

    friend bool operator==(const Message&, const Message&) = default;
};

// Whether a line of a chunked body has the name of a field that frames: none has it by chance.
inline bool names_framing(std::string_view body) {
    for (std::size_t end = body.find('\n'); end != std::string_view::npos; end = body.find('\n')) {
        body.remove_prefix(end + 1);
        const std::string_view name = body.substr(0, body.find(':'));
        for (const std::string_view framing : {"transfer-encoding", "content-length", "connection", "upgrade"})
            if (ferrule::http::same_name(name, framing)) return true;
    }
    return false;
}

// Whether HTAB is in the white space between the value, which lies in these bytes, and the end of its line.
inline bool has_tab_behind(std::string_view value, std::string_view bytes) {
    bytes.remove_prefix(static_cast<std::size_t>(value.data() + value.size() - bytes.data()));
    return bytes.substr(0, bytes.find('\r')).find('\t') != std::string_view::npos;
}

// The requests in a stream that Ferrule takes, each with its whole body, up to the last after which the connection may
// be used again. `CONNECT` and what asks for an upgrade are left out, and so is what is behind them: it is no HTTP.
inline std::vector<Message> messages_of(std::string_view bytes) {
    namespace http = ferrule::http;
    std::vector<Message> messages;
    http::FieldPosition positions[100];
    for (;;) {
        http::RequestParser parser;
        if (parser.parse(bytes, positions) != http::ParseState::complete) return messages;
        if (parser.method() == http::Method::connect || parser.wants_upgrade()) return messages;
        const http::RequestHead head(bytes, parser, positions);
        Message message{std::string(head.method_text()), std::string(head.target()), {}, {}};
        for (const http::Field field : head.fields()) {
            message.fields.emplace_back(field.name, field.value);
            const bool frames =
                http::same_name(field.name, "content-length") || http::same_name(field.name, "transfer-encoding");
            if (frames && has_tab_behind(field.value, bytes)) message.has_tab_behind_framing = true;
        }
        bytes.remove_prefix(parser.head_size());
        if (parser.framing() == http::BodyFraming::length) {
            if (parser.content_length() > bytes.size()) return messages;
            message.body = bytes.substr(0, static_cast<std::size_t>(parser.content_length()));
            bytes.remove_prefix(message.body.size());
        } else if (parser.framing() == http::BodyFraming::chunked) {
            http::ChunkedDecoder decoder;
            const char* const begin = bytes.data();
            for (auto state = http::ChunkState::data; state != http::ChunkState::complete;) {
                const auto step = decoder.step(bytes);
                bytes.remove_prefix(step.consumed);
                state = step.state;
                if (state == http::ChunkState::data) message.body += step.data;
                if (state == http::ChunkState::more || state == http::ChunkState::refused) return messages;
            }
            message.has_framing_trailers = names_framing({begin, bytes.data()});
        }
        messages.push_back(std::move(message));
        if (!parser.keep_alive()) return messages;
    }
}

}  // namespace ferrule_test
