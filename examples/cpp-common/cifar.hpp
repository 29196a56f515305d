// What the two C++ examples share: a picture in, the likeliest classes out. Nothing but the standard library.
#pragma once

#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <fstream>
#include <limits>
#include <numeric>
#include <span>
#include <stdexcept>
#include <string>
#include <string_view>
#include <vector>

namespace cifar {

inline constexpr int side = 32;
inline constexpr std::size_t pixel_bytes = side * side * 3;

// Command line: classify MODEL PICTURE.ppm... [--repeat N] [--cuda]
struct Options {
    std::string model;
    std::vector<std::string> pictures;
    int repeat = 1;
    bool cuda = false;
};

// A command line that makes no sense: exit code 2.
struct Usage : std::invalid_argument {
    using std::invalid_argument::invalid_argument;
};

inline Options parse(std::span<char* const> arguments) {
    Options options;
    for (std::size_t i = 0; i < arguments.size(); ++i) {
        const std::string_view argument = arguments[i];
        if (argument == "--cuda") {
            options.cuda = true;
        } else if (argument == "--repeat" && i + 1 < arguments.size()) {
            options.repeat = std::max(1, std::atoi(arguments[++i]));
        } else if (argument.starts_with("--")) {
            throw Usage("unknown option " + std::string(argument) + ". Known: --repeat N, --cuda.");
        } else if (options.model.empty()) {
            options.model = argument;
        } else {
            options.pictures.emplace_back(argument);
        }
    }
    if (options.pictures.empty()) throw Usage("usage: classify MODEL PICTURE.ppm... [--repeat N] [--cuda]");
    return options;
}

// Skips white space and comment lines in the head of a PPM file.
inline std::istream& comments(std::istream& stream) {
    while ((stream >> std::ws).peek() == '#') stream.ignore(std::numeric_limits<std::streamsize>::max(), '\n');
    return stream;
}

// The pixels of a binary 32x32 PPM file (P6), row by row, three bytes (R, G, B) each: just what the network takes.
inline std::vector<std::uint8_t> read_ppm(const std::string& path) {
    std::ifstream file(path, std::ios::binary);
    if (!file) throw std::runtime_error("cannot open " + path);
    std::string magic;
    int width = 0, height = 0, largest = 0;
    file >> magic >> comments >> width >> comments >> height >> comments >> largest;
    file.get();  // the one white space before the pixels
    if (!file || magic != "P6" || largest != 255) throw std::runtime_error(path + " is not a binary 8-bit PPM file (P6)");
    if (width != side || height != side) throw std::runtime_error(path + " is not 32x32. Scale it first.");
    std::vector<std::uint8_t> pixels(pixel_bytes);
    file.read(reinterpret_cast<char*>(pixels.data()), static_cast<std::streamsize>(pixels.size()));
    if (!file) throw std::runtime_error(path + " ends too early");
    return pixels;
}

// The names in a JSON array of plain strings, such as ["cat", "dog"].
inline std::vector<std::string> parse_labels(std::string_view json) {
    std::vector<std::string> labels;
    for (std::size_t open = json.find('"'); open != json.npos; open = json.find('"', open)) {
        const std::size_t close = json.find('"', open + 1);
        if (close == json.npos) throw std::runtime_error("the model's labels are damaged");
        labels.emplace_back(json.substr(open + 1, close - open - 1));
        open = close + 1;
    }
    return labels;
}

// Prints the five likeliest classes: label, probability, logit.
inline void print_top(const std::string& picture, std::span<const float> logits, std::span<const std::string> labels) {
    if (logits.size() != labels.size()) throw std::runtime_error("the model has another number of labels than of classes");
    std::vector<std::size_t> order(logits.size());
    std::iota(order.begin(), order.end(), 0);
    std::ranges::stable_sort(order, std::greater{}, [&](std::size_t i) { return logits[i]; });
    double sum = 0;
    for (const float logit : logits) sum += std::exp(static_cast<double>(logit) - logits[order[0]]);
    std::printf("%s\n", picture.c_str());
    for (const std::size_t i : std::span(order).first(std::min<std::size_t>(5, order.size()))) {
        const double probability = std::exp(static_cast<double>(logits[i]) - logits[order[0]]) / sum;
        std::printf("  %-14s %.6f  %.9g\n", labels[i].c_str(), probability, static_cast<double>(logits[i]));
    }
}

// Runs `work` `repeat` times and returns the median time of one run in milliseconds.
template <typename Work>
double median_ms(int repeat, Work work) {
    std::vector<double> times;
    for (int i = 0; i < repeat; ++i) {
        const auto start = std::chrono::steady_clock::now();
        work();
        times.push_back(std::chrono::duration<double, std::milli>(std::chrono::steady_clock::now() - start).count());
    }
    std::ranges::nth_element(times, times.begin() + repeat / 2);
    return times[static_cast<std::size_t>(repeat / 2)];
}

}  // namespace cifar
