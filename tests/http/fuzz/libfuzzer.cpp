// The checks of checks.hpp as a target of libFuzzer: `http_libfuzzer -runs=N corpus/`.
#include "http/fuzz/checks.hpp"

#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <string>
#include <string_view>

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    static constexpr std::uint64_t choice = 0x9e3779b97f4a7c15;
    ferrule_test::FuzzCounts counts;
    const std::string_view bytes(reinterpret_cast<const char*>(data), size);
    const std::string wrong = ferrule_test::check_stream(bytes, choice ^ size, counts);
    if (!wrong.empty()) {
        std::fprintf(stderr, "%s\n", wrong.c_str());
        std::abort();
    }
    return 0;
}
