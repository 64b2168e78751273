#pragma once

#include <ferrule/reactor/metric.hpp>
#include <ferrule/version.hpp>

#include <cstddef>
#include <cstdint>
#include <memory>
#include <mutex>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace ferrule::inline v0 {

class MetricRegistry;

/// Labels with their values, in the order in which they are shown.
using MetricLabels = std::vector<std::pair<std::string, std::string>>;

/// Keeps what was given to MetricRegistry::add registered until it ends. A member behind the counters that it is of:
/// members end in the opposite order, so the counters are not read any more when they end. Any thread.
class FERRULE_EXPORT [[nodiscard]] MetricRegistration {
public:
    MetricRegistration() = default;
    MetricRegistration(MetricRegistration&& other) noexcept
        : registry_(std::move(other.registry_)), number_(other.number_) {}
    MetricRegistration& operator=(MetricRegistration&& other) noexcept {
        if (this != &other) {
            end();
            registry_ = std::move(other.registry_);
            number_ = other.number_;
        }
        return *this;
    }
    ~MetricRegistration() { end(); }

    /// Ends it now. May wait a moment for whoever reads.
    void end() noexcept;

private:
    friend class MetricRegistry;
    MetricRegistration(std::shared_ptr<MetricRegistry> registry, std::uint64_t number) noexcept
        : registry_(std::move(registry)), number_(number) {}
    std::shared_ptr<MetricRegistry> registry_;
    std::uint64_t number_ = 0;
};

/// What a metric was when it was read.
struct MetricSample {
    MetricDescription description;
    std::shared_ptr<const MetricLabels> labels;          ///< the registry's and the registration's; never null
    std::int64_t value = 0;                              ///< of a counter or a gauge
    std::shared_ptr<const HistogramSnapshot> histogram;  ///< of a histogram
};

/// The metrics of a reactor, for whoever shows them: `reactor.metrics()`. It outlives the reactor for as long as
/// somebody holds it, and what has ended is not in it any more.
///
/// Counting never meets it. Its lock is taken by who reads, and by what begins and what ends; a reader holds it while
/// it copies the numbers, for microseconds.
///
/// A program that counts outside any reactor makes one of its own, with std::make_shared.
class FERRULE_EXPORT MetricRegistry : public std::enable_shared_from_this<MetricRegistry> {
public:
    /// Metrics that may be registered at a time (law 7): a label with ever new values is a mistake.
    static constexpr std::size_t metric_limit = 16'384;

    /// `labels` are shown with all its metrics: `reactor="0"`.
    explicit MetricRegistry(MetricLabels labels = {});
    ~MetricRegistry();
    MetricRegistry(const MetricRegistry&) = delete;
    MetricRegistry& operator=(const MetricRegistry&) = delete;

    /// Registers what `Counters::metrics()` describes (MetricOf), with more labels to tell several of them apart.
    /// `counters` outlive the registration. Any thread. Throws std::invalid_argument, which says what is wrong, for a
    /// name, label or unit that cannot be; std::logic_error when a metric of this name and these labels is registered
    /// already, or one of this name with another help, kind or unit; std::length_error at `metric_limit`.
    ///
    /// ```cpp
    /// struct JobCounters {
    ///     Counter done;  ///< jobs that were done
    ///     static constexpr auto metrics() {
    ///         using Row = MetricOf<JobCounters>;
    ///         return std::array{Row{&JobCounters::done, {"jobs_done_total", "Jobs that were done."}}};
    ///     }
    /// };
    /// class Jobs {  // reactor.add_service<Jobs>(reactor)
    /// public:
    ///     explicit Jobs(Reactor& reactor) : registration_(reactor.metrics()->add(counters_, {{"queue", "mail"}})) {}
    ///     void done() { counters_.done.add(); }
    ///
    /// private:
    ///     JobCounters counters_;
    ///     MetricRegistration registration_;
    /// };
    /// ```
    template <class Counters>
    MetricRegistration add(const Counters& counters, MetricLabels labels = {}) {
        std::vector<Source> sources;
        for (const auto& row : Counters::metrics()) {
            sources.push_back(
                {row.description(), row.counter(counters), row.gauge(counters), row.histogram(counters), nullptr, 0});
        }
        return add_sources(std::move(sources), std::move(labels));
    }

    /// Everything that is registered now, in the order of registration. Any thread.
    [[nodiscard]] std::vector<MetricSample> read() const;

    /// The value of the counter or gauge of this name, the first where there are several; `otherwise` when there is
    /// none. Any thread.
    [[nodiscard]] std::int64_t value(std::string_view name, std::int64_t otherwise = 0) const;

private:
    friend class MetricRegistration;
    struct Source {
        MetricDescription description;
        const Counter* counter;
        const Gauge* gauge;
        const Histogram* histogram;
        std::shared_ptr<const MetricLabels> labels;
        std::uint64_t number;
    };
    MetricRegistration add_sources(std::vector<Source> sources, MetricLabels labels);
    void check(const Source& source) const;
    void remove(std::uint64_t number) noexcept;
    static std::int64_t value_of(const Source& source) noexcept;

    const MetricLabels labels_;
    mutable std::mutex mutex_;
    std::vector<Source> sources_;
    std::uint64_t next_number_ = 1;
};

/// What is wrong with a description; empty: nothing. MetricRegistry::add refuses those with which something is.
[[nodiscard]] FERRULE_EXPORT std::string fault_of(const MetricDescription& description);

}  // namespace ferrule::inline v0
