#pragma once

#include <ferrule/ring/abi.hpp>

#include "sim/buffer_group.hpp"
#include "sim/file.hpp"
#include "sim/message_header.hpp"
#include "sim/ownership.hpp"

#include <cstdint>
#include <memory>
#include <vector>

namespace ferrule::inline v0::sim {

class FrontEnd;

/// Where a request is.
enum class Stage : std::uint8_t {
    begun,      ///< read from the queue; or waits in a chain for the one before it
    deferred,   ///< waits in the drain list
    queued,     ///< will be started, or has ended and will be posted, when work runs
    working,    ///< a worker will do it, or is at it
    armed,      ///< waits for its file to become ready
    timed,      ///< a timeout that runs
    completed,  ///< its last completion is about to be posted
};

/// One submission, from the queue to its last completion.
struct Request final : FileWaiter {
    void ready(std::uint32_t events) noexcept override;

    FrontEnd* ring = nullptr;
    abi::SubmissionEntry entry{};
    std::shared_ptr<File> file;
    Claim claim;
    std::unique_ptr<MessageHeader> message;  ///< of one that sends or receives with a name, parts or control messages
    BufferGroup::Choice held;                ///< a buffer that it keeps while it waits for the rest

    Request* next_in_chain = nullptr;
    Request* next_queued = nullptr;  ///< in the work list, the completed list or the drain list
    Request* next_in_bucket = nullptr;
    Request* next_cancellable = nullptr;
    Request* previous_cancellable = nullptr;
    Request* linked = nullptr;  ///< what a linked timeout bounds

    std::uint64_t time_ns = 0;  ///< of a timeout
    std::uint64_t event = 0;    ///< of the world: a worker's, a timer's or a late notice
    std::uint32_t done = 0;     ///< bytes of earlier tries
    std::int32_t result = 0;
    std::uint32_t flags = 0;           ///< of the last completion
    std::uint32_t repeats = 0;         ///< of a multishot timeout that are left
    std::uint32_t target = 0;          ///< of a timeout with a count: how many completions end it
    std::uint32_t multishot_left = 0;  ///< bytes, of a multishot receive with a length
    std::uint16_t idle_tries = 0;      ///< in a row, without progress

    Stage stage = Stage::begun;
    bool in_use : 1 = false;
    bool in_work_list : 1 = false;
    bool findable : 1 = false;  ///< a cancel finds it
    bool event_pending : 1 = false;
    bool cancelled : 1 = false;
    bool failed : 1 = false;  ///< it breaks its chain
    bool skip : 1 = false;    ///< no completion
    bool silences_chain : 1 = false;
    bool polled : 1 = false;  ///< its file has been ready since it was submitted
    bool multishot : 1 = false;
    bool no_wait : 1 = false;
    bool partial : 1 = false;
    bool drains : 1 = false;
    bool at_worker : 1 = false;  ///< is to be started by a worker
    bool finished : 1 = false;   ///< has its result; work posts it
    bool delayed : 1 = false;    ///< has been overtaken once
    bool tried : 1 = false;
    bool counted : 1 = false;      ///< a timeout that a number of completions ends
    bool at_disk : 1 = false;      ///< its file's pages are being read
    bool in_progress : 1 = false;  ///< a connect whose handshake goes on

    [[nodiscard]] const char* name() const noexcept;
};

/// It receives into a buffer of a group.
[[nodiscard]] inline bool selects_buffer(const Request& request) noexcept {
    return (request.entry.flags & abi::entry_buffer_select) != 0;
}

/// The requests of a ring: memory that is reused, and a table by user_data of those that a cancel can find.
class Requests {
public:
    Requests() : buckets_(first_buckets) {}

    Request& take();
    void give_back(Request& request) noexcept;

    void insert(Request& request);
    void remove(Request& request) noexcept;
    /// The first with this user_data, and the next after `request`; null when there is none.
    [[nodiscard]] Request* find(std::uint64_t user_data) const noexcept;
    /// All that a cancel can find, in the order in which they came; by next_cancellable.
    [[nodiscard]] Request* first() const noexcept { return first_; }
    /// Calls `function(Request&)` for each request that is in use, wherever it is.
    template <class Function>
    void for_each(Function&& function) const {
        for (const auto& chunk : chunks_) {
            for (std::size_t index = 0; index < chunk_size; ++index) {
                if (chunk[index].in_use) function(chunk[index]);
            }
        }
    }
    [[nodiscard]] std::uint32_t count() const noexcept { return count_; }

private:
    static constexpr std::size_t chunk_size = 128;
    static constexpr std::size_t first_buckets = 64;

    [[nodiscard]] std::size_t bucket_of(std::uint64_t user_data) const noexcept;
    void grow();

    std::vector<std::unique_ptr<Request[]>> chunks_;
    std::vector<Request*> buckets_;
    Request* free_ = nullptr;
    Request* first_ = nullptr;
    Request* last_ = nullptr;
    std::uint32_t count_ = 0;
    std::uint32_t findable_ = 0;
};

}  // namespace ferrule::inline v0::sim
