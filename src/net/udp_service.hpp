#pragma once

#include <ferrule/net/slab_pool.hpp>
#include <ferrule/net/udp_socket.hpp>
#include <ferrule/reactor/counter.hpp>
#include <ferrule/reactor/metric_registry.hpp>
#include <ferrule/reactor/reactor.hpp>
#include <ferrule/reactor/subsystem.hpp>
#include <ferrule/reactor/tag.hpp>
#include <ferrule/ring/abi.hpp>

#include "net/udp_state.hpp"

#include <cstdint>
#include <expected>
#include <memory>
#include <span>
#include <vector>

namespace ferrule::inline v0 {

/// The UDP sockets of one reactor: their table, the memory of what they send, their turns. A service of its reactor,
/// made with the first socket.
class UdpService final : public Subsystem {
public:
    explicit UdpService(Reactor& reactor);
    ~UdpService() override;
    UdpService(const UdpService&) = delete;
    UdpService& operator=(const UdpService&) = delete;

    static UdpService& of(Reactor& reactor);

    /// A bound socket with everything that the options ask of it; the caller closes it.
    static std::expected<int, UdpError> open_descriptor(Kernel& kernel, const UdpSocketOptions& options);
    /// Takes a descriptor of open_descriptor, and says so when the system gave it smaller buffers than were asked for;
    /// what fails leaves it to the caller.
    std::expected<UdpSocketState*, UdpError> adopt(int descriptor, const UdpSocketOptions& options);

    // Receiving.
    void begin_receiving(UdpSocketState& state) noexcept;
    void end_receive(UdpSocketState& state, EndReason reason) noexcept;
    static void give_back(DatagramNode& node) noexcept;
    /// A copy of a datagram that another reactor received; takes the node over.
    void deliver(UdpSocketState& state, DatagramNode& node) noexcept;

    // Sending.
    bool send(UdpSocketState& state, const Address* peer, std::span<const std::byte> bytes,
              const DatagramSendOptions& options) noexcept;
    DatagramFlushWait& take_flush_wait();
    void give_back_flush_wait(DatagramFlushWait& wait) noexcept;
    void finish_flush(DatagramFlushWait& wait, int error) noexcept;
    /// An error of a datagram that was not sent, for the next flush to end.
    static void tell_error(UdpSocketState& state, int error) noexcept;

    // Ending.
    void release(UdpSocketState& state) noexcept;
    static void settle(UdpSocketState& state) noexcept;

    [[nodiscard]] Reactor& reactor() const noexcept { return *reactor_; }
    [[nodiscard]] const SlabPool& slabs() const noexcept { return slabs_; }
    [[nodiscard]] CancelScope* scope_of(const Environment* environment) const noexcept;
    [[nodiscard]] bool only_root_cancels(const Environment* environment) const noexcept {
        return environment == &reactor_->root_environment && !shutting_down_;
    }

    // Subsystem.
    void before_submit() noexcept override;
    void shutdown() noexcept override;
    [[nodiscard]] bool quiescent() const noexcept override;

private:
    struct Slot {
        UdpSocketState* state = nullptr;
        std::uint32_t generation = 1;
    };

    /// Bits of a tag's slot that number the messages of a flight; the socket's index is above them.
    static constexpr unsigned flight_bits = 8;
    static_assert(UdpSocketState::flight_max <= 1u << flight_bits);

    [[nodiscard]] UdpSocketState* find(std::uint32_t index, std::uint32_t generation) const noexcept {
        return index < slots_.size() && slots_[index].generation == generation ? slots_[index].state : nullptr;
    }

    static void on_receive(void* owner, const abi::Completion& completion) noexcept;
    static void on_send(void* owner, const abi::Completion& completion) noexcept;
    static void on_close(void* owner, const abi::Completion& completion) noexcept;

    // Receiving.
    void want_arm(UdpSocketState& state) noexcept;
    void arm_receive(UdpSocketState& state) noexcept;
    void cancel_receive(UdpSocketState& state) noexcept;
    void drop_received(UdpSocketState& state) noexcept;
    void append(UdpSocketState& state, DatagramNode& node) noexcept;
    void receive_ended(UdpSocketState& state, int result) noexcept;

    // Sending.
    void request_send(UdpSocketState& state) noexcept;
    void build_flight(UdpSocketState& state) noexcept;
    void finish_flight(UdpSocketState& state) noexcept;
    [[nodiscard]] bool split(UdpSocketState& state, SendNode& node) noexcept;
    void finish_sent(UdpSocketState& state) noexcept;
    void cancel_flight(UdpSocketState& state) noexcept;
    void free_node(UdpSocketState& state, SendNode& node) noexcept;

    /// For the socket, and for the reactor.
    void count(UdpSocketState& state, Counter UdpCounters::*counter, std::uint64_t amount = 1) noexcept {
        (state.counters.*counter).add(amount);
        (totals_.*counter).add(amount);
    }

    // Ending.
    void progress_close(UdpSocketState& state) noexcept;
    static void leave_group(UdpSocketState& state) noexcept;

    Reactor* reactor_;
    SlabPool slabs_;
    std::uint8_t receive_kind_;
    std::uint8_t send_kind_;
    std::uint8_t close_kind_;
    bool shutting_down_ = false;
    std::vector<Slot> slots_;
    std::vector<std::uint32_t> free_slots_;
    std::vector<UdpSocketState*> arm_list_;
    std::vector<UdpSocketState*> arming_;
    std::vector<UdpSocketState*> send_list_;
    std::vector<UdpSocketState*> building_;
    std::vector<std::unique_ptr<DatagramFlushWait>> flush_wait_memory_;
    DatagramFlushWait* free_flush_waits_ = nullptr;
    UdpCounters totals_;  // of all sockets that there were
    MetricRegistration totals_registered_;
};

}  // namespace ferrule::inline v0
