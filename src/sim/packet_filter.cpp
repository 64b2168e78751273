#include "sim/packet_filter.hpp"

#include <algorithm>
#include <cerrno>

namespace ferrule::inline v0::sim {
namespace {

constexpr auto random_number = static_cast<std::uint32_t>(SKF_AD_OFF + SKF_AD_RANDOM);
constexpr auto cpu_number = static_cast<std::uint32_t>(SKF_AD_OFF + SKF_AD_CPU);

bool is_known(const sock_filter& instruction, std::size_t left) {
    switch (instruction.code) {
        case BPF_LD | BPF_W | BPF_ABS:
            return instruction.k == random_number || instruction.k == cpu_number;
        case BPF_ALU | BPF_DIV | BPF_K:
        case BPF_ALU | BPF_MOD | BPF_K:
            return instruction.k != 0;
        case BPF_LD | BPF_IMM:
        case BPF_ALU | BPF_ADD | BPF_K:
        case BPF_ALU | BPF_SUB | BPF_K:
        case BPF_ALU | BPF_MUL | BPF_K:
        case BPF_ALU | BPF_AND | BPF_K:
        case BPF_ALU | BPF_OR | BPF_K:
        case BPF_RET | BPF_K:
        case BPF_RET | BPF_A:
            return true;
        case BPF_JMP | BPF_JA:
            return instruction.k < left;
        case BPF_JMP | BPF_JEQ | BPF_K:
        case BPF_JMP | BPF_JGT | BPF_K:
        case BPF_JMP | BPF_JGE | BPF_K:
        case BPF_JMP | BPF_JSET | BPF_K:
            return instruction.jt < left && instruction.jf < left;
        default:
            return false;
    }
}

}  // namespace

std::expected<PacketFilter, int> PacketFilter::load(std::span<const sock_filter> program) {
    if (program.empty() || program.size() > BPF_MAXINSNS || BPF_CLASS(program.back().code) != BPF_RET) {
        return std::unexpected(-EINVAL);
    }
    for (std::size_t at = 0; at < program.size(); ++at) {
        if (!is_known(program[at], program.size() - at - 1)) return std::unexpected(-EINVAL);
    }
    return PacketFilter(program);
}

std::uint32_t PacketFilter::run(World& world) const {
    std::uint32_t accumulator = 0;
    for (std::size_t at = 0;; ++at) {
        const sock_filter& instruction = program_[at];
        const std::uint32_t k = instruction.k;
        const auto jump = [&](bool taken) { at += taken ? instruction.jt : instruction.jf; };
        switch (instruction.code) {
            case BPF_LD | BPF_W | BPF_ABS:
                accumulator = k == random_number ? static_cast<std::uint32_t>(world.random().next()) : 0;
                break;
            case BPF_LD | BPF_IMM:
                accumulator = k;
                break;
            case BPF_ALU | BPF_ADD | BPF_K:
                accumulator += k;
                break;
            case BPF_ALU | BPF_SUB | BPF_K:
                accumulator -= k;
                break;
            case BPF_ALU | BPF_MUL | BPF_K:
                accumulator *= k;
                break;
            case BPF_ALU | BPF_DIV | BPF_K:
                accumulator /= k;
                break;
            case BPF_ALU | BPF_MOD | BPF_K:
                accumulator %= k;
                break;
            case BPF_ALU | BPF_AND | BPF_K:
                accumulator &= k;
                break;
            case BPF_ALU | BPF_OR | BPF_K:
                accumulator |= k;
                break;
            case BPF_JMP | BPF_JA:
                at += k;
                break;
            case BPF_JMP | BPF_JEQ | BPF_K:
                jump(accumulator == k);
                break;
            case BPF_JMP | BPF_JGT | BPF_K:
                jump(accumulator > k);
                break;
            case BPF_JMP | BPF_JGE | BPF_K:
                jump(accumulator >= k);
                break;
            case BPF_JMP | BPF_JSET | BPF_K:
                jump((accumulator & k) != 0);
                break;
            case BPF_RET | BPF_K:
                return k;
            default:
                return accumulator;
        }
    }
}

}  // namespace ferrule::inline v0::sim
