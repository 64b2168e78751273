#include <ferrule/task/select.hpp>

#include "http/requests.hpp"
#include "http/served.hpp"
#include "http/site.hpp"
#include "http/tunnel.hpp"
#include "support/manual_clock.hpp"

#include <gtest/gtest.h>

#include <chrono>
#include <cstddef>
#include <expected>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>

namespace {

using namespace ferrule_test;
using namespace std::chrono_literals;
using ferrule::Task;
using TestHandler = Task<> (*)(http::Request&, http::Response&);

// ---- deadlines ----

class ServeDeadline : public testing::Test {
protected:
    Served<TestHandler>& serve(http::ServeOptions options = {}) {
        EngineOptions engine;
        engine.kernel = &clock_;
        // What ends here is ended by what serves.
        engine.network.idle_timeout = engine.network.read_timeout = 0ms;
        served_.emplace(site, options, engine);
        return *served_;
    }
    /// The server has received so much from the client that it waits for more.
    void until_received(std::size_t bytes) {
        Engine& engine = served_->engine();
        engine.eventually("the bytes", [&engine, bytes] { return engine.counters().bytes_received.value() >= bytes; });
        engine.on_reactor([] {});
    }
    void pass(std::chrono::milliseconds time) {
        clock_.advance(time);
        served_->engine().on_reactor([] {});
    }

    ManualClock clock_;
    std::optional<Served<TestHandler>> served_;
};

// H1-06: slow heads.
TEST_F(ServeDeadline, AHeadThatDoesNotComeInTime) {
    Served<TestHandler>& served = serve();
    ClientSocket client = served.connect();
    client.send(get("/") + "GET / HTTP/1.1\r\n");
    until_received(get("/").size() + 16);
    for (unsigned second = 1; second < 10; ++second) {
        pass(1s);
        client.send("X: y\r\n");
        until_received(get("/").size() + 16 + second * 6);
    }
    pass(1500ms);
    EXPECT_TRUE(same(without_dates(client.receive_rest().bytes),
                     ok("ok") + refusal("408 Request Timeout", "the request did not come in time")));
    client.close();
    served.engine().until_empty();
    EXPECT_EQ(served.metric("ferrule_http_refusals_total", "408"), 1);
}

TEST_F(ServeDeadline, ConnectionsOnWhichNoRequestComes) {
    Served<TestHandler>& served = serve();
    ClientSocket silent = served.connect();
    ClientSocket idle = served.connect();
    served.engine().eventually("both", [&] { return served.engine().counters().accepted.value() == 2; });
    for (const auto waited : {59s, 2s}) {
        idle.send(get("/"));
        EXPECT_EQ(without_dates(idle.receive(dated_size(ok("ok")))), ok("ok"));
        // The answer may be here before the server waits again.
        served.engine().eventually("idle", [&] { return served.engine().network().census().reading == 2; });
        pass(waited);
    }
    EXPECT_EQ(silent.receive_rest(), ClientSocket::Rest{});
    pass(59s);
    EXPECT_EQ(idle.receive_rest(), ClientSocket::Rest{});
    silent.close();
    idle.close();
    served.engine().until_empty();
    EXPECT_EQ(served.metric("ferrule_http_idle_timeouts_total"), 2);
}

// H1-06: at least 1 KiB/s.
TEST_F(ServeDeadline, ABodyThatIsTooSlow) {
    Served<TestHandler>& served = serve();
    ClientSocket client = served.connect();
    const std::string head = "POST /count HTTP/1.1\r\nHost: h\r\nContent-Length: 100000\r\n\r\n";
    client.send(head);
    until_received(head.size());
    std::size_t sent = head.size();
    // Fast enough for a long time, which earns nothing for later.
    for (unsigned second = 0; second < 20; ++second) {
        pass(1s);
        client.send(letters(2000));
        until_received(sent += 2000);
    }
    for (unsigned second = 0; second < 9; ++second) {
        pass(1s);
        client.send(letters(100));
        until_received(sent += 100);
    }
    pass(2s);
    EXPECT_TRUE(same(without_dates(client.receive_rest().bytes),
                     refusal("408 Request Timeout", "the body did not come in time")));
}

TEST_F(ServeDeadline, AHandlerThatTakesTooLong) {
    http::ServeOptions options;
    options.handler_timeout = 5s;
    EngineOptions engine;
    engine.kernel = &clock_;
    static Signal* begun;
    Signal its_begun;
    begun = &its_begun;
    const TestHandler sleeps = [](http::Request& request, http::Response& response) -> Task<> {
        if (request.path() == "/answers") response.status(http::Status::gateway_timeout);
        begun->raise();
        const auto slept = co_await ferrule::sleep_for(1h);
        if (request.path() == "/answers") response.send(slept ? "slept" : "could not");
    };
    served_.emplace(sleeps, options, engine);
    ClientSocket client = served_->connect();
    client.send(get("/"));
    its_begun.wait(1);
    pass(6s);
    EXPECT_TRUE(same(without_dates(client.receive_rest().bytes),
                     refusal("503 Service Unavailable", "the answer took too long")));
    ClientSocket another = served_->connect();
    another.send(get("/answers"));
    its_begun.wait(2);
    pass(6s);
    EXPECT_TRUE(same(without_dates(another.receive_rest().bytes),
                     response("504 Gateway Timeout", "Content-Length: 9\r\nConnection: close\r\n", "could not")));
}

class ServeAbandonedRead : public ServeDeadline {
protected:
    /// Gives up a read after so many seconds, so many times, does other things for 20 s, and counts the body then.
    static Task<> read_with_patience(http::Request& request, http::Response& response) {
        const std::chrono::seconds patience{number_in(request, "patience")};
        for (std::size_t times = number_in(request, "times"); times != 0; --times) {
            waits_->raise();
            const auto first = co_await ferrule::select(request.read(), ferrule::sleep_for(patience));
            if (first.index() == 0) break;
        }
        waits_->raise();
        const auto slept = co_await ferrule::sleep_for(20s);
        if (slept) co_await count_body(request, response);
    }

    void begin(std::string_view target, http::ServeOptions options = {}) {
        waits_ = &its_waits_;
        EngineOptions engine;
        engine.kernel = &clock_;
        engine.network.idle_timeout = engine.network.read_timeout = 0ms;
        served_.emplace(read_with_patience, options, engine);
        client_ = served_->connect();
        client_.send("POST " + std::string(target) + " HTTP/1.1\r\nHost: h\r\nContent-Length: 4\r\n\r\n");
    }
    /// As soon as the handler waits once more.
    void pass_once(std::chrono::milliseconds time) {
        its_waits_.wait(++passed_);
        served_->engine().on_reactor([] {});
        pass(time);
    }

    static inline Signal* waits_ = nullptr;
    Signal its_waits_;
    unsigned passed_ = 0;
    ClientSocket client_;
};

// The client is waited for only while somebody waits.
TEST_F(ServeAbandonedRead, LeavesNoDeadline) {
    begin("/?patience=1&times=1");
    pass_once(1s);
    pass_once(20s);
    client_.send("abcd");
    client_.shutdown_write();
    EXPECT_TRUE(same(without_dates(client_.receive_rest().bytes), ok("4 bytes, sum 394")));
}

TEST_F(ServeAbandonedRead, LeavesTheHandlersDeadline) {
    http::ServeOptions options;
    options.handler_timeout = 15s;
    begin("/?patience=1&times=1", options);
    pass_once(1s);
    pass_once(13s);
    EXPECT_EQ(served_->metric("ferrule_http_handlers_waiting"), 1);
    pass(1s);
    EXPECT_TRUE(same(without_dates(client_.receive_rest().bytes),
                     refusal("503 Service Unavailable", "the answer took too long")));
}

// H1-06: but for all of that time.
TEST_F(ServeAbandonedRead, WasWaitedFor) {
    begin("/?patience=4&times=3");
    pass_once(4s);
    pass_once(4s);
    pass_once(2s);
    pass_once(20s);
    EXPECT_TRUE(same(without_dates(client_.receive_rest().bytes),
                     refusal("408 Request Timeout", "the body did not come in time")));
}

// No time to be an average of: no least rate.
TEST_F(ServeDeadline, ABodyWithoutALeastRate) {
    for (const bool window : {true, false}) {
        http::ServeOptions options;
        if (window) {
            options.body_rate_window = 0ms;
        } else {
            options.body_rate_min = 0;
        }
        Served<TestHandler>& served = serve(options);
        ClientSocket client = served.connect();
        const std::string head = "POST /count HTTP/1.1\r\nHost: h\r\nContent-Length: 4\r\n\r\n";
        client.send(head);
        until_received(head.size());
        pass(1h);
        client.send("abcd");
        client.shutdown_write();
        EXPECT_TRUE(same(without_dates(client.receive_rest().bytes), ok("4 bytes, sum 394")));
    }
}

// ---- draining ----

TEST(ServeDraining, WhatWasBegunIsFinishedAndSaysThatItIsTheLast) {
    Served<TestHandler> served{site};
    ClientSocket idle = served.connect();
    idle.send(get("/"));
    EXPECT_EQ(without_dates(idle.receive(dated_size(ok("ok")))), ok("ok"));
    ClientSocket head = served.connect();
    head.send("GET / HTTP/1.1\r\n");
    ClientSocket body = served.connect();
    const std::string begun = "POST /count HTTP/1.1\r\nHost: h\r\nContent-Length: 10\r\n\r\n01234";
    body.send(begun);
    const std::size_t bytes = get("/").size() + 16 + begun.size();
    served.engine().eventually("all", [&] { return served.engine().counters().bytes_received.value() == bytes; });
    served.engine().drain(60s);
    EXPECT_EQ(idle.receive_rest(), ClientSocket::Rest{});
    head.send("Host: h\r\n\r\n" + get("/"));
    EXPECT_TRUE(same(without_dates(head.receive_rest().bytes), ok("ok", "Connection: close\r\n")));
    body.send("56789" + get("/"));
    EXPECT_TRUE(same(without_dates(body.receive_rest().bytes), ok("10 bytes, sum 525", "Connection: close\r\n")));
    idle.close();
    head.close();
    body.close();
    served.engine().join();
}

// ---- other protocols ----

TEST(ServeUpgrade, NoByteIsLost) {
    Served<TestHandler> served{shout<ferrule::Connection>};
    const std::string upgrade = get("/target", "Connection: upgrade\r\nUpgrade: shout\r\n");
    const std::string switched =
        "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: shout\r\nDate: now\r\nX-Said: yes\r\n\r\n";
    EXPECT_TRUE(same(served.answers(get("/") + upgrade + "behind"), ok("not upgraded") + switched + "behind!/target"));
    ClientSocket client = served.connect();
    client.send(upgrade);
    EXPECT_TRUE(same(without_dates(client.receive(dated_size(switched + "!"))), switched + "!"));
    client.send("later");
    EXPECT_EQ(client.receive(6), "later!");
    client.shutdown_write();
    EXPECT_EQ(client.receive_rest().bytes, "/target");
    EXPECT_TRUE(same(served.answers("CONNECT h:80 HTTP/1.1\r\nHost: h:80\r\n\r\nbytes"),
                     "HTTP/1.1 200 OK\r\nDate: now\r\nX-Said: yes\r\n\r\nbytes!h:80"));
    served.engine().until_empty();
    EXPECT_EQ(served.metric("ferrule_http_upgrades_total"), 3);
    EXPECT_EQ(served.engine().faults(), 0u);
}

// H1-13: only when it was handled, and only where it was asked for.
Task<> upgrade_unasked(http::Request& request, http::Response& response) {
    try {
        if (request.path() == "/other") {
            struct OtherStream {};
            static_cast<void>(request.stream<OtherStream>());
        }
        ferrule::Connection connection = response.upgrade<ferrule::Connection>("shout");
        connection.abort();
    } catch (const std::logic_error&) {
        response.send("refused");
    }
    co_return;
}

TEST(ServeUpgrade, OnlyWhereItWasAskedFor) {
    Served<TestHandler> served{upgrade_unasked};
    EXPECT_TRUE(same(served.answers(get("/") + get("/other")), ok("refused") + ok("refused")));
    EXPECT_TRUE(same(served.answers(post("/", "body", "Connection: upgrade\r\nUpgrade: shout\r\n")), ok("refused")));
}

// ---- ends that the client does not expect ----

Task<> end_here(http::Request& request, http::Response& response) {
    if (request.path() == "/last") response.close();
    response.send("ended");
    co_return;
}

// RFC 9112, section 9.6: what it still sends must not reset the connection under the answer.
TEST(ServeEnding, ClientsThatStillSendAreNotReset) {
    http::ServeOptions options;
    options.body_limit = 1'000'000;
    Served<TestHandler> served{end_here, options};
    const auto announced = [](std::string_view bytes) {
        return "POST / HTTP/1.1\r\nHost: h\r\nContent-Length: " + std::string(bytes) + "\r\n\r\n";
    };
    const std::string closed = ok("ended", "Connection: close\r\n");
    for (const auto& [request, wanted] :
         {std::pair{get("/last"), closed}, std::pair{announced("900000"), closed},
          std::pair{announced("1000001"), refusal("413 Content Too Large", "the body is too large")},
          std::pair{std::string("POST / HTTP/1.1\r\nHost: h\r\nConnection: close\r\nContent-Length: 1000001\r\n\r\n"),
                    refusal("413 Content Too Large", "the body is too large")}}) {
        ClientSocket client = served.connect();
        client.send(request);
        EXPECT_TRUE(same(without_dates(client.receive(dated_size(wanted))), wanted));
        for (unsigned more = 0; more < 3; ++more) {
            served.engine().on_reactor([] {});
            EXPECT_EQ(client.try_send(letters(1000)), 0) << request;
        }
        client.shutdown_write();
        EXPECT_EQ(client.receive_rest(), ClientSocket::Rest{}) << request;
    }
    served.engine().until_empty();
}

// ---- streams that go while earlier answers leave ----

/// A stream whose flushes are coroutines of its own, as those of an encryption are: none may be under way when it
/// moves, or ends.
class Layered : public Tunnel {
public:
    using Tunnel::Tunnel;
    Layered(Layered&& other) : Tunnel(std::move(other)) { EXPECT_EQ(other.flushes_, 0u); }
    ~Layered() { EXPECT_EQ(flushes_, 0u); }

    Task<std::expected<void, std::errc>> flush() {
        const Flush under_way{*this};
        const std::expected<void, std::errc> flushed = co_await Tunnel::flush();
        co_return flushed;
    }

private:
    struct Flush {
        explicit Flush(Layered& of) noexcept : flushes(of.flushes_) { ++flushes; }
        Flush(const Flush&) = delete;
        Flush& operator=(const Flush&) = delete;
        ~Flush() { --flushes; }
        unsigned& flushes;
    };

    unsigned flushes_ = 0;
};

constexpr std::size_t large = 8u << 20;

/// "/" has an answer for which its client takes its time. Behind it one never comes, or is not what it said, or the
/// connection is taken over.
Task<> large_and_more(http::Request& request, http::Response& response) {
    if (request.path() == "/") {
        response.send(letters(large));
    } else if (request.path() == "/never") {
        const auto slept = co_await ferrule::sleep_for(1h);
        response.send(slept ? "late" : "never");
    } else if (request.path() == "/short") {
        co_await ferrule::yield_now();
        response.content_length(10);
        response.write("12345");
    } else {
        co_await ferrule::yield_now();
        Layered layered = response.upgrade<Layered>("layers");
        layered.write(std::as_bytes(std::span{request.path()}));
        co_await layered.flush();
    }
}

class ServeWhileAnswersLeave : public testing::Test {
protected:
    ServeWhileAnswersLeave() { options_.staged_limit = 2 * large; }

    http::ServeOptions options_;
    Engine engine_{[this](ferrule::Connection connection) {
        return http::serve(Layered(std::move(connection)), large_and_more, options_);
    }};
    ClientSocket client_ = engine_.connect(4096);
};

TEST_F(ServeWhileAnswersLeave, AnUpgradeLetsGoOfTheirFlush) {
    client_.send(get("/") + get("/layered", "Connection: upgrade\r\nUpgrade: layers\r\n"));
    EXPECT_TRUE(same(without_dates(client_.receive_rest().bytes),
                     ok(letters(large)) +
                         "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: layers\r\n"
                         "Date: now\r\n\r\n/layered"));
    EXPECT_EQ(engine_.faults(), 0u);
}

TEST_F(ServeWhileAnswersLeave, AnEndLetsGoOfTheirFlush) {
    client_.send(get("/") + get("/short"));
    const std::string received = without_dates(client_.receive_rest().bytes);
    EXPECT_TRUE((ok(letters(large)) + response("200 OK", "Content-Length: 10\r\n", "12345")).starts_with(received));
    client_.close();
    engine_.until_empty();
    EXPECT_EQ(engine_.faults(), 0u);
}

TEST_F(ServeWhileAnswersLeave, AServerThatEndsLetsGoOfTheirFlush) {
    client_.send(get("/") + get("/never"));
    engine_.eventually("an answer that leaves", [this] { return engine_.network().census().sending == 1; });
    engine_.stop();
    engine_.join();
    EXPECT_TRUE((ok(letters(large)) + ok("never")).starts_with(without_dates(client_.receive_rest().bytes)));
    EXPECT_EQ(engine_.faults(), 0u);
}

// ---- peers that go ----

TEST(ServeEnding, PeersThatResetAtAnyPoint) {
    Served<TestHandler> served{site};
    const std::string requests = get("/") + post("/count", letters(5000)) +
                                 get("/stream?size=300000&piece=1000&flush=1") + get("/yield?times=100") +
                                 get("/large?size=1000000");
    for (std::size_t bytes = 1; bytes < requests.size(); bytes += 97) {
        ClientSocket client = served.connect();
        client.send(std::string_view(requests).substr(0, bytes));
        client.reset();
    }
    served.engine().until_empty();
    EXPECT_TRUE(same(served.answers(get("/")), ok("ok")));
    EXPECT_EQ(served.engine().faults(), 0u);
}

TEST(ServeEnding, ContentLengthThatIsNotKept) {
    const TestHandler lies = [](http::Request& request, http::Response& response) -> Task<> {
        response.content_length(10);
        if (request.path() == "/none") co_return;
        response.write("12345");
        if (request.path() == "/more") response.write("678901");
    };
    Served<TestHandler> served{lies};
    ClientSocket client = served.connect();
    client.send(get("/"));
    EXPECT_EQ(client.receive_rest().error, ECONNRESET);
    EXPECT_TRUE(same(served.answers(get("/more")),
                     response("500 Internal Server Error", "Content-Length: 23\r\n", "the handler has failed\n")));
    EXPECT_TRUE(same(served.answers(get("/none")), response("500 Internal Server Error", "Content-Length: 29\r\n",
                                                            "the handler has not answered\n")));
    served.engine().until_empty();
    EXPECT_EQ(served.metric("ferrule_http_aborts_total"), 1);
}

TEST(ServeEnding, AServerFieldAndPlainFunctions) {
    http::ServeOptions options;
    options.server = "test/1";
    const auto plain = [](http::Request& request, http::Response& response) { response.send(request.path()); };
    Served served{plain, options};
    EXPECT_TRUE(same(served.answers(get("/a") + get("/b")),
                     response("200 OK", "Server: test/1\r\nContent-Length: 2\r\n", "/a") +
                         response("200 OK", "Server: test/1\r\nContent-Length: 2\r\n", "/b")));
}

}  // namespace
