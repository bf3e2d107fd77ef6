# One image for web, worker, beat and flower: the compose file says which line of the Procfile it runs.
FROM python:3.11-slim-bookworm AS build
WORKDIR /build
COPY scripts/uv.txt requirements.txt ./
RUN python -m venv /venv \
    && pip install --no-cache-dir --require-hashes -r uv.txt \
    && uv pip install --no-cache --python /venv/bin/python --require-hashes -r requirements.txt

FROM python:3.11-slim-bookworm
# git: the pipeline's local agents work on repositories; its version is the distribution's to choose
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install -y --no-install-recommends git \
    && rm -rf /var/lib/apt/lists/* \
    && useradd --create-home --uid 10001 omakase \
    && install -d -o omakase -g omakase /app /state
COPY --from=build /venv /venv
WORKDIR /app
COPY Procfile ./
COPY chat ./chat
COPY web ./web
COPY workers ./workers
COPY agent_hooks ./agent_hooks
COPY demo ./demo
COPY scripts/build_pyz.py ./scripts/
RUN python scripts/build_pyz.py
ENV PATH=/venv/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    HOST=0.0.0.0 \
    STATE_DIR=/state
USER 10001
VOLUME /state
EXPOSE 8000
STOPSIGNAL SIGTERM
CMD ["sh", "-c", "exec gunicorn -c web/gunicorn.conf.py \"web:create_app()\""]
