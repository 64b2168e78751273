// Requests changed at random, against what must always be true of the parsers: see checks.hpp.
// `http_fuzz --executions N --seed S`: the same ones for the same numbers, anywhere. With `--emit 1` nothing is
// checked; each stream is printed with what Ferrule takes of it, in hexadecimal digits, for another parser to compare:
// node_differential.js.
#include "http/fuzz/checks.hpp"
#include "http/fuzz/mutation.hpp"
#include "http/messages.hpp"
#include "http/parsing.hpp"
#include "http/probe_cases.hpp"

#include <cstdio>
#include <cstdlib>
#include <exception>
#include <string>
#include <string_view>

namespace {

using namespace ferrule_test;

std::vector<std::string> corpus() {
    std::vector<std::string> texts;
    constexpr std::size_t size_max = 2048;
    for (const ProbeCase& one : read_probe_cases(PROBE_CASES))
        for (const std::string& step : one.steps)
            if (!step.empty() && step.size() <= size_max) texts.push_back(step);
    return texts;
}

void print(std::string_view text) {
    for (const char letter : text) std::printf("%02x", static_cast<unsigned>(static_cast<unsigned char>(letter)));
}

// A line: the stream, and behind a space each request, its parts with commas between.
int emit(std::uint64_t executions, std::uint64_t seed) {
    Mutation mutation(corpus(), seed);
    for (std::uint64_t index = 0; index < executions; ++index) {
        const std::string stream = mutation.next();
        print(stream);
        for (const Message& message : messages_of(stream)) {
            if (message.has_framing_trailers || message.has_tab_behind_framing) break;
            std::printf(" ");
            print(message.method);
            std::printf(",");
            print(message.target);
            std::printf(",");
            print(message.body);
            for (const auto& [name, value] : message.fields) {
                std::printf(",");
                print(name);
                std::printf(",");
                print(value);
            }
        }
        std::printf("\n");
    }
    return 0;
}

int run(std::uint64_t executions, std::uint64_t seed) {
    Mutation mutation(corpus(), seed);
    FuzzCounts counts;
    for (std::uint64_t index = 0; index < executions; ++index) {
        const std::string stream = mutation.next();
        const std::string wrong = check_stream(stream, mutation.number(), counts);
        if (!wrong.empty()) {
            std::fprintf(stderr, "http_fuzz: execution %llu of seed %llu: %s\n%s\n",
                         static_cast<unsigned long long>(index), static_cast<unsigned long long>(seed), wrong.c_str(),
                         shown(stream).c_str());
            return 1;
        }
    }
    std::printf("%llu streams: %llu heads taken, %llu refused, %llu chunked bodies\n",
                static_cast<unsigned long long>(counts.executions), static_cast<unsigned long long>(counts.taken),
                static_cast<unsigned long long>(counts.refused), static_cast<unsigned long long>(counts.bodies));
    // A corpus of which nothing is taken, or nothing refused, would show nothing.
    return executions < 1000 || (counts.taken > 0 && counts.refused > 0 && counts.bodies > 0) ? 0 : 1;
}

}  // namespace

int main(int count, char** arguments) try {
    std::uint64_t executions = 100'000;
    std::uint64_t seed = 1;
    bool emits = false;
    for (int index = 1; index + 1 < count; index += 2) {
        const std::string_view option = arguments[index];
        const std::uint64_t value = std::strtoull(arguments[index + 1], nullptr, 10);
        if (option == "--executions") executions = value;
        if (option == "--seed") seed = value;
        if (option == "--emit") emits = value != 0;
    }
    return emits ? emit(executions, seed) : run(executions, seed);
} catch (const std::exception& error) {
    std::fprintf(stderr, "http_fuzz: %s\n", error.what());
    return 2;
}
