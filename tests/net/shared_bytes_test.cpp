#include <ferrule/net/connection.hpp>
#include <ferrule/net/shared_bytes.hpp>

#include "support/client_socket.hpp"
#include "support/network_engine.hpp"

#include <gtest/gtest.h>

#include <atomic>
#include <cstddef>
#include <cstring>
#include <memory>
#include <optional>
#include <span>
#include <stdexcept>
#include <string>
#include <string_view>
#include <thread>
#include <utility>
#include <vector>

namespace {

using ferrule::Connection;
using ferrule::Reactor;
using ferrule::SharedBytes;
using ferrule::Task;
using ferrule::WriteOverflow;
using ferrule_test::ClientSocket;
using ferrule_test::Engine;
using ferrule_test::EngineOptions;
using ferrule_test::in_parallel;
using ferrule_test::pattern;
using ferrule_test::Signal;

constexpr std::size_t mebibyte = std::size_t{1} << 20;

/// Bytes of the test's own, and when and where they were given back.
struct Borrowed {
    std::string bytes;
    std::atomic<unsigned> releases{0};
    std::atomic<ferrule::Host*> where{nullptr};

    explicit Borrowed(std::size_t size) : bytes(pattern(size)) {}
    SharedBytes share() {
        return SharedBytes::borrow(std::as_bytes(std::span{bytes}), [this] {
            where = ferrule::Host::current();
            ++releases;
        });
    }
};

// ---- handles ----

TEST(SharedBytes, are_given_back_by_the_last_of_their_handles) {
    Borrowed borrowed{1000};
    SharedBytes first = borrowed.share();
    EXPECT_EQ(first.slice().text(), borrowed.bytes);
    {
        SharedBytes second = first;
        SharedBytes third;
        EXPECT_FALSE(third);
        third = second;
        second.reset();
        EXPECT_FALSE(second);
        EXPECT_EQ(second.size(), 0u);
        first = std::move(third);
        EXPECT_FALSE(third);
        EXPECT_EQ(borrowed.releases, 0u);
    }
    EXPECT_EQ(first.slice().text(), borrowed.bytes);
    SharedBytes& same = first;
    first = same;
    EXPECT_EQ(borrowed.releases, 0u);
    first = SharedBytes{};
    EXPECT_EQ(borrowed.releases, 1u);
}

TEST(SharedBytes, a_part_keeps_all) {
    Borrowed borrowed{1000};
    const std::string_view bytes = borrowed.bytes;
    SharedBytes part = borrowed.share().part(100, 200);
    EXPECT_EQ(borrowed.releases, 0u);
    EXPECT_EQ(part.slice().text(), bytes.substr(100, 200));
    EXPECT_EQ(part.part(150, 1000).slice().text(), bytes.substr(250, 50));
    EXPECT_EQ(part.part(201, 1).size(), 0u);
    part.reset();
    EXPECT_EQ(borrowed.releases, 1u);
}

TEST(SharedBytes, copied_and_owned_ones_have_their_bytes) {
    for (const std::size_t size : {std::size_t{0}, std::size_t{3}, std::size_t{5000}}) {
        const std::string bytes = pattern(size);
        EXPECT_EQ(SharedBytes::copy(bytes).slice().text(), bytes);
        EXPECT_EQ(SharedBytes::copy(std::as_bytes(std::span{bytes})).slice().text(), bytes);
        EXPECT_EQ(SharedBytes::own(std::string(bytes)).slice().text(), bytes);
        const auto* begin = reinterpret_cast<const std::byte*>(bytes.data());
        EXPECT_EQ(SharedBytes::own(std::vector<std::byte>(begin, begin + size)).slice().text(), bytes);
        EXPECT_TRUE(SharedBytes::copy(bytes));
    }
}

// ---- sending ----

class EachOverflow : public testing::TestWithParam<WriteOverflow> {};

INSTANTIATE_TEST_SUITE_P(SharedBytes, EachOverflow,
                         testing::Values(WriteOverflow::grow, WriteOverflow::segmented, WriteOverflow::back_pressure),
                         [](const auto& overflow) { return "overflow" + std::to_string(int(overflow.param)); });

EngineOptions with(WriteOverflow overflow) {
    EngineOptions options;
    options.network.write_overflow = overflow;
    return options;
}

/// What the handlers of a reactor answer with.
struct Answers {
    SharedBytes page;
    bool closes_at_once = false;
};

Task<> answer(Connection connection, Answers* answers) {
    while (auto received = co_await connection.read()) {
        received.reset();
        connection.write("length " + std::to_string(answers->page.size()) + "\n");
        connection.write_shared(answers->page);
        connection.write(std::string_view{"\n"});
        if (answers->closes_at_once) break;
        co_await connection.flush();
    }
}

std::string answer_of(std::string_view page) {
    std::string expected = "length " + std::to_string(page.size());
    expected += '\n';
    expected += page;
    expected += '\n';
    return expected;
}

TEST_P(EachOverflow, a2_are_sent_between_what_was_written) {
    for (const std::size_t size :
         {std::size_t{1}, std::size_t{512}, std::size_t{513}, std::size_t{100'000}, mebibyte, 4 * mebibyte}) {
        Borrowed borrowed{size};
        Answers answers;
        Engine engine{[&](Connection connection) { return answer(std::move(connection), &answers); }, with(GetParam())};
        engine.on_reactor([&] { answers.page = borrowed.share(); });
        const std::string expected = answer_of(borrowed.bytes);
        for (const bool slowly : {false, true}) {
            ClientSocket client = engine.connect(slowly ? 8192 : 0);
            for (unsigned turn = 0; turn < (slowly ? 1u : 3u); ++turn) {
                client.send("x");
                EXPECT_EQ(client.receive(expected.size()), expected);
            }
        }
        engine.until_empty();
        EXPECT_EQ(borrowed.releases, 0u);
        engine.on_reactor([&] { answers.page.reset(); });
        EXPECT_EQ(borrowed.releases, 1u);
        EXPECT_EQ(borrowed.where, static_cast<ferrule::Host*>(&engine.reactor()));
        EXPECT_EQ(engine.network().slabs().used_bytes(), 0u);
    }
}

TEST(SharedBytesSending, what_is_written_last_goes_out_when_the_connection_is_closed) {
    Borrowed borrowed{mebibyte};
    Answers answers;
    answers.closes_at_once = true;
    Engine engine{[&](Connection connection) { return answer(std::move(connection), &answers); }};
    engine.on_reactor([&] { answers.page = borrowed.share(); });
    for (const int receive_buffer : {0, 8192}) {
        ClientSocket client = engine.connect(receive_buffer);
        client.send("x");
        EXPECT_EQ(client.receive_rest(), (ClientSocket::Rest{answer_of(borrowed.bytes), 0}));
    }
    engine.until_empty();
    engine.on_reactor([&] { answers.page.reset(); });
    EXPECT_EQ(borrowed.releases, 1u);
}

Task<> answer_and_forget(Connection connection, Borrowed* borrowed, Signal* ended) {
    auto received = co_await connection.read();
    received.reset();
    {
        const SharedBytes page = borrowed->share();
        connection.write_shared(page);
        connection.write_shared(page);
    }
    co_await connection.flush();
    ended->raise();
}

TEST(SharedBytesSending, a_send_keeps_them_to_its_end) {
    Borrowed borrowed{4 * mebibyte};
    Signal ended;
    Engine engine{[&](Connection connection) { return answer_and_forget(std::move(connection), &borrowed, &ended); }};
    ClientSocket client = engine.connect(8192);
    client.send("x");
    engine.eventually("a stuck send", [&] { return engine.counters().slow_sends.value() != 0; });
    EXPECT_EQ(borrowed.releases, 0u);
    EXPECT_EQ(client.receive(8 * mebibyte), borrowed.bytes + borrowed.bytes);
    ended.wait();
    EXPECT_EQ(borrowed.releases, 1u);
    client.close();
    engine.until_empty();
}

TEST(SharedBytesSending, a_reset_and_a_stop_give_them_back) {
    for (const bool stops : {false, true}) {
        Borrowed borrowed{4 * mebibyte};
        Signal ended;
        Engine engine{
            [&](Connection connection) { return answer_and_forget(std::move(connection), &borrowed, &ended); }};
        ClientSocket client = engine.connect(8192);
        client.send("x");
        engine.eventually("a stuck send", [&] { return engine.counters().slow_sends.value() != 0; });
        if (stops) {
            engine.stop();
            engine.join();
        } else {
            client.reset();
            ended.wait();
        }
        EXPECT_EQ(borrowed.releases, 1u);
    }
}

Task<> note_account(Connection connection, std::vector<std::size_t>* numbers, Signal* ended) {
    auto received = co_await connection.read();
    received.reset();
    const std::size_t before = connection.memory_bytes();
    const SharedBytes page = SharedBytes::own(pattern(10'000));
    numbers->push_back(connection.write_shared(page) ? 1 : 0);
    numbers->push_back(connection.unsent());
    numbers->push_back(connection.memory_bytes() - before);
    // Past the limit, by one byte.
    numbers->push_back(connection.write_shared(page.part(0, 5001)) ? 1 : 0);
    numbers->push_back(connection.error() == std::errc::no_buffer_space ? 1 : 0);
    ended->raise();
}

TEST(SharedBytesSending, law_7_they_count_as_written_bytes_do) {
    std::vector<std::size_t> numbers;
    Signal ended;
    EngineOptions options;
    options.network.write_limit = 15'000;
    Engine engine{[&](Connection connection) { return note_account(std::move(connection), &numbers, &ended); },
                  options};
    ClientSocket client = engine.connect();
    client.send("x");
    ended.wait();
    EXPECT_EQ(numbers, (std::vector<std::size_t>{1, 10'000, 10'512, 0, 1}));
}

// ---- more than one reactor ----

TEST(SharedBytesReactors, each_counts_its_own_and_the_last_goes_home) {
    Borrowed borrowed{100'000};
    std::vector<Answers> answers(3);
    EngineOptions options;
    options.reactors = 3;
    Engine engine{[&](Connection connection) {
                      const std::uint32_t number = connection.reactor().id();
                      return answer(std::move(connection), &answers[number]);
                  },
                  options};
    engine.on_reactor([&] {
        answers[0].page = borrowed.share();
        for (unsigned number = 1; number < 3; ++number) {
            engine.reactor(number).post(
                [&answers, number, handle = answers[0].page.for_reactor(engine.reactor(number))]() mutable {
                    answers[number].page = std::move(handle);
                });
        }
    });
    for (unsigned number = 1; number < 3; ++number) engine.on_reactor([] {}, number);
    in_parallel(6, [&](unsigned) {
        for (unsigned turn = 0; turn < 20; ++turn) {
            ClientSocket client = engine.connect();
            client.send("x");
            EXPECT_EQ(client.receive(answer_of(borrowed.bytes).size()), answer_of(borrowed.bytes));
        }
    });
    for (unsigned number = 0; number < 3; ++number) engine.until_empty(number);
    engine.on_reactor([&] { answers[0].page.reset(); });
    engine.on_reactor([&] { answers[2].page.reset(); }, 2);
    EXPECT_EQ(borrowed.releases, 0u);
    engine.on_reactor([&] { answers[1].page.reset(); }, 1);
    engine.eventually("their way home", [&] { return borrowed.releases == 1; });
    EXPECT_EQ(borrowed.where, static_cast<ferrule::Host*>(&engine.reactor()));
}

TEST(SharedBytesReactors, many_come_and_go_on_all_of_them_at_once) {
    constexpr unsigned reactors = 4;
    constexpr unsigned rounds = 200;
    std::atomic<unsigned> released{0};
    EngineOptions options;
    options.reactors = reactors;
    Engine engine{&ferrule_test::echo, options};
    const std::string text = pattern(1000);
    for (unsigned round = 0; round < rounds; ++round) {
        engine.reactor(round % reactors).post([&, round] {
            const SharedBytes made = SharedBytes::borrow(std::as_bytes(std::span{text}), [&] { ++released; });
            for (unsigned number = 0; number < reactors; ++number) {
                engine.reactor(number).post([handle = made.for_reactor(engine.reactor(number)), &text]() mutable {
                    const SharedBytes copy = handle;
                    EXPECT_EQ(copy.slice().text(), text);
                    handle.reset();
                });
            }
        });
    }
    for (unsigned number = 0; number < reactors; ++number) {
        engine.eventually(
            "all of them", [&] { return released == rounds; }, number);
    }
}

TEST(SharedBytesReactors, one_that_is_not_delivered_ends_where_it_is) {
    Borrowed borrowed{1000};
    std::optional<SharedBytes> on_its_way;
    {
        Engine home{&ferrule_test::echo};
        Engine other{&ferrule_test::echo};
        home.on_reactor([&] { on_its_way = borrowed.share().for_reactor(other.reactor()); });
        other.stop();
        other.join();
        EXPECT_FALSE(other.reactor().post([handle = std::move(*on_its_way)] {}));
        home.eventually("its way home", [&] { return borrowed.releases == 1; });
        EXPECT_EQ(borrowed.where, static_cast<ferrule::Host*>(&home.reactor()));
    }
}

TEST(SharedBytesReactors, what_outlives_its_reactor_ends_with_its_last_handle) {
    Borrowed borrowed{1000};
    std::vector<SharedBytes> kept;
    {
        Engine engine{&ferrule_test::echo};
        engine.on_reactor([&] {
            kept.push_back(borrowed.share());
            kept.push_back(kept.front());
        });
    }
    kept.push_back(kept.front());
    EXPECT_EQ(borrowed.releases, 0u);
    kept.clear();
    EXPECT_EQ(borrowed.releases, 1u);
    EXPECT_EQ(borrowed.where, nullptr);
}

TEST(SharedBytesReactors, one_of_no_reactor_may_be_made_one_of_any) {
    Borrowed borrowed{1000};
    Answers answers;
    Engine engine{[&](Connection connection) { return answer(std::move(connection), &answers); }};
    {
        const SharedBytes page = borrowed.share();
        engine.reactor().post(
            [&answers, handle = page.for_reactor(engine.reactor())]() mutable { answers.page = std::move(handle); });
        engine.on_reactor([] {});
    }
    ClientSocket client = engine.connect();
    client.send("x");
    EXPECT_EQ(client.receive(answer_of(borrowed.bytes).size()), answer_of(borrowed.bytes));
    client.close();
    engine.until_empty();
    engine.on_reactor([&] { answers.page.reset(); });
    EXPECT_EQ(borrowed.releases, 1u);
}

// ---- misuse ----

Task<> send_foreign(Connection connection, const SharedBytes* foreign, std::string* refusal, Signal* ended) {
    try {
        connection.write_shared(*foreign);
    } catch (const std::logic_error& misuse) {
        *refusal = misuse.what();
    }
    ended->raise();
    co_return;
}

TEST(SharedBytesMisuse, those_of_another_reactor_cannot_be_sent) {
    const SharedBytes foreign = SharedBytes::own(pattern(1000));
    std::string refusal;
    Signal ended;
    Engine engine{
        [&](Connection connection) { return send_foreign(std::move(connection), &foreign, &refusal, &ended); }};
    ClientSocket client = engine.connect();
    ended.wait();
    EXPECT_EQ(refusal, "Connection::write_shared: the bytes are of another reactor (SharedBytes::for_reactor)");
}

void copy_elsewhere() {
    Engine engine{&ferrule_test::echo};
    const SharedBytes made = engine.on_reactor([] { return SharedBytes::own(pattern(1000)); });
    const SharedBytes copy = made;
}

void end_elsewhere() {
    Engine engine{&ferrule_test::echo};
    std::optional<SharedBytes> other;
    SharedBytes made = engine.on_reactor([&] {
        SharedBytes own = SharedBytes::own(pattern(1000));
        other.emplace(own);
        return own;
    });
    made.reset();
}

TEST(SharedBytesDeathTest, are_not_counted_on_other_threads) {
    GTEST_FLAG_SET(death_test_style, "threadsafe");
    EXPECT_DEATH(copy_elsewhere(), "SharedBytes are used on a thread that is not their reactor's");
    EXPECT_DEATH(end_elsewhere(), "SharedBytes end on a thread that is not their reactor's");
}

}  // namespace
