// Tells what the running kernel's io_uring has, what Ferrule makes of it, and what Ferrule does without what is
// missing. The second half of `./ferrule doctor`: exit status 1 when Ferrule cannot run here, with the reason.
//
// With --json it prints one object instead: what was found, by name, for programs.
#include <ferrule/ring/abi.hpp>
#include <ferrule/ring/huge_pages.hpp>
#include <ferrule/ring/kernel.hpp>
#include <ferrule/ring/probe.hpp>
#include <ferrule/ring/ring.hpp>

#include <cstdint>
#include <cstdio>
#include <cstring>
#include <string>

namespace {

namespace abi = ferrule::abi;

struct NamedBit {
    std::uint32_t bit;
    const char* name;
    const char* since;
};

constexpr NamedBit features[] = {
    {abi::feature_single_mmap, "single_mmap", "5.4"},
    {abi::feature_no_drop, "no_drop", "5.5"},
    {abi::feature_submit_stable, "submit_stable", "5.5"},
    {abi::feature_current_position, "current_position", "5.6"},
    {abi::feature_current_personality, "current_personality", "5.6"},
    {abi::feature_fast_poll, "fast_poll", "5.7"},
    {abi::feature_poll_32_bits, "poll_32_bits", "5.9"},
    {abi::feature_submission_poll_nonfixed, "submission_poll_nonfixed", "5.11"},
    {abi::feature_extended_argument, "extended_argument", "5.11"},
    {abi::feature_native_workers, "native_workers", "5.12"},
    {abi::feature_resource_tags, "resource_tags", "5.13"},
    {abi::feature_completion_skip, "completion_skip", "5.17"},
    {abi::feature_linked_file, "linked_file", "5.17"},
    {abi::feature_registered_register_ring, "registered_register_ring", "6.3"},
    {abi::feature_bundle, "bundle", "6.10"},
    {abi::feature_min_timeout, "min_timeout", "6.12"},
    {abi::feature_read_write_attributes, "read_write_attributes", "6.14"},
    {abi::feature_no_iowait, "no_iowait", "6.15"},
};

// With each flag goes what the kernel wants beside it, so that a refusal is about the flag itself.
struct SetupTrial {
    const char* name;
    const char* since;
    std::uint32_t flags;
};

constexpr SetupTrial setup_trials[] = {
    {"submission_poll", "5.11", abi::setup_submission_poll},
    {"completion_size", "5.5", abi::setup_completion_size},
    {"clamp", "5.6", abi::setup_clamp},
    {"ring_disabled", "5.10", abi::setup_ring_disabled},
    {"submit_all", "5.18", abi::setup_submit_all},
    {"cooperative_taskrun", "5.19", abi::setup_cooperative_taskrun},
    {"taskrun_flag", "5.19", abi::setup_cooperative_taskrun | abi::setup_taskrun_flag},
    {"entry_128", "5.19", abi::setup_entry_128},
    {"completion_32", "5.19", abi::setup_completion_32},
    {"single_issuer", "6.0", abi::setup_single_issuer},
    {"defer_taskrun", "6.1", abi::setup_single_issuer | abi::setup_defer_taskrun},
    {"no_submission_array", "6.6", abi::setup_no_submission_array},
    {"completion_mixed", "6.18", abi::setup_completion_mixed},
};

void print_wrapped(const std::string& word, std::size_t& column) {
    constexpr std::size_t width = 100;
    if (column + word.size() > width) {
        std::printf("\n   ");
        column = 3;
    }
    std::printf(" %s", word.c_str());
    column += word.size() + 1;
}

void print_operations(const ferrule::Capabilities& capabilities, bool supported) {
    std::size_t column = 3;
    bool any = false;
    std::printf("   ");
    for (unsigned number = 0; number < 256; ++number) {
        const auto operation = static_cast<abi::Operation>(number);
        const char* name = ferrule::name_of(operation);
        const bool known_to_either = name != nullptr || capabilities.supports(operation);
        if (!known_to_either || capabilities.supports(operation) != supported) continue;
        any = true;
        print_wrapped(name != nullptr ? name : "number-" + std::to_string(number), column);
    }
    std::printf(any ? "\n" : " none\n");
}

void print_setup_trials(ferrule::Kernel& kernel) {
    std::printf("\nSetup flags, each tried\n");
    for (const SetupTrial& trial : setup_trials) {
        abi::Parameters parameters{};
        constexpr std::uint32_t entries = 4;
        parameters.flags = trial.flags;
        parameters.cq_entries = (trial.flags & abi::setup_completion_size) != 0 ? 2 * entries : 0;
        const int ring = kernel.io_uring_setup(entries, &parameters);
        if (ring >= 0) kernel.close(ring);
        std::printf("  %-5s  %-26s  %s%s%s\n", ring >= 0 ? "yes" : "no", trial.name, trial.since,
                    ring >= 0 ? "" : ", refused: ", ring >= 0 ? "" : std::strerror(-ring));
    }
}

// What memory is got when it is asked for such pages.
ferrule::HugePages huge_pages_got(ferrule::Kernel& kernel, ferrule::HugePages asked) {
    int error = 0;
    const ferrule::LargeMapping mapping = ferrule::map_large(kernel, ferrule::huge_page_bytes, asked, &error);
    if (mapping.memory == nullptr) return ferrule::HugePages::off;
    kernel.unmap(mapping.base, mapping.size);
    return mapping.pages;
}

// Whether the thread may choose the node of its memory.
int memory_policy_error(ferrule::Kernel& kernel) {
    const int result = kernel.prefer_memory_node(0);
    if (result >= 0) kernel.prefer_memory_node(-1);
    return result < 0 ? -result : 0;
}

struct Tuning {
    const char* option;
    bool works;
    const char* without;
};

// By ReactorOptions and NetworkOptions: what is off by default, and whether it could be on.
void for_each_tuning(ferrule::Kernel& kernel, const ferrule::Capabilities& found, auto&& call) {
    call(Tuning{"ReactorOptions::submission_poll", found.submission_poll, "the reactor submits itself"});
    call(Tuning{"ReactorOptions::napi_busy_poll", found.napi_busy_poll, "interrupts only"});
    call(Tuning{"ReactorOptions::min_wait", found.min_wait, "a wait ends with its first completion"});
    call(Tuning{"ReactorOptions::submission_entries_max", found.resize_rings, "sizes are fixed"});
    call(Tuning{"ReactorOptions::completion_entries_max", found.resize_rings, "sizes are fixed"});
    call(Tuning{"ReactorOptions::bounded_workers", found.worker_limits, "the kernel's own bounds"});
    call(Tuning{"ReactorOptions::unbounded_workers", found.worker_limits, "the kernel's own bounds"});
    call(Tuning{"ReactorOptions::local_memory", memory_policy_error(kernel) == 0, "memory by first touch alone"});
    call(Tuning{"NetworkOptions::huge_pages transparent",
                huge_pages_got(kernel, ferrule::HugePages::transparent) == ferrule::HugePages::transparent,
                "small pages"});
    call(Tuning{"NetworkOptions::huge_pages reserved",
                huge_pages_got(kernel, ferrule::HugePages::reserved) == ferrule::HugePages::reserved,
                "transparent ones, if any: vm.nr_hugepages sets some aside"});
}

void print_tuning(ferrule::Kernel& kernel, const ferrule::Capabilities& found) {
    std::printf("\nWhat is off by default and could be on (docs/tuning.md)\n");
    for_each_tuning(kernel, found, [](const Tuning& tuning) {
        std::printf("  %-5s  %-42s%s\n", tuning.works ? "yes" : "no", tuning.option,
                    tuning.works ? "" : tuning.without);
    });
}

void print_string(const char* text) {
    std::putchar('"');
    for (; *text != '\0'; ++text) {
        const auto letter = static_cast<unsigned char>(*text);
        if (letter == '"' || letter == '\\')
            std::printf("\\%c", letter);
        else if (letter < ' ')
            std::printf("\\u%04x", letter);
        else
            std::putchar(letter);
    }
    std::putchar('"');
}

void print_refusal_as_json(const std::string& message) {
    std::printf("{\"runs\": false, \"reason\": ");
    print_string(message.c_str());
    std::printf("}\n");
}

void print_json(ferrule::Kernel& kernel, const ferrule::Capabilities& found, const ferrule::Ring& ring) {
    std::printf("{\"runs\": true, \"submission_entries\": %u, \"completion_entries\": %u, \"features\": {",
                ring.entries(), ring.completion_entries());
    const char* comma = "";
    const auto flag = [&comma](const char* name, bool set) {
        std::printf("%s", comma);
        print_string(name);
        std::printf(": %s", set ? "true" : "false");
        comma = ", ";
    };
    for (const NamedBit& feature : features) flag(feature.name, (found.features & feature.bit) != 0);
    std::printf("}, \"operations\": {");
    comma = "";
    for (unsigned number = 0; number < abi::operation_count; ++number) {
        const auto operation = static_cast<abi::Operation>(number);
        flag(ferrule::name_of(operation), found.supports(operation));
    }
    std::printf("}, \"options\": {");
    comma = "";
    for_each_tuning(kernel, found, [&flag](const Tuning& tuning) { flag(tuning.option, tuning.works); });
    std::printf("}}\n");
}

void print_features(const ferrule::Capabilities& capabilities) {
    std::printf("\nFeatures, as the kernel reports them (%#x)\n", capabilities.features);
    for (const NamedBit& feature : features) {
        std::printf("  %-5s  %-26s  %s\n", (capabilities.features & feature.bit) != 0 ? "yes" : "no", feature.name,
                    feature.since);
    }
}

}  // namespace

int main(int count, char** words) {
    const bool json = count == 2 && std::strcmp(words[1], "--json") == 0;
    if (count > 1 && !json) {
        std::fprintf(stderr, "usage: doctor [--json]\n");
        return 2;
    }
    ferrule::Kernel& kernel = ferrule::linux_kernel();
    const auto refuse = [json](const std::string& message) {
        if (json)
            print_refusal_as_json(message);
        else
            std::printf("Ferrule cannot run here: %s\n", message.c_str());
        return 1;
    };
    const auto capabilities = ferrule::probe(kernel);
    if (!capabilities) return refuse(capabilities.error().message);
    const auto ring = ferrule::Ring::create(kernel, {});
    if (!ring) return refuse(ring.error().message);
    if (json) {
        print_json(kernel, *capabilities, *ring);
        return 0;
    }
    std::printf("%s", capabilities->describe().c_str());
    print_tuning(kernel, *capabilities);
    print_features(*capabilities);
    print_setup_trials(kernel);
    std::printf("\nOperations that work\n");
    print_operations(*capabilities, true);
    std::printf("\nOperations that Ferrule knows and this kernel lacks\n");
    print_operations(*capabilities, false);
    std::printf("\nA ring with default options: %u submission entries, %u completion entries\n", ring->entries(),
                ring->completion_entries());
    std::printf("Ferrule can run here.\n");
    return 0;
}
