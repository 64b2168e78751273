#include <ferrule/server/options.hpp>

#include <gtest/gtest.h>

#include <functional>
#include <limits>
#include <string>
#include <vector>

namespace {

using namespace ferrule;
using namespace std::chrono_literals;

std::string error_of(const std::function<void(ServerOptions&)>& change) {
    ServerOptions options;
    change(options);
    try {
        validate(options);
    } catch (const ConfigurationError& error) {
        return error.what();
    }
    return {};
}

std::string port_error_of(const std::function<void(PortOptions&)>& change) {
    PortOptions options;
    change(options);
    try {
        validate(options);
    } catch (const ConfigurationError& error) {
        return error.what();
    }
    return {};
}

TEST(ServerOptions, DefaultsAreValid) {
    EXPECT_NO_THROW(validate(ServerOptions{}));
    EXPECT_NO_THROW(validate(PortOptions{}));
}

TEST(ServerOptions, EveryFieldIsRefusedByNameWhenItCannotBe) {
    struct Case {
        std::string field;
        std::function<void(ServerOptions&)> change;
    };
    const std::vector<Case> cases = {
        {"host", [](auto& options) { options.host = "example.org"; }},
        {"host", [](auto& options) { options.host = "127.0.0.1:80"; }},
        {"host", [](auto& options) { options.host = std::string("::1\0", 4); }},
        {"host", [](auto& options) { options.host = "unix:"; }},
        {"host", [](auto& options) { options.host = "unix:" + std::string(200, 'a'); }},
        {"port", [](auto& options) { options.port = -1; }},
        {"port", [](auto& options) { options.port = 65536; }},
        {"port", [](auto& options) { options.port = std::numeric_limits<std::int32_t>::max(); }},
        {"reactors", [](auto& options) { options.reactors = 1025; }},
        {"reactors", [](auto& options) { options.reactors = std::numeric_limits<std::uint32_t>::max(); }},
        {"backlog", [](auto& options) { options.backlog = 0; }},
        {"backlog", [](auto& options) { options.backlog = -1; }},
        {"defer_accept_seconds", [](auto& options) { options.defer_accept_seconds = 0; }},
        {"defer_accept_seconds", [](auto& options) { options.defer_accept_seconds = 3601; }},
        {"unix_mode", [](auto& options) { options.unix_mode = 01777; }},
        {"accept_mode", [](auto& options) { options.accept_mode = static_cast<AcceptMode>(3); }},
        {"socket_name", [](auto& options) { options.socket_name = "web:admin"; }},
        {"restart_path", [](auto& options) { options.restart_path = "@abstract"; }},
        {"restart_path", [](auto& options) { options.restart_path = std::string(200, 'a'); }},
        {"restart_timeout", [](auto& options) { options.restart_timeout = 0ms; }},
        {"restart_timeout", [](auto& options) { options.restart_timeout = std::chrono::milliseconds::max(); }},
        {"socket_name", [](auto& options) { options.socket_name = "web\n"; }},
        {"socket_name", [](auto& options) { options.socket_name = std::string(256, 'w'); }},
        {"proxy.protocol", [](auto& options) { options.proxy.protocol = static_cast<ProxyProtocol>(2); }},
        {"proxy.timeout", [](auto& options) { options.proxy.timeout = -1ms; }},
        {"proxy.sources", [](auto& options) { options.proxy.sources.emplace_back(); }},
        {"network.first_byte_timeout", [](auto& options) { options.network.first_byte_timeout = -1ms; }},
        {"network.rate_window", [](auto& options) { options.network.rate_window = -1ms; }},
        {"network.rate_window",
         [](auto& options) {
             options.network.rate_window = 0ms;
             options.network.send_rate_min = 1;
         }},
        {"network.address_limits.connections",
         [](auto& options) { options.network.address_limits.connections = (1u << 23) + 1; }},
        {"network.address_limits.ipv4_bits", [](auto& options) { options.network.address_limits.ipv4_bits = 33; }},
        {"network.address_limits.ipv6_bits", [](auto& options) { options.network.address_limits.ipv6_bits = 0; }},
        {"network.address_limits.table_entries",
         [](auto& options) { options.network.address_limits.table_entries = (1u << 24) + 1; }},
        {"network.accept_rate", [](auto& options) { options.network.accept_rate = 1'000'001; }},
        {"network.accept_burst", [](auto& options) { options.network.accept_burst = 0; }},
        {"network.accept_excess", [](auto& options) { options.network.accept_excess = static_cast<Excess>(2); }},
        {"network.overload_latency", [](auto& options) { options.network.overload_latency = -1ms; }},
        {"network.overload_interval",
         [](auto& options) {
             options.network.overload_latency = 10ms;
             options.network.overload_interval = 0ms;
         }},
        {"network.overload_excess", [](auto& options) { options.network.overload_excess = static_cast<Excess>(2); }},
        {"drain_timeout", [](auto& options) { options.drain_timeout = -1ms; }},
        {"stall_threshold", [](auto& options) { options.stall_threshold = -1ms; }},
        {"stall_signal", [](auto& options) { options.stall_signal = 0; }},
        {"stall_signal", [](auto& options) { options.stall_signal = 65; }},
        {"stall_signal", [](auto& options) { options.stall_signal = SIGKILL; }},
        {"drain_timeout", [](auto& options) { options.drain_timeout = std::chrono::milliseconds::max(); }},
        {"reactor.submission_entries", [](auto& options) { options.reactor.submission_entries = 0; }},
        {"reactor.submission_entries", [](auto& options) { options.reactor.submission_entries = 32769; }},
        {"reactor.completion_entries", [](auto& options) { options.reactor.completion_entries = 65537; }},
        {"reactor.completion_entries", [](auto& options) { options.reactor.completion_entries = 1023; }},
        {"reactor.operation_limit", [](auto& options) { options.reactor.operation_limit = 0; }},
        {"reactor.mailbox_limit", [](auto& options) { options.reactor.mailbox_limit = 0; }},
        {"reactor.inline_budget", [](auto& options) { options.reactor.inline_budget = 0; }},
        {"reactor.spin", [](auto& options) { options.reactor.spin = -1us; }},
        {"reactor.spin", [](auto& options) { options.reactor.spin = 1000001us; }},
        {"reactor.offload_threads", [](auto& options) { options.reactor.offload_threads = 0; }},
        {"reactor.offload_threads", [](auto& options) { options.reactor.offload_threads = 1025; }},
        {"reactor.offload_limit", [](auto& options) { options.reactor.offload_limit = 0; }},
        {"reactor.cpu", [](auto& options) { options.reactor.cpu = -2; }},
        {"reactor.cpu",
         [](auto& options) {
             options.reactor.cpu = 0;
             options.pin_reactors = true;
         }},
        {"network.receive_buffer_count", [](auto& options) { options.network.receive_buffer_count = 0; }},
        {"network.receive_buffer_count", [](auto& options) { options.network.receive_buffer_count = 1000; }},
        {"network.receive_buffer_count", [](auto& options) { options.network.receive_buffer_count = 65536; }},
        {"network.receive_buffer_size", [](auto& options) { options.network.receive_buffer_size = 0; }},
        {"network.receive_buffer_size", [](auto& options) { options.network.receive_buffer_size = (1u << 30) + 1; }},
        {"network.buffer_mode",
         [](auto& options) { options.network.buffer_mode = static_cast<ferrule::BufferMode>(3); }},
        {"network.connection_buffer_count", [](auto& options) { options.network.connection_buffer_count = 0; }},
        {"network.connection_buffer_count", [](auto& options) { options.network.connection_buffer_count = 24; }},
        {"network.connection_buffer_size", [](auto& options) { options.network.connection_buffer_size = 0; }},
        {"network.connection_buffer_size",
         [](auto& options) { options.network.connection_buffer_size = (1u << 25) + 1; }},
        {"network.receive_lease_limit", [](auto& options) { options.network.receive_lease_limit = 0; }},
        {"network.receive_limit", [](auto& options) { options.network.receive_limit = 0; }},
        {"network.write_slab_size", [](auto& options) { options.network.write_slab_size = 0; }},
        {"network.waiting_limit", [](auto& options) { options.network.waiting_limit = 1u << 21; }},
        {"network.write_slab_size",
         [](auto& options) { options.network.write_slab_size = options.network.write_limit + 1; }},
        {"network.write_limit", [](auto& options) { options.network.write_limit = 0; }},
        {"network.write_overflow",
         [](auto& options) { options.network.write_overflow = static_cast<ferrule::WriteOverflow>(3); }},
        {"network.write_limit", [](auto& options) { options.network.write_limit = (1u << 30) + 1; }},
        {"network.connection_memory_limit",
         [](auto& options) { options.network.connection_memory_limit = 1024 + 2048 - 1; }},
        {"network.connection_memory_limit",
         [](auto& options) { options.network.write_slab_size = options.network.write_limit = 1u << 30; }},
        {"network.memory_limit", [](auto& options) { options.network.memory_limit = (1u << 20) - 1; }},
        {"network.connection_limit", [](auto& options) { options.network.connection_limit = 0; }},
        {"network.idle_timeout", [](auto& options) { options.network.idle_timeout = -1ms; }},
        {"network.read_timeout", [](auto& options) { options.network.read_timeout = 21 * 24h; }},
        {"network.write_timeout",
         [](auto& options) { options.network.write_timeout = std::chrono::milliseconds::min(); }},
        {"network.linger_timeout",
         [](auto& options) { options.network.linger_timeout = std::chrono::milliseconds::max(); }},
        {"network.drain_grace", [](auto& options) { options.network.drain_grace = -1ms; }},
        {"network.linger", [](auto& options) { options.network.linger = static_cast<Linger>(2); }},
        {"network.huge_pages", [](auto& options) { options.network.huge_pages = static_cast<HugePages>(3); }},
        {"cpus",
         [](auto& options) {
             options.cpus = {0, -1};
         }},
        {"cpus", [](auto& options) { options.cpus = {8192}; }},
        {"cpus",
         [](auto& options) {
             options.cpus = {0};
             options.pin_reactors = true;
         }},
        {"cpus",
         [](auto& options) {
             options.cpus = {0};
             options.reactor.cpu = 0;
         }},
        {"submission_poll_cpus", [](auto& options) { options.submission_poll_cpus = {0}; }},
        {"submission_poll_cpus",
         [](auto& options) {
             options.reactor.submission_poll = 1ms;
             options.submission_poll_cpus = {-1};
         }},
        {"submission_poll_cpus",
         [](auto& options) {
             options.reactor.submission_poll = 1ms;
             options.reactor.submission_poll_cpu = 0;
             options.submission_poll_cpus = {0};
         }},
        {"reactor.submission_poll", [](auto& options) { options.reactor.submission_poll = -1ms; }},
        {"reactor.submission_poll", [](auto& options) { options.reactor.submission_poll = 2h; }},
        {"reactor.submission_poll_cpu", [](auto& options) { options.reactor.submission_poll_cpu = 0; }},
        {"reactor.submission_poll_cpu", [](auto& options) { options.reactor.submission_poll_cpu = -2; }},
        {"reactor.napi_busy_poll", [](auto& options) { options.reactor.napi_busy_poll = 2s; }},
        {"reactor.napi_prefer_busy_poll", [](auto& options) { options.reactor.napi_prefer_busy_poll = true; }},
        {"reactor.min_wait", [](auto& options) { options.reactor.min_wait = -1us; }},
        {"reactor.min_wait_completions", [](auto& options) { options.reactor.min_wait_completions = 0; }},
        {"reactor.submission_entries_max", [](auto& options) { options.reactor.submission_entries_max = 1023; }},
        {"reactor.submission_entries_max", [](auto& options) { options.reactor.submission_entries_max = 32769; }},
        {"reactor.completion_entries_max", [](auto& options) { options.reactor.completion_entries_max = 1023; }},
        {"reactor.completion_entries_max", [](auto& options) { options.reactor.completion_entries_max = 65537; }},
        {"reactor.completion_entries_max",
         [](auto& options) {
             options.reactor.submission_poll = 1ms;
             options.reactor.completion_entries_max = 65536;
         }},
        {"reactor.bounded_workers", [](auto& options) { options.reactor.bounded_workers = (1u << 22) + 1; }},
        {"reactor.unbounded_workers", [](auto& options) { options.reactor.unbounded_workers = (1u << 22) + 1; }},
        {"reactor.local_memory", [](auto& options) { options.reactor.local_memory = true; }},
    };
    for (const Case& each : cases) {
        const std::string error = error_of(each.change);
        const std::string expected = "ServerOptions." + each.field + ": ";
        EXPECT_TRUE(error.starts_with(expected)) << "expected " << expected << "got " << error;
        EXPECT_GT(error.size(), expected.size() + 10) << "no reason: " << error;
    }
}

TEST(ServerOptions, LimitsThemselvesAreValid) {
    EXPECT_EQ(error_of([](auto& options) {
                  options.port = 65535;
                  options.reactors = 1024;
                  options.backlog = std::numeric_limits<std::int32_t>::max();
                  options.defer_accept_seconds = 3600;
                  options.unix_mode = 0777;
                  options.drain_timeout = 0ms;
                  options.reactor.submission_entries = 32768;
                  options.reactor.completion_entries = 65536;
                  options.reactor.spin = 1s;
                  options.network.receive_buffer_count = 32768;
                  options.network.write_slab_size = options.network.write_limit = 1u << 30;
                  options.network.connection_memory_limit = (2ull << 30) + 2048;
                  options.network.memory_limit = 1u << 20;
                  options.network.connection_limit = 1;
                  options.network.idle_timeout = 0ms;
                  options.network.read_timeout = 20 * 24h;
              }),
              "");
    EXPECT_EQ(error_of([](auto& options) {
                  options.port = 0;
                  options.network.receive_buffer_count = 1;
                  options.network.receive_buffer_size = 1;
                  options.reactor.submission_entries = 4;
                  options.reactor.completion_entries = 8;
              }),
              "");
}

// 64 KiB x 32 Ki overflows an int; it is a valid, if large, setting.
TEST(ServerOptions, B19BuffersOfTwoGigabytesAreNoOverflow) {
    EXPECT_EQ(error_of([](auto& options) {
                  options.network.receive_buffer_size = 64 * 1024;
                  options.network.receive_buffer_count = 32 * 1024;
              }),
              "");
}

TEST(ServerOptions, EveryFormOfHostIsTaken) {
    for (const char* host :
         {"", "*", "0.0.0.0", "127.0.0.1", "::", "::1", "[::1]", "localhost", "unix:/run/x", "unix:@x"}) {
        EXPECT_EQ(error_of([&](auto& options) { options.host = host; }), "") << host;
    }
}

TEST(ServerOptions, ErrorsSayWhatIsWrong) {
    EXPECT_EQ(error_of([](auto& options) { options.port = 70000; }), "ServerOptions.port: 70000 is not in 0 to 65535");
    EXPECT_EQ(error_of([](auto& options) { options.network.receive_buffer_count = 1000; }),
              "ServerOptions.network.receive_buffer_count: 1000 is not a power of two");
    EXPECT_EQ(
        error_of([](auto& options) { options.host = "example.org"; }),
        "ServerOptions.host: \"example.org\" is not an address (a name must be resolved first): Invalid argument");
}

TEST(PortOptions, FieldsAreRefusedByName) {
    EXPECT_TRUE(port_error_of([](auto& options) { options.port = -1; }).starts_with("PortOptions.port: "));
    EXPECT_TRUE(port_error_of([](auto& options) { options.host = "nowhere"; }).starts_with("PortOptions.host: "));
    EXPECT_TRUE(port_error_of([](auto& options) {
                    options.descriptor = 3;
                    options.socket_name = "web";
                }).starts_with("PortOptions.socket_name: "));
    EXPECT_TRUE(port_error_of([](auto& options) { options.descriptor = -2; }).starts_with("PortOptions.descriptor: "));
    EXPECT_TRUE(port_error_of([](auto& options) { options.backlog = 0; }).starts_with("PortOptions.backlog: "));
}

}  // namespace
