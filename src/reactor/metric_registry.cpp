#include <ferrule/reactor/metric_registry.hpp>

#include <algorithm>
#include <array>
#include <stdexcept>

namespace ferrule::inline v0 {

namespace {

bool begins_name(char letter) noexcept {
    return (letter >= 'a' && letter <= 'z') || letter == '_';
}

bool is_name(std::string_view text) noexcept {
    return !text.empty() && begins_name(text.front()) && std::all_of(text.begin(), text.end(), [](char letter) {
        return begins_name(letter) || (letter >= '0' && letter <= '9');
    });
}

// Of labels: `le` is the bound of a bucket, `quantile` a summary's, and what begins with two underscores is Prometheus'
// own.
std::string fault_of_label(std::string_view name) {
    if (!is_name(name) || name.starts_with("__") || name == "le" || name == "quantile")
        return std::string("'").append(name).append("' cannot be a label");
    return {};
}

bool same_family(const MetricDescription& one, const MetricDescription& other) noexcept {
    return one.help == other.help && one.kind == other.kind && one.unit == other.unit &&
           one.bound_first == other.bound_first && one.bound_last == other.bound_last &&
           one.label.name == other.label.name;
}

[[noreturn]] void refuse(const MetricDescription& description, const std::string& reason) {
    throw std::invalid_argument("metric '" + std::string(description.name) + "': " + reason);
}

constexpr std::uint8_t bound_max = 48;
static_assert(HistogramBuckets::value_max == std::uint64_t{1} << bound_max);

}  // namespace

std::string fault_of(const MetricDescription& description) {
    if (!is_name(description.name)) return "the name is not [a-z_][a-z0-9_]*";
    if (description.help.empty()) return "there is no help";
    std::string_view stem = description.name;
    const bool total = stem.ends_with("_total");
    if (total) stem.remove_suffix(std::string_view("_total").size());
    if (total != (description.kind == MetricKind::counter)) return "counters end in _total, and nothing else does";
    for (const std::string_view reserved : {"_count", "_sum", "_bucket", "_created", "_info"}) {
        if (stem.ends_with(reserved)) return "the name ends in " + std::string(reserved) + ", which has a meaning";
    }
    for (const std::string_view other : {"_milliseconds", "_ms", "_microseconds", "_us", "_nanoseconds", "_ns", "_kib",
                                         "_mib", "_kilobytes", "_megabytes", "_percent"}) {
        if (stem.ends_with(other)) return "the unit is not a base unit: seconds, bytes, a ratio";
    }
    if (stem.ends_with("_seconds") != (description.unit == MetricUnit::seconds))
        return "the name ends in _seconds where the unit is seconds, and nowhere else";
    if (stem.ends_with("_bytes") != (description.unit == MetricUnit::bytes))
        return "the name ends in _bytes where the unit is bytes, and nowhere else";
    if (description.bound_first > description.bound_last || description.bound_last > bound_max)
        return "the bounds are not 2^first to 2^last, at most 2^48";
    if (!description.label.name.empty()) return fault_of_label(description.label.name);
    return {};
}

void MetricRegistration::end() noexcept {
    if (const auto registry = std::exchange(registry_, nullptr)) registry->remove(number_);
}

MetricRegistry::MetricRegistry(MetricLabels labels) : labels_(std::move(labels)) {
    for (const auto& [name, value] : labels_) {
        if (const std::string fault = fault_of_label(name); !fault.empty())
            throw std::invalid_argument("MetricRegistry: " + fault);
    }
}

MetricRegistry::~MetricRegistry() = default;

MetricRegistration MetricRegistry::add_sources(std::vector<Source> sources, MetricLabels labels) {
    const auto self = shared_from_this();
    auto shown = std::make_shared<MetricLabels>(labels_);
    for (auto& label : labels) {
        if (const std::string fault = fault_of_label(label.first); !fault.empty())
            throw std::invalid_argument("MetricRegistry::add: " + fault);
        if (std::any_of(shown->begin(), shown->end(), [&](const auto& other) { return other.first == label.first; }))
            throw std::invalid_argument("MetricRegistry::add: the label '" + label.first + "' is there already");
        shown->push_back(std::move(label));
    }
    const std::lock_guard lock(mutex_);
    const std::size_t before = sources_.size();
    const std::uint64_t number = next_number_++;
    try {
        for (Source& source : sources) {
            source.labels = shown;
            source.number = number;
            check(source);
            sources_.push_back(std::move(source));
        }
    } catch (...) {
        sources_.erase(sources_.begin() + static_cast<std::ptrdiff_t>(before), sources_.end());
        throw;
    }
    return MetricRegistration(self, number);
}

void MetricRegistry::check(const Source& source) const {
    const MetricDescription& description = source.description;
    if (const std::string fault = fault_of(description); !fault.empty()) refuse(description, fault);
    for (const auto& [name, value] : *source.labels) {
        if (name == description.label.name) refuse(description, "the label '" + name + "' is there already");
    }
    if (sources_.size() >= metric_limit) throw std::length_error("MetricRegistry: too many metrics");
    for (const Source& other : sources_) {
        if (other.description.name != description.name) continue;
        if (!same_family(other.description, description)) {
            throw std::logic_error("metric '" + std::string(description.name) +
                                   "' is registered with another help, kind, unit or label");
        }
        if (other.description.label.value == description.label.value && *other.labels == *source.labels)
            throw std::logic_error("metric '" + std::string(description.name) + "' is registered already");
    }
}

void MetricRegistry::remove(std::uint64_t number) noexcept {
    const std::lock_guard lock(mutex_);
    std::erase_if(sources_, [number](const Source& source) { return source.number == number; });
}

std::int64_t MetricRegistry::value_of(const Source& source) noexcept {
    if (source.counter != nullptr) return static_cast<std::int64_t>(source.counter->value());
    return source.gauge != nullptr ? source.gauge->value() : 0;
}

std::vector<MetricSample> MetricRegistry::read() const {
    std::vector<MetricSample> samples;
    const std::lock_guard lock(mutex_);
    samples.reserve(sources_.size());
    for (const Source& source : sources_) {
        MetricSample sample{source.description, source.labels, value_of(source), nullptr};
        if (source.histogram != nullptr)
            sample.histogram = std::make_shared<const HistogramSnapshot>(source.histogram->snapshot());
        samples.push_back(std::move(sample));
    }
    return samples;
}

std::int64_t MetricRegistry::value(std::string_view name, std::int64_t otherwise) const {
    const std::lock_guard lock(mutex_);
    for (const Source& source : sources_) {
        if (source.description.name == name && source.histogram == nullptr) return value_of(source);
    }
    return otherwise;
}

}  // namespace ferrule::inline v0
