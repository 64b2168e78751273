#pragma once

#include <ferrule/http/field.hpp>
#include <ferrule/http/request_parser.hpp>
#include <ferrule/http/target.hpp>
#include <ferrule/version.hpp>

#include <optional>
#include <span>
#include <string_view>

namespace ferrule::inline v0::http {

/// A complete head of a request as text. A view: it is good as long as the bytes, the positions and the parser are
/// there and unchanged, and is made anew, for nothing, when the bytes have moved.
class RequestHead {
public:
    /// Of no request: nothing but assignment is allowed.
    RequestHead() = default;
    /// `bytes` begin with the head that the parser has found complete, and `fields` is what it has filled.
    RequestHead(std::string_view bytes, const RequestParser& parser, std::span<const FieldPosition> fields) noexcept
        : base_(bytes.data()), parser_(&parser), fields_(fields.data()) {}

    /// What the parser knows of it: method, version, framing and the rest.
    [[nodiscard]] const RequestParser& parser() const noexcept { return *parser_; }
    /// The whole head, with the blank line at its end.
    [[nodiscard]] std::string_view text() const noexcept { return {base_, parser_->head_size()}; }
    /// The method as it was sent.
    [[nodiscard]] std::string_view method_text() const noexcept {
        return {base_ + parser_->method_begin(), parser_->method_size()};
    }
    /// The target as it was sent.
    [[nodiscard]] std::string_view target() const noexcept {
        return {base_ + parser_->target_begin(), parser_->target_size()};
    }
    /// The target's parts. It is searched for them at each call.
    [[nodiscard]] Target split() const noexcept { return split_target(target(), parser_->target_form()); }
    /// The host, with a port where one was sent: of the Host field, with which an absolute target agrees. Empty:
    /// HTTP/1.0 without one.
    [[nodiscard]] std::string_view host() const noexcept { return field(KnownField::host).value_or(""); }

    /// The fields, in the order in which they were sent.
    [[nodiscard]] FieldList fields() const noexcept { return {base_, {fields_, parser_->field_count()}}; }
    /// The value of the first field of that name, in any case; nothing: there is none.
    [[nodiscard]] std::optional<std::string_view> field(KnownField name) const noexcept { return fields().find(name); }
    [[nodiscard]] std::optional<std::string_view> field(std::string_view name) const noexcept {
        return fields().find(name);
    }

private:
    const char* base_ = nullptr;
    const RequestParser* parser_ = nullptr;
    const FieldPosition* fields_ = nullptr;
};

}  // namespace ferrule::inline v0::http
