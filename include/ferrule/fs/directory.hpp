#pragma once

#include <ferrule/fs/file.hpp>
#include <ferrule/fs/file_error.hpp>
#include <ferrule/fs/file_status.hpp>
#include <ferrule/fs/open_options.hpp>
#include <ferrule/reactor/reactor.hpp>
#include <ferrule/task/task.hpp>

#include <cstddef>
#include <cstdint>
#include <expected>
#include <string>
#include <string_view>
#include <vector>

namespace ferrule::inline v0 {

/// A name in a directory.
struct DirectoryEntry {
    std::string name;
    FileType type = FileType::unknown;  ///< as the directory has it; some filesystems keep none there
    std::uint64_t inode = 0;            ///< its number within the device

    bool operator==(const DirectoryEntry&) const = default;
};

/// How a directory is listed.
struct ListOptions {
    std::size_t entry_limit = 65536;            ///< more entries than this are an error: EOVERFLOW
    ResolveFlags resolve = ResolveFlags::none;  ///< how the path is walked
};

/// The names in a directory but `.` and `..`, in the filesystem's order. It is opened on the ring and read on a thread
/// for blocking calls, because the ring cannot read directories: as `offload`, that part cannot be cancelled, and the
/// task must not be destroyed meanwhile (assertion). Errors of openat2(2) (ENOTDIR) and getdents64(2), EAGAIN when
/// ReactorOptions::offload_limit calls wait already. Reactor's own thread.
///
/// ```cpp
/// const auto names = co_await list_directory(reactor, "/etc");
/// if (!names) throw std::runtime_error(names.error().message);
/// for (const DirectoryEntry& entry : *names) connection.write(entry.name + "\n");
/// ```
[[nodiscard]] FERRULE_EXPORT Task<std::expected<std::vector<DirectoryEntry>, FileError>> list_directory(
    Reactor& reactor, std::string_view path, ListOptions options = {});

/// As above, of a path from an open directory on.
[[nodiscard]] FERRULE_EXPORT Task<std::expected<std::vector<DirectoryEntry>, FileError>> list_directory(
    const File& directory, std::string_view path = ".", ListOptions options = {});

}  // namespace ferrule::inline v0
