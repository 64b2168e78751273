// What probe.py asks: `/` says OK, and what is posted to it; `/echo` says the fields of the request; anything else is
// not there. It prints where it listens.
#include <ferrule/http/server.hpp>
#include <ferrule/server.hpp>

#include <cstdio>
#include <string>
#include <string_view>
#include <utility>

namespace {

namespace http = ferrule::http;
using http::Method;
using http::Status;

constexpr std::string_view allowed = "GET, HEAD, POST, OPTIONS";
constexpr std::size_t body_max = 65'536;

std::string fields_of(const http::Request& request) {
    std::string text;
    for (const http::Field field : request.fields())
        text.append(field.name).append(": ").append(field.value).append("\n");
    return text;
}

void answer_to(const http::Request& request, http::Response& response, std::string_view body) {
    const std::string_view path = request.target().substr(0, request.target().find('?'));
    const Method method = request.method();
    response.header("Content-Type", "text/plain");
    if (method == Method::options) {
        response.header("Allow", allowed);
        response.send("");
    } else if (path == "/echo" || path == "/cookie") {
        response.send(fields_of(request));
    } else if (method != Method::get && method != Method::head && method != Method::post) {
        response.status(Status::method_not_allowed);
        response.header("Allow", allowed);
        response.send("no such method\n");
    } else if (path != "/" && !path.starts_with("http://")) {
        response.status(Status::not_found);
        response.send("no such page\n");
    } else {
        response.send(method == Method::post ? body : "OK");
    }
}

ferrule::Task<> answer(http::Request& request, http::Response& response) {
    const auto body = co_await request.collect(body_max);
    if (!body) {
        response.status(body.error());
        co_return;
    }
    answer_to(request, response, *body);
}

}  // namespace

int main() {
    ferrule::Server server{{.host = "127.0.0.1", .port = 0, .reactors = 1}};
    server.on_connection([](ferrule::Connection connection) { return http::serve(std::move(connection), answer); });
    server.on_listening([&server] {
        std::printf("listening on 127.0.0.1:%d\n", server.port());
        std::fflush(stdout);
    });
    return server.run();
}
