// What it costs llhttp to parse the head of a request and to tell where its parts lie: `llhttp_parse requests`.
#include "http_parse.hpp"

#include <llhttp.h>

#include <cstdio>
#include <cstdlib>
#include <string_view>

namespace {

constexpr std::size_t fields_per_request = 4;
constexpr std::size_t fields_max = 100;

/// Where the parts of a request lie: what Ferrule's parser finds, too.
struct Found {
    struct Span {
        const char* at;
        std::size_t size;
    };
    Span method{};
    Span target{};
    Span names[fields_max];
    Span values[fields_max];
    std::size_t fields = 0;
};

Found& found_by(llhttp_t* parser) {
    return *static_cast<Found*>(parser->data);
}

int on_method(llhttp_t* parser, const char* at, std::size_t size) {
    found_by(parser).method = {at, size};
    return 0;
}

int on_url(llhttp_t* parser, const char* at, std::size_t size) {
    found_by(parser).target = {at, size};
    return 0;
}

int on_header_field(llhttp_t* parser, const char* at, std::size_t size) {
    Found& found = found_by(parser);
    if (found.fields == fields_max) return -1;
    found.names[found.fields] = {at, size};
    return 0;
}

int on_header_value(llhttp_t* parser, const char* at, std::size_t size) {
    Found& found = found_by(parser);
    found.values[found.fields] = {at, size};
    return 0;
}

int on_header_value_complete(llhttp_t* parser) {
    ++found_by(parser).fields;
    return 0;
}

// The head is all that is asked for.
int on_message_complete(llhttp_t*) {
    return HPE_PAUSED;
}

}  // namespace

int main(int count, char** arguments) {
    if (count != 2) {
        std::fprintf(stderr, "usage: %s requests\n", arguments[0]);
        return 2;
    }
    llhttp_settings_t settings;
    llhttp_settings_init(&settings);
    settings.on_method = on_method;
    settings.on_url = on_url;
    settings.on_header_field = on_header_field;
    settings.on_header_value = on_header_value;
    settings.on_header_value_complete = on_header_value_complete;
    settings.on_message_complete = on_message_complete;
    llhttp_t parser;
    Found found;
    llhttp_init(&parser, HTTP_REQUEST, &settings);
    parser.data = &found;
    return http_parse::measure(std::strtoull(arguments[1], nullptr, 10), [&](std::string_view bytes) {
        llhttp_reset(&parser);
        found.fields = 0;
        const llhttp_errno_t error = llhttp_execute(&parser, bytes.data(), bytes.size());
        if ((error != HPE_OK && error != HPE_PAUSED) || found.fields != fields_per_request) std::abort();
        return found.target.size;
    });
}
