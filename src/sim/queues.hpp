#pragma once

#include <ferrule/ring/abi.hpp>

#include <cstddef>
#include <cstdint>
#include <deque>
#include <utility>
#include <vector>

namespace ferrule::inline v0::sim {

/// The memory that a ring shares with its program, laid out as Linux does it, and what the kernel keeps of it for
/// itself.
class Queues {
public:
    Queues() = default;
    Queues(const Queues&) = delete;
    Queues& operator=(const Queues&) = delete;
    ~Queues();

    /// Takes memory for queues of these sizes (powers of two) and fills in the offsets. False: there is none.
    bool create(abi::Parameters& parameters);
    /// Takes new memory for queues of these sizes, copies what is in them, and fills in the offsets. The old memory
    /// stays to the end: the program may look at it until it has unmapped it. 0, or -EOVERFLOW: it would not fit;
    /// -ENOMEM.
    int resize(abi::Parameters& parameters);
    /// Bytes that queues of these sizes take, in pages.
    [[nodiscard]] static std::uint64_t bytes_of(const abi::Parameters& parameters) noexcept;
    /// Bytes of all of it, in pages: what counts as locked memory.
    [[nodiscard]] std::uint64_t bytes() const noexcept { return ring_bytes_ + entry_bytes_; }

    [[nodiscard]] std::byte* ring_memory() const noexcept { return ring_; }
    [[nodiscard]] std::size_t ring_bytes() const noexcept { return ring_bytes_; }
    [[nodiscard]] std::byte* entry_memory() const noexcept { return entries_; }
    [[nodiscard]] std::size_t entry_bytes() const noexcept { return entry_bytes_; }

    // ---- submission ----

    /// Entries between head and tail, whatever the program has written there.
    [[nodiscard]] std::uint32_t pending() const noexcept;
    [[nodiscard]] std::uint32_t submission_entries() const noexcept { return submission_mask_ + 1; }
    /// The entry at the head, which moves on; null when its index is none (and counted as dropped).
    const abi::SubmissionEntry* take() noexcept;
    /// The next entry and `ahead` more, without taking it; null when its index is none.
    [[nodiscard]] const abi::SubmissionEntry* look(std::uint32_t ahead) const noexcept;
    /// Tells the program how far the head has moved.
    void publish_head() noexcept;

    // ---- completion ----

    [[nodiscard]] std::uint32_t completion_entries() const noexcept { return completion_mask_ + 1; }
    /// Completions that the program has not taken, as it says.
    [[nodiscard]] std::uint32_t unread() const noexcept;
    [[nodiscard]] std::uint32_t tail() const noexcept { return completion_tail_; }
    /// The head as the program says.
    [[nodiscard]] std::uint32_t head() const noexcept;
    /// Into the queue; false when it is full, or others wait in the overflow list.
    bool post(const abi::Completion& completion) noexcept;
    /// Into the overflow list.
    void overflow(const abi::Completion& completion);
    /// As much of the overflow list as there is room for goes into the queue.
    void flush_overflow() noexcept;
    [[nodiscard]] std::size_t overflowed() const noexcept { return overflow_.size(); }

    // ---- flags ----

    void set_flag(std::uint32_t flag) noexcept;
    void clear_flag(std::uint32_t flag) noexcept;

private:
    [[nodiscard]] std::uint32_t* word(std::size_t offset) const noexcept;
    void put(const abi::Completion& completion) noexcept;

    std::byte* ring_ = nullptr;
    std::byte* entries_ = nullptr;
    std::size_t ring_bytes_ = 0;
    std::size_t entry_bytes_ = 0;
    std::uint32_t* indices_ = nullptr;
    abi::Completion* completions_ = nullptr;
    std::uint32_t submission_mask_ = 0;
    std::uint32_t submission_head_ = 0;
    std::uint32_t completion_mask_ = 0;
    std::uint32_t completion_tail_ = 0;
    std::deque<abi::Completion> overflow_;
    std::vector<std::pair<std::byte*, std::size_t>> former_;  // memory of queues that were resized
};

}  // namespace ferrule::inline v0::sim
