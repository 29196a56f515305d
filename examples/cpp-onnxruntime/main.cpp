// Classifies 32x32 pictures with a uint8 ONNX model of cifar-export, with ONNX Runtime's C++ API.
//
//     classify MODEL.onnx PICTURE.ppm... [--repeat N] [--cuda]

#include <onnxruntime_cxx_api.h>
#include <onnxruntime_session_options_config_keys.h>

#include <array>
#include <cstdlib>
#include <filesystem>
#include <memory>

#include "cifar.hpp"

namespace {

// ONNX Runtime's builds may keep a device id and a database of events in the user's cache, unless this is set.
void without_telemetry() {
#ifdef _WIN32
    if (!std::getenv("ORT_DISABLE_TELEMETRY")) _putenv_s("ORT_DISABLE_TELEMETRY", "1");
#else
    setenv("ORT_DISABLE_TELEMETRY", "1", 0);
#endif
}

// What happened, without the place in ONNX Runtime's source that it puts around it.
std::string cause(std::string_view what) {
    constexpr std::string_view fail = " : FAIL : ";
    if (const auto at = what.find(fail); at != what.npos) what.remove_prefix(at + fail.size());
    if (const auto at = what.find("CUDA failure"); at != what.npos) what.remove_prefix(at);
    return std::string(what.substr(0, what.find_first_of("\n;")));
}

// CUDA in full float32, and nothing but CUDA: where it cannot run everything, making the session throws.
void add_cuda(Ort::SessionOptions& options) {
    OrtCUDAProviderOptionsV2* raw = nullptr;
    Ort::ThrowOnError(Ort::GetApi().CreateCUDAProviderOptions(&raw));
    const std::unique_ptr<OrtCUDAProviderOptionsV2, decltype(OrtApi::ReleaseCUDAProviderOptions)> cuda(
        raw, Ort::GetApi().ReleaseCUDAProviderOptions);
    const char* const key = "use_tf32";
    const char* const value = "0";
    Ort::ThrowOnError(Ort::GetApi().UpdateCUDAProviderOptions(cuda.get(), &key, &value, 1));
    options.AppendExecutionProvider_CUDA_V2(*cuda);
    options.AddConfigEntry(kOrtSessionOptionsDisableCPUEPFallback, "1");
}

void classify(const cifar::Options& arguments) {
    const Ort::Env env(ORT_LOGGING_LEVEL_FATAL, "classify");  // errors are thrown, and printed below
    Ort::SessionOptions options;
    options.SetIntraOpNumThreads(1);  // one small picture is not worth sharing between threads
    if (arguments.cuda) {
        try {
            add_cuda(options);
        } catch (const Ort::Exception& error) {
            throw std::runtime_error("the CUDA provider does not start here: " + cause(error.what()) +
                                     ". Install the NVIDIA driver and CUDA, or leave --cuda out.");
        }
    }
    Ort::Session session(env, std::filesystem::path(arguments.model).c_str(), options);

    Ort::AllocatorWithDefaultOptions allocator;
    const auto input_name = session.GetInputNameAllocated(0, allocator);
    const auto output_name = session.GetOutputNameAllocated(0, allocator);
    const auto metadata = session.GetModelMetadata().LookupCustomMetadataMapAllocated("labels", allocator);
    const auto type = session.GetInputTypeInfo(0);
    const auto input = type.GetTensorTypeAndShapeInfo();
    if (input.GetElementType() != ONNX_TENSOR_ELEMENT_DATA_TYPE_UINT8)
        throw std::runtime_error(arguments.model + " does not take pixels. Export it with --input uint8.");
    if (!metadata) throw std::runtime_error(arguments.model + " carries no labels. Export it with cifar-export.");
    const auto labels = cifar::parse_labels(metadata.get());

    const auto memory = Ort::MemoryInfo::CreateCpu(OrtArenaAllocator, OrtMemTypeDefault);
    // -1 is any batch; a file made for one size gets that: the picture, then black ones
    const std::int64_t batch = std::max<std::int64_t>(input.GetShape().at(0), 1);
    const std::array<std::int64_t, 4> shape{batch, cifar::side, cifar::side, 3};
    const std::array inputs{input_name.get()};
    const std::array outputs{output_name.get()};
    double time = 0;
    for (const std::string& picture : arguments.pictures) {
        auto pixels = cifar::read_ppm(picture);
        pixels.resize(static_cast<std::size_t>(batch) * cifar::pixel_bytes);
        const auto image = Ort::Value::CreateTensor<std::uint8_t>(memory, pixels.data(), pixels.size(), shape.data(), 4);
        std::vector<Ort::Value> results;
        time = cifar::median_ms(arguments.repeat, [&] {
            results = session.Run(Ort::RunOptions{nullptr}, inputs.data(), &image, 1, outputs.data(), 1);
        });
        const auto count = results[0].GetTensorTypeAndShapeInfo().GetElementCount() / static_cast<std::size_t>(batch);
        cifar::print_top(picture, {results[0].GetTensorData<float>(), count}, labels);
    }
    std::fprintf(stderr, "ONNX Runtime %s, %s: %.3f ms a picture\n", Ort::GetVersionString().c_str(),
                 arguments.cuda ? "CUDAExecutionProvider" : "CPUExecutionProvider", time);
}

}  // namespace

int main(int argc, char* argv[]) {
    without_telemetry();
    try {
        classify(cifar::parse({argv + 1, argv + argc}));
        return 0;
    } catch (const cifar::Usage& error) {
        std::fprintf(stderr, "error: %s\n", error.what());
        return 2;
    } catch (const Ort::Exception& error) {
        std::fprintf(stderr, "error: %s\n", cause(error.what()).c_str());
    } catch (const std::exception& error) {
        std::fprintf(stderr, "error: %s\n", error.what());
    }
    return 1;
}
