# docker build --target cpu -t mtla_espnet .         # or --target cuda
# docker run --rm -it mtla_espnet                    # make demo
# docker run --rm -it mtla_espnet make test
# docker run --rm -it --gpus all mtla_espnet         # of the stage cuda
FROM python:3.12-slim-bookworm AS base
RUN apt-get update \
    && apt-get install -y --no-install-recommends g++ git make \
    && rm -rf /var/lib/apt/lists/*
WORKDIR /mtla_espnet
ENV PIP_NO_CACHE_DIR=1
COPY . .
CMD ["make", "demo"]

# PyTorch without CUDA: a third of the size.
FROM base AS cpu
ENV PIP_EXTRA_INDEX_URL=https://download.pytorch.org/whl/cpu
RUN make test-env

# PyTorch's wheel brings CUDA; the machine needs NVIDIA's driver and container toolkit.
FROM base AS cuda
RUN make test-env
