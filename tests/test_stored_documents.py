"""Workers that share a folder of compressed documents: each answers any request, as the library would."""

from __future__ import annotations

from pathlib import Path

import gradio as gr
import pytest
import torch
from fastapi import FastAPI
from fastapi.testclient import TestClient

import judgeq
from app.documents import StoredDocuments
from app.endpoints import Endpoints
from app.server.host import ModelHost
from app.ui import build
from judgeq.models.language_model import LanguageModel
from judgeq.soft_tokens.soft_tokens import SoftTokens
from tests.fixtures import TEXT

ROOT = Path(__file__).resolve().parents[1]
QUESTION = "How tall is the lighthouse?"


@pytest.fixture
def workers(lm: LanguageModel, tmp_path: Path) -> list[TestClient]:
    soft = SoftTokens.initialise(lm, torch.arange(10, 18))
    judgeq.Document(lm, TEXT * 3).compress(method="judgeq", budget=24, tokens=soft).save(tmp_path / "harbour")
    hosts = [ModelHost(load=lambda *_, **__: lm) for _ in range(2)]
    hosts[0].load_here()
    hosts[1].load_here()
    apps = [FastAPI(routes=StoredDocuments(host, tmp_path).routes) for host in hosts]
    return [TestClient(app) for app in apps]


def test_every_worker_answers_as_the_library_does(workers: list[TestClient], lm: LanguageModel, tmp_path: Path) -> None:
    document = judgeq.CompressedDocument.load(lm, tmp_path / "harbour")
    expected = document.ask(QUESTION, decoding=judgeq.Decoding(max_new_tokens=8))
    for worker in workers:
        assert worker.get("/documents").json()["documents"] == ["harbour"]
        answer = worker.post("/documents/harbour", json={"question": QUESTION, "max_new_tokens": 8}).json()
        assert answer["answer"] == expected.text
        assert answer["kept_rows"] == expected.kept_rows


def test_a_document_that_is_written_later_is_there_at_once(
    workers: list[TestClient], lm: LanguageModel, tmp_path: Path
) -> None:
    judgeq.Document(lm, TEXT * 2).compress(method="snapkv", budget=24).save(tmp_path / "town")
    assert workers[1].post("/documents/town", json={"question": QUESTION}).status_code == 200


@pytest.mark.parametrize(
    ("name", "body", "status", "said"),
    [
        ("nothing", {"question": "?"}, 400, "GET /documents and list_documents list them"),
        ("..", {"question": "?"}, 404, ""),
        ("%2e%2e%2fharbour", {"question": "?"}, 404, ""),
        ("harbour", {"question": " "}, 400, "question is empty"),
        ("harbour", {"question": "?" * 100_000}, 400, "characters"),
        ("harbour", {"question": "?", "max_new_tokens": 10**9}, 400, "max_new_tokens"),
        ("harbour", {"question": ["?"]}, 422, ""),
    ],
)
def test_what_cannot_be_answered_is_said(
    workers: list[TestClient], name: str, body: dict[str, object], status: int, said: str
) -> None:
    refused = workers[0].post(f"/documents/{name}", json=body)
    assert refused.status_code == status
    assert said in str(refused.json())
    if status == 400:
        assert refused.json()["code"].startswith("JQ-")


def test_the_endpoints_of_the_page_ask_the_same_folder(
    workers: list[TestClient], lm: LanguageModel, tmp_path: Path
) -> None:
    host = ModelHost(load=lambda *_, **__: lm)
    host.load_here()
    stored = StoredDocuments(host, tmp_path)
    endpoints = Endpoints(host, stored)
    assert endpoints.list_documents() == ["harbour"]
    body = {"question": QUESTION, "max_new_tokens": 8}
    expected = workers[0].post("/documents/harbour", json=body).json()
    assert endpoints.ask_document("harbour", QUESTION, "8")["answer"] == expected["answer"]
    with pytest.raises(gr.Error, match=r"list them \[JQ-app-documents-storeddocuments-answer\]"):
        endpoints.ask_document("nothing", QUESTION)
    found = build(host, documents=stored).get_api_info()["named_endpoints"]
    assert {"/list_documents", "/ask_document"} <= set(found)


def test_the_page_shows_the_configuration_that_was_tried() -> None:
    page = (ROOT / "docs" / "serving.md").read_text(encoding="utf-8")
    assert (ROOT / "scripts" / "haproxy.cfg").read_text(encoding="utf-8") in page


def test_a_worker_without_its_model_yet_is_not_ready(tmp_path: Path) -> None:
    app = FastAPI(routes=StoredDocuments(ModelHost(), tmp_path).routes)
    assert TestClient(app).get("/documents").status_code == 503
