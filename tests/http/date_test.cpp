#include "http/date.hpp"

#include <gtest/gtest.h>

#include <array>
#include <cstdint>
#include <ctime>
#include <string>

namespace {

using namespace ferrule::http;

std::string date_line(std::uint64_t seconds_since_1970) {
    std::array<char, detail::date_line_bytes> line;
    detail::write_date_line(seconds_since_1970, line);
    return {line.data(), line.size()};
}

// RFC 9110, section 5.6.7, has the second one.
TEST(Date, IsWrittenAsTheRfcSays) {
    EXPECT_EQ(date_line(0), "Date: Thu, 01 Jan 1970 00:00:00 GMT\r\n");
    EXPECT_EQ(date_line(784'111'777), "Date: Sun, 06 Nov 1994 08:49:37 GMT\r\n");
}

TEST(Date, KnowsTheCalendar) {
    EXPECT_EQ(date_line(946'684'799), "Date: Fri, 31 Dec 1999 23:59:59 GMT\r\n");
    EXPECT_EQ(date_line(946'684'800), "Date: Sat, 01 Jan 2000 00:00:00 GMT\r\n");
    // Every fourth year has a leap day, 2000 too, but 2100 has none.
    EXPECT_EQ(date_line(951'782'400), "Date: Tue, 29 Feb 2000 00:00:00 GMT\r\n");
    EXPECT_EQ(date_line(1'709'251'199), "Date: Thu, 29 Feb 2024 23:59:59 GMT\r\n");
    EXPECT_EQ(date_line(1'709'251'200), "Date: Fri, 01 Mar 2024 00:00:00 GMT\r\n");
    EXPECT_EQ(date_line(4'102'444'800), "Date: Fri, 01 Jan 2100 00:00:00 GMT\r\n");
    EXPECT_EQ(date_line(4'107'542'399), "Date: Sun, 28 Feb 2100 23:59:59 GMT\r\n");
    EXPECT_EQ(date_line(4'107'542'400), "Date: Mon, 01 Mar 2100 00:00:00 GMT\r\n");
    // What does not fit into 32 bits with a sign.
    EXPECT_EQ(date_line(2'147'483'648), "Date: Tue, 19 Jan 2038 03:14:08 GMT\r\n");
}

// Every day of two centuries, each at another time of day.
TEST(Date, IsWhatTheLibraryOfCSays) {
    constexpr std::time_t day = 86'400;
    for (std::time_t time = 0; time < 200 * 366 * day; time += day + 37) {
        std::tm parts{};
        ASSERT_NE(::gmtime_r(&time, &parts), nullptr);
        std::array<char, 64> line;
        const std::size_t size = std::strftime(line.data(), line.size(), "Date: %a, %d %b %Y %H:%M:%S GMT\r\n", &parts);
        ASSERT_EQ(date_line(static_cast<std::uint64_t>(time)), std::string(line.data(), size));
    }
}

}  // namespace
