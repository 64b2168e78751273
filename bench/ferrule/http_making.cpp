// What answers are made with, without a server: a text of JSON, the same compressed, a route. One pattern in a run; its
// figure as a line of JSON.
#include <ferrule/http/compression.hpp>
#include <ferrule/http/json_writer.hpp>
#include <ferrule/http/route_tree.hpp>

#include "thread_share.hpp"

#include <algorithm>
#include <array>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace {

namespace http = ferrule::http;
using Clock = std::chrono::steady_clock;

/// As in the arena's data set.
struct Item {
    int id;
    std::string name;
    std::string category;
    int price;
    int quantity;
    bool active;
    std::vector<std::string> tags;
    int score;
    int count;
};

constexpr int item_count = 25;

std::vector<Item> make_items() {
    constexpr std::array<std::string_view, 5> names{"Alpha Widget", "Beta Gadget Pro", "Gamma Device",
                                                    "Delta Tool Set 2000", "Epsilon"};
    constexpr std::array<std::string_view, 4> categories{"electronics", "tools", "home-garden", "toys"};
    std::vector<Item> items;
    for (int id = 1; id <= item_count; ++id) {
        const auto place = static_cast<std::size_t>(id);
        items.push_back({id,
                         std::string(names[place * 7 % 5]) + ' ' + std::to_string(id),
                         std::string(categories[place * 5 % 4]),
                         id * 37 % 500 + 1,
                         id * 13 % 100 + 1,
                         id % 3 != 0,
                         {"fast", "new", "popular"},
                         id * 11 % 51,
                         id * 277 % 1000});
    }
    return items;
}

/// A slab that is written from its beginning each time.
class Slab {
public:
    std::span<std::byte> span(std::size_t) { return std::span{bytes_}.subspan(used_); }
    void advance(std::size_t bytes) { used_ += bytes; }
    void clear() { used_ = 0; }
    [[nodiscard]] std::span<const std::byte> used() const { return std::span{bytes_}.first(used_); }

private:
    std::vector<std::byte> bytes_ = std::vector<std::byte>(64 << 10);
    std::size_t used_ = 0;
};

[[gnu::noinline]] void write_items(Slab& slab, const std::vector<Item>& items, int factor) {
    http::JsonWriter json(slab);
    json.begin_object();
    json.begin_array("items");
    for (const Item& item : items) {
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
    json.end_array();
    json.member("count", items.size());
    json.end_object();
    if (!json.finish()) std::abort();
}

/// Does it again and again, and prints what one costs.
template <class Work>
void measure(const char* key, double unit_ns, std::chrono::milliseconds duration, Work work) {
    constexpr int in_a_row = 1000;
    for (int count = 0; count < in_a_row; ++count) work(count);
    const bench::ThreadShare share;
    const auto began = Clock::now();
    std::uint64_t done = 0;
    auto elapsed = Clock::duration::zero();
    while (elapsed < duration) {
        for (int count = 0; count < in_a_row; ++count) work(count);
        done += in_a_row;
        elapsed = Clock::now() - began;
    }
    const double ns = std::chrono::duration<double, std::nano>(elapsed).count();
    std::printf("{\"%s\": %.4f, \"wait_share\": %.4f}\n", key, ns / unit_ns / static_cast<double>(done),
                share.waited());
}

void measure_json(std::chrono::milliseconds duration) {
    const std::vector<Item> items = make_items();
    Slab slab;
    measure("making_us", 1000, duration, [&](int factor) {
        slab.clear();
        write_items(slab, items, factor % 8);
    });
}

void measure_compression(http::ContentCoding coding, std::chrono::milliseconds duration) {
    Slab text;
    Slab packed;
    write_items(text, make_items(), 4);
    http::Compression compression;
    measure("making_us", 1000, duration, [&](int) {
        packed.clear();
        auto compressor = compression.begin(coding);
        if (!compressor || compressor->write(text.used(), packed) != text.used().size() || !compressor->finish(packed))
            std::abort();
    });
}

void measure_route(std::chrono::milliseconds duration) {
    http::RouteTree tree;
    std::uint32_t number = 0;
    for (const char* pattern : {"/", "/about", "/items", "/items/{id:int}", "/users", "/users/{user:int}", "/search",
                                "/files/{path...}", "/users/{user:int}/posts/{post:int}"})
        tree.add(http::Method::get, pattern, number++);
    std::vector<std::string> paths;
    for (int path = 0; path < 64; ++path)
        paths.push_back("/users/" + std::to_string(path * 7919) + "/posts/" + std::to_string(path * path));
    measure("route_ns", 1, duration, [&](int count) {
        http::RouteTree::Match match;
        tree.find(http::Method::get, paths[static_cast<std::size_t>(count) % paths.size()], {}, match);
        if (match.route != number - 1 || match.count != 2) std::abort();
    });
}

}  // namespace

int main(int count, char** arguments) {
    if (count != 3) {
        std::fputs("usage: http_making json-text|json-gzip|json-br|route MILLISECONDS\n", stderr);
        return 2;
    }
    const std::string_view pattern = arguments[1];
    const std::chrono::milliseconds duration(std::atoi(arguments[2]));
    if (pattern == "json-text") {
        measure_json(duration);
    } else if (pattern == "json-gzip") {
        measure_compression(http::ContentCoding::gzip, duration);
    } else if (pattern == "json-br") {
        measure_compression(http::ContentCoding::br, duration);
    } else if (pattern == "route") {
        measure_route(duration);
    } else {
        std::fputs("http_making: patterns are json-text, json-gzip, json-br, route\n", stderr);
        return 2;
    }
    return 0;
}
