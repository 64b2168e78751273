#include <ferrule/net/send_file.hpp>
#include <ferrule/task/scope.hpp>
#include <ferrule/task/yield.hpp>

#include "net/file_transfer.hpp"

#include <cerrno>
#include <stdexcept>
#include <string>
#include <system_error>
#include <utility>

namespace ferrule::inline v0 {

namespace {

using Sent = std::expected<void, SendFileError>;

/// Keeps the file open until the task ends.
class FileReference {
public:
    explicit FileReference(detail::OpenFile& file) noexcept : file_(detail::share(&file)) {}
    FileReference(FileReference&& other) noexcept : file_(std::exchange(other.file_, nullptr)) {}
    FileReference(const FileReference&) = delete;
    FileReference& operator=(const FileReference&) = delete;
    FileReference& operator=(FileReference&&) = delete;
    ~FileReference() {
        if (file_ != nullptr) detail::release(file_);
    }
    [[nodiscard]] detail::OpenFile& operator*() const noexcept { return *file_; }

private:
    detail::OpenFile* file_;
};

Sent failed(SendFileFailure failure, const detail::OpenFile& file, int error, const std::string& why = {}) {
    const std::error_code code{error, std::system_category()};
    return std::unexpected(
        SendFileError{failure, code, "send_file " + file.path + ": " + (why.empty() ? code.message() : why)});
}

Sent cancelled(const detail::OpenFile& file) {
    return failed(SendFileFailure::cancelled, file, ECANCELED);
}

/// Ends the connection for the reason that the transfer has.
Sent broken(FileTransfer& transfer, const detail::OpenFile& file) {
    const FileTransfer::Failure failure = transfer.failure();
    const int error = transfer.connection_error();
    transfer.fail();
    if (failure.truncated) {
        return failed(SendFileFailure::truncated, file, failure.error,
                      "it ends " + std::to_string(transfer.left()) + " bytes before what was to be sent of it");
    }
    return failed(failure.of_file ? SendFileFailure::file : SendFileFailure::connection, file, error);
}

Task<Sent> transfer_file(ConnectionState* state, std::uint32_t generation, FileReference file, std::uint64_t offset,
                         std::uint64_t length) {
    const Environment& environment = co_await this_environment();
    FileTransfer transfer{*state, generation, *file, offset, length};
    if (transfer.failure().error != 0) co_return broken(transfer, *file);

    bool in_one_piece = transfer.small();
    for (bool begun = false; !begun;) {
        // What was written before goes first.
        while (transfer.connected() && transfer.must_flush(in_one_piece && length != 0)) {
            auto flush = transfer.flush_before();
            const auto flushed = co_await flush;
            if (!flushed && transfer.connected()) co_return cancelled(*file);
        }
        if (!transfer.connected()) co_return broken(transfer, *file);
        if (length == 0) co_return Sent{};
        if (transfer.cancelled(environment)) co_return cancelled(*file);
        begun = transfer.begin(in_one_piece);
        if (transfer.failure().error != 0) co_return broken(transfer, *file);
        if (!begun) in_one_piece = false;
    }

    bool copies = in_one_piece;
    for (;;) {
        if (!transfer.sending()) co_return broken(transfer, *file);
        if (transfer.cancelled(environment)) co_return cancelled(*file);
        if (copies) {
            bool reads = transfer.take_segment();
            while (reads) {
                auto reading = transfer.read_segment();
                const OperationResult read = co_await reading;
                reads = transfer.segment_read(read.result);
                if (!transfer.sending()) co_return broken(transfer, *file);
                if (transfer.cancelled(environment)) co_return cancelled(*file);
            }
            if (transfer.failure().error != 0) co_return broken(transfer, *file);
            if (in_one_piece) {
                FileTransfer::Commit commit{transfer};
                const auto sent = co_await commit;
                if (sent) co_return Sent{};
                if (transfer.failure().error == 0 && transfer.connected()) co_return cancelled(*file);
                co_return broken(transfer, *file);
            }
            while (transfer.sending() && transfer.segment_left()) {
                FileTransfer::Room room{transfer};
                const bool goes_on = co_await room;
                if (!goes_on) co_return cancelled(*file);
                if (transfer.failure().error != 0) co_return broken(transfer, *file);
            }
            if (!transfer.sending()) co_return broken(transfer, *file);
            transfer.empty_segment();
            if (transfer.left() != 0) continue;
            transfer.finish();
            co_return Sent{};
        }
        const FileTransfer::Step step = transfer.step();
        if (step == FileTransfer::Step::done) {
            transfer.finish();
            co_return Sent{};
        }
        if (step == FileTransfer::Step::broken) co_return broken(transfer, *file);
        if (step == FileTransfer::Step::turn) {
            co_await yield_now();
        } else if (step == FileTransfer::Step::full) {
            FileTransfer::Room room{transfer};
            const bool goes_on = co_await room;
            if (!goes_on) co_return cancelled(*file);
            if (transfer.failure().error != 0) co_return broken(transfer, *file);
        } else if (step == FileTransfer::Step::cold) {
            auto reading = transfer.warm();
            const OperationResult read = co_await reading;
            if (transfer.cancelled(environment)) co_return cancelled(*file);
            const bool warm = transfer.warmed(read.result);
            if (!warm) co_return broken(transfer, *file);
        } else {
            copies = true;
        }
    }
}

Task<Sent> begin(const detail::ConnectionHandle& handle, const File& file, std::uint64_t offset, std::uint64_t length) {
    const auto [state, generation] = FileTransfer::connection_of(handle);
    Reactor& reactor = handle.reactor();
    if (Host::current() != &reactor)
        throw std::logic_error("send_file: called on a thread that is not the reactor's of its connection");
    if (&file.reactor() != &reactor) throw std::logic_error("send_file: the file is another reactor's");
    return transfer_file(state, generation, FileReference{file.open_file()}, offset, length);
}

}  // namespace

Task<Sent> send_file(Connection& connection, const File& file, std::uint64_t offset, std::uint64_t length) {
    return begin(connection, file, offset, length);
}

Task<Sent> send_file(WriteHalf& half, const File& file, std::uint64_t offset, std::uint64_t length) {
    return begin(half, file, offset, length);
}

}  // namespace ferrule::inline v0
