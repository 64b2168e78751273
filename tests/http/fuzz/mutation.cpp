#include "http/fuzz/mutation.hpp"

#include <algorithm>
#include <iterator>
#include <string_view>

namespace ferrule_test {

namespace {

// What parsers have disagreed about.
constexpr std::string_view morsels[] = {
    "\r\n",
    "\n",
    "\r",
    "\r\n\r\n",
    "\r\n ",
    "\r\n\t",
    " ",
    "\t",
    ":",
    ": ",
    " :",
    ",",
    ";",
    "=",
    "\"",
    "\\",
    "0",
    "00",
    "+",
    "-",
    "0x",
    "_",
    "#",
    "?",
    "/",
    "*",
    "%00",
    "@",
    "[::1]",
    std::string_view("\0", 1),
    "\x0b",
    "\x0c",
    "\x7f",
    "\x80",
    "\xff",
    "chunked",
    "identity",
    "gzip, chunked",
    "close",
    "keep-alive",
    "100-continue",
    "HTTP/1.1",
    "HTTP/1.0",
    "HTTP/2.0",
    "GET / HTTP/1.1\r\nHost: x\r\n\r\n",
    "0\r\n\r\n",
    "1\r\nx\r\n",
    "ffffffffffffffff\r\n",
    "7fffffffffffffff\r\n",
};

constexpr std::string_view lines[] = {
    "Host: x\r\n",
    "Host: y\r\n",
    "Content-Length: 0\r\n",
    "Content-Length: 5\r\n",
    "Content-Length: 18446744073709551616\r\n",
    "Transfer-Encoding: chunked\r\n",
    "Transfer-Encoding: gzip\r\n",
    "Connection: close\r\n",
    "Connection: upgrade, keep-alive\r\n",
    "Upgrade: websocket\r\n",
    "Expect: 100-continue\r\n",
    "X-Long-Name-That-Nobody-Knows-And-That-Is-Longer-Than-A-Block: value\r\n",
    "X: \ta\t \r\n",
    "X:\r\n",
};

}  // namespace

// Doubles, drops, moves or adds a whole line.
void Mutation::change_line(std::string& text) {
    std::vector<std::size_t> begins{0};
    for (std::size_t at = text.find('\n'); at != std::string::npos; at = text.find('\n', at + 1))
        begins.push_back(at + 1);
    const std::size_t which = below(begins.size());
    const std::size_t begin = begins[which];
    const std::size_t end = which + 1 < begins.size() ? begins[which + 1] : text.size();
    const std::string line = text.substr(begin, end - begin);
    switch (below(4)) {
        case 0:
            text.insert(begin, line);
            break;
        case 1:
            text.erase(begin, end - begin);
            break;
        case 2:
            text.erase(begin, end - begin);
            text.insert(std::min(one_of(begins), text.size()), line);
            break;
        default:
            text.insert(begin, one_of(lines));
            break;
    }
}

void Mutation::change(std::string& text) {
    const std::size_t at = below(text.size() + 1);
    const std::size_t rest = text.size() - at;
    switch (below(8)) {
        case 0:
            text.insert(at, one_of(morsels));
            break;
        case 1:
            text.erase(at, std::min(rest, 1 + below(4)));
            break;
        case 2:
            text.replace(at, std::min(rest, below(4)), one_of(morsels));
            break;
        case 3:
            if (rest > 0) text[at] = static_cast<char>(random_());
            break;
        case 4:
            if (rest > 0) text[at] = static_cast<char>(text[at] ^ (1u << below(8)));
            break;
        case 5:
            text.insert(at, 1 + below(70), one_of(morsels).front());
            break;
        default:
            change_line(text);
            break;
    }
}

std::string Mutation::next() {
    std::string text = one_of(corpus_);
    while (below(3) == 0) text += one_of(corpus_);
    for (std::size_t changes = below(5); changes > 0; --changes) change(text);
    return text;
}

}  // namespace ferrule_test
