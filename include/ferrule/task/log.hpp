#pragma once

#include <ferrule/version.hpp>

#include <array>
#include <atomic>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <mutex>
#include <string_view>

namespace ferrule::inline v0 {

class Host;

/// How much a message matters.
enum class LogLevel : std::uint8_t {
    debug,        ///< for who looks for a mistake; not passed on unless asked for
    information,  ///< what an operator may want to know, and need not act on
    warning,      ///< it goes on, but worse than it should
    error,        ///< something was lost: a task, a reactor
};

/// `debug`, `information`, `warning` or `error`.
FERRULE_EXPORT std::string_view to_string(LogLevel level) noexcept;

/// What gives rise to messages, and how often they are said: a constant with static storage, one for each reason.
///
/// ```cpp
/// void tell(Reactor& reactor, unsigned seconds) {
///     static constexpr LogCause replica_lags{.name = "replica-lags", .level = LogLevel::warning};
///     reactor.log.write(replica_lags, "the replica is %u s behind", seconds);
/// }
/// ```
struct LogCause {
    /// Identifies it, for who filters or counts: lower case and hyphens. It lives for ever.
    const char* name;
    LogLevel level = LogLevel::warning;
    /// Messages beyond `burst` within so much time are counted and left out. 0: none is.
    std::chrono::nanoseconds interval = std::chrono::minutes(1);
    std::uint32_t burst = 1;
};

/// One message, as Log's function gets it. The views end with the call.
struct LogMessage {
    /// `reactor` of a host that has no number.
    static constexpr std::uint32_t no_reactor = ~std::uint32_t{0};

    LogLevel level;
    std::string_view cause;  ///< LogCause::name
    std::uint32_t reactor;   ///< whose: Reactor::id
    std::string_view text;   ///< without a line's end, but with whatever peers have put there
    std::uint64_t left_out;  ///< messages of this cause that were left out since the last one that was not
};

/// What a host has to say, in words: to a function of the program's, or, without one, to standard error, a line each.
/// Each cause has its share of an interval and no more, so that who can provoke messages cannot fill a disk. A message
/// that is left out is not formatted; none allocates.
///
/// Any thread may write: what a reactor says of itself comes from its own thread, what is said about it (that it
/// stalls) from another's. Settings are for one thread before that.
class FERRULE_EXPORT Log {
public:
    using Function = std::function<void(const LogMessage&)>;

    /// A message's text is cut to so many bytes.
    static constexpr std::size_t text_bytes_max = 2047;
    /// Causes whose shares are kept apart; those that come later share one.
    static constexpr std::size_t causes_max = 48;

    explicit Log(Host& host) noexcept : host_(&host) {}
    Log(const Log&) = delete;
    Log& operator=(const Log&) = delete;

    /// The number that messages carry.
    void set_reactor(std::uint32_t id) noexcept { reactor_ = id; }

    /// Called for each message that is not left out, on the thread that writes it; nothing: standard error
    /// (write_log_line). It must not block: what writes is mostly a reactor. When it throws, the message goes to
    /// standard error.
    void on_message(Function function) { function_ = std::move(function); }

    /// Messages below are dropped, and not counted.
    void set_level(LogLevel least) noexcept { least_ = least; }
    [[nodiscard]] LogLevel level() const noexcept { return least_; }

    /// Writes a message, as printf(3), unless its cause has used up its share. Any thread.
    [[gnu::format(printf, 3, 4)]] void write(const LogCause& cause, const char* format, ...) noexcept;

    /// How many messages were passed on, and how many left out. Any thread.
    [[nodiscard]] std::uint64_t written() const noexcept { return written_.load(std::memory_order_relaxed); }
    [[nodiscard]] std::uint64_t left_out() const noexcept { return left_out_.load(std::memory_order_relaxed); }

private:
    struct Share {
        const char* cause = nullptr;
        std::uint64_t begun_ns = 0;
        std::uint64_t left_out = 0;
        std::uint32_t used = 0;
    };

    bool take_share(const LogCause& cause, std::uint64_t& left_out) noexcept;
    Share& share_of(const LogCause& cause) noexcept;

    Host* host_;
    Function function_;
    std::uint32_t reactor_ = LogMessage::no_reactor;
    LogLevel least_ = LogLevel::information;
    std::atomic<std::uint64_t> written_{0};
    std::atomic<std::uint64_t> left_out_{0};
    std::mutex mutex_;  // guards what follows, and is not held while the function runs
    std::array<Share, causes_max> shares_;
};

/// Writes the message as a line to standard error: `ferrule: warning: reactor 0: accept: Too many open files`, and how
/// many like it were left out. Control characters become question marks, so that no peer can forge a line. Any thread.
FERRULE_EXPORT void write_log_line(const LogMessage& message) noexcept;

}  // namespace ferrule::inline v0
