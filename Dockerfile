# The gateway as a container: no root, no write but to /data, one process.
FROM python:3.13-slim AS build
# uv by pip, so that the image comes from one registry alone
RUN pip install --no-cache-dir --target /opt/uv uv==0.9.7
ENV PATH=/opt/uv/bin:$PATH PYTHONPATH=/opt/uv UV_COMPILE_BYTECODE=1 UV_LINK_MODE=copy UV_PYTHON_DOWNLOADS=never
WORKDIR /src
COPY pyproject.toml uv.lock README.md ./
RUN uv sync --frozen --no-dev --no-install-project
COPY gateway ./gateway
COPY config ./config
RUN uv sync --frozen --no-dev --no-editable

FROM python:3.13-slim
COPY --from=build /src/.venv /src/.venv
ENV PATH=/src/.venv/bin:$PATH PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1
RUN install -d -o 65532 -g 65532 /data
WORKDIR /data
VOLUME /data
USER 65532:65532
EXPOSE 8080
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=10s --timeout=3s --start-period=10s \
    CMD ["python", "-c", "import os, urllib.request as r; r.urlopen(f'http://127.0.0.1:{os.environ.get(\"GATEWAY_PORT\") or 8080}/healthz', timeout=2)"]
ENTRYPOINT ["gateway"]
CMD ["run"]
