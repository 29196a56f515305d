# The command for a machine without a GPU. From the folder with setup.cfg:
#
#     docker build --file docker/cpu.Dockerfile --tag cifar-export .
#     docker run --rm --volume "$PWD:/work" cifar-export onnx resnet20 --dataset cifar100
FROM python:3.12-slim-bookworm

# PyTorch's wheels without CUDA; elsewhere the index that has them
ARG TORCH_INDEX=https://download.pytorch.org/whl/cpu

SHELL ["/bin/bash", "-euo", "pipefail", "-c"]
# hadolint ignore=DL3013  # setup.cfg says which versions will do
RUN pip install --no-cache-dir --index-url "$TORCH_INDEX" torch torchvision
COPY . /source
RUN pip install --no-cache-dir '/source[openvino,opencv,tract,sign]' \
    && rm -rf /source \
    && useradd --create-home --uid 1000 user
USER 1000
WORKDIR /work
ENTRYPOINT ["cifar-export"]
CMD ["--help"]
