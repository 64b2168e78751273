#include <ferrule/admin/admin_port.hpp>
#include <ferrule/server.hpp>

#include "support/client_socket.hpp"
#include "support/forwarding_kernel.hpp"
#include "support/prometheus_lint.hpp"
#include "support/temporary_folder.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <poll.h>
#include <sys/stat.h>

#include <array>
#include <atomic>
#include <cerrno>
#include <chrono>
#include <expected>
#include <functional>
#include <future>
#include <memory>
#include <optional>
#include <stdexcept>
#include <string>
#include <string_view>
#include <thread>
#include <utility>
#include <vector>

namespace {

using namespace ferrule;
using namespace std::chrono_literals;
using ferrule_test::Call;
using ferrule_test::ClientSocket;
using ferrule_test::ForwardingKernel;
using ferrule_test::lint_prometheus_text;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::MatchesRegex;
using testing::Not;
using testing::StartsWith;

AdminOptions any_port() {
    AdminOptions options;
    options.port = 0;
    options.patience = 20s;
    return options;
}

struct Answer {
    std::string head;
    std::string body;
    unsigned status() const { return static_cast<unsigned>(std::stoi(head.substr(9, 3))); }
};

// Reads one answer with a length.
Answer receive_answer(ClientSocket& client, bool has_body = true) {
    Answer answer;
    while (!answer.head.ends_with("\r\n\r\n")) answer.head += client.receive(1);
    const std::string length = "Content-Length: ";
    const std::size_t at = answer.head.find(length);
    if (at != std::string::npos && has_body)
        answer.body = client.receive(std::stoul(answer.head.substr(at + length.size())));
    return answer;
}

std::string request_for(const std::string& path) {
    return "GET " + path + " HTTP/1.1\r\nHost: localhost\r\n\r\n";
}

Answer get(const Address& address, const std::string& path) {
    ClientSocket client = ClientSocket::connect(address);
    client.send(request_for(path));
    return receive_answer(client);
}

// What a request gets, with the end of the connection: what is refused is not kept.
ClientSocket::Rest refused(const Address& address, const std::string& bytes) {
    ClientSocket client = ClientSocket::connect(address);
    client.send(bytes);
    return client.receive_rest();
}

// A server with an admin port, on a thread.
class Served {
public:
    explicit Served(std::uint32_t reactors = 2, std::function<void(AdminPort&)> prepare = {},
                    AdminOptions admin_options = any_port()) {
        ServerOptions options;
        options.host = "127.0.0.1";
        options.port = 0;
        options.reactors = reactors;
        options.handle_signals = false;
        server_.emplace(options);
        server_->on_connection([](Connection connection) { return echo(std::move(connection)); });
        admin_.emplace(std::move(admin_options));
        admin_->watch(*server_);
        if (prepare) prepare(*admin_);
        if (admin_->address().port() == 0) admin_->start();
        std::promise<void> listening;
        server_->on_listening([&listening] { listening.set_value(); });
        thread_ = std::thread([this] { server_->run(); });
        listening.get_future().wait();
    }
    ~Served() { stop(); }
    void stop() {
        server_->stop();
        if (thread_.joinable()) thread_.join();
    }

    Server& server() { return *server_; }
    AdminPort& admin() { return *admin_; }
    Address admin_address() const { return admin_->address(); }
    Address address() const { return server_->addresses().front(); }

private:
    static Task<> echo(Connection connection) {
        while (auto received = co_await connection.read()) {
            for (const auto slice : received) connection.write(slice);
            co_await connection.flush();
        }
    }

    std::optional<Server> server_;
    std::optional<AdminPort> admin_;
    std::thread thread_;
};

TEST(AdminPort, ShowsMetricsOfEveryReactorAndOfTheProcess) {
    Served served;
    ClientSocket client = ClientSocket::connect(served.address());
    client.send("hello");
    EXPECT_EQ(client.receive(5), "hello");
    const Answer answer = get(served.admin_address(), "/metrics");
    EXPECT_EQ(answer.status(), 200u);
    EXPECT_THAT(answer.head, HasSubstr("Content-Type: text/plain; version=0.0.4; charset=utf-8\r\n"));
    EXPECT_THAT(lint_prometheus_text(answer.body), IsEmpty());
    for (const char* row : {"ferrule_loop_passes_total{reactor=\"0\"} ", "ferrule_loop_passes_total{reactor=\"1\"} ",
                            "ferrule_connections{reactor=\"1\",state=\"open\"} ",
                            "ferrule_connections_handed_over_total{reactor=\"0\"} 0\n",
                            "ferrule_loop_pass_duration_seconds_count{reactor=\"0\"} ", "process_start_time_seconds 1",
                            "process_resident_memory_bytes ", "process_open_fds ", "process_max_fds ",
                            "process_cpu_seconds_total ", "ferrule_build_info{version=\""}) {
        EXPECT_THAT(answer.body, HasSubstr(row));
    }
    // One connection, on whichever reactor the kernel has put it.
    unsigned accepted = 0;
    for (const char* reactor : {"0", "1"}) {
        const std::string row = std::string("ferrule_connections_accepted_total{reactor=\"") + reactor + "\"} ";
        accepted += static_cast<unsigned>(std::stoi(answer.body.substr(answer.body.find(row) + row.size())));
    }
    EXPECT_EQ(accepted, 1u);
}

TEST(AdminPort, ShowsTheSameAsJson) {
    Served served;
    const Answer answer = get(served.admin_address(), "/metrics.json");
    EXPECT_EQ(answer.status(), 200u);
    EXPECT_THAT(answer.head, HasSubstr("Content-Type: application/json\r\n"));
    EXPECT_THAT(answer.body, StartsWith("{\"metrics\":["));
    EXPECT_THAT(answer.body, HasSubstr("\"name\":\"ferrule_loop_pass_duration_seconds\""));
    EXPECT_THAT(answer.body, HasSubstr("\"quantiles\":{\"0.5\":"));
}

TEST(AdminPort, IsHealthyWhileEveryLoopTurns) {
    Served served;
    const Answer answer = get(served.admin_address(), "/healthz");
    EXPECT_EQ(answer.status(), 200u);
    EXPECT_EQ(answer.body, "reactor 0: ok\nreactor 1: ok\n");
}

// A reactor that is held by hand, on a thread.
class Held {
public:
    explicit Held(std::uint32_t id) : reactor_(id), thread_([this] { reactor_.run(); }) {}
    ~Held() {
        reactor_.stop();
        thread_.join();
    }
    Reactor& reactor() { return reactor_; }

private:
    Reactor reactor_;
    std::thread thread_;
};

// Asks until the answer is as wanted.
Answer get_until(const Address& address, const std::string& path, const std::function<bool(const Answer&)>& wanted) {
    const auto until = std::chrono::steady_clock::now() + 60s;
    for (;;) {
        Answer answer = get(address, path);
        if (wanted(answer) || std::chrono::steady_clock::now() > until) return answer;
        std::this_thread::yield();
    }
}

TEST(AdminPort, NamesTheReactorThatDoesNotTurn) {
    AdminOptions options = any_port();
    options.patience = 200ms;
    Held turning(0);
    Held blocked(1);
    AdminPort admin(options);
    admin.watch(turning.reactor());
    admin.watch(blocked.reactor(), "mail");
    admin.start();
    std::promise<void> free;
    const std::shared_future<void> freed = free.get_future().share();
    ASSERT_TRUE(blocked.reactor().post([freed] { freed.wait(); }));
    // More often than questions to one reactor may be open: neither its mailbox nor the answers suffer.
    for (int time = 0; time < 7; ++time) {
        const Answer answer = get(admin.address(), "/healthz");
        EXPECT_EQ(answer.status(), 503u);
        EXPECT_THAT(answer.body, HasSubstr("reactor 1 of mail: does not answer\n"));
    }
    EXPECT_THAT(get(admin.address(), "/tasks").body, HasSubstr("reactor 1 of mail: does not answer\n"));
    free.set_value();
    const Answer answer = get_until(admin.address(), "/healthz", [](const Answer& got) { return got.status() == 200; });
    EXPECT_EQ(answer.body, "reactor 0: ok\nreactor 1 of mail: ok\n");
}

TEST(AdminPort, SaysThatAReactorHasEnded) {
    std::optional<Reactor> reactor(std::in_place, 5);
    AdminPort admin(any_port());
    admin.watch(*reactor);
    admin.start();
    reactor->stop();
    reactor->run();
    EXPECT_EQ(get(admin.address(), "/healthz").body, "reactor 5: has ended\n");
    EXPECT_EQ(get(admin.address(), "/readyz").body, "reactor 5: has ended\n");
    EXPECT_THAT(get(admin.address(), "/metrics").body, HasSubstr("{reactor=\"5\"}"));
    reactor.reset();
    EXPECT_EQ(get(admin.address(), "/healthz").body, "ok\n");
    EXPECT_THAT(get(admin.address(), "/metrics").body, Not(HasSubstr("{reactor=\"5\"}")));
}

TEST(AdminPort, IsReadyWhileItListensAndEveryCheckHolds) {
    std::atomic<int> state = 0;
    Served served(1, [&state](AdminPort& admin) {
        admin.check("database", [&state]() -> std::expected<void, std::string> {
            if (state == 1) return std::unexpected("no connection");
            if (state == 2) throw std::runtime_error("broken");
            return {};
        });
        admin.start();
        EXPECT_EQ(get(admin.address(), "/readyz").body, "server: does not listen\n");
        EXPECT_EQ(get(admin.address(), "/healthz").status(), 200u);
    });
    EXPECT_EQ(get(served.admin_address(), "/readyz").body, "ok\n");
    state = 1;
    const Answer refused = get(served.admin_address(), "/readyz");
    EXPECT_EQ(refused.status(), 503u);
    EXPECT_EQ(refused.body, "database: no connection\n");
    state = 2;
    EXPECT_EQ(get(served.admin_address(), "/readyz").body, "database: broken\n");
    state = 0;
    EXPECT_EQ(get(served.admin_address(), "/readyz").status(), 200u);
    served.stop();
    EXPECT_EQ(get(served.admin_address(), "/readyz").body, "server: does not listen\n");
    EXPECT_EQ(get(served.admin_address(), "/healthz").body, "ok\n");
}

Task<> hold(Connection connection, std::promise<void>* held) {
    held->set_value();
    const auto slept = co_await sleep_for(1h);
    static_cast<void>(slept);  // it is cancelled
    connection.abort();
}

TEST(AdminPort, IsNotReadyWhileItDrainsButHealthyAndSeen) {
    ServerOptions options;
    options.host = "127.0.0.1";
    options.port = 0;
    options.reactors = 1;
    options.handle_signals = false;
    options.drain_timeout = 10min;
    Server server(options);
    std::promise<void> held;
    server.on_connection([&held](Connection connection) { return hold(std::move(connection), &held); });
    AdminPort admin(any_port());
    admin.watch(server);
    admin.start();
    std::promise<void> listening;
    server.on_listening([&listening] { listening.set_value(); });
    std::thread thread([&server] { server.run(); });
    listening.get_future().wait();
    const ClientSocket client = ClientSocket::connect(server.addresses().front());
    held.get_future().wait();
    server.stop();
    const Answer answer = get_until(admin.address(), "/readyz", [](const Answer& got) { return got.status() != 200; });
    EXPECT_EQ(answer.status(), 503u);
    EXPECT_THAT(answer.body, HasSubstr("reactor 0: drains\n"));
    EXPECT_EQ(get(admin.address(), "/healthz").status(), 200u);
    EXPECT_THAT(get(admin.address(), "/metrics").body, HasSubstr("ferrule_draining{reactor=\"0\"} 1\n"));
    server.stop();
    thread.join();
}

TEST(AdminPort, HasThePagesOfTheProgram) {
    Served served(2, [](AdminPort& admin) {
        admin.page("/version", "text/html", [](std::string_view query) { return "<p>" + std::string(query); });
        admin.page("/broken", "text/plain", [](std::string_view) -> std::string { throw std::runtime_error("oh"); });
        admin.reactor_page("/number", [](Reactor& reactor) { return std::to_string(reactor.id() * 10); });
        admin.reactor_page("/odd", [](Reactor& reactor) -> std::string {
            if (reactor.id() == 1) throw std::runtime_error("odd");
            return std::string((1u << 20) + 7, 'x');
        });
        EXPECT_THROW(admin.page("version", "text/plain", [](std::string_view) { return ""; }), std::invalid_argument);
        EXPECT_THROW(admin.page("/x", "a\r\nb", [](std::string_view) { return ""; }), std::invalid_argument);
        EXPECT_THROW(admin.page("/x", "text/plain", nullptr), std::invalid_argument);
        EXPECT_THROW(admin.reactor_page("/a b", [](Reactor&) { return ""; }), std::invalid_argument);
        EXPECT_THROW(admin.check("x", nullptr), std::invalid_argument);
    });
    const Answer version = get(served.admin_address(), "/version?a=b");
    EXPECT_EQ(version.body, "<p>a=b");
    EXPECT_THAT(version.head, HasSubstr("Content-Type: text/html\r\n"));
    EXPECT_EQ(get(served.admin_address(), "/broken").status(), 500u);
    EXPECT_EQ(get(served.admin_address(), "/number").body, "reactor 0:\n0\nreactor 1:\n10\n");
    const Answer odd = get(served.admin_address(), "/odd");
    EXPECT_THAT(odd.body, testing::EndsWith("(cut after 1 MiB)\nreactor 1: failed: odd\n"));
    EXPECT_EQ(odd.body.size(),
              (1u << 20) + std::string("reactor 0:\n\n(cut after 1 MiB)\nreactor 1: failed: odd\n").size());
    const Answer index = get(served.admin_address(), "/");
    EXPECT_EQ(index.body, "/\n/broken\n/healthz\n/metrics\n/metrics.json\n/number\n/odd\n/readyz\n/tasks\n/version\n");
    EXPECT_EQ(get(served.admin_address(), "/nothing").status(), 404u);
    EXPECT_EQ(get(served.admin_address(), "/metrics/").status(), 404u);
    EXPECT_THROW(served.admin().page("/late", "text/plain", [](std::string_view) { return ""; }), std::logic_error);
    EXPECT_THROW(served.admin().start(), std::logic_error);
}

TEST(AdminPort, ShowsTasksOfEveryReactor) {
    Served served;
    const Answer answer = get(served.admin_address(), "/tasks");
    EXPECT_EQ(answer.status(), 200u);
    EXPECT_THAT(answer.body, HasSubstr("reactor 0:\n"));
    EXPECT_THAT(answer.body, HasSubstr("reactor 1:\n"));
}

struct JobCounters {
    Counter done;
    static constexpr auto metrics() {
        return std::array{MetricOf<JobCounters>{&JobCounters::done, {"jobs_done_total", "Jobs that were done."}}};
    }
};

TEST(AdminPort, ShowsMetricsOfTheProgram) {
    JobCounters jobs;
    const auto registry = std::make_shared<MetricRegistry>(MetricLabels{{"queue", "mail"}});
    const MetricRegistration registered = registry->add(jobs);
    jobs.done.add(12);
    AdminPort admin(any_port());
    admin.watch(registry);
    admin.start();
    EXPECT_THAT(get(admin.address(), "/metrics").body, HasSubstr("\njobs_done_total{queue=\"mail\"} 12\n"));
    EXPECT_THROW(admin.watch(std::shared_ptr<MetricRegistry>()), std::invalid_argument);
}

// ---- the HTTP that it speaks ----

TEST(AdminPort, KeepsConnectionsAndAnswersInOrder) {
    AdminPort admin(any_port());
    admin.page("/a", "text/plain", [](std::string_view) { return "first"; });
    admin.page("/b", "text/plain", [](std::string_view) { return "second"; });
    admin.start();
    ClientSocket client = ClientSocket::connect(admin.address());
    client.send(request_for("/a") + request_for("/b"));
    EXPECT_EQ(receive_answer(client).body, "first");
    EXPECT_EQ(receive_answer(client).body, "second");
    client.send("HEAD /a HTTP/1.1\r\nHost: localhost\r\n\r\n");
    const Answer head = receive_answer(client, false);
    EXPECT_THAT(head.head, HasSubstr("Content-Length: 5\r\n"));
    EXPECT_THAT(head.head, HasSubstr("\r\nDate: "));
    EXPECT_THAT(head.head, HasSubstr("Cache-Control: no-store\r\n"));
    // In pieces of one byte.
    for (const char byte : request_for("/b")) client.send(std::string_view(&byte, 1));
    EXPECT_EQ(receive_answer(client).body, "second");
    client.send("GET /a HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
    const ClientSocket::Rest rest = client.receive_rest();
    EXPECT_EQ(rest.error, 0);
    EXPECT_THAT(rest.bytes, HasSubstr("Connection: close\r\n"));
    EXPECT_THAT(rest.bytes, testing::EndsWith("\r\n\r\nfirst"));
    EXPECT_THAT(refused(admin.address(), "GET /a HTTP/1.0\r\n\r\n").bytes, testing::EndsWith("\r\n\r\nfirst"));
}

TEST(AdminPort, RefusesWhatIsNoRequestInOrderAndGoesOn) {
    AdminPort admin(any_port());
    admin.start();
    const std::vector<std::pair<std::string, const char*>> cases{
        {"nonsense\r\n\r\n", "HTTP/1.1 400 "},
        {std::string("\x16\x03\x01\0\xa5\r\n\r\n", 9), "HTTP/1.1 400 "},
        {"POST / HTTP/1.1\r\nHost: localhost\r\n\r\n", "HTTP/1.1 405 "},
        {"GET / HTTP/3.0\r\nHost: localhost\r\n\r\n", "HTTP/1.1 505 "},
        {"GET / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 3\r\n\r\nabc", "HTTP/1.1 400 "},
        {"GET / HTTP/1.1\r\n\r\n", "HTTP/1.1 400 "},
        {"GET / HTTP/1.1\r\nHost: localhost\r\nX: " + std::string(8192, 'x') + "\r\n\r\n", "HTTP/1.1 431 "},
        {"GET /" + std::string(100'000, 'x'), "HTTP/1.1 431 "},
        {std::string(8193, '\0'), "HTTP/1.1 431 "},
    };
    for (const auto& [bytes, status] : cases) {
        const ClientSocket::Rest rest = refused(admin.address(), bytes);
        EXPECT_THAT(rest.bytes, StartsWith(status)) << bytes.substr(0, 100);
        EXPECT_EQ(rest.error, 0) << bytes.substr(0, 100);
        EXPECT_THAT(rest.bytes, HasSubstr("Connection: close\r\n"));
    }
    EXPECT_THAT(refused(admin.address(), "PUT / HTTP/1.1\r\nHost: localhost\r\n\r\n").bytes,
                HasSubstr("Allow: GET, HEAD\r\n"));
    // Peers that leave in the middle.
    for (int time = 0; time < 20; ++time) {
        ClientSocket client = ClientSocket::connect(admin.address());
        client.send("GET /metrics HTTP/1.1\r\nHost: local");
        if (time % 2 == 0) client.reset();
    }
    for (int time = 0; time < 20; ++time) {
        ClientSocket client = ClientSocket::connect(admin.address());
        client.send(request_for("/metrics"));
        client.reset();
    }
    EXPECT_EQ(get(admin.address(), "/healthz").status(), 200u);
}

TEST(AdminPort, AnswersWithoutTheRestOfTheLimit) {
    AdminOptions options = any_port();
    options.connection_limit = 2;
    AdminPort admin(options);
    admin.start();
    ClientSocket first = ClientSocket::connect(admin.address());
    ClientSocket second = ClientSocket::connect(admin.address());
    for (ClientSocket* client : {&first, &second}) {
        client->send(request_for("/healthz"));
        EXPECT_EQ(receive_answer(*client).status(), 200u);
    }
    ClientSocket third = ClientSocket::connect(admin.address());
    third.send(request_for("/healthz"));
    first.close();
    EXPECT_EQ(receive_answer(third).status(), 200u);
}

// Each with only its own timeout short: on a slow machine the others would end it first.
TEST(AdminPort, EndsRequestsThatDoNotEnd) {
    AdminOptions options = any_port();
    options.request_timeout = 100ms;
    AdminPort admin(options);
    admin.start();
    ClientSocket client = ClientSocket::connect(admin.address());
    client.send("GET /metrics HTTP/1.1\r\nHos");
    const ClientSocket::Rest rest = client.receive_rest();
    EXPECT_THAT(rest.bytes, StartsWith("HTTP/1.1 408 "));
    EXPECT_EQ(rest.error, 0);
}

TEST(AdminPort, EndsConnectionsOnWhichNothingIsAsked) {
    AdminOptions options = any_port();
    options.idle_timeout = 100ms;
    AdminPort admin(options);
    admin.start();
    EXPECT_EQ(ClientSocket::connect(admin.address()).receive_rest(), (ClientSocket::Rest{}));
}

TEST(AdminPort, ResetsWhoDoesNotTakeWhatItAskedFor) {
    AdminOptions options = any_port();
    options.answer_timeout = 100ms;
    AdminPort admin(options);
    admin.page("/large", "text/plain", [](std::string_view) { return std::string(32u << 20, 'x'); });
    admin.start();
    ClientSocket client = ClientSocket::connect(admin.address(), 4096);
    client.send(request_for("/large"));
    pollfd ends{.fd = client.number(), .events = 0, .revents = 0};
    int polled = 0;
    do {
        polled = ::poll(&ends, 1, ClientSocket::patience_seconds * 1000);
    } while (polled < 0 && errno == EINTR);
    EXPECT_EQ(polled, 1);
    EXPECT_NE(ends.revents & (POLLHUP | POLLERR), 0);
}

// ---- who may reach it ----

TEST(AdminPort, TakesOnlyLoopbackAddressesUnlessTold) {
    for (const char* host : {"", "*", "0.0.0.0", "::", "10.0.0.1", "::ffff:10.0.0.1", "fe80::1"}) {
        AdminOptions options;
        options.host = host;
        try {
            const AdminPort admin(options);
            ADD_FAILURE() << host;
        } catch (const ConfigurationError& error) {
            EXPECT_THAT(error.what(), HasSubstr("AdminOptions.host")) << host;
            EXPECT_THAT(error.what(), HasSubstr("allow_remote")) << host;
        }
        options.allow_remote = true;
        EXPECT_NO_THROW(AdminPort{options}) << host;
    }
    for (const char* host : {"127.0.0.1", "127.9.9.9", "::1", "::ffff:127.0.0.1", "localhost", "unix:@x"}) {
        AdminOptions options;
        options.host = host;
        EXPECT_NO_THROW(AdminPort{options}) << host;
    }
}

TEST(AdminPort, NamesTheOptionThatCannotBe) {
    const auto error_of = [](auto change) -> std::string {
        AdminOptions options;
        change(options);
        try {
            const AdminPort admin(options);
        } catch (const ConfigurationError& error) {
            return error.what();
        }
        return "none";
    };
    EXPECT_THAT(error_of([](AdminOptions& options) { options.host = "somewhere.example"; }),
                StartsWith("AdminOptions.host: \"somewhere.example\" is not an address"));
    EXPECT_EQ(error_of([](AdminOptions& options) { options.port = 70'000; }),
              "AdminOptions.port: 70000 is not in 0 to 65535");
    EXPECT_THAT(error_of([](AdminOptions& options) { options.connection_limit = 0; }), HasSubstr("connection_limit"));
    EXPECT_THAT(error_of([](AdminOptions& options) { options.unix_mode = 01000; }), HasSubstr("unix_mode"));
    EXPECT_THAT(error_of([](AdminOptions& options) { options.request_timeout = 0ms; }), HasSubstr("request_timeout"));
    EXPECT_THAT(error_of([](AdminOptions& options) { options.idle_timeout = -1ms; }), HasSubstr("idle_timeout"));
    EXPECT_THAT(error_of([](AdminOptions& options) { options.answer_timeout = 48h; }), HasSubstr("answer_timeout"));
    EXPECT_THAT(error_of([](AdminOptions& options) { options.patience = 0ms; }), HasSubstr("patience"));
}

// A web page of a stranger has a name of its own, wherever that leads to.
TEST(AdminPort, OnLoopbackAnswersForAddressesOnly) {
    const std::string by_name = "GET /healthz HTTP/1.1\r\nHost: evil.example:9464\r\nConnection: close\r\n\r\n";
    {
        AdminPort admin(any_port());
        admin.start();
        EXPECT_THAT(refused(admin.address(), by_name).bytes, StartsWith("HTTP/1.1 421 "));
    }
    AdminOptions options = any_port();
    options.host = "0.0.0.0";
    options.allow_remote = true;
    AdminPort admin(options);
    admin.start();
    EXPECT_THAT(refused(Address::loopback(admin.address().port()), by_name).bytes, StartsWith("HTTP/1.1 200 "));
}

TEST(AdminPort, ListensOnAUnixSocketOfItsOwnersOnly) {
    const ferrule_test::TemporaryFolder folder;
    const std::string path = folder / "admin.socket";
    AdminOptions options;
    options.host = "unix:" + path;
    {
        AdminPort admin(options);
        admin.start();
        struct stat status {};
        ASSERT_EQ(::stat(path.c_str(), &status), 0);
        EXPECT_EQ(status.st_mode & 0777, 0600u);
        EXPECT_EQ(get(admin.address(), "/healthz").status(), 200u);
    }
    struct stat status {};
    EXPECT_NE(::stat(path.c_str(), &status), 0);
}

// ---- beginning and ending ----

TEST(AdminPort, SaysWhyItCannotStart) {
    AdminPort first(any_port());
    first.start();
    AdminOptions options = any_port();
    options.port = first.address().port();
    AdminPort second(options);
    try {
        second.start();
        ADD_FAILURE() << "the port is taken";
    } catch (const StartError& error) {
        EXPECT_THAT(error.what(), HasSubstr("admin port: bind 127.0.0.1:" + std::to_string(options.port)));
    }
}

TEST(AdminPort, StartsOrSaysWhyNotAtEveryPointOfFailure) {
    for (const Call call : {Call::setup, Call::map, Call::register_, Call::socket, Call::bind, Call::listen,
                            Call::set_option, Call::socket_name, Call::event_descriptor, Call::block_signals,
                            Call::start_thread, Call::read_file, Call::random}) {
        for (std::uint64_t skipped = 0; skipped < 12; ++skipped) {
            ForwardingKernel kernel;
            kernel.fail(call, EPERM, 1, skipped);
            const std::uint64_t before = kernel.calls(call);
            AdminPort admin(any_port(), kernel);
            try {
                admin.start();
                EXPECT_EQ(get(admin.address(), "/healthz").status(), 200u);
                admin.stop();
            } catch (const StartError& error) {
                EXPECT_THAT(error.what(), StartsWith("admin port: "));
            }
            if (kernel.calls(call) - before <= skipped) break;  // it came to nothing
        }
    }
}

Task<> close_at_once(Connection connection) {
    connection.abort();
    co_return;
}

TEST(AdminPort, MayEndBeforeWhatItWatches) {
    ServerOptions options;
    options.host = "127.0.0.1";
    options.port = 0;
    options.reactors = 1;
    options.handle_signals = false;
    Server server(options);
    server.on_connection(close_at_once);
    {
        AdminPort admin(any_port());
        admin.watch(server);
        admin.start();
    }
    bool listened = false;
    server.on_listening([&] {
        listened = true;
        server.stop();
    });
    EXPECT_EQ(server.run(), 0);
    EXPECT_TRUE(listened);
}

TEST(AdminPort, IsReadWhileReactorsComeAndGo) {
    AdminPort admin(any_port());
    admin.start();
    std::atomic<bool> done = false;
    std::thread reader([&] {
        while (!done) {
            for (const char* path : {"/metrics", "/healthz", "/readyz", "/tasks"}) {
                const Answer answer = get(admin.address(), path);
                EXPECT_THAT(answer.head, MatchesRegex("HTTP/1.1 (200|503) (.|\r|\n)*"));
            }
        }
    });
    for (std::uint32_t turn = 0; turn < 20; ++turn) {
        std::vector<std::unique_ptr<Held>> held;
        for (std::uint32_t number = 0; number < 2; ++number) {
            held.push_back(std::make_unique<Held>(turn * 2 + number));
            admin.watch(held.back()->reactor());
        }
    }
    done = true;
    reader.join();
    EXPECT_EQ(get(admin.address(), "/healthz").body, "ok\n");
}

}  // namespace
