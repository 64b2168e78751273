#pragma once

#include <ferrule/task/task.hpp>
#include <ferrule/version.hpp>

#include <chrono>
#include <cstdint>
#include <expected>
#include <optional>
#include <string>
#include <string_view>
#include <system_error>

namespace ferrule::inline v0 {

/// Why a text is no schedule.
struct CronError {
    std::string field;    ///< "minute", "hour", "day of month", "month", "day of week"; empty: the text as a whole
    std::string message;  ///< what is wrong there, and with what: "61 is not in 0-59"

    /// Both: "minute: 61 is not in 0-59".
    [[nodiscard]] std::string to_string() const { return field.empty() ? message : field + ": " + message; }
};

/// Times that repeat by the calendar, as cron(8) writes them: five fields, for minute, hour, day of month, month and
/// day of week.
///
/// A field is a list, with commas, of `*`, a value, or a range `2-5`; each may have a step, `*/15`, `8-18/2`, and
/// `5/20` means 5 to the end. Months and days of the week may be names of three letters, in any case; Sunday is 0
/// and 7. When both days are restricted, either makes a day right; a field that begins with `*` does not restrict in
/// this sense (crontab(5)). Also `@hourly`, `@daily` and `@midnight`, `@weekly`, `@monthly`, `@yearly` and `@annually`.
///
/// All times are UTC: there are no hours that come twice or not at all, and no time zone of a machine that changes what
/// a schedule means. Any thread.
class FERRULE_EXPORT CronSchedule {
public:
    /// Reads a schedule. An error for one that can never come ("0 0 30 2 *"), too.
    [[nodiscard]] static std::expected<CronSchedule, CronError> parse(std::string_view text);

    /// The first time of the schedule that is later than `time`, a whole minute; nothing when there is none within the
    /// next 48 years.
    [[nodiscard]] std::optional<std::chrono::sys_seconds> next_after(std::chrono::sys_seconds time) const noexcept;

    /// Whether this minute is one of the schedule.
    [[nodiscard]] bool matches(std::chrono::sys_seconds time) const noexcept;

private:
    CronSchedule() = default;
    [[nodiscard]] bool has_day(std::chrono::year_month_day day) const noexcept;
    [[nodiscard]] bool can_come() const noexcept;

    // A bit for each value.
    std::uint64_t minutes_ = 0;
    std::uint32_t hours_ = 0;
    std::uint32_t days_ = 0;
    std::uint16_t months_ = 0;
    std::uint8_t weekdays_ = 0;
    bool any_day_ = false;      // the day of month begins with `*`
    bool any_weekday_ = false;  // so does the day of week
};

/// Waits for the next time of a schedule and gives it. Follows the system's clock: when that is set, the wait ends
/// within a minute of what it then says. ECANCELED when the scope is cancelled, ENOBUFS when the reactor's table of
/// operations is full, and ERANGE when the schedule has no next time. Reactor's own thread.
///
/// ```cpp
/// Task<> every_night() {
///     const auto schedule = CronSchedule::parse("30 3 * * *");
///     if (!schedule) throw std::invalid_argument(schedule.error().to_string());
///     while (auto time = co_await sleep_until_next(*schedule)) co_await work();
/// }
/// ```
FERRULE_EXPORT Task<std::expected<std::chrono::sys_seconds, std::error_code>> sleep_until_next(CronSchedule schedule);

}  // namespace ferrule::inline v0
