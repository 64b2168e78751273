#include <ferrule/assert.hpp>

#include "sim/scheduler.hpp"

#include <algorithm>
#include <cinttypes>
#include <cstdio>
#include <cstring>
#include <utility>

namespace ferrule::inline v0::sim {

namespace {

/// One turn of a fiber takes between this and twice this: what goes round without waiting makes time pass.
constexpr std::uint64_t turn_ns = 64;
/// The running fiber lets others run once in so many places at which it may.
constexpr std::uint64_t yield_one_in = 4;
constexpr std::uint64_t of_all = 1'000'000;
constexpr std::size_t findings_max = 64;
/// How far the decisions on a fault are made ahead of their occasions.
constexpr std::uint64_t occasions_ahead = 256;

__extension__ using Wide = unsigned __int128;

/// Both halves of a product: every bit of the result depends on every bit of both.
std::uint64_t fold(std::uint64_t left, std::uint64_t right) noexcept {
    const Wide product = static_cast<Wide>(left ^ 0x9e37'79b9'7f4a'7c15) * (right ^ 0xbf58'476d'1ce4'e5b9);
    return static_cast<std::uint64_t>(product) ^ static_cast<std::uint64_t>(product >> 64);
}

/// What tells one literal from another: its length, its beginning and its end.
std::uint64_t digest(std::string_view text) noexcept {
    std::uint64_t first = 0;
    std::uint64_t last = 0;
    const std::size_t length = std::min(text.size(), sizeof first);
    std::memcpy(&first, text.data(), length);
    std::memcpy(&last, text.data() + text.size() - length, length);
    return first * 31 + last + text.size();
}

std::string seconds(std::uint64_t time_ns) {
    const std::uint64_t passed = time_ns - Simulation::start_ns;
    std::array<char, 32> text{};
    std::snprintf(text.data(), text.size(), "%" PRIu64 ".%09" PRIu64 " s", passed / 1'000'000'000,
                  passed % 1'000'000'000);
    return text.data();
}

}  // namespace

Scheduler::Scheduler(const SimulationOptions& options)
    : random_(Random::mix(options.seed)),
      fingerprint_(Random::mix(options.seed + 1)),
      time_limit_ns_(Simulation::start_ns + static_cast<std::uint64_t>(options.time_limit.count())),
      step_limit_(options.step_limit),
      stack_bytes_(options.stack_bytes),
      trace_entries_(options.trace_entries) {
    const std::uint64_t fault_seed = Random::mix(options.seed ^ 0x5fa9'6e31'd15c'0f27);
    for (std::size_t kind = 0; kind < fault_count; ++kind) {
        plans_[kind].seed = fault_seed + Random::mix(kind + 1);
        const Wide rate = std::min<std::uint64_t>(options.faults.rates[kind], of_all);
        plans_[kind].threshold = (rate << 64) / of_all;
    }
    for (const PlacedFault& fault : options.faults.placed) {
        plans_[static_cast<std::size_t>(fault.fault)].placed.push_back(fault.occasion);
    }
    for (const PlacedFault& fault : options.faults.left_out) {
        plans_[static_cast<std::size_t>(fault.fault)].left_out.push_back(fault.occasion);
    }
    for (Plan& plan : plans_) {
        std::ranges::sort(plan.placed);
        std::ranges::sort(plan.left_out);
        plan.look_ahead(0);
    }
    entries_.reserve(trace_entries_);
}

Scheduler::~Scheduler() {
    for (const auto& fiber : fibers_) fiber->abandon_stack();
}

// ---- fibers ----

Fiber& Scheduler::start(std::string name, std::move_only_function<void()> body, void* thread) {
    if (stacks_.empty()) stacks_.emplace_back(stack_bytes_);
    auto made = std::make_unique<Fiber>(std::move(stacks_.back()), std::move(name), std::move(body));
    stacks_.pop_back();
    Fiber& fiber = *made;
    fiber.number = ++fibers_started_;
    fiber.thread = thread;
    if (trace_entries_ != 0) fiber_names_.push_back(fiber.name());
    fibers_.push_back(std::move(made));
    make_runnable(fiber);
    return fiber;
}

void Scheduler::make_runnable(Fiber& fiber) noexcept {
    fiber.waiting = Fiber::Waiting::runnable;
    runnable_.push_back(&fiber);
}

void Scheduler::end_fiber(Fiber& fiber) {
    const auto place = std::ranges::find(fibers_, &fiber, &std::unique_ptr<Fiber>::get);
    stacks_.push_back(fiber.take_stack());
    fibers_.erase(place);
}

void Scheduler::run_fiber() {
    // One draw for both: who, by the high bits, and how long, by the low ones.
    const std::uint64_t drawn = random_.next();
    now_ns_ += turn_ns + drawn % turn_ns;
    const auto index = static_cast<std::size_t>((static_cast<Wide>(drawn) * runnable_.size()) >> 64);
    Fiber& fiber = *runnable_[index];
    runnable_[index] = runnable_.back();
    runnable_.pop_back();
    fingerprint_ = fold(fingerprint_, fiber.number);
    fiber.waiting = Fiber::Waiting::no;
    current_ = &fiber;
    fiber.resume(context_);
    current_ = nullptr;
    if (fiber.ended()) end_fiber(fiber);
}

bool Scheduler::block(std::uint64_t until_ns, const char* what, std::int64_t object) {
    FERRULE_ASSERT(current_ != nullptr);
    Fiber& fiber = *current_;
    if (std::exchange(fiber.woken, false)) return true;
    fiber.reason = {what, object};
    if (until_ns <= now_ns_) {
        make_runnable(fiber);
        fiber.suspend();
        return std::exchange(fiber.woken, false);
    }
    fiber.waiting = Fiber::Waiting::blocked;
    fiber.timed_out = false;
    if (until_ns != ~std::uint64_t{0}) {
        const std::uint32_t index = take_event(until_ns);
        events_[index].fiber = &fiber;
        fiber.timeout = (std::uint64_t{events_[index].generation} << 32) | index;
    }
    fiber.suspend();
    return std::exchange(fiber.woken, false) || !fiber.timed_out;
}

void Scheduler::wake(Fiber& fiber) noexcept {
    if (fiber.waiting != Fiber::Waiting::blocked) {
        fiber.woken = true;
        return;
    }
    if (fiber.timeout != 0) forget(std::exchange(fiber.timeout, 0));
    make_runnable(fiber);
}

void Scheduler::may_yield() {
    if (current_ == nullptr || !random_.one_in(yield_one_in)) return;
    current_->reason = {"its turn", -1};
    make_runnable(*current_);
    current_->suspend();
}

// ---- events ----

std::uint32_t Scheduler::take_event(std::uint64_t time_ns) {
    std::uint32_t index = free_events_;
    if (index == none) {
        index = static_cast<std::uint32_t>(events_.size());
        events_.emplace_back();
    } else {
        free_events_ = events_[index].next_free;
    }
    Event& event = events_[index];
    event.time_ns = time_ns;
    event.order = orders_++;
    heap_.push_back(index);
    event.place = static_cast<std::uint32_t>(heap_.size() - 1);
    move_up(event.place);
    return index;
}

void Scheduler::free_event(std::uint32_t index) noexcept {
    Event& event = events_[index];
    event.fiber = nullptr;
    ++event.generation;
    event.next_free = free_events_;
    free_events_ = index;
}

bool Scheduler::before(std::uint32_t left, std::uint32_t right) const noexcept {
    const Event& one = events_[left];
    const Event& other = events_[right];
    return one.time_ns != other.time_ns ? one.time_ns < other.time_ns : one.order < other.order;
}

void Scheduler::put(std::uint32_t place, std::uint32_t index) noexcept {
    heap_[place] = index;
    events_[index].place = place;
}

void Scheduler::move_up(std::uint32_t place) noexcept {
    const std::uint32_t index = heap_[place];
    while (place != 0) {
        const std::uint32_t parent = (place - 1) / 2;
        if (!before(index, heap_[parent])) break;
        put(place, heap_[parent]);
        place = parent;
    }
    put(place, index);
}

void Scheduler::move_down(std::uint32_t place) noexcept {
    const std::uint32_t index = heap_[place];
    for (;;) {
        std::uint32_t child = 2 * place + 1;
        if (child >= heap_.size()) break;
        if (child + 1 < heap_.size() && before(heap_[child + 1], heap_[child])) ++child;
        if (!before(heap_[child], index)) break;
        put(place, heap_[child]);
        place = child;
    }
    put(place, index);
}

void Scheduler::remove_event(std::uint32_t index) noexcept {
    const std::uint32_t place = std::exchange(events_[index].place, none);
    const std::uint32_t last = heap_.back();
    heap_.pop_back();
    if (last == index) return;
    put(place, last);
    move_up(place);
    move_down(events_[last].place);
}

std::uint64_t Scheduler::at(std::uint64_t time_ns, std::move_only_function<void()> what) {
    const std::uint32_t index = take_event(time_ns);
    events_[index].what = std::move(what);
    return (std::uint64_t{events_[index].generation} << 32) | index;
}

void Scheduler::forget(std::uint64_t event) noexcept {
    const auto index = static_cast<std::uint32_t>(event);
    if (index >= events_.size() || events_[index].generation != event >> 32) return;
    remove_event(index);
    free_event(index);
    // What it holds may forget others, or ask for new ones, as it goes.
    const std::move_only_function<void()> dropped = std::move(events_[index].what);
}

void Scheduler::forget_all() noexcept {
    while (!heap_.empty()) {
        const std::uint32_t index = heap_.back();
        forget((std::uint64_t{events_[index].generation} << 32) | index);
    }
}

void Scheduler::run_event() {
    const std::uint32_t index = heap_.front();
    remove_event(index);
    Event& event = events_[index];
    fingerprint_ = fold(fingerprint_, event.time_ns);
    if (Fiber* const fiber = event.fiber; fiber != nullptr) {
        free_event(index);
        fiber->timeout = 0;
        fiber->timed_out = true;
        make_runnable(*fiber);
        return;
    }
    std::move_only_function<void()> what = std::move(event.what);
    free_event(index);
    what();
}

// ---- the run ----

void Scheduler::run() {
    while (findings_.empty() && within_limits()) {
        if (!heap_.empty() && events_[heap_.front()].time_ns <= now_ns_) {
            run_event();
        } else if (!runnable_.empty()) {
            run_fiber();
        } else if (!heap_.empty()) {
            now_ns_ = events_[heap_.front()].time_ns;
            run_event();
        } else {
            if (!fibers_.empty()) report_deadlock();
            break;
        }
    }
}

bool Scheduler::within_limits() {
    if (++steps_ > step_limit_) {
        finding("the simulation has not ended after " + std::to_string(step_limit_) + " steps" + who_waits());
        return false;
    }
    if (now_ns_ > time_limit_ns_) {
        finding("the simulation has not ended at its time limit" + who_waits());
        return false;
    }
    return true;
}

std::string Scheduler::who_waits() const {
    std::string text;
    for (const auto& fiber : fibers_) {
        text += "\n  " + fiber->name();
        if (fiber->waiting == Fiber::Waiting::runnable) {
            text += " could run";
        } else {
            text += std::string(" waits for ") + fiber->reason.what;
            if (fiber->reason.object != -1) text += " " + std::to_string(fiber->reason.object);
        }
    }
    return text;
}

void Scheduler::report_deadlock() {
    finding("deadlock: nobody can run, and nothing will happen" + who_waits());
}

// ---- faults, trace, findings ----

bool Scheduler::Plan::happens(std::uint64_t occasion) const noexcept {
    if (std::ranges::binary_search(left_out, occasion)) return false;
    return Random::mix(seed + occasion) < threshold || std::ranges::binary_search(placed, occasion);
}

void Scheduler::Plan::look_ahead(std::uint64_t occasion) noexcept {
    const auto first_placed = std::ranges::lower_bound(placed, occasion);
    next = first_placed != placed.end() ? *first_placed : ~std::uint64_t{0};
    if (threshold == 0) return;
    const std::uint64_t end = std::min(next, occasion + occasions_ahead);
    while (occasion != end && Random::mix(seed + occasion) >= threshold) ++occasion;
    next = occasion;
}

bool Scheduler::fault(Fault kind) noexcept {
    const auto number = static_cast<std::size_t>(kind);
    Plan& plan = plans_[number];
    FaultCount& count = fired_.counts[number];
    const std::uint64_t occasion = count.occasions++;
    if (occasion < plan.next) [[likely]]
        return false;
    const bool happens = plan.happens(occasion);
    plan.look_ahead(occasion + 1);
    if (!happens) return false;
    ++count.times;
    fired_.fired.push_back({kind, occasion});
    trace(name_of(kind), occasion, 0, 0);
    return true;
}

void Scheduler::trace(std::string_view what, std::uint64_t first, std::uint64_t second, std::int64_t third) noexcept {
    fingerprint_ = fold(fingerprint_ + digest(what), now_ns_) + fold(first + static_cast<std::uint64_t>(third), second);
    if (trace_entries_ == 0) return;
    const Entry entry{now_ns_, what, first, second, third, current_ != nullptr ? current_->number : 0};
    if (entries_.size() < trace_entries_) {
        entries_.push_back(entry);
    } else {
        entries_[traced_ % trace_entries_] = entry;
    }
    ++traced_;
}

void Scheduler::finding(std::string what) noexcept {
    if (findings_.size() >= findings_max) return;
    std::string text = seconds(now_ns_);
    if (current_ != nullptr) text += ", " + current_->name();
    findings_.push_back(text + ": " + what);
}

std::uint64_t Scheduler::fingerprint() const noexcept {
    return Random::mix(fingerprint_ ^ now_ns_ ^ (steps_ << 1));
}

std::string Scheduler::describe(const Entry& entry) const {
    std::string text = seconds(entry.time_ns) + "  ";
    text += entry.fiber != 0 ? fiber_names_[entry.fiber - 1] : "kernel";
    text += ": ";
    text += entry.what;
    for (const std::uint64_t value : {entry.first, entry.second}) {
        std::array<char, 24> number{};
        std::snprintf(number.data(), number.size(), value < of_all ? " %" PRIu64 : " 0x%" PRIx64, value);
        text += number.data();
    }
    return text + " " + std::to_string(entry.third) + "\n";
}

std::string Scheduler::trace_text() const {
    std::string text;
    for (std::size_t index = 0; index < entries_.size(); ++index) {
        text += describe(entries_[(traced_ + index) % entries_.size()]);
    }
    return text;
}

}  // namespace ferrule::inline v0::sim
