# The demo in a container, from the same requirements as everywhere else. See docs/deploy.md.
FROM python:3.12-slim

# Where pip finds builds of PyTorch without CUDA; empty = PyTorch as the package index has it.
ARG PIP_EXTRA_INDEX_URL=""

RUN useradd --create-home --uid 1000 user
USER user
WORKDIR /home/user/app
ENV PATH=/home/user/.local/bin:$PATH
ENV JUDGEQ_CACHE=/home/user/.cache/judgeq
ENV GRADIO_SERVER_NAME=0.0.0.0
ENV GRADIO_SERVER_PORT=7860

COPY --chown=user requirements.txt ./
RUN pip install --no-cache-dir -r requirements.txt

COPY --chown=user app.py LICENSE ./
COPY --chown=user app ./app
COPY --chown=user judgeq ./judgeq
COPY --chown=user assets/samples ./assets/samples
COPY --chown=user assets/soft_tokens ./assets/soft_tokens
# The embedded model becomes part of the image, so that a start needs no network.
RUN python -c "import judgeq; judgeq.load('smollm2-135m')"

EXPOSE 7860
CMD ["python", "app.py"]
