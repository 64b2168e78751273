#include <ferrule/http/chunked_decoder.hpp>
#include <ferrule/http/request_head.hpp>
#include <ferrule/http/response_parser.hpp>

#include <string_view>

namespace http = ferrule::http;

// A request, its body and its answer: 0 when they are what they are.
int main() {
    http::FieldPosition fields[4];
    http::RequestParser request;
    const std::string_view text = "POST /a?b=c HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n";
    if (request.parse(text, fields) != http::ParseState::complete) return 1;
    const http::RequestHead head(text, request, fields);
    if (http::Query(head.split().query).find("b") != "c" || head.field("host") != "x") return 2;
    http::ChunkedDecoder decoder;
    if (decoder.step("2\r\nok\r\n0\r\n\r\n").data != "ok") return 3;
    http::ResponseParser response;
    if (response.parse("HTTP/1.1 204 No Content\r\n\r\n", fields) != http::ParseState::complete) return 4;
    return http::reason_of(response.status()) == "No Content" ? 0 : 5;
}
