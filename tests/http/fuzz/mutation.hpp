#pragma once

#include <cstddef>
#include <cstdint>
#include <random>
#include <string>
#include <vector>

namespace ferrule_test {

// Makes streams of requests: one or more of a corpus, changed where parsers are careless.
class Mutation {
public:
    // Of streams that are shorter than a few KiB: long ones say nothing that short ones do not, and cost more.
    Mutation(std::vector<std::string> corpus, std::uint64_t seed) : corpus_(std::move(corpus)), random_(seed) {}

    // The next stream.
    std::string next();
    // A number for whoever needs one.
    std::uint64_t number() { return random_(); }

private:
    std::size_t below(std::size_t bound) { return bound == 0 ? 0 : static_cast<std::size_t>(random_() % bound); }
    template <class Choices>
    const auto& one_of(const Choices& choices) {
        return choices[below(std::size(choices))];
    }
    void change(std::string& text);
    void change_line(std::string& text);

    std::vector<std::string> corpus_;
    std::mt19937_64 random_;
};

}  // namespace ferrule_test
