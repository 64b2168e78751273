#include "reactor/symbols.hpp"

#include <cxxabi.h>
#include <elf.h>
#include <fcntl.h>
#include <link.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <string_view>

namespace ferrule::inline v0 {
namespace {

constexpr std::size_t symbols_at_a_time = 1024;
constexpr std::size_t name_bytes_max = 4096;
constexpr std::size_t sections_max = 65536;
constexpr const char* own_file = "/proc/self/exe";

/// A file that may be anything: every read says whether it had all that was asked for.
class ObjectFile {
public:
    explicit ObjectFile(const char* path) noexcept : descriptor_(::open(path, O_RDONLY | O_CLOEXEC)) {}
    ~ObjectFile() {
        if (descriptor_ >= 0) ::close(descriptor_);
    }
    ObjectFile(const ObjectFile&) = delete;
    ObjectFile& operator=(const ObjectFile&) = delete;

    bool read(void* data, std::size_t bytes, std::uint64_t offset) const noexcept {
        return read_some(data, bytes, offset) == bytes;
    }
    std::size_t read_some(void* data, std::size_t bytes, std::uint64_t offset) const noexcept {
        std::size_t done = 0;
        while (descriptor_ >= 0 && done != bytes) {
            const ssize_t got =
                ::pread(descriptor_, static_cast<char*>(data) + done, bytes - done, static_cast<off_t>(offset + done));
            if (got <= 0) break;
            done += static_cast<std::size_t>(got);
        }
        return done;
    }

    /// The symbols' section, with local ones if it has them, and the section of their names.
    bool find_symbols(ElfW(Shdr) & symbols, ElfW(Shdr) & names) const {
        ElfW(Ehdr) header;
        if (!read(&header, sizeof header, 0) || std::memcmp(header.e_ident, ELFMAG, SELFMAG) != 0) return false;
        if (header.e_shentsize != sizeof(ElfW(Shdr)) || header.e_shnum > sections_max) return false;
        std::vector<ElfW(Shdr)> sections(header.e_shnum);
        if (!read(sections.data(), sections.size() * sizeof(ElfW(Shdr)), header.e_shoff)) return false;
        for (const auto wanted : {SHT_SYMTAB, SHT_DYNSYM}) {
            const auto found = std::find_if(sections.begin(), sections.end(), [&](const ElfW(Shdr) & section) {
                return section.sh_type == static_cast<ElfW(Word)>(wanted);
            });
            if (found == sections.end() || found->sh_link >= sections.size()) continue;
            symbols = *found;
            names = sections[found->sh_link];
            return true;
        }
        return false;
    }

    std::string name_at(std::uint64_t offset) const {
        std::array<char, name_bytes_max> name;
        const std::size_t bytes = read_some(name.data(), name.size(), offset);
        return {name.data(), ::strnlen(name.data(), bytes)};
    }

private:
    int descriptor_;
};

struct Address {
    std::uintptr_t value = 0;
    std::size_t index = 0;  // in the caller's list
};

/// A part of the program, and which of the addresses are in it.
struct Module {
    std::string path;
    std::vector<Address> offsets;
};

struct Search {
    std::vector<Address> wanted;
    std::vector<Module> modules;
};

int visit_module(dl_phdr_info* info, std::size_t, void* argument) {
    auto& search = *static_cast<Search*>(argument);
    Module module;
    for (const Address& address : search.wanted) {
        for (int index = 0; index < info->dlpi_phnum; ++index) {
            const auto& header = info->dlpi_phdr[index];
            const std::uintptr_t begin = info->dlpi_addr + header.p_vaddr;
            if (header.p_type != PT_LOAD || address.value < begin || address.value - begin >= header.p_memsz) continue;
            module.offsets.push_back({address.value - info->dlpi_addr, address.index});
            break;
        }
    }
    if (module.offsets.empty()) return 0;
    // The program itself comes first, and without a name.
    module.path = info->dlpi_name != nullptr && *info->dlpi_name != '\0' ? info->dlpi_name : own_file;
    search.modules.push_back(std::move(module));
    return 0;
}

void name_symbols(const Module& module, std::span<StackFrame> frames) {
    const ObjectFile file(module.path.c_str());
    ElfW(Shdr) symbols;
    ElfW(Shdr) names;
    if (!file.find_symbols(symbols, names)) return;
    struct Found {
        std::uint32_t name = 0;
        std::uintptr_t begin = 0;
    };
    std::vector<Found> found(module.offsets.size());
    const auto chunk = std::make_unique<std::array<ElfW(Sym), symbols_at_a_time>>();
    const std::size_t count = symbols.sh_size / sizeof(ElfW(Sym));
    for (std::size_t first = 0; first < count; first += symbols_at_a_time) {
        const std::size_t here = std::min(symbols_at_a_time, count - first);
        if (!file.read(chunk->data(), here * sizeof(ElfW(Sym)), symbols.sh_offset + first * sizeof(ElfW(Sym)))) return;
        for (const ElfW(Sym) & symbol : std::span(chunk->data(), here)) {
            // The type is in the low bits, for both sizes of words.
            if ((symbol.st_info & 0xf) != STT_FUNC || symbol.st_shndx == SHN_UNDEF) continue;
            for (std::size_t index = 0; index < found.size(); ++index) {
                const std::uintptr_t offset = module.offsets[index].value;
                if (offset < symbol.st_value || offset - symbol.st_value >= symbol.st_size) continue;
                // Of those that contain it, a part of a function may be a symbol of its own.
                if (found[index].name == 0 || symbol.st_value > found[index].begin)
                    found[index] = {symbol.st_name, symbol.st_value};
            }
        }
    }
    for (std::size_t index = 0; index < found.size(); ++index) {
        if (found[index].name == 0 || found[index].name >= names.sh_size) continue;
        StackFrame& frame = frames[module.offsets[index].index];
        frame.function = readable_name(file.name_at(names.sh_offset + found[index].name), frame.coroutine);
    }
}

std::string own_path() {
    std::array<char, name_bytes_max> path;
    const ssize_t length = ::readlink(own_file, path.data(), path.size());
    return length > 0 ? std::string(path.data(), static_cast<std::size_t>(length)) : own_file;
}

std::string demangle(const std::string& symbol) {
    int status = 0;
    const std::unique_ptr<char, void (*)(void*)> name{::abi::__cxa_demangle(symbol.c_str(), nullptr, nullptr, &status),
                                                      std::free};
    std::string readable = status == 0 && name != nullptr ? name.get() : symbol;
    // Nobody writes the inline namespace.
    constexpr std::string_view written = "ferrule::", stands = "ferrule::v0::";
    for (std::size_t at = 0; (at = readable.find(stands, at)) != std::string::npos; at += written.size())
        readable.replace(at, stands.size(), written);
    return readable;
}

/// GCC makes the body of a coroutine a function `.actor` with a pointer to a frame, whose type has the mangled name of
/// the coroutine in its own: `..106_ZN3app5serveE...Frame.actor`. The number is the length of what follows.
std::string coroutine_of_actor(const std::string& symbol) {
    const std::size_t end = symbol.find(".Frame.");
    if (end == std::string::npos) return {};
    const std::size_t frame_end = end + std::string_view(".Frame").size();
    for (std::size_t at = symbol.find("_Z", 1); at != std::string::npos && at < end; at = symbol.find("_Z", at + 1)) {
        std::size_t digits = at;
        while (digits > 0 && symbol[digits - 1] >= '0' && symbol[digits - 1] <= '9') --digits;
        // The digits before may belong to what stands before, too.
        for (; digits < at; ++digits) {
            if (std::strtoull(symbol.c_str() + digits, nullptr, 10) == frame_end - at)
                return symbol.substr(at, end - at);
        }
    }
    return {};
}

}  // namespace

std::string readable_name(const std::string& symbol, bool& coroutine) {
    coroutine = false;
    for (const std::string_view clone : {".actor", ".resume", ".destroy", ".cleanup"}) {
        const std::size_t at = symbol.find(clone);
        // Behind it only parts of it may come: `.cold`, `.part.0`, `.isra.0`.
        if (at == std::string::npos || (at + clone.size() != symbol.size() && symbol[at + clone.size()] != '.'))
            continue;
        std::string own = coroutine_of_actor(symbol);
        coroutine = true;
        return demangle(own.empty() ? symbol.substr(0, at) : own);
    }
    // What the compiler has split off is not for people.
    return demangle(symbol.substr(0, symbol.starts_with("_Z") ? symbol.find('.') : std::string::npos));
}

std::vector<StackFrame> look_up(std::span<const std::uintptr_t> addresses) {
    Search search;
    for (std::size_t index = 0; index < addresses.size(); ++index) search.wanted.push_back({addresses[index], index});
    ::dl_iterate_phdr(visit_module, &search);
    std::vector<StackFrame> frames(addresses.size());
    for (std::size_t index = 0; index < addresses.size(); ++index) frames[index].offset = addresses[index];
    for (const Module& module : search.modules) {
        const std::string shown = module.path == own_file ? own_path() : module.path;
        for (const Address& offset : module.offsets) {
            frames[offset.index].module = shown;
            frames[offset.index].offset = offset.value;
        }
        name_symbols(module, frames);
    }
    return frames;
}

}  // namespace ferrule::inline v0
