#include <ferrule/ring/probe.hpp>
#include <ferrule/sim/random.hpp>

#include "sim/request.hpp"

namespace ferrule::inline v0::sim {

const char* Request::name() const noexcept {
    const char* const known = ferrule::name_of(entry.opcode);
    return known != nullptr ? known : "unknown operation";
}

Request& Requests::take() {
    if (free_ == nullptr) {
        chunks_.push_back(std::make_unique<Request[]>(chunk_size));
        for (std::size_t index = chunk_size; index-- > 0;) {
            Request& fresh = chunks_.back()[index];
            fresh.next_queued = free_;
            free_ = &fresh;
        }
    }
    Request& taken = *free_;
    free_ = taken.next_queued;
    taken.next_queued = nullptr;
    taken.in_use = true;
    ++count_;
    return taken;
}

void Requests::give_back(Request& request) noexcept {
    request.file.reset();
    request.message.reset();
    request.held = {};
    request.next_in_chain = request.next_in_bucket = request.linked = nullptr;
    request.done = request.flags = request.target = request.multishot_left = 0;
    request.result = 0;
    request.idle_tries = 0;
    request.stage = Stage::begun;
    request.in_use = request.in_work_list = request.findable = request.event_pending = false;
    request.cancelled = request.failed = request.skip = request.silences_chain = request.polled = false;
    request.multishot = request.no_wait = request.partial = request.drains = request.at_worker = false;
    request.finished = request.delayed = request.tried = request.counted = request.in_progress = request.at_disk =
        false;
    request.next_queued = free_;
    free_ = &request;
    --count_;
}

std::size_t Requests::bucket_of(std::uint64_t user_data) const noexcept {
    return Random::mix(user_data) & (buckets_.size() - 1);
}

void Requests::grow() {
    std::vector<Request*> old(buckets_.size() * 2);
    old.swap(buckets_);
    // Backwards, so that each chain keeps the order in which its requests came: the newest is first.
    for (Request* request = first_; request != nullptr; request = request->next_cancellable) {
        Request*& bucket = buckets_[bucket_of(request->entry.user_data)];
        request->next_in_bucket = bucket;
        bucket = request;
    }
}

void Requests::insert(Request& request) {
    if (request.findable) return;
    if (findable_ == buckets_.size()) grow();
    request.findable = true;
    ++findable_;
    Request*& bucket = buckets_[bucket_of(request.entry.user_data)];
    request.next_in_bucket = bucket;
    bucket = &request;
    request.next_cancellable = nullptr;
    request.previous_cancellable = last_;
    (last_ != nullptr ? last_->next_cancellable : first_) = &request;
    last_ = &request;
}

void Requests::remove(Request& request) noexcept {
    if (!request.findable) return;
    request.findable = false;
    --findable_;
    Request** at = &buckets_[bucket_of(request.entry.user_data)];
    while (*at != &request) at = &(*at)->next_in_bucket;
    *at = request.next_in_bucket;
    (request.previous_cancellable != nullptr ? request.previous_cancellable->next_cancellable : first_) =
        request.next_cancellable;
    (request.next_cancellable != nullptr ? request.next_cancellable->previous_cancellable : last_) =
        request.previous_cancellable;
}

Request* Requests::find(std::uint64_t user_data) const noexcept {
    Request* request = buckets_[bucket_of(user_data)];
    while (request != nullptr && request->entry.user_data != user_data) request = request->next_in_bucket;
    return request;
}

}  // namespace ferrule::inline v0::sim
