#include "sim/file.hpp"

#include <poll.h>

#include <cerrno>

namespace ferrule::inline v0::sim {

FileWaiter::~FileWaiter() {
    leave();
}

void FileWaiter::leave() noexcept {
    if (file_ == nullptr) return;
    (previous_ != nullptr ? previous_->next_ : file_->first_) = next_;
    (next_ != nullptr ? next_->previous_ : file_->last_) = previous_;
    // Those who are telling the list pass over this one.
    for (File::Notification* notification = file_->notifications_; notification != nullptr;
         notification = notification->outer) {
        if (notification->next == this) notification->next = next_;
    }
    file_ = nullptr;
    next_ = nullptr;
    previous_ = nullptr;
}

File::~File() {
    while (first_ != nullptr) first_->leave();
}

std::int64_t File::read(std::span<std::byte>) noexcept {
    return -EINVAL;
}
std::int64_t File::write(std::span<const std::byte>) noexcept {
    return -EINVAL;
}
std::int64_t File::read_at(std::span<std::byte> into, std::uint64_t, bool) noexcept {
    return read(into);
}
std::int64_t File::write_at(std::span<const std::byte> from, std::uint64_t) noexcept {
    return write(from);
}
int File::synchronise() noexcept {
    return -EINVAL;
}
std::int64_t File::receive(std::span<std::byte>, int) noexcept {
    return -ENOTSOCK;
}
std::int64_t File::send(std::span<const std::byte>, int) noexcept {
    return -ENOTSOCK;
}
std::int64_t File::send_message(std::span<const std::byte> from, const Ancillary& with, int flags) noexcept {
    return with.control.empty() ? send(from, flags) : -EINVAL;
}
std::int64_t File::receive_message(std::span<std::byte> into, Ancillary&, int flags) noexcept {
    return receive(into, flags);
}
std::expected<std::shared_ptr<File>, int> File::accept(sockaddr*, socklen_t*) noexcept {
    return std::unexpected(-ENOTSOCK);
}
int File::connect(const sockaddr*, socklen_t) noexcept {
    return -ENOTSOCK;
}
int File::bind(const sockaddr*, socklen_t) noexcept {
    return -ENOTSOCK;
}
int File::listen(int) noexcept {
    return -ENOTSOCK;
}
int File::shutdown(int) noexcept {
    return -ENOTSOCK;
}
int File::set_option(int, int, const void*, socklen_t) noexcept {
    return -ENOTSOCK;
}
int File::get_option(int, int, void*, socklen_t*) noexcept {
    return -ENOTSOCK;
}
int File::socket_name(sockaddr*, socklen_t*) noexcept {
    return -ENOTSOCK;
}
int File::peer_name(sockaddr*, socklen_t*) noexcept {
    return -ENOTSOCK;
}

void File::wait(FileWaiter& waiter, std::uint32_t wanted) noexcept {
    waiter.leave();
    waiter.file_ = this;
    waiter.wanted_ = wanted | POLLERR | POLLHUP;
    waiter.previous_ = last_;
    (last_ != nullptr ? last_->next_ : first_) = &waiter;
    last_ = &waiter;
}

void File::notify(std::uint32_t events) noexcept {
    Notification notification{first_, notifications_};
    notifications_ = &notification;
    while (FileWaiter* const waiter = notification.next) {
        notification.next = waiter->next_;
        if ((waiter->wanted_ & events) != 0) waiter->ready(events & waiter->wanted_);
    }
    notifications_ = notification.outer;
}

}  // namespace ferrule::inline v0::sim
