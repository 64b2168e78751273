#include <ferrule/http/request_parser.hpp>

#include "http/request_machine.hpp"
#include "http/vector_scan.hpp"

namespace ferrule::inline v0::http {

ParseState RequestParser::parse(std::string_view bytes, std::span<FieldPosition> fields) noexcept {
    return RequestMachine<VectorScan>::parse(*this, bytes, fields);
}

BodyFraming RequestParser::framing() const noexcept {
    if (state_.facts & has_coding) return BodyFraming::chunked;
    return state_.facts & has_length ? BodyFraming::length : BodyFraming::none;
}

bool RequestParser::keep_alive() const noexcept {
    return keeps_alive(state_);
}

bool RequestParser::expects_continue() const noexcept {
    return (state_.facts & expects_100) != 0 && ((state_.facts & has_coding) != 0 || state_.content_length > 0);
}

bool RequestParser::wants_upgrade() const noexcept {
    constexpr unsigned both = has_upgrade | says_upgrade;
    return (state_.facts & both) == both && state_.version == Version::http_1_1;
}

}  // namespace ferrule::inline v0::http
