/* A stand-in for libnvidia-ml.so.1 that reads its cards from the file named by NVML_STUB_SCRIPT,
   again at every nvmlInit. One entry per line, cards in NVML's order:

     init CODE                       what nvmlInit returns
     card UUID NAME READING ...      one reading per call, the last one for ever after:
                                     a number in degrees Celsius, or E and an error code
     mig UUID PARENT_INDEX           a MIG instance of that card; it has no sensor

   Each call is appended to the file named by NVML_STUB_LOG. */

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { SUCCESS = 0, UNINITIALIZED = 1, NOT_SUPPORTED = 3, NOT_FOUND = 6 };
enum { MAX_CARDS = 8, MAX_READINGS = 64, MAX_WORD = 96 };

typedef struct {
    char uuid[MAX_WORD], name[MAX_WORD], readings[MAX_READINGS][MAX_WORD];
    int count, next, parent;
} Card;

static Card cards[MAX_CARDS];
static int card_count, running;

static void note(const char *what, const char *about) {
    FILE *log = fopen(getenv("NVML_STUB_LOG"), "a");
    if (!log) return;
    fprintf(log, "%s %s\n", what, about);
    fclose(log);
}

int nvmlInitWithFlags(unsigned flags) {
    char line[4096];
    int code = SUCCESS;
    FILE *script = fopen(getenv("NVML_STUB_SCRIPT"), "r");
    (void)flags;
    card_count = 0;
    while (script && fgets(line, sizeof line, script)) {
        char *kind = strtok(line, " \n");
        if (kind && !strcmp(kind, "init")) code = atoi(strtok(NULL, " \n"));
        if (!kind || (strcmp(kind, "card") && strcmp(kind, "mig"))) continue;
        Card *card = &cards[card_count++];
        memset(card, 0, sizeof *card);
        card->parent = -1;
        strcpy(card->uuid, strtok(NULL, " \n"));
        strcpy(card->name, strtok(NULL, " \n"));
        if (!strcmp(kind, "mig")) card->parent = atoi(card->name);
        for (char *word; (word = strtok(NULL, " \n"));)
            strcpy(card->readings[card->count++], word);
    }
    if (script) fclose(script);
    note("init", "");
    running = code == SUCCESS;
    return code;
}

int nvmlShutdown(void) {
    note("shutdown", "");
    if (!running) return UNINITIALIZED;
    running = 0;
    return SUCCESS;
}

const char *nvmlErrorString(int code) {
    (void)code;
    return "an error of the stub";
}

int nvmlDeviceGetCount_v2(unsigned *count) {
    *count = card_count;
    return SUCCESS;
}

int nvmlDeviceGetHandleByIndex_v2(unsigned index, Card **handle) {
    if ((int)index >= card_count) return NOT_FOUND;
    *handle = &cards[index];
    return SUCCESS;
}

int nvmlDeviceGetHandleByUUID(const char *uuid, Card **handle) {
    if (!running) return UNINITIALIZED;
    for (int i = 0; i < card_count; i++)
        if (!strcmp(cards[i].uuid, uuid)) {
            *handle = &cards[i];
            return SUCCESS;
        }
    return NOT_FOUND;
}

int nvmlDeviceGetDeviceHandleFromMigDeviceHandle(Card *mig, Card **handle) {
    if (mig->parent < 0) return NOT_FOUND;
    *handle = &cards[mig->parent];
    return SUCCESS;
}

int nvmlDeviceGetName(Card *card, char *name, unsigned length) {
    snprintf(name, length, "%s", card->name);
    return SUCCESS;
}

int nvmlDeviceGetIndex(Card *card, unsigned *index) {
    *index = (unsigned)(card - cards);
    return SUCCESS;
}

static int reading(Card *card, unsigned *temperature) {
    if (!running) return UNINITIALIZED;
    note("read", card->uuid);
    if (card->parent >= 0 || !card->count) return NOT_SUPPORTED;
    const char *word = card->readings[card->next];
    if (card->next < card->count - 1) card->next++;
    if (word[0] == 'E') return atoi(word + 1);
    *temperature = (unsigned)atoi(word);
    return SUCCESS;
}

#ifdef WITHOUT_PLAIN_TEMPERATURE
typedef struct { unsigned version, sensor; int temperature; } VersionedTemperature;

int nvmlDeviceGetTemperatureV(Card *card, VersionedTemperature *answer) {
    return reading(card, (unsigned *)&answer->temperature);
}
#else
int nvmlDeviceGetTemperature(Card *card, int sensor, unsigned *temperature) {
    (void)sensor;
    return reading(card, temperature);
}
#endif
