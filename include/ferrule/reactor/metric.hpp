#pragma once

#include <ferrule/reactor/counter.hpp>
#include <ferrule/reactor/histogram.hpp>

#include <cstdint>
#include <string_view>

namespace ferrule::inline v0 {

/// What a metric is to its reader.
enum class MetricKind : std::uint8_t {
    counter,    ///< only grows, until the process ends; its rate is what matters
    gauge,      ///< a state: what is there now
    histogram,  ///< a distribution
};

/// What a metric is measured in, outside. Inside, times are in nanoseconds.
enum class MetricUnit : std::uint8_t {
    none,     ///< a number of things
    seconds,  ///< counted in nanoseconds, shown in seconds; the name ends in `_seconds`
    bytes,    ///< the name ends in `_bytes`
};

/// A label that tells metrics of one name apart: `state="open"`. Both point to constants.
struct MetricLabel {
    std::string_view name{};   ///< empty: there is none
    std::string_view value{};  ///< any text in UTF-8
};

/// What a metric is called outside and what it means: declared next to what it counts, with MetricOf. The texts are
/// constants: they live as long as the program.
///
/// Names are as Prometheus has them: `[a-z_][a-z0-9_]*`, with a prefix that says whose it is (`ferrule_` for what this
/// library counts), the unit and, for counters, `_total` at the end. Those of one name differ in their label, and have
/// the same help, kind and unit.
struct MetricDescription {
    std::string_view name;                  ///< `ferrule_accepts_total`
    std::string_view help;                  ///< one sentence
    MetricUnit unit = MetricUnit::none;     ///< what it is measured in
    MetricLabel label{};                    ///< what tells it from others of this name
    MetricKind kind = MetricKind::counter;  ///< set by MetricOf, from what is described
    /// Of a histogram: the powers of two, of nanoseconds where the unit is seconds, between which each is a bound that
    /// is shown. Both 0: 2^10 to 2^34 for seconds (1 µs to 17 s), 2^4 to 2^30 for bytes, and otherwise 2^0 to 2^20.
    std::uint8_t bound_first = 0;
    std::uint8_t bound_last = 0;
};

/// One line of the table with which a structure of counters describes itself: which member, and what it is called.
/// A Counter whose name ends in `_total` is a counter; another one, and every Gauge, is a gauge.
///
/// ```cpp
/// struct OrderCounters {
///     Counter placed;      ///< orders that were taken
///     Counter open;        ///< orders that are not settled yet
///     Histogram duration;  ///< from taken to settled, in nanoseconds
///
///     static constexpr auto metrics() {
///         using Row = MetricOf<OrderCounters>;
///         return std::array{
///             Row{&OrderCounters::placed, {"shop_orders_placed_total", "Orders that were taken."}},
///             Row{&OrderCounters::open, {"shop_orders_open", "Orders that are not settled yet."}},
///             Row{&OrderCounters::duration,
///                 {"shop_order_duration_seconds", "From taken to settled.", MetricUnit::seconds}},
///         };
///     }
/// };
/// ```
template <class Owner>
class MetricOf {
public:
    /// Describes a Counter of the structure.
    constexpr MetricOf(Counter Owner::*member, MetricDescription description) noexcept
        : description_(description), counter_(member) {
        description_.kind = description.name.ends_with("_total") ? MetricKind::counter : MetricKind::gauge;
    }
    /// Describes a Gauge of the structure.
    constexpr MetricOf(Gauge Owner::*member, MetricDescription description) noexcept
        : description_(description), gauge_(member) {
        description_.kind = MetricKind::gauge;
    }
    /// Describes a Histogram of the structure.
    constexpr MetricOf(Histogram Owner::*member, MetricDescription description) noexcept
        : description_(description), histogram_(member) {
        description_.kind = MetricKind::histogram;
    }

    /// What it is called.
    [[nodiscard]] constexpr const MetricDescription& description() const noexcept { return description_; }
    /// What of `owner` it describes; null: it is of another kind.
    [[nodiscard]] constexpr const Counter* counter(const Owner& owner) const noexcept {
        return counter_ != nullptr ? &(owner.*counter_) : nullptr;
    }
    [[nodiscard]] constexpr const Gauge* gauge(const Owner& owner) const noexcept {
        return gauge_ != nullptr ? &(owner.*gauge_) : nullptr;
    }
    [[nodiscard]] constexpr const Histogram* histogram(const Owner& owner) const noexcept {
        return histogram_ != nullptr ? &(owner.*histogram_) : nullptr;
    }

private:
    MetricDescription description_;
    Counter Owner::*counter_ = nullptr;
    Gauge Owner::*gauge_ = nullptr;
    Histogram Owner::*histogram_ = nullptr;
};

}  // namespace ferrule::inline v0
