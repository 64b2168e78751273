#include <ferrule/fs/file.hpp>
#include <ferrule/reactor/resume_on.hpp>
#include <ferrule/task/task_group.hpp>
#include <ferrule/task/when_any.hpp>

#include "reactor/reactor_fixture.hpp"
#include "support/client_socket.hpp"
#include "support/temporary_folder.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <chrono>
#include <cstddef>
#include <filesystem>
#include <iterator>
#include <optional>
#include <span>
#include <stdexcept>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace {

using namespace ferrule;
using namespace ferrule_test;
using ::testing::HasSubstr;

constexpr OpenOptions fresh{.flags = O_RDWR | O_CREAT | O_EXCL, .mode = 0640};
constexpr OpenOptions read_write{.flags = O_RDWR | O_CREAT};
constexpr OpenOptions as_path{.flags = O_PATH};
constexpr OpenOptions as_directory{.flags = O_PATH | O_DIRECTORY};
constexpr OpenOptions without_waiting{.flags = O_RDONLY | O_NONBLOCK};

std::size_t open_descriptors() {
    return static_cast<std::size_t>(std::distance(std::filesystem::directory_iterator{"/proc/self/fd"}, {}));
}

std::span<const std::byte> bytes_of(std::string_view text) {
    return std::as_bytes(std::span(text));
}

/// Files on a reactor; no descriptor is left behind.
class FileTest : public ::testing::Test {
protected:
    void run(const std::function<Task<>()>& make) {
        const std::size_t before = open_descriptors();
        {
            Reactor reactor{0, small_options(), kernel};
            reactor_ = &reactor;
            run_task(reactor, make);
        }
        EXPECT_EQ(open_descriptors(), before);
    }
    Reactor& reactor() { return *reactor_; }

    TemporaryFolder folder;
    ForwardingKernel kernel;

private:
    Reactor* reactor_ = nullptr;
};

Task<> read_and_write(Reactor& reactor, std::string path) {
    auto file = co_await File::open(reactor, path, fresh);
    if (!file) throw std::runtime_error(file.error().message);
    EXPECT_EQ(file->path(), path);
    auto written = co_await file->write_at(bytes_of("hello world"), 0);
    EXPECT_EQ(written.value(), 11u);
    written = co_await file->write_at(bytes_of("W"), 6);
    EXPECT_EQ(written.value(), 1u);
    std::array<std::byte, 32> bytes{};
    auto read = co_await file->read_at(bytes, 6);
    EXPECT_EQ(read.value(), 5u);
    EXPECT_EQ(std::memcmp(bytes.data(), "World", 5), 0);
    read = co_await file->read_at(std::span(bytes).first(3), 0);
    EXPECT_EQ(read.value(), 3u);
    read = co_await file->read_at(bytes, 11);
    EXPECT_EQ(read.value(), 0u);
    read = co_await file->read_at(bytes, 1u << 30);
    EXPECT_EQ(read.value(), 0u);
    auto synced = co_await file->fsync();
    EXPECT_TRUE(synced);
    synced = co_await file->fdatasync();
    EXPECT_TRUE(synced);
    const auto closed = co_await file->close();
    EXPECT_TRUE(closed);
    EXPECT_FALSE(*file);
}

TEST_F(FileTest, ReadsAndWritesAtOffsets) {
    const std::string path = folder / "new.txt";
    run([&] { return read_and_write(reactor(), path); });
    EXPECT_EQ(contents(path), "hello World");
    struct stat status {};
    ASSERT_EQ(::stat(path.c_str(), &status), 0);
    EXPECT_EQ(status.st_mode & 0777, 0640u);
}

Task<> vectored(Reactor& reactor, std::string path) {
    auto file = co_await File::open(reactor, path, read_write);
    std::string first = "abc";
    std::string second = "defgh";
    const std::array<iovec, 2> pieces{{{first.data(), first.size()}, {second.data(), second.size()}}};
    const auto written = co_await file->writev(pieces, 2);
    EXPECT_EQ(written.value(), 8u);
    const auto read = co_await file->readv(pieces, 0);
    EXPECT_EQ(read.value(), 8u);
    EXPECT_EQ(first, std::string("\0\0a", 3));
    EXPECT_EQ(second, "bcdef");
    const std::vector<iovec> too_many(1025, {first.data(), 1});
    const auto refused = co_await file->readv(too_many, 0);
    EXPECT_EQ(refused.error().code.value(), EINVAL);
    EXPECT_EQ(refused.error().message, "readv " + path + ": Invalid argument");
}

TEST_F(FileTest, ReadsAndWritesSeveralPiecesInTurn) {
    run([&] { return vectored(reactor(), folder / "pieces"); });
    EXPECT_EQ(contents(folder / "pieces"), std::string("\0\0abcdefgh", 10));
}

Task<> tell_status(Reactor& reactor, std::string path) {
    const auto file = co_await File::open(reactor, path);
    const auto status = co_await file->status();
    if (!status) throw std::runtime_error(status.error().message);
    struct ::stat expected {};
    EXPECT_EQ(::stat(path.c_str(), &expected), 0);
    EXPECT_TRUE(status->regular());
    EXPECT_FALSE(status->directory());
    EXPECT_EQ(status->size, 5u);
    EXPECT_EQ(status->inode, expected.st_ino);
    EXPECT_EQ(status->permissions, expected.st_mode & 07777);
    EXPECT_EQ(status->links, 1u);
    EXPECT_EQ(status->user, expected.st_uid);
    EXPECT_EQ(status->group, expected.st_gid);
    EXPECT_EQ(status->blocks, static_cast<std::uint64_t>(expected.st_blocks));
    EXPECT_EQ(status->block_bytes, static_cast<std::uint32_t>(expected.st_blksize));
    EXPECT_EQ(status->modified.time_since_epoch(),
              std::chrono::seconds(expected.st_mtim.tv_sec) + std::chrono::nanoseconds(expected.st_mtim.tv_nsec));
    const auto directory = co_await File::open(reactor, "/", as_path);
    const auto told = co_await directory->status();
    EXPECT_TRUE(told->directory());
}

TEST_F(FileTest, StatusIsWhatTheFilesystemTells) {
    const std::string path = folder.write("five", "12345");
    run([&] { return tell_status(reactor(), path); });
}

Task<> expect_refused(Reactor& reactor, std::string path, OpenOptions options, int error, std::string message) {
    const auto file = co_await File::open(reactor, path, options);
    EXPECT_FALSE(file);
    if (file) co_return;
    EXPECT_EQ(file.error().code.value(), error) << file.error().message;
    EXPECT_EQ(file.error().message, message);
}

TEST_F(FileTest, OpenErrorsNameTheOperationAndThePath) {
    const std::string missing = folder / "missing";
    run([&] {
        return expect_refused(reactor(), missing, {}, ENOENT, "openat2 " + missing + ": No such file or directory");
    });
    run([&] {
        return expect_refused(reactor(), "", {}, ENOENT, "openat2 : No such file or directory (the path is empty)");
    });
    run([&] {
        return expect_refused(reactor(), std::string("/etc\0/passwd", 12), {}, EINVAL,
                              "openat2 /etc\\0/passwd: Invalid argument (the path contains NUL)");
    });
    const std::string file = folder.write("file", "x");
    run([&] {
        return expect_refused(reactor(), file, {.flags = O_DIRECTORY}, ENOTDIR,
                              "openat2 " + file + ": Not a directory");
    });
    const std::string path = folder.path();
    run([&] {
        return expect_refused(reactor(), path, {.flags = O_WRONLY}, EISDIR, "openat2 " + path + ": Is a directory");
    });
}

Task<> expect_below(Reactor& reactor, std::string root, std::string path, ResolveFlags flags, int error) {
    const auto directory = co_await File::open(reactor, root, as_directory);
    if (!directory) throw std::runtime_error(directory.error().message);
    const OpenOptions options{.resolve = flags};
    const auto file = co_await File::open(*directory, path, options);
    EXPECT_EQ(file ? 0 : file.error().code.value(), error) << path;
    if (!file) co_return;
    EXPECT_EQ(file->path(), path.starts_with('/') ? path : root + "/" + path);
    std::array<std::byte, 16> bytes{};
    const auto read = co_await file->read_at(bytes, 0);
    EXPECT_EQ(read.value(), 6u);
}

TEST_F(FileTest, ResolveFlagsKeepAPathBelowItsDirectory) {
    const std::filesystem::path root = folder.path() / "root";
    std::filesystem::create_directories(root / "inner");
    folder.write("secret", "secret");
    folder.write("root/public", "public");
    std::filesystem::create_symlink("../secret", root / "out");
    std::filesystem::create_symlink("../public", root / "inner/in");
    std::filesystem::create_symlink("/public", root / "absolute");
    const struct {
        const char* path;
        ResolveFlags flags;
        int error;
    } cases[] = {
        {"public", ResolveFlags::beneath, 0},
        {"./inner/../public", ResolveFlags::beneath, 0},
        {"inner/in", ResolveFlags::beneath, 0},
        {"inner/in", ResolveFlags::beneath | ResolveFlags::no_symlinks, ELOOP},
        {"../secret", ResolveFlags::none, 0},
        {"../secret", ResolveFlags::beneath, EXDEV},
        {"out", ResolveFlags::none, 0},
        {"out", ResolveFlags::beneath, EXDEV},
        {"/etc/hostname", ResolveFlags::beneath, EXDEV},
        {"absolute", ResolveFlags::beneath, EXDEV},
        {"absolute", ResolveFlags::in_root, 0},
        {"/public", ResolveFlags::in_root, 0},
        {"../../public", ResolveFlags::in_root, 0},
        {"../secret", ResolveFlags::in_root, ENOENT},
    };
    for (const auto& one : cases) {
        run([&] { return expect_below(reactor(), root, one.path, one.flags, one.error); });
    }
}

TEST_F(FileTest, MagicLinksCanBeRefused) {
    const std::string path = folder.write("file", "public");
    const int number = ::open(path.c_str(), O_RDONLY | O_CLOEXEC);
    run([&] { return expect_below(reactor(), "/proc/self/fd", std::to_string(number), ResolveFlags::none, 0); });
    run([&] {
        return expect_below(reactor(), "/proc/self/fd", std::to_string(number), ResolveFlags::no_magic_links, ELOOP);
    });
    ::close(number);
}

Task<> open_fifo(Reactor& reactor, std::string path) {
    const auto file = co_await File::open(reactor, path, without_waiting);
    if (!file) throw std::runtime_error(file.error().message);
    const auto status = co_await file->status();
    EXPECT_EQ(status->type, FileType::fifo);
    EXPECT_EQ(::fcntl(file->descriptor(), F_GETFL) & O_NONBLOCK, 0);
    EXPECT_EQ(::fcntl(file->descriptor(), F_GETFD) & FD_CLOEXEC, FD_CLOEXEC);
}

TEST_F(FileTest, NonBlockingOpenDoesNotWaitForAFifo) {
    const std::string path = folder / "fifo";
    ASSERT_EQ(::mkfifo(path.c_str(), 0600), 0);
    run([&] { return open_fifo(reactor(), path); });
}

Task<> wait_for_fifo(Reactor& reactor, std::string path) {
    auto opening = File::open(reactor, path);
    const auto file = co_await with_deadline(std::move(opening), std::chrono::milliseconds(1));
    // A kernel that finds the name in its cache opens the FIFO without waiting for the other side.
    EXPECT_THAT(file ? 0 : file.error().code.value(), ::testing::AnyOf(0, ECANCELED, EINTR));
}

TEST_F(FileTest, OpeningAFifoEndsAtItsDeadline) {
    const std::string path = folder / "fifo";
    ASSERT_EQ(::mkfifo(path.c_str(), 0600), 0);
    run([&] { return wait_for_fifo(reactor(), path); });
}

Task<> drop_everything(Reactor& reactor, std::string path) {
    { auto opening = File::open(reactor, path); }  // before it is submitted
    auto opening = std::make_unique<FileOperation<File>>(File::open(reactor, path));
    const auto nop = co_await submit_nop(reactor);
    EXPECT_EQ(nop.result, 0);
    opening.reset();  // after it was submitted: its descriptor comes, or has come
    auto file = co_await File::open(reactor, path);
    { auto closing = file->close(); }
    EXPECT_FALSE(*file);
    file = co_await File::open(reactor, path);
    { auto status = file->status(); }
    { auto synced = file->fsync(); }
    std::optional<File> other;
    {
        auto opened = co_await File::open(reactor, path);
        other.emplace(std::move(*opened));
    }
    std::array<std::byte, 8> bytes{};
    auto reading = other->read_at(bytes, 0);
    other.reset();  // the operation keeps the file open
    const auto read = co_await reading;
    EXPECT_EQ(read.value(), 3u);
}

TEST_F(FileTest, WhatIsDestroyedInFlightLeavesNoDescriptor) {
    const std::string path = folder.write("file", "abc");
    for (int round = 0; round < 20; ++round) run([&] { return drop_everything(reactor(), path); });
}

Task<> read_and_leave(Reactor& reactor, std::string path) {
    const auto file = co_await File::open(reactor, path);
    static std::array<std::byte, 8> bytes;
    auto reading = file->read_at(bytes, 0);
}

TEST_F(FileTest, ReadDestroyedInFlightAbortsWithItsName) {
    GTEST_FLAG_SET(death_test_style, "threadsafe");
    const std::string path = folder.write("file", "abc");
    EXPECT_DEATH(run([&] { return read_and_leave(reactor(), path); }),
                 "operation 'read' works on its caller's memory and was destroyed in flight");
}

Task<> misuse(Reactor& reactor, std::string path) {
    auto file = co_await File::open(reactor, path);
    File moved = std::move(*file);
    EXPECT_THROW(static_cast<void>(file->descriptor()), std::logic_error);
    EXPECT_THROW(static_cast<void>(file->status()), std::logic_error);
    auto status = moved.status();
    EXPECT_THROW(static_cast<void>(moved.close()), std::logic_error);
    static_cast<void>(co_await status);
    const auto closed = co_await moved.close();
    EXPECT_TRUE(closed);
    EXPECT_THROW(static_cast<void>(moved.close()), std::logic_error);
    std::thread([&] { EXPECT_THROW(static_cast<void>(File::open(reactor, path)), std::logic_error); }).join();
}

TEST_F(FileTest, MisuseThrows) {
    const std::string path = folder.write("file", "abc");
    run([&] { return misuse(reactor(), path); });
}

Task<> close_adopted(Reactor& reactor, int number) {
    auto file = File::adopt(reactor, number, "the pipe");
    std::array<std::byte, 4> bytes{};
    const auto read = co_await file.read_at(bytes, 0);
    EXPECT_EQ(read.value(), 2u);
    const auto refused = co_await file.write_at(bytes, 0);
    EXPECT_EQ(refused.error().message, "write the pipe: Bad file descriptor");
    // Under its feet: what the kernel says of the close is told.
    ::close(number);
    const auto closed = co_await file.close();
    EXPECT_EQ(closed.error().message, "close the pipe: Bad file descriptor");
}

TEST_F(FileTest, AdoptedDescriptorIsCalledWhatTheCallerSays) {
    int ends[2];
    ASSERT_EQ(::pipe2(ends, O_CLOEXEC), 0);
    const int number = ends[0];
    ASSERT_EQ(::write(ends[1], "ab", 2), 2);
    {
        Reactor own;
        run_task(own, [&] { return close_adopted(own, number); });
    }
    ::close(ends[1]);
}

Task<> fill_table(Reactor& reactor, std::string path) {
    auto file = co_await File::open(reactor, path);
    auto first = file->status();
    auto second = file->status();
    auto third = file->status();
    const auto refused = co_await third;
    EXPECT_EQ(refused.error().code.value(), ENOBUFS);
    EXPECT_THAT(refused.error().message, HasSubstr("statx " + path));
    static_cast<void>(co_await first);
    static_cast<void>(co_await second);
}

TEST_F(FileTest, FullTableOfOperationsIsAnError) {
    const std::string path = folder.write("file", "abc");
    const std::size_t before = open_descriptors();
    {
        ReactorOptions options = small_options();
        options.operation_limit = 2;
        Reactor reactor{0, options};
        run_task(reactor, [&] { return fill_table(reactor, path); });
    }
    EXPECT_EQ(open_descriptors(), before);
}

Task<> end_elsewhere(Reactor& home, Reactor& other, std::string path) {
    auto file = co_await File::open(home, path);
    const auto gone = co_await resume_on(other);
    EXPECT_TRUE(gone);
    { File ended = std::move(*file); }
    static_cast<void>(co_await resume_on(home));
}

TEST_F(FileTest, FileThatEndsOnAnotherThreadGoesHome) {
    const std::string path = folder.write("file", "abc");
    const std::size_t before = open_descriptors();
    {
        ReactorThread other{1};
        Reactor home;
        run_task(home, [&] { return end_elsewhere(home, *other, path); });
    }
    EXPECT_EQ(open_descriptors(), before);
}

struct Holder {
    explicit Holder(std::optional<File>&& what) : file(std::move(what)) {}
    std::optional<File> file;
};

Task<> keep(Reactor& reactor, std::string path) {
    auto file = co_await File::open(reactor, path);
    reactor.add_service<Holder>(std::optional<File>{std::move(*file)});
}

TEST_F(FileTest, FileOfAServiceIsClosedWithItsReactor) {
    const std::string path = folder.write("file", "abc");
    run([&] { return keep(reactor(), path); });
}

Task<> read_all(Reactor& reactor, std::string path, std::string expected, unsigned step) {
    const auto file = co_await File::open(reactor, path);
    std::vector<std::byte> bytes(step);
    std::string read;
    for (;;) {
        const auto count = co_await file->read_at(bytes, read.size());
        if (!count) throw std::runtime_error(count.error().message);
        if (*count == 0) break;
        read.append(reinterpret_cast<const char*>(bytes.data()), *count);
    }
    EXPECT_TRUE(read == expected);
}

TEST_F(FileTest, ColdPagesAreReadWithoutTheLoopWaiting) {
    const std::string expected = pattern(3'000'001);
    const std::string path = folder.write("cold", expected);
    const int number = ::open(path.c_str(), O_RDONLY | O_CLOEXEC);
    ASSERT_EQ(::fdatasync(number), 0);
    ASSERT_EQ(::posix_fadvise(number, 0, 0, POSIX_FADV_DONTNEED), 0);
    ::close(number);
    run([&] { return read_all(reactor(), path, expected, 100'000); });
    run([&] { return read_all(reactor(), path, expected, 4096); });
}

}  // namespace
