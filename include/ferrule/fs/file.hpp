#pragma once

#include <ferrule/fs/file_error.hpp>
#include <ferrule/fs/file_status.hpp>
#include <ferrule/fs/open_options.hpp>
#include <ferrule/reactor/operation.hpp>
#include <ferrule/reactor/reactor.hpp>

#include <sys/uio.h>

#include <coroutine>
#include <cstddef>
#include <cstdint>
#include <expected>
#include <span>
#include <string>
#include <string_view>
#include <utility>

namespace ferrule::inline v0 {

class File;

namespace detail {

/// An open file of a reactor: its descriptor is closed when the File and the last operation on it have ended. Counted
/// on its reactor's thread only.
struct OpenFile {
    Reactor* reactor = nullptr;
    int descriptor = -1;
    std::uint32_t references = 1;
    std::string path;
};

/// Counts one more.
inline OpenFile* share(OpenFile* file) noexcept {
    ++file->references;
    return file;
}
/// Counts one less; the last one closes the descriptor on the ring. The reactor's own thread.
FERRULE_EXPORT void release(OpenFile* file) noexcept;

/// What an operation on a file needs besides its slot, until its last completion.
struct FileRequest;

/// What the operations on files have in common: two pointers.
class FERRULE_EXPORT FileOperationBase {
public:
    FileOperationBase(Operation operation, FileRequest* request) noexcept;
    FileOperationBase(FileOperationBase&& other) noexcept
        : operation_(std::move(other.operation_)), request_(std::exchange(other.request_, nullptr)) {}
    FileOperationBase(const FileOperationBase&) = delete;
    FileOperationBase& operator=(const FileOperationBase&) = delete;
    FileOperationBase& operator=(FileOperationBase&&) = delete;
    ~FileOperationBase();

    /// Asks the kernel to cancel; the await still ends with the last completion.
    void cancel() noexcept { operation_.cancel(); }

    [[nodiscard]] bool await_ready() const noexcept { return operation_.await_ready(); }
    template <class Promise>
    void await_suspend(std::coroutine_handle<Promise> handle) noexcept {
        operation_.await_suspend(handle);
    }

protected:
    [[nodiscard]] std::expected<void, FileError> end_nothing();
    [[nodiscard]] std::expected<std::size_t, FileError> end_count();
    [[nodiscard]] std::expected<FileStatus, FileError> end_status();
    [[nodiscard]] std::expected<File, FileError> end_open();

private:
    /// The result, or the error.
    [[nodiscard]] std::expected<std::int32_t, FileError> end();

    Operation operation_;
    FileRequest* request_;
};

}  // namespace detail

/// One operation on a file, to be awaited once: `const auto read = co_await file.read_at(bytes, 0);`. It ends with a
/// value or a FileError: the kernel's errno; ECANCELED when its scope was cancelled in time; ENOBUFS when the reactor's
/// table of operations is full, ENOMEM. Its file stays open until it has ended, even when the File is destroyed before.
///
/// Destroying it before its end detaches it, and what it would have given (a descriptor) is given back. One on the
/// caller's memory, though (reads and writes), must be awaited to its end: destroying it in flight aborts the process,
/// with the operation's name. Reactor's own thread.
template <class Result>
class [[nodiscard]] FileOperation : public detail::FileOperationBase {
public:
    using FileOperationBase::FileOperationBase;

    /// The operation's end.
    std::expected<Result, FileError> await_resume() {
        if constexpr (std::is_same_v<Result, File>) {
            return end_open();
        } else if constexpr (std::is_same_v<Result, FileStatus>) {
            return end_status();
        } else if constexpr (std::is_same_v<Result, std::size_t>) {
            return end_count();
        } else {
            return end_nothing();
        }
    }
};

/// An open file: everything that is done to it is an operation of its reactor's ring, so none of it keeps the loop
/// waiting for a disk. Move-only, for its reactor's thread, and it ends before its reactor does. Where the kernel would
/// have to wait, its own workers do (io_uring's, bounded by the kernel), not this thread.
///
/// Destroying it closes the descriptor on the ring, without waiting; errors of that close are lost, `close` tells them.
/// Destroyed elsewhere, by a task that ended there, it goes home first. Use after a move throws std::logic_error, as
/// does use on another thread.
///
/// ```cpp
/// const auto file = co_await File::open(reactor, "/etc/hostname");
/// if (!file) throw std::runtime_error(file.error().message);
/// std::array<std::byte, 256> bytes;
/// const auto count = co_await file->read_at(bytes, 0);
/// if (count) connection.write(std::span(bytes).first(*count));
/// ```
class [[nodiscard]] FERRULE_EXPORT File {
public:
    File(File&& other) noexcept : file_(std::exchange(other.file_, nullptr)) {}
    File& operator=(File&& other) noexcept {
        File ended{std::move(*this)};
        file_ = std::exchange(other.file_, nullptr);
        return *this;
    }
    File(const File&) = delete;
    File& operator=(const File&) = delete;
    ~File() {
        if (file_ != nullptr) release();
    }

    /// Opens a path, relative ones from the process's working directory: openat2(2), whose errors it has; EINVAL for a
    /// path with a NUL in it. Opening may wait as long as the filesystem does, and a FIFO without O_NONBLOCK until it
    /// has another side, but where the kernel finds its name in the cache; cancelling ends both, with ECANCELED or
    /// EINTR.
    static FileOperation<File> open(Reactor& reactor, std::string_view path, OpenOptions options = {});

    /// Opens a path from a directory on, which was opened with O_DIRECTORY or O_PATH. With ResolveFlags::beneath it
    /// cannot lead out of it: the check and the opening are one.
    static FileOperation<File> open(const File& directory, std::string_view path, OpenOptions options = {});

    /// Takes a descriptor that is open; `path` is what errors call it.
    static File adopt(Reactor& reactor, int descriptor, std::string path);

    /// Whether it holds a file: it was neither moved from nor closed.
    explicit operator bool() const noexcept { return file_ != nullptr; }

    /// statx(2) of the open file.
    [[nodiscard]] FileOperation<FileStatus> status() const;

    /// Reads at `offset`, into the caller's memory. How many bytes: fewer than asked for at the end of the file, and
    /// where the kernel has no more at once; 0 at its end.
    [[nodiscard]] FileOperation<std::size_t> read_at(std::span<std::byte> bytes, std::uint64_t offset) const;
    /// Reads at `offset` into several pieces in turn, at most 1024 (EINVAL); they and their list are the caller's
    /// memory.
    [[nodiscard]] FileOperation<std::size_t> readv(std::span<const iovec> pieces, std::uint64_t offset) const;

    /// Writes at `offset`, from the caller's memory. How many bytes: fewer where the kernel takes no more at once, such
    /// as before the filesystem is full.
    [[nodiscard]] FileOperation<std::size_t> write_at(std::span<const std::byte> bytes, std::uint64_t offset) const;
    /// Writes at `offset` from several pieces in turn, as readv.
    [[nodiscard]] FileOperation<std::size_t> writev(std::span<const iovec> pieces, std::uint64_t offset) const;

    /// Has what was written put on the disk, and what is told of the file: fsync(2).
    [[nodiscard]] FileOperation<void> fsync() const;
    /// Has what was written put on the disk, and of what is told of the file only what reading it needs: fdatasync(2).
    [[nodiscard]] FileOperation<void> fdatasync() const;

    /// Closes the file and says what its filesystem says of it. The handle is empty afterwards, and the descriptor gone
    /// whatever it says. Misuse while operations on it have not ended: throws std::logic_error.
    [[nodiscard]] FileOperation<void> close();

    /// The descriptor, the File's still.
    [[nodiscard]] int descriptor() const { return open_file().descriptor; }
    /// What it was opened by; below a directory, behind that one's path.
    [[nodiscard]] const std::string& path() const { return open_file().path; }
    /// The reactor that it belongs to.
    [[nodiscard]] Reactor& reactor() const { return *open_file().reactor; }
    /// For what works on the file in its own way and keeps it open until it has ended.
    [[nodiscard]] detail::OpenFile& open_file() const {
        if (file_ == nullptr) [[unlikely]]
            misuse();
        return *file_;
    }

private:
    friend class detail::FileOperationBase;
    explicit File(detail::OpenFile* file) noexcept : file_(file) {}
    [[noreturn]] static void misuse();
    void release() noexcept;

    detail::OpenFile* file_;
};

}  // namespace ferrule::inline v0
