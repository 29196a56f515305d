/* Classifies 32x32 pictures by the network in the C file that `cifar-export c --input uint8` wrote. C99, no libraries. */
#include <math.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#ifndef CLASSES
#define CLASSES 10
#endif
#define SIDE 32
#define SHOWN 5

/* what the exported file defines */
void model(const uint8_t image[1][SIDE][SIDE][3], float logits[1][CLASSES]);
extern const char *const model_labels[CLASSES];

static uint8_t image[1][SIDE][SIDE][3];

/* Reads a binary PPM file without comments into `image`; says what is wrong with it and returns 1 otherwise. */
static int read_ppm(const char *path) {
    unsigned width = 0, height = 0, largest = 0;
    const char *problem = NULL;
    FILE *file = fopen(path, "rb");
    if (file == NULL) {
        fprintf(stderr, "error: cannot open %s\n", path);
        return 1;
    }
    if (fscanf(file, "P6 %5u %5u %5u", &width, &height, &largest) != 3 || largest != 255 || fgetc(file) == EOF)
        problem = "is not a binary 8-bit PPM file (P6)";
    else if (width != SIDE || height != SIDE)
        problem = "is not 32x32. Scale it first";
    else if (fread(image, 1, sizeof image, file) != sizeof image)
        problem = "ends too early";
    fclose(file);
    if (problem != NULL) fprintf(stderr, "error: %s %s\n", path, problem);
    return problem != NULL;
}

/* Computes and prints the likeliest classes: label, probability, logit. */
static int classify(const char *path) {
    float logits[1][CLASSES];
    int shown[CLASSES] = {0};
    double sum = 0.0;
    if (read_ppm(path)) return 1;
    logits[0][0] = NAN; /* stays so where memory is short: `model` has no other way to say it */
    model((const uint8_t(*)[SIDE][SIDE][3])image, logits);
    if (isnan(logits[0][0])) {
        fprintf(stderr, "error: not enough memory\n");
        return 1;
    }
    for (int i = 0; i < CLASSES; ++i) sum += exp(logits[0][i]);
    printf("%s\n", path);
    for (int rank = 0; rank < SHOWN && rank < CLASSES; ++rank) {
        int best = -1;
        for (int i = 0; i < CLASSES; ++i)
            if (!shown[i] && (best < 0 || logits[0][i] > logits[0][best])) best = i;
        shown[best] = 1;
        printf("  %-14s %.6f  %.9g\n", model_labels[best], exp(logits[0][best]) / sum, logits[0][best]);
    }
    return 0;
}

int main(int count, char **arguments) {
    if (count < 2 || arguments[1][0] == '-') {
        fprintf(stderr, "usage: classify PICTURE.ppm...\n");
        return 2;
    }
    for (int i = 1; i < count; ++i)
        if (classify(arguments[i])) return 1;
    return 0;
}
