// The HTTP library as it is installed: it writes what a handler would send.
#include <ferrule/http/json_writer.hpp>

#include <cstdio>
#include <string>
#include <vector>

int main() {
    std::string text;
    ferrule::http::StringSink sink(text);
    ferrule::http::JsonWriter json(sink);
    json.begin_object();
    json.member("name", "a \"ring\"");
    json.member("sizes", std::vector<double>{1, 2.5});
    json.end_object();
    const bool written = json.finish() && text == R"({"name":"a \"ring\"","sizes":[1,2.5]})";
    if (!written) std::fprintf(stderr, "%s\n", text.c_str());
    return written ? 0 : 1;
}
