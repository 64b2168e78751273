#pragma once

#include <ferrule/reactor/metric.hpp>
#include <ferrule/reactor/metric_registry.hpp>
#include <ferrule/version.hpp>

#include <string>
#include <string_view>
#include <vector>

namespace ferrule::inline v0 {

/// All samples of one name, as they are shown: together, behind what the name means.
struct MetricFamily {
    MetricDescription description;  ///< of all of them, but for the label
    std::vector<MetricSample> samples;
};

/// Brings the samples of each name together, in the order in which the names first come. Of two with the same labels
/// the first is kept, and of two with different kinds or units those that are like the first: what is shown is always
/// well-formed. Any thread.
[[nodiscard]] FERRULE_EXPORT std::vector<MetricFamily> group_metrics(std::vector<MetricSample> samples);

/// The content type of `to_prometheus_text`.
inline constexpr std::string_view prometheus_text_type = "text/plain; version=0.0.4; charset=utf-8";

/// The families in Prometheus' text format, version 0.0.4. Times are in seconds. A histogram has a bucket for each
/// power of two between its bounds (MetricDescription), which count exactly. Bytes of labels that are not UTF-8 become
/// question marks. Any thread.
///
/// Source: https://prometheus.io/docs/instrumenting/exposition_formats/
[[nodiscard]] FERRULE_EXPORT std::string to_prometheus_text(const std::vector<MetricFamily>& families);

/// The families as JSON (RFC 8259):
/// `{"metrics": [{"name", "help", "kind", "unit", "samples": [{"labels": {...}, "value": 1}]}]}`. Times are in seconds.
/// A sample of a histogram has `count`, `sum`, and the `quantiles` 0.5, 0.9, 0.99, 0.999 and 1, which are at most 1/16
/// above what was recorded, instead of a value. Any thread.
[[nodiscard]] FERRULE_EXPORT std::string to_json_text(const std::vector<MetricFamily>& families);

}  // namespace ferrule::inline v0
