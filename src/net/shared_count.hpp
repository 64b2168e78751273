#pragma once

#include <ferrule/assert.hpp>
#include <ferrule/reactor/inbox.hpp>
#include <ferrule/task/host.hpp>

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

namespace ferrule::inline v0::detail {

/// Shared bytes, where they were made; the message that brings them home when the last count has ended elsewhere.
/// Counts come and go with reactors, not with requests: their number may be atomic.
struct SharedOrigin : Message {
    std::atomic<std::uint32_t> counts{1};
    Host* host = Host::current();
    std::shared_ptr<Inbox> home;
    std::string text;
    std::vector<std::byte> bytes;
    std::move_only_function<void()> released;
};

/// The handles and sends of shared bytes on one reactor. Its thread; any one thread at a time when there is no reactor,
/// when it has ended, and while a handle is the only one and on its way to the reactor.
struct SharedCount {
    SharedOrigin* origin = nullptr;
    std::uint64_t count = 1;
    Host* host = nullptr;
    std::shared_ptr<Inbox> inbox;  // of the reactor; null: none

    [[nodiscard]] bool at_home() const noexcept {
        return Host::current() == host || (inbox != nullptr && inbox->closed());
    }
    void add() noexcept {
        if (!at_home()) [[unlikely]]
            assertion_failed(__FILE__, __LINE__, "SharedBytes are used on a thread that is not their reactor's");
        ++count;
    }
    void release() noexcept {
        if (count != 1 && !at_home()) [[unlikely]]
            assertion_failed(__FILE__, __LINE__, "SharedBytes end on a thread that is not their reactor's");
        if (--count == 0) [[unlikely]]
            end();
    }
    void end() noexcept;
};

}  // namespace ferrule::inline v0::detail
