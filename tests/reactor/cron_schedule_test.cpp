#include <ferrule/reactor/cron_schedule.hpp>

#include <gtest/gtest.h>

#include <chrono>
#include <cstdint>
#include <optional>
#include <random>
#include <string>
#include <vector>

namespace {

using namespace ferrule;
using namespace std::chrono;
using namespace std::chrono_literals;

sys_seconds at(int year_number, unsigned month_number, unsigned day_number, int hour = 0, int minute = 0,
               int second = 0) {
    return sys_days(year(year_number) / month(month_number) / day(day_number)) + hours(hour) + minutes(minute) +
           seconds(second);
}

CronSchedule schedule(const std::string& text) {
    const auto parsed = CronSchedule::parse(text);
    if (!parsed) throw std::invalid_argument(text + ": " + parsed.error().to_string());
    return *parsed;
}

std::string error_of(const std::string& text) {
    const auto parsed = CronSchedule::parse(text);
    return parsed ? "none" : parsed.error().to_string();
}

TEST(CronSchedule, GivesTheNextTime) {
    const sys_seconds now = at(2026, 11, 30, 15, 37, 38);
    EXPECT_EQ(schedule("* * * * *").next_after(now), at(2026, 11, 30, 15, 38));
    EXPECT_EQ(schedule("*/5 * * * *").next_after(now), at(2026, 11, 30, 15, 40));
    EXPECT_EQ(schedule("30 3 * * *").next_after(now), at(2026, 12, 1, 3, 30));
    EXPECT_EQ(schedule("0 0 1 1 *").next_after(now), at(2027, 1, 1));
    EXPECT_EQ(schedule("15 9-17/4 * * mon-fri").next_after(now), at(2026, 11, 30, 17, 15));
    EXPECT_EQ(schedule("0 12 * * SUN").next_after(now), at(2026, 12, 6, 12));
    EXPECT_EQ(schedule("0 12 * * 7").next_after(now), at(2026, 12, 6, 12));
    EXPECT_EQ(schedule("40/10 * * * *").next_after(now), at(2026, 11, 30, 15, 40));
    EXPECT_EQ(schedule("  5,10\t3\t*  Feb,mar * ").next_after(now), at(2027, 2, 1, 3, 5));
}

TEST(CronSchedule, IsLaterThanTheGivenTime) {
    EXPECT_EQ(schedule("0 12 * * *").next_after(at(2026, 1, 1, 12)), at(2026, 1, 2, 12));
    EXPECT_EQ(schedule("0 12 * * *").next_after(at(2026, 1, 1, 11, 59, 59)), at(2026, 1, 1, 12));
}

TEST(CronSchedule, LeapDaysAreFarApart) {
    EXPECT_EQ(schedule("0 0 29 2 *").next_after(at(2096, 3, 1)), at(2104, 2, 29)) << "2100 has none";
    EXPECT_EQ(schedule("0 0 29 feb */7").next_after(at(2026, 1, 1)), at(2032, 2, 29)) << "a Sunday";
}

TEST(CronSchedule, EitherDayIsRightWhenBothAreRestricted) {
    // crontab(5): "30 4 1,15 * 5" is on the 1st and 15th, and on every Friday.
    const CronSchedule both = schedule("30 4 1,15 * 5");
    EXPECT_EQ(both.next_after(at(2026, 11, 30)), at(2026, 12, 1, 4, 30));
    EXPECT_EQ(both.next_after(at(2026, 12, 1, 5)), at(2026, 12, 4, 4, 30));
    EXPECT_EQ(schedule("0 0 */2 * 1").next_after(at(2026, 12, 1)), at(2026, 12, 7)) << "a Monday, and odd";
}

TEST(CronSchedule, HasNames) {
    const sys_seconds now = at(2026, 11, 30, 15, 37);
    EXPECT_EQ(schedule("@hourly").next_after(now), at(2026, 11, 30, 16));
    EXPECT_EQ(schedule("@daily").next_after(now), at(2026, 12, 1));
    EXPECT_EQ(schedule("@Midnight").next_after(now), at(2026, 12, 1));
    EXPECT_EQ(schedule("@weekly").next_after(now), at(2026, 12, 6));
    EXPECT_EQ(schedule("@monthly").next_after(now), at(2026, 12, 1));
    EXPECT_EQ(schedule("@yearly").next_after(now), at(2027, 1, 1));
    EXPECT_EQ(schedule("@annually").next_after(now), at(2027, 1, 1));
}

TEST(CronSchedule, ErrorsNameTheField) {
    EXPECT_EQ(error_of("61 * * * *"), "minute: 61 is not in 0-59");
    EXPECT_EQ(error_of("99999999999999999999 * * * *"), "minute: 99999999999999999999 is not in 0-59");
    EXPECT_EQ(error_of("* 24 * * *"), "hour: 24 is not in 0-23");
    EXPECT_EQ(error_of("* * 0 * *"), "day of month: 0 is not in 1-31");
    EXPECT_EQ(error_of("* * * 13 *"), "month: 13 is not in 1-12");
    EXPECT_EQ(error_of("* * * june *"), "month: 'june' is no value");
    EXPECT_EQ(error_of("* * * * 8"), "day of week: 8 is not in 0-7");
    EXPECT_EQ(error_of("* * * * mon,"), "day of week: a value is missing");
    EXPECT_EQ(error_of("*/0 * * * *"), "minute: '0' is no step; 1-59 are");
    EXPECT_EQ(error_of("*/x * * * *"), "minute: 'x' is no step; 1-59 are");
    EXPECT_EQ(error_of("* 22-6 * * *"), "hour: '22-6' runs backwards: name both parts, with a comma between them");
    EXPECT_EQ(error_of("5- * * * *"), "minute: a value is missing");
    EXPECT_EQ(error_of("-5 * * * *"), "minute: a value is missing");
    EXPECT_EQ(error_of("+5 * * * *"), "minute: '+5' is no value");
    EXPECT_EQ(error_of("5x * * * *"), "minute: '5x' is no value");
    EXPECT_EQ(error_of("0 0 30 2 *"), "day of month: '30': none of the months has such a day");
    EXPECT_EQ(error_of("0 0 31 4,6,9,11 *"), "day of month: '31': none of the months has such a day");
    EXPECT_EQ(error_of("* * * *"),
              "5 fields are needed, for minute, hour, day of month, month and day of week; there are 4");
    EXPECT_EQ(error_of(""), "5 fields are needed, for minute, hour, day of month, month and day of week; there are 0");
    EXPECT_EQ(error_of("@never"), "'@never' is no schedule that has a name");
    EXPECT_EQ(error_of("\x01\x80 * * * *"), "minute: '?\?' is no value");
    EXPECT_LT(error_of(std::string(1000, 'x') + " * * * *").size(), 64u);
    EXPECT_EQ(error_of("0 0 30 2 mon"), "none") << "Mondays of February";
}

/// One field of a random schedule: its text, and its values the slow way.
struct RandomField {
    std::string text;
    std::vector<bool> values;
};

class Random {
public:
    explicit Random(std::uint32_t seed) : engine_(seed) {}
    unsigned between(unsigned least, unsigned most) {
        return least + static_cast<unsigned>(engine_() % (most - least + 1));
    }

private:
    std::mt19937 engine_;
};

RandomField random_field(Random& random, unsigned least, unsigned most) {
    RandomField field{"", std::vector<bool>(most + 1)};
    const unsigned items = random.between(1, 3);
    for (unsigned item = 0; item < items; ++item) {
        if (item != 0) field.text += ',';
        unsigned first = least;
        unsigned last = most;
        unsigned step = 1;
        const unsigned kind = random.between(0, 4);
        if (kind == 0) {
            field.text += '*';
        } else {
            first = random.between(least, most);
            field.text += std::to_string(first);
            last = first;
            if (kind >= 2) {
                last = random.between(first, most);
                field.text += '-' + std::to_string(last);
            }
        }
        if (kind == 0 || kind == 3) {
            step = random.between(1, most);
            field.text += '/' + std::to_string(step);
        }
        for (unsigned value = first; value <= last; value += step) field.values[value] = true;
    }
    return field;
}

/// What a schedule means, minute by minute.
struct BruteForce {
    RandomField minute, hour, day_of_month, month_of_year, weekday_of;

    bool right_day(sys_days days) const {
        const year_month_day date(days);
        if (!month_of_year.values[static_cast<unsigned>(date.month())]) return false;
        const bool by_day = day_of_month.values[static_cast<unsigned>(date.day())];
        const bool by_weekday = weekday_of.values[weekday(days).c_encoding()];
        const bool alternatives = day_of_month.text[0] != '*' && weekday_of.text[0] != '*';
        return alternatives ? by_day || by_weekday : by_day && by_weekday;
    }
    /// Within so many days.
    std::optional<sys_seconds> next_after(sys_seconds time, int days_max) const {
        sys_seconds candidate = floor<minutes>(time) + 1min;
        const sys_seconds end = candidate + days(days_max);
        while (candidate < end) {
            const sys_days day_of = floor<days>(candidate);
            if (!right_day(day_of)) {
                candidate = day_of + days(1);
                continue;
            }
            const auto minute_of_day = duration_cast<minutes>(candidate - day_of).count();
            if (hour.values[static_cast<std::size_t>(minute_of_day / 60)] &&
                minute.values[static_cast<std::size_t>(minute_of_day % 60)])
                return candidate;
            candidate += 1min;
        }
        return std::nullopt;
    }
};

TEST(CronSchedule, IsWhatGoingThroughAllMinutesGives) {
    Random random(20261130);
    int compared = 0;
    for (int round = 0; round < 2'000; ++round) {
        const BruteForce brute{random_field(random, 0, 59), random_field(random, 0, 23), random_field(random, 1, 31),
                               random_field(random, 1, 12), random_field(random, 0, 6)};
        const std::string text = brute.minute.text + ' ' + brute.hour.text + ' ' + brute.day_of_month.text + ' ' +
                                 brute.month_of_year.text + ' ' + brute.weekday_of.text;
        const auto parsed = CronSchedule::parse(text);
        sys_seconds time = at(2000, 1, 1) + days(random.between(0, 36'000)) + seconds(random.between(0, 86'399));
        if (!parsed) {
            EXPECT_FALSE(brute.next_after(time, 366 * 9)) << text << ": " << parsed.error().to_string();
            continue;
        }
        for (int step = 0; step < 3; ++step) {
            const auto expected = brute.next_after(time, 366 * 9);
            if (!expected) break;
            ASSERT_EQ(parsed->next_after(time), expected) << text << " after " << time.time_since_epoch().count();
            ASSERT_TRUE(parsed->matches(*expected)) << text;
            time = *expected + seconds(random.between(0, 59));
            ++compared;
        }
        const sys_seconds other = at(2030, 1, 1) + seconds(random.between(0, 400'000'000));
        const sys_seconds minute_before = floor<minutes>(other) - 1min;
        ASSERT_EQ(parsed->matches(other), brute.next_after(minute_before, 1) == floor<minutes>(other)) << text;
    }
    EXPECT_GT(compared, 3'000);
}

}  // namespace
