#include <ferrule/http/response_parser.hpp>

#include "http/response_machine.hpp"
#include "http/vector_scan.hpp"

namespace ferrule::inline v0::http {

ParseState ResponseParser::parse(std::string_view bytes, std::span<FieldPosition> fields) noexcept {
    return ResponseMachine<VectorScan>::parse(*this, bytes, fields);
}

BodyFraming ResponseParser::framing(Method request) const noexcept {
    constexpr std::uint16_t first_success = 200;
    constexpr std::uint16_t behind_success = 300;
    if (request == Method::head || has_no_body(status())) return BodyFraming::none;
    if (request == Method::connect && code_ >= first_success && code_ < behind_success) return BodyFraming::none;
    if (state_.facts & has_coding) return BodyFraming::chunked;
    return state_.facts & has_length ? BodyFraming::length : BodyFraming::until_close;
}

bool ResponseParser::keep_alive(Method request) const noexcept {
    return keeps_alive(state_) && framing(request) != BodyFraming::until_close;
}

}  // namespace ferrule::inline v0::http
