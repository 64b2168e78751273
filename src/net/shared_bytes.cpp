#include <ferrule/net/shared_bytes.hpp>
#include <ferrule/reactor/reactor.hpp>

#include "net/shared_count.hpp"

#include <algorithm>
#include <memory>
#include <utility>

namespace ferrule::inline v0 {

namespace detail {

namespace {

void give_back(SharedOrigin* origin) noexcept {
    if (origin->released) origin->released();
    delete origin;
}

}  // namespace

void SharedCount::end() noexcept {
    SharedOrigin* ended = origin;
    delete this;
    if (ended->counts.fetch_sub(1, std::memory_order_acq_rel) != 1) return;
    if (ended->home == nullptr || ended->host == Host::current()) {
        give_back(ended);
        return;
    }
    ended->run = [](Message* message, bool) noexcept { give_back(static_cast<SharedOrigin*>(message)); };
    const std::shared_ptr<Inbox> home = ended->home;
    if (!home->put_beyond_limit(*ended)) {
        give_back(ended);
    } else if (home->claim_wake()) {
        home->wake();
    }
}

}  // namespace detail

SharedBytes SharedBytes::make(detail::SharedOrigin* origin) {
    std::unique_ptr<detail::SharedOrigin> made{origin};
    auto count = std::make_unique<detail::SharedCount>();
    if (Reactor* reactor = Reactor::current()) made->home = count->inbox = reactor->inbox();
    count->origin = origin;
    count->host = made->host;
    const Slice bytes = made->bytes.empty()
                            ? Slice{reinterpret_cast<const std::byte*>(made->text.data()), made->text.size()}
                            : Slice{made->bytes.data(), made->bytes.size()};
    static_cast<void>(made.release());
    return {count.release(), bytes};
}

SharedBytes SharedBytes::copy(std::span<const std::byte> bytes) {
    return own(std::vector<std::byte>(bytes.begin(), bytes.end()));
}

SharedBytes SharedBytes::copy(std::string_view text) {
    return own(std::string(text));
}

SharedBytes SharedBytes::own(std::string&& text) {
    auto origin = std::make_unique<detail::SharedOrigin>();
    origin->text = std::move(text);
    return make(origin.release());
}

SharedBytes SharedBytes::own(std::vector<std::byte>&& bytes) {
    auto origin = std::make_unique<detail::SharedOrigin>();
    origin->bytes = std::move(bytes);
    return make(origin.release());
}

SharedBytes SharedBytes::borrow(std::span<const std::byte> bytes, std::move_only_function<void()> released) {
    auto origin = std::make_unique<detail::SharedOrigin>();
    SharedBytes made = make(origin.release());
    made.count_->origin->released = std::move(released);
    made.bytes_ = Slice{bytes.data(), bytes.size()};
    return made;
}

SharedBytes::SharedBytes(const SharedBytes& other) noexcept : count_(other.count_), bytes_(other.bytes_) {
    if (count_ != nullptr) count_->add();
}

SharedBytes SharedBytes::part(std::size_t offset, std::size_t length) const noexcept {
    SharedBytes some{*this};
    offset = std::min(offset, bytes_.size());
    some.bytes_ = Slice{bytes_.data() + offset, std::min(length, bytes_.size() - offset)};
    return some;
}

SharedBytes SharedBytes::for_reactor(Reactor& other) const {
    if (count_ == nullptr || count_->host == &other) return *this;
    if (!count_->at_home()) [[unlikely]]
        assertion_failed(__FILE__, __LINE__, "SharedBytes are used on a thread that is not their reactor's");
    auto count = std::make_unique<detail::SharedCount>();
    count->origin = count_->origin;
    count->host = &other;
    count->inbox = other.inbox();
    count_->origin->counts.fetch_add(1, std::memory_order_relaxed);
    return {count.release(), bytes_};
}

void SharedBytes::reset() noexcept {
    bytes_ = {};
    if (detail::SharedCount* count = std::exchange(count_, nullptr)) count->release();
}

}  // namespace ferrule::inline v0
