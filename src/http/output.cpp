#include <ferrule/http/output.hpp>
#include <ferrule/task/host.hpp>

#include <algorithm>
#include <array>

namespace ferrule::inline v0::http::detail {

namespace {

/// Room that a window has at least, so that it is not asked for with each response.
constexpr std::size_t window_bytes_min = 256;

/// Blocks grow in few steps, and fill the classes of the pool of frames.
constexpr std::array<std::uint32_t, 3> block_sizes{4u << 10, 16u << 10, 64u << 10};
static_assert(Output::piece_bytes_max + Output::slack_bytes + sizeof(void*) <= block_sizes.back());

std::span<const std::byte> bytes_of(const char* data, std::size_t size) noexcept {
    return {reinterpret_cast<const std::byte*>(data), size};
}

}  // namespace

bool Output::reserve_slowly(std::size_t bytes) {
    const std::size_t kept = response_bytes();
    if (kept + bytes > piece_bytes_max) return false;
    if (block_bytes_ == 0 && kept == 0 && !waited_) {
        commit();
        const std::size_t writable = stream_->writable();
        if (writable >= bytes) {
            const std::span<std::byte> room = stream_->span(std::min(std::max(bytes, window_bytes_min), writable));
            if (!room.empty()) {
                window_ = response_ = at_ = reinterpret_cast<char*>(room.data());
                // More may have come than was asked for, and than a block takes over.
                end_ = at_ + std::min(room.size(), piece_bytes_max);
                return true;
            }
        }
    }
    take_block(bytes);
    return true;
}

/// With room for so many bytes behind what there is of this response.
void Output::take_block(std::size_t bytes) {
    const std::size_t kept = response_bytes();
    const std::size_t needed = kept + bytes + slack_bytes + sizeof(void*);
    const auto* size = std::find_if(block_sizes.begin(), block_sizes.end() - 1,
                                    [needed](std::uint32_t offered) { return offered >= needed; });
    // The pool adds the name of its owner to what it is asked for.
    const std::uint32_t block_bytes = *size - sizeof(void*);
    auto* block = static_cast<char*>(allocate_frame(block_bytes));
    if (kept != 0) std::memcpy(block, response_, kept);
    if (block_bytes_ != 0) {
        release_block();
    } else {
        at_ = response_;
        commit();
    }
    block_bytes_ = block_bytes;
    window_ = response_ = block;
    at_ = block + kept;
    end_ = block + block_bytes - slack_bytes;
}

void Output::release_block() noexcept {
    deallocate_frame(window_, std::exchange(block_bytes_, 0));
    window_ = response_ = at_ = end_ = nullptr;
}

void Output::commit_window() {
    stream_->advance(static_cast<std::size_t>(at_ - window_));
    left_ = left_ || at_ != response_;
}

bool Output::push() {
    const std::size_t bytes = response_bytes();
    if (bytes == 0) return true;
    if (stream_->writable() < bytes || !stream_->write(bytes_of(response_, bytes))) return false;
    left_ = true;
    response_ = at_ = window_;
    return true;
}

bool Output::push_some(std::size_t room) {
    const std::size_t bytes = std::min(room, response_bytes());
    if (bytes == 0) return true;
    if (!stream_->write(bytes_of(response_, bytes))) return false;
    left_ = true;
    response_ += bytes;
    if (response_ == at_) response_ = at_ = window_;
    return true;
}

bool Output::restart() noexcept {
    if (left_) return false;
    if (block_bytes_ != 0) release_block();
    at_ = response_;
    return true;
}

void Output::wait(bool complete) {
    waited_ = true;
    if (block_bytes_ != 0) return;
    if (response_ != at_ && !complete) {
        take_block(0);
    } else {
        commit();
    }
}

}  // namespace ferrule::inline v0::http::detail
