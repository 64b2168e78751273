// The component for compressed bodies as it is installed.
#include <ferrule/http/compression.hpp>

#include <cstdio>
#include <string>

namespace http = ferrule::http;

int main() {
    http::Compression compression;
    const std::string text(10'000, 'x');
    for (const http::ContentCoding coding : compression.offered()) {
        std::string packed;
        http::StringSink sink(packed);
        auto compressor = compression.begin(coding);
        if (!compressor || compressor->write(text, sink) != text.size() || !compressor->finish(sink)) return 1;
        if (packed.empty() || packed.size() > 1000) return 2;
    }
    return 0;
}
