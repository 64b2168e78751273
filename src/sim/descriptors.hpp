#pragma once

#include "sim/file.hpp"

#include <cstddef>
#include <cstdint>
#include <memory>
#include <vector>

namespace ferrule::inline v0::sim {

/// The descriptors of a simulated machine, whose processes share the numbers: the lowest free one is given first, as
/// POSIX says, so a number that is closed too early is soon another file's.
class Descriptors {
public:
    /// `limit` as RLIMIT_NOFILE.
    explicit Descriptors(std::uint32_t limit) : limit_(limit) {}

    /// The file; null when the number is not open.
    [[nodiscard]] std::shared_ptr<File> get(int fd) const noexcept;
    /// A descriptor for the file, or -EMFILE.
    int install(std::shared_ptr<File> file);
    /// Takes the file out, which the descriptor uses no more (File::release); null when the number is not open.
    std::shared_ptr<File> remove(int fd) noexcept;

    void limit(std::uint32_t descriptors) noexcept { limit_ = descriptors; }
    [[nodiscard]] std::uint32_t limit() const noexcept { return limit_; }
    /// Whether `install` would find no number.
    [[nodiscard]] bool full() const noexcept;
    /// Open now.
    [[nodiscard]] std::uint32_t count() const noexcept { return count_; }

private:
    std::vector<std::shared_ptr<File>> files_;
    std::size_t lowest_free_ = 0;
    std::uint32_t limit_;
    std::uint32_t count_ = 0;
};

}  // namespace ferrule::inline v0::sim
