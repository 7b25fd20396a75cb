"""The OpenAPI document is valid, complete and says what the API does."""

import json

import pytest
from django.core.management import call_command
from django.urls import get_resolver

from llmcompare.runs.models import RunMetric

OPERATIONS = {
    "log_in",
    "log_out",
    "get_available_models",
    "get_model",
    "upload_model",
    "get_folders",
    "use_folder_model",
    "add_hub_model",
    "get_hardware_configurations",
    "get_hardware",
    "get_hosts",
    "get_host_ceilings",
    "measure_host_ceilings",
    "get_endpoints",
    "add_endpoint",
    "get_endpoint",
    "change_endpoint",
    "delete_endpoint",
    "probe_endpoint",
    "run_analysis",
    "get_runs",
    "get_run",
    "get_run_document",
    "get_run_artifact",
    "list_run_artifacts",
    "cancel_run",
    "get_history",
    "get_series",
    "add_run_tags",
    "remove_run_tags",
    "delete_run",
    "export_run_csv",
    "export_run_json",
    "run_inference",
    "compare_runs",
    "explore",
    "make_closed_forms",
    "get_cloud_connections",
    "create_cloud_connection",
    "read_cloud_connection",
    "get_cloud_machines",
    "get_cloud_operations",
    "get_cloud_deployments",
    "deploy_to_cloud",
    "get_cloud_deployment",
    "extend_cloud_deployment",
    "undeploy_from_cloud",
}


@pytest.fixture(scope="module")
def schema(tmp_path_factory):
    target = tmp_path_factory.mktemp("schema") / "schema.json"
    call_command("spectacular", "--validate", "--fail-on-warn", "--format", "openapi-json", "--file", str(target))
    return json.loads(target.read_text())


def operations(schema):
    return [op for methods in schema["paths"].values() for name, op in methods.items() if name != "parameters"]


def test_every_operation_has_its_name_and_a_summary(schema):
    assert {op["operationId"] for op in operations(schema)} == OPERATIONS
    assert all(op["summary"] for op in operations(schema))


def test_every_error_has_the_same_shape(schema):
    for op in operations(schema):
        for status, response in op["responses"].items():
            if int(status) >= 400:
                reference = response["content"]["application/json"]["schema"]["$ref"]
                assert reference.endswith("/Error"), (op["operationId"], status)


def test_every_address_of_the_api_is_documented(schema):
    resolver = next(p for p in get_resolver().url_patterns if getattr(p, "app_name", "") == "api")
    names = {p.name for p in resolver.url_patterns} - {"schema", "docs"}
    assert len(schema["paths"]) == len(names)


def test_the_list_of_runs_documents_its_filters(schema):
    names = {p["name"] for p in schema["paths"]["/api/v1/runs/"]["get"]["parameters"]}
    assert {"state", "kind", "page", "page_size", "export"} <= names


def test_every_origin_of_a_figure_is_documented(schema):
    known = [origin for origin, _ in RunMetric._meta.get_field("origin").choices]
    described = schema["components"]["schemas"]["Metric"]["properties"]["origin"]["description"]
    assert known == ["estimated", "measured", "reported"]
    assert all(origin in described for origin in known)


def test_the_document_is_served(client, db):
    answer = client.get("/api/v1/schema/")
    assert answer.status_code == 200
    assert answer.json()["openapi"].startswith("3.")
