#pragma once

#include <ferrule/reactor/inbox.hpp>
#include <ferrule/reactor/metric_registry.hpp>
#include <ferrule/reactor/reactor.hpp>
#include <ferrule/task/task.hpp>

#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

namespace ferrule::inline v0 {

/// A reactor that others want to know about. It may end meanwhile: what is held here outlives it.
struct WatchedReactor {
    std::uint32_t id = 0;
    std::string server;           ///< the name of whose it is; empty: it was not said
    const void* owner = nullptr;  ///< whose it is: compared, never looked at
    std::shared_ptr<Inbox> inbox;
    std::shared_ptr<MetricRegistry> metrics;
    /// Questions that it has not answered. The asker's thread only.
    std::uint32_t unanswered = 0;

    /// `reactor 3`, `reactor 3 of mail`.
    [[nodiscard]] std::string name() const;
};

/// What became of a question to a reactor.
struct SurveyAnswer {
    enum class State : std::uint8_t {
        missing,   ///< it did not answer in time: its loop does not turn
        answered,  ///< `text` is what the function returned
        failed,    ///< `text` is what the function threw
        refused,   ///< its mailbox is full
        ended,     ///< it has ended
    };
    State state = State::missing;
    std::string text;
};

/// Called on each reactor's own thread.
using SurveyFunction = std::function<std::string(Reactor&)>;

/// Calls the function on the reactors' own threads, by their mailboxes, and waits for the answers, up to `patience`:
/// one for each reactor, in their order. What comes later is dropped. A reactor that owes several answers already is
/// not asked again. On the asker's reactor; cancellation ends the waiting.
Task<std::vector<SurveyAnswer>> ask_reactors(Reactor& asker, std::vector<std::shared_ptr<WatchedReactor>> reactors,
                                             SurveyFunction function, std::chrono::nanoseconds patience);

}  // namespace ferrule::inline v0
