#include "sim/queues.hpp"

#include <sys/mman.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>

namespace ferrule::inline v0::sim {

namespace {

// struct io_rings: heads and tails have a cache line each.
constexpr std::uint32_t submission_head_at = 0;
constexpr std::uint32_t submission_tail_at = 64;
constexpr std::uint32_t completion_head_at = 128;
constexpr std::uint32_t completion_tail_at = 192;
constexpr std::uint32_t submission_mask_at = 256;
constexpr std::uint32_t completion_mask_at = 260;
constexpr std::uint32_t submission_entries_at = 264;
constexpr std::uint32_t completion_entries_at = 268;
constexpr std::uint32_t submission_dropped_at = 272;
constexpr std::uint32_t submission_flags_at = 276;
constexpr std::uint32_t completion_flags_at = 280;
constexpr std::uint32_t completion_overflow_at = 284;
constexpr std::uint32_t completions_at = 320;

std::size_t whole_pages(std::size_t bytes) noexcept {
    const auto page = static_cast<std::size_t>(::sysconf(_SC_PAGESIZE));
    return (bytes + page - 1) / page * page;
}

std::size_t bytes_of_ring(const abi::Parameters& parameters) noexcept {
    const bool has_indices = (parameters.flags & abi::setup_no_submission_array) == 0;
    return whole_pages(completions_at + parameters.cq_entries * sizeof(abi::Completion) +
                       (has_indices ? parameters.sq_entries * sizeof(std::uint32_t) : 0));
}

std::size_t bytes_of_entries(const abi::Parameters& parameters) noexcept {
    return whole_pages(parameters.sq_entries * sizeof(abi::SubmissionEntry));
}

std::byte* take_memory(std::size_t bytes) noexcept {
    void* const memory = ::mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    return memory == MAP_FAILED ? nullptr : static_cast<std::byte*>(memory);
}

std::uint32_t load(std::uint32_t* word) noexcept {
    return std::atomic_ref<std::uint32_t>(*word).load(std::memory_order_acquire);
}

void store(std::uint32_t* word, std::uint32_t value) noexcept {
    std::atomic_ref<std::uint32_t>(*word).store(value, std::memory_order_release);
}

}  // namespace

Queues::~Queues() {
    if (ring_ != nullptr) ::munmap(ring_, ring_bytes_);
    if (entries_ != nullptr) ::munmap(entries_, entry_bytes_);
    for (const auto& [memory, bytes] : former_) ::munmap(memory, bytes);
}

bool Queues::create(abi::Parameters& parameters) {
    const bool has_indices = (parameters.flags & abi::setup_no_submission_array) == 0;
    const auto indices_at =
        static_cast<std::uint32_t>(completions_at + parameters.cq_entries * sizeof(abi::Completion));
    ring_bytes_ = bytes_of_ring(parameters);
    entry_bytes_ = bytes_of_entries(parameters);
    ring_ = take_memory(ring_bytes_);
    entries_ = take_memory(entry_bytes_);
    if (ring_ == nullptr || entries_ == nullptr) return false;
    submission_mask_ = parameters.sq_entries - 1;
    completion_mask_ = parameters.cq_entries - 1;
    completions_ = reinterpret_cast<abi::Completion*>(ring_ + completions_at);
    if (has_indices) indices_ = word(indices_at);
    *word(submission_mask_at) = submission_mask_;
    *word(completion_mask_at) = completion_mask_;
    *word(submission_entries_at) = parameters.sq_entries;
    *word(completion_entries_at) = parameters.cq_entries;
    parameters.sq_off = {.head = submission_head_at,
                         .tail = submission_tail_at,
                         .ring_mask = submission_mask_at,
                         .ring_entries = submission_entries_at,
                         .flags = submission_flags_at,
                         .dropped = submission_dropped_at,
                         .array = has_indices ? indices_at : 0,
                         .resv1 = 0,
                         .user_addr = 0};
    parameters.cq_off = {.head = completion_head_at,
                         .tail = completion_tail_at,
                         .ring_mask = completion_mask_at,
                         .ring_entries = completion_entries_at,
                         .overflow = completion_overflow_at,
                         .cqes = completions_at,
                         .flags = completion_flags_at,
                         .resv1 = 0,
                         .user_addr = 0};
    return true;
}

std::uint64_t Queues::bytes_of(const abi::Parameters& parameters) noexcept {
    return bytes_of_ring(parameters) + bytes_of_entries(parameters);
}

int Queues::resize(abi::Parameters& parameters) {
    const std::uint32_t tail = load(word(submission_tail_at));
    const std::uint32_t unread_head = head();
    if (tail - submission_head_ > parameters.sq_entries) return -EOVERFLOW;
    if (completion_tail_ - unread_head > parameters.cq_entries) return -EOVERFLOW;
    Queues fresh;
    if (!fresh.create(parameters)) return -ENOMEM;
    for (std::uint32_t number = submission_head_; number != tail; ++number) {
        // As Linux: by number, whatever the index array says.
        reinterpret_cast<abi::SubmissionEntry*>(fresh.entries_)[number & fresh.submission_mask_] =
            reinterpret_cast<const abi::SubmissionEntry*>(entries_)[number & submission_mask_];
    }
    for (std::uint32_t number = unread_head; number != completion_tail_; ++number)
        fresh.completions_[number & fresh.completion_mask_] = completions_[number & completion_mask_];
    for (const std::uint32_t at :
         {submission_head_at, submission_tail_at, completion_head_at, completion_tail_at, submission_dropped_at,
          submission_flags_at, completion_flags_at, completion_overflow_at})
        store(fresh.word(at), load(word(at)));
    former_.emplace_back(ring_, ring_bytes_);
    former_.emplace_back(entries_, entry_bytes_);
    ring_ = std::exchange(fresh.ring_, nullptr);
    entries_ = std::exchange(fresh.entries_, nullptr);
    ring_bytes_ = fresh.ring_bytes_;
    entry_bytes_ = fresh.entry_bytes_;
    indices_ = fresh.indices_;
    completions_ = fresh.completions_;
    submission_mask_ = fresh.submission_mask_;
    completion_mask_ = fresh.completion_mask_;
    return 0;
}

std::uint32_t* Queues::word(std::size_t offset) const noexcept {
    return reinterpret_cast<std::uint32_t*>(ring_ + offset);
}

// ---- submission ----

std::uint32_t Queues::pending() const noexcept {
    return load(word(submission_tail_at)) - submission_head_;
}

const abi::SubmissionEntry* Queues::look(std::uint32_t ahead) const noexcept {
    std::uint32_t index = (submission_head_ + ahead) & submission_mask_;
    if (indices_ != nullptr) index = std::atomic_ref<std::uint32_t>(indices_[index]).load(std::memory_order_relaxed);
    if (index > submission_mask_) return nullptr;
    return reinterpret_cast<const abi::SubmissionEntry*>(entries_) + index;
}

const abi::SubmissionEntry* Queues::take() noexcept {
    const abi::SubmissionEntry* const entry = look(0);
    ++submission_head_;
    if (entry == nullptr) store(word(submission_dropped_at), load(word(submission_dropped_at)) + 1);
    return entry;
}

void Queues::publish_head() noexcept {
    store(word(submission_head_at), submission_head_);
}

// ---- completion ----

std::uint32_t Queues::head() const noexcept {
    return load(word(completion_head_at));
}

std::uint32_t Queues::unread() const noexcept {
    return completion_tail_ - head();
}

void Queues::put(const abi::Completion& completion) noexcept {
    completions_[completion_tail_ & completion_mask_] = completion;
    store(word(completion_tail_at), ++completion_tail_);
}

bool Queues::post(const abi::Completion& completion) noexcept {
    // What overflowed first comes first: else links and multishots would lose their order.
    if (!overflow_.empty() || unread() > completion_mask_) return false;
    put(completion);
    return true;
}

void Queues::overflow(const abi::Completion& completion) {
    overflow_.push_back(completion);
    set_flag(abi::queue_overflow);
}

void Queues::flush_overflow() noexcept {
    if (overflow_.empty()) return;
    while (!overflow_.empty() && unread() <= completion_mask_) {
        put(overflow_.front());
        overflow_.pop_front();
    }
    if (overflow_.empty()) clear_flag(abi::queue_overflow);
}

// ---- flags ----

void Queues::set_flag(std::uint32_t flag) noexcept {
    std::atomic_ref<std::uint32_t>(*word(submission_flags_at)).fetch_or(flag, std::memory_order_release);
}

void Queues::clear_flag(std::uint32_t flag) noexcept {
    std::atomic_ref<std::uint32_t>(*word(submission_flags_at)).fetch_and(~flag, std::memory_order_release);
}

}  // namespace ferrule::inline v0::sim
