# The command for NVIDIA GPUs, through the NVIDIA Container Toolkit; the wheels bring CUDA and cuDNN, the host its driver.
# From the folder with setup.cfg:
#
#     docker build --file docker/cuda.Dockerfile --tag cifar-export:cuda .
#     docker run --rm --gpus all --volume "$PWD:/work" cifar-export:cuda parity resnet20 --runtime onnxruntime-cuda
FROM python:3.12-slim-bookworm

ENV NVIDIA_VISIBLE_DEVICES=all NVIDIA_DRIVER_CAPABILITIES=compute,utility
SHELL ["/bin/bash", "-euo", "pipefail", "-c"]
COPY . /source
RUN pip install --no-cache-dir '/source[cuda,openvino,opencv,tract,sign]' \
    && rm -rf /source \
    && useradd --create-home --uid 1000 user
USER 1000
WORKDIR /work
ENTRYPOINT ["cifar-export"]
CMD ["--help"]
