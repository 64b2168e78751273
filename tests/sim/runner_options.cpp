#include "sim/runner_options.hpp"

#include <sched.h>
#include <sys/random.h>

#include <charconv>
#include <cstdio>
#include <string_view>
#include <system_error>

namespace ferrule_test {
namespace {

constexpr std::size_t traced_entries = 100'000;

unsigned processors() {
    cpu_set_t allowed;
    if (::sched_getaffinity(0, sizeof allowed, &allowed) != 0) return 1;
    return static_cast<unsigned>(CPU_COUNT(&allowed));
}

std::uint64_t random_seed() {
    std::uint32_t seed = 0;
    return ::getrandom(&seed, sizeof seed, 0) == sizeof seed ? seed : 1;
}

void print_list() {
    for (const Workload& workload : workloads()) {
        std::printf("    %-14.*s %.*s\n", static_cast<int>(workload.name.size()), workload.name.data(),
                    static_cast<int>(workload.what.size()), workload.what.data());
    }
}

std::optional<ferrule::sim::Fault> fault_named(std::string_view name) {
    for (std::size_t index = 0; index < ferrule::sim::fault_count; ++index) {
        const auto fault = static_cast<ferrule::sim::Fault>(index);
        if (ferrule::sim::name_of(fault) == name) return fault;
    }
    return std::nullopt;
}

template <class Number>
std::optional<Number> number(std::string_view text) {
    Number value{};
    const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
    if (error != std::errc{} || end != text.data() + text.size()) return std::nullopt;
    return value;
}

std::optional<ferrule::sim::PlacedFault> placed_fault(std::string_view text) {
    const std::size_t at = text.find('@');
    if (at == std::string_view::npos) return std::nullopt;
    const auto fault = fault_named(text.substr(0, at));
    const auto occasion = number<std::uint64_t>(text.substr(at + 1));
    if (!fault || !occasion) return std::nullopt;
    return ferrule::sim::PlacedFault{*fault, *occasion};
}

/// Reads argument by argument; the first that is wrong ends it.
class Reader {
public:
    Reader(int argument_count, char** arguments) : rest_(arguments + 1, static_cast<std::size_t>(argument_count - 1)) {}

    std::expected<RunnerOptions, int> read() {
        options_.jobs = processors();
        while (!rest_.empty() && !status_) {
            const std::string_view argument = rest_.front();
            rest_ = rest_.subspan(1);
            take(argument);
        }
        if (status_) return std::unexpected(*status_);
        if (options_.workloads.empty()) {
            for (const Workload& workload : workloads()) {
                if (!workload.by_name_only) options_.workloads.push_back(&workload);
            }
        }
        if (seed_given_ && !seeds_given_ && options_.minutes <= 0) options_.seeds = 1;
        if (!seed_given_ && options_.minutes > 0) {
            options_.settings.seed = random_seed();
            std::printf("seeds from %llu on\n", static_cast<unsigned long long>(options_.settings.seed));
        }
        return options_;
    }

private:
    void take(std::string_view argument) {
        if (argument == "--help" || argument == "-h") {
            std::puts("./ferrule sim --help tells the options");
            status_ = 0;
        } else if (argument == "--list") {
            print_list();
            status_ = 0;
        } else if (argument == "--seed") {
            seed_given_ = value(argument, options_.settings.seed);
        } else if (argument == "--seeds") {
            seeds_given_ = value(argument, options_.seeds);
        } else if (argument == "--minutes") {
            value(argument, options_.minutes);
        } else if (argument == "--jobs") {
            value(argument, options_.jobs);
            if (options_.jobs == 0) options_.jobs = 1;
        } else if (argument == "--seconds-max") {
            value(argument, options_.seconds_max);
        } else if (argument == "--connections") {
            value(argument, options_.settings.connections_max);
        } else if (argument == "--messages") {
            value(argument, options_.settings.messages_max);
        } else if (argument == "--trace") {
            options_.settings.trace_entries = traced_entries;
        } else if (argument == "--no-faults") {
            options_.settings.faults = false;
        } else if (argument == "--no-shrink") {
            options_.shrink = false;
        } else if (argument == "--fault") {
            fault(argument, options_.settings.placed);
        } else if (argument == "--without") {
            fault(argument, options_.settings.left_out);
        } else if (argument == "--each") {
            each(next(argument));
        } else if (const Workload* workload = find_workload(argument)) {
            options_.workloads.push_back(workload);
        } else {
            refuse(std::string(argument) + " is neither an option nor a workload (./ferrule sim --help)");
        }
    }

    std::string_view next(std::string_view option) {
        if (rest_.empty()) {
            refuse(std::string(option) + " takes a value");
            return {};
        }
        const std::string_view text = rest_.front();
        rest_ = rest_.subspan(1);
        return text;
    }

    template <class Number>
    bool value(std::string_view option, Number& into) {
        const auto read = number<Number>(next(option));
        if (!status_ && !read) refuse(std::string(option) + " takes a number");
        if (read) into = *read;
        return true;
    }

    void fault(std::string_view option, std::vector<ferrule::sim::PlacedFault>& into) {
        const auto read = placed_fault(next(option));
        if (!status_ && !read) refuse(std::string(option) + " takes FAULT@N, short-send@12");
        if (read) into.push_back(*read);
    }

    void each(std::string_view name) {
        for (std::size_t index = 0; index < ferrule::sim::fault_count; ++index) {
            const auto fault = static_cast<ferrule::sim::Fault>(index);
            if (name == "all" || ferrule::sim::name_of(fault) == name) options_.each.push_back(fault);
        }
        if (!status_ && options_.each.empty()) refuse("--each takes the name of a fault, or all");
        if (!seeds_given_) options_.seeds = 1;
    }

    void refuse(const std::string& what) {
        std::fprintf(stderr, "ferrule sim: %s\n", what.c_str());
        status_ = 2;
    }

    std::span<char*> rest_;
    RunnerOptions options_;
    std::optional<int> status_;
    bool seed_given_ = false;
    bool seeds_given_ = false;
};

}  // namespace

std::expected<RunnerOptions, int> parse_options(int argument_count, char** arguments) {
    return Reader{argument_count, arguments}.read();
}

std::string command_of(const Workload& workload, const RunSettings& settings) {
    std::string command = "./ferrule sim " + std::string(workload.name) + " --seed " + std::to_string(settings.seed);
    constexpr auto all = std::numeric_limits<std::uint64_t>::max();
    if (settings.connections_max != all) command += " --connections " + std::to_string(settings.connections_max);
    if (settings.messages_max != all) command += " --messages " + std::to_string(settings.messages_max);
    if (!settings.faults) command += " --no-faults";
    const auto add = [&command](const char* option, const std::vector<ferrule::sim::PlacedFault>& faults) {
        for (const auto& each : faults) {
            command += std::string(" ") + option + " " + std::string(ferrule::sim::name_of(each.fault)) + "@" +
                       std::to_string(each.occasion);
        }
    };
    add("--fault", settings.placed);
    add("--without", settings.left_out);
    return command;
}

}  // namespace ferrule_test
