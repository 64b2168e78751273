#pragma once

#include <cstdint>
#include <string>
#include <string_view>

namespace ferrule_test {

// What a fuzzer counts.
struct FuzzCounts {
    std::uint64_t executions = 0;
    std::uint64_t taken = 0;    // heads that were complete
    std::uint64_t refused = 0;  // that were refused
    std::uint64_t bodies = 0;   // chunked bodies that were complete
};

// Holds what must always be true of a stream of requests against the parsers:
//
//   - what is found, and what is refused, is the same at once, in two pieces, in several, and byte by byte;
//   - it is the same with VectorScan and with PortableScan;
//   - what lies behind a head changes nothing about it: no request's bytes reach into another;
//   - every position lies in the head, and a head that is written again from what was found means the same;
//   - a chunked body is the same in any pieces, and written again in one chunk it is the same body.
//
// Memory is of exactly the size of what is given, so that AddressSanitizer sees a byte read outside. `choice` decides
// where the pieces are cut. Returns what does not hold; empty: everything does.
std::string check_stream(std::string_view bytes, std::uint64_t choice, FuzzCounts& counts);

}  // namespace ferrule_test
