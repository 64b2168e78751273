#include <ferrule/fs/directory.hpp>

#include "reactor/reactor_fixture.hpp"
#include "support/temporary_folder.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <sys/stat.h>

#include <algorithm>
#include <cerrno>
#include <expected>
#include <filesystem>
#include <string>
#include <utility>
#include <vector>

namespace {

using namespace ferrule;
using namespace ferrule_test;

using Listed = std::expected<std::vector<DirectoryEntry>, FileError>;

Task<> list_path(Reactor& reactor, std::string path, ListOptions options, Listed& listed) {
    listed = co_await list_directory(reactor, path, options);
}

Task<> list_below(Reactor& reactor, std::string root, std::string path, ListOptions options, Listed& listed) {
    const OpenOptions as_directory{.flags = O_PATH | O_DIRECTORY};
    const auto directory = co_await File::open(reactor, root, as_directory);
    if (!directory) throw std::runtime_error(directory.error().message);
    listed = co_await list_directory(*directory, path, options);
}

Listed list(const std::string& path, ListOptions options = {}, Kernel& kernel = linux_kernel()) {
    Listed listed;
    Reactor reactor{0, small_options(), kernel};
    run_task(reactor, [&] { return list_path(reactor, path, options, listed); });
    if (listed) std::sort(listed->begin(), listed->end(), [](auto& a, auto& b) { return a.name < b.name; });
    return listed;
}

std::vector<std::string> names(const Listed& listed) {
    std::vector<std::string> result;
    for (const DirectoryEntry& entry : listed.value()) result.push_back(entry.name);
    return result;
}

TEST(Directory, NamesAndTypesWithoutDots) {
    const TemporaryFolder folder;
    folder.write("a", "1");
    std::filesystem::create_directory(folder / "b");
    std::filesystem::create_symlink("a", folder / "c");
    ASSERT_EQ(::mkfifo((folder / "d").c_str(), 0600), 0);
    const auto listed = list(folder.path());
    ASSERT_TRUE(listed) << listed.error().message;
    ASSERT_EQ(listed->size(), 4u);
    EXPECT_EQ(names(listed), (std::vector<std::string>{"a", "b", "c", "d"}));
    EXPECT_EQ((*listed)[0].type, FileType::regular);
    EXPECT_EQ((*listed)[1].type, FileType::directory);
    EXPECT_EQ((*listed)[2].type, FileType::symbolic_link);
    EXPECT_EQ((*listed)[3].type, FileType::fifo);
    struct stat status {};
    ASSERT_EQ(::stat((folder / "a").c_str(), &status), 0);
    EXPECT_EQ((*listed)[0].inode, status.st_ino);
}

TEST(Directory, EmptyOneHasNoNames) {
    const TemporaryFolder folder;
    EXPECT_TRUE(list(folder.path()).value().empty());
}

TEST(Directory, ManyNamesComeInSeveralReads) {
    const TemporaryFolder folder;
    std::vector<std::string> expected;
    for (int number = 1000; number < 3000; ++number) {
        expected.push_back(std::to_string(number) + std::string(40, 'x'));
        folder.write(expected.back(), "");
    }
    ForwardingKernel kernel;
    EXPECT_EQ(names(list(folder.path(), {}, kernel)), expected);
    EXPECT_GT(kernel.calls(Call::read_directory), 2u);
    const auto refused = list(folder.path(), {.entry_limit = 1999});
    EXPECT_EQ(refused.error().code.value(), EOVERFLOW);
    EXPECT_EQ(list(folder.path(), {.entry_limit = 2000}).value().size(), 2000u);
}

TEST(Directory, BelowADirectory) {
    const TemporaryFolder folder;
    std::filesystem::create_directories(folder / "one/two");
    folder.write("one/two/three", "");
    std::filesystem::create_symlink("..", folder / "one/up");
    Listed listed;
    const auto below = [&](std::string path, ListOptions options = {}) {
        Reactor reactor;
        run_task(reactor, [&] { return list_below(reactor, folder / "one", path, options, listed); });
        return listed;
    };
    EXPECT_EQ(below(".").value().size(), 2u);
    EXPECT_EQ(names(below("two")), std::vector<std::string>{"three"});
    EXPECT_EQ(names(below("up")), std::vector<std::string>{"one"});
    EXPECT_EQ(below("up", {.resolve = ResolveFlags::beneath}).error().code.value(), EXDEV);
}

TEST(Directory, ErrorsNameTheOperationAndThePath) {
    const TemporaryFolder folder;
    EXPECT_EQ(list(folder / "none").error().message, "openat2 " + (folder / "none") + ": No such file or directory");
    const std::string file = folder.write("file", "");
    EXPECT_EQ(list(file).error().message, "openat2 " + file + ": Not a directory");
    ForwardingKernel kernel;
    kernel.fail(Call::read_directory, EIO);
    const std::string path = folder.path();
    EXPECT_EQ(list(path, {}, kernel).error().message, "getdents64 " + path + ": Input/output error");
}

}  // namespace
