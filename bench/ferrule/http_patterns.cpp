// The HTTP layer in the patterns of the benchmarks: the same answer with a router before it, and without.
#include <ferrule/http/router.hpp>
#include <ferrule/http/server.hpp>
#include <ferrule/server.hpp>

#include <charconv>
#include <cstdint>
#include <cstdio>
#include <exception>
#include <string_view>
#include <utility>

namespace {

using ferrule::Connection;
using ferrule::http::Request;
using ferrule::http::Response;

void plain(Request&, Response& response) {
    response.content_type("text/plain");
    response.send("ok");
}

void routed(Request& request, Response& response) {
    const auto user = request.parameter<std::uint32_t>("user");
    const auto post = request.parameter<std::uint32_t>("post");
    response.content_type("text/plain");
    response.send(user && post ? "ok" : "no");
}

// A service has more than one route.
ferrule::http::Router routes() {
    ferrule::http::Router router;
    router.get("/", plain);
    for (const char* path : {"/about", "/items", "/items/{id:int}", "/users", "/users/{user:int}", "/search"})
        router.get(path, plain);
    router.get("/users/{user:int}/posts/{post:int}", routed);
    return router;
}

}  // namespace

int main(int count, char** arguments) {
    ferrule::ServerOptions options;
    options.reactors = 1;
    std::string_view pattern;
    for (int index = 1; index + 1 < count; index += 2) {
        const std::string_view value = arguments[index + 1];
        if (std::string_view(arguments[index]) == "--port") {
            std::from_chars(value.data(), value.data() + value.size(), options.port);
        } else {
            pattern = value;
        }
    }
    try {
        ferrule::Server server(options);
        const ferrule::http::Router router = routes();
        if (pattern == "plain") {
            server.on_connection(
                [](Connection connection) { return ferrule::http::serve(std::move(connection), plain); });
        } else if (pattern == "routed") {
            server.on_connection(
                [&router](Connection connection) { return ferrule::http::serve(std::move(connection), router); });
        } else {
            std::fputs("usage: ferrule_http_patterns --pattern plain|routed --port NUMBER\n", stderr);
            return 2;
        }
        return server.run();
    } catch (const std::exception& error) {
        std::fprintf(stderr, "ferrule_http_patterns: %s\n", error.what());
        return 1;
    }
}
