#pragma once

#include <ferrule/net/stream.hpp>

#include <coroutine>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <memory>
#include <string>
#include <string_view>
#include <system_error>
#include <utility>
#include <vector>

namespace ferrule_test {

/// A byte source without a network: each read brings the next piece that the test supplies, in memory of its own, and
/// waits while there is none. What a TLS session will be to those who read from it.
class MemorySource final : public ferrule::LeaseHome {
public:
    class Awaiter {
    public:
        explicit Awaiter(MemorySource& source) noexcept : source_(&source) {}
        Awaiter(Awaiter&&) noexcept = default;
        ~Awaiter() {
            if (waits_) source_->waiter_ = nullptr;
        }
        bool await_ready() const noexcept { return source_->ready(); }
        void await_suspend(std::coroutine_handle<> waiter) noexcept {
            source_->waiter_ = waiter;
            waits_ = true;
        }
        ferrule::ReadResult await_resume() noexcept {
            waits_ = false;
            source_->waiter_ = nullptr;
            return source_->take();
        }

    private:
        MemorySource* source_;
        bool waits_ = false;
    };

    explicit MemorySource(std::vector<std::string_view> pieces = {}) {
        for (const std::string_view piece : pieces) supply(piece);
    }

    /// Brings a piece; whoever waits gets it.
    void supply(std::string_view piece) {
        pieces_.emplace_back(piece);
        ferrule::LeaseNode& node = make(pieces_.back().size());
        node.data = reinterpret_cast<std::byte*>(pieces_.back().data());
        node.length = static_cast<std::uint32_t>(piece.size());
        supplied_.push_back(&node);
        wake();
    }
    /// No more comes.
    void end(ferrule::EndReason reason = ferrule::EndReason::end_of_stream) {
        reason_ = reason;
        wake();
    }
    /// Whether somebody waits for a piece.
    [[nodiscard]] bool waited_for() const noexcept { return waiter_ != nullptr; }
    /// Nodes that are out.
    [[nodiscard]] std::size_t out() const noexcept { return out_; }
    /// Bytes of blocks that were taken for gathering.
    [[nodiscard]] std::size_t gathered() const noexcept { return gathered_; }
    /// Whether the bytes lie where they were supplied.
    [[nodiscard]] bool in_place(ferrule::Slice slice) const {
        for (const std::string& piece : pieces_) {
            const auto* begin = reinterpret_cast<const std::byte*>(piece.data());
            if (slice.data() >= begin && slice.data() + slice.size() <= begin + piece.size()) return true;
        }
        return false;
    }
    /// Reads so many times as there are pieces, without waiting.
    ferrule::ReadResult take_all() {
        ferrule::LeaseNode* first = nullptr;
        ferrule::LeaseNode** end = &first;
        while (!supplied_.empty()) {
            *end = supplied_.front();
            supplied_.pop_front();
            end = &(*end)->next;
            ++out_;
        }
        return ferrule::ReadResult{first};
    }

    // ByteSource.
    Awaiter read() noexcept { return Awaiter{*this}; }
    ferrule::ReadResult take_carried() noexcept { return ferrule::ReadResult{std::exchange(carried_, nullptr)}; }
    ferrule::EndReason end_reason() const noexcept { return reason_; }
    std::error_code error() const noexcept { return {}; }

    // LeaseHome.
    void give_back(ferrule::LeaseNode&) noexcept override { --out_; }
    void carry(ferrule::LeaseNode* first) noexcept override {
        first->carried = true;
        ferrule::LeaseNode** end = &carried_;
        while (*end != nullptr) end = &(*end)->next;
        *end = first;
    }
    ferrule::LeaseNode* take_block(std::uint32_t bytes) noexcept override {
        if (full) return nullptr;
        blocks_.push_back(std::make_unique<std::byte[]>(bytes));
        ferrule::LeaseNode& node = make(bytes);
        node.data = node.block = blocks_.back().get();
        node.block_bytes = bytes;
        gathered_ += bytes;
        ++out_;
        return &node;
    }

    /// No block is given out.
    bool full = false;

private:
    [[nodiscard]] bool ready() const noexcept { return !supplied_.empty() || reason_ != ferrule::EndReason::none; }
    void wake() {
        if (waiter_) waiter_.resume();
    }
    ferrule::ReadResult take() noexcept {
        if (supplied_.empty()) return {};
        ferrule::LeaseNode* first = supplied_.front();
        supplied_.pop_front();
        ++out_;
        if (ferrule::LeaseNode* carried = std::exchange(carried_, nullptr); carried != nullptr) {
            ferrule::LeaseNode* last = carried;
            while (last->next != nullptr) last = last->next;
            last->next = std::exchange(first, carried);
        }
        return ferrule::ReadResult{first};
    }
    ferrule::LeaseNode& make(std::size_t bytes) {
        ferrule::LeaseNode& node = nodes_.emplace_back();
        node.home = this;
        node.owner = ferrule::LeaseOwner::shared;
        node.charged = static_cast<std::uint32_t>(bytes);
        return node;
    }

    std::deque<std::string> pieces_;
    std::deque<ferrule::LeaseNode> nodes_;
    std::vector<std::unique_ptr<std::byte[]>> blocks_;
    std::deque<ferrule::LeaseNode*> supplied_;
    ferrule::LeaseNode* carried_ = nullptr;
    std::coroutine_handle<> waiter_;
    ferrule::EndReason reason_ = ferrule::EndReason::none;
    std::size_t out_ = 0;
    std::size_t gathered_ = 0;
};
static_assert(ferrule::ByteSource<MemorySource>);

}  // namespace ferrule_test
