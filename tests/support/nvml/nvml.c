/* A driver's library that is not there: as much of NVML as readers of devices ask for, answered by a control file.

   Built by simulated.py as libnvidia-ml.so.1 and found through LD_LIBRARY_PATH, so that pynvml and others run on it as they
   are.
   SIMULATED_NVML names a directory with two files. `control`: a line each of

       driver devices=8 answer=0 session=1      nvmlInit's answer; another session: what is open must be opened again
       3 utilization=97 temperature=91 throttle=0x40 name=RTX_3060
       * error=15                               every call of these devices answers with this nvmlReturn; * means all devices
       5 nvmlDeviceGetPowerUsage=3 delay=200    this function alone; each call takes 200 ms (or until `control` changes)
       process 0 1234 20480 compute             pid 1234 holds 20480 MiB of device 0, or is `graphics`

   `board`: a 64-bit number that grows when `control` was written, then records of 64 bytes that count calls by function.
   What no line gives follows a wave, so that readings change. Types and names are those of NVIDIA's published API reference. */

#include <fcntl.h>
#include <math.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#define API __attribute__((visibility("default")))
#define DEVICES 16
#define PROCESSES 64
#define FAILING 8
#define RECORDS 255
#define WAVE (-1)
#define MIB (1ull << 20)

enum { SUCCESS = 0, UNINITIALIZED = 1, INVALID_ARGUMENT = 2, NOT_SUPPORTED = 3, NOT_FOUND = 6, INSUFFICIENT_SIZE = 7 };

struct record { char function[56]; uint64_t calls; };
struct board { uint64_t version; char unused[56]; struct record records[RECORDS]; };

struct device {
    char name[64];
    long utilization, memory, temperature, throttle, ecc, fan, width, gibibytes, delay, error;
    struct { char function[56]; long answer; } failing[FAILING];
};
static const struct device HEALTHY = {"NVIDIA H100 80GB HBM3", WAVE, WAVE, WAVE, WAVE, 0, 30, 16, 80, 0, SUCCESS, {{"", 0}}};

static struct device devices[DEVICES];
static struct { unsigned device, pid; uint64_t memory; int is_graphics; } processes[PROCESSES];
static struct { long devices, answer, session; } driver;
static unsigned process_count;
static long opened;  /* the session that was current at nvmlInit; 0: not open */
static struct board *board;
static uint64_t seen;

/* Control ------------------------------------------------------------------------------------------------------------------- */

static const struct { const char *key; size_t place; } KEYS[] = {
    {"utilization", offsetof(struct device, utilization)}, {"memory", offsetof(struct device, memory)},
    {"temperature", offsetof(struct device, temperature)}, {"throttle", offsetof(struct device, throttle)},
    {"ecc", offsetof(struct device, ecc)}, {"fan", offsetof(struct device, fan)}, {"width", offsetof(struct device, width)},
    {"gibibytes", offsetof(struct device, gibibytes)}, {"delay", offsetof(struct device, delay)},
    {"error", offsetof(struct device, error)},
};

static void set_device(struct device *device, const char *key, const char *value) {
    long number = strtol(value, NULL, 0);
    if (!strcmp(key, "name")) {
        snprintf(device->name, sizeof device->name, "%s", value);
        for (char *c = device->name; *c; c++) if (*c == '_') *c = ' ';
        return;
    }
    for (size_t i = 0; i < sizeof KEYS / sizeof *KEYS; i++)
        if (!strcmp(key, KEYS[i].key)) { memcpy((char *)device + KEYS[i].place, &number, sizeof number); return; }
    for (int i = 0; i < FAILING; i++)
        if (!device->failing[i].function[0]) {
            snprintf(device->failing[i].function, sizeof device->failing[i].function, "%s", key);
            device->failing[i].answer = number;
            return;
        }
}

static void set_driver(const char *key, const char *value) {
    long number = strtol(value, NULL, 0);
    if (!strcmp(key, "devices")) driver.devices = number > DEVICES ? DEVICES : number;
    if (!strcmp(key, "answer")) driver.answer = number;
    if (!strcmp(key, "session")) driver.session = number;
}

static void take_line(char *line) {
    char *rest, *who = strtok_r(line, " \n", &rest), kind[16];
    if (!who) return;
    if (!strcmp(who, "process")) {
        unsigned index, pid; unsigned long mebibytes;
        if (process_count < PROCESSES && sscanf(rest, "%u %u %lu %15s", &index, &pid, &mebibytes, kind) == 4) {
            processes[process_count].device = index;
            processes[process_count].pid = pid;
            processes[process_count].memory = mebibytes * MIB;
            processes[process_count++].is_graphics = !strcmp(kind, "graphics");
        }
        return;
    }
    for (char *pair; (pair = strtok_r(NULL, " \n", &rest));) {
        char *value = strchr(pair, '=');
        if (!value) continue;
        *value++ = 0;
        if (!strcmp(who, "driver")) set_driver(pair, value);
        else for (int i = 0; i < DEVICES; i++)
            if (*who == '*' || atoi(who) == i) set_device(&devices[i], pair, value);
    }
}

static void reload(void) {
    char path[4096], line[1024];
    const char *directory = getenv("SIMULATED_NVML");
    for (int i = 0; i < DEVICES; i++) devices[i] = HEALTHY;
    driver.devices = 8, driver.answer = SUCCESS, driver.session = 1;
    process_count = 0;
    snprintf(path, sizeof path, "%s/control", directory ? directory : "");
    FILE *control = directory ? fopen(path, "r") : NULL;
    if (!control) return;
    while (fgets(line, sizeof line, control)) take_line(line);
    fclose(control);
}

__attribute__((constructor)) static void load(void) {
    char path[4096];
    const char *directory = getenv("SIMULATED_NVML");
    snprintf(path, sizeof path, "%s/board", directory ? directory : "");
    int file = directory ? open(path, O_RDWR) : -1;
    void *shared = file < 0 ? MAP_FAILED : mmap(NULL, sizeof *board, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
    if (file >= 0) close(file);
    board = shared == MAP_FAILED ? calloc(1, sizeof *board) : shared;
    seen = board->version;
    reload();
}

static void refresh(void) {
    uint64_t version = __atomic_load_n(&board->version, __ATOMIC_ACQUIRE);
    if (version != seen) { seen = version; reload(); }
}

static void count(const char *function, struct record **record) {
    for (int i = 0; !*record && i < RECORDS; i++) {
        struct record *candidate = &board->records[i];
        if (!candidate->function[0]) snprintf(candidate->function, sizeof candidate->function, "%s", function);
        if (!strcmp(candidate->function, function)) *record = candidate;
    }
    if (*record) __atomic_add_fetch(&(*record)->calls, 1, __ATOMIC_RELAXED);
}

/* What every call of a device goes through: counted, slow where that is asked for, and answered by an error where one is set. */
static int enter(const char *function, struct record **record, struct device *device) {
    refresh();
    count(function, record);
    if (!opened || opened != driver.session) return UNINITIALIZED;
    if (device < devices || device >= devices + driver.devices) return INVALID_ARGUMENT;
    uint64_t begun = seen;
    for (long left = device->delay; left > 0 && board->version == begun; left--) usleep(1000);
    refresh();
    if (device->error) return (int)device->error;
    for (int i = 0; i < FAILING && device->failing[i].function[0]; i++)
        if (!strcmp(device->failing[i].function, function)) return (int)device->failing[i].answer;
    return SUCCESS;
}

#define ENTER(device)                                                                                                              \
    static struct record *record;                                                                                                  \
    int answer_ = enter(__func__, &record, device);                                                                                \
    if (answer_ != SUCCESS) return answer_

/* What a device does ---------------------------------------------------------------------------------------------------------- */

static double wave(const struct device *device) {
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    return 50.0 + 45.0 * sin((now.tv_sec % 3600 + now.tv_nsec / 1e9) / 3.0 + (device - devices));
}

static unsigned of(const struct device *device, long given, double low, double each) {
    double busy = device->utilization == WAVE ? wave(device) : (double)device->utilization;
    return given != WAVE ? (unsigned)given : (unsigned)(low + each * busy);
}
static unsigned utilization(const struct device *d) { return of(d, d->utilization, 0, 1); }
static unsigned temperature(const struct device *d) { return of(d, d->temperature, 32, .42); }
static uint64_t total(const struct device *d) { return (uint64_t)d->gibibytes << 30; }
static uint64_t used(const struct device *d) { return total(d) / 1000 * of(d, d->memory == WAVE ? WAVE : d->memory * 10, 50, 8); }
static uint64_t hot(const struct device *d) { return temperature(d) >= 87 ? 0x40 : 0; }
static uint64_t throttle(const struct device *d) { return d->throttle != WAVE ? (uint64_t)d->throttle : hot(d); }
static unsigned milliwatts(const struct device *d) { return (unsigned)(700e3 * (.11 + .0085 * utilization(d))); }
static unsigned streaming_clock(const struct device *d) { return throttle(d) & ~1ull ? 1110 : 1980 - utilization(d); }

/* The library ----------------------------------------------------------------------------------------------------------------- */

API int nvmlInitWithFlags(unsigned flags) {
    static struct record *record;
    (void)flags;
    refresh();
    count(__func__, &record);
    if (driver.answer != SUCCESS) return (int)driver.answer;
    opened = driver.session;
    return SUCCESS;
}
API int nvmlInit_v2(void) { return nvmlInitWithFlags(0); }
API int nvmlShutdown(void) { opened = 0; return SUCCESS; }
API const char *nvmlErrorString(int answer) { return answer == 15 ? "GPU is lost" : answer == SUCCESS ? "Success" : "Error"; }

API int nvmlDeviceGetCount_v2(unsigned *number) {
    static struct record *record;
    refresh();
    count(__func__, &record);
    *number = (unsigned)driver.devices;
    return opened == driver.session ? SUCCESS : UNINITIALIZED;
}
API int nvmlDeviceGetHandleByIndex_v2(unsigned index, struct device **handle) {
    ENTER(index < DEVICES ? &devices[index] : NULL);
    *handle = &devices[index];
    return SUCCESS;
}
API int nvmlSystemGetDriverVersion(char *text, unsigned size) { snprintf(text, size, "580.95.05"); return SUCCESS; }
API int nvmlSystemGetCudaDriverVersion(int *version) { *version = 13000; return SUCCESS; }
API int nvmlSystemGetCudaDriverVersion_v2(int *version) { *version = 13000; return SUCCESS; }

/* One value a device, or one of several by a number; and what these devices do not have. */
#define VALUE(function, type, value)                                                                                               \
    API int function(struct device *device, type *answer) { ENTER(device); *answer = (type)(value); return SUCCESS; }
#define VALUE_OF(function, type, value)                                                                                            \
    API int function(struct device *device, unsigned which, type *answer) {                                                       \
        ENTER(device);                                                                                                             \
        (void)which;                                                                                                               \
        *answer = (type)(value);                                                                                                   \
        return SUCCESS;                                                                                                            \
    }
#define UNSUPPORTED(function)                                                                                                      \
    API int function(struct device *device) { ENTER(device); return NOT_SUPPORTED; }
#define TEXT(function, ...)                                                                                                        \
    API int function(struct device *device, char *text, unsigned size) {                                                          \
        ENTER(device); snprintf(text, size, __VA_ARGS__); return SUCCESS;                                                          \
    }

TEXT(nvmlDeviceGetName, "%s", device->name)
TEXT(nvmlDeviceGetUUID, "GPU-00000000-0000-4000-8000-%012x", (unsigned)(device - devices))
TEXT(nvmlDeviceGetSerial, "%010u", (unsigned)(device - devices))
VALUE(nvmlDeviceGetIndex, unsigned, device - devices)
VALUE(nvmlDeviceGetPowerUsage, unsigned, milliwatts(device))
VALUE(nvmlDeviceGetEnforcedPowerLimit, unsigned, 700000)
VALUE(nvmlDeviceGetPowerManagementLimit, unsigned, 700000)
VALUE(nvmlDeviceGetCurrentClocksEventReasons, uint64_t, throttle(device))
VALUE(nvmlDeviceGetCurrentClocksThrottleReasons, uint64_t, throttle(device))
VALUE(nvmlDeviceGetPerformanceState, unsigned, utilization(device) ? 0 : 8)
VALUE(nvmlDeviceGetCurrPcieLinkGeneration, unsigned, utilization(device) ? 5 : 1)
VALUE(nvmlDeviceGetCurrPcieLinkWidth, unsigned, device->width)
VALUE(nvmlDeviceGetMaxPcieLinkGeneration, unsigned, 5)
VALUE(nvmlDeviceGetMaxPcieLinkWidth, unsigned, 16)
VALUE(nvmlDeviceGetPersistenceMode, unsigned, 1)
VALUE(nvmlDeviceGetComputeMode, unsigned, 0)
VALUE(nvmlDeviceGetDisplayActive, unsigned, 0)
VALUE(nvmlDeviceGetDisplayMode, unsigned, 0)
VALUE(nvmlDeviceIsMigDeviceHandle, unsigned, 0)
VALUE_OF(nvmlDeviceGetTemperature, unsigned, temperature(device))
VALUE_OF(nvmlDeviceGetTemperatureThreshold, unsigned, which == 1 ? 87 : 92)
VALUE_OF(nvmlDeviceGetClockInfo, unsigned, which == 2 ? 2619 : streaming_clock(device))
VALUE_OF(nvmlDeviceGetMaxClockInfo, unsigned, which == 2 ? 2619 : 1980)
VALUE_OF(nvmlDeviceGetPcieThroughput, unsigned, utilization(device) * 20000)
UNSUPPORTED(nvmlDeviceGetDriverModel)
UNSUPPORTED(nvmlDeviceGetDriverModel_v2)
UNSUPPORTED(nvmlDeviceGetMigMode)
UNSUPPORTED(nvmlDeviceGetBAR1MemoryInfo)
UNSUPPORTED(nvmlDeviceGetFieldValues)

API int nvmlDeviceGetFanSpeed(struct device *device, unsigned *percent) {
    ENTER(device);
    *percent = (unsigned)device->fan;
    return device->fan < 0 ? NOT_SUPPORTED : SUCCESS;
}
API int nvmlDeviceGetTotalEccErrors(struct device *device, unsigned kind, unsigned counter, uint64_t *errors) {
    ENTER(device);
    (void)counter;
    *errors = kind == 1 ? (uint64_t)device->ecc : 0;
    return device->ecc < 0 ? NOT_SUPPORTED : SUCCESS;
}
API int nvmlDeviceGetCudaComputeCapability(struct device *device, int *major, int *minor) {
    ENTER(device);
    *major = 9, *minor = 0;
    return SUCCESS;
}
struct rates { unsigned gpu, memory; };
API int nvmlDeviceGetUtilizationRates(struct device *device, struct rates *rates) {
    ENTER(device);
    rates->gpu = utilization(device), rates->memory = utilization(device) / 2;
    return SUCCESS;
}
#define CODEC(function)                                                                                                            \
    API int function(struct device *device, unsigned *percent, unsigned *period) {                                                \
        ENTER(device);                                                                                                             \
        *percent = 0, *period = 167000;                                                                                            \
        return SUCCESS;                                                                                                            \
    }
CODEC(nvmlDeviceGetEncoderUtilization)
CODEC(nvmlDeviceGetDecoderUtilization)

struct temperature_v1 { unsigned version, sensor; int temperature; };
API int nvmlDeviceGetTemperatureV(struct device *device, struct temperature_v1 *answer) {
    ENTER(device);
    answer->temperature = (int)temperature(device);
    return SUCCESS;
}

struct memory_v1 { uint64_t total, free, used; };
API int nvmlDeviceGetMemoryInfo(struct device *device, struct memory_v1 *memory) {
    ENTER(device);
    memory->total = total(device), memory->used = used(device), memory->free = memory->total - memory->used;
    return SUCCESS;
}
struct memory_v2 { unsigned version; uint64_t total, reserved, free, used; };
API int nvmlDeviceGetMemoryInfo_v2(struct device *device, struct memory_v2 *memory) {
    ENTER(device);
    memory->total = total(device), memory->reserved = 600 * MIB, memory->used = used(device);
    memory->free = memory->total - memory->used - (memory->reserved < memory->total - memory->used ? memory->reserved : 0);
    return SUCCESS;
}

struct pci { char legacy[16]; unsigned domain, bus, device, model, subsystem; char id[32]; };
API int nvmlDeviceGetPciInfo_v3(struct device *device, struct pci *pci) {
    ENTER(device);
    memset(pci, 0, sizeof *pci);
    pci->bus = (unsigned)(device - devices) + 1;
    pci->model = 0x233010de;
    snprintf(pci->legacy, sizeof pci->legacy, "0000:%02X:00.0", pci->bus & 0xff);
    snprintf(pci->id, sizeof pci->id, "00000000:%02X:00.0", pci->bus & 0xff);
    return SUCCESS;
}

/* Processes: lists are asked for twice, first for their length. --------------------------------------------------------------- */

struct process_v1 { unsigned pid; uint64_t memory; };
struct process_v3 { unsigned pid; uint64_t memory; unsigned gpu_instance, compute_instance; };

static int list(const struct device *device, int is_graphics, unsigned *room, struct process_v1 *v1, struct process_v3 *v3) {
    unsigned found = 0, fits = *room;
    for (unsigned i = 0; i < process_count; i++) {
        if (processes[i].device != device - devices || processes[i].is_graphics != is_graphics) continue;
        if (found < fits && v1) v1[found] = (struct process_v1){processes[i].pid, processes[i].memory};
        if (found < fits && v3) v3[found] = (struct process_v3){processes[i].pid, processes[i].memory, ~0u, ~0u};
        found++;
    }
    *room = found;
    return found > fits || (found && !v1 && !v3) ? INSUFFICIENT_SIZE : SUCCESS;
}
#define LIST(function, version, is_graphics)                                                                                       \
    API int function(struct device *device, unsigned *room, struct process_##version *version) {                                  \
        ENTER(device);                                                                                                             \
        struct process_v1 *v1_ = (void *)(sizeof *version == sizeof(struct process_v1) ? version : NULL);                          \
        return list(device, is_graphics, room, v1_, v1_ ? NULL : (void *)version);                                                 \
    }
LIST(nvmlDeviceGetComputeRunningProcesses, v1, 0)
LIST(nvmlDeviceGetComputeRunningProcesses_v2, v3, 0)
LIST(nvmlDeviceGetComputeRunningProcesses_v3, v3, 0)
LIST(nvmlDeviceGetGraphicsRunningProcesses, v1, 1)
LIST(nvmlDeviceGetGraphicsRunningProcesses_v2, v3, 1)
LIST(nvmlDeviceGetGraphicsRunningProcesses_v3, v3, 1)
API int nvmlDeviceGetMPSComputeRunningProcesses_v3(struct device *device, unsigned *room, void *v3) {
    ENTER(device);
    (void)v3;
    *room = 0;
    return SUCCESS;
}

struct process_use { unsigned pid; uint64_t time; unsigned sm, memory, encoder, decoder; };
API int nvmlDeviceGetProcessUtilization(struct device *device, struct process_use *use, unsigned *room, uint64_t since) {
    ENTER(device);
    unsigned found = 0, fits = *room;
    for (unsigned i = 0; i < process_count; i++) {
        if (processes[i].device != device - devices) continue;
        struct process_use one = {processes[i].pid, since + 1000000, utilization(device), 10, 0, 0};
        if (use && found < fits) use[found] = one;
        found++;
    }
    *room = found;
    return !found ? NOT_FOUND : !use || found > fits ? INSUFFICIENT_SIZE : SUCCESS;
}
