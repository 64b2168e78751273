// What a protocol needs is public: a client of memcached in under a hundred lines, against memcached.
#include <ferrule/net/connect.hpp>
#include <ferrule/reactor/deadline.hpp>
#include <ferrule/reactor/reactor.hpp>
#include <ferrule/task/when_all.hpp>

#include "clients/memcached_client.hpp"

#include <gtest/gtest.h>

#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <chrono>
#include <cstdlib>
#include <exception>
#include <filesystem>
#include <fstream>
#include <functional>
#include <optional>
#include <stdexcept>
#include <string>
#include <system_error>
#include <utility>
#include <vector>

namespace {

using ferrule::Address;
using ferrule::Reactor;
using ferrule::Task;
using ferrule_test::MemcachedClient;

constexpr int patience_s = 60;

// Debian's memcached, on a Unix socket of its own.
class Memcached {
public:
    static constexpr const char* program = "/usr/bin/memcached";

    Memcached() {
        std::string pattern = (std::filesystem::temp_directory_path() / "ferrule-memcached-XXXXXX").string();
        if (::mkdtemp(pattern.data()) == nullptr) throw std::system_error(errno, std::system_category(), "mkdtemp");
        folder_ = pattern;
        const std::string path = socket_path();
        process_ = ::fork();
        if (process_ == 0) {
            // It refuses to be root without being told so.
            ::execl(program, program, "-s", path.c_str(), "-U", "0", "-u", "root", nullptr);
            ::_exit(127);
        }
    }
    Memcached(const Memcached&) = delete;
    Memcached& operator=(const Memcached&) = delete;
    ~Memcached() {
        ::kill(process_, SIGKILL);
        ::waitpid(process_, nullptr, 0);
        std::filesystem::remove_all(folder_);
    }
    Address address() const { return *Address::parse("unix:" + socket_path(), 0); }

private:
    std::string socket_path() const { return (folder_ / "socket").string(); }

    std::filesystem::path folder_;
    pid_t process_ = -1;
};

// A client when the server is up: it says of that nothing that could be waited for.
Task<MemcachedClient> open_when_up(Reactor* reactor, Address address) {
    for (int attempt = 0; attempt < patience_s * 100; ++attempt) {
        auto client = co_await MemcachedClient::open(reactor, address);
        if (client) co_return std::move(*client);
        co_await ferrule::sleep_for(std::chrono::milliseconds(10));
    }
    throw std::runtime_error("memcached does not accept connections");
}

class MemcachedTest : public testing::Test {
protected:
    void SetUp() override {
        if (::access(Memcached::program, X_OK) != 0) GTEST_SKIP() << "memcached is not installed";
    }

    // Runs the task on a reactor of its own.
    static void run(const std::function<Task<>(Reactor*, Address)>& test) {
        const Memcached memcached;
        Reactor reactor;
        std::exception_ptr fault;
        reactor.on_fault([&](Reactor&, std::exception_ptr exception) { fault = std::move(exception); });
        reactor.on_start([&](Reactor& started) { started.spawn(end_after(test(&started, memcached.address()))); });
        reactor.run();
        if (fault) std::rethrow_exception(fault);
    }

private:
    struct Stop {
        ~Stop() { Reactor::current()->stop(); }
    };
    static Task<> end_after(Task<> test) {
        const Stop stop;
        co_await std::move(test);
    }
};

Task<> set_and_get(Reactor* reactor, Address address) {
    auto client = co_await open_when_up(reactor, address);
    const auto nothing = co_await client.get("nothing");
    EXPECT_EQ(nothing.value(), std::nullopt);
    // Of more than a buffer, with line ends inside, and empty.
    for (const std::string& value :
         {std::string("a value"), std::string(300'000, 'x'), std::string("\r\nEND\r\n"), std::string()}) {
        const auto stored = co_await client.set("key", value);
        EXPECT_TRUE(stored) << stored.error();
        const auto read = co_await client.get("key");
        EXPECT_EQ(read.value(), value);
    }
    const auto refused = co_await client.set("a key with spaces", "value");
    EXPECT_EQ(refused.error(), "ERROR");
}

TEST_F(MemcachedTest, gets_what_was_set) {
    run(set_and_get);
}

Task<> set_and_get_often(MemcachedClient client, std::string key) {
    for (int round = 0; round < 100; ++round) {
        const std::string value = key + std::to_string(round);
        static_cast<void>(co_await client.set(key, value));
        const auto read = co_await client.get(key);
        EXPECT_EQ(read.value(), value);
    }
}

Task<> have_many_clients(Reactor* reactor, Address address) {
    std::vector<Task<>> clients;
    for (int number = 0; number < 8; ++number) {
        auto client = co_await open_when_up(reactor, address);
        clients.push_back(set_and_get_often(std::move(client), "key" + std::to_string(number)));
    }
    co_await ferrule::when_all(std::move(clients));
}

TEST_F(MemcachedTest, serves_clients_side_by_side) {
    run(have_many_clients);
}

TEST(MemcachedClient, has_less_than_a_hundred_lines_and_includes_public_headers_only) {
    std::ifstream source(MEMCACHED_CLIENT);
    if (!source) GTEST_SKIP() << "the sources are not on this machine";
    int lines = 0;
    for (std::string line; std::getline(source, line); ++lines) {
        if (!line.starts_with("#include \"")) continue;
        ADD_FAILURE() << line;
    }
    EXPECT_LT(lines, 100);
}

}  // namespace
