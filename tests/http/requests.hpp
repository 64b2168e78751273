#pragma once

#include <string>
#include <string_view>

namespace ferrule_test {

inline std::string get(std::string_view target, std::string_view headers = {}) {
    return "GET " + std::string(target) + " HTTP/1.1\r\nHost: h\r\n" + std::string(headers) + "\r\n";
}
inline std::string post(std::string_view target, std::string_view body, std::string_view headers = {}) {
    return "POST " + std::string(target) + " HTTP/1.1\r\nHost: h\r\nContent-Length: " + std::to_string(body.size()) +
           "\r\n" + std::string(headers) + "\r\n" + std::string(body);
}
inline std::string chunked(std::string_view target, std::string_view body, std::string_view headers = {}) {
    return "POST " + std::string(target) + " HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n" +
           std::string(headers) + "\r\n" + std::string(body);
}

/// The text so many times.
inline std::string times(std::size_t count, std::string_view text) {
    std::string all;
    while (count-- != 0) all += text;
    return all;
}

}  // namespace ferrule_test
