#include <ferrule/fs/directory.hpp>
#include <ferrule/reactor/offload.hpp>

#include <dirent.h>

#include <cerrno>
#include <cstddef>
#include <cstring>
#include <system_error>
#include <utility>

namespace ferrule::inline v0 {

namespace {

/// One getdents64(2) takes the entries of most directories.
constexpr std::size_t read_bytes = 32 * 1024;

/// As getdents64(2) writes them; `name` ends with NUL.
struct RawEntry {
    std::uint64_t inode;
    std::int64_t offset;
    std::uint16_t length;
    std::uint8_t type;
    char name[1];
};
constexpr std::size_t name_offset = offsetof(RawEntry, name);

FileType type_of(std::uint8_t type) noexcept {
    switch (type) {
        case DT_REG:
            return FileType::regular;
        case DT_DIR:
            return FileType::directory;
        case DT_LNK:
            return FileType::symbolic_link;
        case DT_BLK:
            return FileType::block_device;
        case DT_CHR:
            return FileType::character_device;
        case DT_FIFO:
            return FileType::fifo;
        case DT_SOCK:
            return FileType::socket;
        default:
            return FileType::unknown;
    }
}

using Entries = std::vector<DirectoryEntry>;

/// On a thread for blocking calls: the entries, or an errno.
std::expected<Entries, int> read_entries(Kernel& kernel, int descriptor, std::size_t entry_limit) {
    Entries entries;
    const auto bytes = std::make_unique<std::byte[]>(read_bytes);
    for (;;) {
        const ssize_t got = kernel.read_directory(descriptor, bytes.get(), read_bytes);
        if (got < 0) return std::unexpected(static_cast<int>(-got));
        if (got == 0) return entries;
        for (std::size_t at = 0; at < static_cast<std::size_t>(got);) {
            RawEntry raw;
            std::memcpy(&raw, bytes.get() + at, name_offset);
            const auto* name = reinterpret_cast<const char*>(bytes.get() + at + name_offset);
            at += raw.length;
            const std::string_view view{name};
            if (view == "." || view == "..") continue;
            if (entries.size() == entry_limit) return std::unexpected(EOVERFLOW);
            entries.push_back({std::string{view}, type_of(raw.type), raw.inode});
        }
    }
}

OpenOptions opening(const ListOptions& options) noexcept {
    return {.flags = O_RDONLY | O_DIRECTORY, .resolve = options.resolve};
}

Task<std::expected<Entries, FileError>> list(Reactor& reactor, FileOperation<File> begun, std::size_t entry_limit) {
    FileOperation<File> opening = std::move(begun);
    auto directory = co_await opening;
    if (!directory) co_return std::unexpected(std::move(directory.error()));
    const auto call = [&kernel = reactor.kernel(), descriptor = directory->descriptor(), entry_limit] {
        return read_entries(kernel, descriptor, entry_limit);
    };
    auto read = offload(call);
    auto entries = co_await read;
    int error = 0;
    if (!entries) {
        error = entries.error().value();
    } else if (!*entries) {
        error = entries->error();
    } else {
        co_return std::move(**entries);
    }
    const std::error_code code{error, std::system_category()};
    co_return std::unexpected(FileError{code, "getdents64 " + directory->path() + ": " + code.message()});
}

}  // namespace

Task<std::expected<Entries, FileError>> list_directory(Reactor& reactor, std::string_view path, ListOptions options) {
    return list(reactor, File::open(reactor, path, opening(options)), options.entry_limit);
}

Task<std::expected<Entries, FileError>> list_directory(const File& directory, std::string_view path,
                                                       ListOptions options) {
    return list(directory.reactor(), File::open(directory, path, opening(options)), options.entry_limit);
}

}  // namespace ferrule::inline v0
