// Files of simulated machines: what Linux says of the same paths, reads and writes, and what the page cache does.
#include <ferrule/ring/prepare.hpp>
#include <ferrule/ring/ring.hpp>
#include <ferrule/sim/machine.hpp>
#include <ferrule/sim/random.hpp>
#include <ferrule/sim/simulation.hpp>

#include "sim/without_thread_sanitizer.hpp"
#include "support/temporary_folder.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <fcntl.h>
#include <linux/openat2.h>
#include <linux/stat.h>
#include <sys/stat.h>
#include <sys/uio.h>

#include <array>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <functional>
#include <stdexcept>
#include <string>
#include <vector>

namespace ferrule {
namespace {

namespace abi = ferrule::abi;
using sim::Fault;
using FileSystem = ferrule_test::WithoutThreadSanitizer;

/// Files by a ring of a kernel, one operation after the other.
class Files {
public:
    explicit Files(Kernel& of_machine) : kernel(of_machine), ring_(make(of_machine)) {}

    std::int32_t open(int from, const std::string& path, std::uint64_t flags, std::uint64_t resolve = 0,
                      std::uint64_t mode = 0) {
        struct open_how how {
            .flags = flags | O_CLOEXEC, .mode = mode, .resolve = resolve
        };
        return run(
            [&](abi::SubmissionEntry& entry) { prepare::open_at2(entry, from, path.c_str(), &how, sizeof how); });
    }
    /// Whether it opens, or why not.
    std::int32_t try_open(int from, const std::string& path, std::uint64_t flags, std::uint64_t resolve = 0) {
        const std::int32_t fd = open(from, path, flags, resolve, (flags & O_CREAT) != 0 ? 0644 : 0);
        if (fd < 0) return fd;
        kernel.close(fd);
        return 0;
    }
    std::int32_t read(int fd, std::span<char> into, std::uint64_t offset) {
        return run([&](abi::SubmissionEntry& entry) {
            prepare::read(entry, fd, into.data(), static_cast<std::uint32_t>(into.size()), offset);
        });
    }
    std::int32_t readv(int fd, std::span<const iovec> parts, std::uint64_t offset) {
        return run([&](abi::SubmissionEntry& entry) {
            prepare::readv(entry, fd, parts.data(), static_cast<std::uint32_t>(parts.size()), offset, 0);
        });
    }
    std::int32_t write(int fd, std::string_view bytes, std::uint64_t offset) {
        return run([&](abi::SubmissionEntry& entry) {
            prepare::write(entry, fd, bytes.data(), static_cast<std::uint32_t>(bytes.size()), offset);
        });
    }
    std::int32_t writev(int fd, std::span<const iovec> parts, std::uint64_t offset) {
        return run([&](abi::SubmissionEntry& entry) {
            prepare::writev(entry, fd, parts.data(), static_cast<std::uint32_t>(parts.size()), offset, 0);
        });
    }
    std::int32_t synchronise(int fd) {
        return run([&](abi::SubmissionEntry& entry) { prepare::fsync(entry, fd, 0); });
    }
    std::int32_t status(int from, const char* path, int flags, struct ::statx& told) {
        return run(
            [&](abi::SubmissionEntry& entry) { prepare::statx(entry, from, path, flags, STATX_BASIC_STATS, &told); });
    }

    Kernel& kernel;

    /// Submits it; `wait` has its result.
    void begin_readv(int fd, const iovec& part) {
        prepare::readv(ring_.entry(), fd, &part, 1, 0, 0);
        ring_.submit();
    }
    std::int32_t wait() {
        for (;;) {
            ring_.enter(1, 5'000'000'000);
            if (const auto completion = ring_.try_completion()) return completion->result;
        }
    }

private:
    static Ring make(Kernel& kernel) {
        auto ring = Ring::create(kernel, {.entries = 8});
        if (!ring) throw std::runtime_error(ring.error().message);
        return std::move(*ring);
    }
    std::int32_t run(const std::function<void(abi::SubmissionEntry&)>& prepare) {
        prepare(ring_.entry());
        return wait();
    }

    Ring ring_;
};

using Script = std::function<void(Files&, int folder, std::vector<std::string>& log)>;

void note(std::vector<std::string>& log, const std::string& what, std::int64_t result) {
    log.push_back(what + " = " + (result < 0 ? strerrorname_np(static_cast<int>(-result)) : std::to_string(result)));
}

/// The same folder on both kernels, and the same lines of both.
void expect_same_as_linux(const Script& script) {
    std::vector<std::string> expected;
    {
        const ferrule_test::TemporaryFolder folder;
        const std::filesystem::path root{folder.path()};
        std::filesystem::create_directories(root / "inner" / "deep");
        std::ofstream(root / "file") << "0123456789";
        std::ofstream(root / "inner" / "deep" / "leaf") << "leaf";
        std::filesystem::create_symlink("file", root / "link");
        std::filesystem::create_symlink("inner/deep", root / "way");
        std::filesystem::create_symlink("../file", root / "inner" / "up");
        std::filesystem::create_symlink("../../outside", root / "inner" / "out");
        std::filesystem::create_symlink("/", root / "absolute");
        std::filesystem::create_symlink("loop", root / "loop");
        std::filesystem::create_symlink("nowhere", root / "dangling");
        Files files{linux_kernel()};
        const int fd = files.open(AT_FDCWD, root.string(), O_RDONLY | O_DIRECTORY);
        ASSERT_GE(fd, 0);
        script(files, fd, expected);
        files.kernel.close(fd);
    }
    for (std::uint64_t seed = 1; seed <= 5; ++seed) {
        std::vector<std::string> log;
        sim::Simulation simulation{{.seed = seed}};
        sim::Machine& machine = simulation.machine("host");
        machine.write_file("/folder/file", "0123456789");
        machine.write_file("/folder/inner/deep/leaf", "leaf");
        machine.make_link("/folder/link", "file");
        machine.make_link("/folder/way", "inner/deep");
        machine.make_link("/folder/inner/up", "../file");
        machine.make_link("/folder/inner/out", "../../outside");
        machine.make_link("/folder/absolute", "/");
        machine.make_link("/folder/loop", "loop");
        machine.make_link("/folder/dangling", "nowhere");
        simulation.process(machine, "script", [&] {
            Files files{machine.kernel()};
            const int fd = files.open(AT_FDCWD, "/folder", O_RDONLY | O_DIRECTORY);
            ASSERT_GE(fd, 0);
            script(files, fd, log);
            files.kernel.close(fd);
        });
        ASSERT_TRUE(simulation.run()) << simulation.findings().front();
        ASSERT_EQ(log, expected) << "seed " << seed;
    }
}

TEST_F(FileSystem, PathsLeadWhereTheyLeadOnLinux) {
    expect_same_as_linux([](Files& files, int folder, std::vector<std::string>& log) {
        static constexpr std::array paths = {
            "file",     "./file",         "inner/../file", "../folder", "..",           "inner",
            "inner/",   "file/",          "file/x",        "missing",   "missing/file", "link",
            "way/leaf", "way/../../file", "inner/up",      "inner/out", "absolute",     "absolute/tmp",
            "loop",     "loop/x",         "dangling",      "way/",      "link/",        ".",
            "/",        "inner/deep/leaf"};
        for (const char* path : paths) {
            if (std::string_view(path) == "../folder" || std::string_view(path) == "absolute/tmp") continue;
            for (const std::uint64_t resolve :
                 {std::uint64_t{0}, std::uint64_t{RESOLVE_BENEATH}, std::uint64_t{RESOLVE_NO_SYMLINKS},
                  std::uint64_t{RESOLVE_IN_ROOT}, std::uint64_t{RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS}}) {
                for (const std::uint64_t flags :
                     {std::uint64_t{O_RDONLY}, std::uint64_t{O_DIRECTORY}, std::uint64_t{O_NOFOLLOW},
                      std::uint64_t{O_PATH}, std::uint64_t{O_PATH | O_NOFOLLOW}}) {
                    note(log, std::string(path) + " " + std::to_string(resolve) + " " + std::to_string(flags),
                         files.try_open(folder, path, flags, resolve));
                }
            }
        }
        note(log, "both roots", files.try_open(folder, "file", O_RDONLY, RESOLVE_BENEATH | RESOLVE_IN_ROOT));
        note(log, "unknown", files.try_open(folder, "file", O_RDONLY, 0x8000));
        note(log, "mode", files.open(folder, "file", O_RDONLY, 0, 0600));
        note(log, "empty", files.try_open(folder, "", O_RDONLY));
        note(log, "no folder", files.try_open(9999, "file", O_RDONLY));
        note(log, "write folder", files.try_open(folder, "inner", O_WRONLY));
        note(log, "long", files.try_open(folder, std::string(256, 'n'), O_RDONLY));
        note(log, "exclusive", files.try_open(folder, "file", O_CREAT | O_EXCL | O_WRONLY));
        note(log, "exclusive link", files.try_open(folder, "dangling", O_CREAT | O_EXCL | O_WRONLY));
        note(log, "made", files.try_open(folder, "made", O_CREAT | O_WRONLY));
        note(log, "made again", files.try_open(folder, "made", O_CREAT | O_EXCL | O_WRONLY));
        note(log, "made in nothing", files.try_open(folder, "missing/made", O_CREAT | O_WRONLY));
        note(log, "made folder", files.try_open(folder, "inner", O_CREAT | O_RDONLY));
    });
}

TEST_F(FileSystem, RandomReadsAndWritesGiveWhatLinuxGives) {
    expect_same_as_linux([](Files& files, int folder, std::vector<std::string>& log) {
        sim::Random random{5};
        const int both = files.open(folder, "data", O_RDWR | O_CREAT, 0, 0644);
        const int reads = files.open(folder, "data", O_RDONLY);
        const int writes = files.open(folder, "data", O_WRONLY);
        const int appends = files.open(folder, "data", O_WRONLY | O_APPEND);
        const std::array fds = {both, reads, writes, appends, folder};
        std::string bytes(6000, '\0');
        for (unsigned step = 0; step < 300; ++step) {
            const int fd = fds[random.below(fds.size())];
            const std::uint64_t offset = random.below(12'000);
            const std::size_t length = random.below(bytes.size());
            const std::size_t cut = random.below(length + 1);
            std::array<iovec, 2> parts{{{bytes.data(), cut}, {bytes.data() + cut, length - cut}}};
            switch (random.below(6)) {
                case 0:
                case 1: {
                    const std::int32_t got = random.one_in(2) ? files.read(fd, {bytes.data(), length}, offset)
                                                              : files.readv(fd, parts, offset);
                    note(log, "read", got);
                    if (got > 0) log.back() += bytes.substr(0, static_cast<std::size_t>(got));
                    break;
                }
                case 2:
                case 3:
                    for (std::size_t at = 0; at < length; ++at) bytes[at] = static_cast<char>('a' + (step + at) % 26);
                    note(log, "write",
                         random.one_in(2) ? files.write(fd, {bytes.data(), length}, offset)
                                          : files.writev(fd, parts, offset));
                    break;
                case 4: {
                    struct ::statx told {};
                    note(log, "status", files.status(fd, "", AT_EMPTY_PATH, told));
                    if (fd != folder) log.back() += " of " + std::to_string(told.stx_size);
                    log.back() += " mode " + std::to_string(told.stx_mode & S_IFMT);
                    break;
                }
                default:
                    if (fd != folder) note(log, "fsync", files.synchronise(fd));
            }
        }
        struct ::statx told {};
        note(log, "status", files.status(folder, "", 0, told));
        note(log, "status", files.status(folder, "link", AT_SYMLINK_NOFOLLOW, told));
        log.back() += " mode " + std::to_string(told.stx_mode & S_IFMT);
        note(log, "status", files.status(folder, "link", 0, told));
        log.back() += " mode " + std::to_string(told.stx_mode & S_IFMT);
        note(log, "status", files.status(folder, "missing", 0, told));
        for (const int fd : {both, reads, writes, appends}) files.kernel.close(fd);
    });
}

/// A program on a machine whose file /data has so many bytes.
void on_machine(std::size_t bytes, sim::Faults faults, const std::function<void(Files&, sim::Machine&, int)>& program,
                sim::MachineOptions options = {}) {
    sim::Simulation simulation{{.faults = std::move(faults)}};
    sim::Machine& machine = simulation.machine("host", std::move(options));
    machine.write_file("/data", std::string(bytes, 'd'));
    simulation.process(machine, "program", [&] {
        Files files{machine.kernel()};
        const int fd = files.open(AT_FDCWD, "/data", O_RDWR);
        ASSERT_GE(fd, 0);
        program(files, machine, fd);
        files.kernel.close(fd);
    });
    EXPECT_TRUE(simulation.run()) << simulation.findings().front();
}

TEST_F(FileSystem, AReadOfColdPagesWaitsForTheDisk) {
    on_machine(20'000, {}, [](Files& files, sim::Machine& machine, int fd) {
        std::string bytes(10'000, '\0');
        const iovec part{bytes.data(), bytes.size()};
        EXPECT_EQ(files.kernel.read_cached(fd, &part, 1, 0), 10'000);
        EXPECT_EQ(files.kernel.cached_bytes(fd, 0, 20'000), 20'000);
        std::uint64_t before = files.kernel.monotonic_ns();
        EXPECT_EQ(files.read(fd, bytes, 0), 10'000);
        EXPECT_LT(files.kernel.monotonic_ns() - before, 10'000u);
        EXPECT_TRUE(machine.drop_pages("/data"));
        EXPECT_EQ(files.kernel.read_cached(fd, &part, 1, 0), -EAGAIN);
        EXPECT_EQ(files.kernel.cached_bytes(fd, 0, 20'000), 0);
        before = files.kernel.monotonic_ns();
        EXPECT_EQ(files.read(fd, {bytes.data(), 5000}, 0), 5000);
        EXPECT_GT(files.kernel.monotonic_ns() - before, 40'000u);
        EXPECT_EQ(files.kernel.read_cached(fd, &part, 1, 0), 8192) << "up to the first page that is not there";
        EXPECT_EQ(files.kernel.cached_bytes(fd, 0, 20'000), 8192);
    });
}

#if !defined(__SANITIZE_ADDRESS__)
// Memory that a program touches while a readv waits for the disk is found; unless the kernel itself reads there at the
// same time, into what nobody looks at.
TEST_F(FileSystem, TouchingWhatAReadvReadsIntoIsFound) {
    const auto found = [](bool touches, bool reads_beside) {
        sim::Simulation simulation{{}};
        sim::Machine& machine = simulation.machine("host");
        machine.write_file("/data", std::string(20'000, 'd'));
        simulation.process(machine, "program", [&] {
            Files files{machine.kernel()};
            const int fd = files.open(AT_FDCWD, "/data", O_RDWR);
            machine.drop_pages("/data");
            std::string bytes(4096, '\0');
            const iovec part{bytes.data(), bytes.size()};
            EXPECT_EQ(files.read(fd, bytes, 8192), 4096);
            files.begin_readv(fd, part);
            if (touches) bytes[0] = 'x';
            if (reads_beside) EXPECT_EQ(files.kernel.read_cached(fd, &part, 1, 8192), 4096);
            EXPECT_EQ(files.wait(), 4096);
            files.kernel.close(fd);
        });
        return simulation.run() ? std::string{} : simulation.findings().front();
    };
    EXPECT_THAT(found(true, false), testing::HasSubstr("was changed while the kernel had it"));
    EXPECT_EQ(found(false, true), "");
    EXPECT_EQ(found(false, false), "");
}
#endif

TEST_F(FileSystem, OlderKernelsDoNotTellWhatIsCached) {
    sim::MachineOptions options;
    options.profile = sim::Profile::linux_6_1;
    on_machine(
        100, {}, [](Files& files, sim::Machine&, int fd) { EXPECT_EQ(files.kernel.cached_bytes(fd, 0, 100), -ENOSYS); },
        options);
    on_machine(100, {}, [](Files& files, sim::Machine& machine, int fd) {
        EXPECT_TRUE(machine.file_mode("/data", 0444));
        EXPECT_EQ(files.kernel.cached_bytes(fd, 0, 100), -EPERM);
    });
}

TEST_F(FileSystem, PlacedFaultsOfFiles) {
    const auto first = [](Fault fault) {
        sim::Faults faults;
        faults.placed = {{fault, 0}};
        return faults;
    };
    on_machine(100, first(Fault::file_read_fails), [](Files& files, sim::Machine&, int fd) {
        std::string bytes(100, '\0');
        EXPECT_EQ(files.read(fd, bytes, 0), -EIO);
        EXPECT_EQ(files.read(fd, bytes, 0), 100);
    });
    on_machine(100, first(Fault::short_file_read), [](Files& files, sim::Machine&, int fd) {
        std::string bytes(100, '\0');
        EXPECT_LT(files.read(fd, bytes, 0), 100);
    });
    on_machine(100, first(Fault::file_shrinks), [](Files& files, sim::Machine& machine, int fd) {
        std::string bytes(100, '\0');
        EXPECT_LT(files.read(fd, bytes, 0), 100);
        EXPECT_LT(machine.file("/data")->size(), 100u);
    });
    on_machine(100, first(Fault::disk_full), [](Files& files, sim::Machine&, int fd) {
        EXPECT_EQ(files.write(fd, "more", 100), -ENOSPC);
        EXPECT_EQ(files.write(fd, "more", 100), 4);
    });
    sim::MachineOptions small;
    small.disk_bytes = 102;
    on_machine(
        100, {}, [](Files& files, sim::Machine&, int fd) { EXPECT_EQ(files.write(fd, "more", 100), -ENOSPC); }, small);
}

TEST_F(FileSystem, AFolderIsListedAndAFileIsRead) {
    on_machine(100, {}, [](Files& files, sim::Machine& machine, int) {
        machine.write_file("/etc/hosts", "10.0.0.9 nine # a comment\nfd00::9 nine other\n");
        const int folder = files.open(AT_FDCWD, "/etc", O_RDONLY | O_DIRECTORY);
        std::array<char, 512> entries{};
        const ssize_t got = files.kernel.read_directory(folder, entries.data(), entries.size());
        EXPECT_GT(got, 0);
        EXPECT_NE(std::string(entries.data(), static_cast<std::size_t>(got)).find("hosts"), std::string::npos);
        EXPECT_EQ(files.kernel.read_directory(folder, entries.data(), entries.size()), 0);
        files.kernel.close(folder);
        std::array<sockaddr_storage, 4> addresses{};
        EXPECT_EQ(files.kernel.resolve_name("nine", addresses.data(), addresses.size()), 2);
        EXPECT_EQ(addresses[1].ss_family, AF_INET6);
        EXPECT_EQ(files.kernel.resolve_name("ten", addresses.data(), addresses.size()), -ENOENT);
        EXPECT_EQ(files.kernel.read_file("/etc/hosts", entries.data(), 8), 8);
        EXPECT_EQ(files.kernel.read_file("/etc/none", entries.data(), 8), -ENOENT);
    });
}

}  // namespace
}  // namespace ferrule
