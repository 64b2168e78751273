#include <ferrule/http/method.hpp>

#include "http/method_table.hpp"

namespace ferrule::inline v0::http {

std::string_view name_of(Method method) noexcept {
    const auto index = static_cast<std::size_t>(method);
    return index < std::size(method_names) ? method_names[index] : std::string_view{};
}

Method method_of(std::string_view name) noexcept {
    return find_method(name);
}

}  // namespace ferrule::inline v0::http
