#pragma once

#include <ferrule/fs/file.hpp>
#include <ferrule/net/connection.hpp>
#include <ferrule/task/task.hpp>
#include <ferrule/version.hpp>

#include <cstdint>
#include <expected>
#include <string>
#include <system_error>

namespace ferrule::inline v0 {

/// What has kept a file from being sent.
enum class SendFileFailure : std::uint8_t {
    connection,  ///< writing to the connection has failed, or was shut down: as after a failed flush
    file,        ///< reading the file has failed
    truncated,   ///< the file has fewer bytes than were to be sent: it ended before, or it was cut meanwhile
    cancelled,   ///< its scope was cancelled
};

/// Why a file was not sent, or not all of it.
struct SendFileError {
    SendFileFailure failure = SendFileFailure::connection;
    std::error_code code;  ///< the errno; ENODATA when the file was truncated, ECANCELED when it was cancelled
    std::string message;   ///< the operation, the file and the reason
};

/// Sends exactly `length` bytes of a regular file from `offset` on, behind what was written before, which is sent with
/// it. Ends when the kernel has taken all of it.
///
/// Up to NetworkOptions::file_copy_limit bytes are read into a block behind what was written, and both leave in one
/// send. More go by sendfile(2), from the page cache to the socket without a copy; what is not in the cache is read in
/// the ring first, so neither the disk nor the peer keeps the loop waiting. A peer that reads slowly costs no memory
/// but the kernel's socket buffer; NetworkOptions::write_timeout applies. Files that cannot be sent so (those of /proc)
/// are read and sent piece by piece.
///
/// ```cpp
/// const auto file = co_await File::open(reactor, "/srv/www/index.html");
/// if (!file) throw std::runtime_error(file.error().message);
/// const auto status = co_await file->status();
/// connection.write("HTTP/1.1 200 OK\r\nContent-Length: " + std::to_string(status->size) + "\r\n\r\n");
/// auto sending = send_file(connection, *file, 0, status->size);
/// const auto sent = co_await sending;
/// if (!sent) std::fputs(sent.error().message.c_str(), stderr);  // the connection has ended
/// ```
///
/// What is written meanwhile leaves behind the file. A second send_file on the connection before this one has ended is
/// misuse and throws std::logic_error, as is a file of another reactor. The connection may be closed meanwhile: the
/// file goes out first; so it does when writing is shut down meanwhile.
///
/// A connection on which it fails is ended with a reset (Connection::abort), because the stream has a gap from there
/// on: the peer never gets other bytes in the place of missing ones. The same holds when it is cancelled or destroyed
/// after its first byte has left; before that, the connection is as if it had not been called. Cancelling a piece up to
/// file_copy_limit that is being sent already takes nothing back.
///
/// The task takes the file's and the connection's place at the call; neither handle has to stay. Reactor's own thread.
/// Linux 6.5 tells cheaply what is cached (cachestat(2)); before, and for files that the process neither owns nor may
/// write, it is found by reading without waiting, which costs about a quarter more.
[[nodiscard]] FERRULE_EXPORT Task<std::expected<void, SendFileError>> send_file(Connection& connection,
                                                                                const File& file, std::uint64_t offset,
                                                                                std::uint64_t length);

/// As above.
[[nodiscard]] FERRULE_EXPORT Task<std::expected<void, SendFileError>> send_file(WriteHalf& half, const File& file,
                                                                                std::uint64_t offset,
                                                                                std::uint64_t length);

}  // namespace ferrule::inline v0
