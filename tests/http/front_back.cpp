// The server behind the fronts of fronts.py: it tells of each request what it has understood, and first of all where it
// listens. `front_back [--behind-proxy] [--early]`
//
// An answer has the request's target, its method and its X-Forwarded-For in X-Target, X-Method and X-Seen, and these
// with the length and the CRC-32 of its body in its own, a line each. With --early it looks at no body, and says so by
// X-Early; with --behind-proxy HeadLimits has it so.
#include <ferrule/http/server.hpp>
#include <ferrule/server.hpp>

#include <array>
#include <cstdint>
#include <cstdio>
#include <exception>
#include <string>
#include <string_view>
#include <utility>

namespace {

namespace http = ferrule::http;

class Crc32 {
public:
    void add(std::string_view bytes) {
        for (const char byte : bytes) value_ = table[(value_ ^ static_cast<unsigned char>(byte)) & 0xff] ^ value_ >> 8;
    }
    std::uint32_t value() const { return ~value_; }

private:
    static constexpr std::uint32_t polynomial = 0xedb88320;
    static constexpr auto table = [] {
        std::array<std::uint32_t, 256> values{};
        for (std::uint32_t index = 0; index < values.size(); ++index) {
            values[index] = index;
            for (int bit = 0; bit < 8; ++bit) values[index] = values[index] >> 1 ^ (values[index] & 1) * polynomial;
        }
        return values;
    }();
    std::uint32_t value_ = ~std::uint32_t{0};
};

// What may stand in a header anywhere: the bytes of other encodings are compared as question marks.
std::string header_text(std::string_view value) {
    std::string text(value);
    for (char& letter : text) {
        if (letter != '\t' && (letter < ' ' || letter > '~')) letter = '?';
    }
    return text;
}

std::string addresses_seen(const http::Request& request) {
    std::string seen;
    for (const http::Field field : request.fields()) {
        if (!http::same_name(field.name, "x-forwarded-for")) continue;
        if (!seen.empty()) seen += ", ";
        seen += header_text(field.value);
    }
    return seen;
}

void tell(const http::Request& request, http::Response& response, std::uint64_t length, std::uint32_t crc) {
    const std::string target = header_text(request.target());
    const std::string_view method = request.method_text();
    const std::string seen = addresses_seen(request);
    std::array<char, 64> body_line{};
    std::snprintf(body_line.data(), body_line.size(), "length=%llu\ncrc=%08x\n",
                  static_cast<unsigned long long>(length), crc);
    // 200 would make a tunnel of it.
    if (request.method() == http::Method::connect) response.status(http::Status::method_not_allowed);
    response.header("X-Target", target);
    response.header("X-Method", method);
    response.header("X-Seen", seen);
    response.send("target=" + target + "\nmethod=" + std::string(method) + "\nseen=" + seen + '\n' + body_line.data());
}

ferrule::Task<> answer_early(http::Request& request, http::Response& response) {
    response.header("X-Early", "1");
    tell(request, response, 0, 0);
    co_return;
}

ferrule::Task<> answer(http::Request& request, http::Response& response) {
    Crc32 crc;
    std::uint64_t length = 0;
    while (auto piece = co_await request.read()) {
        crc.add(piece.text());
        length += piece.size();
    }
    // Otherwise the answer is the server's.
    if (request.body_complete()) tell(request, response, length, crc.value());
}

}  // namespace

int main(int count, char** arguments) {
    http::ServeOptions options;
    auto* handler = answer;
    for (int index = 1; index < count; ++index) {
        const std::string_view argument = arguments[index];
        options.limits.behind_proxy = options.limits.behind_proxy || argument == "--behind-proxy";
        if (argument == "--early") handler = answer_early;
    }
    try {
        ferrule::Server server{{.host = "127.0.0.1", .port = 0, .reactors = 1}};
        server.on_connection([&options, handler](ferrule::Connection connection) {
            return http::serve(std::move(connection), handler, options);
        });
        server.on_listening([&server] {
            std::printf("listening on 127.0.0.1:%d\n", server.port());
            std::fflush(stdout);
        });
        return server.run();
    } catch (const std::exception& error) {
        std::fprintf(stderr, "front_back: %s\n", error.what());
        return 1;
    }
}
