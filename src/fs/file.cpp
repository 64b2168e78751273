#include <ferrule/assert.hpp>
#include <ferrule/fs/file.hpp>
#include <ferrule/ring/prepare.hpp>

#include <linux/openat2.h>
#include <linux/stat.h>
#include <sys/stat.h>

#include <algorithm>
#include <cerrno>
#include <climits>
#include <memory>
#include <new>
#include <stdexcept>
#include <string>
#include <system_error>
#include <utility>

namespace ferrule::inline v0 {

namespace detail {

struct FileRequest : AbandonedOperation {
    enum class Kind : std::uint8_t { usual, open, close, status };

    explicit FileRequest(Reactor& owner, Kind what, const char* operation) noexcept
        : AbandonedOperation(&FileRequest::on_abandoned), reactor(&owner), name(operation), kind(what) {}
    FileRequest(const FileRequest&) = delete;
    FileRequest& operator=(const FileRequest&) = delete;
    ~FileRequest() {
        if (directory != nullptr) release(directory);
        if (file != nullptr) release(file);
    }

    static void on_abandoned(AbandonedOperation& abandoned, std::int32_t result) noexcept;

    Reactor* reactor;
    const char* name;
    OpenFile* file = nullptr;       // what it works on, or what it opens
    OpenFile* directory = nullptr;  // that the path is walked from
    const char* reason = nullptr;   // why nothing was submitted, where the errno says too little
    int error = 0;                  // why nothing was submitted
    Kind kind;
    bool submitted = false;
    union {
        struct open_how how;
        struct ::statx status;
    };
};

namespace {

/// One entry may carry as much, and the kernel moves less in one go anyway (MAX_RW_COUNT).
constexpr std::size_t bytes_max = INT_MAX & ~std::size_t{4095};
constexpr std::uint32_t status_mask = STATX_BASIC_STATS;

/// Closes without being waited for: on the ring while the loop turns, and at once when it does not.
void close_later(Reactor& reactor, int descriptor) noexcept {
    if (reactor.running() && Host::current() == &reactor) {
        Operation operation =
            reactor.submit("close", [descriptor](abi::SubmissionEntry& entry) { prepare::close(entry, descriptor); });
        if (std::move(operation).let_go()) return;
    }
    reactor.kernel().close(descriptor);
}

FileType type_of(std::uint16_t mode) noexcept {
    switch (mode & S_IFMT) {
        case S_IFREG:
            return FileType::regular;
        case S_IFDIR:
            return FileType::directory;
        case S_IFLNK:
            return FileType::symbolic_link;
        case S_IFBLK:
            return FileType::block_device;
        case S_IFCHR:
            return FileType::character_device;
        case S_IFIFO:
            return FileType::fifo;
        case S_IFSOCK:
            return FileType::socket;
        default:
            return FileType::unknown;
    }
}

FileStatus::Time time_of(const statx_timestamp& stamp) noexcept {
    return FileStatus::Time{std::chrono::seconds{stamp.tv_sec} + std::chrono::nanoseconds{stamp.tv_nsec}};
}

FileStatus status_of(const struct ::statx& told) noexcept {
    FileStatus status;
    status.type = type_of(told.stx_mode);
    status.permissions = told.stx_mode & ~static_cast<std::uint32_t>(S_IFMT);
    status.size = told.stx_size;
    status.blocks = told.stx_blocks;
    status.inode = told.stx_ino;
    status.device = std::uint64_t{told.stx_dev_major} << 32 | told.stx_dev_minor;
    status.links = told.stx_nlink;
    status.user = told.stx_uid;
    status.group = told.stx_gid;
    status.block_bytes = told.stx_blksize;
    status.modified = time_of(told.stx_mtime);
    status.changed = time_of(told.stx_ctime);
    return status;
}

/// Null when memory is out.
FileRequest* make_request(Reactor& reactor, FileRequest::Kind kind, const char* name) noexcept {
    try {
        return new (reactor.frames.allocate(sizeof(FileRequest))) FileRequest(reactor, kind, name);
    } catch (const std::bad_alloc&) {
        return nullptr;
    }
}

void give_back(FileRequest* request) noexcept {
    Reactor& reactor = *request->reactor;
    request->~FileRequest();
    reactor.frames.release(request, FramePool::class_of(sizeof(FileRequest)));
}

/// A usual operation on an open file.
template <class Prepare>
std::pair<Operation, FileRequest*> begin(OpenFile& file, FileRequest::Kind kind, const char* name,
                                         OperationMemory memory, Prepare prepare) {
    Reactor& reactor = *file.reactor;
    reactor.check_thread(name);
    FileRequest* request = make_request(reactor, kind, name);
    if (request == nullptr) return {Operation{nullptr}, nullptr};
    request->file = share(&file);
    return {reactor.submit(
                name, [&](abi::SubmissionEntry& entry) { prepare(entry, file.descriptor, *request); }, memory),
            request};
}

}  // namespace

void FileRequest::on_abandoned(AbandonedOperation& abandoned, std::int32_t result) noexcept {
    auto& request = static_cast<FileRequest&>(abandoned);
    if (request.kind == Kind::open && result >= 0) close_later(*request.reactor, result);
    // Gone, whatever it says; but one that was cancelled never began.
    if (request.kind == Kind::close && result != -ECANCELED) request.file->descriptor = -1;
    give_back(&request);
}

void release(OpenFile* file) noexcept {
    if (--file->references != 0) return;
    if (file->descriptor >= 0) close_later(*file->reactor, file->descriptor);
    delete file;
}

// ---- the awaited end ----

FileOperationBase::FileOperationBase(Operation operation, FileRequest* request) noexcept
    : operation_(std::move(operation)), request_(request) {
    if (request_ != nullptr) request_->submitted = operation_.when_abandoned(*request_);
}

FileOperationBase::~FileOperationBase() {
    // What was submitted is told its end, and then gives back what it has.
    if (request_ != nullptr && !request_->submitted) give_back(request_);
}

std::expected<std::int32_t, FileError> FileOperationBase::end() {
    const std::int32_t result = operation_.await_resume().result;
    if (request_ == nullptr) {
        const std::error_code code{ENOMEM, std::system_category()};
        return std::unexpected(FileError{code, "operation on a file: " + code.message()});
    }
    request_->submitted = false;
    if (request_->error == 0 && result >= 0) return result;
    const std::error_code code{request_->error != 0 ? request_->error : -result, std::system_category()};
    std::string message = request_->name;
    message += ' ';
    // What cannot be printed would hide the rest of the message.
    for (const char byte : request_->file->path) message += byte == '\0' ? std::string{"\\0"} : std::string{byte};
    message += ": ";
    message += code.message();
    if (request_->reason != nullptr) message.append(" (").append(request_->reason).append(")");
    return std::unexpected(FileError{code, std::move(message)});
}

std::expected<void, FileError> FileOperationBase::end_nothing() {
    const auto ended = end();
    if (request_ != nullptr) {
        if (request_->kind == FileRequest::Kind::close && request_->error == 0) {
            // As above; nor has one begun for which there was no room.
            const int error = ended ? 0 : ended.error().code.value();
            if (error != ECANCELED && error != ENOBUFS) request_->file->descriptor = -1;
        }
        give_back(std::exchange(request_, nullptr));
    }
    if (!ended) return std::unexpected(ended.error());
    return {};
}

std::expected<std::size_t, FileError> FileOperationBase::end_count() {
    const auto ended = end();
    if (request_ != nullptr) give_back(std::exchange(request_, nullptr));
    if (!ended) return std::unexpected(ended.error());
    return static_cast<std::size_t>(*ended);
}

std::expected<FileStatus, FileError> FileOperationBase::end_status() {
    const auto ended = end();
    if (!ended) {
        if (request_ != nullptr) give_back(std::exchange(request_, nullptr));
        return std::unexpected(ended.error());
    }
    const FileStatus status = status_of(request_->status);
    give_back(std::exchange(request_, nullptr));
    return status;
}

std::expected<File, FileError> FileOperationBase::end_open() {
    const auto ended = end();
    if (!ended) {
        if (request_ != nullptr) give_back(std::exchange(request_, nullptr));
        return std::unexpected(ended.error());
    }
    OpenFile* const file = std::exchange(request_->file, nullptr);
    file->descriptor = *ended;
    const bool waits = (request_->how.flags & O_NONBLOCK) == 0;
    Kernel& kernel = request_->reactor->kernel();
    give_back(std::exchange(request_, nullptr));
    // It was for the opening: a filesystem that cannot tell whether it would wait refuses all else with EAGAIN. What is
    // opened as a path only has no such flag.
    if (!waits) kernel.set_nonblocking(file->descriptor, false);
    return File{file};
}

}  // namespace detail

using detail::FileRequest;
using detail::OpenFile;

namespace {

FileOperation<File> open_path(Reactor& reactor, OpenFile* directory, std::string_view path,
                              const OpenOptions& options) {
    reactor.check_thread("File::open");
    FileRequest* request = detail::make_request(reactor, FileRequest::Kind::open, "openat2");
    if (request == nullptr) return {Operation{nullptr}, nullptr};
    try {
        auto file = std::make_unique<OpenFile>();
        file->reactor = &reactor;
        const bool below = directory != nullptr && !path.starts_with('/');
        if (below) file->path.append(directory->path).append("/");
        file->path.append(path);
        request->file = file.release();
    } catch (const std::bad_alloc&) {
        detail::give_back(request);
        return {Operation{nullptr}, nullptr};
    }
    if (path.find('\0') != std::string_view::npos) {
        request->error = EINVAL;
        request->reason = "the path contains NUL";
    } else if (path.empty()) {
        request->error = ENOENT;
        request->reason = "the path is empty";
    }
    if (request->error != 0) return {Operation{nullptr}, request};
    if (directory != nullptr) request->directory = detail::share(directory);
    const auto flags = static_cast<unsigned>(options.flags);
    const bool makes = (flags & O_CREAT) != 0 || (flags & O_TMPFILE) == O_TMPFILE;
    request->how = {.flags = flags | O_CLOEXEC,
                    .mode = makes ? std::uint64_t{options.mode} : 0,
                    .resolve = static_cast<std::uint64_t>(options.resolve)};
    const char* const walked = request->file->path.c_str() + (request->file->path.size() - path.size());
    const int from = directory != nullptr ? directory->descriptor : AT_FDCWD;
    return {reactor.submit("openat2",
                           [&](abi::SubmissionEntry& entry) {
                               prepare::open_at2(entry, from, walked, &request->how, sizeof request->how);
                           }),
            request};
}

template <class Result, class Prepare>
FileOperation<Result> operate(OpenFile& file, const char* name, OperationMemory memory, Prepare prepare) {
    auto [operation, request] = detail::begin(file, FileRequest::Kind::usual, name, memory, prepare);
    return {std::move(operation), request};
}

std::uint32_t entry_length(std::size_t bytes) noexcept {
    return static_cast<std::uint32_t>(std::min(bytes, detail::bytes_max));
}

std::uint32_t entry_pieces(std::span<const iovec> pieces) noexcept {
    return static_cast<std::uint32_t>(std::min<std::size_t>(pieces.size(), UINT32_MAX));
}

}  // namespace

FileOperation<File> File::open(Reactor& reactor, std::string_view path, OpenOptions options) {
    return open_path(reactor, nullptr, path, options);
}

FileOperation<File> File::open(const File& directory, std::string_view path, OpenOptions options) {
    return open_path(directory.reactor(), &directory.open_file(), path, options);
}

File File::adopt(Reactor& reactor, int descriptor, std::string path) {
    reactor.check_thread("File::adopt");
    auto* file = new OpenFile;
    file->reactor = &reactor;
    file->descriptor = descriptor;
    file->path = std::move(path);
    return File{file};
}

FileOperation<FileStatus> File::status() const {
    auto [operation, request] =
        detail::begin(open_file(), FileRequest::Kind::status, "statx", OperationMemory::reactor,
                      [](abi::SubmissionEntry& entry, int descriptor, FileRequest& into) {
                          prepare::statx(entry, descriptor, "", AT_EMPTY_PATH, detail::status_mask, &into.status);
                      });
    return {std::move(operation), request};
}

FileOperation<std::size_t> File::read_at(std::span<std::byte> bytes, std::uint64_t offset) const {
    return operate<std::size_t>(open_file(), "read", OperationMemory::caller,
                                [&](abi::SubmissionEntry& entry, int descriptor, FileRequest&) {
                                    prepare::read(entry, descriptor, bytes.data(), entry_length(bytes.size()), offset);
                                });
}

FileOperation<std::size_t> File::readv(std::span<const iovec> pieces, std::uint64_t offset) const {
    return operate<std::size_t>(open_file(), "readv", OperationMemory::caller,
                                [&](abi::SubmissionEntry& entry, int descriptor, FileRequest&) {
                                    prepare::readv(entry, descriptor, pieces.data(), entry_pieces(pieces), offset, 0);
                                });
}

FileOperation<std::size_t> File::write_at(std::span<const std::byte> bytes, std::uint64_t offset) const {
    return operate<std::size_t>(open_file(), "write", OperationMemory::caller,
                                [&](abi::SubmissionEntry& entry, int descriptor, FileRequest&) {
                                    prepare::write(entry, descriptor, bytes.data(), entry_length(bytes.size()), offset);
                                });
}

FileOperation<std::size_t> File::writev(std::span<const iovec> pieces, std::uint64_t offset) const {
    return operate<std::size_t>(open_file(), "writev", OperationMemory::caller,
                                [&](abi::SubmissionEntry& entry, int descriptor, FileRequest&) {
                                    prepare::writev(entry, descriptor, pieces.data(), entry_pieces(pieces), offset, 0);
                                });
}

FileOperation<void> File::fsync() const {
    return operate<void>(
        open_file(), "fsync", OperationMemory::reactor,
        [](abi::SubmissionEntry& entry, int descriptor, FileRequest&) { prepare::fsync(entry, descriptor, 0); });
}

FileOperation<void> File::fdatasync() const {
    return operate<void>(open_file(), "fdatasync", OperationMemory::reactor,
                         [](abi::SubmissionEntry& entry, int descriptor, FileRequest&) {
                             prepare::fsync(entry, descriptor, abi::fsync_datasync);
                         });
}

FileOperation<void> File::close() {
    OpenFile& file = open_file();
    file.reactor->check_thread("File::close");
    if (file.references != 1) throw std::logic_error("File::close: operations on " + file.path + " have not ended");
    auto [operation, request] = detail::begin(
        file, FileRequest::Kind::close, "close", OperationMemory::reactor,
        [](abi::SubmissionEntry& entry, int descriptor, FileRequest&) { prepare::close(entry, descriptor); });
    // The request has the file now, and closes it another way when this one does not.
    detail::release(std::exchange(file_, nullptr));
    return {std::move(operation), request};
}

void File::misuse() {
    throw std::logic_error("use of a file that was moved from or closed");
}

void File::release() noexcept {
    struct Release {
        void operator()(OpenFile* file) const noexcept { detail::release(file); }
    };
    std::unique_ptr<OpenFile, Release> ended{std::exchange(file_, nullptr)};
    Reactor& home = *ended->reactor;
    if (Host::current() == &home || !home.running()) return;
    try {
        // Whether it is called or only destroyed, that is where and when the file ends.
        home.post([taken = std::move(ended)] {});
    } catch (const std::bad_alloc&) {
        // The file stays open until the process ends: it may be closed at home only.
        static_cast<void>(ended.release());
    }
}

}  // namespace ferrule::inline v0
