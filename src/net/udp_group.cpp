#include <ferrule/assert.hpp>
#include <ferrule/net/listen_socket.hpp>
#include <ferrule/net/udp_group.hpp>
#include <ferrule/reactor/reactor.hpp>
#include <ferrule/ring/error.hpp>

#include "net/forwarded_datagram.hpp"
#include "net/udp_service.hpp"

#include <linux/filter.h>
#include <sys/socket.h>

#include <array>
#include <cerrno>
#include <cstring>
#include <new>
#include <stdexcept>
#include <utility>

namespace ferrule::inline v0 {

namespace {

constexpr std::uint32_t key_offset_max = 65535;
constexpr std::size_t sockets_max = 65535;

std::unexpected<UdpError> invalid(const char* message) {
    return std::unexpected(UdpError{system_error(EINVAL), message});
}

/// `struct sock_filter` loads of so many bytes.
std::uint16_t load_of(std::uint32_t width) noexcept {
    const int size = width == 1 ? BPF_B : width == 2 ? BPF_H : BPF_W;
    return static_cast<std::uint16_t>(BPF_LD | size | BPF_ABS);
}

}  // namespace

UdpGroup::UdpGroup(Kernel& kernel, std::size_t count, UdpSocketOptions options, std::optional<DatagramKey> key)
    : kernel_(&kernel), options_(std::move(options)), key_(key), members_(count) {}

UdpGroup::~UdpGroup() {
    for (const Member& member : members_) {
        if (member.descriptor >= 0) kernel_->close(member.descriptor);
    }
}

std::expected<std::shared_ptr<UdpGroup>, UdpError> UdpGroup::open(std::size_t count, UdpSocketOptions options,
                                                                  std::optional<DatagramKey> key, Kernel& kernel) {
    if (count == 0 || count > sockets_max) return invalid("UdpGroup: count must be 1 to 65535");
    if (key && key->width != 1 && key->width != 2 && key->width != 4)
        return invalid("DatagramKey::width must be 1, 2 or 4");
    if (key && key->offset > key_offset_max) return invalid("DatagramKey::offset must be at most 65535");
    // Joining a port would succeed, and share its datagrams with whoever has it.
    options.reuse_port = false;
    if (options.address.port() != 0) {
        const auto trial = UdpService::open_descriptor(kernel, options);
        if (!trial) return std::unexpected(trial.error());
        kernel.close(*trial);
    }
    options.reuse_port = true;
    const std::shared_ptr<UdpGroup> group{new UdpGroup(kernel, count, std::move(options), key)};
    for (std::size_t index = 0; index < count; ++index) {
        const auto descriptor = UdpService::open_descriptor(kernel, group->options_);
        if (!descriptor) return std::unexpected(descriptor.error());
        group->members_[index].descriptor = *descriptor;
        if (index != 0) continue;
        const auto address = local_address(kernel, *descriptor);
        if (!address) {
            return std::unexpected(UdpError{address.error(), "getsockname of " + group->options_.address.to_string() +
                                                                 ": " + address.error().message()});
        }
        group->options_.address = *address;
    }
    group->steered_ = key && group->steer();
    return group;
}

bool UdpGroup::steer() noexcept {
    // Out of range: by the hash.
    constexpr std::uint32_t nobody = 0xffff'ffff;
    const std::array<sock_filter, 6> program{{
        BPF_STMT(BPF_LD | BPF_W | BPF_LEN, 0),
        BPF_JUMP(BPF_JMP | BPF_JGE | BPF_K, key_->offset + key_->width, 1, 0),
        BPF_STMT(BPF_RET | BPF_K, nobody),
        BPF_STMT(load_of(key_->width), key_->offset),
        BPF_STMT(BPF_ALU | BPF_MOD | BPF_K, static_cast<std::uint32_t>(members_.size())),
        BPF_STMT(BPF_RET | BPF_A, 0),
    }};
    const sock_fprog attached{.len = program.size(), .filter = const_cast<sock_filter*>(program.data())};
    return kernel_->set_option(members_.front().descriptor, SOL_SOCKET, SO_ATTACH_REUSEPORT_CBPF, &attached,
                               sizeof attached) == 0;
}

std::expected<UdpSocket, UdpError> UdpGroup::take(Reactor& reactor, std::size_t index) {
    reactor.check_thread("UdpGroup::take");
    if (index >= members_.size()) throw std::logic_error("UdpGroup::take: there is no socket of this number");
    Member& member = members_[index];
    if (member.descriptor < 0) throw std::logic_error("UdpGroup::take: this socket was taken before");
    const auto state = UdpService::of(reactor).adopt(member.descriptor, options_);
    if (!state) return std::unexpected(state.error());
    member.descriptor = -1;
    member.inbox = reactor.inbox();
    member.state = *state;
    (*state)->group = shared_from_this();
    (*state)->group_index = index;
    member.taken.store(true, std::memory_order_release);
    return UdpSocket{*state};
}

std::optional<std::size_t> UdpGroup::owner_of(std::span<const std::byte> payload) const noexcept {
    if (!key_ || payload.size() < key_->offset + key_->width) return std::nullopt;
    std::uint32_t number = 0;
    for (const std::byte byte : payload.subspan(key_->offset, key_->width))
        number = number << 8 | std::to_integer<std::uint32_t>(byte);
    return number % members_.size();
}

bool UdpGroup::forward(const Datagram& datagram, std::span<const std::byte> bytes) {
    if (!datagram) return false;
    const std::optional<std::size_t> owner = owner_of(bytes);
    if (!owner || !members_[*owner].taken.load(std::memory_order_acquire)) return false;
    const DatagramNode& received = *datagram.node_;
    UdpSocketState& socket = *received.socket;
    ForwardedDatagram* copy =
        ForwardedDatagram::make(received, socket.payload_offset, bytes, shared_from_this(), *owner);
    if (copy == nullptr) return false;
    socket.reactor->send_later(members_[*owner].inbox, *copy);
    return true;
}

// ---- ForwardedDatagram ----

ForwardedDatagram::ForwardedDatagram(std::shared_ptr<UdpGroup> owning_group, std::size_t owner) noexcept
    : group(std::move(owning_group)), index(owner) {
    run = &ForwardedDatagram::arrive;
    forwarded = true;
}

ForwardedDatagram* ForwardedDatagram::make(const DatagramNode& received, std::size_t described_bytes,
                                           std::span<const std::byte> bytes, std::shared_ptr<UdpGroup> group,
                                           std::size_t index) noexcept {
    void* const block = ::operator new(sizeof(ForwardedDatagram) + described_bytes + bytes.size(), std::nothrow);
    if (block == nullptr) return nullptr;
    auto* const made = new (block) ForwardedDatagram(std::move(group), index);
    made->memory = reinterpret_cast<std::byte*>(made + 1);
    made->payload = made->memory + described_bytes;
    made->length = static_cast<std::uint32_t>(bytes.size());
    made->truncated = received.truncated;
    std::memcpy(made->memory, received.memory, described_bytes);
    if (!bytes.empty()) std::memcpy(made->payload, bytes.data(), bytes.size());
    return made;
}

void ForwardedDatagram::release(DatagramNode& node) noexcept {
    auto* const self = static_cast<ForwardedDatagram*>(&node);
    self->~ForwardedDatagram();
    ::operator delete(self);
}

void ForwardedDatagram::arrive(Message* message, bool delivered) noexcept {
    auto* const self = static_cast<ForwardedDatagram*>(message);
    UdpSocketState* const state = delivered ? self->group->member(self->index).state : nullptr;
    // The group is the socket's too, and must not be kept by what its queue holds.
    self->group.reset();
    if (state == nullptr) {
        release(*self);
    } else {
        state->service->deliver(*state, *self);
    }
}

}  // namespace ferrule::inline v0
