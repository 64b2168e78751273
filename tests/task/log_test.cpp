#include <ferrule/task/host.hpp>
#include <ferrule/task/log.hpp>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <new>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

namespace {

std::atomic<std::uint64_t> allocations{0};

}  // namespace

void* operator new(std::size_t bytes) {
    allocations.fetch_add(1, std::memory_order_relaxed);
    if (void* memory = std::malloc(bytes != 0 ? bytes : 1)) return memory;
    throw std::bad_alloc();
}
// Not inlined: GCC would take the pair of a caller's new and this free for a mismatch.
[[gnu::noinline]] void operator delete(void* memory) noexcept {
    std::free(memory);
}
[[gnu::noinline]] void operator delete(void* memory, std::size_t) noexcept {
    std::free(memory);
}

namespace {

using namespace ferrule;
using std::chrono::seconds;

constexpr LogCause once{.name = "once", .interval = seconds(10)};
constexpr LogCause thrice{.name = "thrice", .level = LogLevel::error, .interval = seconds(10), .burst = 3};
constexpr LogCause always{.name = "always", .interval = {}};
constexpr LogCause quiet{.name = "quiet", .level = LogLevel::debug};

constexpr std::uint64_t second_ns = 1'000'000'000;

/// What a log has said, kept.
struct Said {
    explicit Said(Host& host) {
        host.log.on_message([this](const LogMessage& message) {
            levels.push_back(message.level);
            causes.emplace_back(message.cause);
            texts.emplace_back(message.text);
            left_out.push_back(message.left_out);
            reactors.push_back(message.reactor);
        });
    }
    std::vector<LogLevel> levels;
    std::vector<std::string> causes;
    std::vector<std::string> texts;
    std::vector<std::uint64_t> left_out;
    std::vector<std::uint32_t> reactors;
};

TEST(Log, a_cause_is_said_once_in_its_interval_and_then_how_often_it_was_not) {
    ThreadHost host;
    host.advance_to(5 * second_ns);
    Said said{host};
    for (int turn = 0; turn < 7; ++turn) host.log.write(once, "turn %d", turn);
    host.advance_to(15 * second_ns - 1);
    host.log.write(once, "still in the interval");
    EXPECT_THAT(said.texts, testing::ElementsAre("turn 0"));
    host.advance_to(15 * second_ns);
    host.log.write(once, "the next interval");
    host.log.write(once, "not this");
    EXPECT_THAT(said.texts, testing::ElementsAre("turn 0", "the next interval"));
    EXPECT_THAT(said.left_out, testing::ElementsAre(0u, 7u));
    EXPECT_THAT(said.causes, testing::Each("once"));
    EXPECT_THAT(said.levels, testing::Each(LogLevel::warning));
    EXPECT_EQ(host.log.written(), 2u);
    EXPECT_EQ(host.log.left_out(), 8u);
}

TEST(Log, causes_have_shares_of_their_own) {
    ThreadHost host;
    Said said{host};
    for (int turn = 0; turn < 5; ++turn) {
        host.log.write(once, "one");
        host.log.write(thrice, "three");
        host.log.write(always, "all");
    }
    EXPECT_EQ(std::count(said.texts.begin(), said.texts.end(), "one"), 1);
    EXPECT_EQ(std::count(said.texts.begin(), said.texts.end(), "three"), 3);
    EXPECT_EQ(std::count(said.texts.begin(), said.texts.end(), "all"), 5);
}

TEST(Log, more_causes_than_it_keeps_apart_share_the_last_share) {
    ThreadHost host;
    Said said{host};
    std::array<std::string, Log::causes_max + 8> names;
    for (std::size_t index = 0; index < names.size(); ++index) {
        names[index] = "cause-" + std::to_string(index);
        host.log.write(LogCause{.name = names[index].c_str()}, "said");
    }
    EXPECT_EQ(said.texts.size(), Log::causes_max);
    EXPECT_EQ(host.log.left_out(), 8u);
}

TEST(Log, levels_below_the_least_are_dropped) {
    ThreadHost host;
    Said said{host};
    host.log.write(quiet, "not asked for");
    host.log.set_level(LogLevel::debug);
    host.log.write(quiet, "asked for");
    host.log.set_level(LogLevel::error);
    host.log.write(once, "a warning");
    host.log.write(thrice, "an error");
    EXPECT_THAT(said.texts, testing::ElementsAre("asked for", "an error"));
    EXPECT_EQ(host.log.left_out(), 0u);
    EXPECT_EQ(to_string(LogLevel::information), "information");
}

TEST(Log, a_message_that_is_left_out_allocates_nothing_and_neither_does_one_that_is_not) {
    ThreadHost host;
    std::uint64_t seen = 0;
    host.log.on_message([&seen](const LogMessage& message) { seen += message.text.size(); });
    const std::uint64_t before = allocations.load();
    for (int turn = 0; turn < 100; ++turn) {
        host.log.write(once, "turn %d", turn);
        host.log.write(always, "turn %s", "again");
    }
    EXPECT_EQ(allocations.load(), before);
    EXPECT_EQ(seen, 6u + 100u * 10u);
}

TEST(Log, text_is_cut_and_a_line_stays_a_line) {
    ThreadHost host;
    host.log.set_reactor(3);
    testing::internal::CaptureStderr();
    host.log.write(always, "%s", "no \x1b[31mcolours,\nferrule: error: no forged lines\t\x7f, but \xc3\xa9");
    EXPECT_EQ(testing::internal::GetCapturedStderr(),
              "ferrule: warning: reactor 3: no ?[31mcolours,?ferrule: error: no forged lines??, but \xc3\xa9\n");
    Said said{host};
    host.log.write(always, "%s", std::string(10'000, 'x').c_str());
    EXPECT_EQ(said.texts.front(), std::string(Log::text_bytes_max, 'x'));
    EXPECT_EQ(said.reactors.front(), 3u);
    testing::internal::CaptureStderr();
    write_log_line({.level = LogLevel::error,
                    .cause = "cause",
                    .reactor = LogMessage::no_reactor,
                    .text = said.texts.front(),
                    .left_out = 12});
    EXPECT_EQ(testing::internal::GetCapturedStderr(),
              "ferrule: error: " + said.texts.front() + " (12 more like it were left out)\n");
}

TEST(Log, a_function_that_throws_leaves_the_message_to_standard_error) {
    ThreadHost host;
    host.log.on_message([](const LogMessage&) { throw std::runtime_error("no disk"); });
    testing::internal::CaptureStderr();
    host.log.write(once, "said all the same");
    EXPECT_EQ(testing::internal::GetCapturedStderr(), "ferrule: warning: said all the same\n");
}

TEST(Log, a_function_may_write_itself) {
    ThreadHost host;
    std::vector<std::string> texts;
    host.log.on_message([&](const LogMessage& message) {
        texts.emplace_back(message.text);
        host.log.write(once, "from the function");
    });
    host.log.write(once, "first");
    host.log.write(thrice, "second");
    EXPECT_THAT(texts, testing::ElementsAre("first", "second"));
}

TEST(Log, any_thread_writes) {
    ThreadHost host;
    std::atomic<std::uint64_t> said{0};
    std::atomic<std::uint64_t> told{0};
    host.log.on_message([&](const LogMessage& message) {
        ++said;
        told += message.left_out;
    });
    {
        std::vector<std::jthread> threads;
        for (int index = 0; index < 4; ++index) {
            threads.emplace_back([&host] {
                for (int turn = 0; turn < 1000; ++turn) host.log.write(thrice, "turn %d", turn);
            });
        }
    }
    EXPECT_EQ(said.load(), 3u);
    EXPECT_EQ(host.log.written(), 3u);
    EXPECT_EQ(host.log.left_out(), 3997u);
    host.advance_to(20 * second_ns);
    host.log.write(thrice, "and now the count");
    EXPECT_EQ(told.load(), 3997u);
}

}  // namespace
