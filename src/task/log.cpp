#include <ferrule/task/host.hpp>
#include <ferrule/task/log.hpp>

#include <algorithm>
#include <cstdarg>
#include <cstdio>
#include <cstring>
#include <utility>

namespace ferrule::inline v0 {

std::string_view to_string(LogLevel level) noexcept {
    switch (level) {
        case LogLevel::debug:
            return "debug";
        case LogLevel::information:
            return "information";
        case LogLevel::warning:
            return "warning";
        case LogLevel::error:
            return "error";
    }
    return "unknown";
}

void Log::write(const LogCause& cause, const char* format, ...) noexcept {
    if (cause.level < least_) return;
    std::uint64_t left_out = 0;
    if (!take_share(cause, left_out)) {
        left_out_.fetch_add(1, std::memory_order_relaxed);
        return;
    }
    written_.fetch_add(1, std::memory_order_relaxed);
    std::array<char, text_bytes_max + 1> text;
    std::va_list arguments;
    va_start(arguments, format);
    const int length = std::vsnprintf(text.data(), text.size(), format, arguments);
    va_end(arguments);
    const LogMessage message{
        .level = cause.level,
        .cause = cause.name,
        .reactor = reactor_,
        .text = {text.data(), std::min(static_cast<std::size_t>(std::max(length, 0)), text_bytes_max)},
        .left_out = left_out,
    };
    if (function_) {
        try {
            function_(message);
            return;
        } catch (...) {
            // What it was told is more important than what it threw.
        }
    }
    write_log_line(message);
}

bool Log::take_share(const LogCause& cause, std::uint64_t& left_out) noexcept {
    // Also where no clock can be asked any more: in the end of a host.
    if (cause.interval.count() <= 0) return true;
    const std::uint64_t now_ns = host_->clock_ns();
    const std::lock_guard lock(mutex_);
    Share& share = share_of(cause);
    const auto interval_ns = static_cast<std::uint64_t>(cause.interval.count());
    // Threads read the clock before they have the lock: one may come with an earlier time than another.
    if (share.used == 0 || (now_ns > share.begun_ns && now_ns - share.begun_ns >= interval_ns)) {
        share.begun_ns = now_ns;
        share.used = 0;
    }
    if (share.used >= cause.burst) {
        ++share.left_out;
        return false;
    }
    ++share.used;
    left_out = std::exchange(share.left_out, 0);
    return true;
}

Log::Share& Log::share_of(const LogCause& cause) noexcept {
    for (Share& share : shares_) {
        if (share.cause == nullptr) share.cause = cause.name;
        // A constant in a header may have an address in each library.
        if (share.cause == cause.name || std::strcmp(share.cause, cause.name) == 0) return share;
    }
    return shares_.back();
}

void write_log_line(const LogMessage& message) noexcept {
    // One write for a line: others write, too.
    std::array<char, Log::text_bytes_max + 256> line;
    std::size_t length = 0;
    const auto append = [&](const char* format, auto... values) {
        const int added = std::snprintf(line.data() + length, line.size() - length, format, values...);
        if (added > 0) length = std::min(length + static_cast<std::size_t>(added), line.size() - 1);
    };
    const std::string_view level = to_string(message.level);
    append("ferrule: %.*s: ", static_cast<int>(level.size()), level.data());
    if (message.reactor != LogMessage::no_reactor) append("reactor %u: ", message.reactor);
    append("%.*s", static_cast<int>(std::min(message.text.size(), Log::text_bytes_max)), message.text.data());
    if (message.left_out != 0)
        append(" (%llu more like it were left out)", static_cast<unsigned long long>(message.left_out));
    std::replace_if(
        line.begin(), line.begin() + static_cast<std::ptrdiff_t>(length),
        [](char byte) { return (byte >= 0 && byte < ' ') || byte == '\x7f'; }, '?');
    line[length++] = '\n';
    static_cast<void>(std::fwrite(line.data(), 1, length, stderr));
}

}  // namespace ferrule::inline v0
