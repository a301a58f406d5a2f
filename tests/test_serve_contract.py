"""The server keeps to its own OpenAPI page, whatever Schemathesis sends it."""

from __future__ import annotations

from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, settings

from headstart.deploy.serve.app import create_app
from headstart.deploy.serve.settings import Settings
from tests import serving


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Any:
    folder = tmp_path_factory.mktemp("models")
    models = {"probe": serving.model(serving.backbone("bert", folder))}
    app = create_app(models, Settings(allowed=(folder,)))
    yield schemathesis.openapi.from_asgi("/openapi.json", app)
    app.state.engine.close()


schema = schemathesis.pytest.from_fixture("page")


@schema.parametrize()
@settings(max_examples=15, deadline=None, derandomize=True, database=None, suppress_health_check=list(HealthCheck))
def test_the_server_keeps_to_its_page(case: Any) -> None:
    case.call_and_validate()
