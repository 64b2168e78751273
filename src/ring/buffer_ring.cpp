#include <ferrule/ring/buffer_ring.hpp>

#include "ring/descriptor.hpp"

#include <sys/mman.h>

#include <bit>
#include <cerrno>
#include <cstdint>
#include <string>

namespace ferrule::inline v0 {

namespace {

// The kernel counts bytes of one receive in a signed 32-bit result.
constexpr std::uint32_t size_max = std::uint32_t{1} << 30;
constexpr int memory_retries_max = 5;
constexpr std::uint64_t memory_retry_first_ns = 1'000'000;

SetupError invalid(std::string what) {
    return {system_error(EINVAL), std::move(what)};
}

std::string name_of(std::uint16_t group, std::uint32_t count, std::uint32_t size) {
    return "buffer ring " + (group != BufferRing::any_group ? std::to_string(group) + ' ' : std::string{}) + "of " +
           std::to_string(count) + " x " + std::to_string(size) + " bytes";
}

}  // namespace

std::expected<BufferRing, SetupError> BufferRing::create(Ring& ring, const Options& options) {
    std::string name = name_of(options.group, options.count, options.size);
    if (options.group < first_group && options.group != any_group) {
        return std::unexpected(
            invalid(name + ": group must be at least " + std::to_string(first_group) +
                    " (older kernels hand out the same buffers twice when a lower one is registered again)"));
    }
    if (!std::has_single_bit(options.count) || options.count > buffers_max) {
        return std::unexpected(
            invalid(name + ": count must be a power of two of at most " + std::to_string(buffers_max)));
    }
    if (options.size == 0 || options.size > size_max) {
        return std::unexpected(invalid(name + ": size must be 1 to " + std::to_string(size_max)));
    }

    Kernel& kernel = ring.kernel();
    State state;
    state.ring = ring.state_.shared;
    state.buffer_states = std::make_unique<Buffer[]>(options.count);
    state.buffers = state.buffer_states.get();
    state.count = options.count;
    state.size = options.size;
    state.incremental = options.incremental;
    state.held = options.count;

    const std::size_t entries_size = std::size_t{options.count} * sizeof(abi::BufferEntry);
    const std::size_t memory_size = std::size_t{options.count} * options.size;
    constexpr int protection = PROT_READ | PROT_WRITE;
    constexpr int flags = MAP_PRIVATE | MAP_ANONYMOUS;
    BufferRing buffers(std::move(state));
    State& made = buffers.state_;
    int error = 0;
    if (void* const entries = kernel.map(entries_size, protection, flags, -1, 0, &error); entries != nullptr) {
        made.entries = static_cast<abi::BufferEntry*>(entries);
        made.entries_size = entries_size;
    } else {
        return std::unexpected(
            explain_registration_failure(kernel, error, "mapping the entries of " + name, entries_size));
    }
    made.mapping = map_large(kernel, memory_size, options.huge_pages, &error);
    made.memory = made.mapping.memory;
    if (made.memory == nullptr) {
        return std::unexpected(
            explain_registration_failure(kernel, error, "mapping the memory of " + name, memory_size));
    }
    // A write to a page that a child of fork shares would move the parent to a copy, away from what the kernel has
    // pinned.
    if (const int result = kernel.advise(made.entries, entries_size, MADV_DONTFORK); result < 0) {
        return std::unexpected(explain_registration_failure(kernel, -result, "keeping fork from " + name, 0));
    }
    if (const int result = kernel.advise(made.mapping.base, made.mapping.size, MADV_DONTFORK); result < 0) {
        return std::unexpected(explain_registration_failure(kernel, -result, "keeping fork from " + name, 0));
    }

    BufferGroups& groups = made.ring->groups;
    if (options.group != any_group) {
        if (!groups.take(options.group)) {
            return std::unexpected(explain_registration_failure(kernel, EEXIST, "registering " + name, 0));
        }
        made.group = options.group;
    } else if (const auto group = groups.take()) {
        made.group = *group;
        name = name_of(made.group, options.count, options.size);
    } else {
        return std::unexpected(explain_registration_failure(kernel, ENOSPC, "a group for " + name, 0));
    }

    made.kernel_tail =
        reinterpret_cast<std::uint16_t*>(reinterpret_cast<std::byte*>(made.entries) + abi::buffer_ring_tail_offset);
    abi::BufferRingRegistration registration{};
    registration.ring_addr = reinterpret_cast<std::uintptr_t>(made.entries);
    registration.ring_entries = options.count;
    registration.bgid = made.group;
    registration.flags = options.incremental ? abi::buffer_ring_incremental : std::uint16_t{0};
    int result = 0;
    std::uint64_t retry_ns = memory_retry_first_ns;
    for (int retries_left = options.patient ? memory_retries_max : 0;; --retries_left, retry_ns *= 2) {
        result = kernel.io_uring_register(made.ring->number, abi::register_buffer_ring, &registration, 1);
        if (result != -ENOMEM || retries_left == 0) {
            break;
        }
        kernel.pause_ns(retry_ns);
    }
    if (result < 0) {
        return std::unexpected(explain_registration_failure(kernel, -result, "registering " + name, entries_size));
    }
    made.registered = true;
    for (std::uint32_t number = 0; number != options.count; ++number) {
        buffers.stage(static_cast<std::uint16_t>(number));
    }
    buffers.publish();
    return buffers;
}

void BufferRing::release() noexcept {
    State& state = state_;
    if (state.ring == nullptr) {
        return;
    }
    Kernel& kernel = *state.ring->kernel;
    if (state.registered && state.ring->number >= 0) {
        abi::BufferRingRegistration registration{};
        registration.bgid = state.group;
        kernel.io_uring_register(state.ring->number, abi::unregister_buffer_ring, &registration, 1);
    }
    if (state.group != any_group) {
        state.ring->groups.give_back(state.group);
    }
    if (state.memory != nullptr) {
        kernel.unmap(state.mapping.base, state.mapping.size);
    }
    if (state.entries != nullptr) {
        kernel.unmap(state.entries, state.entries_size);
    }
    state = State{};
}

}  // namespace ferrule::inline v0
