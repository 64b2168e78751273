#include <ferrule/server/options.hpp>

#include <algorithm>
#include <bit>
#include <concepts>
#include <utility>

namespace ferrule::inline v0 {
namespace {

constexpr std::int32_t port_max = 65535;
constexpr std::uint32_t reactors_max = 1024;
constexpr std::uint32_t unix_mode_max = 0777;
constexpr std::size_t socket_name_max = 255;
// io_uring_setup(2): what IORING_SETUP_CLAMP cuts down to.
constexpr std::uint32_t submission_entries_max = 32768;
constexpr std::uint32_t completion_entries_max = 65536;
// io_uring_register_buf_ring(3): buffer numbers have sixteen bits, and one bit is not for us.
constexpr std::uint32_t receive_buffers_max = 32768;
constexpr std::uint32_t receive_buffer_size_max = 1u << 30;
constexpr std::uint32_t connection_ring_bytes_max = 1u << 29;
// tcp(7) keeps the time of TCP_DEFER_ACCEPT as a number of retransmissions; longer waits than this all mean the same.
constexpr std::uint32_t defer_accept_seconds_max = 3600;
constexpr std::uint32_t offload_threads_max = 1024;
constexpr std::uint32_t megabyte = 1u << 20;
// A write slab doubles up to the limit: its size is kept in 32 bits.
constexpr std::uint32_t write_limit_max = 1u << 30;
constexpr std::uint32_t waiting_limit_max = 1u << 20;
// The table of client addresses counts in 24 bits, and threads that count at the same time may go beyond a limit.
constexpr std::uint32_t address_connections_max = 1u << 23;
constexpr std::uint32_t address_entries_max = 1u << 24;
// A rate is kept as nanoseconds between two connections.
constexpr std::uint32_t accept_rate_max = 1'000'000;
// Connections keep times in ticks of 32 bits, which wrap after 52 days: half of that is told apart safely.
constexpr std::chrono::milliseconds timeout_max = std::chrono::hours(24) * 20;
constexpr std::chrono::microseconds spin_max = std::chrono::seconds(1);
constexpr std::chrono::milliseconds submission_poll_max = std::chrono::hours(1);
// PID_MAX_LIMIT of 64-bit systems.
constexpr std::uint32_t workers_max = 1u << 22;
// NR_CPUS of the largest configuration, less one.
constexpr int cpu_max = 8191;

// Names the field in the error: `ServerOptions.network.receive_limit`.
class Checker {
public:
    explicit Checker(std::string prefix) : prefix_(std::move(prefix)) {}

    Checker inside(const char* member) const { return Checker(prefix_ + '.' + member); }

    [[noreturn]] void refuse(const char* field, const std::string& reason) const {
        throw ConfigurationError(prefix_ + '.' + field, reason);
    }

    template <std::integral Number>
    void range(const char* field, Number value, Number least, Number most) const {
        if (value >= least && value <= most) return;
        refuse(field, std::to_string(value) + " is not in " + std::to_string(least) + " to " + std::to_string(most));
    }

    void at_least_one(const char* field, std::uint64_t value) const {
        if (value == 0) refuse(field, "0 leaves nothing to work with: at least 1");
    }

    template <class Period>
    void duration(const char* field, std::chrono::duration<std::int64_t, Period> value,
                  std::chrono::duration<std::int64_t, Period> most) const {
        if (value.count() >= 0 && value <= most) return;
        refuse(field, std::to_string(value.count()) + " is not in 0 to " + std::to_string(most.count()));
    }

private:
    std::string prefix_;
};

void check_proxy(const Checker& check, const ProxyOptions& options) {
    if (options.protocol > ProxyProtocol::required) check.refuse("protocol", "not one of ProxyProtocol");
    check.duration("timeout", options.timeout, timeout_max);
    for (const AddressPrefix& source : options.sources) {
        if (source.family() == AddressFamily::none) check.refuse("sources", "one of them is no address at all");
    }
}

void check_limits(const Checker& check, const AddressLimits& limits) {
    check.range("connections", limits.connections, 0u, address_connections_max);
    check.range("ipv4_bits", limits.ipv4_bits, 1u, 32u);
    check.range("ipv6_bits", limits.ipv6_bits, 1u, 128u);
    check.range("table_entries", limits.table_entries, 1u, address_entries_max);
}

template <class Options>
void check_port(const Checker& check, const Options& options) {
    if (options.host.find('\0') != std::string::npos) check.refuse("host", "it has a zero byte inside");
    check.range("port", options.port, 0, port_max);
    if (const auto address = Address::parse(options.host, 0); !address) {
        check.refuse("host", '"' + options.host +
                                 "\" is not an address (a name must be resolved first): " + address.error().message());
    }
    check.range("backlog", options.backlog, 1, std::numeric_limits<std::int32_t>::max());
    check.range("defer_accept_seconds", options.defer_accept_seconds, 1u, defer_accept_seconds_max);
    if (options.unix_mode > unix_mode_max) check.refuse("unix_mode", "it has more than the permission bits 0777");
    if (options.accept_mode > AcceptMode::hand_over_least_loaded) check.refuse("accept_mode", "not one of AcceptMode");
    // systemd.socket(5), FileDescriptorName=.
    if (options.socket_name.size() > socket_name_max)
        check.refuse("socket_name", "it has more than " + std::to_string(socket_name_max) + " characters");
    const auto not_allowed = [](unsigned char character) {
        return character < ' ' || character >= 0x7f || character == ':';
    };
    if (std::ranges::any_of(options.socket_name, not_allowed))
        check.refuse("socket_name", "it has a colon, or a character that is not printable ASCII");
    check_proxy(check.inside("proxy"), options.proxy);
}

template <class Number>
void check_most(const Checker& check, const char* field, const char* of, Number value, Number least, Number most) {
    if (value == 0) return;
    check.range(field, value, Number{1}, most);
    if (value < least)
        check.refuse(field, std::to_string(value) + " is less than " + of + ", " + std::to_string(least));
}

// What trades one thing for another.
void check_tuning(const Checker& check, const ReactorOptions& options, bool placed) {
    check.duration("submission_poll", std::chrono::duration<std::int64_t, std::milli>(options.submission_poll),
                   std::chrono::duration<std::int64_t, std::milli>(submission_poll_max));
    const bool polls = options.submission_poll.count() > 0;
    if (options.submission_poll_cpu < -1) {
        check.refuse("submission_poll_cpu",
                     std::to_string(options.submission_poll_cpu) + " is not a CPU; -1 means any");
    }
    if (options.submission_poll_cpu >= 0 && !polls)
        check.refuse("submission_poll_cpu", "it is set, but submission_poll is 0: there is no thread to be there");
    check.duration("napi_busy_poll", std::chrono::duration<std::int64_t, std::micro>(options.napi_busy_poll),
                   std::chrono::duration<std::int64_t, std::micro>(spin_max));
    if (options.napi_prefer_busy_poll && options.napi_busy_poll.count() == 0)
        check.refuse("napi_prefer_busy_poll", "it is set, but napi_busy_poll is 0: nothing is polled");
    check.duration("min_wait", std::chrono::duration<std::int64_t, std::micro>(options.min_wait),
                   std::chrono::duration<std::int64_t, std::micro>(spin_max));
    check.range("min_wait_completions", options.min_wait_completions, 1u, completion_entries_max);
    check_most(check, "submission_entries_max", "submission_entries", options.submission_entries_max,
               options.submission_entries, submission_entries_max);
    const std::uint32_t completions =
        options.completion_entries != 0 ? options.completion_entries : options.submission_entries;
    check_most(check, "completion_entries_max",
               options.completion_entries != 0 ? "completion_entries" : "submission_entries",
               options.completion_entries_max, completions, completion_entries_max);
    for (const auto& [field, value] : {std::pair{"submission_entries_max", options.submission_entries_max},
                                       std::pair{"completion_entries_max", options.completion_entries_max}}) {
        if (polls && value != 0) {
            check.refuse(field,
                         "it is set, and so is submission_poll: the kernel resizes only queues that no thread of "
                         "its own works at");
        }
    }
    check.range("bounded_workers", options.bounded_workers, 0u, workers_max);
    check.range("unbounded_workers", options.unbounded_workers, 0u, workers_max);
    if (options.local_memory && !placed) {
        check.refuse("local_memory",
                     "it is set, but no CPU is: set cpu, ServerOptions.pin_reactors or "
                     "ServerOptions.cpus");
    }
}

void check_cpus(const Checker& check, const char* field, const std::vector<int>& cpus) {
    for (const int cpu : cpus) {
        if (cpu < 0 || cpu > cpu_max)
            check.refuse(field, std::to_string(cpu) + " is not in 0 to " + std::to_string(cpu_max));
    }
}

void check_reactor(const Checker& check, const ReactorOptions& options, bool pinned, bool placed) {
    check.range("submission_entries", options.submission_entries, 1u, submission_entries_max);
    check.range("completion_entries", options.completion_entries, 0u, completion_entries_max);
    if (options.completion_entries != 0 && options.completion_entries < options.submission_entries) {
        check.refuse("completion_entries", std::to_string(options.completion_entries) +
                                               " is less than submission_entries, " +
                                               std::to_string(options.submission_entries));
    }
    check.at_least_one("operation_limit", options.operation_limit);
    check.at_least_one("mailbox_limit", options.mailbox_limit);
    check.at_least_one("inline_budget", options.inline_budget);
    check.duration("spin", std::chrono::duration<std::int64_t, std::micro>(options.spin),
                   std::chrono::duration<std::int64_t, std::micro>(spin_max));
    check.range("offload_threads", options.offload_threads, 1u, offload_threads_max);
    check.at_least_one("offload_limit", options.offload_limit);
    if (options.cpu < -1) check.refuse("cpu", std::to_string(options.cpu) + " is not a CPU; -1 means any");
    if (options.cpu >= 0 && pinned)
        check.refuse("cpu", "it is set, and so is ServerOptions.pin_reactors: only one of them can be obeyed");
    check_tuning(check, options, placed);
}

void check_network(const Checker& check, const NetworkOptions& options) {
    check.range("receive_buffer_count", options.receive_buffer_count, 1u, receive_buffers_max);
    if (!std::has_single_bit(options.receive_buffer_count)) {
        check.refuse("receive_buffer_count", std::to_string(options.receive_buffer_count) + " is not a power of two");
    }
    check.range("receive_buffer_size", options.receive_buffer_size, 1u, receive_buffer_size_max);
    if (options.buffer_mode > BufferMode::per_connection_incremental)
        check.refuse("buffer_mode", "not one of BufferMode");
    check.range("connection_buffer_count", options.connection_buffer_count, 1u, receive_buffers_max);
    if (!std::has_single_bit(options.connection_buffer_count)) {
        check.refuse("connection_buffer_count",
                     std::to_string(options.connection_buffer_count) + " is not a power of two");
    }
    check.range("connection_buffer_size", options.connection_buffer_size, 1u,
                connection_ring_bytes_max / options.connection_buffer_count);
    check.at_least_one("receive_lease_limit", options.receive_lease_limit);
    check.at_least_one("receive_limit", options.receive_limit);
    check.range("write_slab_size", options.write_slab_size, 1u, write_limit_max);
    check.range("write_limit", options.write_limit, 1u, write_limit_max);
    if (options.write_overflow > WriteOverflow::back_pressure)
        check.refuse("write_overflow", "not one of WriteOverflow");
    check.range("file_copy_limit", options.file_copy_limit, 0u, write_limit_max);
    if (options.write_slab_size > options.write_limit) {
        check.refuse("write_slab_size", std::to_string(options.write_slab_size) + " is more than write_limit, " +
                                            std::to_string(options.write_limit));
    }
    // The block of a first slab always has its place in the account of a connection, and something must come in.
    if (const std::uint64_t least =
            SlabPool::block_bytes(SlabPool::class_of(options.write_slab_size + sizeof(WriteSlab))) +
            options.receive_buffer_size;
        options.connection_memory_limit < least) {
        check.refuse("connection_memory_limit", std::to_string(options.connection_memory_limit) +
                                                    " has no room for one block of written bytes " +
                                                    "and one received buffer, " + std::to_string(least));
    }
    if (options.memory_limit < megabyte)
        check.refuse("memory_limit", std::to_string(options.memory_limit) + " is less than 1048576, one MiB");
    check.at_least_one("connection_limit", options.connection_limit);
    check.range("waiting_limit", options.waiting_limit, 0u, waiting_limit_max);
    check.duration("idle_timeout", options.idle_timeout, timeout_max);
    check.duration("read_timeout", options.read_timeout, timeout_max);
    check.duration("write_timeout", options.write_timeout, timeout_max);
    check.duration("linger_timeout", options.linger_timeout, timeout_max);
    check.duration("drain_grace", options.drain_grace, timeout_max);
    if (options.linger > Linger::always) check.refuse("linger", "not one of Linger");
    if (options.huge_pages > HugePages::reserved) check.refuse("huge_pages", "not one of HugePages");
    check.duration("first_byte_timeout", options.first_byte_timeout, timeout_max);
    check.duration("rate_window", options.rate_window, timeout_max);
    if (options.rate_window.count() == 0 && (options.receive_rate_min != 0 || options.send_rate_min != 0))
        check.refuse("rate_window", "0 is no time to take an average over");
    check_limits(check.inside("address_limits"), options.address_limits);
    check.range("accept_rate", options.accept_rate, 0u, accept_rate_max);
    check.range("accept_burst", options.accept_burst, 1u, accept_rate_max);
    if (options.accept_excess > Excess::refuse) check.refuse("accept_excess", "not one of Excess");
    check.duration("overload_latency", options.overload_latency, timeout_max);
    check.duration("overload_interval", options.overload_interval, timeout_max);
    if (options.overload_interval.count() == 0 && options.overload_latency.count() != 0)
        check.refuse("overload_interval", "0 is no time in which there could be too many slow passes");
    if (options.overload_excess > Excess::refuse) check.refuse("overload_excess", "not one of Excess");
}

}  // namespace

void validate(const ServerOptions& options) {
    const Checker check("ServerOptions");
    check_port(check, options);
    check.range("reactors", options.reactors, 0u, reactors_max);
    check.duration("drain_timeout", options.drain_timeout, timeout_max);
    check.duration("stall_threshold", options.stall_threshold, timeout_max);
    // SIGKILL and SIGSTOP cannot be handled; with others it is known when they are asked for.
    check.range("stall_signal", options.stall_signal, 1, _NSIG - 1);
    if (options.stall_signal == SIGKILL || options.stall_signal == SIGSTOP)
        check.refuse("stall_signal", "no handler can have SIGKILL or SIGSTOP");
    check_cpus(check, "cpus", options.cpus);
    check_cpus(check, "submission_poll_cpus", options.submission_poll_cpus);
    if (!options.cpus.empty() && options.pin_reactors)
        check.refuse("cpus", "it is set, and so is pin_reactors: only one of them can be obeyed");
    if (!options.cpus.empty() && options.reactor.cpu >= 0)
        check.refuse("cpus", "it is set, and so is ServerOptions.reactor.cpu: only one of them can be obeyed");
    if (!options.submission_poll_cpus.empty() && options.reactor.submission_poll.count() == 0) {
        check.refuse("submission_poll_cpus",
                     "it is set, but ServerOptions.reactor.submission_poll is 0: there are no threads to be there");
    }
    if (!options.submission_poll_cpus.empty() && options.reactor.submission_poll_cpu >= 0) {
        check.refuse("submission_poll_cpus",
                     "it is set, and so is ServerOptions.reactor.submission_poll_cpu: only one "
                     "of them can be obeyed");
    }
    if (!options.restart_path.empty()) {
        const auto address = Address::parse("unix:" + options.restart_path, 0);
        if (!address || !address->unix_path() || options.restart_path.find('\0') != std::string::npos)
            check.refuse("restart_path", "it is not a path that a Unix socket can have");
    }
    if (options.restart_timeout < std::chrono::milliseconds(1) || options.restart_timeout > timeout_max) {
        check.refuse("restart_timeout", std::to_string(options.restart_timeout.count()) + " is not in 1 to " +
                                            std::to_string(timeout_max.count()));
    }
    check_reactor(check.inside("reactor"), options.reactor, options.pin_reactors,
                  options.pin_reactors || !options.cpus.empty() || options.reactor.cpu >= 0);
    check_network(check.inside("network"), options.network);
}

void validate(const PortOptions& options) {
    const Checker check("PortOptions");
    if (options.descriptor < -1)
        check.refuse("descriptor", std::to_string(options.descriptor) + " is not a descriptor; -1 means none");
    check_port(check, options);
    if (options.descriptor >= 0 && !options.socket_name.empty())
        check.refuse("socket_name", "it is set, and so is descriptor: only one of them can be obeyed");
}

}  // namespace ferrule::inline v0
