#pragma once

#include "sim/buffer_group.hpp"
#include "sim/features.hpp"
#include "sim/ownership.hpp"
#include "sim/queues.hpp"
#include "sim/request.hpp"
#include "sim/ring.hpp"

#include <array>
#include <cstdint>
#include <map>
#include <memory>
#include <span>
#include <string>
#include <utility>
#include <vector>

namespace ferrule::inline v0::sim {

/// The one SimulatedRing: how each request goes on.
///
/// A request is tried at once when it is submitted. What would have to wait for its file waits there (`armed`); when
/// the file becomes ready that is work, which runs in an `enter` that asks for completions (a ring that defers its
/// work), or as soon as the scheduler is in control (others), and tries again. What is done is posted together, at the
/// end of the submission or of the work; the pieces of a multishot at once.
///
/// With a polling thread (abi::setup_submission_poll) nobody submits: an event looks at the queue every few
/// microseconds, until it has found nothing for the time that the program gave.
class FrontEnd final : public SimulatedRing {
public:
    FrontEnd(World& world, Descriptors& descriptors, Profile profile, LockedMemory* memory, Paths* paths);
    ~FrontEnd() override;

    /// The rest of construction: takes memory, and fills in the parameters. 0, or -ENOMEM.
    int set_up(abi::Parameters& parameters);

    // File
    [[nodiscard]] std::uint32_t readiness() const noexcept override;
    void released() noexcept override;

    // SimulatedRing
    void identify(int descriptor) override;
    void* map(std::uint64_t offset, std::size_t length, int* error) noexcept override;
    int enter(std::uint32_t to_submit, std::uint32_t min_complete, std::uint32_t flags, const void* argument,
              std::size_t argument_size) override;
    int register_(std::uint32_t opcode, void* argument, std::uint32_t count) override;
    void read_beside(std::span<const std::byte> memory) override { ownership_.read_beside(memory); }
    [[nodiscard]] std::uint64_t operations() const noexcept override { return operations_; }
    [[nodiscard]] std::uint32_t in_flight() const noexcept override { return requests_.count(); }
    [[nodiscard]] std::string leftovers() const override;

    /// A message from another ring, or from none: 0 or -errno.
    int message(std::uint64_t user_data, std::int32_t result, std::uint32_t flags);
    /// A request's file has become ready.
    void notice(Request& request) noexcept;

private:
    /// How a try ended.
    enum class Outcome : std::uint8_t {
        done,     ///< result and flags are set
        again,    ///< it would have to wait
        waits,    ///< it waits already, or will be ended by something else
        requeue,  ///< it has more to do and lets others run
    };
    /// Who waits in `enter`.
    struct Waiter {
        Fiber* fiber;
        Waiter* next;
    };
    struct Cancelling;

    [[nodiscard]] bool polls() const noexcept { return (setup_flags_ & abi::setup_submission_poll) != 0; }
    [[nodiscard]] bool defers() const noexcept { return (setup_flags_ & abi::setup_defer_taskrun) != 0; }
    [[nodiscard]] bool foreign() const noexcept;

    // Submission: front_end_submitting.cpp
    int submit(std::uint32_t count);
    [[nodiscard]] std::uint32_t fewer(std::uint32_t count);
    int submit_entry(const abi::SubmissionEntry& entry);
    int prepare(Request& request);
    int prepare_operation(Request& request);
    void fail_to_begin(Request& request, int error);
    void queue_chain(Request& head);
    void defer(Request& head);
    void release_deferred();
    void start_at_worker(Request& request, std::uint64_t delay_ns);
    void work_at(Request& request);
    void try_request(Request& request);
    void settle(Request& request, Outcome outcome);
    void arm(Request& request);
    [[nodiscard]] static std::uint32_t events_of(const Request& request) noexcept;

    // Operations: front_end_operating.cpp
    Outcome perform(Request& request);
    Outcome finish(Request& request, std::int32_t result, std::uint32_t flags = 0) noexcept;
    Outcome poll(Request& request);
    Outcome accept(Request& request);
    Outcome receive(Request& request);
    Outcome send(Request& request);
    Outcome connect(Request& request);
    Outcome fail_later(Request& request, std::int32_t error, std::uint64_t delay_ns);
    Outcome close(Request& request);
    Outcome socket_command(Request& request);
    Outcome message_ring(Request& request);
    Outcome begin_timeout(Request& request);
    [[nodiscard]] bool assign_file(Request& request);
    [[nodiscard]] BufferGroup* group_of(std::uint16_t number) const noexcept;

    // Files: front_end_filing.cpp
    Outcome read(Request& request);
    Outcome write(Request& request);
    Outcome synchronise(Request& request);
    Outcome open(Request& request);
    Outcome tell_status(Request& request);
    Outcome to_disk(Request& request);
    int read_path(Request& request);

    // The program's memory: front_end_memory.cpp
    int read_header(Request& request);
    void claim_memory(Request& request);
    void claim_message(Request& request);
    void keep_rest(Request& request, std::size_t done);
    void release_memory(Request& request);
    [[nodiscard]] static bool has_memory(const Request& request) noexcept;
    [[nodiscard]] std::span<std::byte> memory_of(Request& request);
    [[nodiscard]] std::span<std::byte> gather(Request& request);
    [[nodiscard]] std::span<std::byte> room_of(Request& request);
    void scatter(Request& request, std::size_t received, const Ancillary& with);
    [[nodiscard]] static std::size_t layout_of(const Request& request) noexcept;
    [[nodiscard]] static std::size_t lay_out(const Request& request, std::byte* buffer, std::size_t room,
                                             std::size_t received, const Ancillary& with);

    // Time: front_end_timing.cpp
    void arm_linked_timeout(Request& request);
    void start_clock(Request& timeout, std::uint64_t due_ns);
    void fire(Request& timeout);
    void expire(Request& timeout);
    void count_timeouts();

    // Completion: front_end_completing.cpp
    void post(std::uint64_t user_data, std::int32_t result, std::uint32_t flags);
    [[nodiscard]] bool post_more(Request& request, std::int32_t result, std::uint32_t flags);
    void announce_completion();
    void complete(Request& request);
    void end_later(Request& request, std::int32_t result);
    void fail(Request& request, std::int32_t error);
    void mark_failed(Request& request) noexcept;
    void flush_completions();
    void post_in_order(Request* first);
    void go_on_with_chain(Request& request);
    void cancel_chain(Request& failed);
    void end(Request& request);
    void forget_event(Request& request) noexcept;

    // Work and waiting: front_end.cpp
    void queue_work(Request& request) noexcept;
    void announce_work() noexcept;
    void run_work(std::uint64_t enough);
    void run(Request& request);
    void wake_waiters() noexcept;
    int wait(std::uint32_t min_complete, std::uint32_t flags, const void* argument, std::size_t argument_size);
    void look_at_buffers();

    // The polling thread: front_end_polling.cpp
    void begin_to_poll();
    void poll_later();
    void poll_queue();
    void wait_for_room();

    // Cancelling: front_end_cancelling.cpp
    Outcome cancel(Request& request);
    int cancel_all(Cancelling& wanted);
    int cancel_one(Request& request);
    void interrupt_soon(Request& request);
    void work_later(Request& request);
    [[nodiscard]] bool shares_buffer(const Request& request) const noexcept;
    [[nodiscard]] static bool matches(const Request& request, const Cancelling& wanted) noexcept;
    int cancel_synchronously(const abi::SyncCancelRegistration& registration);

    // Registrations: front_end_registering.cpp
    int register_buffer_ring(const abi::BufferRingRegistration& registration);
    int unregister_buffer_ring(const abi::BufferRingRegistration& registration);
    int resize(abi::Parameters& parameters);
    int register_probe(abi::Probe& probe, std::uint32_t count) const;
    int register_files(const std::int32_t* descriptors, std::uint32_t count);
    int register_files_sparse(const abi::ResourceRegistration& registration);
    int update_files(std::uint32_t offset, const std::int32_t* descriptors, std::uint32_t count);
    int unregister_files();
    [[nodiscard]] bool charge(std::uint64_t bytes) noexcept;
    void discharge(std::uint64_t bytes) noexcept;

    World& world_;
    Descriptors& descriptors_;
    const Features& features_;
    LockedMemory* memory_;
    Paths* paths_;
    std::uint32_t setup_flags_ = 0;
    std::string name_ = "a ring";
    int descriptor_ = -1;
    Queues queues_;
    Fiber* owner_ = nullptr;
    bool disabled_ = false;
    bool closed_ = false;
    bool drain_forbidden_ = false;
    bool drain_next_ = false;
    bool work_scheduled_ = false;
    bool running_work_ = false;

    Requests requests_;
    Request* work_first_ = nullptr;
    Request* work_last_ = nullptr;
    Request* done_first_ = nullptr;
    Request* done_last_ = nullptr;
    Request* overtaken_first_ = nullptr;
    Request* overtaken_last_ = nullptr;
    Request* deferred_first_ = nullptr;
    Request* deferred_last_ = nullptr;
    std::uint32_t deferred_count_ = 0;  // requests in the chains of the drain list
    Request* chain_head_ = nullptr;     // of the chain that is being read from the queue
    Request* chain_last_ = nullptr;
    std::vector<abi::Completion> messages_;
    std::vector<abi::Completion> delivering_;
    Waiter* waiters_ = nullptr;
    Waiter* room_waiters_ = nullptr;  // in `enter`, for the polling thread to take entries
    std::uint64_t poll_idle_ns_ = 0;
    std::uint64_t poll_until_ns_ = 0;
    std::uint64_t poll_event_ = 0;
    bool poll_scheduled_ = false;
    std::uint64_t work_event_ = 0;
    std::uint64_t operations_ = 0;
    std::uint32_t posted_ = 0;  // ends and pieces, timeouts not counted
    std::uint32_t timeouts_ended_ = 0;
    std::vector<Request*> counted_timeouts_;

    Ownership ownership_;
    std::vector<std::byte> message_bytes_;  // of the message that is being sent or received
    std::vector<std::unique_ptr<BufferGroup>> groups_;
    std::array<std::uint16_t, 64> low_group_heads_{};
    std::vector<std::shared_ptr<File>> files_;
    bool has_files_ = false;
    std::shared_ptr<File> event_;
    bool event_only_async_ = false;
    std::uint64_t charged_ = 0;
    std::array<std::uint32_t, 2> workers_max_{16, 4096};  // of two kinds; nobody counts them
    abi::NapiRegistration busy_poll_{};
};

}  // namespace ferrule::inline v0::sim
