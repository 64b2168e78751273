// The resolver against a name server that others wrote: Debian's dnsmasq, on a free port of the loopback.
#include <ferrule/net/resolver.hpp>

#include "support/resolver_host.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <fcntl.h>
#include <pwd.h>
#include <signal.h>
#include <spawn.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <filesystem>
#include <initializer_list>
#include <memory>
#include <optional>
#include <set>
#include <stdexcept>
#include <string>
#include <string_view>
#include <vector>

extern char** environ;

namespace {

using ferrule::Address;
using ferrule::ResolveErrc;
using ferrule::ResolverOptions;
using ferrule_test::Resolved;
using ferrule_test::ResolverHost;
using testing::ElementsAre;
using testing::UnorderedElementsAre;
using namespace std::chrono_literals;

std::optional<std::string> find_dnsmasq() {
    for (const char* path : {"/usr/sbin/dnsmasq", "/usr/local/sbin/dnsmasq", "/usr/bin/dnsmasq"}) {
        if (std::filesystem::exists(path)) return path;
    }
    return std::nullopt;
}

/// A port that neither UDP nor TCP has on the loopback now.
std::uint16_t free_port() {
    for (int attempt = 0; attempt < 100; ++attempt) {
        const int udp = ::socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
        const int tcp = ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
        const Address any = Address::loopback(0);
        sockaddr_storage storage{};
        socklen_t size = sizeof storage;
        bool is_free = ::bind(udp, any.data(), any.size()) == 0 &&
                       ::getsockname(udp, reinterpret_cast<sockaddr*>(&storage), &size) == 0;
        const Address found = *Address::from(reinterpret_cast<const sockaddr*>(&storage), size);
        is_free = is_free && ::bind(tcp, found.data(), found.size()) == 0;
        ::close(udp);
        ::close(tcp);
        if (is_free) return found.port();
    }
    throw std::runtime_error("no free port");
}

/// A dnsmasq that knows what it is told, and asks nobody.
class Dnsmasq {
public:
    explicit Dnsmasq(const std::string& program, const std::vector<std::string>& arguments) {
        // Between the search for a port and its use somebody else may take it.
        for (int attempt = 0; attempt < 10; ++attempt) {
            if (start(program, arguments)) return;
        }
        throw std::runtime_error("dnsmasq does not start: " + said_);
    }
    Dnsmasq(const Dnsmasq&) = delete;
    Dnsmasq& operator=(const Dnsmasq&) = delete;
    ~Dnsmasq() { end(); }

    Address address() const { return Address::loopback(port_); }

private:
    bool start(const std::string& program, const std::vector<std::string>& arguments) {
        port_ = free_port();
        const passwd* user = ::getpwuid(::getuid());
        std::vector<std::string> all{program,
                                     "--no-daemon",
                                     "--conf-file=/dev/null",
                                     "--pid-file=",
                                     "--no-resolv",
                                     "--no-hosts",
                                     "--no-poll",
                                     "--listen-address=127.0.0.1",
                                     "--bind-interfaces",
                                     "--local=/test/",
                                     "--user=" + std::string(user != nullptr ? user->pw_name : "root"),
                                     "--port=" + std::to_string(port_)};
        all.insert(all.end(), arguments.begin(), arguments.end());
        std::vector<char*> pointers;
        for (std::string& argument : all) pointers.push_back(argument.data());
        pointers.push_back(nullptr);
        std::array<int, 2> ends{};
        if (::pipe2(ends.data(), O_CLOEXEC) != 0) throw std::runtime_error("pipe2");
        posix_spawn_file_actions_t actions;
        ::posix_spawn_file_actions_init(&actions);
        ::posix_spawn_file_actions_adddup2(&actions, ends[1], STDERR_FILENO);
        const int failed = ::posix_spawn(&process_, program.c_str(), &actions, nullptr, pointers.data(), environ);
        ::posix_spawn_file_actions_destroy(&actions);
        ::close(ends[1]);
        if (failed != 0) throw std::runtime_error("posix_spawn");
        // It listens by the time it says so.
        said_.clear();
        std::array<char, 512> piece;
        while (said_.find(": started") == said_.npos) {
            const ssize_t got = ::read(ends[0], piece.data(), piece.size());
            if (got <= 0) break;
            said_.append(piece.data(), static_cast<std::size_t>(got));
        }
        output_ = ends[0];
        if (said_.find(": started") != said_.npos) return true;
        end();
        return false;
    }
    void end() {
        ::kill(process_, SIGTERM);
        while (::waitpid(process_, nullptr, 0) < 0 && errno == EINTR) {
        }
        ::close(output_);
    }

    std::uint16_t port_ = 0;
    pid_t process_ = -1;
    int output_ = -1;
    std::string said_;
};

class ResolverDnsmasq : public testing::Test {
protected:
    void SetUp() override {
        const auto program = find_dnsmasq();
        if (!program) GTEST_SKIP() << "dnsmasq is not installed";
        std::vector<std::string> arguments{
            "--host-record=both.test,192.0.2.1,2001:db8::1,120",
            "--host-record=four.test,192.0.2.4",
            "--host-record=six.test,2001:db8::6",
            "--host-record=a.domain.test,192.0.2.7",
            "--cname=alias.test,both.test,60",
            "--txt-record=text.test,words",
        };
        for (int number = 0; number < 200; ++number)
            arguments.push_back("--host-record=many.test,192.0.2." + std::to_string(number));
        server_ = std::make_unique<Dnsmasq>(*program, arguments);
    }

    ResolverOptions options() const {
        ResolverOptions options;
        options.resolv_conf.clear();
        options.hosts.clear();
        options.servers = {server_->address()};
        options.resolution_delay = 1h;  // it may answer for one family long before it does for the other
        return options;
    }

    std::unique_ptr<Dnsmasq> server_;
};

TEST_F(ResolverDnsmasq, gives_addresses_of_both_families) {
    ResolverHost host(options());
    const Resolved resolved = host.resolve("Both.Test");
    EXPECT_THAT(ResolverHost::texts_of(resolved), UnorderedElementsAre("192.0.2.1:0", "[2001:db8::1]:0"));
    EXPECT_GT(resolved->ttl, 0s);
    EXPECT_LE(resolved->ttl, 120s);
    EXPECT_THAT(host.texts("four.test"), ElementsAre("192.0.2.4:0"));
    EXPECT_THAT(host.texts("six.test"), ElementsAre("[2001:db8::6]:0"));
    EXPECT_EQ(host.counters().strangers.value(), 0u) << "it repeats the case of the letters";
}

TEST_F(ResolverDnsmasq, follows_aliases) {
    ResolverHost host(options());
    EXPECT_THAT(host.texts("alias.test"), UnorderedElementsAre("192.0.2.1:0", "[2001:db8::1]:0"));
}

TEST_F(ResolverDnsmasq, says_what_is_not_there) {
    ResolverHost host(options());
    EXPECT_EQ(host.resolve("none.test").error().code, ResolveErrc::not_found);
    EXPECT_EQ(host.resolve("text.test").error().code, ResolveErrc::no_data);
    EXPECT_EQ(host.resolve("elsewhere.example").error().code, ResolveErrc::refused) << "it has nobody to ask";
}

TEST_F(ResolverDnsmasq, gives_by_tcp_what_no_datagram_holds) {
    ResolverOptions asked = options();
    asked.families = ferrule::ResolverFamilies::ipv4;
    ResolverHost host(asked);
    const Resolved resolved = host.resolve("many.test");
    ASSERT_TRUE(resolved) << resolved.error().message;
    EXPECT_EQ(std::set<Address>(resolved->addresses.begin(), resolved->addresses.end()).size(), 200u);
    EXPECT_EQ(host.counters().tcp_questions.value(), 1u);
}

TEST_F(ResolverDnsmasq, is_asked_by_tcp_alone) {
    ResolverOptions asked = options();
    asked.use_tcp = true;
    ResolverHost host(asked);
    EXPECT_THAT(host.texts("both.test"), UnorderedElementsAre("192.0.2.1:0", "[2001:db8::1]:0"));
    EXPECT_EQ(host.counters().tcp_questions.value(), 2u);
}

TEST_F(ResolverDnsmasq, is_asked_in_the_search_list) {
    ResolverOptions asked = options();
    asked.search = {"nowhere.test", "domain.test"};
    ResolverHost host(asked);
    EXPECT_THAT(host.texts("a"), ElementsAre("192.0.2.7:0"));
}

TEST_F(ResolverDnsmasq, answers_many_names_at_once) {
    ResolverHost host(options());
    std::vector<std::shared_ptr<ferrule_test::PendingResolve>> pending;
    const std::vector<std::string> names{"both.test",  "four.test", "six.test",
                                         "alias.test", "none.test", "a.domain.test"};
    for (int round = 0; round < 20; ++round) {
        for (const std::string& name : names) pending.push_back(host.begin(name));
    }
    unsigned found = 0;
    for (const auto& one : pending) found += one->result.get() ? 1 : 0;
    EXPECT_EQ(found, 100u);
    EXPECT_EQ(host.counters().pending.value(), 0u);
    EXPECT_EQ(host.counters().timeouts.value(), 0u);
}

}  // namespace
