#include "sim/packet_filter.hpp"

#include <array>
#include <cerrno>
#include <optional>

namespace ferrule::inline v0::sim {
namespace {

constexpr auto random_number = static_cast<std::uint32_t>(SKF_AD_OFF + SKF_AD_RANDOM);
constexpr auto cpu_number = static_cast<std::uint32_t>(SKF_AD_OFF + SKF_AD_CPU);

// Ancillary data lies behind addresses that a payload never has.
constexpr std::uint32_t payload_max = 0xffff;

bool looks_at_payload(const sock_filter& instruction) {
    switch (instruction.code) {
        case BPF_LD | BPF_W | BPF_ABS:
        case BPF_LD | BPF_H | BPF_ABS:
        case BPF_LD | BPF_B | BPF_ABS:
        case BPF_LD | BPF_W | BPF_IND:
        case BPF_LD | BPF_H | BPF_IND:
        case BPF_LD | BPF_B | BPF_IND:
            return instruction.k <= payload_max;
        case BPF_LD | BPF_W | BPF_LEN:
        case BPF_LDX | BPF_W | BPF_LEN:
            return true;
        default:
            return false;
    }
}

bool is_known(const sock_filter& instruction, std::size_t left) {
    switch (instruction.code) {
        case BPF_LD | BPF_W | BPF_ABS:
            return instruction.k == random_number || instruction.k == cpu_number;
        case BPF_ALU | BPF_DIV | BPF_K:
        case BPF_ALU | BPF_MOD | BPF_K:
            return instruction.k != 0;
        case BPF_ALU | BPF_LSH | BPF_K:
        case BPF_ALU | BPF_RSH | BPF_K:
            return instruction.k < 32;
        case BPF_LD | BPF_IMM:
        case BPF_LDX | BPF_IMM:
        case BPF_MISC | BPF_TAX:
        case BPF_MISC | BPF_TXA:
        case BPF_ALU | BPF_ADD | BPF_K:
        case BPF_ALU | BPF_SUB | BPF_K:
        case BPF_ALU | BPF_MUL | BPF_K:
        case BPF_ALU | BPF_AND | BPF_K:
        case BPF_ALU | BPF_OR | BPF_K:
        case BPF_ALU | BPF_XOR | BPF_K:
        case BPF_ALU | BPF_ADD | BPF_X:
        case BPF_ALU | BPF_SUB | BPF_X:
        case BPF_ALU | BPF_AND | BPF_X:
        case BPF_ALU | BPF_OR | BPF_X:
        case BPF_ALU | BPF_XOR | BPF_X:
        case BPF_RET | BPF_K:
        case BPF_RET | BPF_A:
            return true;
        case BPF_LD | BPF_MEM:
        case BPF_LDX | BPF_MEM:
        case BPF_ST:
        case BPF_STX:
            return instruction.k < BPF_MEMWORDS;
        case BPF_JMP | BPF_JA:
            return instruction.k < left;
        case BPF_JMP | BPF_JEQ | BPF_K:
        case BPF_JMP | BPF_JGT | BPF_K:
        case BPF_JMP | BPF_JGE | BPF_K:
        case BPF_JMP | BPF_JSET | BPF_K:
        case BPF_JMP | BPF_JEQ | BPF_X:
        case BPF_JMP | BPF_JGT | BPF_X:
        case BPF_JMP | BPF_JGE | BPF_X:
        case BPF_JMP | BPF_JSET | BPF_X:
            return instruction.jt < left && instruction.jf < left;
        default:
            return false;
    }
}

std::uint32_t calculate(unsigned operation, std::uint32_t left, std::uint32_t right) noexcept {
    switch (operation) {
        case BPF_ADD:
            return left + right;
        case BPF_SUB:
            return left - right;
        case BPF_MUL:
            return left * right;
        case BPF_DIV:
            return left / right;
        case BPF_MOD:
            return left % right;
        case BPF_AND:
            return left & right;
        case BPF_OR:
            return left | right;
        case BPF_XOR:
            return left ^ right;
        case BPF_LSH:
            return left << right;
        default:
            return left >> right;
    }
}

bool holds(unsigned operation, std::uint32_t left, std::uint32_t right) noexcept {
    switch (operation) {
        case BPF_JEQ:
            return left == right;
        case BPF_JGT:
            return left > right;
        case BPF_JGE:
            return left >= right;
        default:
            return (left & right) != 0;
    }
}

/// A number of the payload, in network order; nothing behind its end.
std::optional<std::uint32_t> number_at(std::span<const std::byte> payload, std::uint64_t offset, std::uint16_t code) {
    const std::size_t width = BPF_SIZE(code) == BPF_W ? 4 : BPF_SIZE(code) == BPF_H ? 2 : 1;
    if (offset + width > payload.size()) return std::nullopt;
    std::uint32_t number = 0;
    for (const std::byte byte : payload.subspan(offset, width)) {
        number = number << 8 | std::to_integer<std::uint32_t>(byte);
    }
    return number;
}

}  // namespace

std::expected<PacketFilter, int> PacketFilter::load(std::span<const sock_filter> program, bool datagrams) {
    if (program.empty() || program.size() > BPF_MAXINSNS || BPF_CLASS(program.back().code) != BPF_RET) {
        return std::unexpected(-EINVAL);
    }
    for (std::size_t at = 0; at < program.size(); ++at) {
        if (datagrams && looks_at_payload(program[at])) continue;
        if (!is_known(program[at], program.size() - at - 1)) return std::unexpected(-EINVAL);
    }
    return PacketFilter(program);
}

std::uint32_t PacketFilter::run(World& world, std::span<const std::byte> payload) const {
    std::uint32_t accumulator = 0;
    std::uint32_t index = 0;
    std::array<std::uint32_t, BPF_MEMWORDS> memory{};
    for (std::size_t at = 0;; ++at) {
        const sock_filter& instruction = program_[at];
        const std::uint16_t code = instruction.code;
        const std::uint32_t k = instruction.k;
        // Of arithmetic and jumps.
        const std::uint32_t operand = BPF_SRC(code) == BPF_X ? index : k;
        switch (BPF_CLASS(code)) {
            case BPF_LD:
                if (BPF_MODE(code) == BPF_IMM) {
                    accumulator = k;
                } else if (BPF_MODE(code) == BPF_MEM) {
                    accumulator = memory[k];
                } else if (BPF_MODE(code) == BPF_LEN) {
                    accumulator = static_cast<std::uint32_t>(payload.size());
                } else if (k == random_number) {
                    accumulator = static_cast<std::uint32_t>(world.random().next());
                } else if (k == cpu_number) {
                    accumulator = 0;
                } else {
                    const std::uint64_t offset = std::uint64_t{k} + (BPF_MODE(code) == BPF_IND ? index : 0);
                    const auto number = number_at(payload, offset, code);
                    if (!number) return 0;
                    accumulator = *number;
                }
                break;
            case BPF_LDX:
                index = BPF_MODE(code) == BPF_IMM   ? k
                        : BPF_MODE(code) == BPF_MEM ? memory[k]
                                                    : static_cast<std::uint32_t>(payload.size());
                break;
            case BPF_ST:
                memory[k] = accumulator;
                break;
            case BPF_STX:
                memory[k] = index;
                break;
            case BPF_MISC:
                (BPF_MISCOP(code) == BPF_TAX ? index : accumulator) = BPF_MISCOP(code) == BPF_TAX ? accumulator : index;
                break;
            case BPF_ALU:
                accumulator = calculate(BPF_OP(code), accumulator, operand);
                break;
            case BPF_JMP:
                if (BPF_OP(code) == BPF_JA) {
                    at += k;
                } else {
                    at += holds(BPF_OP(code), accumulator, operand) ? instruction.jt : instruction.jf;
                }
                break;
            default:
                return BPF_RVAL(code) == BPF_A ? accumulator : k;
        }
    }
}

}  // namespace ferrule::inline v0::sim
