#include <ferrule/fs/directory.hpp>
#include <ferrule/fs/file.hpp>

#include "admin/process_metrics.hpp"

#include <array>
#include <charconv>
#include <memory>
#include <optional>
#include <utility>

namespace ferrule::inline v0 {

namespace {

/// proc(5) has times in ticks of USER_HZ, which is 100 on every architecture that Linux still runs on.
constexpr std::uint64_t nanoseconds_per_tick = 10'000'000;
constexpr std::uint64_t nanoseconds_per_second = 1'000'000'000;
/// Files of proc(5) that are read here are shorter; of what is not, the beginning is enough.
constexpr std::size_t file_bytes_max = 8192;
/// Listing more descriptors than this is not worth the time; newer kernels tell their number at once.
constexpr std::size_t listed_descriptors_max = 200'000;

constexpr const char* descriptor_folder = "/proc/self/fd";

constexpr MetricDescription cpu_time{"process_cpu_seconds_total", "Time that the process has computed.",
                                     MetricUnit::seconds};
constexpr MetricDescription start_time{"process_start_time_seconds",
                                       "When the process was started, since 1970.",
                                       MetricUnit::seconds,
                                       {},
                                       MetricKind::gauge};
constexpr MetricDescription resident{
    "process_resident_memory_bytes", "Memory that is in RAM.", MetricUnit::bytes, {}, MetricKind::gauge};
constexpr MetricDescription virtual_memory{
    "process_virtual_memory_bytes", "Memory that is mapped.", MetricUnit::bytes, {}, MetricKind::gauge};
constexpr MetricDescription open_descriptors{
    "process_open_fds", "Descriptors that are open.", MetricUnit::none, {}, MetricKind::gauge};
constexpr MetricDescription descriptor_limit{
    "process_max_fds", "Descriptors that may be open.", MetricUnit::none, {}, MetricKind::gauge};
constexpr MetricDescription threads{"process_threads", "Threads.", MetricUnit::none, {}, MetricKind::gauge};
constexpr MetricDescription build{
    "ferrule_build_info", "The build of Ferrule: always 1.", MetricUnit::none, {}, MetricKind::gauge};

void add(std::vector<MetricSample>& samples, const MetricDescription& description, std::uint64_t value,
         MetricLabels labels = {}) {
    samples.push_back({description, std::make_shared<const MetricLabels>(std::move(labels)),
                       static_cast<std::int64_t>(value), nullptr});
}

std::optional<std::uint64_t> number_at(std::string_view text) noexcept {
    const std::size_t first = text.find_first_not_of(" \t");
    if (first == std::string_view::npos) return std::nullopt;
    std::uint64_t number = 0;
    const auto [end, error] = std::from_chars(text.data() + first, text.data() + text.size(), number);
    if (error != std::errc()) return std::nullopt;
    return number;
}

/// The number behind `name:` in a file like /proc/self/status.
std::optional<std::uint64_t> field_of(std::string_view file, std::string_view name) noexcept {
    const std::size_t at = file.find(name);
    return at == std::string_view::npos ? std::nullopt : number_at(file.substr(at + name.size()));
}

/// A field of /proc/self/stat, counted from 1 as in proc(5), from the third on: the second may contain anything.
std::optional<std::uint64_t> statistic(std::string_view file, unsigned field) noexcept {
    const std::size_t name_end = file.rfind(')');
    if (name_end == std::string_view::npos) return std::nullopt;
    file.remove_prefix(name_end + 1);
    for (unsigned skipped = 2; skipped < field; ++skipped) {
        const std::size_t space = file.find(' ');
        if (space == std::string_view::npos) return std::nullopt;
        file.remove_prefix(space + 1);
    }
    return number_at(file);
}

constexpr unsigned user_ticks_field = 14;
constexpr unsigned system_ticks_field = 15;
constexpr unsigned threads_field = 20;
constexpr unsigned start_ticks_field = 22;

/// Descriptors that are open, less the one that was opened to find out.
Task<std::optional<std::uint64_t>> count_descriptors(Reactor& reactor) {
    auto folder = co_await File::open(reactor, descriptor_folder);
    if (!folder) co_return std::nullopt;
    // Since 6.2 the size of the folder is the number of its entries; before, it is 0.
    const auto status = co_await folder->status();
    const auto closed = co_await folder->close();
    static_cast<void>(closed);  // it was only looked at
    if (status && status->size > 0) co_return status->size - 1;
    ListOptions options;
    options.entry_limit = listed_descriptors_max;
    const auto names = co_await list_directory(reactor, descriptor_folder, options);
    if (!names || names->empty()) co_return std::nullopt;
    co_return names->size() - 1;
}

std::string compiler_name() {
#if defined(__clang__)
    return "clang " + std::to_string(__clang_major__) + '.' + std::to_string(__clang_minor__);
#else
    return "gcc " + std::to_string(__GNUC__) + '.' + std::to_string(__GNUC_MINOR__);
#endif
}

}  // namespace

ProcessMetrics::ProcessMetrics(Kernel& kernel) : kernel_(&kernel) {
    // Once, because its parts are read one behind the other: the time is not to waver.
    const auto ticks = statistic(file("/proc/self/stat"), start_ticks_field);
    const std::string uptime = file("/proc/uptime");
    const auto seconds = number_at(uptime);
    const std::size_t point = uptime.find('.');
    if (!ticks || !seconds || point == std::string::npos) return;
    const std::uint64_t hundredths = number_at(std::string_view(uptime).substr(point + 1)).value_or(0);
    const std::uint64_t up_ns = *seconds * nanoseconds_per_second + hundredths * nanoseconds_per_tick;
    started_ns_ = kernel.realtime_ns() - up_ns + *ticks * nanoseconds_per_tick;
}

std::string ProcessMetrics::file(const char* path) const {
    std::string text(file_bytes_max, '\0');
    const ssize_t size = kernel_->read_file(path, text.data(), text.size());
    text.resize(size > 0 ? static_cast<std::size_t>(size) : 0);
    return text;
}

void ProcessMetrics::add_statistics(std::vector<MetricSample>& samples) const {
    const std::string statistics = file("/proc/self/stat");
    const auto user = statistic(statistics, user_ticks_field);
    const auto system = statistic(statistics, system_ticks_field);
    if (user && system) add(samples, cpu_time, (*user + *system) * nanoseconds_per_tick);
    if (started_ns_ != 0) add(samples, start_time, started_ns_);
    if (const auto count = statistic(statistics, threads_field)) add(samples, threads, *count);
}

void ProcessMetrics::add_memory(std::vector<MetricSample>& samples) const {
    constexpr std::uint64_t kibibyte = 1024;
    const std::string status = file("/proc/self/status");
    if (const auto size = field_of(status, "\nVmRSS:")) add(samples, resident, *size * kibibyte);
    if (const auto size = field_of(status, "\nVmSize:")) add(samples, virtual_memory, *size * kibibyte);
}

Task<std::vector<MetricSample>> ProcessMetrics::read(Reactor& reactor) const {
    std::vector<MetricSample> samples;
    add(samples, build, 1, {{"version", FERRULE_VERSION_STRING}, {"compiler", compiler_name()}});
    add_statistics(samples);
    add_memory(samples);
    const auto descriptors = co_await count_descriptors(reactor);
    if (descriptors) add(samples, open_descriptors, *descriptors);
    if (const long limit = kernel_->limit_descriptors(); limit >= 0)
        add(samples, descriptor_limit, static_cast<std::uint64_t>(limit));
    co_return samples;
}

}  // namespace ferrule::inline v0
