#pragma once

#include <ferrule/assert.hpp>
#include <ferrule/ring/abi.hpp>
#include <ferrule/ring/error.hpp>
#include <ferrule/ring/huge_pages.hpp>
#include <ferrule/ring/ring.hpp>
#include <ferrule/version.hpp>

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <expected>
#include <memory>
#include <utility>

namespace ferrule::inline v0 {

/// A ring of buffers from which the kernel picks for receives with buffer select, and exact accounting of who has
/// which.
///
/// A buffer is with the kernel, or held: the kernel has put bytes into it and is done with it, and slices of it are
/// out. When the last slice of a held buffer comes back it is staged, and `publish` hands all staged buffers to the
/// kernel at once. An incremental ring (6.12; ask the probe) fills one buffer by several completions, so slices can be
/// out while the kernel still has the buffer.
///
/// Thread: the ring's owner. It must end before the ring's kernel side can reuse its memory: destroy it when no
/// operation with its group is in flight. The ring may be moved or destroyed first.
///
/// ```cpp
/// auto buffers = BufferRing::create(ring, {.count = 64, .size = 2048});
/// if (!buffers) throw std::system_error(buffers.error().code, buffers.error().message);
/// const int socket = 3;
/// prepare::receive_select(ring.entry(), socket, buffers->group(), 0, 0);
/// if (const auto submitted = ring.submit_and_wait(1); !submitted) throw std::system_error(submitted.error());
/// if (const auto completion = ring.try_completion(); completion && completion->flags & abi::completion_buffer) {
///     const BufferRing::Slice slice = buffers->take(*completion);
///     std::printf("%u bytes\n", slice.length);
///     buffers->give_back(slice.buffer);
///     buffers->publish();
/// }
/// ```
class FERRULE_EXPORT BufferRing {
public:
    /// Kernels before 6.11 keep the old head when a group below this is registered again, and hand out the same buffers
    /// twice.
    static constexpr std::uint16_t first_group = 64;
    /// The lowest group that no other buffer ring of the ring has.
    static constexpr std::uint16_t any_group = 0;
    static constexpr std::uint32_t buffers_max = 32768;

    /// What to create.
    struct Options {
        /// The buffer group id, at least `first_group`; or `any_group`, and `group()` tells which.
        std::uint16_t group = any_group;
        /// Buffers: a power of two, at most `buffers_max`.
        std::uint32_t count = 256;
        /// Bytes of each.
        std::uint32_t size = 4096;
        /// The kernel fills a buffer by several completions (6.12).
        bool incremental = false;
        /// When locked memory is short, pause up to 31 ms in all for what other rings have just given back, which the
        /// kernel counts late.
        bool patient = true;
        /// What pages the buffers lie on.
        HugePages huge_pages = HugePages::off;
    };

    /// Bytes in a buffer. Every slice that `take` gave is given back once.
    struct Slice {
        std::byte* data;
        std::uint32_t length;
        std::uint16_t buffer;
    };
    static_assert(sizeof(Slice) == 16);

    /// Maps and registers the buffers, all of them with the kernel. Errors: EINVAL (options, named in the message; or
    /// an incremental ring on a kernel that has none), EEXIST (the group is in use), ENOSPC (all groups are), ENOMEM
    /// (locked-memory limit).
    [[nodiscard]] static std::expected<BufferRing, SetupError> create(Ring& ring, const Options& options);

    BufferRing(BufferRing&& other) noexcept : state_(std::exchange(other.state_, State{})) {}
    BufferRing& operator=(BufferRing&& other) noexcept {
        if (this != &other) {
            release();
            state_ = std::exchange(other.state_, State{});
        }
        return *this;
    }
    BufferRing(const BufferRing&) = delete;
    BufferRing& operator=(const BufferRing&) = delete;
    /// Unregisters the group and unmaps the memory; slices that are out dangle.
    ~BufferRing() { release(); }

    /// The bytes of a completion that has abi::completion_buffer set, also one with an error or without bytes: its
    /// slice is empty and is given back like any other. Aborts when the kernel does not have the buffer.
    [[nodiscard]] Slice take(const abi::Completion& completion) noexcept {
        const std::uint16_t number = abi::buffer_of(completion);
        FERRULE_ASSERT((completion.flags & abi::completion_buffer) != 0 && number < state_.count);
        Buffer& buffer = state_.buffers[number];
        FERRULE_ASSERT((buffer.slices & with_kernel) != 0);
        const std::uint32_t length = completion.result > 0 ? static_cast<std::uint32_t>(completion.result) : 0;
        FERRULE_ASSERT(length <= state_.size - buffer.offset);
        std::byte* const data = state_.memory + std::size_t{number} * state_.size + buffer.offset;
        ++buffer.slices;
        ++state_.slices;
        if ((completion.flags & abi::completion_buffer_more) == 0) {
            buffer.slices &= ~with_kernel;
            ++state_.held;
        } else {
            buffer.offset += length;
        }
        return {data, length, number};
    }

    /// One slice of this buffer is no longer used. Aborts when none is out.
    void give_back(std::uint16_t number) noexcept {
        FERRULE_ASSERT(number < state_.count);
        Buffer& buffer = state_.buffers[number];
        FERRULE_ASSERT((buffer.slices & ~with_kernel) != 0);
        --state_.slices;
        if (--buffer.slices == 0) {
            stage(number);
        }
    }

    /// Hands the staged buffers to the kernel. Returns how many.
    std::uint32_t publish() noexcept {
        const std::uint32_t count = state_.staged;
        if (count != 0) {
            std::atomic_ref<std::uint16_t>(*state_.kernel_tail).store(state_.tail, std::memory_order_release);
            state_.staged = 0;
        }
        return count;
    }

    /// Buffers in the ring.
    [[nodiscard]] std::uint32_t count() const noexcept { return state_.count; }
    /// Bytes of each buffer.
    [[nodiscard]] std::uint32_t size() const noexcept { return state_.size; }
    /// Buffers that are neither with the kernel nor staged for it.
    [[nodiscard]] std::uint32_t held() const noexcept { return state_.held; }
    /// Buffers that wait for `publish`.
    [[nodiscard]] std::uint32_t staged() const noexcept { return state_.staged; }
    /// Slices that are out.
    [[nodiscard]] std::uint32_t slices() const noexcept { return state_.slices; }
    [[nodiscard]] std::uint16_t group() const noexcept { return state_.group; }
    [[nodiscard]] bool incremental() const noexcept { return state_.incremental; }
    /// What pages the buffers lie on: those of the options, or what the system had instead.
    [[nodiscard]] HugePages huge_pages() const noexcept { return state_.mapping.pages; }

private:
    struct Buffer {
        std::uint32_t offset;  // where the next bytes go (incremental)
        std::uint32_t slices;  // out now; the top bit: the kernel has the buffer
    };
    static_assert(sizeof(Buffer) == 8);
    static constexpr std::uint32_t with_kernel = std::uint32_t{1} << 31;

    struct State {
        Buffer* buffers = nullptr;
        std::byte* memory = nullptr;
        abi::BufferEntry* entries = nullptr;
        std::uint16_t* kernel_tail = nullptr;
        std::uint32_t count = 0;
        std::uint32_t size = 0;
        std::uint32_t staged = 0;
        std::uint32_t held = 0;
        std::uint32_t slices = 0;
        std::uint16_t tail = 0;
        std::uint16_t group = any_group;
        bool incremental = false;
        bool registered = false;
        LargeMapping mapping;
        std::size_t entries_size = 0;
        std::unique_ptr<Buffer[]> buffer_states;
        std::shared_ptr<Ring::Descriptor> ring;
    };

    explicit BufferRing(State&& state) noexcept : state_(std::move(state)) {}

    void stage(std::uint16_t number) noexcept {
        Buffer& buffer = state_.buffers[number];
        buffer.offset = 0;
        buffer.slices = with_kernel;
        abi::BufferEntry& entry = state_.entries[state_.tail & (state_.count - 1)];
        entry.addr = reinterpret_cast<std::uintptr_t>(state_.memory + std::size_t{number} * state_.size);
        entry.len = state_.size;
        entry.bid = number;
        ++state_.tail;
        ++state_.staged;
        --state_.held;
    }

    void release() noexcept;

    State state_;
};

}  // namespace ferrule::inline v0
