#pragma once

#include <ferrule/version.hpp>

#include <string>
#include <system_error>

namespace ferrule::inline v0 {

/// Why an operation on a file has failed.
struct FileError {
    std::error_code code;  ///< the kernel's errno, or ENOBUFS when the reactor had no room for the operation
    std::string message;   ///< the operation, the path and the reason: `openat2 /srv/a.txt: No such file or directory`
};

}  // namespace ferrule::inline v0
