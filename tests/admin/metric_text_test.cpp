#include <ferrule/admin/metric_text.hpp>
#include <ferrule/net/network.hpp>
#include <ferrule/reactor/counters.hpp>

#include "support/prometheus_lint.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <memory>
#include <string>
#include <vector>

namespace {

using namespace ferrule;
using ferrule_test::lint_prometheus_text;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::Not;

MetricSample sample(MetricDescription description, MetricKind kind, std::int64_t value, MetricLabels labels = {}) {
    description.kind = kind;
    return {description, std::make_shared<const MetricLabels>(std::move(labels)), value, nullptr};
}

std::string text_of(std::vector<MetricSample> samples) {
    return to_prometheus_text(group_metrics(std::move(samples)));
}

TEST(MetricText, BringsFamiliesTogetherBehindWhatTheyMean) {
    const std::string text = text_of({
        sample({"shop_orders_total", "Orders."}, MetricKind::counter, 3, {{"reactor", "0"}}),
        sample({"shop_open", "Open."}, MetricKind::gauge, -2),
        sample({"shop_orders_total", "Orders."}, MetricKind::counter, 4, {{"reactor", "1"}}),
    });
    EXPECT_EQ(text,
              "# HELP shop_orders_total Orders.\n"
              "# TYPE shop_orders_total counter\n"
              "shop_orders_total{reactor=\"0\"} 3\n"
              "shop_orders_total{reactor=\"1\"} 4\n"
              "# HELP shop_open Open.\n"
              "# TYPE shop_open gauge\n"
              "shop_open -2\n");
    EXPECT_THAT(lint_prometheus_text(text), IsEmpty());
}

TEST(MetricText, ShowsTimesInSecondsExactly) {
    const MetricDescription wait{"shop_wait_seconds", "Waits.", MetricUnit::seconds};
    EXPECT_THAT(text_of({sample(wait, MetricKind::gauge, 1)}), HasSubstr(" 0.000000001\n"));
    EXPECT_THAT(text_of({sample(wait, MetricKind::gauge, 1'500'000'000)}), HasSubstr(" 1.5\n"));
    EXPECT_THAT(text_of({sample(wait, MetricKind::gauge, -250'000'000)}), HasSubstr(" -0.25\n"));
    EXPECT_THAT(text_of({sample(wait, MetricKind::gauge, 1'700'000'000'123'456'789)}),
                HasSubstr(" 1700000000.123456789\n"));
}

TEST(MetricText, EscapesWhatLabelsAndHelpContain) {
    const std::string text = text_of({sample({"shop_open", "A \\ and\na \"line\"."}, MetricKind::gauge, 1,
                                             {{"name", "a\"b\\c\nd \xc3\xa4 \xff \xed\xa0\x80"}})});
    EXPECT_THAT(text, HasSubstr("# HELP shop_open A \\\\ and\\na \"line\".\n"));
    EXPECT_THAT(text, HasSubstr("{name=\"a\\\"b\\\\c\\nd \xc3\xa4 ? ???\"} 1\n"));
    EXPECT_THAT(lint_prometheus_text(text), IsEmpty());
}

TEST(MetricText, ShowsAHistogramWithExactCumulativeBuckets) {
    MetricDescription description{"shop_wait_seconds", "Waits.", MetricUnit::seconds};
    description.kind = MetricKind::histogram;
    description.bound_first = 10;
    description.bound_last = 12;
    Histogram histogram;
    for (const std::uint64_t value : {1u, 1024u, 1025u, 4096u, 4097u}) histogram.record(std::uint64_t{value});
    MetricSample waits{description, std::make_shared<const MetricLabels>(MetricLabels{{"reactor", "0"}}), 0,
                       std::make_shared<const HistogramSnapshot>(histogram.snapshot())};
    const std::string text = text_of({waits});
    EXPECT_EQ(text,
              "# HELP shop_wait_seconds Waits.\n"
              "# TYPE shop_wait_seconds histogram\n"
              "shop_wait_seconds_bucket{reactor=\"0\",le=\"0.000001024\"} 2\n"
              "shop_wait_seconds_bucket{reactor=\"0\",le=\"0.000002048\"} 3\n"
              "shop_wait_seconds_bucket{reactor=\"0\",le=\"0.000004096\"} 4\n"
              "shop_wait_seconds_bucket{reactor=\"0\",le=\"+Inf\"} 5\n"
              "shop_wait_seconds_sum{reactor=\"0\"} 0.000010243\n"
              "shop_wait_seconds_count{reactor=\"0\"} 5\n");
    EXPECT_THAT(lint_prometheus_text(text), IsEmpty());
}

TEST(MetricText, ShowsNothingTwiceAndNothingWithTwoMeanings) {
    const std::string text = text_of({
        sample({"shop_open", "Open."}, MetricKind::gauge, 1, {{"reactor", "0"}}),
        sample({"shop_open", "Open."}, MetricKind::gauge, 2, {{"reactor", "0"}}),
        sample({"shop_open", "Open."}, MetricKind::counter, 3, {{"reactor", "1"}}),
    });
    EXPECT_THAT(text, HasSubstr("shop_open{reactor=\"0\"} 1\n"));
    EXPECT_THAT(text, Not(HasSubstr(" 2\n")));
    EXPECT_THAT(text, Not(HasSubstr(" 3\n")));
}

TEST(MetricText, OfTheLibraryHoldsTheLintRules) {
    const ReactorCounters reactor_counters;
    const NetworkCounters network_counters;
    std::vector<MetricSample> samples;
    for (const char* number : {"0", "1"}) {
        const auto registry = std::make_shared<MetricRegistry>(MetricLabels{{"reactor", number}});
        const MetricRegistration of_reactor = registry->add(reactor_counters);
        const MetricRegistration of_network = registry->add(network_counters);
        for (MetricSample& one : registry->read()) samples.push_back(std::move(one));
    }
    EXPECT_THAT(lint_prometheus_text(text_of(std::move(samples))), IsEmpty());
}

// The rules are worth something only if they can be broken.
TEST(PrometheusLint, FindsWhatIsWrong) {
    EXPECT_THAT(lint_prometheus_text("shop_open 1\n"), Not(IsEmpty())) << "neither help nor type";
    EXPECT_THAT(lint_prometheus_text("# HELP a_b x\n# TYPE a_b gauge\na_b 1\na_b 2\n"), Not(IsEmpty())) << "twice";
    EXPECT_THAT(lint_prometheus_text("# HELP a_b x\n# TYPE a_b counter\na_b 1\n"), Not(IsEmpty())) << "no _total";
    EXPECT_THAT(lint_prometheus_text("# HELP a_ms x\n# TYPE a_ms gauge\na_ms 1\n"), Not(IsEmpty())) << "no base unit";
    EXPECT_THAT(
        lint_prometheus_text("# HELP a_b x\n# TYPE a_b histogram\na_b_bucket{le=\"1\"} 1\na_b_sum 1\na_b_count 1\n"),
        Not(IsEmpty()))
        << "no +Inf";
    EXPECT_THAT(lint_prometheus_text("# HELP a_b x\n# TYPE a_b histogram\na_b_bucket{le=\"1\"} 2\n"
                                     "a_b_bucket{le=\"+Inf\"} 1\na_b_sum 1\na_b_count 1\n"),
                Not(IsEmpty()))
        << "not cumulative";
    EXPECT_THAT(lint_prometheus_text("# HELP a_b x\n# TYPE a_b gauge\na_b 1\n# HELP c_d x\n# TYPE c_d gauge\nc_d 1\n"
                                     "a_b{x=\"y\"} 1\n"),
                Not(IsEmpty()))
        << "a family in two places";
    EXPECT_THAT(lint_prometheus_text("# HELP a_b x\n# TYPE a_b gauge\na_b 1"), Not(IsEmpty())) << "no last line end";
}

TEST(MetricText, AsJsonHasTheSameAndQuantiles) {
    MetricDescription description{"shop_wait_seconds", "Waits.", MetricUnit::seconds};
    description.kind = MetricKind::histogram;
    Histogram histogram;
    histogram.record(std::uint64_t{1'000'000'000});
    MetricSample waits{description, std::make_shared<const MetricLabels>(), 0,
                       std::make_shared<const HistogramSnapshot>(histogram.snapshot())};
    const std::string text =
        to_json_text(group_metrics({sample({"shop_orders_total", "Orders.", MetricUnit::none, {"by", "mail"}},
                                           MetricKind::counter, 3, {{"shop", "a\"\x01\xff"}}),
                                    waits}));
    EXPECT_THAT(text, HasSubstr(R"({"name":"shop_orders_total","help":"Orders.","kind":"counter","unit":"","samples":[)"
                                R"({"labels":{"shop":"a\"\u0001?","by":"mail"},"value":3}]})"));
    EXPECT_THAT(text, HasSubstr(R"("labels":{},"count":1,"sum":1,"quantiles":{"0.5":1.0)"));
}

}  // namespace
