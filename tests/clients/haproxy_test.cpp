// Ferrule behind what speaks the PROXY protocol: haproxy, in both versions, and curl. What is not installed is skipped.
#include <ferrule/net/network.hpp>

#include "support/client_socket.hpp"
#include "support/network_engine.hpp"
#include "support/temporary_folder.hpp"

#include <gtest/gtest.h>

#include <signal.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cstdio>
#include <cstdlib>
#include <sstream>
#include <stdexcept>
#include <string>
#include <string_view>

namespace {

using ferrule::Address;
using ferrule::Connection;
using ferrule::ProxyProtocol;
using ferrule::Task;
using ferrule_test::ClientSocket;
using ferrule_test::Engine;
using ferrule_test::EngineOptions;

/// Where a program is; nothing when it is nowhere.
std::string find_program(const std::string& name) {
    const char* const path = std::getenv("PATH");
    std::istringstream folders{std::string(path != nullptr ? path : "") + ":/usr/sbin:/usr/bin"};
    for (std::string folder; std::getline(folders, folder, ':');) {
        const std::string found = folder + '/' + name;
        if (!folder.empty() && ::access(found.c_str(), X_OK) == 0) return found;
    }
    return {};
}

/// Answers a request with who the client is and what it has connected to.
Task<> say_who(Connection connection) {
    while (auto received = co_await connection.read()) {
        const std::string_view text = received.contiguous().text();
        const bool whole = text.ends_with("\r\n\r\n");
        received.consume(whole ? text.size() : 0);
        if (!whole) continue;
        const std::string body =
            connection.peer_address()->to_string() + " > " + connection.local_address()->to_string();
        connection.write("HTTP/1.1 200 OK\r\nContent-Length: " + std::to_string(body.size()) + "\r\n\r\n" + body);
        co_await connection.flush();
    }
}

EngineOptions behind_proxy() {
    EngineOptions options;
    options.socket.proxy.protocol = ProxyProtocol::required;
    options.socket.proxy.sources = {ferrule::AddressPrefix::parse("127.0.0.0/8").value()};
    return options;
}

/// haproxy in front of a server, with a listening socket of this process's: clients may connect before it has started.
class Haproxy {
public:
    Haproxy(const std::string& program, const Address& server, const std::string& how) {
        const Address any = Address::loopback(0);
        const int listener = ::socket(AF_INET, SOCK_STREAM, 0);
        if (::bind(listener, any.data(), any.size()) < 0 || ::listen(listener, 16) < 0)
            throw std::runtime_error("listen");
        address_ = ferrule::local_address(ferrule::linux_kernel(), listener).value();
        const std::string configuration =
            folder_.write("haproxy.cfg",
                          "defaults\n  mode tcp\n  timeout connect 60s\n  timeout client 60s\n  timeout server 60s\n"
                          "listen front\n  bind fd@" +
                              std::to_string(listener) + "\n  server back " + server.to_string() + ' ' + how + '\n');
        process_ = ::fork();
        if (process_ == 0) {
            ::execl(program.c_str(), program.c_str(), "-q", "-db", "-f", configuration.c_str(), nullptr);
            ::_exit(127);
        }
        ::close(listener);
    }
    Haproxy(const Haproxy&) = delete;
    Haproxy& operator=(const Haproxy&) = delete;
    ~Haproxy() {
        ::kill(process_, SIGKILL);
        ::waitpid(process_, nullptr, 0);
    }
    const Address& address() const noexcept { return address_; }

private:
    ferrule_test::TemporaryFolder folder_;
    Address address_;
    pid_t process_ = -1;
};

void expect_named(const std::string& how) {
    const std::string program = find_program("haproxy");
    if (program.empty()) GTEST_SKIP() << "haproxy is not installed";
    Engine engine{say_who, behind_proxy()};
    const Haproxy haproxy{program, engine.address(), how};
    for (unsigned number = 0; number < 3; ++number) {
        ClientSocket client = ClientSocket::connect(haproxy.address());
        const Address own = ferrule::local_address(ferrule::linux_kernel(), client.number()).value();
        const std::string body = own.to_string() + " > " + haproxy.address().to_string();
        client.send("GET / HTTP/1.1\r\n\r\n");
        const std::string expected =
            "HTTP/1.1 200 OK\r\nContent-Length: " + std::to_string(body.size()) + "\r\n\r\n" + body;
        EXPECT_EQ(client.receive(expected.size()), expected);
    }
    EXPECT_EQ(engine.counters().proxy_errors.value(), 0u);
}

TEST(Haproxy, names_the_client_in_version_1) {
    expect_named("send-proxy");
}

TEST(Haproxy, names_the_client_in_version_2) {
    expect_named("send-proxy-v2");
}

TEST(Haproxy, names_the_client_in_version_2_with_a_checksum) {
    expect_named("send-proxy-v2 proxy-v2-options crc32c");
}

TEST(Curl, says_who_it_is) {
    const std::string program = find_program("curl");
    if (program.empty()) GTEST_SKIP() << "curl is not installed";
    Engine engine{say_who, behind_proxy()};
    const std::string url = "http://" + engine.address().to_string() + "/";
    const std::string command = program + " --silent --noproxy '*' --max-time 60 --haproxy-protocol " + url;
    FILE* output = ::popen(command.c_str(), "r");
    ASSERT_NE(output, nullptr);
    std::array<char, 256> text{};
    const std::size_t size = std::fread(text.data(), 1, text.size() - 1, output);
    EXPECT_EQ(::pclose(output), 0);
    const std::string said(text.data(), size);
    EXPECT_TRUE(said.starts_with("127.0.0.1:")) << said;
    EXPECT_TRUE(said.ends_with(" > " + engine.address().to_string())) << said;
    EXPECT_EQ(engine.counters().proxied.value(), 1u);
}

}  // namespace
