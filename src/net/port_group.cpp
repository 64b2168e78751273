#include <ferrule/net/port_group.hpp>

#include <linux/filter.h>
#include <sys/socket.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstdint>

namespace ferrule::inline v0 {

void PortGroup::add(int descriptor) {
    const std::lock_guard lock(mutex_);
    descriptors_.push_back(descriptor);
}

bool PortGroup::leave(Kernel& kernel, int descriptor) noexcept {
    const std::lock_guard lock(mutex_);
    const auto found = std::find(descriptors_.begin(), descriptors_.end(), descriptor);
    if (found == descriptors_.end() || descriptors_.size() < 2 || shared_with_others_) return false;
    const auto index = static_cast<std::uint32_t>(found - descriptors_.begin());
    const auto others = static_cast<std::uint32_t>(descriptors_.size() - 1);
    // The number of a socket: random below the number of the others, one higher from this one's place on.
    std::array<sock_filter, 5> program{{
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, static_cast<std::uint32_t>(SKF_AD_OFF + SKF_AD_RANDOM)),
        BPF_STMT(BPF_ALU | BPF_MOD | BPF_K, others),
        BPF_JUMP(BPF_JMP | BPF_JGE | BPF_K, index, 0, 1),
        BPF_STMT(BPF_ALU | BPF_ADD | BPF_K, 1),
        BPF_STMT(BPF_RET | BPF_A, 0),
    }};
    const sock_fprog attached{.len = program.size(), .filter = program.data()};
    selecting_ = kernel.set_option(descriptor, SOL_SOCKET, SO_ATTACH_REUSEPORT_CBPF, &attached, sizeof attached) == 0;
    return selecting_;
}

bool PortGroup::select_first(Kernel& kernel, std::size_t count) noexcept {
    const std::lock_guard lock(mutex_);
    if (descriptors_.empty() || count == 0 || shared_with_others_) return false;
    if (count >= descriptors_.size()) {
        const int on = 1;
        const int detached =
            kernel.set_option(descriptors_.front(), SOL_SOCKET, SO_DETACH_REUSEPORT_BPF, &on, sizeof on);
        selecting_ = detached < 0 && detached != -ENOENT;
        return !selecting_;
    }
    std::array<sock_filter, 3> program{{
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, static_cast<std::uint32_t>(SKF_AD_OFF + SKF_AD_RANDOM)),
        BPF_STMT(BPF_ALU | BPF_MOD | BPF_K, static_cast<std::uint32_t>(count)),
        BPF_STMT(BPF_RET | BPF_A, 0),
    }};
    const sock_fprog attached{.len = program.size(), .filter = program.data()};
    selecting_ =
        kernel.set_option(descriptors_.front(), SOL_SOCKET, SO_ATTACH_REUSEPORT_CBPF, &attached, sizeof attached) == 0;
    return selecting_;
}

std::vector<int> PortGroup::descriptors() const {
    const std::lock_guard lock(mutex_);
    return descriptors_;
}

void PortGroup::remove(int descriptor) noexcept {
    const auto found = std::find(descriptors_.begin(), descriptors_.end(), descriptor);
    if (found == descriptors_.end()) return;
    *found = descriptors_.back();
    descriptors_.pop_back();
}

void PortGroup::abandon(Kernel& kernel, int descriptor) noexcept {
    const std::lock_guard lock(mutex_);
    remove(descriptor);
    kernel.shutdown(descriptor, SHUT_RDWR);
}

void PortGroup::close(Kernel& kernel, int descriptor) noexcept {
    const std::lock_guard lock(mutex_);
    remove(descriptor);
    kernel.close(descriptor);
    if (descriptors_.empty() || !selecting_) return;
    // Only now, through a socket that stays: detached before, the program would let the leaving one be chosen again.
    const int on = 1;
    selecting_ = kernel.set_option(descriptors_.front(), SOL_SOCKET, SO_DETACH_REUSEPORT_BPF, &on, sizeof on) != 0;
}

std::size_t PortGroup::size() const noexcept {
    const std::lock_guard lock(mutex_);
    return descriptors_.size();
}

}  // namespace ferrule::inline v0
