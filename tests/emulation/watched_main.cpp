// A program that reads launches from its standard input, so that a sanitizer watches a process of its own.
//
// A launch is a line "name grid block_x block_y order seed arguments", then for each argument "i VALUE", or "b SIZE" and
// that many bytes. Back go one byte, what `emulate` returned, and the bytes of every buffer.

#include <cstdint>
#include <cstdio>
#include <memory>
#include <vector>

extern "C" int emulate(const char* name, unsigned grid, unsigned block_x, unsigned block_y, void** arguments, int count,
                       int order, unsigned seed);

namespace {

struct Argument {
    int64_t word = 0;
    std::size_t size = 0;
    std::unique_ptr<char[]> bytes;  // exactly as large as the array: what lies beyond is out of bounds
    void* pointer = nullptr;

    bool read() {
        char kind;
        if (std::scanf(" %c %ld", &kind, &word) != 2) return false;
        std::getchar();
        if (kind == 'i') return true;
        size = static_cast<std::size_t>(word);
        bytes.reset(new char[size]);
        pointer = bytes.get();
        return std::fread(pointer, 1, size, stdin) == size;
    }

    void* address() { return pointer ? static_cast<void*>(&pointer) : &word; }
};

}  // namespace

int main() {
    char name[64];
    unsigned grid, block_x, block_y, seed;
    int order, count;
    while (std::scanf("%63s %u %u %u %d %u %d", name, &grid, &block_x, &block_y, &order, &seed, &count) == 7) {
        std::vector<Argument> arguments(count);
        std::vector<void*> addresses;
        for (Argument& argument : arguments) {
            if (!argument.read()) return 3;
            addresses.push_back(argument.address());
        }
        std::fputc(emulate(name, grid, block_x, block_y, addresses.data(), count, order, seed), stdout);
        for (const Argument& argument : arguments)
            if (argument.pointer) std::fwrite(argument.pointer, 1, argument.size, stdout);
        std::fflush(stdout);
    }
}
