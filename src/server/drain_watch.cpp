#include "server/drain_watch.hpp"

#include <exception>
#include <string>

namespace ferrule::inline v0 {
namespace {

constexpr std::uint64_t period_ns = 1'000'000'000;
constexpr LogCause hook_failed{.name = "drain-hook-failed", .level = LogLevel::error};
// After its timeout a reactor may take five seconds for tasks that ignore their cancellation, and as long as a blocking
// call takes: each report asks systemd for that much more than is planned.
constexpr std::chrono::microseconds grace = std::chrono::seconds(10);

std::string text_of(const DrainProgress& progress) {
    const auto seconds = std::chrono::ceil<std::chrono::seconds>(progress.time_left).count();
    return "Draining: " + std::to_string(progress.connections()) + " connections are left (" +
           std::to_string(progress.working) + " working, " + std::to_string(progress.sending) + " sending, " +
           std::to_string(progress.reading) + " reading, " + std::to_string(progress.closing) + " closing), " +
           std::to_string(seconds) + " s";
}

}  // namespace

Task<> DrainWatch::watch(std::chrono::milliseconds drain_timeout) {
    for (std::size_t index = 0; index < members_.size(); ++index) {
        // Until they have been counted.
        const Network* network = members_[index]->network.load(std::memory_order_acquire);
        if (network != nullptr) counted_[index].working = network->counters().connections.value();
    }
    due_ns_ = control_.now_ns() + static_cast<std::uint64_t>(std::chrono::nanoseconds(drain_timeout).count());
    for (;;) {
        if (roll_.under_way()) {
            report();  // what is known: a reactor that does not answer is worth knowing, too
        } else {
            const auto counted = [this] {
                counted_ = counting_;
                report();
            };
            roll_.ask([this](std::size_t index) { count(index); }, counted);
        }
        auto operation = control_.wait_until(control_.now_ns() + period_ns);
        const OperationResult ended = co_await operation;
        if (ended.result < 0) co_return;
    }
}

void DrainWatch::end() {
    call_hooks(DrainProgress{});
}

void DrainWatch::call_hooks(const DrainProgress& progress) noexcept {
    for (const auto& hook : hooks_) {
        try {
            hook(progress);
        } catch (const std::exception& error) {
            control_.log.write(hook_failed, "on_drain_progress: %s", error.what());
        } catch (...) {
            control_.log.write(hook_failed, "on_drain_progress: an exception of unknown type");
        }
    }
}

void DrainWatch::count(std::size_t index) {
    const Network* network = members_[index]->network.load(std::memory_order_relaxed);
    counting_[index] = network != nullptr ? network->census() : ConnectionCensus{};
}

DrainProgress DrainWatch::sum() const {
    DrainProgress progress;
    for (std::size_t index = 0; index < members_.size(); ++index) {
        if (members_[index]->ended) continue;
        ++progress.reactors;
        progress.reading += counted_[index].reading;
        progress.working += counted_[index].working;
        progress.sending += counted_[index].sending;
        progress.closing += counted_[index].closing;
    }
    const std::uint64_t now = control_.now_ns();
    if (now < due_ns_)
        progress.time_left = std::chrono::ceil<std::chrono::milliseconds>(std::chrono::nanoseconds(due_ns_ - now));
    return progress;
}

void DrainWatch::report() {
    const DrainProgress progress = sum();
    const auto asked = std::chrono::duration_cast<std::chrono::microseconds>(progress.time_left) + grace;
    notifier_.tell(Notifier::status(text_of(progress)) + "\nEXTEND_TIMEOUT_USEC=" + std::to_string(asked.count()));
    call_hooks(progress);
}

}  // namespace ferrule::inline v0
