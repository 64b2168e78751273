// The smallest io_uring there is: mapped queues, one enter call, nothing checked twice. It serves the peers and the
// load generator and knows nothing of Ferrule, so that no figure compares Ferrule with itself.
#pragma once

#include <linux/io_uring.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cerrno>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <utility>

namespace bench {

// Linux 6.6; the kernel headers of Debian 12 do not name it.
inline constexpr unsigned setup_no_submission_array = 1U << 16;

// Ends the program with the failed operation and its reason. `error` is a positive errno value.
[[noreturn]] inline void fail(const char* operation, int error) {
    std::fprintf(stderr, "%s: %s\n", operation, std::strerror(error));
    std::exit(1);
}

// One ring, used by the thread that made it.
class RawRing {
public:
    RawRing(unsigned entries, unsigned completion_entries, unsigned flags) {
        io_uring_params parameters{};
        const auto create = [&](unsigned extra) {
            parameters = {};
            parameters.flags = flags | extra | IORING_SETUP_CQSIZE;
            parameters.cq_entries = completion_entries;
            return static_cast<int>(syscall(__NR_io_uring_setup, entries, &parameters));
        };
        descriptor_ = create(setup_no_submission_array);
        if (descriptor_ < 0 && errno == EINVAL) descriptor_ = create(0);
        if (descriptor_ < 0) fail("io_uring_setup", errno);

        const size_t completion_bytes =
            parameters.cq_off.cqes + static_cast<size_t>(parameters.cq_entries) * sizeof(io_uring_cqe);
        const bool has_array = (parameters.flags & setup_no_submission_array) == 0;
        const size_t submission_bytes =
            has_array ? parameters.sq_off.array + static_cast<size_t>(parameters.sq_entries) * sizeof(uint32_t) : 0;
        auto* queues =
            static_cast<char*>(map(completion_bytes > submission_bytes ? completion_bytes : submission_bytes, 0));
        submission_entries_ = static_cast<io_uring_sqe*>(
            map(static_cast<size_t>(parameters.sq_entries) * sizeof(io_uring_sqe), IORING_OFF_SQES));
        submission_head_ = reinterpret_cast<unsigned*>(queues + parameters.sq_off.head);
        submission_tail_ = reinterpret_cast<unsigned*>(queues + parameters.sq_off.tail);
        submission_flags_ = reinterpret_cast<unsigned*>(queues + parameters.sq_off.flags);
        submission_count_ = parameters.sq_entries;
        completion_head_ = reinterpret_cast<unsigned*>(queues + parameters.cq_off.head);
        completion_tail_ = reinterpret_cast<unsigned*>(queues + parameters.cq_off.tail);
        completion_mask_ = parameters.cq_entries - 1;
        completions_ = reinterpret_cast<io_uring_cqe*>(queues + parameters.cq_off.cqes);
        if (has_array) {
            auto* array = reinterpret_cast<uint32_t*>(queues + parameters.sq_off.array);
            for (unsigned index = 0; index < submission_count_; ++index) array[index] = index;
        }

        io_uring_rsrc_update update{};
        update.offset = ~0U;
        update.data = static_cast<uint64_t>(descriptor_);
        enter_descriptor_ = descriptor_;
        if (syscall(__NR_io_uring_register, descriptor_, IORING_REGISTER_RING_FDS, &update, 1) == 1) {
            enter_descriptor_ = static_cast<int>(update.offset);
            enter_flags_ = IORING_ENTER_REGISTERED_RING;
        }
    }
    RawRing(const RawRing&) = delete;
    RawRing& operator=(const RawRing&) = delete;

    // Entries that can be prepared before the next submit.
    unsigned room() const { return submission_count_ - pending_; }

    // A zeroed entry. The caller keeps within room().
    io_uring_sqe* next() {
        io_uring_sqe* entry = &submission_entries_[tail_ & (submission_count_ - 1)];
        ++tail_;
        ++pending_;
        std::memset(entry, 0, sizeof *entry);
        return entry;
    }

    // Gives every prepared entry to the kernel, runs its deferred work, and waits for `wanted` completions.
    void submit(unsigned wanted) {
        __atomic_store_n(submission_tail_, tail_, __ATOMIC_RELEASE);
        while (true) {
            const long taken = syscall(__NR_io_uring_enter, enter_descriptor_, pending_, wanted,
                                       enter_flags_ | IORING_ENTER_GETEVENTS, nullptr, 0);
            if (taken >= 0) {
                pending_ -= static_cast<unsigned>(taken);
                if (pending_ == 0) return;
            } else if (errno == EBUSY || errno == EAGAIN) {
                // Completions must be taken first; what is prepared stays queued for the next call.
                return;
            } else if (errno != EINTR) {
                fail("io_uring_enter", errno);
            }
            wanted = 0;
        }
    }

    // True when the kernel holds work that only an enter call runs (needs IORING_SETUP_TASKRUN_FLAG).
    bool has_deferred_work() const {
        return (__atomic_load_n(submission_flags_, __ATOMIC_RELAXED) & (IORING_SQ_TASKRUN | IORING_SQ_CQ_OVERFLOW)) !=
               0;
    }

    bool has_prepared() const { return pending_ != 0; }

    // Completions that wait to be taken.
    unsigned available() const { return __atomic_load_n(completion_tail_, __ATOMIC_ACQUIRE) - *completion_head_; }

    // Takes `count` completions, which the caller knows to be available.
    template <class Handler>
    void take(unsigned count, Handler&& handler) {
        unsigned head = *completion_head_;
        for (const unsigned end = head + count; head != end; ++head) handler(completions_[head & completion_mask_]);
        __atomic_store_n(completion_head_, head, __ATOMIC_RELEASE);
    }

    int descriptor() const { return descriptor_; }

private:
    void* map(size_t bytes, off_t offset) const {
        void* address = mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_POPULATE, descriptor_, offset);
        if (address == MAP_FAILED) fail("mmap of the ring", errno);
        return address;
    }

    int descriptor_ = -1;
    int enter_descriptor_ = -1;
    unsigned enter_flags_ = 0;
    unsigned tail_ = 0;
    unsigned pending_ = 0;
    unsigned submission_count_ = 0;
    unsigned completion_mask_ = 0;
    io_uring_sqe* submission_entries_ = nullptr;
    unsigned* submission_head_ = nullptr;
    unsigned* submission_tail_ = nullptr;
    unsigned* submission_flags_ = nullptr;
    unsigned* completion_head_ = nullptr;
    unsigned* completion_tail_ = nullptr;
    io_uring_cqe* completions_ = nullptr;
};

// A ring of provided receive buffers, group 0 of its RawRing.
class RawBuffers {
public:
    RawBuffers(RawRing& ring, unsigned count, unsigned bytes) : count_(count), bytes_(bytes) {
        entries_ = static_cast<io_uring_buf*>(anonymous(count * sizeof(io_uring_buf)));
        memory_ = static_cast<char*>(anonymous(static_cast<size_t>(count) * bytes));
        io_uring_buf_reg registration{};
        registration.ring_addr = reinterpret_cast<uint64_t>(entries_);
        registration.ring_entries = count;
        if (syscall(__NR_io_uring_register, ring.descriptor(), IORING_REGISTER_PBUF_RING, &registration, 1) != 0)
            fail("io_uring_register of the buffer ring", errno);
        for (unsigned index = 0; index < count; ++index) give_back(static_cast<uint16_t>(index));
        publish();
    }
    RawBuffers(const RawBuffers&) = delete;
    RawBuffers& operator=(const RawBuffers&) = delete;

    char* data(uint16_t index) const { return memory_ + static_cast<size_t>(index) * bytes_; }

    // Queues a buffer for the kernel; publish() shows it.
    void give_back(uint16_t index) {
        io_uring_buf& entry = entries_[tail_ & (count_ - 1)];
        entry.addr = reinterpret_cast<uint64_t>(data(index));
        entry.len = bytes_;
        entry.bid = index;
        ++tail_;
    }

    // The tail shares the first entry's reserved field: include/uapi/linux/io_uring.h, struct io_uring_buf_ring.
    void publish() { __atomic_store_n(&entries_[0].resv, tail_, __ATOMIC_RELEASE); }

private:
    static void* anonymous(size_t bytes) {
        void* address = mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        if (address == MAP_FAILED) fail("mmap of buffers", errno);
        return address;
    }

    unsigned count_;
    unsigned bytes_;
    io_uring_buf* entries_ = nullptr;
    char* memory_ = nullptr;
    uint16_t tail_ = 0;
};

// Identifies the operation of a completion: what it was in the upper half, its descriptor or index in the lower.
template <class Kind>
constexpr uint64_t tag(Kind kind, unsigned value) {
    return static_cast<uint64_t>(std::to_underlying(kind)) << 32 | value;
}
template <class Kind>
constexpr Kind tag_kind(uint64_t user_data) {
    return static_cast<Kind>(user_data >> 32);
}
constexpr unsigned tag_value(uint64_t user_data) {
    return static_cast<unsigned>(user_data);
}

}  // namespace bench
