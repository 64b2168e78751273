#pragma once

#include <ferrule/version.hpp>

#include <fcntl.h>

#include <cstdint>

namespace ferrule::inline v0 {

/// How a path is walked: RESOLVE_* of openat2(2). Combine them with `|`.
enum class ResolveFlags : std::uint64_t {
    none = 0,
    no_crossing_devices = 0x01,  ///< EXDEV where a mount point is on the way
    no_magic_links = 0x02,       ///< ELOOP at links such as /proc/self/fd/3, which lead anywhere
    no_symlinks = 0x04,          ///< ELOOP at any symbolic link
    beneath = 0x08,              ///< EXDEV where the way leaves the directory it began in, by `..`, `/` or a link
    in_root = 0x10,              ///< that directory is the root: `/` and `..` stay in it
};

/// Both.
[[nodiscard]] constexpr ResolveFlags operator|(ResolveFlags left, ResolveFlags right) noexcept {
    return static_cast<ResolveFlags>(static_cast<std::uint64_t>(left) | static_cast<std::uint64_t>(right));
}

/// How a file is opened.
struct OpenOptions {
    /// O_* of open(2); O_CLOEXEC is always added. With O_NONBLOCK the opening of a FIFO or a device does not wait for
    /// its other side; the open file is without it, because all that waits does so in the ring.
    int flags = O_RDONLY;
    /// Permission bits of a file that is made (O_CREAT, O_TMPFILE), less the process's umask.
    std::uint32_t mode = 0666;
    /// How the path is walked.
    ResolveFlags resolve = ResolveFlags::none;
};

}  // namespace ferrule::inline v0
