#include <ferrule/assert.hpp>
#include <ferrule/net/udp_group.hpp>
#include <ferrule/ring/error.hpp>
#include <ferrule/ring/prepare.hpp>

#include "net/udp_service.hpp"

#include <netinet/in.h>
#include <netinet/udp.h>
#include <sys/socket.h>

#include <bit>
#include <cerrno>
#include <new>
#include <string>
#include <string_view>
#include <utility>

namespace ferrule::inline v0 {

namespace {

/// Bytes of all datagrams that wait to be sent on a reactor, whatever the limits of its sockets, and bytes kept for
/// reuse.
constexpr std::uint64_t send_memory_max = 1ull << 30;
constexpr std::uint64_t send_memory_kept = 4ull << 20;
constexpr LogCause buffer_cut{.name = "udp-buffer-cut", .burst = 4};
constexpr std::uint32_t datagram_bytes_max = 65535;
/// A buffer begins where a control message may.
constexpr std::uint32_t buffer_alignment = 64;

std::unexpected<UdpError> failure(std::string_view operation, const Address& address, int error_number) {
    UdpError error{system_error(error_number), {}};
    error.message = std::string(operation) + ' ' + address.to_string() + ": " + error.code.message();
    return std::unexpected(std::move(error));
}

std::unexpected<UdpError> invalid(std::string message) {
    return std::unexpected(UdpError{system_error(EINVAL), "UdpSocketOptions::" + std::move(message)});
}

std::expected<void, UdpError> check(const UdpSocketOptions& options) {
    const AddressFamily family = options.address.family();
    if (family == AddressFamily::unix_domain) return failure("UDP socket for", options.address, EAFNOSUPPORT);
    if (!std::has_single_bit(options.receive_buffer_count) || options.receive_buffer_count > BufferRing::buffers_max)
        return invalid("receive_buffer_count must be a power of two of at most 32768");
    if (options.datagram_size_max == 0 || options.datagram_size_max > datagram_bytes_max)
        return invalid("datagram_size_max must be 1 to 65535");
    if (options.send_limit == 0) return invalid("send_limit must be at least 1");
    return {};
}

int set_flag(Kernel& kernel, int descriptor, int level, int name, int value) noexcept {
    return kernel.set_option(descriptor, level, name, &value, sizeof value);
}

int flag_of(Kernel& kernel, int descriptor, int level, int name) noexcept {
    int value = 0;
    socklen_t size = sizeof value;
    return kernel.get_option(descriptor, level, name, &value, &size) < 0 ? 0 : value;
}

/// Asks for so much; the kernel cuts silently what is too much.
int ask_for_bytes(Kernel& kernel, int descriptor, std::uint32_t bytes, int name) noexcept {
    return bytes == 0 ? 0 : set_flag(kernel, descriptor, SOL_SOCKET, name, static_cast<int>(bytes));
}

/// Says so when the system gives less than was asked for. It counts twice what it gives.
void say_limit(Reactor& reactor, const Address& address, std::uint32_t asked, std::uint32_t counted,
               const char* limit) {
    const std::uint32_t given = counted / 2;
    if (given >= asked) return;
    reactor.log.write(buffer_cut, "UDP socket %s: %u bytes of socket buffer were asked for, the system gives %u (%s)",
                      address.to_string().c_str(), asked, given, limit);
}

/// What is set before bind, so that no datagram comes without it. Null, or the name of what failed.
const char* prepare_socket(Kernel& kernel, int descriptor, const Address& address, const UdpSocketOptions& options,
                           int& result) {
    const bool ipv6 = address.family() == AddressFamily::ipv6;
    struct Option {
        const char* name;
        bool wanted;
        int level;
        int option;
        int value;
    };
    const Option wanted[] = {
        {"IPV6_V6ONLY for", ipv6, IPPROTO_IPV6, IPV6_V6ONLY, options.dual_stack ? 0 : 1},
        {"SO_REUSEPORT for", options.reuse_port, SOL_SOCKET, SO_REUSEPORT, 1},
        {"IPV6_RECVTCLASS for", options.ecn && ipv6, IPPROTO_IPV6, IPV6_RECVTCLASS, 1},
        // Also on an IPv6 socket, for what comes by IPv4.
        {"IP_RECVTOS for", options.ecn && (!ipv6 || options.dual_stack), IPPROTO_IP, IP_RECVTOS, 1},
        {"IPV6_RECVPKTINFO for", options.packet_info && ipv6, IPPROTO_IPV6, IPV6_RECVPKTINFO, 1},
        {"IP_PKTINFO for", options.packet_info && !ipv6, IPPROTO_IP, IP_PKTINFO, 1},
    };
    for (const Option& option : wanted) {
        if (!option.wanted) continue;
        result = set_flag(kernel, descriptor, option.level, option.option, option.value);
        if (result < 0) return option.name;
    }
    result = ask_for_bytes(kernel, descriptor, options.socket_receive_bytes, SO_RCVBUF);
    if (result < 0) return "SO_RCVBUF for";
    result = ask_for_bytes(kernel, descriptor, options.socket_send_bytes, SO_SNDBUF);
    if (result < 0) return "SO_SNDBUF for";
    // Without it datagrams come one by one, which is only slower.
    if (options.gro) static_cast<void>(set_flag(kernel, descriptor, SOL_UDP, UDP_GRO, 1));
    return nullptr;
}

}  // namespace

// ---- making and ending ----

UdpService::UdpService(Reactor& reactor)
    : reactor_(&reactor), slabs_(reactor.memory_account, send_memory_max, send_memory_kept) {
    receive_kind_ = reactor.add_completion_route(this, &UdpService::on_receive);
    send_kind_ = reactor.add_completion_route(this, &UdpService::on_send);
    close_kind_ = reactor.add_completion_route(this, &UdpService::on_close);
    totals_registered_ = reactor.metrics()->add(totals_);
    reactor.add_subsystem(*this);
}

UdpService::~UdpService() {
    reactor_->remove_subsystem(*this);
    for (Slot& slot : slots_) {
        UdpSocketState* state = std::exchange(slot.state, nullptr);
        if (state == nullptr) continue;
        if (state->descriptor >= 0) reactor_->kernel().close(std::exchange(state->descriptor, -1));
        while (state->send_first != nullptr) {
            SendNode& node = *std::exchange(state->send_first, state->send_first->next);
            free_node(*state, node);
        }
        while (state->received_first != nullptr)
            give_back(*std::exchange(state->received_first, state->received_first->next));
        leave_group(*state);
        // What the program still has of it ends it.
        state->operations = 0;
        state->arm_wanted = state->in_send_list = false;
        state->service = nullptr;
        settle(*state);
    }
}

UdpService& UdpService::of(Reactor& reactor) {
    if (UdpService* service = reactor.find_service<UdpService>()) return *service;
    return reactor.add_service<UdpService>(reactor);
}

std::expected<int, UdpError> UdpService::open_descriptor(Kernel& kernel, const UdpSocketOptions& options) {
    if (auto checked = check(options); !checked) return std::unexpected(std::move(checked.error()));
    const Address address = options.address.family() == AddressFamily::none ? Address::any(0) : options.address;
    const int descriptor = kernel.socket(address.data()->sa_family, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    if (descriptor < 0) return failure("UDP socket for", address, -descriptor);
    int result = 0;
    const char* failed = prepare_socket(kernel, descriptor, address, options, result);
    if (failed == nullptr) {
        result = kernel.bind(descriptor, address.data(), address.size());
        if (result >= 0) return descriptor;
        failed = "bind";
    }
    kernel.close(descriptor);
    return failure(failed, address, -result);
}

std::expected<UdpSocketState*, UdpError> UdpService::adopt(int descriptor, const UdpSocketOptions& options) {
    Kernel& kernel = reactor_->kernel();
    auto state = std::make_unique<UdpSocketState>();
    sockaddr_storage name{};
    socklen_t name_size = sizeof name;
    if (const int result = kernel.socket_name(descriptor, reinterpret_cast<sockaddr*>(&name), &name_size); result < 0)
        return failure("getsockname of", options.address, -result);
    const bool asks = options.gro || options.ecn || options.packet_info;
    const std::uint32_t payload_offset =
        DatagramLayout::control_offset + (asks ? DatagramLayout::control_bytes : std::uint32_t{0});
    const std::uint32_t used = payload_offset + options.datagram_size_max;
    auto buffers = BufferRing::create(reactor_->ring(),
                                      {.count = options.receive_buffer_count,
                                       .size = (used + buffer_alignment - 1) / buffer_alignment * buffer_alignment});
    if (!buffers) return std::unexpected(UdpError{buffers.error().code, "UDP socket: " + buffers.error().message});
    state->buffers = std::make_unique<BufferRing>(std::move(*buffers));
    state->nodes = std::make_unique<DatagramNode[]>(options.receive_buffer_count);
    state->service = this;
    state->reactor = reactor_;
    state->family = name.ss_family;
    state->port = Address::from(reinterpret_cast<const sockaddr*>(&name), name_size).value_or(Address{}).port();
    state->options = options;
    state->payload_offset = payload_offset;
    state->receive_message.msg_namelen = DatagramLayout::name_bytes;
    state->receive_message.msg_controllen = payload_offset - DatagramLayout::control_offset;
    state->socket_receive_bytes = static_cast<std::uint32_t>(flag_of(kernel, descriptor, SOL_SOCKET, SO_RCVBUF));
    state->socket_send_bytes = static_cast<std::uint32_t>(flag_of(kernel, descriptor, SOL_SOCKET, SO_SNDBUF));
    say_limit(*reactor_, options.address, options.socket_receive_bytes, state->socket_receive_bytes,
              "net.core.rmem_max");
    say_limit(*reactor_, options.address, options.socket_send_bytes, state->socket_send_bytes, "net.core.wmem_max");
    // Room in each list for each socket, so that a pass does not allocate.
    const std::size_t sockets = slots_.size() + 1;
    for (auto* list : {&arm_list_, &arming_, &send_list_, &building_}) list->reserve(sockets);
    if (free_slots_.empty()) {
        free_slots_.reserve(sockets);
        slots_.emplace_back();
        free_slots_.push_back(static_cast<std::uint32_t>(slots_.size() - 1));
    }
    state->index = free_slots_.back();
    free_slots_.pop_back();
    Slot& slot = slots_[state->index];
    state->generation = slot.generation;
    state->descriptor = descriptor;
    slot.state = state.get();
    return state.release();
}

void UdpService::release(UdpSocketState& state) noexcept {
    state.closing = true;
    leave_group(state);
    end_receive(state, EndReason::cancelled);
    drop_received(state);
    progress_close(state);
}

void UdpService::leave_group(UdpSocketState& state) noexcept {
    if (state.group == nullptr) return;
    state.group->member(state.group_index).state = nullptr;
    state.group.reset();
}

void UdpService::progress_close(UdpSocketState& state) noexcept {
    if (!state.closing) return;
    cancel_receive(state);
    if (state.send_first != nullptr) {
        request_send(state);
        return;
    }
    if (state.receive_armed || state.flights_left != 0 || state.descriptor < 0 || state.close_submitted) return;
    state.close_submitted = true;
    abi::SubmissionEntry& entry = reactor_->ring().entry();
    prepare::close(entry, state.descriptor);
    entry.user_data = Tag{close_kind_, state.generation, state.index}.encode();
    ++state.operations;
}

void UdpService::on_close(void* owner, const abi::Completion& completion) noexcept {
    auto& self = *static_cast<UdpService*>(owner);
    const Tag tag = Tag::decode(completion.user_data);
    UdpSocketState* state = self.find(tag.slot, tag.generation);
    if (state == nullptr) return;
    --state->operations;
    state->descriptor = -1;
    settle(*state);
}

void UdpService::settle(UdpSocketState& state) noexcept {
    if (!state.handle_gone.load(std::memory_order_acquire) || state.descriptor >= 0 || state.operations != 0 ||
        state.datagrams != 0 || state.receiver || state.flush_waits != 0 || state.arm_wanted || state.in_send_list)
        return;
    if (UdpService* service = state.service; service != nullptr) {
        Slot& slot = service->slots_[state.index];
        slot.state = nullptr;
        slot.generation = (slot.generation + 1) & Tag::generation_mask;
        service->free_slots_.push_back(state.index);
    }
    delete &state;
}

// ---- turns ----

CancelScope* UdpService::scope_of(const Environment* environment) const noexcept {
    if (environment != nullptr && environment->host == reactor_ && environment->scope != nullptr)
        return environment->scope;
    return reactor_->root_environment.scope;
}

void UdpService::before_submit() noexcept {
    if (!arm_list_.empty()) {
        arming_.swap(arm_list_);
        for (UdpSocketState* state : arming_) {
            state->arm_wanted = false;
            arm_receive(*state);
            settle(*state);
        }
        arming_.clear();
    }
    if (!send_list_.empty()) {
        building_.swap(send_list_);
        for (UdpSocketState* state : building_) {
            state->in_send_list = false;
            build_flight(*state);
            settle(*state);
        }
        building_.clear();
    }
}

void UdpService::shutdown() noexcept {
    shutting_down_ = true;
    for (const Slot& slot : slots_) {
        if (slot.state == nullptr) continue;
        UdpSocketState& state = *slot.state;
        end_receive(state, EndReason::cancelled);
        cancel_receive(state);
        cancel_flight(state);
        progress_close(state);
    }
}

bool UdpService::quiescent() const noexcept {
    for (const Slot& slot : slots_) {
        if (slot.state == nullptr) continue;
        const UdpSocketState& state = *slot.state;
        if (state.operations != 0 || state.send_first != nullptr || state.arm_wanted) return false;
        // One whose handle somebody still has may last until the reactor goes.
        if (state.closing && state.descriptor >= 0) return false;
    }
    return true;
}

}  // namespace ferrule::inline v0
