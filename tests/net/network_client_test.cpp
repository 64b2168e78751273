// The engine names no client: this one is made from public headers, in under a hundred lines, and rides the reactor of
// those who use it.
#include <ferrule/net/network.hpp>
#include <ferrule/reactor/reactor.hpp>
#include <ferrule/ring/prepare.hpp>
#include <ferrule/task/task.hpp>

#include "support/network_engine.hpp"

#include <gtest/gtest.h>

#include <sys/socket.h>

#include <algorithm>
#include <cctype>
#include <expected>
#include <string>
#include <system_error>
#include <utility>

namespace {

using ferrule::Address;
using ferrule::Connection;
using ferrule::Network;
using ferrule::Reactor;
using ferrule::Task;
using ferrule_test::ClientSocket;
using ferrule_test::Engine;
using ferrule_test::Signal;

/// A client of a line protocol: one question, one answer.
class LineClient {
public:
    using Answer = std::expected<std::string, std::error_code>;

    explicit LineClient(Connection connection) : connection_(std::move(connection)) {}

    static Task<std::expected<Connection, std::error_code>> connect(Reactor* reactor, Address address) {
        const int descriptor = reactor->kernel().socket(address.data()->sa_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
        if (descriptor < 0) co_return std::unexpected(std::error_code(-descriptor, std::system_category()));
        auto connecting = reactor->submit("connect", [&](auto& entry) {
            ferrule::prepare::connect(entry, descriptor, address.data(), address.size());
        });
        const ferrule::OperationResult ended = co_await connecting;
        if (ended.result < 0) {
            reactor->kernel().close(descriptor);
            co_return std::unexpected(std::error_code(-ended.result, std::system_category()));
        }
        auto connection = Network::of(*reactor).open(descriptor);
        if (!connection) reactor->kernel().close(descriptor);
        co_return connection;
    }

    Task<Answer> ask(std::string question) {
        connection_.write(question + "\n");
        const auto flushed = co_await connection_.flush();
        if (!flushed) co_return std::unexpected(std::make_error_code(flushed.error()));
        while (auto received = co_await connection_.read()) {
            const std::string_view text = received.contiguous().text();
            const std::size_t end = text.find('\n');
            if (end != text.npos) {
                received.consume(end + 1);
                co_return std::string(text.substr(0, end));
            }
            received.consume(0);
        }
        co_return std::unexpected(std::make_error_code(std::errc::connection_aborted));
    }

private:
    Connection connection_;
};

/// Answers each line in capitals.
Task<> shout(Connection connection) {
    while (auto received = co_await connection.read()) {
        for (const auto slice : received) {
            std::string text(slice.text());
            std::transform(text.begin(), text.end(), text.begin(),
                           [](unsigned char letter) { return std::toupper(letter); });
            connection.write(text);
        }
        co_await connection.flush();
    }
}

/// Asks the backend with the client of this reactor.
Task<> ask_backend(Connection connection) {
    auto& client = connection.reactor().service<LineClient>();
    while (auto received = co_await connection.read()) {
        std::string question(received.contiguous().text());
        const LineClient::Answer answer = co_await client.ask(std::move(question));
        connection.write(answer ? *answer : answer.error().message());
        co_await connection.flush();
    }
}

Task<> open_client(Reactor* reactor, Address address, std::string* failure, Signal* opened) {
    auto connection = co_await LineClient::connect(reactor, address);
    if (connection) {
        reactor->add_service<LineClient>(std::move(*connection));
    } else {
        *failure = connection.error().message();
    }
    opened->raise();
}

TEST(NetworkClient, of_public_headers_rides_the_reactor_of_its_users) {
    Engine backend(shout);
    ferrule_test::EngineOptions options;
    options.check_remains = false;  // the client is the reactor's until its end
    Engine frontend(ask_backend, options);
    Signal opened;
    std::string failure;
    frontend.on_reactor(
        [&] { frontend.reactor().spawn(open_client(&frontend.reactor(), backend.address(), &failure, &opened)); });
    opened.wait();
    ASSERT_EQ(failure, "");
    ClientSocket user = frontend.connect();
    for (const std::string word : {"one", "two", "three"}) {
        user.send(word);
        std::string loud = word;
        std::transform(loud.begin(), loud.end(), loud.begin(),
                       [](unsigned char letter) { return std::toupper(letter); });
        EXPECT_EQ(user.receive(word.size()), loud);
    }
}

TEST(NetworkClient, that_is_refused_says_so) {
    Address nowhere = Address::loopback(0);
    {
        Engine gone(shout);
        nowhere = gone.address();
    }
    Engine frontend(ask_backend);
    Signal opened;
    std::string failure;
    frontend.on_reactor(
        [&] { frontend.reactor().spawn(open_client(&frontend.reactor(), nowhere, &failure, &opened)); });
    opened.wait();
    EXPECT_EQ(failure, "Connection refused");
}

}  // namespace
