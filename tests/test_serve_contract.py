"""The server keeps to its own OpenAPI page, whatever Schemathesis sends it."""

from __future__ import annotations

from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings
from schemathesis.specs.openapi.checks import positive_data_acceptance

from headstart.deploy.serve.app import create_app
from headstart.deploy.serve.settings import Settings
from tests import serving

OPERATIONS = {
    "POST /models/{name}/predict", "POST /predict", "GET /models", "PUT /models/{name}", "GET /healthz", "GET /readyz",
    "GET /metrics", "POST /v1/audio/transcriptions",
    "POST /models/{name}/forecast", "POST /forecast", "POST /v1/chat/completions", "GET /v1/models",
}  # fmt: skip


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Any:
    folder = tmp_path_factory.mktemp("models")
    models = {"probe": serving.model(serving.backbone("bert", folder))}
    app = create_app(models, Settings(allowed=(folder,)))
    return schemathesis.openapi.from_asgi("/openapi.json", app)


@pytest.mark.parametrize("label", sorted(OPERATIONS))
def test_the_server_keeps_to_its_page(page: Any, label: str) -> None:
    operations = {found.ok().label: found.ok() for found in page.get_all_operations()}
    assert set(operations) == OPERATIONS

    @settings(max_examples=15, deadline=None, derandomize=True, database=None, suppress_health_check=list(HealthCheck))
    @given(case=operations[label].as_strategy())
    def check(case: Any) -> None:
        case.call_and_validate(excluded_checks=[positive_data_acceptance])  # no schema says what is a picture

    check()
