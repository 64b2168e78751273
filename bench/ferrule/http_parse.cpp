// What it costs to parse the head of a request: `http_parse vector|portable requests` prints nanoseconds of CPU time.
#include <ferrule/http/request_parser.hpp>

#include "http/portable_scan.hpp"
#include "http/request_machine.hpp"
#include "http/vector_scan.hpp"
#include "http_parse.hpp"

#include <cstdio>
#include <cstdlib>
#include <string_view>

namespace {

namespace http = ferrule::http;

constexpr std::size_t fields_per_request = 4;

std::size_t found_in(const http::RequestParser& parser, http::ParseState state, std::size_t size) {
    const bool right =
        state == http::ParseState::complete && parser.head_size() == size && parser.field_count() == fields_per_request;
    if (!right) std::abort();
    return parser.target_size();
}

}  // namespace

int main(int count, char** arguments) {
    if (count != 3) {
        std::fprintf(stderr, "usage: %s vector|portable requests\n", arguments[0]);
        return 2;
    }
    const std::uint64_t amount = std::strtoull(arguments[2], nullptr, 10);
    http::FieldPosition fields[100];
    http::RequestParser parser;
    if (std::string_view(arguments[1]) == "vector") {
        return http_parse::measure(amount, [&](std::string_view bytes) {
            parser.reset();
            return found_in(parser, parser.parse(bytes, fields), bytes.size());
        });
    }
    return http_parse::measure(amount, [&](std::string_view bytes) {
        parser.reset();
        return found_in(parser, http::RequestMachine<http::PortableScan>::parse(parser, bytes, fields), bytes.size());
    });
}
