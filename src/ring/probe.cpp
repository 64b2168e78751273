#include <ferrule/ring/buffer_ring.hpp>
#include <ferrule/ring/prepare.hpp>
#include <ferrule/ring/probe.hpp>
#include <ferrule/ring/ring.hpp>

#include <sys/un.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstddef>
#include <cstring>
#include <string_view>
#include <utility>

namespace ferrule::inline v0 {

namespace {

constexpr std::uint32_t probe_entries = 8;
constexpr std::uint64_t trial_timeout_ns = 1'000'000'000;

constexpr std::array<const char*, abi::operation_count> operation_names = {
    "nop",
    "readv",
    "writev",
    "fsync",
    "read_fixed",
    "write_fixed",
    "poll_add",
    "poll_remove",
    "sync_file_range",
    "send_message",
    "receive_message",
    "timeout",
    "timeout_remove",
    "accept",
    "async_cancel",
    "link_timeout",
    "connect",
    "fallocate",
    "open_at",
    "close",
    "files_update",
    "statx",
    "read",
    "write",
    "fadvise",
    "madvise",
    "send",
    "receive",
    "open_at2",
    "epoll_ctl",
    "splice",
    "provide_buffers",
    "remove_buffers",
    "tee",
    "shutdown",
    "rename_at",
    "unlink_at",
    "mkdir_at",
    "symlink_at",
    "link_at",
    "message_ring",
    "fset_xattr",
    "set_xattr",
    "fget_xattr",
    "get_xattr",
    "socket",
    "uring_command",
    "send_zero_copy",
    "send_message_zero_copy",
    "read_multishot",
    "wait_id",
    "futex_wait",
    "futex_wake",
    "futex_wait_vector",
    "fixed_descriptor_install",
    "ftruncate",
    "bind",
    "listen",
    "receive_zero_copy",
    "epoll_wait",
    "readv_fixed",
    "writev_fixed",
    "pipe",
};

/// A descriptor that is closed with its scope.
class OwnedDescriptor {
public:
    OwnedDescriptor(Kernel& kernel, int number) noexcept : kernel_(kernel), number_(number) {}
    OwnedDescriptor(const OwnedDescriptor&) = delete;
    OwnedDescriptor& operator=(const OwnedDescriptor&) = delete;
    ~OwnedDescriptor() {
        if (number_ >= 0) {
            kernel_.close(number_);
        }
    }
    int number() const noexcept { return number_; }

private:
    Kernel& kernel_;
    int number_;
};

std::expected<Ring, SetupError> small_ring(Kernel& kernel) {
    Ring::Options options;
    options.entries = probe_entries;
    return Ring::create(kernel, options);
}

/// Runs one prepared entry to its first completion; -ETIME when none comes.
template <class Prepare>
std::int32_t result_of(Ring& ring, Prepare prepare) {
    prepare(ring.entry());
    if (const int entered = ring.enter(1, trial_timeout_ns); entered < 0) {
        return entered;
    }
    const auto completion = ring.try_completion();
    return completion ? completion->result : -ETIME;
}

/// A request that no descriptor backs: a kernel that knows all of its flags gets as far as missing the descriptor.
template <class Prepare>
bool flags_known(Ring& ring, Prepare prepare) {
    return result_of(ring, prepare) == -EBADF;
}

/// The kernel knows the registration: it looked for the thing and there is none.
template <class Value>
bool found_nothing(const std::expected<Value, std::error_code>& result) {
    return !result && result.error() == std::errc::no_such_file_or_directory;
}

bool known_setup_flag(Kernel& kernel, std::uint32_t flag) {
    abi::Parameters parameters{};
    parameters.flags = flag;
    const OwnedDescriptor ring(kernel, kernel.io_uring_setup(1, &parameters));
    return ring.number() >= 0;
}

bool message_arrives(Ring& from, Ring& to, std::uint32_t completion_flags) {
    constexpr std::uint64_t data = 0x5eed;
    const std::int32_t sent = result_of(from, [&](abi::SubmissionEntry& entry) {
        if (completion_flags == 0) {
            prepare::message_ring(entry, to.descriptor(), 7, data, 0);
        } else {
            prepare::message_ring_flags(entry, to.descriptor(), 7, data, 0, completion_flags);
        }
    });
    if (sent < 0 || to.enter(1, trial_timeout_ns) < 0) {
        return false;
    }
    const auto received = to.try_completion();
    return received && received->user_data == data && received->result == 7 && received->flags == completion_flags;
}

bool message_arrives_without_ring(Kernel& kernel, Ring& to) {
    abi::SubmissionEntry entry{};
    prepare::message_ring(entry, to.descriptor(), 7, 0x5eed, 0);
    if (kernel.io_uring_register(-1, abi::register_send_message_ring, &entry, 1) < 0 ||
        to.enter(1, trial_timeout_ns) < 0) {
        return false;
    }
    const auto received = to.try_completion();
    return received && received->user_data == 0x5eed;
}

/// A datagram socket that is connected to itself.
int loopback_socket(Kernel& kernel) {
    const int fd = kernel.socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    if (fd < 0) {
        return fd;
    }
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    // An address of the family alone lets the kernel choose an abstract name: unix(7), autobind.
    socklen_t length = sizeof(address.sun_family);
    int result = kernel.bind(fd, reinterpret_cast<const sockaddr*>(&address), length);
    if (result == 0) {
        length = sizeof(address);
        result = kernel.socket_name(fd, reinterpret_cast<sockaddr*>(&address), &length);
    }
    if (result == 0) {
        result = kernel.connect(fd, reinterpret_cast<const sockaddr*>(&address), length);
    }
    if (result < 0) {
        kernel.close(fd);
        return result;
    }
    return fd;
}

/// Two messages into one incremental buffer by one multishot receive. Early kernels got corners of this wrong, so it is
/// tried and not deduced from a registration that succeeds.
bool incremental_buffers_work(Kernel& kernel, Ring& ring) {
    auto buffers =
        BufferRing::create(ring, {.group = BufferRing::first_group, .count = 2, .size = 64, .incremental = true});
    const OwnedDescriptor loopback(kernel, loopback_socket(kernel));
    if (!buffers || loopback.number() < 0) {
        return false;
    }
    constexpr std::array<std::string_view, 2> messages = {"first", "then"};
    prepare::receive_multishot(ring.entry(), loopback.number(), buffers->group(), 0);
    bool right = true;
    const std::byte* expected = nullptr;
    for (const std::string_view message : messages) {
        if (kernel.write(loopback.number(), message.data(), message.size()) < 0 ||
            ring.enter(1, trial_timeout_ns) < 0) {
            return false;
        }
        const auto completion = ring.try_completion();
        constexpr std::uint32_t wanted = abi::completion_buffer | abi::completion_buffer_more | abi::completion_more;
        if (!completion || (completion->flags & wanted) != wanted) {
            return false;
        }
        const BufferRing::Slice slice = buffers->take(*completion);
        right = right && slice.length == message.size() &&
                std::memcmp(slice.data, message.data(), message.size()) == 0 &&
                (expected == nullptr || slice.data == expected);
        expected = slice.data + slice.length;
        buffers->give_back(slice.buffer);
    }
    // The receive ends before its buffers do.
    prepare::cancel(ring.entry(), 0, abi::cancel_any | abi::cancel_all);
    return ring.enter(2, trial_timeout_ns) >= 0 && right;
}

bool resize_works(Kernel& kernel) {
    auto ring = small_ring(kernel);
    if (!ring) {
        return false;
    }
    abi::Parameters parameters{};
    parameters.sq_entries = ring->entries();
    parameters.cq_entries = ring->completion_entries() * 2;
    parameters.flags = abi::setup_completion_size;
    // The ring's mappings are stale after this; it is only closed.
    return ring->register_raw(abi::register_resize_rings, &parameters, 1).has_value();
}

bool polling_thread_works(Kernel& kernel) {
    Ring::Options options;
    options.entries = probe_entries;
    options.submission_poll_idle_ms = 1;
    auto ring = Ring::create(kernel, options);
    return ring && ring->polled() && result_of(*ring, [](abi::SubmissionEntry& entry) { prepare::nop(entry); }) == 0;
}

bool busy_polling_works(Kernel& kernel) {
    auto ring = small_ring(kernel);
    return ring && ring->register_busy_poll(1, false).has_value();
}

bool socket_command_works(Kernel& kernel, Ring& ring) {
    // An Internet socket: up to 6.18 the kernel refuses every command to a Unix socket, because that has no ioctl.
    const OwnedDescriptor socket(kernel, kernel.socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
    int type = 0;
    const std::int32_t result = result_of(ring, [&](abi::SubmissionEntry& entry) {
        prepare::socket_get_option(entry, socket.number(), SOL_SOCKET, SO_TYPE, &type, sizeof(type));
    });
    return result == sizeof(type) && type == SOCK_STREAM;
}

void append_line(std::string& table, bool present, std::string_view name, std::string_view since,
                 std::string_view without) {
    constexpr std::size_t name_width = 28;
    constexpr std::size_t since_width = 6;
    table += present ? "  yes  " : "  no   ";
    table += name;
    table.append(name.size() < name_width ? name_width - name.size() : 1, ' ');
    table += since;
    if (!present && !without.empty()) {
        table.append(since.size() < since_width ? since_width - since.size() : 1, ' ');
        table += without;
    }
    table += '\n';
}

}  // namespace

const char* name_of(abi::Operation operation) noexcept {
    const auto number = static_cast<std::size_t>(operation);
    return number < operation_names.size() ? operation_names[number] : nullptr;
}

std::expected<Capabilities, SetupError> probe(Kernel& kernel) {
    auto made = small_ring(kernel);
    if (!made) {
        return std::unexpected(std::move(made.error()));
    }
    Ring& ring = *made;
    Capabilities found;
    found.features = ring.features();

    abi::Probe operations{};
    if (ring.register_raw(abi::register_probe, &operations, std::size(operations.ops))) {
        found.last_operation = operations.last_op;
        for (std::size_t index = 0; index != operations.ops_len; ++index) {
            const abi::ProbeOperation& operation = operations.ops[index];
            found.operations.set(operation.op, (operation.flags & abi::probe_operation_supported) != 0);
        }
    }

    found.no_submission_array = known_setup_flag(kernel, abi::setup_no_submission_array);
    found.no_iowait = (found.features & abi::feature_no_iowait) != 0;
    found.min_wait = (found.features & abi::feature_min_timeout) != 0;
    found.bundles = (found.features & abi::feature_bundle) != 0;
    found.registered_ring_descriptor = ring.uses_registered_descriptor();
    found.cancel_sync = found_nothing(ring.cancel_sync(1, -1, 0, 0));
    found.cancel_by_operation = result_of(ring, [](abi::SubmissionEntry& entry) {
                                    prepare::cancel(entry, 1, abi::cancel_user_data);
                                }) == -ENOENT;
    // Without a time to wait for, a kernel that knows the flag fails on the address.
    found.timeout_multishot = result_of(ring, [](abi::SubmissionEntry& entry) {
                                  prepare::timeout(entry, nullptr, 0, abi::timeout_multishot);
                              }) == -EFAULT;
    found.accept_flags = flags_known(ring, [](abi::SubmissionEntry& entry) {
        prepare::accept(entry, -1, nullptr, nullptr, 0);
        entry.ioprio = abi::accept_poll_first;
    });
    found.receive_multishot = flags_known(
        ring, [](abi::SubmissionEntry& entry) { prepare::receive_multishot(entry, -1, BufferRing::first_group, 0); });
    found.receive_multishot_length = flags_known(ring, [](abi::SubmissionEntry& entry) {
        prepare::receive_multishot(entry, -1, BufferRing::first_group, 0);
        entry.len = 1;
    });
    found.socket_commands = socket_command_works(kernel, ring);
    found.buffer_ring =
        BufferRing::create(ring, {.group = BufferRing::first_group, .count = 1, .size = 64, .incremental = false})
            .has_value();
    abi::BufferRingStatus status{};
    status.buf_group = BufferRing::first_group + 1;
    found.buffer_ring_status = found_nothing(ring.register_raw(abi::register_buffer_ring_status, &status, 1));
    if (auto target = small_ring(kernel); target) {
        found.message_ring = message_arrives(ring, *target, 0);
        found.message_ring_flags = message_arrives(ring, *target, 1u << 16);
        found.message_without_ring = message_arrives_without_ring(kernel, *target);
    }
    found.resize_rings = resize_works(kernel);
    found.submission_poll = polling_thread_works(kernel);
    found.napi_busy_poll = busy_polling_works(kernel);
    found.worker_limits = ring.limit_workers(0, 0).has_value();
    // Last: a receive that a faulty kernel leaves behind ends with this ring.
    found.incremental_buffers = incremental_buffers_work(kernel, ring);
    return found;
}

std::string Capabilities::describe() const {
    std::string table = "io_uring: " + std::to_string(operations.count()) + " operations, the last is " +
                        std::to_string(last_operation);
    if (const char* const name = name_of(static_cast<abi::Operation>(last_operation)); name != nullptr) {
        table += std::string(" (") + name + ")";
    }
    table += "\n  here   capability                  since Linux\n";
    append_line(table, receive_multishot, "multishot receive", "6.0", "needed");
    append_line(table, buffer_ring, "buffer rings", "5.19", "needed");
    append_line(table, message_ring, "messages between rings", "5.18", "eventfd instead");
    append_line(table, cancel_sync, "synchronous cancel", "6.0", "needed");
    append_line(table, registered_ring_descriptor, "registered ring descriptor", "5.18", "the plain one instead");
    append_line(table, submission_poll, "a thread that takes entries", "5.11", "the reactor submits itself");
    append_line(table, worker_limits, "bounds for worker threads", "5.15", "the kernel's own bounds");
    append_line(table, message_ring_flags, "message flags", "6.3", "");
    append_line(table, timeout_multishot, "multishot timeout", "6.4", "");
    append_line(table, no_submission_array, "no submission array", "6.6", "one more indirection");
    append_line(table, cancel_by_operation, "cancel by operation", "6.6", "cancel by user data instead");
    append_line(table, socket_commands, "socket commands", "6.7", "system calls instead");
    append_line(table, supports(abi::Operation::read_multishot), "multishot read", "6.7", "one read at a time");
    append_line(table, supports(abi::Operation::futex_wait), "futexes", "6.7", "");
    append_line(table, buffer_ring_status, "buffer ring status", "6.8", "");
    append_line(table, napi_busy_poll, "busy polling of cards", "6.9", "interrupts only");
    append_line(table, bundles, "bundles", "6.10", "a completion per buffer");
    append_line(table, accept_flags, "accept flags", "6.10", "plain accept");
    append_line(table, supports(abi::Operation::bind), "bind and listen", "6.11", "system calls instead");
    append_line(table, incremental_buffers, "incremental buffers", "6.12", "a buffer per completion");
    append_line(table, min_wait, "minimum wait", "6.12", "no batching of waits");
    append_line(table, message_without_ring, "messages from no ring", "6.13", "eventfd instead");
    append_line(table, resize_rings, "resizable queues", "6.13", "sizes are fixed");
    append_line(table, no_iowait, "no I/O wait accounting", "6.15", "an idle server may show as I/O wait");
    append_line(table, supports(abi::Operation::pipe), "pipe", "6.16", "system call instead");
    append_line(table, receive_multishot_length, "multishot receive length", "6.18", "");
    return table;
}

}  // namespace ferrule::inline v0
