// Tells what the running kernel's io_uring has, what Ferrule makes of it, and what Ferrule does without what is
// missing. The second half of `./ferrule doctor`: exit status 1 when Ferrule cannot run here, with the reason.
#include <ferrule/ring/abi.hpp>
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

void print_features(const ferrule::Capabilities& capabilities) {
    std::printf("\nFeatures, as the kernel reports them (%#x)\n", capabilities.features);
    for (const NamedBit& feature : features) {
        std::printf("  %-5s  %-26s  %s\n", (capabilities.features & feature.bit) != 0 ? "yes" : "no", feature.name,
                    feature.since);
    }
}

}  // namespace

int main() {
    ferrule::Kernel& kernel = ferrule::linux_kernel();
    const auto capabilities = ferrule::probe(kernel);
    if (!capabilities) {
        std::printf("Ferrule cannot run here: %s\n", capabilities.error().message.c_str());
        return 1;
    }
    std::printf("%s", capabilities->describe().c_str());
    print_features(*capabilities);
    print_setup_trials(kernel);
    std::printf("\nOperations that work\n");
    print_operations(*capabilities, true);
    std::printf("\nOperations that Ferrule knows and this kernel lacks\n");
    print_operations(*capabilities, false);

    const auto ring = ferrule::Ring::create(kernel, {});
    if (!ring) {
        std::printf("\nFerrule cannot run here: %s\n", ring.error().message.c_str());
        return 1;
    }
    std::printf("\nA ring with default options: %u submission entries, %u completion entries\n", ring->entries(),
                ring->completion_entries());
    std::printf("Ferrule can run here.\n");
    return 0;
}
