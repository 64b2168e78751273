#pragma once

#include <memory>
#include <stdexcept>
#include <string>
#include <typeinfo>
#include <utility>
#include <vector>

namespace ferrule::inline v0 {

/// One object per type: what a reactor's tasks share, such as a client pool. The engine never names a service's type.
/// Single-threaded.
class Services {
public:
    Services() = default;
    Services(const Services&) = delete;
    Services& operator=(const Services&) = delete;
    /// Services end in the opposite order of their creation.
    ~Services() { clear(); }

    /// Ends all services.
    void clear() noexcept {
        while (!entries_.empty()) entries_.pop_back();
    }

    /// Makes a `T` from the arguments and keeps it. Throws std::logic_error when there is one already, and what T's
    /// constructor throws.
    template <class T, class... Arguments>
    T& add(Arguments&&... arguments) {
        if (find<T>() != nullptr) throw std::logic_error(std::string("service added twice: ") + typeid(T).name());
        auto holder = std::make_unique<Holder<T>>(std::forward<Arguments>(arguments)...);
        T& value = holder->value;
        entries_.push_back({&key<T>, std::move(holder)});
        return value;
    }

    /// The `T`; null when there is none.
    template <class T>
    [[nodiscard]] T* find() const noexcept {
        for (const Entry& entry : entries_) {
            if (entry.key == &key<T>) return &static_cast<Holder<T>*>(entry.holder.get())->value;
        }
        return nullptr;
    }

    /// The `T`. Throws std::logic_error, which names the type, when there is none.
    template <class T>
    [[nodiscard]] T& get() const {
        if (T* found = find<T>()) return *found;
        throw std::logic_error(std::string("no such service on this reactor: ") + typeid(T).name());
    }

private:
    template <class T>
    static constexpr char key = 0;  // its address tells the type

    struct HolderBase {
        virtual ~HolderBase() = default;
    };
    template <class T>
    struct Holder final : HolderBase {
        template <class... Arguments>
        explicit Holder(Arguments&&... arguments) : value(std::forward<Arguments>(arguments)...) {}
        T value;
    };
    struct Entry {
        const char* key;
        std::unique_ptr<HolderBase> holder;
    };
    std::vector<Entry> entries_;
};

}  // namespace ferrule::inline v0
