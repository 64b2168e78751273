#pragma once

#include <elf.h>
#include <link.h>

#include <algorithm>
#include <fstream>
#include <ios>
#include <vector>

namespace ferrule_test {

/// Whether this program's file has its symbols, local ones included: what names functions is tested with that, and
/// programs are stripped for other kernels.
inline bool has_symbols() {
    std::ifstream file("/proc/self/exe", std::ios::binary);
    ElfW(Ehdr) header{};
    if (!file.read(reinterpret_cast<char*>(&header), sizeof header)) return false;
    std::vector<ElfW(Shdr)> sections(header.e_shnum);
    file.seekg(static_cast<std::streamoff>(header.e_shoff));
    if (!file.read(reinterpret_cast<char*>(sections.data()),
                   static_cast<std::streamsize>(sections.size() * sizeof(ElfW(Shdr)))))
        return false;
    return std::any_of(sections.begin(), sections.end(),
                       [](const ElfW(Shdr) & section) { return section.sh_type == SHT_SYMTAB; });
}

}  // namespace ferrule_test
