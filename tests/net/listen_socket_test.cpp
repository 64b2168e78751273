#include <ferrule/net/listen_socket.hpp>

#include "support/forwarding_kernel.hpp"

#include <gtest/gtest.h>

#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstdlib>
#include <filesystem>
#include <string>
#include <utility>
#include <vector>

namespace {

using namespace ferrule;

// A descriptor of the test.
class Descriptor {
public:
    explicit Descriptor(int fd) : fd_(fd) {}
    Descriptor(Descriptor&& other) noexcept : fd_(std::exchange(other.fd_, -1)) {}
    Descriptor& operator=(Descriptor&&) = delete;
    ~Descriptor() { close(); }
    void close() {
        if (fd_ >= 0) ::close(fd_);
        fd_ = -1;
    }
    int get() const { return fd_; }

private:
    int fd_;
};

// A folder that is gone when the test ends.
class Folder {
public:
    Folder() {
        char name[] = "/tmp/ferrule-listen-XXXXXX";
        path_ = ::mkdtemp(name);
    }
    ~Folder() { std::filesystem::remove_all(path_); }
    std::string operator/(const std::string& name) const { return path_ + "/" + name; }

private:
    std::string path_;
};

Address address_of(const std::string& host, std::uint16_t port = 0) {
    const auto address = Address::parse(host, port);
    if (!address) throw std::system_error(address.error(), host);
    return *address;
}

std::expected<Descriptor, ListenError> open(const ListenSocketOptions& options, Kernel& kernel = linux_kernel()) {
    const auto fd = open_listen_socket(kernel, options);
    if (!fd) return std::unexpected(fd.error());
    return Descriptor(*fd);
}

Address local(const Descriptor& socket) {
    return local_address(linux_kernel(), socket.get()).value();
}

// The error of a connect, and the socket.
std::pair<int, Descriptor> connect_socket(const Address& address) {
    Descriptor socket(::socket(address.data()->sa_family, SOCK_STREAM | SOCK_CLOEXEC, 0));
    const int result = ::connect(socket.get(), address.data(), address.size()) == 0 ? 0 : errno;
    return {result, std::move(socket)};
}

int connect_to(const Address& address) {
    return connect_socket(address).first;
}

// An address on which no other process's socket can take the port between two tests of the same port: 127.0.0.0/8 is
// all ours, and the process's number makes three of its bytes.
Address own_loopback() {
    const unsigned number = static_cast<unsigned>(::getpid()) % 0xfffffeu + 1;
    return address_of("127." + std::to_string(number >> 16) + '.' + std::to_string(number >> 8 & 255) + '.' +
                      std::to_string(number & 255));
}

int option_of(int fd, int level, int name) {
    int value = -1;
    socklen_t size = sizeof value;
    EXPECT_EQ(::getsockopt(fd, level, name, &value, &size), 0);
    return value;
}

bool has_ipv6() {
    const Descriptor socket(::socket(AF_INET6, SOCK_STREAM | SOCK_CLOEXEC, 0));
    const Address address = Address::loopback_ipv6(0);
    return socket.get() >= 0 && ::bind(socket.get(), address.data(), address.size()) == 0;
}

#define SKIP_WITHOUT_IPV6() \
    if (!has_ipv6()) GTEST_SKIP() << "this machine has no IPv6"

int open_descriptors() {
    int count = 0;
    for ([[maybe_unused]] const auto& entry : std::filesystem::directory_iterator("/proc/self/fd")) ++count;
    return count;
}

TEST(ListenSocket, PortZeroReportsTheRealPort) {
    const auto socket = open({.address = Address::loopback(0)});
    ASSERT_TRUE(socket) << socket.error().message;
    const Address address = local(*socket);
    EXPECT_NE(address.port(), 0);
    EXPECT_EQ(address, Address::loopback(address.port()));
    EXPECT_EQ(connect_to(address), 0);
}

TEST(ListenSocket, IsCloseOnExecAndBlocking) {
    const auto socket = open({.address = Address::loopback(0)});
    ASSERT_TRUE(socket);
    EXPECT_NE(::fcntl(socket->get(), F_GETFD) & FD_CLOEXEC, 0);
    EXPECT_EQ(::fcntl(socket->get(), F_GETFL) & O_NONBLOCK, 0);
}

TEST(ListenSocket, AcceptedSocketsInheritNoDelay) {
    for (const bool no_delay : {false, true}) {
        const auto socket = open({.address = Address::loopback(0), .no_delay = no_delay});
        ASSERT_TRUE(socket);
        const auto [error, client] = connect_socket(local(*socket));
        ASSERT_EQ(error, 0);
        const Descriptor accepted(::accept4(socket->get(), nullptr, nullptr, SOCK_CLOEXEC));
        ASSERT_GE(accepted.get(), 0);
        EXPECT_EQ(option_of(accepted.get(), IPPROTO_TCP, TCP_NODELAY) != 0, no_delay);
    }
}

TEST(ListenSocket, DeferAcceptIsSetOnlyWhenAskedFor) {
    const auto plain = open({.address = Address::loopback(0)});
    ASSERT_TRUE(plain);
    EXPECT_EQ(option_of(plain->get(), IPPROTO_TCP, TCP_DEFER_ACCEPT), 0);
    const auto deferred = open({.address = Address::loopback(0), .defer_accept = true, .defer_accept_seconds = 2});
    ASSERT_TRUE(deferred);
    EXPECT_GE(option_of(deferred->get(), IPPROTO_TCP, TCP_DEFER_ACCEPT), 2);
}

TEST(ListenSocket, E3SocketsOfOneServerShareAPort) {
    const auto first = open({.address = Address::loopback(0)});
    ASSERT_TRUE(first);
    const auto second = open({.address = local(*first)});
    ASSERT_TRUE(second) << second.error().message;
    EXPECT_EQ(local(*first), local(*second));
}

TEST(ListenSocket, WithoutReusePortATakenPortIsAnError) {
    const auto first = open({.address = Address::loopback(0), .reuse_port = false});
    ASSERT_TRUE(first);
    const Address address = local(*first);
    for (const bool reuse_port : {false, true}) {
        const auto second = open({.address = address, .reuse_port = reuse_port});
        ASSERT_FALSE(second);
        EXPECT_EQ(second.error().code, std::errc::address_in_use);
        EXPECT_EQ(second.error().message, "bind " + address.to_string() + ": Address already in use");
    }
}

TEST(ListenSocket, CheckFindsAnotherServerThatWouldShareItsPort) {
    const auto other = open({.address = Address::loopback(0)});
    ASSERT_TRUE(other);
    const ListenSocketOptions options{.address = local(*other)};
    const auto taken = check_port_is_free(linux_kernel(), options);
    ASSERT_FALSE(taken);
    EXPECT_EQ(taken.error().message, "bind " + options.address.to_string() + ": Address already in use");
    // Joining is possible all the same: the check is what stands between two servers.
    EXPECT_TRUE(open(options));
}

TEST(ListenSocket, CheckPassesForATakeOver) {
    const auto other = open({.address = Address::loopback(0)});
    ASSERT_TRUE(other);
    const ListenSocketOptions options{.address = local(*other), .take_over = true};
    EXPECT_TRUE(check_port_is_free(linux_kernel(), options));
    EXPECT_TRUE(open(options));
}

TEST(ListenSocket, CheckLeavesTheFreePortFree) {
    Address address;
    {
        const auto socket = open({.address = own_loopback(), .reuse_port = false});
        ASSERT_TRUE(socket);
        address = local(*socket);
    }
    const int before = open_descriptors();
    EXPECT_TRUE(check_port_is_free(linux_kernel(), {.address = address}));
    EXPECT_EQ(open_descriptors(), before);
    EXPECT_TRUE(open({.address = address}));
}

TEST(ListenSocket, CheckWaitsForAPortThatIsAboutToBeFree) {
    auto dying = open({.address = own_loopback()});
    ASSERT_TRUE(dying);
    const ListenSocketOptions options{.address = local(*dying)};
    struct : ferrule_test::ForwardingKernel {
        Descriptor* dying = nullptr;
        int pauses = 0;
        void pause_ns(std::uint64_t) noexcept override {
            if (++pauses == 2) dying->close();
        }
    } kernel;
    kernel.dying = &*dying;
    EXPECT_TRUE(check_port_is_free(kernel, options));
    EXPECT_EQ(kernel.pauses, 2);
}

TEST(ListenSocket, CheckSeesAnIpv4ServerUnderADualStackAddress) {
    SKIP_WITHOUT_IPV6();
    const auto other = open({.address = Address::any_ipv4(0)});
    ASSERT_TRUE(other);
    const ListenSocketOptions options{.address = Address::any(local(*other).port())};
    EXPECT_FALSE(check_port_is_free(linux_kernel(), options));
}

TEST(ListenSocket, A13Ipv4LiteralListensInDualStackMode) {
    const auto socket = open({.address = address_of("127.0.0.1"), .dual_stack = true});
    ASSERT_TRUE(socket) << socket.error().message;
    EXPECT_EQ(connect_to(Address::loopback(local(*socket).port())), 0);
}

TEST(ListenSocket, A13MappedLiteralListensAndIsReachedByIpv4) {
    SKIP_WITHOUT_IPV6();
    const auto socket = open({.address = Address::loopback(0).mapped()});
    ASSERT_TRUE(socket) << socket.error().message;
    const auto [error, client] = connect_socket(Address::loopback(local(*socket).port()));
    ASSERT_EQ(error, 0);
    const Descriptor accepted(::accept4(socket->get(), nullptr, nullptr, SOCK_CLOEXEC));
    const auto peer = peer_address(linux_kernel(), accepted.get());
    ASSERT_TRUE(peer);
    EXPECT_EQ(peer->family(), AddressFamily::ipv6);
    EXPECT_EQ(peer->unmapped(), local_address(linux_kernel(), client.get()).value());
}

TEST(ListenSocket, DualStackDecidesWhetherIpv4Enters) {
    SKIP_WITHOUT_IPV6();
    const auto both = open({.address = Address::any(0)});
    ASSERT_TRUE(both);
    EXPECT_EQ(connect_to(Address::loopback(local(*both).port())), 0);
    EXPECT_EQ(connect_to(Address::loopback_ipv6(local(*both).port())), 0);
    const auto only = open({.address = Address::any(0), .dual_stack = false});
    ASSERT_TRUE(only);
    EXPECT_EQ(connect_to(Address::loopback(local(*only).port())), ECONNREFUSED);
    EXPECT_EQ(connect_to(Address::loopback_ipv6(local(*only).port())), 0);
}

TEST(ListenSocket, AddressThatIsNotOursIsAnError) {
    // TEST-NET-1 of RFC 5737: nobody's.
    const auto socket = open({.address = address_of("192.0.2.1", 8080)});
    ASSERT_FALSE(socket);
    EXPECT_EQ(socket.error().code, std::errc::address_not_available);
    EXPECT_EQ(socket.error().message, "bind 192.0.2.1:8080: Cannot assign requested address");
}

TEST(ListenSocket, NoAddressIsAnError) {
    const auto socket = open({});
    ASSERT_FALSE(socket);
    EXPECT_EQ(socket.error().message, "listen on none: Address family not supported by protocol");
}

TEST(ListenSocket, AnOpenedSocketOutlivesTimeWaitOfThePort) {
    Address address;
    {
        const auto socket = open({.address = own_loopback()});
        ASSERT_TRUE(socket);
        address = local(*socket);
        const auto [error, client] = connect_socket(address);
        ASSERT_EQ(error, 0);
        Descriptor accepted(::accept4(socket->get(), nullptr, nullptr, SOCK_CLOEXEC));
        // The side that closes first stays in TIME_WAIT.
        accepted.close();
        char byte;
        EXPECT_EQ(::read(client.get(), &byte, 1), 0);
    }
    EXPECT_TRUE(check_port_is_free(linux_kernel(), {.address = address}));
    EXPECT_TRUE(open({.address = address, .reuse_port = false}));
}

TEST(ListenSocket, UnixPathListensAndIsRemovedAtTheEnd) {
    const Folder folder;
    const Address address = address_of("unix:" + folder / "s");
    auto socket = open({.address = address});
    ASSERT_TRUE(socket) << socket.error().message;
    EXPECT_EQ(local(*socket), address);
    EXPECT_EQ(connect_to(address), 0);
    remove_stale_unix_file(linux_kernel(), address);
    EXPECT_TRUE(std::filesystem::exists(folder / "s")) << "a live server keeps its file";
    socket->close();
    remove_stale_unix_file(linux_kernel(), address);
    EXPECT_FALSE(std::filesystem::exists(folder / "s"));
    remove_stale_unix_file(linux_kernel(), address);
    remove_stale_unix_file(linux_kernel(), Address::loopback(1));
}

TEST(ListenSocket, UnixAbstractNameListens) {
    const Address address = address_of("unix:@ferrule-test-" + std::to_string(::getpid()));
    const auto socket = open({.address = address});
    ASSERT_TRUE(socket) << socket.error().message;
    EXPECT_EQ(connect_to(address), 0);
    const auto second = open({.address = address});
    ASSERT_FALSE(second);
    EXPECT_EQ(second.error().code, std::errc::address_in_use);
}

TEST(ListenSocket, UnixStaleFileIsReplaced) {
    const Folder folder;
    const Address address = address_of("unix:" + folder / "s");
    open({.address = address}).value().close();
    ASSERT_TRUE(std::filesystem::exists(folder / "s"));
    const auto refused = open({.address = address, .remove_stale_unix = false});
    ASSERT_FALSE(refused);
    EXPECT_EQ(refused.error().code, std::errc::address_in_use);
    const auto socket = open({.address = address});
    ASSERT_TRUE(socket) << socket.error().message;
    EXPECT_EQ(connect_to(address), 0);
}

TEST(ListenSocket, UnixPathOfALiveServerIsAnErrorUnlessTakenOver) {
    const Folder folder;
    const Address address = address_of("unix:" + folder / "s");
    const auto first = open({.address = address});
    ASSERT_TRUE(first);
    const auto second = open({.address = address});
    ASSERT_FALSE(second);
    EXPECT_EQ(second.error().message, "bind " + address.to_string() + ": Address already in use");
    auto heir = open({.address = address, .take_over = true});
    ASSERT_TRUE(heir) << heir.error().message;
    ASSERT_EQ(connect_to(address), 0);
    const Descriptor accepted(::accept4(heir->get(), nullptr, nullptr, SOCK_CLOEXEC));
    EXPECT_GE(accepted.get(), 0);
}

TEST(ListenSocket, UnixServerWithAFullBacklogIsAlive) {
    const Folder folder;
    const Address address = address_of("unix:" + folder / "s");
    const auto first = open({.address = address, .backlog = 0});
    ASSERT_TRUE(first);
    const auto [error, waiting] = connect_socket(address);
    ASSERT_EQ(error, 0);
    const auto second = open({.address = address});
    ASSERT_FALSE(second);
    EXPECT_EQ(second.error().code, std::errc::address_in_use);
}

TEST(ListenSocket, UnixPathThatIsNoSocketIsKept) {
    const Folder folder;
    const std::string path = folder / "file";
    Descriptor(::open(path.c_str(), O_CREAT | O_CLOEXEC | O_WRONLY, 0600)).close();
    for (const bool take_over : {false, true}) {
        const auto socket = open({.address = address_of("unix:" + path), .take_over = take_over});
        ASSERT_FALSE(socket);
        EXPECT_EQ(socket.error().message, "bind unix:" + path + ": File exists");
    }
    EXPECT_TRUE(std::filesystem::exists(path));
}

TEST(ListenSocket, UnixFolderThatIsMissingIsAnError) {
    const Folder folder;
    const auto socket = open({.address = address_of("unix:" + folder / "missing/s")});
    ASSERT_FALSE(socket);
    EXPECT_EQ(socket.error().code, std::errc::no_such_file_or_directory);
}

TEST(ListenSocket, UnixModeIsExact) {
    const Folder folder;
    for (const unsigned mode : {0600u, 0666u}) {
        const Address address = address_of("unix:" + folder / std::to_string(mode));
        const auto socket = open({.address = address, .unix_mode = mode});
        ASSERT_TRUE(socket) << socket.error().message;
        struct stat status;
        ASSERT_EQ(::stat(std::string(*address.unix_path()).c_str(), &status), 0);
        EXPECT_EQ(status.st_mode & 0777, mode);
    }
}

// Fails the call with this number, counted over all calls that may fail.
class FailingKernel : public ferrule_test::ForwardingKernel {
public:
    explicit FailingKernel(int failing) : failing_(failing) {}
    bool reached() const { return calls_ > failing_; }

    int socket(int domain, int type, int protocol) noexcept override {
        return fails() ? -ENOBUFS : ForwardingKernel::socket(domain, type, protocol);
    }
    int bind(int fd, const sockaddr* address, socklen_t length) noexcept override {
        return fails() ? -ENOBUFS : ForwardingKernel::bind(fd, address, length);
    }
    int listen(int fd, int backlog) noexcept override {
        return fails() ? -ENOBUFS : ForwardingKernel::listen(fd, backlog);
    }
    int connect(int fd, const sockaddr* address, socklen_t length) noexcept override {
        return fails() ? -ENOBUFS : ForwardingKernel::connect(fd, address, length);
    }
    int set_option(int fd, int level, int name, const void* value, socklen_t length) noexcept override {
        return fails() ? -ENOBUFS : ForwardingKernel::set_option(fd, level, name, value, length);
    }
    int socket_name(int fd, sockaddr* address, socklen_t* length) noexcept override {
        return fails() ? -ENOBUFS : ForwardingKernel::socket_name(fd, address, length);
    }
    int unlink(const char* path) noexcept override { return fails() ? -ENOBUFS : ForwardingKernel::unlink(path); }
    int status(const char* path, unsigned* mode) noexcept override {
        return fails() ? -ENOBUFS : ForwardingKernel::status(path, mode);
    }
    int change_mode(const char* path, unsigned mode) noexcept override {
        return fails() ? -ENOBUFS : ForwardingKernel::change_mode(path, mode);
    }

private:
    bool fails() { return calls_++ == failing_; }

    int failing_;
    int calls_ = 0;
};

TEST(ListenSocket, AFailureAtAnyPointIsReportedAndLeavesNoDescriptorOpen) {
    const Folder folder;
    const Address unix_address = address_of("unix:" + folder / "s");
    const ListenSocketOptions every_option[] = {
        {.address = Address::loopback(0), .defer_accept = true},
        {.address = has_ipv6() ? Address::loopback_ipv6(0) : Address::loopback(0)},
        {.address = unix_address, .unix_mode = 0600},
    };
    for (const auto& options : every_option) {
        for (int failing = 0;; ++failing) {
            SCOPED_TRACE(options.address.to_string() + " failing " + std::to_string(failing));
            // Leaves a stale file, so that the way past it is walked too.
            if (options.address.unix_path()) open({.address = unix_address}).value().close();
            const int before = open_descriptors();
            FailingKernel kernel(failing);
            const auto socket = open(options, kernel);
            if (!kernel.reached()) {
                EXPECT_TRUE(socket);
                EXPECT_GT(failing, 3);
                break;
            }
            ASSERT_FALSE(socket);
            EXPECT_EQ(socket.error().code, std::errc::no_buffer_space);
            EXPECT_NE(socket.error().message.find(options.address.to_string() + ": No buffer space available"),
                      std::string::npos)
                << socket.error().message;
            EXPECT_EQ(open_descriptors(), before);
        }
    }
}

TEST(ListenSocket, CheckReportsAFailureAtAnyPoint) {
    Address address;
    {
        const auto socket = open({.address = own_loopback(), .reuse_port = false});
        ASSERT_TRUE(socket);
        address = local(*socket);
    }
    for (int failing = 0;; ++failing) {
        const int before = open_descriptors();
        FailingKernel kernel(failing);
        const auto checked = check_port_is_free(kernel, {.address = address});
        EXPECT_EQ(checked.has_value(), !kernel.reached());
        EXPECT_EQ(open_descriptors(), before);
        if (!kernel.reached()) break;
    }
}

TEST(ListenSocket, LowPortWithoutPermissionSaysWhatIsMissing) {
    struct : ferrule_test::ForwardingKernel {
        int bind(int, const sockaddr*, socklen_t) noexcept override { return -EACCES; }
    } kernel;
    const auto socket = open({.address = Address::loopback(80)}, kernel);
    ASSERT_FALSE(socket);
    EXPECT_EQ(socket.error().message,
              "bind 127.0.0.1:80: Permission denied (ports below 1024 need CAP_NET_BIND_SERVICE)");
}

TEST(ListenSocket, AddressesOfADescriptorThatIsNoSocketAreErrors) {
    const Descriptor file(::open("/dev/null", O_RDONLY | O_CLOEXEC));
    EXPECT_EQ(local_address(linux_kernel(), file.get()).error(), std::errc::not_a_socket);
    EXPECT_EQ(peer_address(linux_kernel(), file.get()).error(), std::errc::not_a_socket);
    const auto socket = open({.address = Address::loopback(0)});
    EXPECT_EQ(peer_address(linux_kernel(), socket->get()).error(), std::errc::not_connected);
}

}  // namespace
