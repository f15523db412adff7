// A driver without a GPU: it accepts what the launcher asks for, and writes one line for each call that matters to the
// file named by STUB_LOG. STUB_DRIVER_VERSION and STUB_LAUNCH_RESULT choose its version and its answer to a launch.
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { SUCCESS = 0, INVALID_CONTEXT = 201, NOT_FOUND = 500, INVALID_IMAGE = 200, INVALID_VALUE = 1 };
enum { MAX_KERNELS = 64, SVAL = 4, KERNEL_PARAMETER = 0x17 };

typedef struct {
    char name[128];
    int parameters;
    uintptr_t context;
} Kernel;

static Kernel kernels[MAX_KERNELS];
static int kernel_count;
static _Thread_local uintptr_t current_context;

static int number_from(const char* variable, int otherwise) {
    const char* text = getenv(variable);
    return text ? atoi(text) : otherwise;
}

static FILE* log_file(void) {
    static FILE* file;
    if (!file) {
        file = fopen(getenv("STUB_LOG"), "w");
        setvbuf(file, NULL, _IOLBF, 0);
    }
    return file;
}

// Of a 64-bit ELF file: its sections, and their names.
typedef struct {
    uint32_t name, type;
    uint64_t flags, address, offset, size;
    uint32_t link, info;
    uint64_t alignment, entry_size;
} Section;

static int count_parameters(const uint8_t* image, const Section* section) {
    int count = 0;
    for (uint64_t at = section->offset; at < section->offset + section->size;) {
        const uint8_t format = image[at], attribute = image[at + 1];
        uint16_t size;
        memcpy(&size, image + at + 2, sizeof size);
        count += format == SVAL && attribute == KERNEL_PARAMETER;
        at += 4 + (format == SVAL ? size : 0);
    }
    return count;
}

static int module_load_data(void** module, const void* image_) {
    const uint8_t* image = image_;
    if (memcmp(image, "\177ELF", 4)) return INVALID_IMAGE;
    uint64_t table;
    uint16_t sections, names_index;
    memcpy(&table, image + 40, sizeof table);
    memcpy(&sections, image + 60, sizeof sections);
    memcpy(&names_index, image + 62, sizeof names_index);
    const Section* section = (const Section*)(image + table);
    const char* names = (const char*)image + section[names_index].offset;
    int loaded = 0;
    for (int i = 0; i < sections; ++i) {
        const char* name = names + section[i].name;
        if (strncmp(name, ".nv.info.", 9) || kernel_count == MAX_KERNELS) continue;
        Kernel* kernel = &kernels[kernel_count++];
        snprintf(kernel->name, sizeof kernel->name, "%s", name + 9);
        kernel->parameters = count_parameters(image, &section[i]);
        kernel->context = current_context;
        ++loaded;
    }
    fprintf(log_file(), "load %d kernels in context %lu\n", loaded, (unsigned long)current_context);
    *module = kernels;
    return current_context ? SUCCESS : INVALID_CONTEXT;
}

static int module_get_function(void** function, void* module, const char* name) {
    (void)module;
    for (int i = kernel_count - 1; i >= 0; --i)
        if (!strcmp(kernels[i].name, name)) {
            *function = &kernels[i];
            return SUCCESS;
        }
    return NOT_FOUND;
}

static int parameter_info(void* function, size_t index, size_t* offset, size_t* size) {
    if ((int)index >= ((Kernel*)function)->parameters) return INVALID_VALUE;
    *offset = 8 * index;
    *size = 8;
    return SUCCESS;
}

static int launch(void* function, unsigned grid_x, unsigned grid_y, unsigned grid_z, unsigned block_x, unsigned block_y,
                  unsigned block_z, unsigned shared, void* stream, void** parameters, void** extra) {
    const Kernel* kernel = function;
    (void)extra;
    if (current_context != kernel->context) return INVALID_CONTEXT;
    fprintf(log_file(), "launch %s grid %u %u %u block %u %u %u shared %u stream %lu words", kernel->name, grid_x, grid_y,
            grid_z, block_x, block_y, block_z, shared, (unsigned long)stream);
    for (int i = 0; i < kernel->parameters; ++i) fprintf(log_file(), " %lld", *(long long*)parameters[i]);
    fprintf(log_file(), "\n");
    return number_from("STUB_LAUNCH_RESULT", SUCCESS);
}

static int init(unsigned flags) { return (void)flags, SUCCESS; }
static int driver_version(int* version) { return *version = number_from("STUB_DRIVER_VERSION", 13000), SUCCESS; }
static int device_get(int* device, int index) { return *device = index, SUCCESS; }
static int context_retain(uintptr_t* context, int device) { return *context = 1000 + device, SUCCESS; }
static int context_get(uintptr_t* context) { return *context = current_context, SUCCESS; }
static int context_set(uintptr_t context) { return current_context = context, SUCCESS; }

static const struct {
    const char* name;
    void* function;
} known[] = {
    {"cuInit", init},
    {"cuDriverGetVersion", driver_version},
    {"cuDeviceGet", device_get},
    {"cuDevicePrimaryCtxRetain", context_retain},
    {"cuCtxGetCurrent", context_get},
    {"cuCtxSetCurrent", context_set},
    {"cuModuleLoadData", module_load_data},
    {"cuModuleGetFunction", module_get_function},
    {"cuFuncGetParamInfo", parameter_info},
    {"cuLaunchKernel", launch},
};

// Everything is asked for through this; what is not in the table does not exist.
int cuGetProcAddress_v2(const char* name, void** function, int version, uint64_t flags, int* status) {
    (void)version, (void)flags;
    *function = NULL;
    if (!strcmp(name, "cuGetProcAddress")) *function = (void*)cuGetProcAddress_v2;
    for (size_t i = 0; i < sizeof known / sizeof *known; ++i)
        if (!strcmp(name, known[i].name)) *function = known[i].function;
    if (status) *status = *function ? 0 : 1;
    return *function ? SUCCESS : NOT_FOUND;
}
