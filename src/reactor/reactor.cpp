#include <ferrule/assert.hpp>
#include <ferrule/reactor/offload.hpp>
#include <ferrule/reactor/reactor.hpp>
#include <ferrule/ring/prepare.hpp>

#include "reactor/debug_layout.hpp"
#include "reactor/memory_node.hpp"
#include "ring/probes.hpp"

#include <cerrno>
#include <chrono>
#include <cstddef>
#include <expected>
#include <limits>
#include <new>
#include <optional>
#include <stdexcept>
#include <string>
#include <system_error>

namespace ferrule::inline v0 {

namespace {

constexpr std::uint8_t wake_kind = 2;
constexpr std::uint8_t ring_wake_kind = 3;
constexpr std::uint32_t no_slot = 0xffff'ffff;
constexpr std::size_t completion_batch = 128;
/// How long the end of a reactor waits for tasks that ignore their cancellation.
constexpr std::uint64_t end_patience_ns = 5'000'000'000;
/// How long it waits for what must come: the end of its own wait for wake-ups, and of requests that the kernel is made
/// to cancel.
constexpr std::uint64_t cancel_patience_ns = 1'000'000'000;
/// How often what has been abandoned may go on before it is given up.
constexpr unsigned abandoned_rounds_max = 1024;
/// How many of the operations that have not ended are named.
constexpr std::uint32_t named_operations_max = 8;
/// Looks at the clock once per so many turns of the spin loop.
constexpr unsigned spin_turns_per_clock = 32;

// Peers may be able to provoke them. Different ones in a row are all worth a line.
constexpr LogCause unhandled_exception{
    .name = "unhandled-exception", .level = LogLevel::error, .interval = std::chrono::seconds(10), .burst = 32};
// Once in a reactor's life.
constexpr LogCause unfinished{.name = "unfinished", .level = LogLevel::error, .interval = {}};

/// Of a time that an option gives, what fits a field of the kernel's.
template <class Duration>
std::uint32_t count_of(Duration duration) noexcept {
    return static_cast<std::uint32_t>(
        std::clamp<std::int64_t>(duration.count(), 0, std::numeric_limits<std::uint32_t>::max()));
}

std::expected<Ring, SetupError> try_ring(Kernel& kernel, const ReactorOptions& options) {
    Ring::Options ring_options;
    ring_options.entries = options.submission_entries;
    ring_options.completion_entries = options.completion_entries;
    ring_options.start_disabled = true;
    ring_options.submission_poll_idle_ms = count_of(options.submission_poll);
    ring_options.submission_poll_cpu = options.submission_poll_cpu;
    ring_options.min_wait_us = count_of(options.min_wait);
    return Ring::create(kernel, ring_options);
}

Ring make_ring(Kernel& kernel, const ReactorOptions& options) {
    std::optional<std::expected<Ring, SetupError>> ring;
    const int node = options.local_memory && options.cpu >= 0 ? node_of_cpu(kernel, options.cpu) : -1;
    if (node >= 0) {
        // On a thread of its own, with which the preference ends: the caller's is not ours to change.
        const auto maker = kernel.start_thread("ferrule-ring", [&] {
            static_cast<void>(kernel.prefer_memory_node(node));
            ring.emplace(try_ring(kernel, options));
        });
        maker->join();
    } else {
        ring.emplace(try_ring(kernel, options));
    }
    if (!*ring) throw std::system_error(ring->error().code, ring->error().message);
    return std::move(**ring);
}

OperationSlot& slot_of(CancelNode& node) noexcept {
    return *reinterpret_cast<OperationSlot*>(reinterpret_cast<std::byte*>(&node) -
                                             offsetof(OperationSlot, cancel_node));
}

OperationSlot& slot_of(Timer& timer) noexcept {
    return *reinterpret_cast<OperationSlot*>(reinterpret_cast<std::byte*>(&timer) - offsetof(OperationSlot, timer));
}

void pause_processor() noexcept {
#if defined(__x86_64__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    asm volatile("yield");
#endif
}

struct PostedFunction : Message {
    PostedFunction(Reactor& owner, std::move_only_function<void()> what) : reactor(&owner), function(std::move(what)) {
        run = [](Message* message, bool delivered) noexcept {
            std::unique_ptr<PostedFunction> self{static_cast<PostedFunction*>(message)};
            if (!delivered) return;
            try {
                self->function();
            } catch (...) {
                self->reactor->fault(std::current_exception());
            }
        };
    }
    Reactor* reactor;
    std::move_only_function<void()> function;
};

void write_fault(Log& log, const std::exception_ptr& exception) noexcept {
    try {
        std::rethrow_exception(exception);
    } catch (const std::exception& failure) {
        log.write(unhandled_exception, "unhandled exception: %s", failure.what());
    } catch (...) {
        log.write(unhandled_exception, "unhandled exception of unknown type");
    }
}

/// A frame that died elsewhere: the message is built in the frame's own memory.
struct FrameMessage : Message {
    FramePool* pool;
    std::uint32_t size_class;
};
static_assert(sizeof(FrameMessage) <= 2 * sizeof(void*) + sizeof(Task<>::promise_type),
              "the smallest frame has room for the message");

}  // namespace

// ---- Operation ----

void OperationSlot::on_cancel(CancelNode& node, CancelReason) noexcept {
    OperationSlot& slot = slot_of(node);
    slot.reactor->cancel_slot(slot, -ECANCELED);
}

void Operation::cancel() noexcept {
    if (has_slot()) slot_->reactor->cancel_slot(*slot_, -ECANCELED);
}

void Operation::suspend(std::coroutine_handle<> handle, Environment* environment) noexcept {
    OperationSlot& slot = *slot_;
    slot.waiter = handle;
    // A task that visits another reactor is cancelled when it comes home: its scope is not this thread's to touch.
    CancelScope* scope = environment != nullptr && environment->host == slot.reactor && environment->scope != nullptr
                             ? environment->scope
                             : slot.reactor->root_environment.scope;
    if (!scope->add(slot.cancel_node)) slot.reactor->cancel_slot(slot, -ECANCELED);
}

void Operation::yield(std::coroutine_handle<> handle) noexcept {
    Reactor* reactor = Reactor::current();
    if (reactor != nullptr) reactor->mutable_counters().yields.add();
    if (slot_ != nullptr) {
        slot_->state = OperationSlot::State::queued;
        slot_->waiter = handle;
    } else {
        // Nowhere but here to note whom the ready list must forget when this is destroyed.
        slot_ = reinterpret_cast<OperationSlot*>(reinterpret_cast<std::uintptr_t>(handle.address()) | yielding);
    }
    Host::current()->resume_later(handle);
}

OperationResult Operation::await_resume() noexcept {
    if (!has_slot()) {
        slot_ = nullptr;
        return {-ENOBUFS, 0};
    }
    OperationSlot& slot = *std::exchange(slot_, nullptr);
    const OperationResult result{slot.result, slot.flags};
    slot.reactor->free_slot(slot);
    return result;
}

void Operation::release() noexcept {
    if (!has_slot()) {
        const auto address = reinterpret_cast<std::uintptr_t>(std::exchange(slot_, nullptr)) & ~yielding;
        Host::current()->forget(std::coroutine_handle<>::from_address(reinterpret_cast<void*>(address)));
        return;
    }
    OperationSlot& slot = *std::exchange(slot_, nullptr);
    CancelScope::remove(slot.cancel_node);
    if (slot.state == OperationSlot::State::queued) slot.reactor->forget(slot.waiter);
    slot.waiter = nullptr;
    if (!slot.in_kernel) {
        slot.reactor->timers().disarm(slot.timer);
        slot.reactor->end_abandoned(slot);
        return;
    }
    if (slot.memory == OperationMemory::caller) {
        std::string what = "operation '";
        what += slot.name;
        what += "' works on its caller's memory and was destroyed in flight: await it to its end";
        assertion_failed(__FILE__, __LINE__, what.c_str());
    }
    slot.detached = true;
    slot.reactor->cancel_request(Tag{Reactor::operation_kind, slot.generation, slot.index}.encode());
}

bool Operation::let_go() && noexcept {
    if (!has_slot()) return false;
    OperationSlot& slot = *std::exchange(slot_, nullptr);
    FERRULE_ASSERT(slot.memory == OperationMemory::reactor && slot.state != OperationSlot::State::queued);
    slot.detached = true;
    if (!slot.in_kernel) slot.reactor->end_abandoned(slot);
    return true;
}

// ---- making and ending ----

Reactor::Reactor(std::uint32_t id, ReactorOptions options, Kernel& kernel)
    : kernel_(&kernel), options_(options), id_(id), ring_(make_ring(kernel, options)) {
    log.set_reactor(id);
    memory_account.limit_bytes(options_.memory_limit);
    frames.limit_bytes(options_.frame_memory_limit);
    root_environment.host = this;
    root_environment.scope = &root_scope_;
    inbox_ = std::make_shared<Inbox>(kernel, options_.mailbox_limit);
    metrics_ = std::make_shared<MetricRegistry>(MetricLabels{{"reactor", std::to_string(id)}});
    counters_registered_ = metrics_->add(counters_);
    counters_.memory_limit.set(memory_account.limit_bytes());
    add_completion_route(this, [](void*, const abi::Completion&) noexcept {});
    add_completion_route(this, &Reactor::on_operation);
    add_completion_route(this, &Reactor::on_wake);
    add_completion_route(this, &Reactor::on_ring_wake);
    slot_timer_route_ = add_timer_route(this, &Reactor::on_slot_timer);
    scope_timer_route_ = add_timer_route(this, &Reactor::on_scope_timer);
    drain_timer_.route = add_timer_route(this, &Reactor::on_drain_timer);
    now_ns_ = kernel.monotonic_ns();
}

Reactor::~Reactor() {
    const HostBinding binding{*this};
    offload_pool_.reset();
    inbox_->set_ring_descriptor(-1);
    run_messages(inbox_->close(), false);
    // While this reactor is current: frames of their tasks, and what else they hold of it, are at home.
    services_.clear();
    run_messages(homeless_.exchange(nullptr, std::memory_order_acquire), true);
}

void Reactor::refuse_thread(const char* call) {
    throw std::logic_error(std::string(call) + ": called on a thread that is not the reactor's");
}

Reactor* Reactor::current() noexcept {
    return dynamic_cast<Reactor*>(Host::current());
}

std::uint8_t Reactor::add_completion_route(void* owner, CompletionHandler handler) {
    check_thread("Reactor::add_completion_route");
    if (completion_route_count_ == route_limit) throw std::length_error("reactor: all kinds of completions are taken");
    completion_routes_[completion_route_count_] = {handler, owner};
    return completion_route_count_++;
}

std::uint8_t Reactor::add_timer_route(void* owner, TimerHandler handler) {
    check_thread("Reactor::add_timer_route");
    if (timer_route_count_ == route_limit) throw std::length_error("reactor: all timer routes are taken");
    timer_routes_[timer_route_count_] = {handler, owner};
    return timer_route_count_++;
}

OffloadPool& Reactor::offload_pool() {
    if (offload_pool_ == nullptr) offload_pool_ = std::make_unique<OffloadPool>(*this);
    return *offload_pool_;
}

// ---- from other threads ----

void Reactor::stop() noexcept {
    // As soon as the request is seen the loop may end, and the reactor be destroyed: only the mailbox is touched after
    // that.
    const std::shared_ptr<Inbox> inbox = inbox_;
    stop_requested_.store(true, std::memory_order_seq_cst);
    // Whoever waits in the kernel has announced it; a spurious wake-up is harmless.
    inbox->claim_wake();
    inbox->wake();
}

bool Reactor::post(std::move_only_function<void()> function) {
    auto message = std::make_unique<PostedFunction>(*this, std::move(function));
    // What is posted may end the reactor before this returns.
    const std::shared_ptr<Inbox> inbox = inbox_;
    if (!inbox->send(*message)) return false;
    static_cast<void>(message.release());
    return true;
}

void Reactor::frame_home(void* block, std::uint32_t size_class) noexcept {
#if defined(FERRULE_ADDRESS_SANITIZER)
    __asan_unpoison_memory_region(block, sizeof(FrameMessage));
#endif
    auto* message = new (block) FrameMessage;
    message->pool = &frames;
    message->size_class = size_class;
    message->run = [](Message* self, bool) noexcept {
        auto* frame = static_cast<FrameMessage*>(self);
        frame->pool->release(frame, frame->size_class);
    };
    const std::shared_ptr<Inbox> inbox = inbox_;
    if (inbox->put_beyond_limit(*message)) {
        if (inbox->claim_wake()) inbox->wake();
        return;
    }
    // The reactor has ended; its pool is still there, because frames of it were alive.
    Message* head = homeless_.load(std::memory_order_relaxed);
    do {
        message->next = head;
    } while (!homeless_.compare_exchange_weak(head, message, std::memory_order_release, std::memory_order_relaxed));
}

void Reactor::send_later(std::shared_ptr<Inbox> target, Message& message, bool beyond_limit) {
    outgoing_.push_back({std::move(target), &message, beyond_limit});
}

void Reactor::send_outgoing() noexcept {
    if (outgoing_.empty()) return;
    // What is refused goes on here, and may try again: in the next pass.
    sending_.swap(outgoing_);
    for (Outgoing& outgoing : sending_) {
        const std::shared_ptr<Inbox> target = std::move(outgoing.target);
        Message* message = outgoing.message;
        if (!(outgoing.beyond_limit ? target->put_beyond_limit(*message) : target->put(*message))) {
            message->run(message, false);
            continue;
        }
        if (target->claim_wake()) wake(target);
    }
    sending_.clear();
}

void Reactor::wake(const std::shared_ptr<Inbox>& target) noexcept {
    const int ring_descriptor = target->ring_descriptor();
    // A reactor that does not run submits nothing.
    if (ring_descriptor < 0 || !running_.load(std::memory_order_relaxed)) {
        target->wake();
        return;
    }
    // The faster way; the completion tells whether it arrived, and the event descriptor is the answer when it did not.
    std::uint32_t index_of_wake = 0;
    while (index_of_wake < ring_wakes_.size() && ring_wakes_[index_of_wake] != nullptr) ++index_of_wake;
    if (index_of_wake == ring_wakes_.size()) ring_wakes_.emplace_back();
    ring_wakes_[index_of_wake] = target;
    abi::SubmissionEntry& entry = ring_.entry();
    prepare::message_ring(entry, ring_descriptor, 0, Tag{ignored_kind, 0, 0}.encode(), 0);
    entry.user_data = Tag{ring_wake_kind, 0, index_of_wake}.encode();
}

void Reactor::on_ring_wake(void* owner, const abi::Completion& completion) noexcept {
    const Tag tag = Tag::decode(completion.user_data);
    auto& self = *static_cast<Reactor*>(owner);
    const std::shared_ptr<Inbox> target = std::move(self.ring_wakes_[tag.slot]);
    self.ring_wakes_[tag.slot] = nullptr;
    if (completion.result < 0) target->wake();
}

// ---- slots ----

OperationSlot* Reactor::take_slot(const char* name) {
    check_thread(name);
    if (live_slots_ >= options_.operation_limit) [[unlikely]]
        return nullptr;
    if (free_slots_ == no_slot) {
        const std::size_t count = slots_.size() * slots_per_chunk;
        try {
            slots_.push_back(std::make_unique<OperationSlot[]>(slots_per_chunk));
        } catch (const std::bad_alloc&) {
            return nullptr;
        }
        for (std::uint32_t offset = slots_per_chunk; offset-- > 0;) {
            OperationSlot& fresh = slots_.back()[offset];
            fresh.reactor = this;
            fresh.index = static_cast<std::uint32_t>(count) + offset;
            fresh.timer.route = slot_timer_route_;
            fresh.next_free = free_slots_;
            free_slots_ = fresh.index;
        }
    }
    OperationSlot& taken = slot(free_slots_);
    free_slots_ = taken.next_free;
    taken.name = name;
    taken.state = OperationSlot::State::waiting;
    taken.memory = OperationMemory::reactor;
    taken.detached = false;
    taken.abandoned = nullptr;
    taken.waiter = nullptr;
    counters_.operations.set(++live_slots_);
    return &taken;
}

void Reactor::free_slot(OperationSlot& slot) noexcept {
    FERRULE_ASSERT(!slot.in_kernel && !slot.timer.armed() && !slot.cancel_node.linked());
    slot.state = OperationSlot::State::free;
    slot.generation = (slot.generation + 1) & Tag::generation_mask;
    slot.next_free = free_slots_;
    free_slots_ = slot.index;
    counters_.operations.set(--live_slots_);
}

void Reactor::end_abandoned(OperationSlot& slot) noexcept {
    AbandonedOperation* const told = slot.abandoned;
    const std::int32_t result = slot.result;
    free_slot(slot);
    if (told != nullptr) told->ended(*told, result);
}

void Reactor::finish(OperationSlot& slot, std::int32_t result, std::uint32_t flags) noexcept {
    CancelScope::remove(slot.cancel_node);
    if (slot.state == OperationSlot::State::queued) return;  // its end is on its way already
    slot.result = result;
    slot.flags = flags;
    slot.state = OperationSlot::State::finished;
    if (slot.detached) {
        end_abandoned(slot);
    } else if (slot.waiter) {
        resume(std::exchange(slot.waiter, nullptr));
    }
}

void Reactor::on_operation(void* owner, const abi::Completion& completion) noexcept {
    const Tag tag = Tag::decode(completion.user_data);
    auto& self = *static_cast<Reactor*>(owner);
    if (tag.slot >= self.slots_.size() * slots_per_chunk) [[unlikely]] {
        self.counters_.stale_completions.add();
        return;
    }
    OperationSlot& slot = self.slot(tag.slot);
    if (slot.generation != tag.generation || !slot.in_kernel) [[unlikely]] {
        self.counters_.stale_completions.add();
        return;
    }
    if ((completion.flags & abi::completion_more) != 0) {
        // The result of a zero-copy send; its memory is the kernel's until the notification.
        slot.result = completion.result;
        slot.flags = completion.flags;
        return;
    }
    slot.in_kernel = false;
    if ((completion.flags & abi::completion_notification) != 0) {
        self.finish(slot, slot.result, slot.flags);
    } else {
        self.finish(slot, completion.result, completion.flags);
    }
}

void Reactor::cancel_slot(OperationSlot& slot, std::int32_t result) noexcept {
    if (slot.in_kernel) {
        cancel_request(Tag{operation_kind, slot.generation, slot.index}.encode());
        return;
    }
    if (slot.state != OperationSlot::State::waiting) return;
    CancelScope::remove(slot.cancel_node);
    timers_.disarm(slot.timer);
    slot.result = result;
    slot.flags = 0;
    if (slot.waiter) {
        slot.state = OperationSlot::State::queued;
        resume_later(slot.waiter);
    } else {
        slot.state = OperationSlot::State::finished;
    }
}

void Reactor::cancel_request(std::uint64_t user_data) noexcept {
    abi::SubmissionEntry& entry = ring_.entry();
    prepare::cancel(entry, user_data, 0);
    entry.flags |= abi::entry_completion_skip_success;
    entry.user_data = Tag{ignored_kind, 0, 0}.encode();
}

Operation Reactor::wait_until(std::uint64_t due_ns) {
    OperationSlot* slot = take_slot("sleep");
    if (slot == nullptr) return Operation{nullptr};
    slot->in_kernel = false;
    try {
        timers_.arm(slot->timer, due_ns);
    } catch (const std::bad_alloc&) {
        free_slot(*slot);
        return Operation{nullptr};
    }
    return Operation{slot};
}

void Reactor::on_slot_timer(void* owner, Timer& timer) noexcept {
    static_cast<Reactor*>(owner)->finish(slot_of(timer), 0, 0);
}

// ---- scopes' deadlines ----

namespace {
struct ScopeTimer {
    Timer timer;
    CancelScope* scope = nullptr;
};
}  // namespace

void Reactor::arm_deadline(CancelScope& scope, std::uint64_t due_ns) noexcept {
    auto* armed = reinterpret_cast<ScopeTimer*>(scope.deadline_token);
    if (armed == nullptr) {
        if (free_scope_timers_.empty()) {
            armed = new ScopeTimer;
            armed->timer.route = scope_timer_route_;
            scope_timers_.emplace_back(armed, [](void* memory) { delete static_cast<ScopeTimer*>(memory); });
            // Its way back must neither fail nor allocate.
            free_scope_timers_.reserve(scope_timers_.capacity());
        } else {
            armed = static_cast<ScopeTimer*>(free_scope_timers_.back());
            free_scope_timers_.pop_back();
        }
        armed->scope = &scope;
        scope.deadline_token = reinterpret_cast<std::uint64_t>(armed);
    }
    timers_.arm(armed->timer, due_ns);
}

void Reactor::disarm_deadline(CancelScope& scope) noexcept {
    auto* armed = reinterpret_cast<ScopeTimer*>(std::exchange(scope.deadline_token, 0));
    if (armed == nullptr) return;
    timers_.disarm(armed->timer);
    free_scope_timers_.push_back(armed);
}

void Reactor::on_scope_timer(void* owner, Timer& timer) noexcept {
    auto& self = *static_cast<Reactor*>(owner);
    auto* armed = reinterpret_cast<ScopeTimer*>(&timer);
    CancelScope& scope = *armed->scope;
    scope.deadline_token = 0;
    self.free_scope_timers_.push_back(armed);
    scope.expire();
}

// ---- the loop ----

void Reactor::resume_later(std::coroutine_handle<> handle) noexcept {
    ready_.push_back(handle);
}

void Reactor::forget(std::coroutine_handle<> handle) noexcept {
    for (std::coroutine_handle<>& waiting : ready_) {
        if (waiting == handle) waiting = nullptr;
    }
    for (std::coroutine_handle<>& waiting : resuming_) {
        if (waiting == handle) waiting = nullptr;
    }
}

void Reactor::run_ready() noexcept {
    if (ready_.empty()) return;
    resuming_.swap(ready_);
    for (std::size_t index = 0; index < resuming_.size(); ++index) {
        const std::coroutine_handle<> handle = std::exchange(resuming_[index], nullptr);
        if (handle) resume(handle);
    }
    resuming_.clear();
}

void Reactor::run_messages(Message* message, bool delivered) noexcept {
    while (message != nullptr) {
        Message* next = message->next;
        inline_budget = options_.inline_budget;
        message->run(message, delivered);
        counters_.messages.add();
        message = next;
    }
}

void Reactor::on_wake(void* owner, const abi::Completion& completion) noexcept {
    auto& self = *static_cast<Reactor*>(owner);
    self.wake_armed_ = false;
    if (completion.result >= 0) self.counters_.wakes.add();
    if (self.wake_wanted_) self.arm_wake();
}

void Reactor::arm_wake() noexcept {
    abi::SubmissionEntry& entry = ring_.entry();
    prepare::read(entry, inbox_->event_descriptor(), &wake_value_, sizeof wake_value_, 0);
    entry.user_data = Tag{wake_kind, 0, 0}.encode();
    wake_armed_ = true;
}

void Reactor::dispatch_completions() noexcept {
    std::array<abi::Completion, completion_batch> batch;
    std::uint64_t dispatched = 0;
    // No more than there are now: what is resumed may flush a full submission queue, and the completions of that would
    // keep this going for ever.
    std::uint32_t waiting = ring_.ready();
    while (waiting != 0) {
        const std::uint32_t count =
            ring_.copy_completions(std::span(batch).first(std::min<std::size_t>(waiting, batch.size())));
        waiting -= count;
        for (std::uint32_t index = 0; index < count; ++index) {
            const abi::Completion& completion = batch[index];
            const std::uint8_t kind = Tag::decode(completion.user_data).kind;
            if (kind >= completion_route_count_) [[unlikely]] {
                counters_.stale_completions.add();
                continue;
            }
            const CompletionRoute& route = completion_routes_[kind];
            route.handler(route.owner, completion);
        }
        dispatched += count;
    }
    if (dispatched != 0) counters_.completions.add(dispatched);
}

bool Reactor::spin_for_completions() {
    const auto budget_ns = static_cast<std::uint64_t>(std::chrono::nanoseconds(options_.spin).count());
    idle_since_ns_ = kernel_->monotonic_ns();
    const std::uint64_t until = std::min(idle_since_ns_ + budget_ns, timers_.next_due());
    for (unsigned turn = 1;; ++turn) {
        if (ring_.task_work_pending() || ring_.ready() != 0 || !inbox_->empty()) return true;
        if (turn % spin_turns_per_clock == 0 && kernel_->monotonic_ns() >= until) return false;
        pause_processor();
    }
}

void Reactor::enter() {
    bool sleep = ready_.empty() && outgoing_.empty() && ring_.ready() == 0 && inbox_->empty() &&
                 !stop_requested_.load(std::memory_order_relaxed) &&
                 (offload_pool_ == nullptr || !offload_pool_->has_given());
    for_each_subsystem([&](const Subsystem& subsystem) { sleep = sleep && !subsystem.must_not_sleep(); });
    // What this pass has resumed so far may have been the last that was waited for: nothing would end the sleep.
    if (sleep && (draining_ || ending_)) [[unlikely]]
        sleep = ending_ ? !(calls_are_back() && quiescent()) : !drained();
    // Whoever waits stalls nobody.
    if (sleep) active_since_ns_.store(0, std::memory_order_relaxed);
    if (sleep && options_.spin.count() > 0) {
        // What is staged must leave before looking for answers to it.
        if (ring_.pending() != 0) {
            check(ring_.enter(0, 0));
        }
        if (ring_.ready() == 0)
            sleep = !spin_for_completions();
        else
            sleep = false;
    }
    std::uint64_t timeout = Ring::no_timeout;
    if (sleep) {
        const std::uint64_t now = kernel_->monotonic_ns();
        if (const std::uint64_t due = timers_.next_due(); due != TimerHeap::never) {
            timeout = due > now ? due - now : 0;
            sleep = timeout != 0;
        }
        if (sleep && idle_since_ns_ == 0) idle_since_ns_ = now;
    }
    if (sleep && inbox_->announce_sleep()) {
        counters_.sleeps.add();
        // A deadline that is nearer than the gathering is long would be missed.
        const std::uint32_t wanted =
            gathered_ == 1 || timeout <= static_cast<std::uint64_t>(std::chrono::nanoseconds(options_.min_wait).count())
                ? 1
                : gathered_;
        const int result =
            stop_requested_.load(std::memory_order_seq_cst) ? ring_.enter(0, 0) : ring_.enter(wanted, timeout);
        inbox_->awake();
        check(result);
    } else {
        check(ring_.enter(0, 0));
    }
}

void Reactor::check(int result) {
    if (result >= 0 || result == -EINTR) return;
    if (result == -EAGAIN || result == -EBUSY) {
        counters_.busy_enters.add();
        return;
    }
    throw std::system_error(-result, std::system_category(), "io_uring_enter of reactor " + std::to_string(id_));
}

void Reactor::expire_timers() noexcept {
    while (Timer* timer = timers_.take_due(now_ns_)) {
        counters_.deadlines.add();
        inline_budget = options_.inline_budget;
        const TimerRoute& route = timer_routes_[timer->route];
        route.handler(route.owner, *timer);
    }
}

void Reactor::publish_counters() noexcept {
    counters_.passes.add();
    counters_.submissions.set(ring_.submitted_count());
    counters_.enters.set(ring_.enter_count());
    counters_.frames.set(frames.live_frames());
    counters_.frame_bytes.set(frames.live_bytes());
    counters_.frame_memory.set(frames.peak_bytes());
    counters_.memory_used.set(memory_account.used_bytes());
    counters_.armed_deadlines.set(timers_.size());
    counters_.messages_waiting.set(inbox_->waiting());
    counters_.messages_refused.set(inbox_->refused());
    counters_.log_messages.set(log.written());
    counters_.log_left_out.set(log.left_out());
    if (offload_pool_ != nullptr) counters_.offload_calls.set(offload_pool_->in_flight());
}

void Reactor::pass() {
    run_ready();
    send_outgoing();
    if (offload_pool_ != nullptr) offload_pool_->dispatch();
    for_each_subsystem([](Subsystem& subsystem) { subsystem.before_submit(); });
    publish_counters();
    enter();
    // What is dispatched from here on may fill the queue, and so submit more.
    consumed_ = ring_.next_sequence() - ring_.pending();
    if (grows_) [[unlikely]]
        grow_queues();
    now_ns_ = kernel_->monotonic_ns();
    active_since_ns_.store(now_ns_, std::memory_order_relaxed);
    resumed_.store(nullptr, std::memory_order_relaxed);
    counters_.pass_duration.record((idle_since_ns_ != 0 ? idle_since_ns_ : now_ns_) - pass_begun_ns_);
    pass_begun_ns_ = now_ns_;
    idle_since_ns_ = 0;
    FERRULE_PROBE(dispatch_begin, id_);
    dispatch_completions();
    if (ring_.overflowed()) [[unlikely]] {
        counters_.overflows.add();
        counters_.lost_completions.set(ring_.dropped_completions());
        check(ring_.enter(0, 0));
        dispatch_completions();
    }
    for_each_subsystem([](Subsystem& subsystem) { subsystem.after_completions(); });
    expire_timers();
    if (!inbox_->empty()) run_messages(inbox_->take_all(), true);
    if (draining_ && !stop_requested_.load(std::memory_order_relaxed) && drained()) {
        stop_requested_.store(true, std::memory_order_relaxed);
    }
    FERRULE_PROBE(dispatch_end, id_);
}

bool Reactor::drained() const noexcept {
    bool all = true;
    for_each_subsystem([&](const Subsystem& subsystem) { all = all && subsystem.drained(); });
    return all;
}

void Reactor::drain(std::chrono::nanoseconds timeout) {
    check_thread("Reactor::drain");
    if (draining_ || ending_) return;
    draining_ = true;
    counters_.draining.set(1);
    timers_.arm(drain_timer_,
                kernel_->monotonic_ns() + static_cast<std::uint64_t>(std::max<std::int64_t>(timeout.count(), 0)));
    for_each_subsystem([](Subsystem& subsystem) { subsystem.drain(); });
}

void Reactor::on_drain_timer(void* owner, Timer&) noexcept {
    static_cast<Reactor*>(owner)->stop_requested_.store(true, std::memory_order_relaxed);
}

// What can only be asked for on the thread of the reactor, when it has its ring.
void Reactor::tune() {
    const auto refuse = [this](const char* option, const std::error_code& error) {
        tuning_.refused += std::string(option) + ": " + error.message() + '\n';
    };
    const auto unknown = std::make_error_code(std::errc::invalid_argument);
    tuning_.submission_poll = ring_.polled();
    if (options_.submission_poll.count() > 0 && !ring_.polled()) refuse("submission_poll", unknown);
    tuning_.min_wait = ring_.gathers();
    if (options_.min_wait.count() > 0 && !ring_.gathers()) refuse("min_wait", unknown);
    if (ring_.gathers()) gathered_ = std::max(options_.min_wait_completions, 1u);
    if (options_.bounded_workers != 0 || options_.unbounded_workers != 0) {
        const auto limited = ring_.limit_workers(options_.bounded_workers, options_.unbounded_workers);
        tuning_.workers = limited.has_value();
        if (!limited) refuse("bounded_workers, unbounded_workers", limited.error());
    }
    if (options_.napi_busy_poll.count() > 0) {
        const auto polls = ring_.register_busy_poll(count_of(options_.napi_busy_poll), options_.napi_prefer_busy_poll);
        tuning_.napi_busy_poll = polls.has_value();
        if (!polls) refuse("napi_busy_poll", polls.error());
    }
    if (options_.submission_entries_max == 0 && options_.completion_entries_max == 0) return;
    // Made as large as it is: the trial. A program may have submitted something before.
    if (ring_.pending() != 0) static_cast<void>(ring_.submit());
    const auto resized = ring_.resize(ring_.entries(), ring_.completion_entries());
    tuning_.resize = grows_ = resized.has_value();
    if (!resized) refuse("submission_entries_max, completion_entries_max", resized.error());
}

void Reactor::grow_queues() {
    const bool overflowed = ring_.overflow_count() != overflows_seen_;
    const bool full = ring_.full_count() != full_seen_;
    // What the kernel has not taken has its place in the present queue.
    if ((!overflowed && !full) || ring_.pending() != 0) return;
    overflows_seen_ = ring_.overflow_count();
    full_seen_ = ring_.full_count();
    const auto doubled = [](bool grows, std::uint32_t entries, std::uint32_t most) {
        return grows && entries <= most / 2 ? 2 * entries : entries;
    };
    const std::uint32_t entries = doubled(full, ring_.entries(), options_.submission_entries_max);
    // The kernel wants at least as many of these.
    const std::uint32_t completions =
        std::max(doubled(overflowed, ring_.completion_entries(), options_.completion_entries_max), entries);
    if (entries == ring_.entries() && completions == ring_.completion_entries()) return;
    const auto resized = ring_.resize(entries, completions);
    if (resized) {
        counters_.resizes.add();
        return;
    }
    if (resized.error() == std::error_code(ENOLINK, std::system_category()))
        throw std::system_error(resized.error(), "the larger queues of reactor " + std::to_string(id_) + ": mmap");
    if (resized.error() == std::errc::value_too_large) return;  // too much has come meanwhile: after the next overflow
    grows_ = tuning_.resize = false;
    tuning_.refused += "submission_entries_max, completion_entries_max: " + std::to_string(entries) + " and " +
                       std::to_string(completions) + " entries: " + resized.error().message() + '\n';
}

void Reactor::run() {
    FERRULE_ASSERT(!ran_);
    ran_ = true;
    if (options_.cpu >= 0) {
        if (const int result = kernel_->set_affinity(options_.cpu); result < 0) {
            throw std::system_error(-result, std::system_category(),
                                    "pin a reactor to CPU " + std::to_string(options_.cpu));
        }
    }
    if (options_.local_memory && options_.cpu >= 0) {
        const int node = node_of_cpu(*kernel_, options_.cpu);
        const int result = node >= 0 ? kernel_->prefer_memory_node(node) : -ENOSYS;
        if (result >= 0)
            tuning_.memory_node = node;
        else
            tuning_.refused += "local_memory: " + system_error(-result).message() + '\n';
    }
    const HostBinding binding{*this};
    struct Running {
        std::atomic<bool>& flag;
        explicit Running(std::atomic<bool>& running) noexcept : flag(running) { flag.store(true); }
        ~Running() { flag.store(false); }
    };
    const Running running{running_};
    const detail::RunMark mark{*this};
    thread_.store(kernel_->thread_identity(), std::memory_order_relaxed);
    if (const auto enabled = ring_.enable(); !enabled)
        throw std::system_error(enabled.error(), "enable the ring of a reactor");
    tune();
    inbox_->set_ring_descriptor(ring_.descriptor());
    pass_begun_ns_ = refresh_now();
    arm_wake();
    try {
        // By index and moved out: a hook may add hooks.
        for (std::size_t index = 0; index < start_hooks_.size(); ++index) {
            const auto hook = std::move(start_hooks_[index]);
            hook(*this);
        }
        start_hooks_.clear();
        active_since_ns_.store(kernel_->monotonic_ns(), std::memory_order_relaxed);
        while (!stop_requested_.load(std::memory_order_relaxed)) pass();
    } catch (...) {
        end();
        throw;
    }
    end();
}

bool Reactor::quiescent() const noexcept {
    if (live_slots_ != 0 || !ready_.empty() || !outgoing_.empty() || !inbox_->empty()) return false;
    // Those that are away come home, or their frames do.
    if (tasks_away_ != 0 && frames.live_frames() != 0) return false;
    for (const std::shared_ptr<Inbox>& wake : ring_wakes_) {
        if (wake != nullptr) return false;
    }
    bool quiet = true;
    for_each_subsystem([&](const Subsystem& subsystem) { quiet = quiet && subsystem.quiescent(); });
    return quiet && (wake_wanted_ || !wake_armed_);
}

bool Reactor::calls_are_back() const noexcept {
    return offload_pool_ == nullptr || offload_pool_->idle();
}

bool Reactor::settle(std::uint64_t until_ns) {
    bool settled = false;
    for (;;) {
        settled = calls_are_back() && quiescent();
        if (settled) break;
        const std::uint64_t now = kernel_->monotonic_ns();
        if (now >= until_ns) {
            // A blocking call cannot be cancelled, and its thread works in a frame of ours.
            if (calls_are_back()) break;
            until_ns = now + end_patience_ns;
        }
        // The end is awaited in the kernel: the request to stop is cleared, so that a pass may sleep, with a bound.
        stop_requested_.store(false, std::memory_order_relaxed);
        timers_.arm(drain_timer_, until_ns);
        pass();
    }
    timers_.disarm(drain_timer_);
    stop_requested_.store(true, std::memory_order_relaxed);
    return settled;
}

void Reactor::abandon_operations() noexcept {
    const auto cancelled = ring_.cancel_sync(0, -1, abi::cancel_any | abi::cancel_all, cancel_patience_ns);
    dispatch_completions();
    // Nothing more is submitted: it would never end.
    options_.operation_limit = 0;
    if (cancelled || cancelled.error() == std::errc::no_such_file_or_directory) {
        // The kernel has let go of everything, and its word is all that is missing.
        for (std::uint32_t index = 0; index < slots_.size() * slots_per_chunk; ++index) {
            OperationSlot& left = slot(index);
            if (left.state == OperationSlot::State::free || !left.in_kernel) continue;
            left.in_kernel = false;
            finish(left, -ECANCELED, 0);
        }
        wake_armed_ = false;
        for (std::shared_ptr<Inbox>& wake : ring_wakes_) {
            if (wake != nullptr) std::exchange(wake, nullptr)->wake();
        }
    }
    for (unsigned round = 0; round < abandoned_rounds_max && !(ready_.empty() && outgoing_.empty()); ++round) {
        run_ready();
        send_outgoing();
    }
}

void Reactor::report_unfinished() noexcept {
    log.write(unfinished, "ended with %u operations and %llu frames in use", live_slots_,
              static_cast<unsigned long long>(frames.live_frames()));
    std::uint32_t named = 0;
    for (std::uint32_t index = 0; index < slots_.size() * slots_per_chunk && named < named_operations_max; ++index) {
        const OperationSlot& left = slot(index);
        if (left.state == OperationSlot::State::free) continue;
        log.write(unfinished, "operation '%s' has not ended", left.name);
        ++named;
    }
}

void Reactor::end() noexcept {
    ending_ = true;
    timers_.disarm(drain_timer_);
    bool settled = false;
    try {
        root_scope_.cancel(CancelReason::shutdown);
        for_each_subsystem([](Subsystem& subsystem) { subsystem.shutdown(); });
        // Who keeps posting does not keep this from ending.
        inbox_->refuse();
        // Others still wake this reactor: its calls and its tasks come home.
        settled = settle(kernel_->monotonic_ns() + end_patience_ns);
    } catch (const std::exception& failure) {
        log.write(unfinished, "while ending: %s", failure.what());
    }
    if (offload_pool_ != nullptr) offload_pool_->end();
    if (settled) run_end_hooks();
    inbox_->set_ring_descriptor(-1);
    run_messages(inbox_->close(), false);
    try {
        wake_wanted_ = false;
        if (wake_armed_) cancel_request(Tag{wake_kind, 0, 0}.encode());
        settle(kernel_->monotonic_ns() + cancel_patience_ns);
    } catch (const std::exception&) {
        // Said above.
    }
    if (!quiescent()) abandon_operations();
    if (!quiescent()) {
        report_unfinished();
    }
    run_end_hooks();
    stop_requested_.store(true, std::memory_order_relaxed);
    active_since_ns_.store(0, std::memory_order_relaxed);
}

void Reactor::run_end_hooks() noexcept {
    while (!end_hooks_.empty()) {
        const auto hook = std::move(end_hooks_.back());
        end_hooks_.pop_back();
        try {
            hook(*this);
        } catch (...) {
            report_fault(std::current_exception());
        }
    }
}

void Reactor::fault(std::exception_ptr exception) noexcept {
    if (Host::current() == this) {
        report_fault(std::move(exception));
        return;
    }
    // It left a task of this reactor that ended elsewhere: hooks and counters are for this reactor's thread.
    try {
        if (post([this, exception] { report_fault(exception); })) return;
    } catch (const std::bad_alloc&) {
        // It is said from here.
    }
    write_fault(log, exception);
}

void Reactor::report_fault(std::exception_ptr exception) noexcept {
    counters_.faults.add();
    if (fault_hook_) {
        try {
            // A copy: the hook may put another in its place.
            const auto hook = fault_hook_;
            hook(*this, exception);
            return;
        } catch (...) {
            // A hook that fails leaves the report to the default.
        }
    }
    write_fault(log, exception);
}

// ---- for debuggers ----

// Types with virtual functions: every compiler that we build with knows the offsets.
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Winvalid-offsetof"
[[gnu::used, gnu::retain]] const detail::DebugPlace detail::DebugLayout::reactor[] = {
    {"Reactor.id", offsetof(Reactor, id_)},
    {"Reactor.thread", offsetof(Reactor, thread_)},
    {"Reactor.active_since_ns", offsetof(Reactor, active_since_ns_)},
    {"Reactor.draining", offsetof(Reactor, draining_)},
    {"Reactor.slots", offsetof(Reactor, slots_)},
    {"Reactor.slots_per_chunk", Reactor::slots_per_chunk},
    {"Reactor.ready", offsetof(Reactor, ready_)},
    {"Reactor.subsystems", offsetof(Reactor, subsystems_)},
    {"sizeof(OperationSlot)", sizeof(OperationSlot)},
    {"OperationSlot.waiter", offsetof(OperationSlot, waiter)},
    {"OperationSlot.name", offsetof(OperationSlot, name)},
    {"OperationSlot.state", offsetof(OperationSlot, state)},
    {"PromiseBase.continuation", offsetof(PromiseBase, continuation)},
#if defined(FERRULE_LIVE_TASKS)
    {"Reactor.live_tasks", offsetof(Reactor, live_tasks.first_)},
    {"LiveTaskLink.next", offsetof(detail::LiveTaskLink, next)},
    {"LiveTaskLink.frame", offsetof(detail::LiveTaskLink, frame)},
    {"LiveTaskLink.frame_bytes", offsetof(detail::LiveTaskLink, frame_bytes)},
    {"LiveTaskLink.function", offsetof(detail::LiveTaskLink, function)},
#endif
    {"", 0},
};
#pragma GCC diagnostic pop

}  // namespace ferrule::inline v0
