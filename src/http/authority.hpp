#pragma once

#include <ferrule/http/field.hpp>
#include <ferrule/http/target.hpp>

#include <cstdint>

namespace ferrule::inline v0::http {

// Whether both are the same place, where the scheme's port stands for one that was not sent.
bool same_authority(const Authority& one, const Authority& other, std::uint16_t default_port) noexcept;

}  // namespace ferrule::inline v0::http
