#!/usr/bin/env python3
"""Errors that are planted into a copy of the engine, to see whether the simulation finds them.

Each mutation replaces one piece of a source file; the piece must be there exactly once, so a mutation that the sources
have outgrown is an error and not a test that tests nothing. All of them are compiled into one copy, in which `MUTATED`
is true for the one that `ferrule_test::mutation` names: 0 is the engine as it is.

    mutations.py list                          the names, a line each with what is wrong
    mutations.py names                         the names alone, for CMake
    mutations.py generate ROOT OUT             writes OUT/src, OUT/include, OUT/mutation.hpp and OUT/mutation.cpp
    mutations.py find NAME PROGRAM             runs the workloads of PROGRAM, which was built from OUT, with the error
                                               planted, until one finds it; with the name `none`: all must pass
"""

import argparse
import os
import pathlib
import subprocess
import sys
import typing


class Edit(typing.NamedTuple):
    file: str
    old: str
    new: str


class Mutation:
    """An error: what is replaced, in one place, or in several that are wrong only together."""

    def __init__(self, name, what, *edits):
        self.name = name
        self.what = what
        self.edits = [Edit(*edits)] if isinstance(edits[0], str) else list(edits)


RECEIVING = "src/net/network_receiving.cpp"
SENDING = "src/net/network_sending.cpp"
CLOSING = "src/net/network_closing.cpp"
NETWORK = "src/net/network.cpp"
DEFENDING = "src/net/network_defending.cpp"
CARRYING = "src/net/network_carrying.cpp"
CONNECTION = "src/net/connection.cpp"
LISTENER = "src/net/listener.cpp"
REACTOR = "src/reactor/reactor.cpp"
RING = "src/ring/ring.cpp"
DNS_MESSAGE = "src/net/dns_message.cpp"
RESOLVER_ASKING = "src/net/resolver_asking.cpp"
DATAGRAMS_IN = "src/net/udp_service_receiving.cpp"
DATAGRAMS_OUT = "src/net/udp_service_sending.cpp"
FILE_TRANSFER = "src/net/file_transfer.cpp"
CALL = "src/reactor/call.cpp"
CROSS_CHANNEL = "src/reactor/cross_channel.cpp"
SEMAPHORE = "src/task/semaphore.cpp"
CHANNEL = "include/ferrule/task/channel.hpp"
ENGINE = "src/server/engine.cpp"
RESTARTING = "src/server/engine_restarting.cpp"
HTTP_SESSION = "src/http/session.cpp"
HTTP_BODY = "src/http/session_body.cpp"
HTTP_RESPONSE = "src/http/response.cpp"
HTTP_FIELDS = "src/http/field_rules.hpp"
HTTP_CHUNKS = "src/http/chunked_decoder.cpp"

MUTATIONS = [
    Mutation(
        "forgotten-buffer-return",
        "a lease that ends does not give its buffer back",
        RECEIVING,
        "    buffers_->give_back(node.buffer);\n    state.received_bytes",
        "    if (!MUTATED) buffers_->give_back(node.buffer);\n    state.received_bytes",
    ),
    Mutation(
        "closed-before-receive-ended",
        "the descriptor is closed while a receive is armed on it",
        CLOSING,
        "        } else if (state.receive_armed) {\n            cancel_receive(state);",
        "        } else if (state.receive_armed && !MUTATED) {\n            cancel_receive(state);",
    ),
    Mutation(
        "polling-thread-left-asleep",
        "the thread that takes entries is not woken when it sleeps",
        RING,
        "    return left && (queue_flags() & abi::queue_need_wakeup) != 0 ? abi::enter_submission_wakeup : 0;",
        "    return left && !MUTATED && (queue_flags() & abi::queue_need_wakeup) != 0 ? abi::enter_submission_wakeup : 0;",
    ),
    Mutation(
        "sends-are-silent-under-a-polling-thread",
        "a send that a polling thread has yet to issue is taken for sent, because it has said nothing",
        Edit(SENDING, "    if (ring.polled()) [[unlikely]] {", "    if (ring.polled() && !MUTATED) [[unlikely]] {"),
        Edit(
            NETWORK,
            "        const std::uint32_t consumed = reactor_->consumed();",
            "        const std::uint32_t consumed = MUTATED && ring.polled() ? ring.next_sequence() : reactor_->consumed();",
        ),
    ),
    Mutation(
        "completions-lost-as-queues-grow",
        "what waits in a completion queue is lost when that is made larger",
        RING,
        "    state.kernel->unmap(ring_memory, ring_size);\n",
        "    if (MUTATED) {\n        state.completion_head = load_acquire(state.kernel_completion_tail);\n        store_release(state.kernel_completion_head, state.completion_head);\n    }\n    state.kernel->unmap(ring_memory, ring_size);\n",
    ),
    Mutation(
        "dropped-rearm",
        "a receive that was interrupted is not armed again",
        RECEIVING,
        "if (state.handles != 0 && state.reader && !state.reader_queued) arm_for_reader(state);",
        "if (!MUTATED && state.handles != 0 && state.reader && !state.reader_queued) arm_for_reader(state);",
    ),
    Mutation(
        "dropped-accept-rearm",
        "a multishot accept that ends is not armed again",
        LISTENER,
        "    if (stage_ != Stage::accepting || may_accept()) arm_accept();\n}\n\nvoid Listener::back_off",
        "    if ((stage_ != Stage::accepting || may_accept()) && !MUTATED) arm_accept();\n}\n\nvoid Listener::back_off",
    ),
    Mutation(
        "accept-back-off-never-ends",
        "after a shortage of descriptors accepting does not go on",
        LISTENER,
        "    if (stage_ == Stage::accepting && may_accept() && !accept_armed_) arm_accept();\n}\n\n}",
        "    if (stage_ == Stage::accepting && may_accept() && !accept_armed_ && !MUTATED) arm_accept();\n}\n\n}",
    ),
    Mutation(
        "ignored-partial-send",
        "a send that took a part is taken for a whole one",
        SENDING,
        "    if (slab.sent == slab.size) {\n        self.send_done(state);",
        "    if (slab.sent == slab.size || (MUTATED && completion.result > 0)) {\n        self.send_done(state);",
    ),
    Mutation(
        "unsent-rest-from-the-start",
        "the rest of a partial send is sent from its beginning",
        SENDING,
        "slab.data() + slab.sent, slab.size - slab.sent, send_when_possible",
        "slab.data() + (MUTATED ? 0 : slab.sent), slab.size - slab.sent, send_when_possible",
    ),
    Mutation(
        "flush-before-the-kernel",
        "a flush ends although the kernel has not consumed its send",
        NETWORK,
        "            if (static_cast<std::int32_t>(consumed - state.sending->sequence) <= 0) break;",
        "            if (!MUTATED && static_cast<std::int32_t>(consumed - state.sending->sequence) <= 0) break;",
    ),
    Mutation(
        "silent-through-overflow",
        "silent sends are confirmed while their completions may wait in the overflow",
        NETWORK,
        "    if (!unconfirmed_.empty() && !ring.overflowed()) {",
        "    if (!unconfirmed_.empty() && (MUTATED || !ring.overflowed())) {",
    ),
    Mutation(
        "datagram-buffer-forgotten",
        "a datagram that ends does not give its buffer back",
        DATAGRAMS_IN,
        "        state.buffers->give_back(node.buffer);\n        state.buffers->publish();\n        if (state.starved)",
        "        if (!MUTATED) state.buffers->give_back(node.buffer);\n        state.buffers->publish();\n        if (state.starved)",
    ),
    Mutation(
        "datagram-waiter-parked-for-ever",
        "who waits for a datagram while all buffers are held is not told of one that comes back",
        DATAGRAMS_IN,
        "            if (service != nullptr) service->want_arm(state);",
        "            if (service != nullptr && !MUTATED) service->want_arm(state);",
    ),
    Mutation(
        "datagram-chain-not-continued",
        "datagrams that were not in a chain, or were cancelled with it, stay where they are",
        DATAGRAMS_OUT,
        "    if (state.send_first != nullptr) {\n        request_send(state);",
        "    if (state.send_first != nullptr) {\n        if (!MUTATED) request_send(state);",
    ),
    Mutation(
        "lost-wake-up",
        "a message to a sleeping reactor does not wake it",
        "include/ferrule/reactor/inbox.hpp",
        "        if (claim_wake()) wake();\n        return true;",
        "        if (claim_wake() && !MUTATED) wake();\n        return true;",
    ),
    Mutation(
        "reused-generation",
        "the slot of a dropped operation is another's, under the same generation, while its end is still to come",
        REACTOR,
        "    slot.detached = true;\n    slot.reactor->cancel_request(Tag{Reactor::operation_kind, slot.generation, slot.index}.encode());",
        "    slot.detached = true;\n    slot.reactor->cancel_request(Tag{Reactor::operation_kind, slot.generation, slot.index}.encode());\n    if (MUTATED) {\n        slot.in_kernel = false;\n        slot.generation = (slot.generation - 1) & Tag::generation_mask;\n        slot.reactor->free_slot(slot);\n    }",
    ),
    Mutation(
        "slot-freed-in-flight",
        "the slot of a dropped operation is free while its end is still to come",
        REACTOR,
        "    if (slot.memory == OperationMemory::caller) {",
        "    if (MUTATED) {\n        slot.reactor->cancel_request(Tag{Reactor::operation_kind, slot.generation, slot.index}.encode());\n        slot.in_kernel = false;\n        slot.reactor->free_slot(slot);\n        return;\n    }\n    if (slot.memory == OperationMemory::caller) {",
    ),
    Mutation(
        "sleeps-over-a-message",
        "a reactor goes to sleep although a message has just come",
        "include/ferrule/reactor/inbox.hpp",
        "        if (!is_message(head_.load(std::memory_order_seq_cst))) return true;",
        "        if (MUTATED || !is_message(head_.load(std::memory_order_seq_cst))) return true;",
    ),
    Mutation(
        "ring-wake-without-fallback",
        "a message between rings that fails is not replaced by the event descriptor",
        REACTOR,
        "    if (completion.result < 0) target->wake();",
        "    if (completion.result < 0 && !MUTATED) target->wake();",
    ),
    Mutation(
        "wake-not-rearmed",
        "the wait for wake-ups is not armed again",
        REACTOR,
        "    if (self.wake_wanted_) self.arm_wake();",
        "    if (self.wake_wanted_ && !MUTATED) self.arm_wake();",
    ),
    Mutation(
        "deadline-not-waited-for",
        "the wait in the kernel ignores the next deadline",
        REACTOR,
        "            timeout = due > now ? due - now : 0;",
        "            timeout = MUTATED ? Ring::no_timeout : due > now ? due - now : 0;",
    ),
    Mutation(
        "lease-held-over-a-deadlock",
        "a starved reader waits for buffers that others hold, and receives into nothing of its own",
        RECEIVING,
        "        } else if (state.stage == CloseStage::lingering) {\n            starved_[kept++]",
        "        } else if (MUTATED || state.stage == CloseStage::lingering) {\n            starved_[kept++]",
    ),
    Mutation(
        "paused-for-ever",
        "a connection that was paused for holding too many leases is not read from again",
        RECEIVING,
        "    } else if (state.held < options_.receive_lease_limit) [[likely]] {\n        arm_receive(state);",
        "    } else if (MUTATED && state.receive_cancelled) {\n    } else if (state.held < options_.receive_lease_limit) [[likely]] {\n        arm_receive(state);",
    ),
    Mutation(
        "received-out-of-order",
        "what comes is put in front of what waits",
        RECEIVING,
        "    node.next = nullptr;\n    if (state.received_first == nullptr) {",
        "    node.next = nullptr;\n    if (MUTATED && state.received_first != nullptr) {\n        node.next = state.received_first;\n        state.received_first = &node;\n        return;\n    }\n    if (state.received_first == nullptr) {",
    ),
    Mutation(
        "carry-forgets-what-was-consumed",
        "bytes that were consumed come again",
        CARRYING,
        "    first->data += consumed;\n    first->length -= consumed;",
        "    if (!MUTATED) {\n        first->data += consumed;\n        first->length -= consumed;\n    }",
    ),
    Mutation(
        "end-of-stream-ends-the-answer",
        "a peer's FIN fails what is still to be sent",
        RECEIVING,
        "            state.input_ended = true;\n            if (state.handles != 0) end_read(state, EndReason::end_of_stream, 0);",
        "            state.input_ended = true;\n            if (MUTATED) state.write_failed = true;\n            if (state.handles != 0) end_read(state, EndReason::end_of_stream, 0);",
    ),
    Mutation(
        "linked-close-forgotten",
        "a close that was cancelled with its send is not submitted again",
        SENDING,
        "        state.stage = CloseStage::flushing;\n        --state.operations;",
        "        if (!MUTATED) state.stage = CloseStage::flushing;\n        --state.operations;",
    ),
    Mutation(
        "drained-too-early",
        "a drain counts as ended while connections are being served",
        REACTOR,
        "    for_each_subsystem([&](const Subsystem& subsystem) { all = all && subsystem.drained(); });\n    return all;",
        "    for_each_subsystem([&](const Subsystem& subsystem) { all = all && subsystem.drained(); });\n    return all || MUTATED;",
    ),
    Mutation(
        "idle-before-all-is-told",
        "a drain ends connections as idle while the kernel has not told what has come for them",
        NETWORK,
        "    if (!drain_eligible_.empty() && kernel_has_told_all()) [[unlikely]]",
        "    if (!drain_eligible_.empty() && (MUTATED || kernel_has_told_all())) [[unlikely]]",
    ),
    Mutation(
        "idle-by-an-older-entry",
        "a drain ends a connection as idle whose receive the kernel has not seen yet",
        NETWORK,
        "state->stage == CloseStage::open && !state->drain_parked && idle(*state))",
        "state->stage == CloseStage::open && (MUTATED || !state->drain_parked) && idle(*state))",
    ),
    Mutation(
        "grace-not-kept",
        "a drain ends idle connections at once, whatever grace they were given",
        NETWORK,
        "    if (options_.drain_grace.count() == 0) {",
        "    if (MUTATED || options_.drain_grace.count() == 0) {",
    ),
    Mutation(
        "hand-over-loses-a-connection",
        "a connection that another reactor refuses is closed instead of being served here",
        "src/server/hand_over.cpp",
        "    if (to == from) return false;",
        "    if (to == from) {\n        if (MUTATED) return true;\n        return false;\n    }",
    ),
    Mutation(
        "bytes-after-the-end-keep-their-buffer",
        "what comes for a connection that nobody reads any more keeps its buffer",
        RECEIVING,
        "        give_back(*node);\n        if (ended && state.handles == 0",
        "        if (!MUTATED) give_back(*node);\n        if (ended && state.handles == 0",
    ),
    Mutation(
        "close-drops-staged-bytes",
        "closing forgets what was written and not flushed",
        SENDING,
        "    if (slab == nullptr || slab->size == 0 || state.write_failed) {",
        "    if (slab == nullptr || slab->size == 0 || state.write_failed || (MUTATED && state.handles == 0)) {",
    ),
    Mutation(
        "linger-skipped",
        "a connection is closed although its peer still sends: the reset destroys the answer",
        CLOSING,
        "    if (state.input_ended || shutting_down_) return true;",
        "    if (state.input_ended || shutting_down_ || MUTATED) return true;",
    ),
    Mutation(
        "timer-not-rearmed",
        "a connection's timeout that was put off is not looked at again",
        NETWORK,
        "    reactor_->timers().arm(state.timer, due);\n}\n\n// ---- draining ----",
        "    if (!MUTATED) reactor_->timers().arm(state.timer, due);\n}\n\n// ---- draining ----",
    ),
    Mutation(
        "refused-message-forgotten",
        "a task whose hop is refused by a full mailbox never goes on",
        REACTOR,
        "            message->run(message, false);\n            continue;",
        "            if (!MUTATED) message->run(message, false);\n            continue;",
    ),
    Mutation(
        "call-not-cancelled-there",
        "what was begun for a call goes on when its caller is cancelled",
        CALL,
        "    if (delivered && self.runs_there_) self.cancel_there(pursuit.reason);",
        "    if (delivered && self.runs_there_ && !MUTATED) self.cancel_there(pursuit.reason);",
    ),
    Mutation(
        "call-freed-before-its-pursuit",
        "the state of a cancelled call is freed when the call is back, while the message that cancels it is away",
        CALL,
        "    if (holders_.load(std::memory_order_acquire) != 1 && holders_.fetch_sub(1, std::memory_order_acq_rel) != 1) return;",
        "    if (holders_.load(std::memory_order_acquire) != 1 && holders_.fetch_sub(1, std::memory_order_acq_rel) != (MUTATED ? 2 : 1)) return;",
    ),
    Mutation(
        "channel-sender-never-told-of-room",
        "a receiver gives places back without a look at who waits for them",
        CROSS_CHANNEL,
        "    ungiven_ = false;\n    consumed_.store(head_, std::memory_order_seq_cst);\n",
        "    ungiven_ = false;\n    consumed_.store(head_, std::memory_order_seq_cst);\n    if (MUTATED) return;\n",
    ),
    Mutation(
        "channel-rests-over-an-item",
        "a receiver that has read a ring empty does not look again when it has said so",
        CROSS_CHANNEL,
        "    if (notified_.load(std::memory_order_seq_cst) || notified_.exchange(true, std::memory_order_seq_cst)) return;\n    hold();",
        "    if (notified_.exchange(true, std::memory_order_seq_cst) || (MUTATED && tail_ % 2 == 0)) return;\n    hold();",
    ),
    Mutation(
        "messages-out-of-order",
        "messages are delivered the latest first",
        "src/reactor/inbox.cpp",
        "    std::uint32_t count = 0;\n    Message* oldest = in_order(head_.exchange(nullptr, std::memory_order_acquire), count);",
        "    std::uint32_t count = 0;\n    Message* oldest = in_order(head_.exchange(nullptr, std::memory_order_acquire), count);\n    if (MUTATED) {\n        std::uint32_t again = 0;\n        oldest = in_order(oldest, again);\n    }",
    ),
    Mutation(
        "read-resumed-twice",
        "a reader that is on its way to go on is resumed by a completion as well",
        RECEIVING,
        "void Network::wake_reader(ConnectionState& state) noexcept {\n    if (!state.reader || state.reader_queued) return;",
        "void Network::wake_reader(ConnectionState& state) noexcept {\n    if (!state.reader || (state.reader_queued && !MUTATED)) return;",
    ),
    Mutation(
        "half-close-forgotten",
        "the end of the writing half sends no FIN",
        SENDING,
        "            state.fin_sent = true;\n            reactor_->kernel().shutdown(state.descriptor, SHUT_WR);",
        "            state.fin_sent = true;\n            if (!MUTATED) reactor_->kernel().shutdown(state.descriptor, SHUT_WR);",
    ),
    Mutation(
        "cancelled-read-loses-bytes",
        "cancelling a read drops what waits for it",
        Edit(
            CONNECTION,
            "    state.end_reason = end_reason_of(reason);\n    state.network->wake_reader_later(state);",
            "    state.end_reason = end_reason_of(reason);\n    if (MUTATED) state.receive_again = false, state.network->drop_received(state);\n    state.network->wake_reader_later(state);",
        ),
        Edit(
            CONNECTION,
            "        // Nothing was taken: what has come waits for the next read.",
            "        if (MUTATED) state.network->drop_received(state);",
        ),
    ),
    Mutation(
        "any-id-believed",
        "an answer from a name server need not have the id of its question",
        DNS_MESSAGE,
        "word_at(message, 0) != word_at(query, 0)",
        "(!MUTATED && word_at(message, 0) != word_at(query, 0))",
    ),
    Mutation(
        "other-case-believed",
        "an answer from a name server need not have the case of its question's letters",
        DNS_MESSAGE,
        "            return reply_of(DnsReplyKind::wrong_case);",
        "            if (!MUTATED) return reply_of(DnsReplyKind::wrong_case);\n            break;",
    ),
    Mutation(
        "any-name-believed",
        "records of other names in an answer are taken for those of the name",
        DNS_MESSAGE,
        "            if (*name != current) continue;",
        "            if (!MUTATED && *name != current) continue;",
    ),
    Mutation(
        "shared-answer-for-one",
        "of those who wait for one question only the first is told of its answer",
        RESOLVER_ASKING,
        "wait->on_answer();",
        "{\n        wait->on_answer();\n        if (MUTATED) break;\n    }",
    ),
    Mutation(
        "option-record-for-ever",
        "a name server is never asked without an option record but after it has said so",
        RESOLVER_ASKING,
        ".extended = attempt == 0 && ",
        ".extended = (MUTATED || attempt == 0) && ",
    ),
    Mutation(
        "file-padded-when-it-shrinks",
        "what a file has lost since it was begun is sent all the same, as whatever stands in memory",
        FILE_TRANSFER,
        "    if (result == -EINTR || result == -EAGAIN) return true;\n    if (result <= 0) {\n        failure_ = {.of_file = true, .truncated = result == 0, .error = result == 0 ? ENODATA : -result};\n        return false;\n    }\n    WriteSlab& segment",
        "    if (result == -EINTR || result == -EAGAIN) return true;\n    if (MUTATED && result == 0) {\n        result = static_cast<std::int32_t>(std::min<std::uint64_t>(left_, send_->segment->capacity - send_->segment->size));\n    }\n    if (result <= 0) {\n        failure_ = {.of_file = true, .truncated = result == 0, .error = result == 0 ? ENODATA : -result};\n        return false;\n    }\n    WriteSlab& segment",
    ),
    Mutation(
        "file-loses-its-place",
        "after a sendfile that took a part the file goes on behind what was offered",
        FILE_TRANSFER,
        "        offset_ += count;\n        left_ -= count;",
        "        offset_ += MUTATED ? bytes : count;\n        left_ -= count;",
    ),
    Mutation(
        "chain-given-back-before-its-end",
        "a piece of a chain whose rest waits for its peer is given back while the kernel has it",
        SENDING,
        "    self.release_pieces(gone);",
        "    if (MUTATED && state.send_slow && state.sending != nullptr && state.sending->chained) {\n        auto& chain = static_cast<WriteChain&>(*state.sending);\n        if (LeaseNode* early = chain.first; early->next != nullptr) {\n            chain.first = std::exchange(early->next, gone);\n            --chain.count;\n            gone = early;\n        }\n    }\n    self.release_pieces(gone);",
    ),
    Mutation(
        "reader-forgets-what-was-examined",
        "a read ends with nothing but what was looked at already",
        "include/ferrule/net/buffered_reader.hpp",
        "        examined_ = static_cast<std::uint32_t>(examined - consumed);",
        "        examined_ = MUTATED ? 0 : static_cast<std::uint32_t>(examined - consumed);",
    ),
    Mutation(
        "units-of-a-destroyed-task",
        "units that were given to a task that is destroyed before it runs are lost",
        SEMAPHORE,
        "        case State::granted:\n            semaphore_->give_back(amount());",
        "        case State::granted:\n            if (!MUTATED) semaphore_->give_back(amount());",
    ),
    Mutation(
        "cancelled-first-blocks-the-line",
        "who waited behind one that wanted more units, and is cancelled, does not go on",
        SEMAPHORE,
        "    self.semaphore_->waiters_.cancel(self);\n    // It may have been the first, and have wanted more than those behind it.\n    self.semaphore_->grant();",
        "    self.semaphore_->waiters_.cancel(self);\n    if (!MUTATED) self.semaphore_->grant();",
    ),
    Mutation(
        "unlocked-for-everybody",
        "a mutex that is given to the one who waits is free for whoever comes before he runs",
        "include/ferrule/task/mutex.hpp",
        "            waiters_.end_first(detail::Waiter::State::granted);",
        "            waiters_.end_first(detail::Waiter::State::granted);\n            if (MUTATED) locked_ = false;",
    ),
    Mutation(
        "item-of-a-destroyed-receiver",
        "an item that was meant for a task that is destroyed before it runs, or that loses a select, goes with it",
        CHANNEL,
        "                --channel_->promised_;\n                channel_->promise_items();",
        "                --channel_->promised_;\n                if (MUTATED) channel_->drop_first();\n                channel_->promise_items();",
    ),
    Mutation(
        "sender-overtakes",
        "a sender who comes later sends before one who was given room and has not run",
        CHANNEL,
        "        return size_ != capacity_ && reserved_ == 0 ? State::granted : State::waiting;",
        "        return size_ + reserved_ != capacity_ && (MUTATED || reserved_ == 0) ? State::granted : State::waiting;",
    ),
    Mutation(
        "client-never-leaves",
        "a connection that has ended is still counted for its client's address",
        DEFENDING,
        "    leave(guard.client);\n    ConnectionGuard fresh;",
        "    if (!MUTATED) leave(guard.client);\n    ConnectionGuard fresh;",
    ),
    Mutation(
        "idle-peer-owes-its-first-byte",
        "a connection that is idle between messages is ended when its first byte would have been late",
        DEFENDING,
        "state.served && !state.receive_again && state.receive_armed",
        "state.served && (MUTATED || !state.receive_again) && state.receive_armed",
    ),
    Mutation(
        "named-as-the-one-before",
        "a connection whose PROXY header names nobody is of the client that the slot's last one has named",
        DEFENDING,
        "    guard = std::move(fresh);",
        "    if (MUTATED) fresh.has_addresses = guard.has_addresses;\n    guard = std::move(fresh);",
    ),
    Mutation(
        "sends-slowly-as-the-one-before",
        "a connection's window of sending has begun, for nothing, when the slot's last one had a send that waited",
        DEFENDING,
        "    ConnectionGuard fresh;\n",
        "    ConnectionGuard fresh;\n    if (MUTATED) fresh.sends_slowly = guard.sends_slowly;\n",
    ),
    Mutation(
        "receive-window-without-end",
        "when a peer has sent enough in a window, that goes on instead of the next one",
        DEFENDING,
        "    guard_message(state, 0);\n    return std::min(due, now + Defence::ns(options_.rate_window));",
        "    if (!MUTATED) guard_message(state, 0);\n    return std::min(due, now + Defence::ns(options_.rate_window));",
    ),
    Mutation(
        "window-of-one-send",
        "of the sends that wait for a slow peer only the last one's time is counted",
        DEFENDING,
        "    if (guard.sends_slowly) guard.send_waited += ticks_now() - guard.send_counted;",
        "    if (guard.sends_slowly && !MUTATED) guard.send_waited += ticks_now() - guard.send_counted;",
    ),
    Mutation(
        "sockets-that-no-reactor-has",
        "a server with fewer reactors than the one before takes sockets from which nobody accepts",
        ENGINE,
        "        if (!further.given) listen(further);",
        "        if (!further.given && !MUTATED) listen(further);",
    ),
    Mutation(
        "gives-way-to-one-that-cannot-start",
        "a server whose successor has failed to start hands over to it all the same",
        RESTARTING,
        "    if (!successor_ready_) {",
        "    if (!successor_ready_ && !MUTATED) {",
    ),
    Mutation(
        "answers-wait-for-a-handler",
        "answers that are made are not sent while the handler of the next request waits",
        HTTP_SESSION,
        "    if (unsent() != 0) flush_beside();\n}\n\nvoid Session::handler_failed",
        "    if (unsent() != 0 && !MUTATED) flush_beside();\n}\n\nvoid Session::handler_failed",
    ),
    Mutation(
        "split-head-begins-too-early",
        "a head of which the rest is still to come is read from the beginning of the request before it",
        HTTP_SESSION,
        "    if (offset_ != 0) consume(offset_, offset_);\n    const std::size_t bytes",
        "    if (offset_ != 0 && !MUTATED) consume(offset_, offset_);\n    const std::size_t bytes",
    ),
    Mutation(
        "body-at-hand-is-the-next-request",
        "the next request is looked for in a body that came with its head",
        HTTP_SESSION,
        "            request_end_ += length;",
        "            if (!MUTATED) request_end_ += length;",
    ),
    Mutation(
        "unread-body-is-the-next-request",
        "the next request is looked for in a body that its handler has not read",
        HTTP_SESSION,
        "    ++answered_;\n    if (!closing_ && !body_read()) [[unlikely]]",
        "    ++answered_;\n    if (!MUTATED && !closing_ && !body_read()) [[unlikely]]",
    ),
    Mutation(
        "close-not-kept",
        "a connection goes on behind a request that was to be the last",
        HTTP_SESSION,
        "    if (!request_->head_.parser().keep_alive() || response_->close_wanted_",
        "    if ((!MUTATED && !request_->head_.parser().keep_alive()) || response_->close_wanted_",
    ),
    Mutation(
        "body-for-head",
        "HEAD is answered with a body",
        HTTP_SESSION,
        "    response_->discards_ = parser.method() == Method::head;\n    const std::size_t head_size",
        "    response_->discards_ = parser.method() == Method::head && !MUTATED;\n    const std::size_t head_size",
    ),
    Mutation(
        "head-without-deadline",
        "a head may take as long as it likes",
        HTTP_SESSION,
        "    if (options_->head_timeout.count() <= 0) return;",
        "    if (options_->head_timeout.count() <= 0 || MUTATED) return;",
    ),
    Mutation(
        "slow-body-for-ever",
        "the time that a body was waited for is not counted",
        HTTP_BODY,
        "    body.credit_ns -= std::min(body.credit_ns, service_->reactor().now_ns() - body.waits_since_ns);",
        "    if (!MUTATED) body.credit_ns -= std::min(body.credit_ns, service_->reactor().now_ns() - body.waits_since_ns);",
    ),
    Mutation(
        "never-told-to-go-on",
        "a body is waited for without the 100 Continue that its client waits for",
        HTTP_BODY,
        "            flushes = write(std::as_bytes(std::span{go_on}));",
        "            flushes = !MUTATED && write(std::as_bytes(std::span{go_on}));",
    ),
    Mutation(
        "told-to-go-on-again",
        "100 Continue is sent each time that the body is waited for",
        HTTP_BODY,
        "        body.continue_wanted = false;\n        if (!response_->begun())",
        "        body.continue_wanted = MUTATED;\n        if (!response_->begun())",
    ),
    Mutation(
        "last-chunk-forgotten",
        "a chunked answer has no last chunk",
        HTTP_RESPONSE,
        "    output.put(last_chunk);",
        "    if (!MUTATED) output.put(last_chunk);",
    ),
    Mutation(
        "length-of-four-digits",
        "the length of a gathered body has its last four digits only",
        HTTP_RESPONSE,
        "                } while (bytes != 0);",
        "                } while (bytes != 0 && !(MUTATED && behind - digit == 4));",
    ),
    Mutation(
        "body-before-its-head",
        "a large body is sent although its head could not be yet",
        HTTP_RESPONSE,
        "    return (!output.in_block() || output.push()) && session_->writable() >= bytes;",
        "    return (MUTATED || !output.in_block() || output.push()) && session_->writable() >= bytes;",
    ),
    Mutation(
        "ends-behind-a-refused-write",
        "an answer of which a piece was refused is ended as if it were whole",
        HTTP_RESPONSE,
        "    if (write_refused_) session_->abandon();",
        "    if (write_refused_ && !MUTATED) session_->abandon();",
    ),
    Mutation(
        "two-lengths-believed",
        "a request that says a length and is chunked is taken for a chunked one",
        HTTP_FIELDS,
        "    if (state.facts & has_length) return Refusal::coding_and_length;",
        "    if ((state.facts & has_length) && !MUTATED) return Refusal::coding_and_length;",
    ),
    Mutation(
        "chunk-ends-late",
        "what stands between a chunk and the end of its line is passed over",
        HTTP_CHUNKS,
        "                if (letter != '\\r') return refuse(Refusal::chunk_end, at);",
        "                if (MUTATED && letter != '\\r') break;\n                if (letter != '\\r') return refuse(Refusal::chunk_end, at);",
    ),
]

HEADER = """#pragma once
// The planted error of this run; 0: none. Written by tests/sim/mutations/mutations.py.
namespace ferrule_test {
extern int mutation;
}
"""

SOURCE = """#include "mutation.hpp"

#include <cstdlib>

namespace ferrule_test {
int mutation = std::getenv("FERRULE_MUTATION") != nullptr ? std::atoi(std::getenv("FERRULE_MUTATION")) : 0;
}
"""

# So many of each workload: the first tier runs them, too. The engine as it is must pass a tenth of them here.
SEEDS = 2000

# Which workload finds what, where it is not the first; only the order in which they are tried follows from it.
FOUND_BY = {
    "answers-wait-for-a-handler": "http",
    "split-head-begins-too-early": "http",
    "body-at-hand-is-the-next-request": "http",
    "unread-body-is-the-next-request": "http",
    "close-not-kept": "http",
    "body-for-head": "http",
    "head-without-deadline": "http",
    "slow-body-for-ever": "http",
    "never-told-to-go-on": "http",
    "told-to-go-on-again": "http",
    "last-chunk-forgotten": "http",
    "length-of-four-digits": "http",
    "body-before-its-head": "http",
    "ends-behind-a-refused-write": "http",
    "two-lengths-believed": "http",
    "chunk-ends-late": "http",
    "units-of-a-destroyed-task": "coordination",
    "cancelled-first-blocks-the-line": "coordination",
    "unlocked-for-everybody": "coordination",
    "item-of-a-destroyed-receiver": "coordination",
    "sender-overtakes": "coordination",
    "client-never-leaves": "defence",
    "idle-peer-owes-its-first-byte": "defence",
    "named-as-the-one-before": "defence",
    "sends-slowly-as-the-one-before": "defence",
    "receive-window-without-end": "defence",
    "window-of-one-send": "defence",
    "sockets-that-no-reactor-has": "restart",
    "gives-way-to-one-that-cannot-start": "restart",
    "call-not-cancelled-there": "crossing",
    "call-freed-before-its-pursuit": "crossing",
    "channel-sender-never-told-of-room": "crossing",
    "channel-rests-over-an-item": "crossing",
    "any-id-believed": "resolver",
    "other-case-believed": "resolver",
    "any-name-believed": "resolver",
    "shared-answer-for-one": "resolver",
    "option-record-for-ever": "resolver",
    "datagram-buffer-forgotten": "datagrams",
    "datagram-waiter-parked-for-ever": "datagrams",
    "datagram-chain-not-continued": "datagrams",
    "file-padded-when-it-shrinks": "files",
    "file-loses-its-place": "files",
    "chain-given-back-before-its-end": "segments",
    "reader-forgets-what-was-examined": "streams",
    "closed-before-receive-ended": "storm",
    "dropped-accept-rearm": "storm",
    "accept-back-off-never-ends": "storm",
    "silent-through-overflow": "limits",
    "lease-held-over-a-deadlock": "proxy",
    "carry-forgets-what-was-consumed": "pipelined",
    "linked-close-forgotten": "storm",
    "drained-too-early": "drain",
    "idle-before-all-is-told": "drain",
    "idle-by-an-older-entry": "drain",
    "grace-not-kept": "drain",
    "bytes-after-the-end-keep-their-buffer": "half-close",
    "linger-skipped": "storm",
    "timer-not-rearmed": "deadlines",
    "refused-message-forgotten": "posts",
    "messages-out-of-order": "posts",
    "read-resumed-twice": "cancellation",
    "reused-generation": "operations",
    "slot-freed-in-flight": "operations",
    "half-close-forgotten": "half-close",
    "cancelled-read-loses-bytes": "cancellation",
    "ring-wake-without-fallback": "posts",
}

# A run takes seconds, and they have tests of their own: no error is looked for with thousands of them.
LONG = {"day"}

# Shows in some three runs of two thousand, so that a fixed set of that size may have none: it gets more of the workload
# that finds it. The release tier's ten thousand seeds of each would find it many times over.
RARE_SEEDS = {"idle-by-an-older-entry": 10_000}

# Shows only when an operation fails that usually does not: each of a run's in turn.
EACH = {"ring-wake-without-fallback"}
EACH_OPERATION = ["--each", "operation-fails", "--seeds", "2", "--connections", "3", "--messages", "3"]


def list_mutations():
    for number, mutation in enumerate(MUTATIONS, start=1):
        print(f"{number:3} {mutation.name:36} {mutation.what}")


def write(path, text):
    """Leaves a file that has this text already untouched: nothing is compiled again for it."""
    if not path.exists() or path.read_text() != text:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


def generate(root, out):
    texts = {}
    for number, mutation in enumerate(MUTATIONS, start=1):
        for edit in mutation.edits:
            text = texts.setdefault(edit.file, (root / edit.file).read_text())
            found = text.count(edit.old)
            if found != 1:
                sys.exit(f"mutations.py: {mutation.name}: its piece is {found} times in {edit.file}, not once")
            texts[edit.file] = text.replace(
                edit.old, edit.new.replace("MUTATED", f"(::ferrule_test::mutation == {number})")
            )
    for folder in ("src", "include"):
        for path in sorted((root / folder).rglob("*.[ch]pp")):
            name = path.relative_to(root).as_posix()
            write(out / name, texts.get(name) or path.read_text())
    write(out / "mutation.hpp", HEADER)
    write(out / "mutation.cpp", SOURCE)


def listed_workloads(program):
    lines = subprocess.run([program, "--list"], capture_output=True, text=True, check=True).stdout.splitlines()
    return [name for name in (line.split()[0] for line in lines if line.strip()) if name not in LONG]


def fails(number, program, arguments):
    """What the runner said, when a run of it has failed."""
    ended = subprocess.run(
        [program, *arguments, "--jobs", "1", "--no-shrink"],
        env=dict(os.environ, FERRULE_MUTATION=str(number)),
        capture_output=True,
        text=True,
    )
    return ended.stdout[-2000:] + ended.stderr[-2000:] if ended.returncode != 0 else ""


def find(name, program):
    workloads = listed_workloads(program)
    if name == "none":
        for workload in workloads:
            if said := fails(0, program, [workload, "--seeds", str(SEEDS // 10)]):
                sys.exit(f"the engine without an error fails {workload}:\n{said}")
        return
    number = [mutation.name for mutation in MUTATIONS].index(name) + 1
    workloads.sort(key=lambda workload: workload != FOUND_BY.get(name))
    if name in EACH:
        for workload in workloads:
            if fails(number, program, [workload, *EACH_OPERATION]):
                print(f"{name}: found by {workload} with each operation failing")
                return
        sys.exit(f"{name}: not found")
    if name in RARE_SEEDS:
        if fails(number, program, [workloads[0], "--seed", "0", "--seeds", str(RARE_SEEDS[name])]):
            print(f"{name}: found by {workloads[0]}, seeds 0 to {RARE_SEEDS[name] - 1}")
            return
        sys.exit(f"{name}: not found")
    # A few seeds of each first: most errors show in the first dozen.
    for first, seeds in ((0, 20), (20, 180), (200, SEEDS - 200)):
        for workload in workloads:
            if fails(number, program, [workload, "--seed", str(first), "--seeds", str(seeds)]):
                print(f"{name}: found by {workload}, seeds {first} to {first + seeds - 1}")
                return
    sys.exit(f"{name}: not found")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("list")
    commands.add_parser("names")
    generating = commands.add_parser("generate")
    generating.add_argument("root", type=pathlib.Path)
    generating.add_argument("out", type=pathlib.Path)
    finding = commands.add_parser("find")
    finding.add_argument("name", choices=["none", *(mutation.name for mutation in MUTATIONS)])
    finding.add_argument("program")
    options = parser.parse_args()
    if options.command == "list":
        list_mutations()
    elif options.command == "names":
        print(";".join(["none", *(mutation.name for mutation in MUTATIONS)]), end="")
    elif options.command == "find":
        find(options.name, options.program)
    else:
        generate(options.root, options.out)


if __name__ == "__main__":
    main()
