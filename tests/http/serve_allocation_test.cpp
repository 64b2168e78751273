#include "http/requests.hpp"
#include "http/served.hpp"
#include "support/counted_allocations.hpp"

#include <gtest/gtest.h>

#include <cstdint>
#include <initializer_list>
#include <string>
#include <string_view>
#include <thread>

namespace {

using namespace ferrule_test;
using ferrule::Task;

Task<> hello(http::Request&, http::Response& response) {
    response.send("ok");
    co_return;
}
Task<> write_text(http::Request&, http::Response& response) {
    response.content_type("application/json");
    for (unsigned part = 0; part < 100; ++part) response.write("0123456789012345678901234567890123456789");
    co_return;
}
Task<> echo_body(http::Request& request, http::Response& response) {
    const auto body = co_await request.collect(1000);
    if (body) response.send(*body);
}
Task<> count_pieces(http::Request& request, http::Response& response) {
    std::size_t bytes = 0;
    while (auto piece = co_await request.read()) bytes += piece.size();
    response.send(bytes == 8 ? "8" : "another number");
}
Task<> wait_a_moment(http::Request&, http::Response& response) {
    const auto slept = co_await ferrule::sleep_for(std::chrono::nanoseconds(1));
    if (slept) response.send("ok");
}

/// Sends the requests, each piece when the one before it has been received, and takes what comes back.
void exchange(Served<Task<> (*)(http::Request&, http::Response&)>& served, ClientSocket& client,
              std::initializer_list<std::string> pieces, std::size_t answer, unsigned times) {
    const ferrule::Counter& received = served.engine().counters().bytes_received;
    for (unsigned time = 0; time < times; ++time) {
        for (const std::string& piece : pieces) {
            const std::uint64_t wanted = received.value() + piece.size();
            client.send(piece);
            while (received.value() < wanted) std::this_thread::yield();
        }
        ASSERT_EQ(client.receive(answer).size(), answer);
    }
}

/// Of two hundred exchanges, behind some that fill what is kept.
std::uint64_t allocations_for(Task<> (*handler)(http::Request&, http::Response&),
                              std::initializer_list<std::string> pieces, std::size_t answer) {
    Served<Task<> (*)(http::Request&, http::Response&)> served{handler};
    ClientSocket client = served.connect();
    exchange(served, client, pieces, answer, 20);
    return allocations_of(served.engine(), [&] { exchange(served, client, pieces, answer, 200); });
}

void expect_no_allocation(Task<> (*handler)(http::Request&, http::Response&), std::initializer_list<std::string> pieces,
                          std::size_t answer) {
    EXPECT_EQ(allocations_for(handler, pieces, answer), 0u);
}

// What the others would see, if there were something.
TEST(ServeAllocation, EachOfAHandlerIsCounted) {
    const auto allocates = [](http::Request&, http::Response& response) -> Task<> {
        response.send(std::string(100, 'x'));
        co_return;
    };
    const std::size_t answer = dated_size(ok(std::string(100, 'x')));
    EXPECT_EQ(allocations_for(allocates, {get("/")}, answer), 200u);
    EXPECT_EQ(allocations_for(allocates, {times(16, get("/"))}, 16 * answer), 16 * 200u);
}

TEST(ServeAllocation, NoneForARequestInSteadyState) {
    const std::size_t answer = dated_size(ok("ok"));
    expect_no_allocation(hello, {get("/", "Accept: */*\r\nUser-Agent: test\r\n")}, answer);
    expect_no_allocation(hello, {times(16, get("/"))}, 16 * answer);
    expect_no_allocation(hello, {"GET /x%20y?a HT", "TP/1.1\r\nHo", "st: h\r\n\r\n"}, answer);
    expect_no_allocation(wait_a_moment, {times(4, get("/"))}, 4 * answer);
}

TEST(ServeAllocation, NoneForBodies) {
    const std::string json = response("200 OK", "Content-Type: application/json\r\nContent-Length:       4000\r\n", "");
    expect_no_allocation(write_text, {get("/")}, dated_size(json) + 4000);
    expect_no_allocation(echo_body, {post("/", "hello")}, dated_size(ok("hello")));
    const std::string head = "POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 8\r\n\r\n";
    expect_no_allocation(echo_body, {head, "0123", "4567"}, dated_size(ok("01234567")));
    expect_no_allocation(count_pieces, {chunked("/", "4\r\n0123\r\n"), "4\r\n4567\r\n0\r\n\r\n"}, dated_size(ok("8")));
}

}  // namespace
