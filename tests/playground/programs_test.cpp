// The playground's programs as their users meet them: started, talked to, and ended by a signal.
#include "support/datagram_peer.hpp"

#include <gtest/gtest.h>

#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <netinet/udp.h>
#include <signal.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <initializer_list>
#include <memory>
#include <string>
#include <string_view>
#include <system_error>
#include <thread>
#include <utility>
#include <vector>

namespace {

constexpr std::string_view answer = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";
constexpr int patience_s = 60;

std::string path_of(const std::string& program) {
    return std::string(PLAYGROUND_FOLDER) + "/" + program;
}

// A running program. Standard output and error come back in one stream.
class Program {
public:
    Program(const std::string& name, const std::vector<std::string>& arguments) {
        int ends[2];
        if (::pipe2(ends, O_CLOEXEC) != 0) throw std::system_error(errno, std::system_category(), "pipe");
        const std::string path = path_of(name);
        std::vector<char*> words{const_cast<char*>(path.c_str())};
        for (const std::string& argument : arguments) words.push_back(const_cast<char*>(argument.c_str()));
        words.push_back(nullptr);
        process_ = ::fork();
        if (process_ == 0) {
            ::dup2(ends[1], STDOUT_FILENO);
            ::dup2(ends[1], STDERR_FILENO);
            ::execv(path.c_str(), words.data());
            ::_exit(127);
        }
        ::close(ends[1]);
        output_ = ends[0];
    }
    Program(const Program&) = delete;
    Program& operator=(const Program&) = delete;
    ~Program() {
        if (process_ > 0) {
            ::kill(process_, SIGKILL);
            ::waitpid(process_, nullptr, 0);
        }
        ::close(output_);
    }

    // One line of its output, without the end; empty at the end of the output.
    std::string line() {
        std::string text;
        for (char byte; ::read(output_, &byte, 1) == 1 && byte != '\n';) text += byte;
        return text;
    }
    // The ports in the first line of its output, which says where it listens.
    std::vector<std::uint16_t> ports() {
        const std::string text = line();
        std::vector<std::uint16_t> found;
        constexpr std::string_view host = "127.0.0.1:";
        for (std::size_t at = text.find(host); at != text.npos; at = text.find(host, at + 1)) {
            found.push_back(static_cast<std::uint16_t>(std::stoi(text.substr(at + host.size()))));
        }
        EXPECT_FALSE(found.empty()) << text;
        return found;
    }
    void signal(int number) { ::kill(process_, number); }
    int exit_status() {
        int status = 0;
        ::waitpid(std::exchange(process_, -1), &status, 0);
        return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
    }
    std::string rest() {
        std::string text;
        std::array<char, 4096> bytes;
        for (ssize_t size; (size = ::read(output_, bytes.data(), bytes.size())) > 0;)
            text.append(bytes.data(), static_cast<std::size_t>(size));
        return text;
    }

private:
    pid_t process_ = -1;
    int output_ = -1;
};

class Client {
public:
    // `receive_bytes`: how much the kernel keeps for one who does not read; 0: as much as it likes.
    explicit Client(std::uint16_t port, int receive_bytes = 0) : fd_(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0)) {
        sockaddr_in address{};
        address.sin_family = AF_INET;
        address.sin_port = htons(port);
        address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
        const timeval limit{patience_s, 0};
        ::setsockopt(fd_, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit);
        if (receive_bytes != 0) ::setsockopt(fd_, SOL_SOCKET, SO_RCVBUF, &receive_bytes, sizeof receive_bytes);
        const int no_delay = 1;
        ::setsockopt(fd_, IPPROTO_TCP, TCP_NODELAY, &no_delay, sizeof no_delay);
        EXPECT_EQ(::connect(fd_, reinterpret_cast<const sockaddr*>(&address), sizeof address), 0);
    }
    // What a listener has accepted.
    static Client of(int fd) { return Client{Accepted{fd}}; }
    Client(const Client&) = delete;
    Client& operator=(const Client&) = delete;
    ~Client() { ::close(fd_); }

    void send(std::string_view text) {
        while (!text.empty()) {
            const ssize_t sent = ::send(fd_, text.data(), text.size(), MSG_NOSIGNAL);
            ASSERT_GT(sent, 0);
            text.remove_prefix(static_cast<std::size_t>(sent));
        }
    }
    void end() { ::shutdown(fd_, SHUT_WR); }
    void reset() {
        const linger now{.l_onoff = 1, .l_linger = 0};
        ::setsockopt(fd_, SOL_SOCKET, SO_LINGER, &now, sizeof now);
        ::close(std::exchange(fd_, -1));
    }
    std::string receive(std::size_t bytes) {
        std::string text(bytes, '\0');
        const ssize_t received = ::recv(fd_, text.data(), bytes, MSG_WAITALL);
        text.resize(received > 0 ? static_cast<std::size_t>(received) : 0);
        return text;
    }
    // Everything until the peer ends in order; what it sent is lost when it does not.
    std::string receive_all() {
        std::string text;
        std::array<char, 16384> bytes;
        for (;;) {
            const ssize_t received = ::recv(fd_, bytes.data(), bytes.size(), 0);
            if (received == 0) return text;
            if (received < 0) return "ended by " + std::string(std::strerror(errno));
            text.append(bytes.data(), static_cast<std::size_t>(received));
        }
    }

private:
    struct Accepted {
        int fd;
    };
    explicit Client(Accepted accepted) : fd_(accepted.fd) {
        const timeval limit{patience_s, 0};
        ::setsockopt(fd_, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit);
    }

    int fd_;
};

// A service of the test's own.
class Listener {
public:
    Listener() : fd_(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0)) {
        sockaddr_in address{};
        address.sin_family = AF_INET;
        address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
        socklen_t size = sizeof address;
        EXPECT_EQ(::bind(fd_, reinterpret_cast<const sockaddr*>(&address), size), 0);
        EXPECT_EQ(::getsockname(fd_, reinterpret_cast<sockaddr*>(&address), &size), 0);
        address_ = "127.0.0.1:" + std::to_string(ntohs(address.sin_port));
    }
    Listener(const Listener&) = delete;
    Listener& operator=(const Listener&) = delete;
    ~Listener() { ::close(fd_); }

    void listen() { EXPECT_EQ(::listen(fd_, 16), 0); }
    Client accept() { return Client::of(::accept4(fd_, nullptr, nullptr, SOCK_CLOEXEC)); }
    const std::string& address() const { return address_; }

private:
    int fd_;
    std::string address_;
};

std::string repeated(std::string_view text, std::size_t times) {
    std::string all;
    for (std::size_t index = 0; index < times; ++index) all += text;
    return all;
}

class Programs : public testing::TestWithParam<const char*> {};

class Playground : public testing::Test {
protected:
    void SetUp() override {
        if (::access(path_of("plaintext").c_str(), X_OK) != 0)
            GTEST_SKIP() << "the playground's programs are not on this machine";
    }
};

const std::vector<std::string> somewhere = {"--host", "127.0.0.1", "--port=0", "--reactors", "2"};

std::vector<std::string> somewhere_and(std::initializer_list<std::string> more) {
    std::vector<std::string> arguments = somewhere;
    arguments.insert(arguments.end(), more);
    return arguments;
}

TEST_P(Programs, HelpNamesTheOptions) {
    if (::access(path_of(GetParam()).c_str(), X_OK) != 0)
        GTEST_SKIP() << "the playground's programs are not on this machine";
    Program program(GetParam(), {"--help"});
    const std::string help = program.rest();
    for (const char* option : {"usage: ", GetParam(), "--host", "--port", "--reactors", "--help"}) {
        EXPECT_NE(help.find(option), help.npos) << option << " is missing in: " << help;
    }
    EXPECT_EQ(program.exit_status(), 0);
}

TEST_P(Programs, WhatIsNotUnderstoodIsRefused) {
    if (::access(path_of(GetParam()).c_str(), X_OK) != 0)
        GTEST_SKIP() << "the playground's programs are not on this machine";
    const std::vector<std::vector<std::string>> wrong = {
        {"--prot", "80"},     {"--port"}, {"--port", "eighty"}, {"--port", "80x"}, {"--port="},
        {"--reactors", "-1"}, {"80"}};
    for (const auto& arguments : wrong) {
        Program program(GetParam(), arguments);
        const std::string said = program.rest();
        EXPECT_TRUE(said.starts_with(std::string(GetParam()) + ": " + arguments[0].substr(0, 6))) << said;
        EXPECT_EQ(program.exit_status(), 2);
    }
}

TEST_P(Programs, WhatCannotStartSaysWhy) {
    if (::access(path_of(GetParam()).c_str(), X_OK) != 0)
        GTEST_SKIP() << "the playground's programs are not on this machine";
    // TEST-NET-1 of RFC 5737: nobody's.
    Program program(GetParam(), {"--host", "192.0.2.1", "--port", "8080"});
    EXPECT_EQ(program.rest(), std::string(GetParam()) + ": bind 192.0.2.1:8080: Cannot assign requested address\n");
    EXPECT_EQ(program.exit_status(), 1);
}

TEST_P(Programs, SaysWhatToTypeAndEndsWithZeroOnASignal) {
    if (::access(path_of(GetParam()).c_str(), X_OK) != 0)
        GTEST_SKIP() << "the playground's programs are not on this machine";
    for (const int signal : {SIGTERM, SIGINT}) {
        auto arguments = somewhere;
        if (std::string_view(GetParam()) == "multiport") arguments.push_back("--echo-port=0");
        Program program(GetParam(), arguments);
        const auto ports = program.ports();
        const std::string hint = program.line();
        EXPECT_TRUE(hint.starts_with("try: ")) << hint;
        EXPECT_NE(hint.find(std::to_string(ports.at(0))), hint.npos) << hint;
        program.signal(signal);
        EXPECT_EQ(program.exit_status(), 0);
        EXPECT_EQ(program.rest(), "");
    }
}

INSTANTIATE_TEST_SUITE_P(All, Programs,
                         testing::Values("plaintext", "echo", "raw", "hop", "multiport", "pipe", "stream", "big",
                                         "proxy-tcp", "udp-echo", "timer", "chat", "admin"),
                         [](const auto& each) {
                             std::string name = each.param;
                             std::replace(name.begin(), name.end(), '-', '_');
                             return name;
                         });

TEST_F(Playground, PlaintextAnswersEachRequestWithExactlyTheseBytes) {
    Program program("plaintext", somewhere);
    Client client(program.ports().at(0));
    for (int request = 0; request < 3; ++request) {
        client.send("GET / HTTP/1.1\r\nHost: here\r\n\r\n");
        EXPECT_EQ(client.receive(answer.size()), answer);
    }
    client.end();
    EXPECT_EQ(client.receive_all(), "");
}

TEST_F(Playground, PlaintextAnswersPipelinedRequests) {
    Program program("plaintext", somewhere_and({"--spin", "50"}));
    Client client(program.ports().at(0));
    client.send(repeated("GET / HTTP/1.1\r\nHost: here\r\n\r\n", 1000));
    client.end();
    EXPECT_EQ(client.receive_all(), repeated(answer, 1000));
}

TEST_F(Playground, PlaintextClosesWhenAskedAndAnswersWhatCameBefore) {
    Program program("plaintext", somewhere_and({"--defer-accept"}));
    Client client(program.ports().at(0));
    client.send("GET / HTTP/1.1\r\n\r\nGET / HTTP/1.1\r\nConnection: close\r\n\r\nGET / HTTP/1.1\r\n\r\n");
    EXPECT_EQ(client.receive_all(), repeated(answer, 2));
}

TEST_F(Playground, A1PlaintextAnswersARequestThatEndsWithFin) {
    Program program("plaintext", somewhere);
    Client client(program.ports().at(0));
    client.send("GET / HTTP/1.1\r\n\r\n");
    client.end();
    EXPECT_EQ(client.receive_all(), answer);
}

TEST_F(Playground, E5EchoSendsBackWhatItReceives) {
    Program program("echo", somewhere);
    Client client(program.ports().at(0));
    std::string message;
    for (int number = 0; message.size() < 64 * 1024; ++number) message += std::to_string(number) + ' ';
    client.send(message);
    client.end();
    EXPECT_EQ(client.receive_all(), message);
}

TEST_F(Playground, E4RawCountsTheRequestsOfEachReactor) {
    Program program("raw", {"--host", "127.0.0.1", "--port", "0", "--reactors", "1"});
    const auto port = program.ports().at(0);
    Client first(port);
    first.send("GET / HTTP/1.1\r\n\r\nGET / HTTP/1.1\r\n");
    const std::string one = "HTTP/1.1 200 OK\r\nContent-Length: 23\r\n\r\nrequest 1 of reactor 0\n";
    EXPECT_EQ(first.receive(one.size()), one);
    Client second(port);
    second.send("GET / HTTP/1.1\r\n\r\n");
    const std::string two = "HTTP/1.1 200 OK\r\nContent-Length: 23\r\n\r\nrequest 2 of reactor 0\n";
    EXPECT_EQ(second.receive(two.size()), two);
    first.send("\r\n");
    first.end();
    EXPECT_EQ(first.receive_all(), "HTTP/1.1 200 OK\r\nContent-Length: 23\r\n\r\nrequest 3 of reactor 0\n");
}

TEST_F(Playground, HopVisitsTheOtherReactorAndComesBack) {
    Program program("hop", somewhere);
    Client client(program.ports().at(0));
    client.send(repeated("GET / HTTP/1.1\r\n\r\n", 3));
    client.end();
    const std::string answers = client.receive_all();
    const bool from_0 = answers.find("reactor 0 to reactor 1 and back: ") != answers.npos;
    const bool from_1 = answers.find("reactor 1 to reactor 0 and back: ") != answers.npos;
    EXPECT_NE(from_0, from_1) << answers;
    std::size_t count = 0;
    for (std::size_t at = answers.find("HTTP/1.1 200 OK"); at != answers.npos;
         at = answers.find("HTTP/1.1 200 OK", at + 1))
        ++count;
    EXPECT_EQ(count, 3u);
}

TEST_F(Playground, MultiportGreetsOnOnePortAndEchoesOnTheOther) {
    Program program("multiport", somewhere_and({"--echo-port", "0"}));
    const auto ports = program.ports();
    ASSERT_EQ(ports.size(), 2u);
    const std::string greeting = "HTTP/1.1 200 OK\r\nContent-Length: 13\r\n\r\nHello, World!";
    Client greeted(ports[0]);
    greeted.send("GET / HTTP/1.1\r\n\r\nGET /cut HT");
    EXPECT_EQ(greeted.receive(greeting.size()), greeting);
    greeted.send("TP/1.1\r\n\r\n");
    EXPECT_EQ(greeted.receive(greeting.size()), greeting);
    Client echoed(ports[1]);
    echoed.send("hello");
    EXPECT_EQ(echoed.receive(5), "hello");
}

TEST_F(Playground, P6PipeAnswersHeadsHoweverTheyCome) {
    Program program("pipe", somewhere);
    const auto port = program.ports().at(0);
    const std::string head = "GET /one HTTP/1.1\r\nHost: here\r\n\r\n";
    const std::string long_head = "GET /two HTTP/1.1\r\nCookie: " + repeated("long ", 2'000) + "\r\n\r\n";
    const auto answer_to = [](const std::string& request) {
        return "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: " + std::to_string(request.size()) +
               "\r\n\r\n" + request;
    };
    // Byte by byte, and with the beginning of another one behind it.
    Client slow(port, 4096);
    for (const char byte : head) slow.send({&byte, 1});
    EXPECT_EQ(slow.receive(answer_to(head).size()), answer_to(head));
    slow.send(head + long_head + head.substr(0, 10));
    EXPECT_EQ(slow.receive(answer_to(head).size()), answer_to(head));
    EXPECT_EQ(slow.receive(answer_to(long_head).size()), answer_to(long_head));
    slow.send(head.substr(10));
    slow.end();
    EXPECT_EQ(slow.receive_all(), answer_to(head));
    // Many at once.
    Client many(port);
    many.send(repeated(head, 1'000));
    many.end();
    EXPECT_EQ(many.receive_all(), repeated(answer_to(head), 1'000));
    // One that never ends.
    Client endless(port);
    endless.send("GET / HTTP/1.1\r\nCookie: " + repeated("endless ", 5'000));
    EXPECT_TRUE(endless.receive_all().starts_with("HTTP/1.1 431 "));
}

TEST_F(Playground, S1StreamSendsBodiesBack) {
    Program program("stream", somewhere);
    Client client(program.ports().at(0));
    for (const std::size_t size : {0, 1, 16'383, 16'384, 16'385, 1'000'000}) {
        std::string body;
        for (unsigned number = 0; body.size() < size; ++number) body += std::to_string(number) + ',';
        body.resize(size);
        const std::string length = std::to_string(size);
        const std::string expected = "HTTP/1.1 200 OK\r\nContent-Length: " + length + "\r\n\r\n" + body;
        client.send("POST / HTTP/1.1\r\ncontent-length:  " + length + "\r\n\r\n");
        // At once: what comes back has to be read for the rest to be taken.
        std::thread sender([&] { client.send(body); });
        EXPECT_EQ(client.receive(expected.size()), expected);
        sender.join();
    }
    client.send("GET / HTTP/1.1\r\n\r\n");
    client.end();
    EXPECT_EQ(client.receive_all(), "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n");
}

// FNV-1a, as the program computes it.
std::string checksum_of(std::string_view bytes) {
    std::uint64_t hash = 0xcbf2'9ce4'8422'2325;
    for (const char byte : bytes) hash = (hash ^ static_cast<unsigned char>(byte)) * 0x100'0000'01b3;
    std::array<char, 17> text;
    std::snprintf(text.data(), text.size(), "%016llx", static_cast<unsigned long long>(hash));
    return text.data();
}

TEST_F(Playground, BigAnswersWithTheSameBytesUnderEachPolicy) {
    const std::string head =
        "HTTP/1.1 200 OK\r\nContent-Type: application/octet-stream\r\nContent-Length: 100000\r\n"
        "ETag: \"1ea0f65462ce9bf3\"\r\n\r\n";
    for (const char* policy : {"grow", "segmented", "back-pressure"}) {
        Program program("big", somewhere_and({"--overflow", policy}));
        Client client(program.ports().at(0));
        // One after the other, and several at once.
        for (const int requests : {1, 1, 5}) {
            client.send(repeated("GET / HTTP/1.1\r\n\r\n", static_cast<std::size_t>(requests)));
            client.send(repeated("GET /shared HTTP/1.1\r\n\r\n", static_cast<std::size_t>(requests)));
            for (int request = 0; request < 2 * requests; ++request) {
                const std::string answered = client.receive(head.size());
                const std::string body = client.receive(100'000);
                EXPECT_EQ(checksum_of(body), "1ea0f65462ce9bf3") << policy;
                EXPECT_EQ(answered, head) << policy;
            }
        }
        client.end();
        EXPECT_EQ(client.receive_all(), "");
    }
    Program wrong("big", somewhere_and({"--overflow", "spill"}));
    EXPECT_EQ(wrong.rest(), "big: --overflow spill: it is grow, segmented, or back-pressure\n");
    EXPECT_EQ(wrong.exit_status(), 1);
}

TEST_F(Playground, UdpEchoSendsDatagramsBack) {
    Program program("udp-echo", somewhere);
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_port = htons(program.ports().at(0));
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    for (int number = 0; number < 8; ++number) {
        // Of several clients, which the system spreads over the sockets.
        const int client = ::socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
        const timeval limit{patience_s, 0};
        ::setsockopt(client, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit);
        ASSERT_EQ(::connect(client, reinterpret_cast<const sockaddr*>(&address), sizeof address), 0);
        for (const std::size_t size : {0, 1, 1'400, 65'507}) {
            const std::string sent(size, static_cast<char>('a' + number));
            ASSERT_EQ(::send(client, sent.data(), sent.size(), 0), static_cast<ssize_t>(size));
            std::string received(65'536, '\0');
            const ssize_t got = ::recv(client, received.data(), received.size(), 0);
            ASSERT_GE(got, 0) << std::strerror(errno);
            received.resize(static_cast<std::size_t>(got));
            EXPECT_EQ(received, sent);
        }
        ::close(client);
    }
}

TEST_F(Playground, UdpEchoSendsCongestionBitsBack) {
    Program program("udp-echo", somewhere);
    const ferrule::Address there = ferrule::Address::loopback(program.ports().at(0));
    ferrule_test::DatagramPeer peer;
    for (const int bits : {0, 1, 2, 3}) {
        peer.send_marked(there, "marked", bits);
        const auto answer_of_it = peer.receive();
        EXPECT_EQ(answer_of_it.bytes, "marked");
        EXPECT_EQ(answer_of_it.traffic_class, bits);
    }
}

TEST_F(Playground, UdpEchoAnswersFromTheAddressThatWasAsked) {
    Program program("udp-echo", {"--host=0.0.0.0", "--port=0", "--reactors=1", "--buffers=4"});
    const std::string text = program.line();
    const auto port = static_cast<std::uint16_t>(std::stoi(text.substr(text.rfind(':') + 1)));
    // All of 127.0.0.0/8 is this machine.
    const ferrule::Address second = *ferrule::Address::parse("127.0.0.2", port);
    ferrule_test::DatagramPeer peer;
    peer.set(SOL_UDP, UDP_SEGMENT, 100);
    for (int turn = 0; turn < 3; ++turn) {
        peer.send_to(second, std::string(250, 'x'));
        for (const std::size_t length : {100, 100, 50}) {
            const auto received = peer.receive();
            EXPECT_EQ(received.bytes, std::string(length, 'x')) << "a train goes back as a train";
            EXPECT_EQ(received.sender, second);
        }
    }
}

TEST_F(Playground, ProxyTcpPassesBytesAndEndsBothWays) {
    Listener listener;
    listener.listen();
    // A name, all of whose kind are this machine (RFC 6761).
    const std::string to = "service.localhost" + listener.address().substr(listener.address().find(':'));
    Program program("proxy-tcp", somewhere_and({"--to", to}));
    const auto port = program.ports().at(0);
    program.line();
    Client client(port);
    Client service = listener.accept();
    const std::string message = repeated("a message that is not short; ", 10'000);
    // The client's end is passed on, and the answer still comes back.
    client.send(message);
    client.end();
    EXPECT_EQ(service.receive_all(), message);
    service.send(message);
    service.end();
    EXPECT_EQ(client.receive_all(), message);
    // The service may end first, too.
    Client second(port);
    Client again = listener.accept();
    again.send("welcome");
    again.end();
    EXPECT_EQ(second.receive_all(), "welcome");
    second.send(message);
    second.end();
    EXPECT_EQ(again.receive_all(), message);
    program.signal(SIGTERM);
    EXPECT_EQ(program.rest(), "");
}

TEST_F(Playground, ProxyTcpSaysWhichSideHasFailedAndLetsTheOtherKnow) {
    Listener listener;
    Program program("proxy-tcp", somewhere_and({"--to", listener.address()}));
    const auto port = program.ports().at(0);
    program.line();
    // Bound, and nobody listens.
    Client refused(port);
    EXPECT_EQ(refused.receive_all(), "ended by Connection reset by peer");
    std::string said = program.line();
    EXPECT_TRUE(said.starts_with("proxy-tcp: client 127.0.0.1:")) << said;
    EXPECT_TRUE(said.ends_with(": connect to " + listener.address() + ": Connection refused")) << said;

    listener.listen();
    Client client(port);
    Client service = listener.accept();
    // What has passed the proxy shows that it is connected on both sides.
    service.send("x");
    EXPECT_EQ(client.receive(1), "x");
    client.reset();
    EXPECT_EQ(service.receive_all(), "ended by Connection reset by peer");
    said = program.line();
    EXPECT_TRUE(said.ends_with(": client: Connection reset by peer")) << said;

    Client second(port);
    Client again = listener.accept();
    again.send("x");
    EXPECT_EQ(second.receive(1), "x");
    again.reset();
    EXPECT_EQ(second.receive_all(), "ended by Connection reset by peer");
    said = program.line();
    EXPECT_TRUE(said.ends_with(": service: Connection reset by peer")) << said;
}

TEST_F(Playground, ProxyTcpRefusesWhereItCannotLead) {
    for (const char* to : {"127.0.0.1", "127.0.0.1:", "127.0.0.1:x", ":80x", "unix:", "127.0.0.1:99999"}) {
        Program program("proxy-tcp", somewhere_and({"--to", to}));
        const std::string said = program.rest();
        EXPECT_TRUE(said.starts_with("proxy-tcp: --to " + std::string(to) + ": ")) << said;
        EXPECT_EQ(program.exit_status(), 1);
    }
}

TEST_F(Playground, AdminShowsWhatTheServerCounts) {
    auto arguments = somewhere;
    arguments.push_back("--reactors=1");
    Program program("admin", arguments);
    const auto ports = program.ports();
    ASSERT_EQ(ports.size(), 2u);
    Client talker(ports[0]);
    // When the second is back, the first has been counted.
    for (const char* text : {"hello", "again"}) {
        talker.send(text);
        EXPECT_EQ(talker.receive(5), text);
    }
    Client watcher(ports[1]);
    watcher.send("GET /metrics HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
    const std::string shown = watcher.receive_all();
    EXPECT_TRUE(shown.starts_with("HTTP/1.1 200 OK\r\n")) << shown.substr(0, 500);
    EXPECT_EQ(shown.find("\necho_echoes_total{reactor=\"0\"} 0\n"), shown.npos);
    for (const char* row :
         {"\necho_echoes_total{reactor=\"0\"} ", "\necho_conversations{reactor=\"0\"} 1\n",
          "\necho_duration_seconds_count{reactor=\"0\"} ", "\nferrule_connections_accepted_total{reactor=\"0\"} 1\n"}) {
        EXPECT_NE(shown.find(row), shown.npos) << row;
    }
    talker.end();
    program.signal(SIGTERM);
    EXPECT_EQ(program.exit_status(), 0);
}

TEST_F(Playground, APortThatIsTakenIsReported) {
    Program first("plaintext", somewhere);
    const std::string port = std::to_string(first.ports().at(0));
    for (const char* name : {"plaintext", "raw"}) {
        Program second(name, {"--host", "127.0.0.1", "--port", port});
        EXPECT_EQ(second.rest(), std::string(name) + ": bind 127.0.0.1:" + port + ": Address already in use\n");
        EXPECT_EQ(second.exit_status(), 1);
    }
}

// The status line and the body of the next answer.
std::string timer_answer(Client& client) {
    std::string head;
    while (!head.ends_with("\r\n\r\n")) {
        const std::string byte = client.receive(1);
        if (byte.empty()) return "ended after " + head;
        head += byte;
    }
    constexpr std::string_view length = "Content-Length: ";
    const std::size_t at = head.find(length);
    if (at == head.npos) return "no length in " + head;
    const std::string body = client.receive(std::stoul(head.substr(at + length.size())));
    return head.substr(0, head.find("\r\n")) + " | " + body.substr(0, body.find('\n'));
}

TEST_F(Playground, TimerAnswersAfterTheTimeThatWasAskedFor) {
    Program program("timer", somewhere);
    Client client(program.ports().at(0));
    client.send("GET /0 HTTP/1.1\r\n\r\nGET /20 HTTP/1.1\r\nHost: here\r\n\r\nGET /1 HT");
    EXPECT_EQ(timer_answer(client), "HTTP/1.1 200 OK | after 0 ms");
    EXPECT_EQ(timer_answer(client), "HTTP/1.1 200 OK | after 20 ms");
    client.send("TP/1.1\r\nConnection: Close\r\n\r\n");
    EXPECT_EQ(timer_answer(client), "HTTP/1.1 200 OK | after 1 ms");
    EXPECT_EQ(client.receive_all(), "");
}

TEST_F(Playground, TimerSaysWhatItDoesNotTake) {
    Program program("timer", somewhere_and({"--max", "1000"}));
    const auto port = program.ports().at(0);
    const std::string hint = " | GET /<milliseconds>, at most 1000";
    Client client(port);
    client.send("GET /1001 HTTP/1.1\r\n\r\n");
    EXPECT_EQ(timer_answer(client), "HTTP/1.1 400 Bad Request" + hint);
    client.send("GET /99999999999999999999 HTTP/1.1\r\n\r\n");
    EXPECT_EQ(timer_answer(client), "HTTP/1.1 400 Bad Request" + hint);
    for (const char* target : {"/", "/soon", "/-1", "/1x", "/1?x"}) {
        client.send("GET " + std::string(target) + " HTTP/1.1\r\n\r\n");
        EXPECT_EQ(timer_answer(client), "HTTP/1.1 404 Not Found" + hint) << target;
    }
    const std::vector<std::pair<std::string, std::string>> last_words = {
        {"POST /1 HTTP/1.1\r\nContent-Length: 3\r\n\r\nabc", "HTTP/1.1 405 Method Not Allowed" + hint},
        {"GET /1 HTTP/1.1\r\nContent-Length: 3\r\n\r\nabc", "HTTP/1.1 200 OK | after 1 ms"},
        {"GET /1 HTTP/1.0\r\n\r\n", "HTTP/1.1 200 OK | after 1 ms"},
        {"GET /1 HTTP/2.0\r\n\r\n", "HTTP/1.1 505 HTTP Version Not Supported" + hint},
        {"GET 1 HTTP/1.1\r\n\r\n", "HTTP/1.1 400 Bad Request" + hint},
        {"GET\r\n\r\n", "HTTP/1.1 400 Bad Request" + hint},
        {"\r\n\r\n", "HTTP/1.1 400 Bad Request" + hint},
        {"GET /1 HTTP/1.1\r\nX: " + std::string(5000, 'x'), "HTTP/1.1 431 Request Header Fields Too Large" + hint},
    };
    for (const auto& [request, expected] : last_words) {
        Client other(port);
        other.send(request);
        EXPECT_EQ(timer_answer(other), expected) << request.substr(0, 40);
        EXPECT_EQ(other.receive_all(), "") << request.substr(0, 40);
    }
}

TEST_F(Playground, TimerEndsWhileRequestsWait) {
    Program program("timer", somewhere);
    Client client(program.ports().at(0));
    client.send("GET /0 HTTP/1.1\r\n\r\nGET /60000 HTTP/1.1\r\n\r\n");
    EXPECT_EQ(timer_answer(client), "HTTP/1.1 200 OK | after 0 ms");
    program.signal(SIGTERM);
    program.signal(SIGTERM);
    program.signal(SIGINT);
    EXPECT_EQ(client.receive_all().find("200 OK"), std::string::npos);
    EXPECT_EQ(program.exit_status(), 0);
}

// The next line of the room, without its end.
std::string room_line(Client& client) {
    std::string line;
    for (std::string byte = client.receive(1); !byte.empty() && byte != "\n"; byte = client.receive(1)) line += byte;
    return line;
}

void enter_room(Client& client, const std::string& name) {
    client.send(name + "\n");
    constexpr std::string_view question = "your name? ";
    EXPECT_EQ(client.receive(question.size()), question);
    EXPECT_EQ(room_line(client), "* " + name + " has joined");
}

TEST_F(Playground, ChatLinesGoToAllWhereverTheyAre) {
    Program program("chat", somewhere);
    const auto port = program.ports().at(0);
    // Of eight, some are on either reactor, or the lines go the short way.
    std::vector<std::unique_ptr<Client>> clients;
    for (int number = 0; number < 8; ++number) {
        clients.push_back(std::make_unique<Client>(port));
        const std::string name = "member-" + std::to_string(number);
        enter_room(*clients.back(), name);
        for (int other = 0; other < number; ++other)
            EXPECT_EQ(room_line(*clients[static_cast<std::size_t>(other)]), "* " + name + " has joined");
    }
    for (int number = 0; number < 8; ++number) {
        for (int line = 0; line < 10; ++line)
            clients[static_cast<std::size_t>(number)]->send("line " + std::to_string(line) + "\r\n");
        for (const auto& client : clients) {
            for (int line = 0; line < 10; ++line) {
                ASSERT_EQ(room_line(*client), "member-" + std::to_string(number) + ": line " + std::to_string(line));
            }
        }
    }
    clients[0]->send("/who\n");
    const std::string who = room_line(*clients[0]);
    EXPECT_TRUE(who.starts_with("* here are ")) << who;
    for (int number = 0; number < 8; ++number) EXPECT_NE(who.find(" member-" + std::to_string(number)), who.npos);
    clients[7]->send("/quit\n");
    EXPECT_EQ(room_line(*clients[0]), "* member-7 leaves: has left");
    EXPECT_EQ(clients[7]->receive_all(), "* you leave: has left\n");
    clients[6]->end();
    EXPECT_EQ(room_line(*clients[0]), "* member-6 leaves: has gone");
    clients[5]->reset();
    EXPECT_EQ(room_line(*clients[0]), "* member-5 leaves: connection lost");
    program.signal(SIGTERM);
    EXPECT_EQ(program.exit_status(), 0);
}

TEST_F(Playground, ChatNamesAreOneMembersEach) {
    Program program("chat", somewhere);
    const auto port = program.ports().at(0);
    Client first(port);
    enter_room(first, "alice");
    Client second(port);
    second.send("alice\n not a name\n\n" + std::string(25, 'x') + "\n");
    EXPECT_EQ(room_line(second), "your name? somebody has this name");
    for (int refused = 0; refused < 3; ++refused)
        EXPECT_EQ(room_line(second), "your name? a name has 1 to 24 letters, digits, - and _");
    enter_room(second, "bob");
    EXPECT_EQ(room_line(first), "* bob has joined");
    first.send("/quit\n");
    EXPECT_EQ(room_line(second), "* alice leaves: has left");
    EXPECT_EQ(first.receive_all(), "* you leave: has left\n");
    // The name is free when the connection has ended.
    Client third(port);
    enter_room(third, "alice");
    EXPECT_EQ(room_line(second), "* alice has joined");
}

TEST_F(Playground, ChatTakesNoHostileLines) {
    Program program("chat", somewhere);
    const auto port = program.ports().at(0);
    Client watcher(port);
    enter_room(watcher, "watcher");
    Client hostile(port);
    enter_room(hostile, "hostile");
    EXPECT_EQ(room_line(watcher), "* hostile has joined");
    hostile.send(std::string("\x1b[2J\x00!\n", 7));
    EXPECT_EQ(room_line(watcher), "hostile: ?[2J?!");
    hostile.send(std::string(2000, 'x'));
    EXPECT_EQ(room_line(watcher), "* hostile leaves: line too long");
}

TEST_F(Playground, ChatDropsWhoReadsTooSlowly) {
    Program program("chat", somewhere_and({"--outbox", "4000"}));
    const auto port = program.ports().at(0);
    Client speaker(port);
    enter_room(speaker, "speaker");
    Client slow(port);
    enter_room(slow, "slow");
    EXPECT_EQ(room_line(speaker), "* slow has joined");
    // What the kernel's buffers hold is not the room's affair: it goes on until they are full.
    const std::string line(900, 'x');
    std::string heard;
    for (int number = 0; number < 100'000 && !heard.starts_with("* slow"); ++number) {
        speaker.send(line + "\n");
        heard = room_line(speaker);
        ASSERT_FALSE(heard.empty());
    }
    EXPECT_EQ(heard, "* slow leaves: reads too slowly");
}

}  // namespace
