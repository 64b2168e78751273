#include <ferrule/ring/error.hpp>
#include <ferrule/ring/prepare.hpp>

#include "server/restart_channel.hpp"

#include <cerrno>
#include <cstring>
#include <utility>

namespace ferrule::inline v0 {

RestartChannel::~RestartChannel() {
    if (received_descriptor_ >= 0) kernel_.close(received_descriptor_);
    kernel_.close(descriptor_);
}

int RestartChannel::take_descriptor() noexcept {
    return std::exchange(received_descriptor_, -1);
}

std::string RestartChannel::stranger() const {
    ucred peer{};
    socklen_t size = sizeof peer;
    const int result = kernel_.get_option(descriptor_, SOL_SOCKET, SO_PEERCRED, &peer, &size);
    if (result < 0) return "SO_PEERCRED: " + system_error(-result).message();
    if (peer.uid == kernel_.user_identity() || peer.uid == 0) return {};
    return "it belongs to user " + std::to_string(peer.uid) + ", this process to user " +
           std::to_string(kernel_.user_identity());
}

void RestartChannel::prepare_send(std::size_t done, int descriptor) noexcept {
    piece_ = {reinterpret_cast<std::byte*>(&next) + done, sizeof next - done};
    header_ = {};
    header_.msg_iov = &piece_;
    header_.msg_iovlen = 1;
    // With the first byte, and only once.
    if (descriptor < 0 || done != 0) return;
    header_.msg_control = control_.data();
    header_.msg_controllen = control_.size();
    cmsghdr* const control = CMSG_FIRSTHDR(&header_);
    control->cmsg_level = SOL_SOCKET;
    control->cmsg_type = SCM_RIGHTS;
    control->cmsg_len = CMSG_LEN(sizeof descriptor);
    std::memcpy(CMSG_DATA(control), &descriptor, sizeof descriptor);
}

Task<int> RestartChannel::send(int descriptor) {
    for (std::size_t done = 0; done != sizeof next;) {
        prepare_send(done, descriptor);
        auto operation = reactor_->submit(
            "send of a take-over",
            [this](abi::SubmissionEntry& entry) { prepare::send_message(entry, descriptor_, &header_, MSG_NOSIGNAL); },
            OperationMemory::caller);
        const OperationResult ended = co_await operation;
        if (ended.result < 0) co_return -ended.result;
        done += static_cast<std::size_t>(ended.result);
    }
    co_return 0;
}

void RestartChannel::prepare_receive(std::size_t done) noexcept {
    piece_ = {reinterpret_cast<std::byte*>(&received) + done, sizeof received - done};
    header_ = {};
    header_.msg_iov = &piece_;
    header_.msg_iovlen = 1;
    header_.msg_control = control_.data();
    // Without what follows it for its alignment: a second descriptor would have room there.
    header_.msg_controllen = CMSG_LEN(sizeof(int));
}

void RestartChannel::keep_descriptor() noexcept {
    const cmsghdr* const control = CMSG_FIRSTHDR(&header_);
    if (control == nullptr || control->cmsg_level != SOL_SOCKET || control->cmsg_type != SCM_RIGHTS) return;
    if (control->cmsg_len != CMSG_LEN(sizeof(int))) return;
    int descriptor = -1;
    std::memcpy(&descriptor, CMSG_DATA(control), sizeof descriptor);
    // One message has one.
    if (received_descriptor_ >= 0) kernel_.close(received_descriptor_);
    received_descriptor_ = descriptor;
}

Task<int> RestartChannel::receive() {
    if (const int unwanted = take_descriptor(); unwanted >= 0) kernel_.close(unwanted);
    for (std::size_t done = 0; done != sizeof received;) {
        prepare_receive(done);
        auto operation = reactor_->submit(
            "receive of a take-over",
            [this](abi::SubmissionEntry& entry) {
                prepare::receive_message(entry, descriptor_, &header_, MSG_CMSG_CLOEXEC);
            },
            OperationMemory::caller);
        const OperationResult ended = co_await operation;
        if (ended.result < 0) co_return -ended.result;
        keep_descriptor();
        if ((header_.msg_flags & MSG_CTRUNC) != 0) co_return EMFILE;
        if (ended.result == 0) co_return ECONNRESET;
        done += static_cast<std::size_t>(ended.result);
    }
    co_return 0;
}

}  // namespace ferrule::inline v0
