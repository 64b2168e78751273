// Idle connections, each of which has had one request answered.
#include "modes.hpp"

#include <cstdio>

namespace load {

int run_hold(const Options& options) {
    const std::string head = request(options, false);
    const std::vector<unsigned> steps =
        options.steps.empty() ? std::vector<unsigned>{options.connections} : options.steps;
    unsigned open = 0;
    for (const unsigned step : steps) {
        for (; open < step; ++open) ask(connect_blocking(options, open), head);
        std::printf("READY %u\n", open);
        std::fflush(stdout);
        int byte = 0;
        while ((byte = std::getchar()) != '\n') {
            if (byte == EOF) return 0;
        }
    }
    return 0;
}

}  // namespace load
