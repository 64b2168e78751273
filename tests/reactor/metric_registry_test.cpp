#include <ferrule/net/network.hpp>
#include <ferrule/net/resolver.hpp>
#include <ferrule/net/udp_socket.hpp>
#include <ferrule/reactor/counters.hpp>
#include <ferrule/reactor/metric_registry.hpp>
#include <ferrule/reactor/reactor.hpp>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <array>
#include <atomic>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <stdexcept>
#include <string>
#include <thread>

namespace {

using namespace ferrule;
using testing::HasSubstr;

struct Orders {
    Counter placed;
    Counter open;
    Gauge balance;
    Histogram duration;
    Counter by_mail;

    static constexpr auto metrics() {
        using Row = MetricOf<Orders>;
        return std::array{
            Row{&Orders::placed, {"shop_orders_total", "Orders.", MetricUnit::none, {"by", "phone"}}},
            Row{&Orders::by_mail, {"shop_orders_total", "Orders.", MetricUnit::none, {"by", "mail"}}},
            Row{&Orders::open, {"shop_orders_open", "Not settled."}},
            Row{&Orders::balance, {"shop_balance", "What is in the till."}},
            Row{&Orders::duration, {"shop_order_duration_seconds", "To the end.", MetricUnit::seconds}},
        };
    }
};

TEST(MetricRegistry, ReadsWhatIsRegisteredWithItsKindAndLabels) {
    const auto registry = std::make_shared<MetricRegistry>(MetricLabels{{"reactor", "7"}});
    Orders orders;
    const MetricRegistration registered = registry->add(orders, {{"shop", "north"}});
    orders.placed.add(3);
    orders.by_mail.add();
    orders.balance.subtract(20);
    orders.duration.record(std::uint64_t{1000});
    const auto samples = registry->read();
    ASSERT_EQ(samples.size(), 5u);
    const MetricLabels labels{{"reactor", "7"}, {"shop", "north"}};
    for (const MetricSample& sample : samples) EXPECT_EQ(*sample.labels, labels);
    EXPECT_EQ(samples[0].description.kind, MetricKind::counter);
    EXPECT_EQ(samples[0].description.label.value, "phone");
    EXPECT_EQ(samples[0].value, 3);
    EXPECT_EQ(samples[1].value, 1);
    EXPECT_EQ(samples[2].description.kind, MetricKind::gauge);
    EXPECT_EQ(samples[3].value, -20);
    EXPECT_EQ(samples[4].description.kind, MetricKind::histogram);
    ASSERT_NE(samples[4].histogram, nullptr);
    EXPECT_EQ(samples[4].histogram->count(), 1u);
    EXPECT_EQ(registry->value("shop_balance"), -20);
    EXPECT_EQ(registry->value("shop_nothing", 9), 9);
}

TEST(MetricRegistry, ForgetsWhatHasEnded) {
    const auto registry = std::make_shared<MetricRegistry>();
    auto orders = std::make_unique<Orders>();
    MetricRegistration registered = registry->add(*orders);
    MetricRegistration moved = std::move(registered);
    registered.end();  // it was moved from: nothing
    EXPECT_EQ(registry->read().size(), 5u);
    moved.end();
    orders.reset();
    EXPECT_TRUE(registry->read().empty());
}

TEST(MetricRegistry, RefusesWhatIsThereAlreadyAndLeavesNothingOfIt) {
    const auto registry = std::make_shared<MetricRegistry>();
    Orders orders;
    Orders more;
    const MetricRegistration registered = registry->add(orders);
    EXPECT_THROW(static_cast<void>(registry->add(more)), std::logic_error);
    EXPECT_EQ(registry->read().size(), 5u);
    const MetricRegistration with_labels = registry->add(more, {{"shop", "south"}});
    EXPECT_EQ(registry->read().size(), 10u);
    EXPECT_THROW(static_cast<void>(registry->add(more, {{"shop", "south"}})), std::logic_error);
}

TEST(MetricRegistry, RefusesLabelsThatCannotBe) {
    EXPECT_THROW(MetricRegistry(MetricLabels{{"0", "x"}}), std::invalid_argument);
    const auto registry = std::make_shared<MetricRegistry>(MetricLabels{{"reactor", "0"}});
    Orders orders;
    for (const char* name : {"", "Upper", "a-b", "__own", "le", "quantile", "reactor", "by"}) {
        EXPECT_THROW(static_cast<void>(registry->add(orders, {{name, "x"}})), std::invalid_argument) << name;
        EXPECT_TRUE(registry->read().empty()) << name;
    }
}

struct OtherOrders {
    Counter placed;
    static constexpr auto metrics() {
        return std::array{MetricOf<OtherOrders>{&OtherOrders::placed, {"shop_orders_total", "Something else."}}};
    }
};

TEST(MetricRegistry, RefusesANameWithTwoMeanings) {
    const auto registry = std::make_shared<MetricRegistry>();
    Orders orders;
    OtherOrders others;
    const MetricRegistration registered = registry->add(orders);
    EXPECT_THROW(static_cast<void>(registry->add(others)), std::logic_error);
}

TEST(Metric, NamesAreHeldToPrometheusConventions) {
    const auto fault = [](const char* name, MetricKind kind, MetricUnit unit = MetricUnit::none,
                          const char* help = "x") {
        MetricDescription description{name, help, unit};
        description.kind = kind;
        return fault_of(description);
    };
    EXPECT_EQ(fault("shop_orders_total", MetricKind::counter), "");
    EXPECT_EQ(fault("shop_read_bytes_total", MetricKind::counter, MetricUnit::bytes), "");
    EXPECT_EQ(fault("shop_wait_seconds", MetricKind::histogram, MetricUnit::seconds), "");
    EXPECT_THAT(fault("shopOrders", MetricKind::gauge), HasSubstr("name"));
    EXPECT_THAT(fault("1shop", MetricKind::gauge), HasSubstr("name"));
    EXPECT_THAT(fault("", MetricKind::gauge), HasSubstr("name"));
    EXPECT_THAT(fault("shop", MetricKind::gauge, MetricUnit::none, ""), HasSubstr("help"));
    EXPECT_THAT(fault("shop_orders", MetricKind::counter), HasSubstr("_total"));
    EXPECT_THAT(fault("shop_orders_total", MetricKind::gauge), HasSubstr("_total"));
    EXPECT_THAT(fault("shop_orders_count", MetricKind::gauge), HasSubstr("_count"));
    EXPECT_THAT(fault("shop_wait_ms", MetricKind::gauge), HasSubstr("base unit"));
    EXPECT_THAT(fault("shop_wait_seconds", MetricKind::gauge), HasSubstr("_seconds"));
    EXPECT_THAT(fault("shop_wait", MetricKind::gauge, MetricUnit::seconds), HasSubstr("_seconds"));
    EXPECT_THAT(fault("shop_memory", MetricKind::gauge, MetricUnit::bytes), HasSubstr("_bytes"));
}

template <class Counters>
void expect_all_described() {
    const auto rows = Counters::metrics();
    const Counters counters;
    std::set<const void*> described;
    for (const auto& row : rows) {
        EXPECT_EQ(fault_of(row.description()), "") << row.description().name;
        EXPECT_TRUE(row.description().name.starts_with("ferrule_")) << row.description().name;
        for (const void* member :
             {static_cast<const void*>(row.counter(counters)), static_cast<const void*>(row.gauge(counters)),
              static_cast<const void*>(row.histogram(counters))}) {
            if (member == nullptr) continue;
            EXPECT_TRUE(described.insert(member).second) << row.description().name;
        }
    }
    std::size_t bytes = 0;
    for (const auto& row : rows) bytes += row.histogram(counters) != nullptr ? sizeof(Histogram) : sizeof(Counter);
    EXPECT_EQ(bytes, sizeof(Counters)) << "a counter has no description";
}

TEST(Metric, EveryCounterOfTheLibraryIsDescribed) {
    expect_all_described<ReactorCounters>();
    expect_all_described<NetworkCounters>();
    expect_all_described<ResolverCounters>();
    expect_all_described<UdpCounters>();
}

TEST(MetricRegistry, HasWhatIsOnAReactorAndOutlivesIt) {
    std::optional<Reactor> reactor(std::in_place, 3);
    const std::shared_ptr<MetricRegistry> metrics = reactor->metrics();
    reactor->on_start([&](Reactor& started) {
        Network::of(started);
        started.post([&started] { started.stop(); });
    });
    reactor->run();
    EXPECT_GT(metrics->value("ferrule_loop_passes_total"), 0);
    EXPECT_EQ(metrics->value("ferrule_mailbox_messages_total"), 1);
    EXPECT_EQ(metrics->value("ferrule_connection_slots", -1), 0);
    std::uint64_t timed_passes = 0;
    for (const MetricSample& sample : metrics->read()) {
        EXPECT_EQ(*sample.labels, (MetricLabels{{"reactor", "3"}}));
        if (sample.description.name == "ferrule_loop_pass_duration_seconds") timed_passes = sample.histogram->count();
    }
    EXPECT_EQ(timed_passes, static_cast<std::uint64_t>(metrics->value("ferrule_loop_passes_total")));
    reactor.reset();
    EXPECT_TRUE(metrics->read().empty());
}

// Readers come and go while reactors do: nothing is read that has ended. Under ThreadSanitizer and AddressSanitizer
// this is the proof.
TEST(MetricRegistry, IsReadWhileWhatItCountsBeginsAndEnds) {
    const auto registry = std::make_shared<MetricRegistry>();
    std::atomic<bool> done = false;
    std::atomic<int> rounds = 0;
    std::thread reader([&] {
        while (!done) {
            for (const MetricSample& sample : registry->read()) ASSERT_LE(sample.value, 100);
            ++rounds;
        }
    });
    while (rounds == 0) std::this_thread::yield();
    for (int turn = 0; turn < 200; ++turn) {
        auto orders = std::make_unique<Orders>();
        MetricRegistration registered = registry->add(*orders);
        for (int number = 0; number < 100; ++number) {
            orders->placed.add();
            orders->duration.record(std::uint64_t{5});
        }
        registered.end();
    }
    done = true;
    reader.join();
    EXPECT_TRUE(registry->read().empty());
}

}  // namespace
