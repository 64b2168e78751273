#pragma once

#include <ferrule/ring/abi.hpp>

#include <sys/socket.h>

#include <bit>
#include <cstddef>
#include <cstdint>

struct epoll_event;
struct iovec;
struct open_how;
struct statx;

/// Fills submission entries: one function per operation.
///
/// Each takes a zeroed entry (as Ring::entry gives it) and sets what its operation needs. The caller sets `user_data`,
/// and adds entry options with `entry.flags |= abi::entry_...` (functions of buffer select set abi::entry_buffer_select
/// themselves), `entry.ioprio |= ...` and `entry.personality`. Memory that an argument points to: names, addresses,
/// vectors, message headers and timespecs only until the entry is consumed; data and everything that the kernel writes
/// to until the last completion. A direct descriptor's slot may be abi::file_index_allocate. Operations newer than
/// Linux 6.1 name their version; older kernels answer -EINVAL. Source: liburing's manual pages io_uring_prep_*(3).
namespace ferrule::inline v0::prepare {

namespace detail {

inline std::uint64_t address_of(const volatile void* pointer) noexcept {
    return reinterpret_cast<std::uintptr_t>(pointer);
}

inline void set(abi::SubmissionEntry& entry, abi::Operation operation, int fd, std::uint64_t address,
                std::uint32_t length, std::uint64_t offset) noexcept {
    entry.opcode = operation;
    entry.fd = fd;
    entry.off = offset;
    entry.addr = address;
    entry.len = length;
}

/// The kernel takes slot + 1, where 0 means no direct descriptor.
inline void set_slot(abi::SubmissionEntry& entry, std::uint32_t slot) noexcept {
    entry.file_index = slot == abi::file_index_allocate ? slot : slot + 1;
}

/// The kernel reads the mask as two 16-bit words, the low one first.
inline std::uint32_t poll_mask(std::uint32_t mask) noexcept {
    return std::endian::native == std::endian::big ? std::rotl(mask, 16) : mask;
}

}  // namespace detail

// ---- nothing, time, cancelling ----

/// Completes with 0.
inline void nop(abi::SubmissionEntry& entry) noexcept {
    detail::set(entry, abi::Operation::nop, -1, 0, 0, 0);
}

/// Completes with -ETIME when the time has passed, or with 0 after `count` other completions (0: time only).
/// `flags`: abi::timeout_absolute, abi::timeout_multishot (6.4) and others.
inline void timeout(abi::SubmissionEntry& entry, const abi::Timespec* time, std::uint32_t count,
                    std::uint32_t flags) noexcept {
    detail::set(entry, abi::Operation::timeout, -1, detail::address_of(time), 1, count);
    entry.timeout_flags = flags;
}

/// Ends a timeout by its user_data: -ENOENT when there is none.
inline void timeout_remove(abi::SubmissionEntry& entry, std::uint64_t user_data, std::uint32_t flags) noexcept {
    detail::set(entry, abi::Operation::timeout_remove, -1, user_data, 0, 0);
    entry.timeout_flags = flags;
}

/// Gives a timeout a new time. `flags`: abi::timeout_absolute.
inline void timeout_update(abi::SubmissionEntry& entry, const abi::Timespec* time, std::uint64_t user_data,
                           std::uint32_t flags) noexcept {
    detail::set(entry, abi::Operation::timeout_remove, -1, user_data, 0, detail::address_of(time));
    entry.timeout_flags = flags | abi::timeout_update;
}

/// Ends the entry before it, which has abi::entry_link, when the time has passed.
inline void link_timeout(abi::SubmissionEntry& entry, const abi::Timespec* time, std::uint32_t flags) noexcept {
    detail::set(entry, abi::Operation::link_timeout, -1, detail::address_of(time), 1, 0);
    entry.timeout_flags = flags;
}

/// Cancels by user_data. Completes with 0 (or how many, with abi::cancel_all), -ENOENT, or -EALREADY.
inline void cancel(abi::SubmissionEntry& entry, std::uint64_t user_data, std::uint32_t flags) noexcept {
    detail::set(entry, abi::Operation::async_cancel, -1, user_data, 0, 0);
    entry.cancel_flags = flags;
}

/// Cancels by descriptor.
inline void cancel_fd(abi::SubmissionEntry& entry, int fd, std::uint32_t flags) noexcept {
    detail::set(entry, abi::Operation::async_cancel, fd, 0, 0, 0);
    entry.cancel_flags = flags | abi::cancel_descriptor;
}

// ---- readiness ----

/// poll(2) once; `mask`: POLLIN and its kin. Completes with the events.
inline void poll_add(abi::SubmissionEntry& entry, int fd, std::uint32_t mask) noexcept {
    detail::set(entry, abi::Operation::poll_add, fd, 0, 0, 0);
    entry.poll32_events = detail::poll_mask(mask);
}

/// As poll_add, until a completion without abi::completion_more.
inline void poll_add_multishot(abi::SubmissionEntry& entry, int fd, std::uint32_t mask) noexcept {
    poll_add(entry, fd, mask);
    entry.len = abi::poll_add_multishot;
}

/// Ends a poll by its user_data: -ENOENT when there is none.
inline void poll_remove(abi::SubmissionEntry& entry, std::uint64_t user_data) noexcept {
    detail::set(entry, abi::Operation::poll_remove, -1, user_data, 0, 0);
}

/// `flags`: abi::poll_update_events, abi::poll_update_user_data, abi::poll_add_multishot.
inline void poll_update(abi::SubmissionEntry& entry, std::uint64_t old_user_data, std::uint64_t new_user_data,
                        std::uint32_t mask, std::uint32_t flags) noexcept {
    detail::set(entry, abi::Operation::poll_remove, -1, old_user_data, flags, new_user_data);
    entry.poll32_events = detail::poll_mask(mask);
}

/// epoll_ctl(2).
inline void epoll_ctl(abi::SubmissionEntry& entry, int epoll_fd, int fd, int operation, epoll_event* event) noexcept {
    detail::set(entry, abi::Operation::epoll_ctl, epoll_fd, detail::address_of(event),
                static_cast<std::uint32_t>(operation), static_cast<std::uint32_t>(fd));
}

/// epoll_wait(2) without a timeout (6.15).
inline void epoll_wait(abi::SubmissionEntry& entry, int epoll_fd, epoll_event* events, std::uint32_t count) noexcept {
    detail::set(entry, abi::Operation::epoll_wait, epoll_fd, detail::address_of(events), count, 0);
}

// ---- sockets ----

/// socket(2); `flags` must be 0.
inline void socket(abi::SubmissionEntry& entry, int domain, int type, int protocol, std::uint32_t flags) noexcept {
    detail::set(entry, abi::Operation::socket, domain, 0, static_cast<std::uint32_t>(protocol),
                static_cast<std::uint32_t>(type));
    entry.rw_flags = flags;
}

/// As socket, into a slot of the fixed files.
inline void socket_direct(abi::SubmissionEntry& entry, int domain, int type, int protocol, std::uint32_t slot,
                          std::uint32_t flags) noexcept {
    socket(entry, domain, type, protocol, flags);
    detail::set_slot(entry, slot);
}

/// bind(2) (6.11).
inline void bind(abi::SubmissionEntry& entry, int fd, const sockaddr* address, socklen_t length) noexcept {
    detail::set(entry, abi::Operation::bind, fd, detail::address_of(address), 0, length);
}

/// listen(2) (6.11).
inline void listen(abi::SubmissionEntry& entry, int fd, int backlog) noexcept {
    detail::set(entry, abi::Operation::listen, fd, 0, static_cast<std::uint32_t>(backlog), 0);
}

/// accept4(2); `flags`: SOCK_CLOEXEC, SOCK_NONBLOCK. `address` and `length` may be null.
inline void accept(abi::SubmissionEntry& entry, int fd, sockaddr* address, socklen_t* length, int flags) noexcept {
    detail::set(entry, abi::Operation::accept, fd, detail::address_of(address), 0, detail::address_of(length));
    entry.accept_flags = static_cast<std::uint32_t>(flags);
}

/// As accept, until a completion without abi::completion_more. The address of each is lost but for the last: pass null.
inline void accept_multishot(abi::SubmissionEntry& entry, int fd, sockaddr* address, socklen_t* length,
                             int flags) noexcept {
    accept(entry, fd, address, length, flags);
    entry.ioprio = abi::accept_multishot;
}

/// As accept, into a slot of the fixed files.
inline void accept_direct(abi::SubmissionEntry& entry, int fd, sockaddr* address, socklen_t* length, int flags,
                          std::uint32_t slot) noexcept {
    accept(entry, fd, address, length, flags);
    detail::set_slot(entry, slot);
}

/// The kernel allocates the slots.
inline void accept_multishot_direct(abi::SubmissionEntry& entry, int fd, sockaddr* address, socklen_t* length,
                                    int flags) noexcept {
    accept_multishot(entry, fd, address, length, flags);
    entry.file_index = abi::file_index_allocate;
}

/// connect(2).
inline void connect(abi::SubmissionEntry& entry, int fd, const sockaddr* address, socklen_t length) noexcept {
    detail::set(entry, abi::Operation::connect, fd, detail::address_of(address), 0, length);
}

/// shutdown(2): `how` is SHUT_RD, SHUT_WR or SHUT_RDWR.
inline void shutdown(abi::SubmissionEntry& entry, int fd, int how) noexcept {
    detail::set(entry, abi::Operation::shutdown, fd, 0, static_cast<std::uint32_t>(how), 0);
}

/// send(2).
inline void send(abi::SubmissionEntry& entry, int fd, const void* data, std::uint32_t length,
                 int message_flags) noexcept {
    detail::set(entry, abi::Operation::send, fd, detail::address_of(data), length, 0);
    entry.msg_flags = static_cast<std::uint32_t>(message_flags);
}

/// A send with a destination, for unconnected sockets.
inline void send_to(abi::SubmissionEntry& entry, int fd, const void* data, std::uint32_t length, int message_flags,
                    const sockaddr* address, std::uint16_t address_length) noexcept {
    send(entry, fd, data, length, message_flags);
    entry.addr2 = detail::address_of(address);
    entry.addr_len = address_length;
}

/// Sends from the buffers of a group, one completion for all (6.10).
inline void send_bundle(abi::SubmissionEntry& entry, int fd, std::uint16_t group, std::uint32_t length,
                        int message_flags) noexcept {
    send(entry, fd, nullptr, length, message_flags);
    entry.flags |= abi::entry_buffer_select;
    entry.ioprio = abi::send_bundle;
    entry.buf_group = group;
}

/// sendmsg(2).
inline void send_message(abi::SubmissionEntry& entry, int fd, const msghdr* message, int message_flags) noexcept {
    detail::set(entry, abi::Operation::send_message, fd, detail::address_of(message), 1, 0);
    entry.msg_flags = static_cast<std::uint32_t>(message_flags);
}

/// Posts two completions: the result (with abi::completion_more), then abi::completion_notification when the data is
/// free. `zero_copy_flags`: abi::send_poll_first, abi::send_zero_copy_report_usage (6.2).
inline void send_zero_copy(abi::SubmissionEntry& entry, int fd, const void* data, std::uint32_t length,
                           int message_flags, std::uint16_t zero_copy_flags) noexcept {
    detail::set(entry, abi::Operation::send_zero_copy, fd, detail::address_of(data), length, 0);
    entry.msg_flags = static_cast<std::uint32_t>(message_flags);
    entry.ioprio = zero_copy_flags;
}

/// From a registered buffer.
inline void send_zero_copy_fixed(abi::SubmissionEntry& entry, int fd, const void* data, std::uint32_t length,
                                 int message_flags, std::uint16_t zero_copy_flags, std::uint16_t buffer) noexcept {
    send_zero_copy(entry, fd, data, length, message_flags,
                   static_cast<std::uint16_t>(zero_copy_flags | abi::send_fixed_buffer));
    entry.buf_index = buffer;
}

/// As send_message, completing as send_zero_copy.
inline void send_message_zero_copy(abi::SubmissionEntry& entry, int fd, const msghdr* message,
                                   int message_flags) noexcept {
    send_message(entry, fd, message, message_flags);
    entry.opcode = abi::Operation::send_message_zero_copy;
}

/// recv(2).
inline void receive(abi::SubmissionEntry& entry, int fd, void* data, std::uint32_t length, int message_flags) noexcept {
    detail::set(entry, abi::Operation::receive, fd, detail::address_of(data), length, 0);
    entry.msg_flags = static_cast<std::uint32_t>(message_flags);
}

/// Once, into a buffer of the group; `length` 0: as many bytes as the buffer has.
inline void receive_select(abi::SubmissionEntry& entry, int fd, std::uint16_t group, std::uint32_t length,
                           int message_flags) noexcept {
    receive(entry, fd, nullptr, length, message_flags);
    entry.flags |= abi::entry_buffer_select;
    entry.buf_group = group;
}

/// Until a completion without abi::completion_more.
inline void receive_multishot(abi::SubmissionEntry& entry, int fd, std::uint16_t group, int message_flags) noexcept {
    receive_select(entry, fd, group, 0, message_flags);
    entry.ioprio = abi::receive_multishot;
}

/// Fills several buffers of the group with one completion (6.10); add abi::receive_multishot to `ioprio` for multishot.
inline void receive_bundle(abi::SubmissionEntry& entry, int fd, std::uint16_t group, int message_flags) noexcept {
    receive_select(entry, fd, group, 0, message_flags);
    entry.ioprio = abi::receive_bundle;
}

/// recvmsg(2).
inline void receive_message(abi::SubmissionEntry& entry, int fd, msghdr* message, int message_flags) noexcept {
    detail::set(entry, abi::Operation::receive_message, fd, detail::address_of(message), 1, 0);
    entry.msg_flags = static_cast<std::uint32_t>(message_flags);
}

/// Each buffer begins with an abi::ReceiveMessageHeader. `message` gives the room for name and control data and stays
/// until the last completion.
inline void receive_message_multishot(abi::SubmissionEntry& entry, int fd, msghdr* message, std::uint16_t group,
                                      int message_flags) noexcept {
    receive_message(entry, fd, message, message_flags);
    entry.flags |= abi::entry_buffer_select;
    entry.ioprio = abi::receive_multishot;
    entry.buf_group = group;
}

/// getsockopt(2); completes with the option's length (6.7).
inline void socket_get_option(abi::SubmissionEntry& entry, int fd, int level, int name, void* value,
                              std::uint32_t length) noexcept {
    entry.opcode = abi::Operation::uring_command;
    entry.fd = fd;
    entry.cmd_op = abi::socket_get_option;
    entry.socket_option = {static_cast<std::uint32_t>(level), static_cast<std::uint32_t>(name)};
    entry.optlen = length;
    entry.optval = detail::address_of(value);
}

/// setsockopt(2) (6.7).
inline void socket_set_option(abi::SubmissionEntry& entry, int fd, int level, int name, const void* value,
                              std::uint32_t length) noexcept {
    entry.opcode = abi::Operation::uring_command;
    entry.fd = fd;
    entry.cmd_op = abi::socket_set_option;
    entry.socket_option = {static_cast<std::uint32_t>(level), static_cast<std::uint32_t>(name)};
    entry.optlen = length;
    entry.optval = detail::address_of(value);
}

/// Completes with the bytes that wait to be read (SIOCINQ; 6.7).
inline void socket_bytes_unread(abi::SubmissionEntry& entry, int fd) noexcept {
    entry.opcode = abi::Operation::uring_command;
    entry.fd = fd;
    entry.cmd_op = abi::socket_bytes_unread;
}

/// Completes with the bytes that the peer has not acknowledged (SIOCOUTQ; 6.7).
inline void socket_bytes_unsent(abi::SubmissionEntry& entry, int fd) noexcept {
    entry.opcode = abi::Operation::uring_command;
    entry.fd = fd;
    entry.cmd_op = abi::socket_bytes_unsent;
}

// ---- rings, threads, processes ----

/// A completion in another ring: `data` as its user_data, `result` as its result. Flags: abi::message_flags_pass (6.3).
inline void message_ring(abi::SubmissionEntry& entry, int ring_fd, std::uint32_t result, std::uint64_t data,
                         std::uint32_t flags) noexcept {
    detail::set(entry, abi::Operation::message_ring, ring_fd, abi::message_data, result, data);
    entry.msg_ring_flags = flags;
}

/// As message_ring, and the completion bears `completion_flags` (6.3).
inline void message_ring_flags(abi::SubmissionEntry& entry, int ring_fd, std::uint32_t result, std::uint64_t data,
                               std::uint32_t flags, std::uint32_t completion_flags) noexcept {
    message_ring(entry, ring_fd, result, data, flags | abi::message_flags_pass);
    entry.file_index = completion_flags;
}

/// Gives the fixed file `source_slot` to the other ring's slot. Flags: abi::message_completion_skip.
inline void message_ring_fd(abi::SubmissionEntry& entry, int ring_fd, std::uint32_t source_slot,
                            std::uint32_t target_slot, std::uint64_t data, std::uint32_t flags) noexcept {
    detail::set(entry, abi::Operation::message_ring, ring_fd, abi::message_send_descriptor, 0, data);
    entry.addr3 = source_slot;
    detail::set_slot(entry, target_slot);
    entry.msg_ring_flags = flags;
}

/// 6.7. `futex_flags`: abi::futex_size_32 and abi::futex_private; completes with 0, or -EAGAIN when the value differs.
inline void futex_wait(abi::SubmissionEntry& entry, const std::uint32_t* futex, std::uint64_t value, std::uint64_t mask,
                       std::uint32_t futex_flags) noexcept {
    detail::set(entry, abi::Operation::futex_wait, static_cast<int>(futex_flags), detail::address_of(futex), 0, value);
    entry.addr3 = mask;
}

/// 6.7. Completes with how many were woken, at most `count`.
inline void futex_wake(abi::SubmissionEntry& entry, const std::uint32_t* futex, std::uint64_t count, std::uint64_t mask,
                       std::uint32_t futex_flags) noexcept {
    detail::set(entry, abi::Operation::futex_wake, static_cast<int>(futex_flags), detail::address_of(futex), 0, count);
    entry.addr3 = mask;
}

/// 6.7. Completes with the index of the one that was woken.
inline void futex_wait_vector(abi::SubmissionEntry& entry, const abi::FutexWaitEntry* futexes,
                              std::uint32_t count) noexcept {
    detail::set(entry, abi::Operation::futex_wait_vector, 0, detail::address_of(futexes), count, 0);
}

/// waitid(2) (6.7). `information` is a siginfo_t, or null.
inline void wait_id(abi::SubmissionEntry& entry, int id_type, int id, void* information, int options,
                    std::uint32_t flags) noexcept {
    detail::set(entry, abi::Operation::wait_id, id, 0, static_cast<std::uint32_t>(id_type),
                detail::address_of(information));
    entry.file_index = static_cast<std::uint32_t>(options);
    entry.waitid_flags = flags;
}

/// Posts to the device or file behind `fd`; the rest of the entry is the command's.
inline void uring_command(abi::SubmissionEntry& entry, int fd, std::uint32_t command, std::uint32_t flags) noexcept {
    entry.opcode = abi::Operation::uring_command;
    entry.fd = fd;
    entry.cmd_op = command;
    entry.uring_cmd_flags = flags;
}

// ---- descriptors ----

/// close(2). Operations on the descriptor that are in flight keep its file.
inline void close(abi::SubmissionEntry& entry, int fd) noexcept {
    detail::set(entry, abi::Operation::close, fd, 0, 0, 0);
}

/// Empties a slot of the fixed files.
inline void close_direct(abi::SubmissionEntry& entry, std::uint32_t slot) noexcept {
    detail::set(entry, abi::Operation::close, 0, 0, 0, 0);
    detail::set_slot(entry, slot);
}

/// Replaces fixed files from slot `offset` on; -1 empties a slot. With abi::file_index_allocate as offset, the kernel
/// writes the slots.
inline void files_update(abi::SubmissionEntry& entry, int* descriptors, std::uint32_t count,
                         std::uint32_t offset) noexcept {
    detail::set(entry, abi::Operation::files_update, -1, detail::address_of(descriptors), count, offset);
}

/// Makes a normal descriptor of a fixed file; close-on-exec unless abi::install_no_close_on_exec (6.8).
inline void fixed_fd_install(abi::SubmissionEntry& entry, std::uint32_t slot, std::uint32_t flags) noexcept {
    detail::set(entry, abi::Operation::fixed_descriptor_install, static_cast<int>(slot), 0, 0, 0);
    entry.flags |= abi::entry_fixed_file;
    entry.install_fd_flags = flags;
}

/// pipe2(2) (6.16).
inline void pipe(abi::SubmissionEntry& entry, int* descriptors, int flags) noexcept {
    detail::set(entry, abi::Operation::pipe, 0, detail::address_of(descriptors), 0, 0);
    entry.pipe_flags = static_cast<std::uint32_t>(flags);
}

/// Into two neighbouring slots (6.16).
inline void pipe_direct(abi::SubmissionEntry& entry, int* descriptors, int flags, std::uint32_t slot) noexcept {
    pipe(entry, descriptors, flags);
    detail::set_slot(entry, slot);
}

// ---- buffers ----

/// The older way of giving buffers (BufferRing is the better one).
inline void provide_buffers(abi::SubmissionEntry& entry, void* memory, std::uint32_t size, int count,
                            std::uint16_t group, std::uint16_t first) noexcept {
    detail::set(entry, abi::Operation::provide_buffers, count, detail::address_of(memory), size, first);
    entry.buf_group = group;
}

/// Takes back buffers that provide_buffers gave; completes with how many.
inline void remove_buffers(abi::SubmissionEntry& entry, int count, std::uint16_t group) noexcept {
    detail::set(entry, abi::Operation::remove_buffers, count, 0, 0, 0);
    entry.buf_group = group;
}

// ---- files: reading and writing; offset ~0ull: the file's own position ----

/// pread(2).
inline void read(abi::SubmissionEntry& entry, int fd, void* data, std::uint32_t length, std::uint64_t offset) noexcept {
    detail::set(entry, abi::Operation::read, fd, detail::address_of(data), length, offset);
}

/// Into a buffer of the group.
inline void read_select(abi::SubmissionEntry& entry, int fd, std::uint16_t group, std::uint32_t length,
                        std::uint64_t offset) noexcept {
    read(entry, fd, nullptr, length, offset);
    entry.flags |= abi::entry_buffer_select;
    entry.buf_group = group;
}

/// From pollable files, until a completion without abi::completion_more (6.7).
inline void read_multishot(abi::SubmissionEntry& entry, int fd, std::uint16_t group, std::uint32_t length,
                           std::uint64_t offset) noexcept {
    read_select(entry, fd, group, length, offset);
    entry.opcode = abi::Operation::read_multishot;
}

/// pwrite(2).
inline void write(abi::SubmissionEntry& entry, int fd, const void* data, std::uint32_t length,
                  std::uint64_t offset) noexcept {
    detail::set(entry, abi::Operation::write, fd, detail::address_of(data), length, offset);
}

/// preadv2(2); `flags`: RWF_*.
inline void readv(abi::SubmissionEntry& entry, int fd, const iovec* vectors, std::uint32_t count, std::uint64_t offset,
                  int flags) noexcept {
    detail::set(entry, abi::Operation::readv, fd, detail::address_of(vectors), count, offset);
    entry.rw_flags = static_cast<std::uint32_t>(flags);
}

/// pwritev2(2); `flags`: RWF_*.
inline void writev(abi::SubmissionEntry& entry, int fd, const iovec* vectors, std::uint32_t count, std::uint64_t offset,
                   int flags) noexcept {
    detail::set(entry, abi::Operation::writev, fd, detail::address_of(vectors), count, offset);
    entry.rw_flags = static_cast<std::uint32_t>(flags);
}

/// Into memory that lies within a registered buffer.
inline void read_fixed(abi::SubmissionEntry& entry, int fd, void* data, std::uint32_t length, std::uint64_t offset,
                       std::uint16_t buffer) noexcept {
    detail::set(entry, abi::Operation::read_fixed, fd, detail::address_of(data), length, offset);
    entry.buf_index = buffer;
}

/// From memory that lies within a registered buffer.
inline void write_fixed(abi::SubmissionEntry& entry, int fd, const void* data, std::uint32_t length,
                        std::uint64_t offset, std::uint16_t buffer) noexcept {
    detail::set(entry, abi::Operation::write_fixed, fd, detail::address_of(data), length, offset);
    entry.buf_index = buffer;
}

/// As readv, into a registered buffer (6.15).
inline void readv_fixed(abi::SubmissionEntry& entry, int fd, const iovec* vectors, std::uint32_t count,
                        std::uint64_t offset, int flags, std::uint16_t buffer) noexcept {
    readv(entry, fd, vectors, count, offset, flags);
    entry.opcode = abi::Operation::readv_fixed;
    entry.buf_index = buffer;
}

/// As writev, from a registered buffer (6.15).
inline void writev_fixed(abi::SubmissionEntry& entry, int fd, const iovec* vectors, std::uint32_t count,
                         std::uint64_t offset, int flags, std::uint16_t buffer) noexcept {
    writev(entry, fd, vectors, count, offset, flags);
    entry.opcode = abi::Operation::writev_fixed;
    entry.buf_index = buffer;
}

/// fsync(2); `flags`: 0, or abi::fsync_datasync for fdatasync(2).
inline void fsync(abi::SubmissionEntry& entry, int fd, std::uint32_t flags) noexcept {
    detail::set(entry, abi::Operation::fsync, fd, 0, 0, 0);
    entry.fsync_flags = flags;
}

/// sync_file_range(2).
inline void sync_file_range(abi::SubmissionEntry& entry, int fd, std::uint32_t length, std::uint64_t offset,
                            int flags) noexcept {
    detail::set(entry, abi::Operation::sync_file_range, fd, 0, length, offset);
    entry.sync_range_flags = static_cast<std::uint32_t>(flags);
}

/// fallocate(2).
inline void fallocate(abi::SubmissionEntry& entry, int fd, int mode, std::uint64_t offset,
                      std::uint64_t length) noexcept {
    detail::set(entry, abi::Operation::fallocate, fd, length, static_cast<std::uint32_t>(mode), offset);
}

/// ftruncate(2) (6.9).
inline void ftruncate(abi::SubmissionEntry& entry, int fd, std::uint64_t length) noexcept {
    detail::set(entry, abi::Operation::ftruncate, fd, 0, 0, length);
}

/// posix_fadvise(2).
inline void fadvise(abi::SubmissionEntry& entry, int fd, std::uint64_t offset, std::uint32_t length,
                    int advice) noexcept {
    detail::set(entry, abi::Operation::fadvise, fd, 0, length, offset);
    entry.fadvise_advice = static_cast<std::uint32_t>(advice);
}

/// madvise(2).
inline void madvise(abi::SubmissionEntry& entry, void* address, std::uint32_t length, int advice) noexcept {
    detail::set(entry, abi::Operation::madvise, -1, detail::address_of(address), length, 0);
    entry.fadvise_advice = static_cast<std::uint32_t>(advice);
}

/// splice(2); `offset_in` and `offset_out`: ~0ull for a pipe. `flags`: SPLICE_F_*, abi::splice_descriptor_in_fixed.
inline void splice(abi::SubmissionEntry& entry, int fd_in, std::uint64_t offset_in, int fd_out,
                   std::uint64_t offset_out, std::uint32_t length, std::uint32_t flags) noexcept {
    detail::set(entry, abi::Operation::splice, fd_out, offset_in, length, offset_out);
    entry.splice_fd_in = fd_in;
    entry.splice_flags = flags;
}

/// tee(2).
inline void tee(abi::SubmissionEntry& entry, int fd_in, int fd_out, std::uint32_t length,
                std::uint32_t flags) noexcept {
    detail::set(entry, abi::Operation::tee, fd_out, 0, length, 0);
    entry.splice_fd_in = fd_in;
    entry.splice_flags = flags;
}

// ---- files: names ----

/// openat(2).
inline void open_at(abi::SubmissionEntry& entry, int directory, const char* path, int flags,
                    std::uint32_t mode) noexcept {
    detail::set(entry, abi::Operation::open_at, directory, detail::address_of(path), mode, 0);
    entry.open_flags = static_cast<std::uint32_t>(flags);
}

/// As open_at, into a slot of the fixed files.
inline void open_at_direct(abi::SubmissionEntry& entry, int directory, const char* path, int flags, std::uint32_t mode,
                           std::uint32_t slot) noexcept {
    open_at(entry, directory, path, flags, mode);
    detail::set_slot(entry, slot);
}

/// openat2(2); `size` is sizeof(open_how).
inline void open_at2(abi::SubmissionEntry& entry, int directory, const char* path, const open_how* how,
                     std::uint32_t size) noexcept {
    detail::set(entry, abi::Operation::open_at2, directory, detail::address_of(path), size, detail::address_of(how));
}

/// As open_at2, into a slot of the fixed files.
inline void open_at2_direct(abi::SubmissionEntry& entry, int directory, const char* path, const open_how* how,
                            std::uint32_t size, std::uint32_t slot) noexcept {
    open_at2(entry, directory, path, how, size);
    detail::set_slot(entry, slot);
}

/// statx(2).
inline void statx(abi::SubmissionEntry& entry, int directory, const char* path, int flags, std::uint32_t mask,
                  struct ::statx* status) noexcept {
    detail::set(entry, abi::Operation::statx, directory, detail::address_of(path), mask, detail::address_of(status));
    entry.statx_flags = static_cast<std::uint32_t>(flags);
}

/// renameat2(2).
inline void rename_at(abi::SubmissionEntry& entry, int old_directory, const char* old_path, int new_directory,
                      const char* new_path, std::uint32_t flags) noexcept {
    detail::set(entry, abi::Operation::rename_at, old_directory, detail::address_of(old_path),
                static_cast<std::uint32_t>(new_directory), detail::address_of(new_path));
    entry.rename_flags = flags;
}

/// unlinkat(2).
inline void unlink_at(abi::SubmissionEntry& entry, int directory, const char* path, int flags) noexcept {
    detail::set(entry, abi::Operation::unlink_at, directory, detail::address_of(path), 0, 0);
    entry.unlink_flags = static_cast<std::uint32_t>(flags);
}

/// mkdirat(2).
inline void mkdir_at(abi::SubmissionEntry& entry, int directory, const char* path, std::uint32_t mode) noexcept {
    detail::set(entry, abi::Operation::mkdir_at, directory, detail::address_of(path), mode, 0);
}

/// symlinkat(2).
inline void symlink_at(abi::SubmissionEntry& entry, const char* target, int directory, const char* path) noexcept {
    detail::set(entry, abi::Operation::symlink_at, directory, detail::address_of(target), 0, detail::address_of(path));
}

/// linkat(2).
inline void link_at(abi::SubmissionEntry& entry, int old_directory, const char* old_path, int new_directory,
                    const char* new_path, int flags) noexcept {
    detail::set(entry, abi::Operation::link_at, old_directory, detail::address_of(old_path),
                static_cast<std::uint32_t>(new_directory), detail::address_of(new_path));
    entry.hardlink_flags = static_cast<std::uint32_t>(flags);
}

/// getxattr(2).
inline void get_xattr(abi::SubmissionEntry& entry, const char* name, void* value, const char* path,
                      std::uint32_t length) noexcept {
    detail::set(entry, abi::Operation::get_xattr, 0, detail::address_of(name), length, detail::address_of(value));
    entry.addr3 = detail::address_of(path);
}

/// setxattr(2).
inline void set_xattr(abi::SubmissionEntry& entry, const char* name, const void* value, const char* path, int flags,
                      std::uint32_t length) noexcept {
    detail::set(entry, abi::Operation::set_xattr, 0, detail::address_of(name), length, detail::address_of(value));
    entry.addr3 = detail::address_of(path);
    entry.xattr_flags = static_cast<std::uint32_t>(flags);
}

/// fgetxattr(2).
inline void fget_xattr(abi::SubmissionEntry& entry, int fd, const char* name, void* value,
                       std::uint32_t length) noexcept {
    detail::set(entry, abi::Operation::fget_xattr, fd, detail::address_of(name), length, detail::address_of(value));
}

/// fsetxattr(2).
inline void fset_xattr(abi::SubmissionEntry& entry, int fd, const char* name, const void* value, int flags,
                       std::uint32_t length) noexcept {
    detail::set(entry, abi::Operation::fset_xattr, fd, detail::address_of(name), length, detail::address_of(value));
    entry.xattr_flags = static_cast<std::uint32_t>(flags);
}

}  // namespace ferrule::inline v0::prepare
