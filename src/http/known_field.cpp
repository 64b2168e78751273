#include <ferrule/http/field.hpp>
#include <ferrule/http/known_field.hpp>

#include "http/known_field_table.hpp"

namespace ferrule::inline v0::http {

std::string_view name_of(KnownField field) noexcept {
    const auto index = static_cast<std::size_t>(field);
    return index == 0 || index > known_field_count ? std::string_view{} : known_field_names[index - 1];
}

KnownField known_field_of(std::string_view name) noexcept {
    return is_token(name) ? find_known_field(name.data(), name.size()) : KnownField::unknown;
}

}  // namespace ferrule::inline v0::http
