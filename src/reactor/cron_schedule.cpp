#include <ferrule/reactor/cron_schedule.hpp>
#include <ferrule/reactor/deadline.hpp>

#include <algorithm>
#include <array>
#include <bit>
#include <charconv>
#include <span>
#include <utility>

namespace ferrule::inline v0 {

namespace {

using namespace std::chrono_literals;

/// Days that are right may be far apart: a 29 February that must also be one of some days of the week.
constexpr int years_ahead = 48;
/// How soon a clock that was set is noticed.
constexpr std::chrono::nanoseconds longest_sleep = 1min;

constexpr std::array<std::string_view, 12> month_names = {"jan", "feb", "mar", "apr", "may", "jun",
                                                          "jul", "aug", "sep", "oct", "nov", "dec"};
constexpr std::array<std::string_view, 7> weekday_names = {"sun", "mon", "tue", "wed", "thu", "fri", "sat"};

struct Field {
    std::string_view name;
    unsigned least;
    unsigned most;
    std::span<const std::string_view> names;  // of the values from `least` on
};
constexpr std::array<Field, 5> fields = {{{"minute", 0, 59, {}},
                                          {"hour", 0, 23, {}},
                                          {"day of month", 1, 31, {}},
                                          {"month", 1, 12, month_names},
                                          {"day of week", 0, 7, weekday_names}}};

constexpr std::array<std::pair<std::string_view, std::string_view>, 7> nicknames = {{{"@hourly", "0 * * * *"},
                                                                                     {"@daily", "0 0 * * *"},
                                                                                     {"@midnight", "0 0 * * *"},
                                                                                     {"@weekly", "0 0 * * 0"},
                                                                                     {"@monthly", "0 0 1 * *"},
                                                                                     {"@yearly", "0 0 1 1 *"},
                                                                                     {"@annually", "0 0 1 1 *"}}};

/// How much of a wrong text is repeated in its error.
constexpr std::size_t quoted_max = 32;

std::string quoted(std::string_view text) {
    std::string result = "'";
    for (const char letter : text.substr(0, quoted_max)) result += letter >= ' ' && letter <= '~' ? letter : '?';
    return result + (text.size() > quoted_max ? "...'" : "'");
}

bool equal_ignoring_case(std::string_view left, std::string_view right) {
    const auto lower = [](char letter) {
        return letter >= 'A' && letter <= 'Z' ? static_cast<char>(letter + ('a' - 'A')) : letter;
    };
    return std::equal(left.begin(), left.end(), right.begin(), right.end(),
                      [&](char a, char b) { return lower(a) == lower(b); });
}

std::unexpected<CronError> wrong(const Field& field, std::string message) {
    return std::unexpected(CronError{std::string(field.name), std::move(message)});
}

std::expected<unsigned, CronError> value_of(const Field& field, std::string_view text) {
    for (std::size_t index = 0; index < field.names.size(); ++index) {
        if (equal_ignoring_case(text, field.names[index])) return field.least + static_cast<unsigned>(index);
    }
    unsigned value = 0;
    const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
    const bool whole = end == text.data() + text.size() && !text.empty();
    if (error == std::errc::invalid_argument || !whole)
        return wrong(field, text.empty() ? "a value is missing" : quoted(text) + " is no value");
    if (error != std::errc() || value < field.least || value > field.most) {
        return wrong(field, std::string(text.substr(0, quoted_max)) + " is not in " + std::to_string(field.least) +
                                "-" + std::to_string(field.most));
    }
    return value;
}

/// The values of one item of a list, as bits.
std::expected<std::uint64_t, CronError> item_of(const Field& field, std::string_view text) {
    unsigned step = 1;
    const std::size_t slash = text.find('/');
    const std::string_view range = text.substr(0, slash);
    if (slash != text.npos) {
        const std::string_view given = text.substr(slash + 1);
        const auto [end, error] = std::from_chars(given.data(), given.data() + given.size(), step);
        if (error != std::errc() || end != given.data() + given.size() || step == 0 || step > field.most)
            return wrong(field, quoted(given) + " is no step; 1-" + std::to_string(field.most) + " are");
    }
    unsigned first = field.least;
    unsigned last = field.most;
    if (range == "*") {
        // The second name of a Sunday is none of its own.
        if (field.names.size() == weekday_names.size()) last = field.most - 1;
    } else {
        const std::size_t dash = range.find('-');
        const auto from = value_of(field, range.substr(0, dash));
        if (!from) return std::unexpected(from.error());
        first = *from;
        if (dash != range.npos) {
            const auto to = value_of(field, range.substr(dash + 1));
            if (!to) return std::unexpected(to.error());
            last = *to;
            // A week may end with its Sunday.
            if (field.names.size() == weekday_names.size() && last == 0 && first != 0) last = field.most;
            if (last < first)
                return wrong(field, quoted(range) + " runs backwards: name both parts, with a comma between them");
        } else if (slash == text.npos) {
            last = first;
        }
    }
    std::uint64_t bits = 0;
    for (unsigned value = first; value <= last; value += step) bits |= std::uint64_t{1} << value;
    return bits;
}

std::expected<std::uint64_t, CronError> list_of(const Field& field, std::string_view text) {
    std::uint64_t bits = 0;
    for (;;) {
        const std::size_t comma = text.find(',');
        const auto item = item_of(field, text.substr(0, comma));
        if (!item) return item;
        bits |= *item;
        if (comma == text.npos) return bits;
        text.remove_prefix(comma + 1);
    }
}

bool is_blank(char letter) {
    return letter == ' ' || letter == '\t';
}

/// The next word; empty: there is none.
std::string_view take_word(std::string_view& text) {
    while (!text.empty() && is_blank(text.front())) text.remove_prefix(1);
    std::size_t size = 0;
    while (size < text.size() && !is_blank(text[size])) ++size;
    const std::string_view word = text.substr(0, size);
    text.remove_prefix(size);
    return word;
}

}  // namespace

std::expected<CronSchedule, CronError> CronSchedule::parse(std::string_view text) {
    std::string_view rest = text;
    std::array<std::string_view, fields.size()> words;
    std::size_t count = 0;
    for (std::string_view word = take_word(rest); !word.empty(); word = take_word(rest)) {
        if (count < words.size()) words[count] = word;
        ++count;
    }
    if (count == 1 && words[0].starts_with('@')) {
        for (const auto& [nickname, meaning] : nicknames) {
            if (equal_ignoring_case(words[0], nickname)) return parse(meaning);
        }
        return std::unexpected(CronError{"", quoted(words[0]) + " is no schedule that has a name"});
    }
    if (count != words.size()) {
        return std::unexpected(CronError{"",
                                         "5 fields are needed, for minute, hour, day of month, month and day of "
                                         "week; there are " +
                                             std::to_string(count)});
    }
    std::array<std::uint64_t, fields.size()> bits{};
    for (std::size_t index = 0; index < fields.size(); ++index) {
        const auto values = list_of(fields[index], words[index]);
        if (!values) return std::unexpected(values.error());
        bits[index] = *values;
    }
    CronSchedule schedule;
    schedule.minutes_ = bits[0];
    schedule.hours_ = static_cast<std::uint32_t>(bits[1]);
    schedule.days_ = static_cast<std::uint32_t>(bits[2]);
    schedule.months_ = static_cast<std::uint16_t>(bits[3]);
    schedule.weekdays_ = static_cast<std::uint8_t>((bits[4] | bits[4] >> 7) & 0x7f);
    schedule.any_day_ = words[2].starts_with('*');
    schedule.any_weekday_ = words[4].starts_with('*');
    if (!schedule.can_come()) return wrong(fields[2], quoted(words[2]) + ": none of the months has such a day");
    return schedule;
}

bool CronSchedule::can_come() const noexcept {
    // A day of the week, as an alternative, comes in every month.
    if (!any_day_ && !any_weekday_) return true;
    constexpr std::array<unsigned, 12> longest = {31, 29, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31};
    for (unsigned month = 1; month <= longest.size(); ++month) {
        const auto first_days = static_cast<std::uint32_t>((std::uint64_t{2} << longest[month - 1]) - 1);
        if ((months_ >> month & 1) != 0 && (days_ & first_days) != 0) return true;
    }
    return false;
}

bool CronSchedule::has_day(std::chrono::year_month_day day) const noexcept {
    if ((months_ >> static_cast<unsigned>(day.month()) & 1) == 0) return false;
    const bool by_day = (days_ >> static_cast<unsigned>(day.day()) & 1) != 0;
    const std::chrono::weekday weekday{std::chrono::sys_days(day)};
    const bool by_weekday = (weekdays_ >> weekday.c_encoding() & 1) != 0;
    return any_day_ || any_weekday_ ? by_day && by_weekday : by_day || by_weekday;
}

bool CronSchedule::matches(std::chrono::sys_seconds time) const noexcept {
    const auto day = std::chrono::floor<std::chrono::days>(time);
    const auto minute = std::chrono::floor<std::chrono::minutes>(time - day).count();
    return has_day(day) && (hours_ >> (minute / 60) & 1) != 0 && (minutes_ >> (minute % 60) & 1) != 0;
}

std::optional<std::chrono::sys_seconds> CronSchedule::next_after(std::chrono::sys_seconds time) const noexcept {
    namespace chrono = std::chrono;
    const auto first = chrono::floor<chrono::minutes>(time) + 1min;
    chrono::sys_days day = chrono::floor<chrono::days>(first);
    auto minute_of_day = static_cast<unsigned>(chrono::floor<chrono::minutes>(first - day).count());
    const chrono::year last_year = chrono::year_month_day(day).year() + chrono::years(years_ahead);
    for (;;) {
        const chrono::year_month_day date(day);
        if (date.year() > last_year) return std::nullopt;
        if ((months_ >> static_cast<unsigned>(date.month()) & 1) == 0) {
            day = chrono::sys_days((date.year() / date.month() + chrono::months(1)) / 1);
            minute_of_day = 0;
            continue;
        }
        if (has_day(date)) {
            for (unsigned hour = minute_of_day / 60; hour < 24; ++hour) {
                const std::uint64_t left = minutes_ >> (minute_of_day % 60);
                if ((hours_ >> hour & 1) != 0 && left != 0) {
                    const unsigned minute = minute_of_day % 60 + static_cast<unsigned>(std::countr_zero(left));
                    return day + chrono::hours(hour) + chrono::minutes(minute);
                }
                minute_of_day = (hour + 1) * 60;
            }
        }
        day += chrono::days(1);
        minute_of_day = 0;
    }
}

Task<std::expected<std::chrono::sys_seconds, std::error_code>> sleep_until_next(CronSchedule schedule) {
    namespace chrono = std::chrono;
    Reactor& reactor = detail::current_reactor("sleep_until_next");
    const auto now = [&reactor] {
        return chrono::sys_time<chrono::nanoseconds>(
            chrono::nanoseconds(static_cast<std::int64_t>(reactor.kernel().realtime_ns())));
    };
    const auto next = schedule.next_after(chrono::floor<chrono::seconds>(now()));
    if (!next) co_return std::unexpected(std::make_error_code(std::errc::result_out_of_range));
    for (;;) {
        const auto left = *next - now();
        if (left.count() <= 0) co_return *next;
        const auto slept = co_await sleep_for(std::min<chrono::nanoseconds>(left, longest_sleep));
        if (!slept) co_return std::unexpected(slept.error());
    }
}

}  // namespace ferrule::inline v0
