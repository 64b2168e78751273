#include "http/date.hpp"

#include <algorithm>
#include <chrono>
#include <string_view>

namespace ferrule::inline v0::http::detail {

void write_date_line(std::uint64_t seconds_since_1970, std::span<char, date_line_bytes> into) noexcept {
    using namespace std::chrono;
    static constexpr std::string_view days = "SunMonTueWedThuFriSat";
    static constexpr std::string_view months = "JanFebMarAprMayJunJulAugSepOctNovDec";
    const sys_seconds time{seconds(static_cast<std::int64_t>(seconds_since_1970))};
    const sys_days day = floor<std::chrono::days>(time);
    const year_month_day date{day};
    const hh_mm_ss clock{time - day};

    char* at = into.data();
    const auto text = [&at](std::string_view letters) { at = std::copy(letters.begin(), letters.end(), at); };
    const auto digits = [&at](unsigned number, unsigned count) {
        for (unsigned place = count; place != 0; --place, number /= 10)
            at[place - 1] = static_cast<char>('0' + number % 10);
        at += count;
    };
    text("Date: ");
    text(days.substr(weekday{day}.c_encoding() * 3, 3));
    text(", ");
    digits(static_cast<unsigned>(date.day()), 2);
    text(" ");
    text(months.substr((static_cast<unsigned>(date.month()) - 1) * 3, 3));
    text(" ");
    digits(static_cast<unsigned>(static_cast<int>(date.year())) % 10'000, 4);
    text(" ");
    digits(static_cast<unsigned>(clock.hours().count()), 2);
    text(":");
    digits(static_cast<unsigned>(clock.minutes().count()), 2);
    text(":");
    digits(static_cast<unsigned>(clock.seconds().count()), 2);
    text(" GMT\r\n");
}

}  // namespace ferrule::inline v0::http::detail
