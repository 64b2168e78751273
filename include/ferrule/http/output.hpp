#pragma once

#include <ferrule/assert.hpp>
#include <ferrule/http/stream_access.hpp>
#include <ferrule/version.hpp>

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <string_view>

namespace ferrule::inline v0::http::detail {

/// Where a connection's responses are made: in one piece each, so that what stands at the front can be filled in at the
/// end. Usually that is a window of what the stream will send, into which several responses are made one behind the
/// other; a response that outgrows it, and one whose handler has waited (the window is good until somebody awaits), is
/// made in a block of the reactor's pool instead.
///
///     window:  | earlier responses, not told to the stream yet | this response | room |
///              window_                                         response_       at_    end_
///     block:   | this response, or what has not left of it | room |
///              window_ = response_                         at_    end_
class FERRULE_EXPORT Output {
public:
    /// The most that is made in one piece.
    static constexpr std::size_t piece_bytes_max = (64u << 10) - sizeof(void*) - 64;
    /// What a block has beyond its end, for what closes a chunk or makes one of a piece.
    static constexpr std::size_t slack_bytes = 32;

    explicit Output(StreamAccess& stream) noexcept : stream_(&stream) {}
    Output(const Output&) = delete;
    Output& operator=(const Output&) = delete;
    ~Output() {
        if (block_bytes_ != 0) release_block();
    }

    /// Makes room for so many bytes behind those of this response. False: it would be more than `piece_bytes_max`, and
    /// nothing has changed. Throws std::bad_alloc.
    bool reserve(std::size_t bytes) {
        return static_cast<std::ptrdiff_t>(bytes) <= end_ - at_ || reserve_slowly(bytes);
    }
    /// From now on, until the end of this response, in a block. Throws std::bad_alloc.
    void move_to_block() {
        if (block_bytes_ == 0) take_block(0);
    }

    /// The next byte is written here; there are `room` of them.
    [[nodiscard]] char* at() const noexcept { return at_; }
    [[nodiscard]] std::size_t room() const noexcept { return at_ < end_ ? static_cast<std::size_t>(end_ - at_) : 0; }
    void advance(std::size_t bytes) noexcept { at_ += bytes; }
    /// Takes the last bytes back.
    void retreat(std::size_t bytes) noexcept { at_ -= bytes; }
    /// There is room.
    void put(std::string_view text) noexcept {
        if (text.empty()) return;  // it may be nowhere
        std::memcpy(at_, text.data(), text.size());
        at_ += text.size();
    }
    /// The first byte of this response that has not left, and how many there are.
    [[nodiscard]] char* response() const noexcept { return response_; }
    [[nodiscard]] std::size_t response_bytes() const noexcept { return static_cast<std::size_t>(at_ - response_); }
    [[nodiscard]] bool in_block() const noexcept { return block_bytes_ != 0; }

    /// Hands what is made in the window to the stream, this response as far as it is made with it.
    void commit() {
        if (block_bytes_ == 0 && at_ != window_) commit_window();
        if (block_bytes_ == 0) window_ = response_ = at_ = end_ = nullptr;
    }
    /// Hands what is made in the block to the stream. False, and nothing has changed: it has no room for it.
    bool push();
    /// Of what is made in the block, as much as the stream has room for; false: it has failed.
    bool push_some(std::size_t room);
    /// This response has its end. False: something of it is still in the block.
    bool finish() {
        if (block_bytes_ != 0) [[unlikely]] {
            if (!push()) return false;
            release_block();
        }
        response_ = at_;
        left_ = waited_ = false;
        return true;
    }
    /// Forgets what is made of this response. False, and nothing has changed: something of it has left.
    bool restart() noexcept;

    /// This response's handler waits: no window for it any more. Where it is complete it goes to the stream.
    void wait(bool complete);
    /// Whether it has.
    [[nodiscard]] bool waited() const noexcept { return waited_; }

    /// Something of this response was written to the stream directly, behind all that was made.
    void wrote() noexcept { left_ = true; }
    /// Whether something of it has left.
    [[nodiscard]] bool left() const noexcept { return left_; }
    /// Bytes of earlier responses that the stream was not told of.
    [[nodiscard]] std::size_t window_bytes() const noexcept {
        return block_bytes_ == 0 ? static_cast<std::size_t>(at_ - window_) : 0;
    }

private:
    bool reserve_slowly(std::size_t bytes);
    void take_block(std::size_t bytes);
    void release_block() noexcept;
    void commit_window();

    StreamAccess* stream_;
    char* window_ = nullptr;
    char* response_ = nullptr;
    char* at_ = nullptr;
    char* end_ = nullptr;
    std::uint32_t block_bytes_ = 0;  // 0: there is no block
    bool waited_ = false;
    bool left_ = false;
};

}  // namespace ferrule::inline v0::http::detail
