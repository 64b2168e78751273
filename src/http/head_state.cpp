#include <ferrule/http/head_state.hpp>

#include "http/limit_check.hpp"

namespace ferrule::inline v0::http::detail {

HeadState::HeadState(const HeadLimits& limits)
    : head_bytes(check_limit("head_bytes", limits.head_bytes, head_bytes_max)),
      line_bytes(static_cast<std::uint16_t>(check_limit("line_bytes", limits.line_bytes, line_bytes_max))),
      field_limit(static_cast<std::uint16_t>(check_limit("fields", limits.fields, fields_max))),
      behind_proxy(limits.behind_proxy) {}

}  // namespace ferrule::inline v0::http::detail
