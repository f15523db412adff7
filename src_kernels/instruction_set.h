// Chooses among the versions compiled for different instruction sets.
#pragma once

#include <cstdlib>
#include <cstring>

namespace bi_wkv {

// The best that the CPU supports, or less if the environment asks for it: so every version can be tested on one machine.
inline const char* instruction_set() {
#ifdef BI_WKV_X86_DISPATCH
    const char* wanted = std::getenv("BI_WKV_INSTRUCTION_SET");
    const auto allowed = [wanted](const char* name) { return wanted == nullptr || std::strcmp(wanted, name) == 0; };
    if (allowed("AVX-512") && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512dq") &&
        __builtin_cpu_supports("avx512vl"))
        return "AVX-512";
    if (allowed("AVX2") && __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) return "AVX2";
#endif
    return "baseline";
}

}  // namespace bi_wkv
