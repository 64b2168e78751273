#include "sim/descriptors.hpp"

#include <algorithm>
#include <cerrno>
#include <utility>

namespace ferrule::inline v0::sim {

namespace {
/// 0, 1 and 2 are the standard streams'.
constexpr std::size_t first_descriptor = 3;
}  // namespace

std::shared_ptr<File> Descriptors::get(int fd) const noexcept {
    if (fd < 0 || static_cast<std::size_t>(fd) >= files_.size()) return nullptr;
    return files_[static_cast<std::size_t>(fd)];
}

int Descriptors::install(std::shared_ptr<File> file) {
    std::size_t number = std::max(lowest_free_, first_descriptor);
    while (number < files_.size() && files_[number] != nullptr) ++number;
    if (number >= limit_) return -EMFILE;
    if (number >= files_.size()) files_.resize(number + 1);
    lowest_free_ = number + 1;
    file->acquire();
    files_[number] = std::move(file);
    ++count_;
    return static_cast<int>(number);
}

bool Descriptors::full() const noexcept {
    return count_ + first_descriptor >= limit_;
}

std::shared_ptr<File> Descriptors::remove(int fd) noexcept {
    if (get(fd) == nullptr) return nullptr;
    const auto number = static_cast<std::size_t>(fd);
    lowest_free_ = std::min(lowest_free_, number);
    std::shared_ptr<File> file = std::exchange(files_[number], nullptr);
    --count_;
    file->release();
    return file;
}

}  // namespace ferrule::inline v0::sim
