#pragma once

#include <time.h>

#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <iterator>
#include <random>
#include <string>
#include <string_view>
#include <vector>

/// What the parsers of HTTP have in common that are measured against each other: the requests and the clock.
namespace http_parse {

/// Requests with four fields each, as browsers and programs send them, of many lengths: a predictor of branches cannot
/// know them by heart. The same ones for everybody.
class Requests {
public:
    Requests() {
        constexpr std::string_view agents[] = {
            "curl/7.88.1",
            "python-requests/2.31.0",
            "Mozilla/5.0 (X11; Linux x86_64; rv:128.0) Gecko/20100101 Firefox/128.0",
            "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/126.0.0.0 "
            "Safari/537.36",
        };
        constexpr std::string_view accepts[] = {"*/*", "application/json", "text/html,application/xhtml+xml,*/*;q=0.8"};
        constexpr std::string_view encodings[] = {"gzip", "gzip, deflate", "gzip, deflate, br"};
        constexpr std::string_view hosts[] = {"localhost:8080", "example.com", "api.service.internal:8443"};
        std::minstd_rand random(1);
        const auto one_of = [&random](const auto& choices) { return choices[random() % std::size(choices)]; };
        for (std::size_t index = 0; index < count; ++index) {
            std::string request = "GET /items/" + std::to_string(random() % 100'000);
            if (random() % 2 == 0) request += "?page=" + std::to_string(random() % 100) + "&sort=name";
            request.append(" HTTP/1.1\r\nHost: ").append(one_of(hosts));
            request.append("\r\nUser-Agent: ").append(one_of(agents));
            request.append("\r\nAccept: ").append(one_of(accepts));
            request.append("\r\nAccept-Encoding: ").append(one_of(encodings)).append("\r\n\r\n");
            begins_.push_back(bytes_.size());
            bytes_ += request;
        }
        begins_.push_back(bytes_.size());
    }

    static constexpr std::size_t count = 256;
    /// A request alone: nothing may be read behind it.
    [[nodiscard]] std::string_view operator[](std::size_t index) const {
        const std::size_t begin = begins_[index % count];
        return std::string_view(bytes_).substr(begin, begins_[index % count + 1] - begin);
    }

private:
    std::string bytes_;
    std::vector<std::size_t> begins_;
};

inline double now_ns(clockid_t clock) {
    timespec time{};
    if (clock_gettime(clock, &time) != 0) std::abort();
    return static_cast<double>(time.tv_sec) * 1e9 + static_cast<double>(time.tv_nsec);
}

/// Parses `amount` requests, and prints what each cost. `parse(bytes)` is given a request, and returns what it has
/// found, in one number.
template <class Parse>
int measure(std::uint64_t amount, Parse parse) {
    const Requests requests;
    std::uint64_t found = 0;
    // CPU time leaves out the time in which others had the CPU; how much that was says how far to trust the rest.
    const double begun_ns = now_ns(CLOCK_MONOTONIC);
    const double cpu_begun_ns = now_ns(CLOCK_PROCESS_CPUTIME_ID);
    for (std::uint64_t index = 0; index < amount; ++index) found += parse(requests[index]);
    const double cpu_ns = now_ns(CLOCK_PROCESS_CPUTIME_ID) - cpu_begun_ns;
    const double elapsed_ns = now_ns(CLOCK_MONOTONIC) - begun_ns;
    if (found == 0) return 1;
    std::printf("%.2f ns per request, on the CPU for %.1f %% of the time\n", cpu_ns / static_cast<double>(amount),
                100 * cpu_ns / elapsed_ns);
    return 0;
}

}  // namespace http_parse
