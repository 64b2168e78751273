#pragma once

#include <sys/socket.h>

#include <cstddef>
#include <cstdint>
#include <expected>
#include <memory>
#include <span>
#include <string_view>

struct open_how;
struct statx;

namespace ferrule::inline v0::sim {

class Descriptors;
class File;
class World;

/// What a message carries beside its bytes: sendmsg(2), recvmsg(2).
struct Ancillary {
    /// Whom it goes to, or where it came from; length 0: none.
    sockaddr_storage name{};
    socklen_t name_length = 0;
    /// Control messages that are sent, or room for those that are received.
    std::span<std::byte> control{};
    /// Of `control`, what was filled in.
    std::size_t control_length = 0;
    /// Of what was received: MSG_TRUNC, MSG_CTRUNC.
    int flags = 0;
    /// Whose numbers the descriptors among the control messages are (SCM_RIGHTS).
    Descriptors* descriptors = nullptr;
};

/// Someone who wants to know when a file becomes ready. Intrusive; it leaves the list by itself when it is destroyed.
class FileWaiter {
public:
    FileWaiter() = default;
    FileWaiter(const FileWaiter&) = delete;
    FileWaiter& operator=(const FileWaiter&) = delete;
    virtual ~FileWaiter();

    /// Called with the events (POLL*) that have come. May leave the list, not enter it again from here.
    virtual void ready(std::uint32_t events) noexcept = 0;

    [[nodiscard]] bool waiting() const noexcept { return file_ != nullptr; }
    /// Leaves the list; nothing when it is in none.
    void leave() noexcept;

private:
    friend File;
    File* file_ = nullptr;
    FileWaiter* next_ = nullptr;
    FileWaiter* previous_ = nullptr;
    std::uint32_t wanted_ = 0;
};

/// What a descriptor refers to: the only thing that the front end (rings) knows of the back end. Every function does
/// what the system call does on a non-blocking descriptor, now: a value, or -errno; -EAGAIN when it would have to wait,
/// and `readiness` tells for what. Nothing here blocks a fiber.
class File : public std::enable_shared_from_this<File> {
public:
    virtual ~File();

    /// The POLL* events that hold now.
    [[nodiscard]] virtual std::uint32_t readiness() const noexcept = 0;
    /// Whether waiting for readiness makes sense (sockets, event descriptors); else a would-be wait is done by a
    /// worker.
    [[nodiscard]] virtual bool pollable() const noexcept { return true; }

    virtual std::int64_t read(std::span<std::byte> into) noexcept;
    virtual std::int64_t write(std::span<const std::byte> from) noexcept;
    /// `flags`: MSG_PEEK, MSG_WAITALL (as much as is there; the caller asks again), MSG_TRUNC.
    virtual std::int64_t receive(std::span<std::byte> into, int flags) noexcept;
    /// As much as there is room for. Raises no signal.
    virtual std::int64_t send(std::span<const std::byte> from, int flags) noexcept;
    /// As `send`, to a name and with control messages. A stream ignores the name, and takes no control messages:
    /// -EINVAL.
    virtual std::int64_t send_message(std::span<const std::byte> from, const Ancillary& with, int flags) noexcept;
    /// As `receive`, with where it came from and what the socket was asked to tell; a stream tells nothing.
    virtual std::int64_t receive_message(std::span<std::byte> into, Ancillary& with, int flags) noexcept;
    /// pread(2) and pwrite(2). Not to wait for the disk is RWF_NOWAIT: what is there before the first page that is not
    /// in memory, -EAGAIN when that is nothing. Of files without positions: as read and write.
    virtual std::int64_t read_at(std::span<std::byte> into, std::uint64_t offset, bool waits) noexcept;
    virtual std::int64_t write_at(std::span<const std::byte> from, std::uint64_t offset) noexcept;
    /// Whether a read of this range would wait for the disk.
    virtual bool waits_for_disk(std::uint64_t, std::size_t) noexcept { return false; }
    /// fsync(2).
    virtual int synchronise() noexcept;
    /// Whether more can be received at once (IORING_CQE_F_SOCK_NONEMPTY).
    [[nodiscard]] virtual bool nonempty() const noexcept { return false; }
    /// The next connection.
    virtual std::expected<std::shared_ptr<File>, int> accept(sockaddr* address, socklen_t* length) noexcept;
    virtual int connect(const sockaddr* address, socklen_t length) noexcept;
    virtual int bind(const sockaddr* address, socklen_t length) noexcept;
    virtual int listen(int backlog) noexcept;
    virtual int shutdown(int how) noexcept;
    virtual int set_option(int level, int name, const void* value, socklen_t length) noexcept;
    virtual int get_option(int level, int name, void* value, socklen_t* length) noexcept;
    virtual int socket_name(sockaddr* address, socklen_t* length) noexcept;
    virtual int peer_name(sockaddr* address, socklen_t* length) noexcept;
    [[nodiscard]] virtual bool is_socket() const noexcept { return false; }
    /// A byte stream (SOCK_STREAM): what is received may be cut anywhere, and MSG_WAITALL goes on until all is there.
    [[nodiscard]] virtual bool is_stream() const noexcept { return false; }
    /// The last descriptor, mapping and operation have let go of it: FIN, RST, whatever its end means. Once.
    virtual void released() noexcept {}

    /// O_NONBLOCK, which only the system calls of a thread heed: read, write and connect of the seam.
    void nonblocking(bool on) noexcept { nonblocking_ = on; }
    [[nodiscard]] bool nonblocking() const noexcept { return nonblocking_; }

    /// One more descriptor, mapping, registration or operation uses the file. Descriptors count by themselves; whoever
    /// else holds it as a user, and not just to look at it, counts here.
    void acquire() noexcept { ++users_; }
    /// One fewer; `released` is called when it was the last.
    void release() noexcept {
        if (--users_ == 0) released();
    }

    /// `waiter.ready` is called once per change that brings one of `wanted` (POLL*; POLLERR and POLLHUP always).
    /// It is not called for what holds already.
    void wait(FileWaiter& waiter, std::uint32_t wanted) noexcept;
    /// Tells those who wait for one of `events`, in the order in which they came.
    void notify(std::uint32_t events) noexcept;

private:
    friend FileWaiter;
    /// Whom a notification tells next.
    struct Notification {
        FileWaiter* next;
        Notification* outer;
    };

    FileWaiter* first_ = nullptr;
    FileWaiter* last_ = nullptr;
    /// Of the notifications that go on, one within the other.
    Notification* notifications_ = nullptr;
    std::uint64_t users_ = 0;
    bool nonblocking_ = false;
};

/// What the disk takes for a read or a write, drawn.
[[nodiscard]] std::uint64_t draw_disk_ns(World& world);

/// The paths of a machine.
class Paths {
public:
    virtual ~Paths() = default;

    /// openat2(2), from the directory `from` (null: the root): the file or -errno.
    virtual std::expected<std::shared_ptr<File>, int> open(File* from, std::string_view path,
                                                           const struct ::open_how& how) = 0;
    /// statx(2); an empty path is `from` itself.
    virtual int status(File* from, std::string_view path, bool follows, struct ::statx& status) = 0;
};

}  // namespace ferrule::inline v0::sim
