#include <ferrule/http/compressed_body.hpp>
#include <ferrule/http/status.hpp>
#include <ferrule/reactor/reactor.hpp>

#include <cstring>
#include <stdexcept>

namespace ferrule::inline v0::http {

CompressedBody::CompressedBody(Request& request, Response& response, std::string_view content_type)
    : response_(&response) {
    response.content_type(content_type);
    if (!is_compressible(content_type)) return;
    response.header("Vary", "Accept-Encoding");
    // The length of what HEAD is answered with is that of the body as it is: nothing is compressed to be dropped.
    const Status status = response.status();
    if (request.method() == Method::head || has_no_body(status) || status == Status::partial_content) return;
    if (!request.field(KnownField::accept_encoding)) return;
    AcceptEncoding accepted;
    for (const auto& field : request.fields()) {
        if (field.known == KnownField::accept_encoding) accepted.add(field.value);
    }
    Compression& compression = Compression::of(request.reactor());
    const ContentCoding coding = accepted.choose(compression.offered());
    if (coding == ContentCoding::identity) return;
    compressor_ = compression.begin(coding);
    if (!compressor_) return;
    coding_ = coding;
    // Who does not take it as it is gets it compressed, however small.
    if (accepted.weight(ContentCoding::identity) != 0) minimum_bytes_ = compression.options().minimum_bytes;
}

CompressedBody::~CompressedBody() {
    if (!finished_) response_->abandon();
}

void CompressedBody::begin_coding() {
    if (coded_) return;
    response_->header("Content-Encoding", name_of(coding_));
    coded_ = true;
}

std::span<std::byte> CompressedBody::span(std::size_t minimum) {
    if (!compressor_) return response_->span(minimum);
    if (minimum > write_bytes_max) return {};
    std::span<std::byte> room = compressor_->span();
    if (room.size() < minimum || room.empty()) {
        begin_coding();
        static_cast<void>(compressor_->compress(*response_));
        room = compressor_->span();
        if (room.size() < minimum) return {};
    }
    return room;
}

void CompressedBody::advance(std::size_t bytes) {
    compressor_ ? compressor_->advance(bytes) : response_->advance(bytes);
}

bool CompressedBody::write(std::string_view text) {
    if (text.size() > write_bytes_max) throw std::length_error("CompressedBody::write: more than 32 KiB: write_all");
    if (!compressor_) return response_->write(text);
    if (text.empty()) return true;
    const std::span<std::byte> room = span(text.size());
    if (room.empty()) return false;
    std::memcpy(room.data(), text.data(), text.size());
    compressor_->advance(text.size());
    return true;
}

Task<std::expected<void, std::errc>> CompressedBody::write_all(std::span<const std::byte> bytes) {
    return compressor_ ? write_compressed(bytes) : response_->write_all(bytes);
}

Task<std::expected<void, std::errc>> CompressedBody::write_compressed(std::span<const std::byte> bytes) {
    // What is gathered only may still leave as it is.
    if (bytes.size() > compressor_->span().size()) begin_coding();
    for (;;) {
        bytes = bytes.subspan(compressor_->write(bytes, *response_));
        if (bytes.empty()) co_return std::expected<void, std::errc>{};
        auto flushing = response_->flush();
        const auto flushed = co_await std::move(flushing);
        if (!flushed) co_return flushed;
    }
}

Task<std::expected<void, std::errc>> CompressedBody::flush() {
    return compressor_ ? flush_compressed() : response_->flush();
}

Task<std::expected<void, std::errc>> CompressedBody::flush_compressed() {
    begin_coding();
    for (;;) {
        const bool whole = compressor_->flush(*response_);
        auto flushing = response_->flush();
        const auto flushed = co_await std::move(flushing);
        if (whole || !flushed) co_return flushed;
    }
}

bool CompressedBody::try_finish() {
    if (finished_) return true;
    if (!compressor_) {
        if (!response_->begun()) response_->send();
    } else if (!coded_ && compressor_->gathered().size() < minimum_bytes_) {
        response_->send(compressor_->gathered());
    } else {
        begin_coding();
        if (!compressor_->finish(*response_)) return false;
    }
    compressor_.reset();
    finished_ = true;
    return true;
}

Task<std::expected<void, std::errc>> CompressedBody::finish() {
    for (;;) {
        const bool finished = try_finish();
        if (finished) co_return std::expected<void, std::errc>{};
        auto flushing = response_->flush();
        const auto flushed = co_await std::move(flushing);
        if (!flushed) co_return flushed;
    }
}

}  // namespace ferrule::inline v0::http
