// Classifies 32x32 pictures with a uint8 TorchScript model of cifar-export, with libtorch.
//
//     classify MODEL.torchscript.pt PICTURE.ppm... [--repeat N] [--cuda]
//
// A TorchScript file is code: run only one whose maker you know.

#include <ATen/Parallel.h>
#include <torch/cuda.h>
#include <torch/script.h>
#include <torch/version.h>

#include "cifar.hpp"

namespace {

// The array that stands under "labels" in the model's metadata.json.
std::vector<std::string> labels_of(const std::string& metadata) {
    const auto key = metadata.find("\"labels\"");
    const auto open = metadata.find('[', key), close = metadata.find(']', open);
    if (close == std::string::npos) throw std::runtime_error("the model carries no labels. Export it with cifar-export.");
    return cifar::parse_labels(std::string_view(metadata).substr(open, close - open));
}

void classify(const cifar::Options& arguments) {
    if (arguments.cuda && !torch::cuda::is_available()) throw std::runtime_error("no CUDA device, or no libtorch for CUDA. Leave --cuda out.");
    const c10::Device device(arguments.cuda ? c10::kCUDA : c10::kCPU);
    at::set_num_threads(1);  // one small picture is not worth sharing between threads
    at::globalContext().setAllowTF32CuDNN(false);  // float32 in full
    at::globalContext().setAllowTF32CuBLAS(false);

    torch::jit::ExtraFilesMap extra{{"metadata.json", ""}};
    torch::jit::Module module = torch::jit::load(arguments.model, device, extra);
    const std::string& metadata = extra.at("metadata.json");
    const auto labels = labels_of(metadata);
    if (metadata.find("\"input\":\"uint8\"") == std::string::npos)
        throw std::runtime_error(arguments.model + " does not take pixels. Export it with --input uint8.");

    // Folds batch norms into convolutions and lays weights out for this processor: ten times as fast on one picture.
    if (!arguments.cuda) module = torch::jit::optimize_for_inference(module);
    const c10::InferenceMode guard;
    double time = 0;
    for (const std::string& picture : arguments.pictures) {
        auto pixels = cifar::read_ppm(picture);
        const auto image = at::from_blob(pixels.data(), {1, cifar::side, cifar::side, 3}, at::kByte);
        at::Tensor logits;
        time = cifar::median_ms(arguments.repeat, [&] { logits = module.forward({image.to(device)}).toTensor().cpu(); });
        logits = logits.contiguous();
        cifar::print_top(picture, {logits.const_data_ptr<float>(), static_cast<std::size_t>(logits.numel())}, labels);
    }
    std::fprintf(stderr, "libtorch %s, %s: %.3f ms a picture\n", TORCH_VERSION, device.str().c_str(), time);
}

}  // namespace

int main(int argc, char* argv[]) {
    try {
        classify(cifar::parse({argv + 1, argv + argc}));
        return 0;
    } catch (const cifar::Usage& error) {
        std::fprintf(stderr, "error: %s\n", error.what());
        return 2;
    } catch (const c10::Error& error) {
        std::fprintf(stderr, "error: %s\n", error.what_without_backtrace());
    } catch (const std::exception& error) {
        std::fprintf(stderr, "error: %s\n", error.what());
    }
    return 1;
}
