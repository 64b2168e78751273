#include <ferrule/http/request.hpp>
#include <ferrule/http/session.hpp>
#include <ferrule/reactor/reactor.hpp>
#include <ferrule/task/host.hpp>

#include "http/exchange.hpp"
#include "http/serve_service.hpp"

#include <algorithm>
#include <stdexcept>

namespace ferrule::inline v0::http {

/// Memory of a request; what is handed out is behind it.
struct Request::Block {
    Block* next;
    std::size_t bytes;  // of all of it
    std::size_t used;
};

namespace {
/// So much is taken at a time, at least.
constexpr std::size_t block_bytes_min = 1024 - FramePool::trailer_bytes;
}  // namespace

std::span<char> Request::memory(std::size_t bytes) {
    constexpr std::size_t alignment = alignof(std::max_align_t);
    if (blocks_ != nullptr) {
        const std::size_t at = (blocks_->used + alignment - 1) / alignment * alignment;
        if (at <= blocks_->bytes && bytes <= blocks_->bytes - at) {
            blocks_->used = at + bytes;
            return {reinterpret_cast<char*>(blocks_) + at, bytes};
        }
    }
    constexpr std::size_t header_bytes = (sizeof(Block) + alignment - 1) / alignment * alignment;
    const std::size_t block_bytes = std::max(header_bytes + bytes, block_bytes_min);
    void* memory = allocate_frame(block_bytes);
    blocks_ = std::construct_at(static_cast<Block*>(memory), blocks_, block_bytes, header_bytes + bytes);
    return {static_cast<char*>(memory) + header_bytes, bytes};
}

void Request::release_blocks() noexcept {
    while (blocks_ != nullptr) {
        Block* block = std::exchange(blocks_, blocks_->next);
        deallocate_frame(block, block->bytes);
    }
}

void Request::split() noexcept {
    const Target parts = head_.split();
    split_ = true;
    path_ = raw_path_ = parts.path;
    query_ = parts.query;
}

/// False: it cannot be decoded.
bool Request::decode_path() {
    split();
    if (raw_path_.find('%') == std::string_view::npos) return true;
    const auto decoded = http::decode_path(raw_path_, memory(raw_path_.size()));
    if (!decoded) return false;
    path_ = *decoded;
    return true;
}

std::optional<std::string_view> Request::query_parameter(std::string_view name) {
    const std::optional<std::string_view> value = Query(query()).find(name);
    if (!value || value->find_first_of("%+") == std::string_view::npos) return value;
    const auto decoded = decode_query(*value, memory(value->size()));
    if (!decoded) return std::nullopt;
    return *decoded;
}

void Request::add_parameter(std::string_view name, std::string_view value) {
    if (parameter_count_ == parameters_max) throw std::length_error("a route with more than 16 parameters");
    std::construct_at(&parameters_[parameter_count_++], name, value);
}

bool Request::body_complete() const noexcept {
    const detail::Body& body = session_->exchange_->body;
    return body.state == detail::Body::State::complete && body.piece.empty();
}

std::string_view Request::trailers() const noexcept {
    const detail::Body& body = session_->exchange_->body;
    if (!body.decoder || body.trailers.empty() || !body_complete()) return {};
    return {body.trailers.data(), body.decoder->trailers_size()};
}

Reactor& Request::reactor() const noexcept {
    return session_->service_->reactor();
}

void* Request::stream_of(const void* key) {
    return session_->stream_of(key);
}

}  // namespace ferrule::inline v0::http
