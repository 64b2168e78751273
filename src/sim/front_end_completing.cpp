#include "sim/front_end.hpp"

#include <poll.h>

#include <array>
#include <cerrno>
#include <cstring>

namespace ferrule::inline v0::sim {

// From the end of a request to its completion, and on to the next of its chain.

void FrontEnd::post(std::uint64_t user_data, std::int32_t result, std::uint32_t flags) {
    world_.trace("complete", user_data, flags, result);
    const abi::Completion completion{user_data, result, flags};
    if (world_.fault(Fault::completion_overflow) || !queues_.post(completion)) queues_.overflow(completion);
    announce_completion();
}

bool FrontEnd::post_more(Request& request, std::int32_t result, std::uint32_t flags) {
    if (features_.multishot_keeps_order && done_first_ != nullptr) {
        done_last_ = nullptr;
        post_in_order(std::exchange(done_first_, nullptr));
    }
    if (world_.fault(Fault::completion_overflow) ||
        !queues_.post({request.entry.user_data, result, flags | abi::completion_more})) {
        // A multishot's order cannot be kept in the overflow list: it ends with this one.
        return false;
    }
    world_.trace("complete", request.entry.user_data, flags | abi::completion_more, result);
    ++posted_;
    announce_completion();
    return true;
}

void FrontEnd::announce_completion() {
    if (event_ != nullptr && !event_only_async_) {
        const std::uint64_t one = 1;
        std::array<std::byte, sizeof one> bytes;
        std::memcpy(bytes.data(), &one, sizeof one);
        event_->write(bytes);
    }
    notify(POLLIN);
    wake_waiters();
}

void FrontEnd::mark_failed(Request& request) noexcept {
    request.failed = true;
    if (request.skip) {
        // Who wanted to be silent says that it failed, and its chain is silent instead.
        request.skip = false;
        request.silences_chain = true;
    }
}

void FrontEnd::fail(Request& request, std::int32_t error) {
    mark_failed(request);
    request.result = request.partial ? static_cast<std::int32_t>(request.done) : error;
    complete(request);
}

void FrontEnd::forget_event(Request& request) noexcept {
    if (!request.event_pending) return;
    request.event_pending = false;
    world_.forget(request.event);
}

void FrontEnd::complete(Request& request) {
    requests_.remove(request);
    request.leave();
    forget_event(request);
    release_memory(request);
    if (request.counted) {
        std::erase(counted_timeouts_, &request);
        request.counted = false;
    }
    request.stage = Stage::completed;
    request.next_queued = nullptr;
    // Who shares buffers counts on the order in which they were filled.
    const bool overtaken = !request.delayed && !request.skip && request.next_in_chain == nullptr &&
                           (request.flags & abi::completion_buffer) == 0 && world_.fault(Fault::completion_delayed);
    Request*& first = overtaken ? overtaken_first_ : done_first_;
    Request*& last = overtaken ? overtaken_last_ : done_last_;
    (last != nullptr ? last->next_queued : first) = &request;
    last = &request;
}

void FrontEnd::flush_completions() {
    while (done_first_ != nullptr || overtaken_first_ != nullptr) {
        Request* request = std::exchange(done_first_, nullptr);
        done_last_ = nullptr;
        if (request == nullptr) {
            request = std::exchange(overtaken_first_, nullptr);
            overtaken_last_ = nullptr;
        }
        post_in_order(request);
        if (!counted_timeouts_.empty()) count_timeouts();
    }
    if (deferred_first_ != nullptr) release_deferred();
}

void FrontEnd::post_in_order(Request* first) {
    while (first != nullptr) {
        Request& ended = *first;
        first = ended.next_queued;
        if (!ended.skip) post(ended.entry.user_data, ended.result, ended.flags);
        if (ended.entry.opcode != abi::Operation::timeout) ++posted_;
        go_on_with_chain(ended);
        end(ended);
    }
}

void FrontEnd::go_on_with_chain(Request& request) {
    Request* next = request.next_in_chain;
    if (next != nullptr && next->entry.opcode == abi::Operation::link_timeout) {
        request.next_in_chain = next->next_in_chain;
        Request& timeout = *next;
        timeout.next_in_chain = nullptr;
        timeout.linked = nullptr;
        forget_event(timeout);
        requests_.remove(timeout);
        end_later(timeout, -ECANCELED);
        next = request.next_in_chain;
    }
    if (next == nullptr) return;
    if (request.failed && (request.entry.flags & abi::entry_hard_link) == 0) {
        cancel_chain(request);
        return;
    }
    request.next_in_chain = nullptr;
    next->stage = Stage::queued;
    queue_work(*next);
}

void FrontEnd::cancel_chain(Request& failed) {
    Request* next = std::exchange(failed.next_in_chain, nullptr);
    while (next != nullptr) {
        Request& cancelled = *next;
        next = std::exchange(cancelled.next_in_chain, nullptr);
        cancelled.skip = failed.silences_chain;
        const std::int32_t result = cancelled.failed ? cancelled.result : -ECANCELED;
        if (features_.cancelled_links_are_work) {
            end_later(cancelled, result);
        } else {
            cancelled.result = result;
            complete(cancelled);
        }
    }
}

void FrontEnd::end_later(Request& request, std::int32_t result) {
    request.result = result;
    request.finished = true;
    request.stage = Stage::queued;
    queue_work(request);
}

void FrontEnd::end(Request& request) {
    ++operations_;
    const std::shared_ptr<File> file = std::move(request.file);
    requests_.give_back(request);
    if (file != nullptr) file->release();
}

}  // namespace ferrule::inline v0::sim
