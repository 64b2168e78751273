#pragma once

#include <ferrule/net/connection_state.hpp>
#include <ferrule/task/cancel.hpp>

#include <coroutine>
#include <cstddef>
#include <cstdint>

namespace ferrule::inline v0 {

/// One coroutine that waits for a flush; in the network's pool while it waits.
struct FlushWait {
    enum class Stage : std::uint8_t { waiting, queued, done };

    static void on_cancel(CancelNode& node, CancelReason reason) noexcept;
    static FlushWait& of(CancelNode& node) noexcept {
        return *reinterpret_cast<FlushWait*>(reinterpret_cast<std::byte*>(&node) - offsetof(FlushWait, cancel_node));
    }

    CancelNode cancel_node{&FlushWait::on_cancel};
    std::coroutine_handle<> waiter;
    FlushWait* next = nullptr;
    WriteSlab* slab = nullptr;  // whose sending it waits for
    ConnectionState* connection = nullptr;
    int error = 0;
    Stage stage = Stage::waiting;
};

/// The reader of a connection in a scope that can be cancelled apart from the reactor's.
struct ReadWait {
    static void on_cancel(CancelNode& node, CancelReason reason) noexcept;
    static ReadWait& of(CancelNode& node) noexcept {
        return *reinterpret_cast<ReadWait*>(reinterpret_cast<std::byte*>(&node) - offsetof(ReadWait, cancel_node));
    }

    CancelNode cancel_node{&ReadWait::on_cancel};
    ReadWait* next = nullptr;
    ConnectionState* connection = nullptr;
};

/// What a read says when its scope was cancelled for the reason.
inline EndReason end_reason_of(CancelReason reason) noexcept {
    switch (reason) {
        case CancelReason::deadline:
            return EndReason::deadline;
        case CancelReason::draining:
            return EndReason::draining;
        default:
            return EndReason::cancelled;
    }
}

}  // namespace ferrule::inline v0
