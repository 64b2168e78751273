#include <ferrule/assert.hpp>
#include <ferrule/net/network.hpp>
#include <ferrule/ring/prepare.hpp>

#include "net/waits.hpp"
#include "ring/probes.hpp"

#include <sys/socket.h>

#include <cerrno>
#include <chrono>
#include <new>
#include <utility>

namespace ferrule::inline v0 {

// How a connection ends: what was written goes out, then FIN; then what the peer still sends is dropped, for a bounded
// time, until its FIN; then the descriptor is closed, and the slot is free when the last completion and the last lease
// are back.

bool Network::may_close_at_once(const ConnectionState& state) const noexcept {
    if (state.receive_armed) return false;
    if (state.input_ended || shutting_down_) return true;
    // What was never received from may have input that nobody has looked for, and in a drain it is this side that ends.
    return options_.linger == Linger::adaptive && !draining_ && state.receive_again && !state.stays &&
           !state.unread_input;
}

void Network::begin_close(ConnectionState& state) noexcept {
    state.wants_input = false;
    drop_received(state);
    if (state.reader) end_read(state, EndReason::cancelled, ECANCELED);
    if (state.stage != CloseStage::open) return;
    state.stage = CloseStage::flushing;
    ++closing_;
    if (state.sending == nullptr) request_send(state);
}

void Network::progress_close(ConnectionState& state) noexcept {
    if (state.handles != 0) return;
    if (state.stage == CloseStage::flushing) {
        const bool failed = state.write_failed || state.reset_wanted;
        if (!failed && (state.sending != nullptr || state.staged != nullptr)) {
            request_send(state);
            return;
        }
        if (failed || may_close_at_once(state)) {
            state.stage = CloseStage::cancelling;
        } else {
            if (!state.fin_sent) {
                state.fin_sent = true;
                reactor_->kernel().shutdown(state.descriptor, SHUT_WR);
            }
            state.stage = CloseStage::lingering;
            try {
                reactor_->timers().arm(
                    state.timer, reactor_->now_ns() + static_cast<std::uint64_t>(
                                                          std::chrono::nanoseconds(options_.linger_timeout).count()));
            } catch (const std::bad_alloc&) {
                state.stage = CloseStage::cancelling;
            }
        }
    }
    if (state.stage == CloseStage::lingering) {
        if (state.input_ended || shutting_down_) {
            state.stage = CloseStage::cancelling;
        } else if (!state.receive_armed && !state.starved) {
            arm_receive(state);
        }
    }
    if (state.stage == CloseStage::cancelling) {
        if (state.send_slow) {
            reactor_->cancel_request(tag_of(send_kind_, state));
        } else if (state.receive_armed) {
            cancel_receive(state);
        } else if (!state.send_silent) {
            submit_close(state);
        } else {
            state.stage = CloseStage::flushing;  // the confirmation of the send comes back here
        }
    }
}

void Network::submit_close(ConnectionState& state) noexcept {
    state.stage = CloseStage::closing;
    if (state.reset_wanted) {
        const linger reset{.l_onoff = 1, .l_linger = 0};
        reactor_->kernel().set_option(state.descriptor, SOL_SOCKET, SO_LINGER, &reset, sizeof reset);
    }
    abi::SubmissionEntry& entry = reactor_->ring().entry();
    prepare::close(entry, state.descriptor);
    FERRULE_PROBE(close, state.descriptor, static_cast<int>(state.end_reason), static_cast<int>(state.error));
    entry.user_data = tag_of(close_kind_, state);
    ++state.operations;
}

void Network::on_close(void* owner, const abi::Completion& completion) noexcept {
    const Tag tag = Tag::decode(completion.user_data);
    auto& self = *static_cast<Network*>(owner);
    ConnectionState* found = self.find(tag);
    if (found == nullptr) return;
    ConnectionState& state = *found;
    if (completion.result == -ECANCELED) return;  // on_send has seen why
    --state.operations;
    state.descriptor = -1;
    state.stage = CloseStage::closed;
    self.reactor_->timers().disarm(state.timer);
    if (state.staged != nullptr) {
        self.release_slab(state, std::exchange(state.staged, nullptr));
    }
    self.settle(state);
}

void Network::abort_state(ConnectionState& state, int error) noexcept {
    state.reset_wanted = true;
    state.unread_input = false;
    if (state.send_slow) reactor_->cancel_request(tag_of(send_kind_, state));
    fail_write(state, error);
}

}  // namespace ferrule::inline v0
