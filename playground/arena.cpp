// The endpoints on which public HTTP benchmarks rank servers, as an application writes them: nothing is worked out
// before it is asked for.
#include <ferrule/http/compressed_body.hpp>
#include <ferrule/http/json_writer.hpp>
#include <ferrule/http/router.hpp>
#include <ferrule/http/server.hpp>
#include <ferrule/reactor/deadline.hpp>
#include <ferrule/server.hpp>

#include "options.hpp"

#include <charconv>
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <exception>
#include <fstream>
#include <nlohmann/json.hpp>
#include <optional>
#include <span>
#include <stdexcept>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace {

using ferrule::Task;
using ferrule::http::JsonWriter;
using ferrule::http::Query;
using ferrule::http::Request;
using ferrule::http::Response;
using ferrule::http::Status;

constexpr std::size_t number_bytes_max = 64;  // of a body that is a number
constexpr std::uint32_t wait_ms_max = 600'000;
constexpr std::uint64_t upload_bytes_max = 64u << 20;

struct Item {
    std::int64_t id = 0;
    std::string name;
    std::string category;
    std::int64_t price = 0;
    std::int64_t quantity = 0;
    bool active = false;
    std::vector<std::string> tags;
    std::int64_t score = 0;
    std::int64_t count = 0;
};

std::vector<Item> read_items(const std::string& path) {
    std::ifstream file(path);
    if (!file) throw std::runtime_error(path + ": cannot be read");
    std::vector<Item> items;
    try {
        for (const auto& item : nlohmann::json::parse(file)) {
            const auto& rating = item.at("rating");
            items.push_back({item.at("id"), item.at("name"), item.at("category"), item.at("price"), item.at("quantity"),
                             item.at("active"), item.at("tags"), rating.at("score"), rating.at("count")});
        }
    } catch (const nlohmann::json::exception& error) {
        throw std::runtime_error(path + ": " + error.what());
    }
    return items;
}

void write_item(JsonWriter& json, const Item& item, std::int64_t factor) {
    json.begin_object();
    json.member("id", item.id);
    json.member("name", item.name);
    json.member("category", item.category);
    json.member("price", item.price);
    json.member("quantity", item.quantity);
    json.member("active", item.active);
    json.member("tags", item.tags);
    json.begin_object("rating");
    json.member("score", item.score);
    json.member("count", item.count);
    json.end_object();
    json.member("total", item.price * item.quantity * factor);
    json.end_object();
}

void write_items(ferrule::http::CompressedBody& body, std::span<const Item> items, std::int64_t factor) {
    JsonWriter json(body);
    json.begin_object();
    json.begin_array("items");
    for (const Item& item : items) write_item(json, item, factor);
    json.end_array();
    json.member("count", items.size());
    json.end_object();
    json.finish();
}

std::optional<std::int64_t> integer(std::string_view text) {
    std::int64_t number = 0;
    const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number);
    if (error != std::errc() || end != text.data() + text.size()) return std::nullopt;
    return number;
}

void refuse(Response& response, Status status) {
    response.status(status);
    response.send();
}

void send_number(Response& response, std::int64_t number) {
    char digits[24];
    const char* const end = std::to_chars(digits, digits + sizeof digits, number).ptr;
    response.content_type("text/plain");
    response.send(std::string_view(digits, static_cast<std::size_t>(end - digits)));
}

// The sum of the values of the query; nothing when one is no number.
std::optional<std::int64_t> sum_of_query(Request& request) {
    std::int64_t sum = 0;
    for (const auto& parameter : Query(request.query())) {
        const auto number = integer(parameter.value);
        if (!number || __builtin_add_overflow(sum, *number, &sum)) return std::nullopt;
    }
    return sum;
}

void baseline(Request& request, Response& response) {
    const auto sum = sum_of_query(request);
    sum ? send_number(response, *sum) : refuse(response, Status::bad_request);
}

Task<> baseline_with_body(Request& request, Response& response) {
    const auto body = co_await request.collect(number_bytes_max);
    if (!body) co_return refuse(response, body.error());
    const auto sum = sum_of_query(request);
    const auto number = integer(*body);
    std::int64_t total = 0;
    const bool right = sum && number && !__builtin_add_overflow(*sum, *number, &total);
    right ? send_number(response, total) : refuse(response, Status::bad_request);
}

void pipeline(Request&, Response& response) {
    response.content_type("text/plain");
    response.send("ok");
}

Task<> json_items(const std::vector<Item>& items, Request& request, Response& response) {
    const auto count = request.parameter<std::size_t>("count");
    const auto factor = integer(request.query_parameter("m").value_or("1"));
    if (!count || *count == 0 || *count > items.size()) co_return refuse(response, Status::not_found);
    if (!factor) co_return refuse(response, Status::bad_request);
    ferrule::http::CompressedBody body(request, response, "application/json");
    write_items(body, std::span(items).first(*count), *factor);
    co_await body.finish();
}

Task<> upload(Request& request, Response& response) {
    std::uint64_t bytes = 0;
    while (auto piece = co_await request.read()) bytes += piece.size();
    send_number(response, static_cast<std::int64_t>(bytes));
}

Task<> delay(Request& request, Response& response) {
    const auto wait_ms = request.parameter<std::uint32_t>("ms");
    if (!wait_ms || *wait_ms > wait_ms_max) co_return refuse(response, Status::not_found);
    const auto slept = co_await ferrule::sleep_for(std::chrono::milliseconds(*wait_ms));
    if (!slept) co_return refuse(response, Status::service_unavailable);
    send_number(response, *wait_ms);
}

ferrule::http::Router routes(const std::vector<Item>& items) {
    ferrule::http::Router router;
    router.get("/baseline11", baseline);
    router.post("/baseline11", baseline_with_body);
    router.get("/pipeline", pipeline);
    router.get("/json/{count:int}",
               [&items](Request& request, Response& response) { return json_items(items, request, response); });
    router.post("/upload", upload);
    router.get("/delay/{ms:int}", delay);
    return router;
}

}  // namespace

int main(int count, char** arguments) {
    ferrule::ServerOptions options;
    std::string dataset = FERRULE_ARENA_ITEMS;
    playground::CommandLine line("arena", "Answers what public HTTP benchmarks ask.");
    line.add("--host", "ADDRESS", "where to listen: an IPv4 or IPv6 address, unix:PATH; default: everywhere",
             options.host);
    line.add("--port", "NUMBER", "the TCP port, 0 for any free one; default 8080", options.port);
    line.add("--reactors", "NUMBER", "threads, each with its own ring; default: one per CPU", options.reactors);
    line.add("--dataset", "FILE", "the items, as JSON; default: those of this folder", dataset);
    line.parse(count, arguments);

    try {
        const std::vector<Item> items = read_items(dataset);
        const ferrule::http::Router router = routes(items);
        ferrule::Server server(options);
        ferrule::http::ServeOptions serving;
        serving.body_limit = upload_bytes_max;
        server.on_connection([&](ferrule::Connection connection) {
            return ferrule::http::serve(std::move(connection), router, serving);
        });
        server.on_listening([&server] {
            std::printf("arena listens on %s\n", server.addresses().front().to_string().c_str());
            if (server.port() != 0) std::printf("try: curl 'http://localhost:%d/json/3?m=2'\n", server.port());
            std::fflush(stdout);
        });
        return server.run();
    } catch (const std::exception& error) {
        std::fprintf(stderr, "arena: %s\n", error.what());
        return 1;
    }
}
